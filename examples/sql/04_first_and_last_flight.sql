-- Which flight is the first of the day at each airport and which the last, on the busiest day of the year?
--
-- last skips rows without a value: last_time tells of which row the value is.
SELECT
    origin,
    first(carrier || flight, time) AS first_flight,
    first_time(flight, time) AT TIME ZONE 'America/New_York' AS leaves,
    last(carrier || flight, time) AS last_flight,
    last_time(flight, time) AT TIME ZONE 'America/New_York' AS left_at
FROM flights
WHERE time >= '2013-11-27T05:00:00Z' AND time < '2013-11-28T05:00:00Z'
GROUP BY origin
ORDER BY origin;
