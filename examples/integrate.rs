//! A city that is scattered: five agencies, four feeds each, of which two arrive by themselves and two are carried by hand,
//! with keys as each agency spells them. Day by day one more feed is connected, and the scorecard says what that changes.
//!
//! ```text
//! cargo run --release --example integrate [-- DIR]
//! ```
//!
//! Prints the first and the last scorecard, writes `stages.svg` and `shares.svg` into DIR, and ends with a line
//! `ok stage=.. blockers=..`: the city's stage, and what is left that keeps an agency from being integrative.

mod chart;

use std::path::PathBuf;

use denyut::feed::{Arrival, Feed, dimension};
use denyut::prelude::*;

use chart::{Chart, Line};

type Failure = Box<dyn std::error::Error>;

const AGENCIES: [(&str, [&str; 4]); 5] = [
    ("PUPR", ["water_level", "rain", "pump_power", "road_works"]),
    ("DISHUB", ["traffic", "parking", "bus_position", "signal_fault"]),
    ("DLH", ["air_quality", "river_quality", "waste_weight", "noise"]),
    ("BPBD", ["flood_report", "shelter", "siren_test", "fire"]),
    ("DISDUKCAPIL", ["queue", "births", "cards", "moves"]),
];
const ASSETS: [&str; 3] = ["utara", "timur", "barat"];
const HOURS: i64 = 24;
const HOUR_NS: i64 = 3_600_000_000_000;
const STAGES: [&str; 5] = ["ad hoc", "initiative", "scattered", "integrative", "smart"];

/// Every agency writes its contract as TOML. The first two feeds of each arrive by themselves from the first day on.
fn contract(agency: &str, table: &str, arrives: Arrival) -> Result<Feed, denyut::Error> {
    let arrives = if arrives == Arrival::ByItself { "by itself" } else { "by hand" };
    let text = format!(
        r#"
        [[feed]]
        name = "{table}"
        agency = "{agency}"
        owner = "Bidang Data {agency}"
        table = "{table}"
        arrives = "{arrives}"
        audience = "public"
        cadence = "1 h"
        lateness = "1 h"
        tags = ["asset"]
        fields = [{{ name = "value", type = "f64", required = true, min = 0, max = 500 }}]
        keys = {{ asset = "asset" }}
        series_expected = 3
        "#
    );
    let feeds = Feed::from_toml(&text, &format!("{agency}.toml"))?;
    feeds.into_iter().next().ok_or_else(|| denyut::Error::UnknownTable { table: table.into() })
}

/// A feed of the city, and since which day it is connected.
struct Connection {
    agency: &'static str,
    table: &'static str,
    since: Option<i64>,
}

/// One day of a feed. By hand it is three hours behind at midnight, names assets as the agency does, and has every sixth value
/// in another unit.
fn day(city: &Store, feed: &Connection, begin: Time, day: i64) -> denyut::Result<()> {
    let mut writer = city.existing(feed.table)?.writer()?;
    let connected = feed.since.is_some_and(|since| since <= day);
    for hour in 0..if connected { HOURS } else { HOURS - 3 } {
        for (number, asset) in (0..).zip(ASSETS) {
            let time = Time::from_nanos(begin.as_nanos() + (day * HOURS + hour) * HOUR_NS + HOUR_NS / 2);
            let value = 120.0 + 60.0 * ((hour + number) as f64 / 4.0).sin();
            let by_hand = (hour * 3 + number) % 6 == 0;
            let spelled = format!("Pos {asset} ({})", feed.agency);
            let row = [
                ("asset", Value::from(if connected { asset } else { &spelled })),
                ("value", Value::from(if by_hand && !connected { value * 10.0 } else { value })),
            ];
            let _ = writer.append_at(time, Row::new(&row))?;
        }
    }
    Ok(())
}

/// What the scorecard says at the end of a day.
struct Evening {
    city_level: i64,
    blockers: i64,
    /// By agency: the share of feeds within cadence.
    shares: Vec<f64>,
}

