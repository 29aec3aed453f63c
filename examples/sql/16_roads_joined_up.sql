-- Two tables, one road: how does speed fall as the road at detector 6005 fills?
--
-- Speed and occupancy come from different tables at different times. Each speed gets the occupancy nearest before it, at
-- most five minutes old. All tables of a statement show one moment.
SELECT
    CAST(floor(o.occupancy_pct / 5) * 5 AS BIGINT) AS occupied_from_pct,
    count(*) AS measurements,
    round(avg(s.speed_mph), 1) AS mean_mph,
    min(s.speed_mph) AS slowest_mph
FROM road_speed AS s
    ASOF JOIN road_occupancy AS o MATCH_CONDITION (s.time >= o.time)
    ON s.detector = o.detector AND s.time - o.time <= INTERVAL '5 minutes'
WHERE o.occupancy_pct IS NOT NULL
GROUP BY occupied_from_pct
ORDER BY occupied_from_pct;
