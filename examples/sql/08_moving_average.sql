-- How does each half hour of a New Year's Day compare with the mean of the hour before it?
--
-- RANGE counts time and not rows: where measurements are missing the window holds fewer of them, and reaches no further.
SELECT
    time,
    passengers,
    round(avg(passengers) OVER (ORDER BY time RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW), 1) AS last_hour
FROM taxi_demand
WHERE time >= '2013-11-28T17:00:00Z' AND time < '2013-11-28T22:00:00Z'
ORDER BY time;
