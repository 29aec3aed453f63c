-- Detector 6005 was silent now and then. Which half hours of a night had no measurement, and what may
-- the speed have been?
--
-- Every half hour between the bounds of WHERE has a row. locf holds the last speed, for one hour at most; interpolate draws
-- a line to the next.
SELECT
    date_bin_gapfill(INTERVAL '30 minutes', time) AS half_hour,
    count(*) AS measurements,
    round(avg(speed_mph), 1) AS mph,
    round(locf(avg(speed_mph), INTERVAL '1 hour'), 1) AS held,
    round(interpolate(avg(speed_mph)), 1) AS between
FROM road_speed
WHERE detector = '6005' AND time >= '2013-12-19T01:30:00Z' AND time < '2013-12-19T09:00:00Z'
GROUP BY half_hour
ORDER BY half_hour;
