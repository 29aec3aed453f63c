-- How many flights leave on each day around the change to summer time, counted by New York's days?
--
-- A day there begins at 00:00 on its own clock, which is 05:00 UTC in winter and 04:00 in summer, and the 10th of March has
-- 23 hours. date_bin counts days of UTC, which begin in the evening before.
SELECT
    date_bin_wallclock(INTERVAL '1 day', time AT TIME ZONE 'America/New_York') AS day,
    count(*) AS departures,
    count(*) FILTER (WHERE dep_delay_min IS NULL) AS cancelled
FROM flights
WHERE time >= '2013-03-08T05:00:00Z' AND time < '2013-03-13T04:00:00Z'
GROUP BY day
ORDER BY day;
