-- A turnstile counts taxi passengers up and begins anew at each midnight. How many were there on each day of a week, and
-- how many a second in its last half hour?
--
-- increase adds over resets, and is not extrapolated, so counts stay whole: each day's is what was counted after its first
-- reading. rate is per second, irate between the last two readings.
WITH turnstile AS (
    SELECT
        time,
        sum(passengers) OVER (PARTITION BY date_trunc('day', time) ORDER BY time) AS reading
    FROM taxi_demand
    WHERE time >= '2013-11-04T00:00:00Z' AND time < '2013-11-11T00:00:00Z'
)
SELECT
    date_bin(INTERVAL '1 day', time) AS day,
    increase(reading, time) AS passengers,
    round(rate(reading, time), 3) AS per_second,
    round(irate(reading, time), 3) AS per_second_at_last
FROM turnstile
GROUP BY day
ORDER BY day;
