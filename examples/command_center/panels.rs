//! What the room asks: five questions in SQL, across the feeds of all agencies, about the replay's present.
//!
//! The replay has its own present, so the statements get it as `{now}`. In a service it would be `now()`.

use denyut::arrow::util::display::{ArrayFormatter, FormatOptions};
use denyut::prelude::*;

use crate::Outcome;

/// The answer to one question, as text.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) columns: Vec<Column>,
    /// How many rows there are.
    pub(crate) rows: usize,
}

/// One column of a panel.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) is_number: bool,
    pub(crate) cells: Vec<String>,
}

/// What is happening now: the latest of every feed that was heard in the last seven days.
const NOW: &str = "
    SELECT agency, 'speed ' || detector AS feed, max(time) AS heard,
           concat(last_value(speed_mph ORDER BY time), ' mph') AS latest
    FROM road_speed WHERE time > {now} - INTERVAL '7 days' AND time <= {now} GROUP BY agency, detector
  UNION ALL
    SELECT agency, 'occupancy ' || detector, max(time), concat(last_value(occupancy_pct ORDER BY time), ' %')
    FROM road_occupancy WHERE time > {now} - INTERVAL '7 days' AND time <= {now} GROUP BY agency, detector
  UNION ALL
    SELECT agency, 'stretch ' || stretch, max(time), concat(last_value(travel_s ORDER BY time), ' s')
    FROM travel_time WHERE time > {now} - INTERVAL '7 days' AND time <= {now} GROUP BY agency, stretch
  UNION ALL
    SELECT agency, 'taxis ' || city, max(time), concat(last_value(passengers ORDER BY time), ' persons in 30 min')
    FROM taxi_demand WHERE time > {now} - INTERVAL '7 days' AND time <= {now} GROUP BY agency, city
  UNION ALL
    SELECT agency, 'weather ' || airport, max(time),
           concat(CAST(round(last_value(temp_f ORDER BY time)) AS BIGINT), ' °F, wind ',
                  CAST(round(last_value(wind_mph ORDER BY time)) AS BIGINT), ' mph, sight ',
                  last_value(visibility_mi ORDER BY time), ' mi')
    FROM weather WHERE time > {now} - INTERVAL '7 days' AND time <= {now} GROUP BY agency, airport
  UNION ALL
    SELECT agency, 'flights ' || origin, max(time),
           concat(count(*), ' in 24 h, mean delay ', round(avg(dep_delay_min), 1), ' min')
    FROM flights WHERE time > {now} - INTERVAL '24 hours' AND time <= {now} GROUP BY agency, origin
  ORDER BY agency, feed";

/// The hour that ends now against the same hour a week ago.
const LAST_WEEK: &str = "
    SELECT feed, unit,
           round(avg(value) FILTER (WHERE time > {now} - INTERVAL '1 hour'), 1) AS this_hour,
           round(avg(value) FILTER (WHERE time <= {now} - INTERVAL '7 days'), 1) AS week_ago,
           round(avg(value) FILTER (WHERE time > {now} - INTERVAL '1 hour')
               - avg(value) FILTER (WHERE time <= {now} - INTERVAL '7 days'), 1) AS change
    FROM (
        SELECT time, 'road speed' AS feed, 'mph' AS unit, CAST(speed_mph AS DOUBLE) AS value FROM road_speed
      UNION ALL
        SELECT time, 'road occupancy', '%', occupancy_pct FROM road_occupancy
      UNION ALL
        SELECT time, 'travel time', 's', CAST(travel_s AS DOUBLE) FROM travel_time
      UNION ALL
        SELECT time, 'taxi demand', 'persons', CAST(passengers AS DOUBLE) FROM taxi_demand
      UNION ALL
        SELECT time, 'temperature', '°F', temp_f FROM weather
      UNION ALL
        SELECT time, 'wind', 'mph', wind_mph FROM weather
      UNION ALL
        SELECT time, 'departure delay', 'min', CAST(dep_delay_min AS DOUBLE) FROM flights
    )
    WHERE time > {now} - INTERVAL '7 days 1 hour' AND time <= {now}
      AND (time > {now} - INTERVAL '1 hour' OR time <= {now} - INTERVAL '7 days')
    GROUP BY feed, unit ORDER BY feed";

