-- How many different flight numbers does each airport see in a year, from sketches of its carriers?
--
-- Distinct counts do not add up, but their sketches merge. The standard error is 1.6 percent.
WITH carriers AS (
    SELECT origin, carrier, distinct_sketch(carrier || flight) AS numbers
    FROM flights
    GROUP BY origin, carrier
),
exact AS (
    SELECT origin, count(DISTINCT carrier || flight) AS numbers
    FROM flights
    GROUP BY origin
)
SELECT
    carriers.origin,
    sketch_count(sketch_merge(carriers.numbers)) AS of_sketches,
    max(exact.numbers) AS exact
FROM carriers JOIN exact ON carriers.origin = exact.origin
GROUP BY carriers.origin
ORDER BY carriers.origin;
