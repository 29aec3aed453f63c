-- How often did a road become congested on each day, and for how many minutes was it?
--
-- Congested is below 55 mph. A state holds from its measurement to the next one.
SELECT
    detector,
    date_bin(INTERVAL '1 day', time) AS day,
    state_changes(speed_mph < 55, time) AS changes,
    round(state_duration(speed_mph < 55, time, INTERVAL '1 minute')) AS minutes
FROM road_speed
WHERE time >= '2013-12-23T00:00:00Z' AND time < '2013-12-27T00:00:00Z'
GROUP BY detector, day
ORDER BY detector, day;