/// The five routes that are late most, over the last day.
const WORST: &str = "
    SELECT carrier, origin || ' - ' || dest AS route, count(*) AS flights,
           count(*) - count(dep_delay_min) AS not_flown,
           round(avg(dep_delay_min), 1) AS delay_min, max(dep_delay_min) AS worst_min
    FROM flights WHERE time > {now} - INTERVAL '24 hours' AND time <= {now}
    GROUP BY carrier, origin, dest HAVING count(dep_delay_min) >= 2
    ORDER BY avg(dep_delay_min) DESC, route, carrier LIMIT 5";

/// Series that have been quiet for three times the cadence that their table declares.
const SILENT: &str = "
    SELECT feed, count(*) AS series, count(*) FILTER (WHERE quiet > 3 * cadence) AS silent,
           CASE WHEN max(quiet) > 3 * max(cadence) THEN first_value(name ORDER BY quiet DESC, name) END AS longest,
           CASE WHEN max(quiet) > 3 * max(cadence) THEN round(max(quiet) / 3600.0, 1) END AS quiet_h
    FROM (
        SELECT feed, name, cadence, (CAST({now} AS BIGINT) - CAST(max(time) AS BIGINT)) / 1000000000 AS quiet FROM (
            {series}
        ) GROUP BY feed, name, cadence
    ) GROUP BY feed ORDER BY feed";

/// What one table gives to [`SILENT`]; its cadence and tags are asked of the store.
const SERIES: &str = "SELECT '{table}' AS feed, concat({tags}) AS name, CAST({cadence} AS BIGINT) AS cadence, time
            FROM {table} WHERE time > {now} - INTERVAL '30 days' AND time <= {now}";

/// One question across agencies: what weather does to departures, over the last thirty days.
const ACROSS: &str = "
    SELECT CASE WHEN visibility_mi < 2 THEN 'sight under 2 mi'
                WHEN precip_in > 0 THEN 'rain or snow'
                WHEN wind_mph >= 20 THEN 'wind of 20 mph or more'
                ELSE 'fair' END AS weather,
           count(*) AS flights,
           round(avg(dep_delay_min), 1) AS delay_min,
           round(100.0 * count(*) FILTER (WHERE dep_delay_min > 30) / count(*), 1) AS late_pct,
           round(100.0 * (count(*) - count(dep_delay_min)) / count(*), 1) AS not_flown_pct
    FROM flights JOIN weather ON weather.airport = flights.origin AND weather.time = date_trunc('hour', flights.time)
    WHERE flights.time > {now} - INTERVAL '30 days' AND flights.time <= {now}
      AND weather.time > {now} - INTERVAL '31 days' AND weather.time <= {now}
    GROUP BY 1 ORDER BY avg(dep_delay_min) DESC";

/// Asks all five.
pub(crate) fn ask(store: &Store, now: Time) -> Outcome<Vec<Panel>> {
    let silent = SILENT.replace("{series}", &series_of_all_tables(store));
    let questions = [
        ("Happening now", NOW),
        ("This hour and the same hour last week", LAST_WEEK),
        ("Worst five routes of 24 hours", WORST),
        ("Silent feeds: heard in 30 days, quiet for 3 cadences", &silent),
        ("Across agencies: departures by weather, 30 days (late: over 30 min)", ACROSS),
    ];
    let literal = format!("TIMESTAMP '{now}'");
    questions.into_iter().map(|(title, sql)| panel(title, &store.query(&sql.replace("{now}", &literal))?)).collect()
}

fn series_of_all_tables(store: &Store) -> String {
    let each = store.tables().into_iter().filter_map(|table| {
        let cadence = table.policies().cadence?;
        let tags = table.tags().iter().filter(|tag| *tag != "agency").cloned().collect::<Vec<_>>();
        let sql = SERIES.replace("{table}", table.name()).replace("{tags}", &tags.join(", ' ', "));
        Some(sql.replace("{cadence}", &cadence.as_secs().to_string()))
    });
    each.collect::<Vec<_>>().join("\n          UNION ALL\n            ")
}

fn panel(title: &str, rows: &Rows) -> Outcome<Panel> {
    let format = FormatOptions::new().with_null("-").with_timestamp_tz_format(Some("%d %b %H:%M"));
    let mut columns: Vec<Column> = (rows.schema().fields().iter())
        .map(|field| Column {
            name: field.name().replace('_', " "),
            is_number: field.data_type().is_numeric(),
            cells: Vec::new(),
        })
        .collect();
    for batch in rows.batches() {
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            let cells = ArrayFormatter::try_new(array, &format)?;
            for row in 0..batch.num_rows() {
                column.cells.push(cells.value(row).try_to_string()?);
            }
        }
    }
    Ok(Panel { title: title.into(), columns, rows: rows.num_rows() })
}
