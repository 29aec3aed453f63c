//! What the tour in `examples/sql` asks, of random windows: means, maxima, the clock of a place, joins in time,
//! sessions.

use super::World;
use crate::ask::{Ask, Drawn, Span, Sql, Type};
use crate::dialect::{Dialect, nanos};
use crate::random::Random;

/// All eleven.
pub const TYPES: [Type; 11] = [
    Type { name: "real-latest-weather", draw: until, sql: latest_weather },
    Type { name: "real-departures-by-day", draw: month, sql: departures_by_day },
    Type { name: "real-hourly-delay", draw: week, sql: hourly_delay },
    Type { name: "real-top-carriers", draw: month, sql: top_carriers },
    Type { name: "real-monthly-maxima", draw: half_year, sql: monthly_maxima },
    Type { name: "real-delay-by-wind", draw: quarter, sql: delay_by_wind },
    Type { name: "real-p90-delay", draw: quarter, sql: p90_delay },
    Type { name: "real-speed-by-occupancy", draw: road_week, sql: speed_by_occupancy },
    Type { name: "real-longest-jams", draw: road_month, sql: longest_jams },
    Type { name: "real-taxi-days", draw: taxi_quarter, sql: taxi_days },
    Type { name: "real-road-curve", draw: road_days, sql: road_curve },
];

const DAY_S: i64 = 86_400;

fn until(world: World, random: &mut Random) -> Drawn {
    (vec![world.span.moment(random)], vec![])
}

fn week(world: World, random: &mut Random) -> Drawn {
    (world.span.window(7 * DAY_S, random).to_vec(), vec![])
}

fn month(world: World, random: &mut Random) -> Drawn {
    (world.span.window(30 * DAY_S, random).to_vec(), vec![])
}

fn quarter(world: World, random: &mut Random) -> Drawn {
    (world.span.window(91 * DAY_S, random).to_vec(), vec![])
}

fn half_year(world: World, random: &mut Random) -> Drawn {
    (world.span.window(182 * DAY_S, random).to_vec(), vec!["EWR".into(), "JFK".into()])
}

/// The time of the roads' files, which are of 2015.
fn roads() -> Span {
    let at = |text: &str| nanos(text).unwrap_or_default();
    Span { start_ns: at("2015-09-01 00:00:00"), end_ns: at("2015-09-17 16:00:00") }
}

fn road_week(_: World, random: &mut Random) -> Drawn {
    (roads().window(7 * DAY_S, random).to_vec(), vec![])
}

fn road_month(_: World, random: &mut Random) -> Drawn {
    let span = Span { start_ns: nanos("2015-07-11 00:00:00").unwrap_or_default(), ..roads() };
    (span.window(30 * DAY_S, random).to_vec(), vec![])
}

fn road_days(_: World, random: &mut Random) -> Drawn {
    (roads().window(2 * DAY_S, random).to_vec(), vec!["6005".into()])
}

fn taxi_quarter(_: World, random: &mut Random) -> Drawn {
    let at = |text: &str| nanos(text).unwrap_or_default();
    let span = Span { start_ns: at("2014-07-01 00:00:00"), end_ns: at("2015-02-01 00:00:00") };
    (span.window(91 * DAY_S, random).to_vec(), vec![])
}

/// What did each weather station say last? Neither of the two is ever missing.
fn latest_weather(ask: &Ask, dialect: Dialect) -> Sql {
    let newest = |field: &str| format!("{} AS {field}_last", dialect.newest(field));
    Ok(format!(
        "SELECT airport, max(time) AS newest, {}, {} FROM weather WHERE time < {} GROUP BY airport ORDER BY airport",
        newest("precip_in"),
        newest("visibility_mi"),
        ask.moment(dialect, 0)
    ))
}

