-- Which delay do nine in ten flights of a carrier stay below, in the year, from sketches of the months?
--
-- Twelve sketches of some KB each are kept instead of the flights, and merged. What they say is within two percent of all
-- ranks of the exact percentile, which here is within three minutes.
WITH months AS (
    SELECT
        carrier,
        date_bin_wallclock(INTERVAL '1 month', time AT TIME ZONE 'America/New_York') AS month,
        count(arr_delay_min) AS flights,
        percentile_sketch(arr_delay_min) AS delays
    FROM flights
    GROUP BY carrier, month
),
exact AS (
    SELECT carrier, percentile_cont(0.9) WITHIN GROUP (ORDER BY CAST(arr_delay_min AS DOUBLE)) AS p90
    FROM flights
    GROUP BY carrier
)
SELECT
    carrier,
    sum(flights) AS flights,
    round(max(p90)) AS p90_exact,
    abs(sketch_quantile(sketch_merge(delays), 0.9) - max(p90)) <= 3 AS p90_of_sketches_is_near
FROM months JOIN exact USING (carrier)
GROUP BY carrier
ORDER BY flights DESC, carrier
LIMIT 8;
