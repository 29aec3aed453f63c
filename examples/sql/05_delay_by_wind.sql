-- Do planes leave later when the wind is strong?
--
-- To each flight belongs the last weather of its airport that was known at its departure, unless that is over three hours
-- old: an ASOF join with a tolerance. Flights without such weather are kept, and are the last row.
SELECT
    CAST(floor(w.wind_mph / 10) * 10 AS BIGINT) AS wind_from_mph,
    count(*) AS flights,
    round(avg(f.dep_delay_min), 1) AS mean_delay_min,
    round(100.0 * count(*) FILTER (WHERE f.dep_delay_min IS NULL) / count(*), 1) AS cancelled_pct
FROM flights AS f
    ASOF JOIN weather AS w MATCH_CONDITION (f.time >= w.time)
    ON f.origin = w.airport AND f.time - w.time <= INTERVAL '3 hours'
GROUP BY wind_from_mph
ORDER BY wind_from_mph;
