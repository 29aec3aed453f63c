-- How many taxi passengers are to be expected in the next six hours, and within which bounds?
--
-- Additive Holt-Winters over half hours, with a season of a week. 95 percent of what comes is within the bounds, if the
-- series goes on as it was.
SELECT
    forecast['time'] AS time,
    round(forecast['value'], -2) AS passengers,
    round(forecast['low'], -2) AS low,
    round(forecast['high'], -2) AS high
FROM (
    SELECT unnest(holt_winters(passengers, time, INTERVAL '30 minutes', 336, 12)) AS forecast
    FROM taxi_demand
    WHERE time < '2013-10-01T00:00:00Z'
)
ORDER BY time;