/// How many flights leave on each of New York's own days, and how many do not?
fn departures_by_day(ask: &Ask, dialect: Dialect) -> Sql {
    const ZONE: &str = "America/New_York";
    let day = match dialect {
        Dialect::Denyut => format!("date_bin_wallclock(INTERVAL '1 day', time AT TIME ZONE '{ZONE}')"),
        Dialect::DataFusion => format!("date_trunc('day', time AT TIME ZONE '{ZONE}')"),
        Dialect::DuckDb | Dialect::DuckDbParquet => {
            let utc = if dialect == Dialect::DuckDb { "time AT TIME ZONE 'UTC'" } else { &dialect.time("time") };
            format!("date_trunc('day', {utc} AT TIME ZONE '{ZONE}') AT TIME ZONE '{ZONE}'")
        }
        Dialect::ChDb => format!("toDateTime(toStartOfDay(time, '{ZONE}'), 'UTC')"),
        Dialect::Sqlite => return Err("has no time zones"),
    };
    Ok(format!(
        "SELECT {day} AS bin, count(*) AS departures, count(*) - count(dep_delay_min) AS cancelled FROM flights \
         WHERE {} GROUP BY bin ORDER BY bin",
        ask.between(dialect, 0, 1)
    ))
}

/// How late do planes leave each airport, by the hour?
fn hourly_delay(ask: &Ask, dialect: Dialect) -> Sql {
    Ok(format!(
        "SELECT {} AS bin, origin, count(*) AS flights_count, avg(dep_delay_min) AS delay_avg FROM flights WHERE {} \
         GROUP BY bin, origin ORDER BY bin, origin",
        dialect.bin(3_600),
        ask.between(dialect, 0, 1)
    ))
}

/// Which five carriers arrive the latest, of those with a hundred arrivals?
fn top_carriers(ask: &Ask, dialect: Dialect) -> Sql {
    Ok(format!(
        "SELECT carrier, count(arr_delay_min) AS arrived, avg(arr_delay_min) AS delay_avg FROM flights WHERE {} \
         GROUP BY carrier HAVING count(arr_delay_min) >= 100 ORDER BY delay_avg DESC, carrier LIMIT 5",
        ask.between(dialect, 0, 1)
    ))
}

/// What were the extremes of each month at two airports?
fn monthly_maxima(ask: &Ask, dialect: Dialect) -> Sql {
    let month = match dialect {
        Dialect::ChDb => "toDateTime(toStartOfMonth(time), 'UTC')",
        Dialect::Sqlite => {
            "CAST(strftime('%s', time / 1000000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000000"
        }
        _ => &format!("date_trunc('month', {})", dialect.time("time")),
    };
    Ok(format!(
        "SELECT {month} AS bin, airport, max(temp_f) AS temp_max, max(gust_mph) AS gust_max, min(pressure_mbar) AS low \
         FROM weather WHERE airport IN ('{}', '{}') AND {} GROUP BY bin, airport ORDER BY bin, airport",
        ask.texts[0],
        ask.texts[1],
        ask.between(dialect, 0, 1)
    ))
}

/// Do planes leave later when the wind is strong? To each flight belongs the newest weather of its airport.
fn delay_by_wind(ask: &Ask, dialect: Dialect) -> Sql {
    let join = dialect.asof("f", "w", &[("origin", "airport")])?;
    Ok(format!(
        "SELECT floor(w.wind_mph / 10) * 10 AS wind_from, count(*) AS flights_count, avg(f.dep_delay_min) AS delay_avg \
         FROM (SELECT time, origin, dep_delay_min FROM flights WHERE {window}) AS f {} \
         (SELECT time, airport, wind_mph FROM weather WHERE {window}) AS w {} GROUP BY wind_from ORDER BY wind_from",
        join.0,
        join.1,
        window = ask.between(dialect, 0, 1)
    ))
}

/// Which delay do nine in ten flights of a carrier stay below? Delays are whole minutes, so what lies between two of
/// them has one decimal; to that it is rounded, since DataFusion interpolates in millionths (117.899999 for 117.9).
fn p90_delay(ask: &Ask, dialect: Dialect) -> Sql {
    let p90 = match dialect {
        Dialect::Denyut | Dialect::DataFusion => {
            "percentile_cont(0.9) WITHIN GROUP (ORDER BY CAST(arr_delay_min AS DOUBLE))"
        }
        Dialect::DuckDb | Dialect::DuckDbParquet => "quantile_cont(arr_delay_min, 0.9)",
        Dialect::ChDb => "quantileExactInclusive(0.9)(arr_delay_min)",
        Dialect::Sqlite => return Err("has no percentiles as it is built"),
    };
    Ok(format!(
        "SELECT carrier, round({p90}, 1) AS p90, count(arr_delay_min) AS arrived FROM flights \
         WHERE {} AND arr_delay_min IS NOT NULL GROUP BY carrier ORDER BY carrier",
        ask.between(dialect, 0, 1)
    ))
}

