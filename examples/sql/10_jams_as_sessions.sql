-- Which were the ten longest jams on stretch 387?
--
-- Slow is over 500 s, where half of all are below 201 s; a jam is over when an hour passes without a slow measurement.
SELECT
    began,
    max(time) AS ended,
    count(*) AS slow_measurements,
    max(travel_s) AS worst_s
FROM (
    SELECT time, travel_s, session_start(time, INTERVAL '1 hour') OVER (ORDER BY time) AS began
    FROM travel_time
    WHERE travel_s > 500
)
GROUP BY began
ORDER BY max(time) - began DESC, began
LIMIT 10;
