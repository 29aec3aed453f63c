//! Small questions over live and sealed rows: what a panel asks.
//!
//! ```sh
//! cargo bench --bench query
//! cargo bench --bench query -- --save-baseline main    # then, after a change:
//! cargo bench --bench query -- --baseline main
//! ```
//!
//! 400 hosts, ten fields, ten seconds apart for six hours (864,000 rows), once all live and once all sealed. Throughput is
//! in rows of the table, whether a query reads them or not.
//!
//! The groups `accelerated` and `plain` ask the same, with accelerations on and off, of a day sealed and an hour live
//! (3.6 million rows); `by handle` and `prepared` are ways in beside text.

#![allow(clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use denyut::prelude::*;

const HOSTS: i64 = 400;
const STEPS: i64 = 6 * 360;
const START_NS: i64 = 1_704_067_200_000_000_000;

const QUERIES: [(&str, &str); 6] = [
    ("count", "SELECT count(*) FROM cpu"),
    ("newest time", "SELECT max(time) FROM cpu"),
    (
        "one host, one hour, by minute",
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(usage_0) FROM cpu \
        WHERE hostname = 'host_7' AND time >= '2024-01-01T02:00:00Z' AND time < '2024-01-01T03:00:00Z' GROUP BY t",
    ),
    (
        "all hosts, one hour, mean",
        "SELECT hostname, avg(usage_0) FROM cpu \
        WHERE time >= '2024-01-01T02:00:00Z' AND time < '2024-01-01T03:00:00Z' GROUP BY hostname",
    ),
    ("one rare value", "SELECT time, hostname, usage_1 FROM cpu WHERE usage_1 > 98.9 ORDER BY time LIMIT 20"),
    ("sum of everything", "SELECT sum(usage_0), sum(usage_9) FROM cpu"),
];

/// What accelerations are for.
const ACCELERATED: [(&str, &str); 5] = [
    ("lastpoint", "SELECT DISTINCT ON (hostname) * FROM cpu ORDER BY hostname, time DESC"),
    ("last by host", "SELECT hostname, last(usage_0, time), last(usage_9, time) FROM cpu GROUP BY hostname"),
    ("latest()", "SELECT * FROM latest('cpu')"),
    (
        "groupby-orderby-limit",
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(usage_0) FROM cpu WHERE time < '2024-01-01T17:00:00Z' \
        GROUP BY t ORDER BY t DESC LIMIT 5",
    ),
    (
        "single-groupby-1-1-1",
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(usage_0) FROM cpu \
        WHERE hostname = 'host_7' AND time >= '2024-01-01T02:00:00Z' AND time < '2024-01-01T03:00:00Z' GROUP BY t ORDER BY t",
    ),
];

fn fill(store: &Store) -> denyut::Result<()> {
    fill_steps(store, 0..STEPS)
}

fn fill_steps(store: &Store, steps: std::ops::Range<i64>) -> denyut::Result<()> {
    let schema = (0..10).fold(Schema::new("cpu").tag("hostname").tag("region"), |schema, n| {
        let name = format!("usage_{n}");
        schema.f64(&name, "%").required(&name)
    });
    let cpu = store.table(schema)?;
    let hosts = (0..HOSTS).map(|n| cpu.series([format!("host_{n}").as_str(), "kalimantan-barat-1"]));
    let hosts: Vec<SeriesId> = hosts.collect::<denyut::Result<_>>()?;
    let mut writer = cpu.writer()?;
    for step in steps {
        for (host, series) in hosts.iter().enumerate() {
            let value = |field: i64| Value::F64(((step * 7 + host as i64 * 13 + field * 31) % 1_000) as f64 / 10.0);
            let values: [Value<'_>; 10] = std::array::from_fn(|field| value(field as i64));
            writer.append_to(*series, Time::from_nanos(START_NS + step * 10_000_000_000), &values)?;
        }
    }
    Ok(())
}

fn query(criterion: &mut Criterion) {
    for sealed in [false, true] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Store::options().seal_threads(0).block_bytes_min(64 << 20);
        let store = options.open(dir.path().join("store")).expect("a store");
        fill(&store).expect("rows");
        if sealed {
            store.seal().expect("a seal");
        }
        let mut group = criterion.benchmark_group(if sealed { "query/sealed" } else { "query/live" });
        group.throughput(Throughput::Elements((HOSTS * STEPS) as u64));
        group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        for (name, text) in QUERIES {
            group.bench_function(name, |bencher| bencher.iter(|| store.query(text).expect("an answer").num_rows()));
        }
        group.finish();
    }
}

fn accelerations(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = |accelerations| {
        let options = Store::options().seal_threads(0).block_bytes_min(64 << 20).accelerations(accelerations);
        options.open(dir.path().join("store")).expect("a store")
    };
    let store = open(denyut::Accelerations::all());
    fill_steps(&store, 0..24 * 360).expect("rows");
    store.seal().expect("a seal");
    fill_steps(&store, 24 * 360..25 * 360).expect("rows");
    drop(store);
    for (name, accelerations) in
        [("accelerated", denyut::Accelerations::all()), ("plain", denyut::Accelerations::none())]
    {
        let store = open(accelerations);
        let mut group = criterion.benchmark_group(format!("query/{name}"));
        group.throughput(Throughput::Elements((HOSTS * 25 * 360) as u64));
        group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        for (name, text) in ACCELERATED {
            group.bench_function(name, |bencher| bencher.iter(|| store.query(text).expect("an answer").num_rows()));
        }
        group.finish();
    }
    let store = open(denyut::Accelerations::all());
    let mut group = criterion.benchmark_group("query/prepared");
    group.sample_size(50).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, text) in ACCELERATED {
        let prepared = store.prepare(text).expect("a plan");
        group.bench_function(name, |bencher| bencher.iter(|| prepared.query(&[]).expect("an answer").num_rows()));
    }
    group.finish();
    let cpu = store.existing("cpu").expect("the table");
    let mut host = cpu.latest(cpu.series(["host_7", "kalimantan-barat-1"]).expect("a series"));
    criterion.bench_function("query/by handle/caught up", |bencher| {
        bencher.iter(|| host.get().expect("a row").map(denyut::LatestRow::time));
    });
}

criterion_group!(benches, query, accelerations);
criterion_main!(benches);
