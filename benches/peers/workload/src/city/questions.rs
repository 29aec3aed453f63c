//! Ten questions that a command center asks of its city.

use super::{Scale, district, operator, water_station};
use crate::ask::{Ask, Drawn, SECOND, Sql, Type, World};
use crate::dialect::Dialect;
use crate::random::Random;

/// All ten.
pub const TYPES: [Type; 10] = [
    Type { name: "city-buses-now", draw: of_operator, sql: buses_now },
    Type { name: "city-jams", draw: now_and_before, sql: jams },
    Type { name: "city-silent-loops", draw: half_an_hour, sql: silent_loops },
    Type { name: "city-late-lines", draw: four_hours, sql: late_lines },
    Type { name: "city-speed-in-rain", draw: two_hours, sql: speed_in_rain },
    Type { name: "city-air-limit", draw: a_day, sql: air_limit },
    Type { name: "city-water-curve", draw: of_gauge, sql: water_curve },
    Type { name: "city-complaints-top", draw: of_district, sql: complaints_top },
    Type { name: "city-budget-spent", draw: until, sql: budget_spent },
    Type { name: "city-counters-served", draw: four_hours, sql: counters_served },
];

const HOUR_S: i64 = 3_600;
/// The bins of the curve of a gauge.
const CURVE_S: i64 = 300;

fn of_operator(_: World, random: &mut Random) -> Drawn {
    (vec![], vec![operator(random.below(Scale::OPERATORS))])
}

fn now_and_before(world: World, random: &mut Random) -> Drawn {
    let now = world.span.moment(random);
    (vec![now - 3 * HOUR_S * SECOND, now - 900 * SECOND, now], vec![])
}

fn half_an_hour(world: World, random: &mut Random) -> Drawn {
    let now = world.span.moment(random);
    (vec![now - 1_800 * SECOND, now], vec![])
}

fn two_hours(world: World, random: &mut Random) -> Drawn {
    let [from, to] = world.span.window(2 * HOUR_S, random);
    // What fell before the first reading may be told an hour before it.
    (vec![from - HOUR_S * SECOND, from, to], vec![])
}

fn four_hours(world: World, random: &mut Random) -> Drawn {
    (world.span.window(4 * HOUR_S, random).to_vec(), vec![])
}

fn a_day(world: World, random: &mut Random) -> Drawn {
    (world.span.window(24 * HOUR_S, random).to_vec(), vec![])
}

fn of_gauge(world: World, random: &mut Random) -> Drawn {
    let window = world.span.window(12 * HOUR_S, random).to_vec();
    let hours = (world.span.end_ns - world.span.start_ns) / SECOND / HOUR_S;
    (window, vec![water_station(Scale { people: world.people, from_hour: 0, hours }, random)])
}

fn of_district(world: World, random: &mut Random) -> Drawn {
    let scale = Scale { people: world.people, from_hour: 0, hours: 0 };
    (world.span.window(24 * HOUR_S, random).to_vec(), vec![district(random.below(scale.districts()))])
}

fn until(world: World, random: &mut Random) -> Drawn {
    (vec![world.span.moment(random)], vec![])
}

/// Where is each bus of an operator now, how fast, and how late? The newest row of a bus may be of any of its lines.
fn buses_now(ask: &Ask, dialect: Dialect) -> Sql {
    let newest = |field: &str| format!("{} AS {field}_last", dialect.newest(field));
    let values = ["lat", "lon", "speed_kmh", "delay_s"].map(newest).join(", ");
    Ok(format!(
        "SELECT bus, max(time) AS newest, {values} FROM buses WHERE operator = '{}' GROUP BY bus ORDER BY bus",
        ask.texts[0]
    ))
}

/// On which roads did speed fall under 70% in the last quarter of an hour, compared with the three hours before?
fn jams(ask: &Ask, dialect: Dialect) -> Sql {
    let lately = ask.moment(dialect, 1);
    let (now, before) = (
        format!("avg(CASE WHEN time >= {lately} THEN speed_kmh END)"),
        format!("avg(CASE WHEN time < {lately} THEN speed_kmh END)"),
    );
    Ok(format!(
        "SELECT road, {now} AS now_avg, {before} AS before_avg FROM loops WHERE {} GROUP BY road \
         HAVING {now} < 0.7 * {before} ORDER BY road",
        ask.between(dialect, 0, 2)
    ))
}

/// Which loops were silent for the last half hour, and since when?
fn silent_loops(ask: &Ask, dialect: Dialect) -> Sql {
    Ok(format!(
        "SELECT sensor, max(time) AS newest FROM loops WHERE time < {} GROUP BY sensor HAVING max(time) < {} \
         ORDER BY sensor",
        ask.moment(dialect, 1),
        ask.moment(dialect, 0)
    ))
}

