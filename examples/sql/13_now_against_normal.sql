-- On which days was the demand for taxis unlike what it usually is?
--
-- Each half hour is compared with the same hour of the same weekday, in up to eight weeks before it. A robust z-score beyond
-- 3.5 is unusual. The series is moved by 57 weeks: Thanksgiving is on the 24th of October, Christmas on the 21st of November,
-- New Year on the 28th, and a blizzard on the 24th of December.
WITH scored AS (
    SELECT
        time,
        passengers,
        baseline(passengers, time) OVER (PARTITION BY city ORDER BY time) AS normal,
        mad_zscore(passengers, time) OVER (PARTITION BY city ORDER BY time) AS z
    FROM taxi_demand
)
SELECT
    date_bin(INTERVAL '1 day', time) AS day,
    count(*) FILTER (WHERE abs(z) > 3.5) AS unusual_half_hours,
    round(100.0 * sum(passengers) / sum(normal) - 100, 1) AS off_normal_pct
FROM scored
GROUP BY day
HAVING count(*) FILTER (WHERE abs(z) > 3.5) >= 16
ORDER BY unusual_half_hours DESC, day
LIMIT 10;