fn evening(city: &Store, at: Time) -> denyut::Result<Evening> {
    let maturity =
        city.query(&format!("SELECT scope, level, in_cadence_share AS share FROM maturity('{at}') ORDER BY agency"))?;
    let blockers = city.query(&format!("SELECT count(*) AS n FROM blockers('{at}') WHERE stage <> 'smart'"))?;
    let mut evening = Evening { city_level: 0, blockers: blockers.i64(0, "n")?.unwrap_or(0), shares: Vec::new() };
    for row in 0..maturity.num_rows() {
        if maturity.str(row, "scope")? == Some("city") {
            evening.city_level = maturity.i64(row, "level")?.unwrap_or(0);
        } else {
            evening.shares.push(maturity.f64(row, "share")?.unwrap_or(0.0));
        }
    }
    Ok(evening)
}

fn print(city: &Store, at: Time) -> denyut::Result<()> {
    println!("\nThe scorecard at {at}:");
    let columns = "coalesce(agency, 'the city') AS who, stage, feeds, in_cadence_share AS in_cadence, \
                   round(conform_share, 3) AS conform, round(keys_share, 3) AS keys";
    city.query(&format!("SELECT {columns} FROM maturity('{at}') ORDER BY scope, agency"))?.print()?;
    let columns = "agency, condition, round(figure, 3) AS figure, needed, feeds";
    let text = format!("SELECT {columns} FROM blockers('{at}') WHERE stage = 'integrative' ORDER BY agency, condition");
    let blockers = city.query(&text)?;
    println!("What keeps agencies from being integrative: {}", blockers.num_rows());
    if blockers.num_rows() > 0 { blockers.print() } else { Ok(()) }
}

fn main() -> Result<(), Failure> {
    let dir = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("denyut-integrate"), PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    let store = tempfile::tempdir()?;
    let city = Store::options().zone("Asia/Pontianak").open(store.path().join("kota"))?;
    let begin: Time = "2026-03-01T17:00:00Z".parse()?;
    let midnight = |day: i64| Time::from_nanos(begin.as_nanos() + (day + 1) * HOURS * HOUR_NS);

    let assets = ASSETS.map(|asset| [("key", Value::from(asset)), ("kind", "post".into())]);
    let assets: Vec<Row<'_>> = assets.iter().map(|asset| Row::new(asset)).collect();
    city.load_dimension(&dimension::asset(), begin, &assets)?;
    let agencies = AGENCIES.map(|(agency, _)| [("key", Value::from(agency))]);
    let agencies: Vec<Row<'_>> = agencies.iter().map(|agency| Row::new(agency)).collect();
    city.load_dimension(&dimension::agency(), begin, &agencies)?;

    let mut feeds = Vec::new();
    for (agency, tables) in AGENCIES {
        for (number, table) in tables.into_iter().enumerate() {
            let since = (number < 2).then_some(0);
            let arrives = if since.is_some() { Arrival::ByItself } else { Arrival::ByHand };
            city.declare_feed(&contract(agency, table, arrives)?, begin)?;
            feeds.push(Connection { agency, table, since });
        }
    }

    // Two days as it is, then one more feed each morning.
    let mut evenings = Vec::new();
    let mut connected = 0;
    for number in 0..13 {
        if number >= 2
            && let Some(feed) = feeds.iter_mut().find(|feed| feed.since.is_none())
        {
            feed.since = Some(number);
            connected += 1;
            city.declare_feed(&contract(feed.agency, feed.table, Arrival::ByItself)?, midnight(number - 1))?;
        }
        for feed in &feeds {
            day(&city, feed, begin, number)?;
        }
        let told = evening(&city, midnight(number))?;
        println!("day {number:2}: {connected:2} feeds connected, city {}, {} blockers", stage(&told), told.blockers);
        // Of an agency without connections three conditions fail; the first connection mends one, the second the others.
        assert_eq!(told.blockers, 15 - connected / 2 * 3 - connected % 2, "worked out by hand");
        assert_eq!(told.city_level, if connected >= 8 { 3 } else { 2 }, "four of five agencies");
        evenings.push(told);
    }
    print(&city, midnight(1))?;
    print(&city, midnight(12))?;
    join(&city, midnight(12))?;
    draw(&dir, &evenings)?;
    println!("\ncharts are in {}", dir.display());
    let last = evenings.last().ok_or("there was a day")?;
    println!("ok stage={} blockers={}", stage(last), last.blockers);
    Ok(())
}

