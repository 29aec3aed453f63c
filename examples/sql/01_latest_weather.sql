-- What does each weather station say now, and how old is that?
--
-- latest('weather') is the last row of each series. No measurement is scanned for it: EXPLAIN shows what is.
SELECT airport, time, temp_f, wind_mph, TIMESTAMP '2014-01-01T00:00:00Z' - time AS age
FROM latest('weather')
ORDER BY airport;
