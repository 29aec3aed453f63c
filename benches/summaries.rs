//! Aggregates by the hour, from summaries and from rows, and what summaries cost.
//!
//! ```sh
//! cargo bench --bench summaries
//! DENYUT_HOURS=72 cargo bench --bench summaries    # hours of rows; 15 if it is not set
//! ```
//!
//! 400 hosts, ten fields, ten seconds apart: floored walks in 0..=100 with steps of N(0, 1), as TSBS makes them for devops.
//! Windows begin seven minutes past an hour, so that both their ends cut buckets. First it says how many bytes of the
//! segments are summaries.

#![allow(clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use denyut::Accelerations;
use denyut::prelude::*;

const HOSTS: usize = 400;
const START_NS: i64 = 1_704_067_200_000_000_000;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Nearly N(0, 1): twelve uniform numbers (Irwin and Hall).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn fill(store: &Store, hours: i64) -> denyut::Result<()> {
    let schema = (0..10).fold(Schema::new("cpu").tag("hostname").tag("region"), |schema, n| {
        let name = format!("usage_{n}");
        schema.f64(&name, "%").required(&name)
    });
    let cpu = store.table(schema)?;
    let hosts = (0..HOSTS).map(|n| cpu.series([format!("host_{n}").as_str(), "kalimantan-barat-1"]));
    let hosts: Vec<SeriesId> = hosts.collect::<denyut::Result<_>>()?;
    let mut chance = Chance(7);
    let mut walks: Vec<[f64; 10]> = (0..HOSTS).map(|_| std::array::from_fn(|_| chance.uniform() * 100.0)).collect();
    let mut writer = cpu.writer()?;
    for step in 0..hours * 360 {
        for (walk, series) in walks.iter_mut().zip(&hosts) {
            walk.iter_mut().for_each(|value| *value = (*value + chance.normal()).clamp(0.0, 100.0));
            let values: [Value<'_>; 10] = std::array::from_fn(|field| Value::F64(walk[field].floor()));
            writer.append_to(*series, Time::from_nanos(START_NS + step * 10_000_000_000), &values)?;
        }
    }
    store.seal()?;
    store.maintain().map(drop)
}

/// Bytes of files whose names end so.
fn bytes(dir: &Path, ending: &str) -> u64 {
    let files = std::fs::read_dir(dir.join("segments")).expect("segments");
    let files = files.filter_map(Result::ok).filter(|file| file.path().extension().is_some_and(|it| it == ending));
    files.map(|file| file.metadata().expect("a file").len()).sum()
}

fn queries(hours: i64) -> Vec<(&'static str, String)> {
    let list = |function: &str, fields: usize| {
        (0..fields).map(|field| format!("{function}(usage_{field})")).collect::<Vec<_>>().join(", ")
    };
    let within = |last: i64| {
        let begin = START_NS + ((hours - last - 2).max(0) * 3_600 + 420) * 1_000_000_000;
        let end = begin + last * 3_600 * 1_000_000_000;
        format!("time >= to_timestamp_nanos({begin}) AND time < to_timestamp_nanos({end})")
    };
    let mean = |fields| {
        let (of, bounds) = (list("avg", fields), within(12));
        format!(
            "SELECT date_trunc('hour', time) AS hour, hostname, {of} FROM cpu WHERE {bounds} GROUP BY hour, hostname"
        )
    };
    let most = |hosts: &str| {
        let (of, bounds) = (list("max", 10), within(8));
        format!(
            "SELECT date_trunc('hour', time) AS hour, {of} FROM cpu WHERE hostname IN ({hosts}) AND {bounds} GROUP BY hour"
        )
    };
    let eight = (0..8).map(|n| format!("'host_{}'", n * 49)).collect::<Vec<_>>().join(", ");
    vec![
        ("double-groupby-1", mean(1)),
        ("double-groupby-5", mean(5)),
        ("double-groupby-all", mean(10)),
        ("cpu-max-all-1", most("'host_7'")),
        ("cpu-max-all-8", most(&eight)),
        ("mean by host", format!("SELECT hostname, {} FROM cpu GROUP BY hostname", list("avg", 10))),
    ]
}

fn summaries(criterion: &mut Criterion) {
    let hours = std::env::var("DENYUT_HOURS").ok().and_then(|hours| hours.parse().ok()).unwrap_or(15);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    for is_on in [true, false] {
        let options = Store::options().accelerations(Accelerations::all().summaries(is_on));
        let store = options.open(&path).expect("a store");
        if is_on {
            fill(&store, hours).expect("rows");
            let (rows, index) = (bytes(&path, "parquet"), bytes(&path, "series"));
            let (share, each) = (index as f64 / rows as f64, rows as f64 / (hours * 360 * HOSTS as i64) as f64);
            println!("segments {rows} bytes ({each:.2} a row), indexes and summaries {index}: {:.2}%", 100.0 * share);
        }
        let mut group = criterion.benchmark_group(if is_on { "summaries/on" } else { "summaries/off" });
        group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        for (name, text) in queries(hours) {
            group.bench_function(name, |bencher| bencher.iter(|| store.query(&text).expect("an answer").num_rows()));
        }
        group.finish();
        store.close().expect("a close");
    }
}

criterion_group!(benches, summaries);
criterion_main!(benches);