fn stage(evening: &Evening) -> &'static str {
    usize::try_from(evening.city_level).ok().and_then(|level| STAGES.get(level).copied()).unwrap_or("unknown")
}

/// What joining up is for: readings of four agencies side by side, by the assets that all of them name alike.
fn join(city: &Store, at: Time) -> denyut::Result<()> {
    let since = Time::from_nanos(at.as_nanos() - HOURS * HOUR_NS);
    let one = |table: &str| {
        format!(
            "(SELECT asset, avg(value) AS value FROM {table} WHERE time > '{since}' AND time <= '{at}' GROUP BY asset) {table}"
        )
    };
    let tables = ["water_level", "road_works", "signal_fault", "shelter"];
    let joined: Vec<String> =
        tables.iter().map(|table| format!("LEFT JOIN {} ON a.key = {table}.asset", one(table))).collect();
    let columns: Vec<String> = tables.iter().map(|table| format!("round({table}.value, 1) AS {table}")).collect();
    let text = format!(
        "SELECT a.key AS asset, {} FROM dimension('asset', '{at}') a {} ORDER BY a.key",
        columns.join(", "),
        joined.join(" ")
    );
    let (rows, trust) = city.query_with_trust(&text)?;
    println!("\nOne day of four agencies, by asset:");
    rows.print()?;
    for (row, table) in (0..rows.num_rows()).flat_map(|row| tables.map(|table| (row, table))) {
        assert!(rows.f64(row, table)?.is_some(), "{table} has every asset");
    }
    let share = trust.present_share().unwrap_or(0.0);
    println!("made of {} feeds, {:.0}% of the expected rows there", trust.feeds.len(), share * 100.0);
    assert_eq!(share, 1.0);
    Ok(())
}

fn draw(dir: &std::path::Path, evenings: &[Evening]) -> Result<(), Failure> {
    let by_day = |of: &dyn Fn(&Evening) -> f64| -> Vec<(f64, f64)> {
        evenings.iter().enumerate().map(|(day, evening)| (day as f64, of(evening))).collect()
    };
    let day = |x: f64| format!("day {x:.0}");
    let stages = Chart {
        title: "The city's stage and what keeps agencies from being integrative",
        x: "end of",
        y: "blockers; stage (2 scattered, 3 integrative)",
        x_name: &day,
        y_name: &|y| format!("{y:.0}"),
    };
    let blockers = by_day(&|evening| evening.blockers as f64);
    let levels = by_day(&|evening| evening.city_level as f64);
    let lines = [
        Line { name: "blockers", points: blockers, holds: true, filled: true },
        Line { name: "stage", points: levels, holds: true, filled: false },
    ];
    stages.lines(&dir.join("stages.svg"), &lines)?;
    let mut names: Vec<&str> = AGENCIES.iter().map(|(agency, _)| *agency).collect();
    names.sort_unstable();
    let lines: Vec<Line<'_>> = names
        .iter()
        .enumerate()
        .map(|(number, name)| Line {
            name,
            points: by_day(&|evening| evening.shares.get(number).copied().unwrap_or(0.0)),
            holds: true,
            filled: false,
        })
        .collect();
    let shares = Chart {
        title: "Feeds that arrive by themselves and within cadence",
        x: "end of",
        y: "share of the agency's feeds",
        x_name: &day,
        y_name: &|y| if y > 1.001 { String::new() } else { format!("{:.0}%", y * 100.0) },
    };
    shares.lines(&dir.join("shares.svg"), &lines)
}