/// How late is each line by the hour, and how often by over five minutes?
fn late_lines(ask: &Ask, dialect: Dialect) -> Sql {
    Ok(format!(
        "SELECT {} AS bin, line, count(*) AS positions, avg(delay_s) AS delay_avg, \
         sum(CASE WHEN delay_s > 300 THEN 1 ELSE 0 END) AS late_sum FROM buses WHERE {} \
         GROUP BY bin, line ORDER BY bin, line",
        dialect.bin(HOUR_S),
        ask.between(dialect, 0, 1)
    ))
}

/// How fast is traffic in rain? To each reading of a loop belongs what its district's rain gauge said last.
fn speed_in_rain(ask: &Ask, dialect: Dialect) -> Sql {
    let join = dialect.asof("l", "w", &[("district", "district")])?;
    Ok(format!(
        "SELECT floor(w.rain_mm) AS rain_from, count(*) AS readings, avg(l.speed_kmh) AS speed_avg FROM \
         (SELECT time, district, speed_kmh FROM loops WHERE {}) AS l {} \
         (SELECT time, district, rain_mm FROM water WHERE kind = 'rain' AND {}) AS w {} \
         GROUP BY rain_from ORDER BY rain_from",
        ask.between(dialect, 1, 2),
        join.0,
        ask.between(dialect, 0, 2),
        join.1
    ))
}

/// At which stations was fine dust over 15 µg/m³ on the mean of a day, which is WHO's limit?
fn air_limit(ask: &Ask, dialect: Dialect) -> Sql {
    Ok(format!(
        "SELECT station, avg(pm25) AS pm25_avg, max(pm25) AS pm25_max, count(no2) AS no2_count FROM air WHERE {} \
         GROUP BY station HAVING avg(pm25) > 15 ORDER BY station",
        ask.between(dialect, 0, 1)
    ))
}

/// How did a gauge's level go, every five minutes, where a gap shows the last level?
fn water_curve(ask: &Ask, dialect: Dialect) -> Sql {
    dialect.curve(ask, "water", "station", "level_cm", CURVE_S)
}

/// What do people of a district complain about most, and how long does it take?
fn complaints_top(ask: &Ask, dialect: Dialect) -> Sql {
    Ok(format!(
        "SELECT category, count(*) - count(hours_open) AS opened, count(hours_open) AS closed, \
         avg(hours_open) AS hours_avg FROM complaints WHERE district = '{}' AND {} \
         GROUP BY category ORDER BY opened DESC, category LIMIT 10",
        ask.texts[0],
        ask.between(dialect, 0, 1)
    ))
}

/// What has each agency spent of each fund?
fn budget_spent(ask: &Ask, dialect: Dialect) -> Sql {
    Ok(format!(
        "SELECT agency, fund, sum(amount_cents) AS spent, count(*) AS postings, max(amount_cents) AS largest \
         FROM ledger WHERE time < {} GROUP BY agency, fund ORDER BY agency, fund",
        ask.moment(dialect, 0)
    ))
}

/// How many citizens did each office serve in each hour? Counters begin anew now and then.
fn counters_served(ask: &Ask, dialect: Dialect) -> Sql {
    let (bin, window) = (dialect.bin(HOUR_S), ask.between(dialect, 0, 1));
    let by_counter = if dialect == Dialect::Denyut {
        format!(
            "SELECT {bin} AS bin, office, counter, increase(served, time) AS served_by FROM counters WHERE {window} \
             GROUP BY bin, office, counter"
        )
    } else {
        format!(
            "SELECT bin, office, counter, sum(CASE WHEN previous IS NULL THEN NULL WHEN served >= previous \
             THEN served - previous ELSE served END) AS served_by FROM (SELECT bin, office, counter, served, \
             {} OVER (PARTITION BY counter, bin ORDER BY time{}) AS previous \
             FROM (SELECT {bin} AS bin, office, counter, served, time FROM counters WHERE {window}) AS c) AS d \
             GROUP BY bin, office, counter",
            dialect.previous("served"),
            dialect.previous_frame()
        )
    };
    Ok(format!(
        "SELECT bin, office, sum(served_by) AS served_sum FROM ({by_counter}) AS e GROUP BY bin, office \
         ORDER BY bin, office"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{asks, tests::types_are_sound};

    #[test]
    fn questions_are_sound() {
        let scale = Scale { people: 1_000_000, from_hour: 6, hours: 6 };
        let world = World { span: scale.span(), people: scale.people };
        types_are_sound(&TYPES, world);
        // What a peer cannot be asked is known beforehand.
        for of in TYPES {
            let ask = &asks(of, world, 1)[0];
            let cannot =
                [Dialect::DataFusion, Dialect::Sqlite].into_iter().filter(|one| ask.sql(*one).is_err()).count();
            assert_eq!(cannot, if of.name == "city-speed-in-rain" { 2 } else { 0 }, "{}", of.name);
        }
    }
}
