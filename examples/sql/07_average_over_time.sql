-- What was the mean speed at each detector?
--
-- They send more often when there is traffic, so a plain average weighs slow times more than they lasted. A time-weighted
-- one does not; the two differ by what irregular sampling does.
SELECT
    detector,
    count(*) AS measurements,
    round(avg(speed_mph), 2) AS of_samples,
    round(time_weighted_avg(speed_mph, time, 'locf'), 2) AS of_time_held,
    round(time_weighted_avg(speed_mph, time, 'linear'), 2) AS of_time_linear,
    round(integral(speed_mph, time, 'linear', INTERVAL '1 hour')) AS mph_hours
FROM road_speed
GROUP BY detector
ORDER BY detector;