/// How does speed fall as the road fills? To each speed belongs the newest occupancy of its detector.
fn speed_by_occupancy(ask: &Ask, dialect: Dialect) -> Sql {
    let join = dialect.asof("s", "o", &[("detector", "detector")])?;
    Ok(format!(
        "SELECT floor(o.occupancy_pct / 5) * 5 AS occupied_from, count(*) AS readings, avg(s.speed_mph) AS speed_avg \
         FROM (SELECT time, detector, speed_mph FROM road_speed WHERE {window}) AS s {} \
         (SELECT time, detector, occupancy_pct FROM road_occupancy WHERE {window}) AS o {} \
         GROUP BY occupied_from ORDER BY occupied_from",
        join.0,
        join.1,
        window = ask.between(dialect, 0, 1)
    ))
}

/// Which were the ten longest jams? One is over when an hour passes without a slow measurement.
fn longest_jams(ask: &Ask, dialect: Dialect) -> Sql {
    let slow = format!("FROM travel_time WHERE travel_s > 500 AND {}", ask.between(dialect, 0, 1));
    let sessions = if dialect == Dialect::Denyut {
        format!("SELECT time, travel_s, session_start(time, INTERVAL '1 hour') OVER (ORDER BY time) AS began {slow}")
    } else {
        let apart = match dialect {
            Dialect::Sqlite => "before < time - 3600000000000".to_string(),
            _ => format!("{} < {} - INTERVAL '1 hour'", dialect.time("before"), dialect.time("time")),
        };
        let (before, frame) = (dialect.previous("time"), dialect.previous_frame());
        format!(
            "SELECT time, travel_s, sum(CASE WHEN before IS NULL OR {apart} THEN 1 ELSE 0 END) \
             OVER (ORDER BY time) AS began FROM (SELECT time, travel_s, {before} OVER (ORDER BY time{frame}) AS before \
             {slow}) AS a"
        )
    };
    // Names of the outer columns differ from those of inner ones, which chDB would take them for.
    let length = match dialect {
        Dialect::ChDb => "dateDiff('millisecond', min(time), max(time))",
        _ => &format!("{} - {}", dialect.time("max(time)"), dialect.time("min(time)")),
    };
    Ok(format!(
        "SELECT min(time) AS bin, max(time) AS newest, count(*) AS slow_count, max(travel_s) AS worst \
         FROM ({sessions}) AS b GROUP BY began ORDER BY {length} DESC, min(time) LIMIT 10"
    ))
}

/// How many took a taxi on each day, and in its busiest half hour?
fn taxi_days(ask: &Ask, dialect: Dialect) -> Sql {
    Ok(format!(
        "SELECT {} AS bin, sum(passengers) AS passengers_sum, max(passengers) AS passengers_max FROM taxi_demand \
         WHERE {} GROUP BY bin ORDER BY bin",
        dialect.bin(DAY_S),
        ask.between(dialect, 0, 1)
    ))
}

/// How did speed go at a detector, every half hour, where a gap shows the last one?
fn road_curve(ask: &Ask, dialect: Dialect) -> Sql {
    dialect.curve(ask, "road_speed", "detector", "speed_mph", 1_800)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::asks;

    #[test]
    fn questions_of_a_type_are_one_statement() {
        for of in TYPES {
            let asked = asks(of, super::super::world(), 20);
            let texts: Vec<String> = asked.iter().filter_map(|ask| Some(ask.prepared().ok()?.sql)).collect();
            assert!(texts.len() == 20 && texts.iter().all(|text| *text == texts[0]), "{}", of.name);
        }
    }
}
