//! SQL functions of time against what is beneath them.
//!
//! ```sh
//! cargo bench --bench functions
//! ```
//!
//! Ten million rows in memory, of a hundred series: aggregates by minute without gap filling and with it, where half of
//! the bins are gaps; `last` against `max`; bins of a zone against bins of UTC. Throughput is in rows of the input.

#![allow(clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use denyut::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringViewArray, TimestampNanosecondArray};
use denyut::datafusion::datasource::MemTable;
use denyut::datafusion::prelude::{SessionConfig, SessionContext};

const ROWS: i64 = 10_000_000;
const SERIES: i64 = 100;
const START_NS: i64 = 1_704_067_200_000_000_000;
/// Every series has a row each twenty seconds, then none for as long.
const RUN: i64 = 30;

const QUERIES: [(&str, &str); 10] = [
    ("by minute", "SELECT k, date_bin(INTERVAL '1 minute', time) AS m, avg(v) FROM t WHERE {range} GROUP BY k, m"),
    (
        "by minute, gaps filled",
        "SELECT k, date_bin_gapfill(INTERVAL '1 minute', time) AS m, avg(v) FROM t WHERE {range} GROUP BY k, m",
    ),
    (
        "by minute, two aggregates",
        "SELECT k, date_bin(INTERVAL '1 minute', time) AS m, avg(v), max(v) FROM t WHERE {range} GROUP BY k, m",
    ),
    (
        "by minute, interpolated",
        "SELECT k, date_bin_gapfill(INTERVAL '1 minute', time) AS m, interpolate(avg(v)), locf(max(v)) FROM t \
        WHERE {range} GROUP BY k, m",
    ),
    ("max", "SELECT k, max(v) FROM t GROUP BY k"),
    ("last", "SELECT k, last(v, time) FROM t GROUP BY k"),
    ("increase", "SELECT k, increase(v, time) FROM t GROUP BY k"),
    ("time_weighted_avg", "SELECT k, time_weighted_avg(v, time, 'locf') FROM t GROUP BY k"),
    ("by day of UTC", "SELECT date_bin(INTERVAL '1 day', time) AS d, count(*) FROM t GROUP BY d"),
    (
        "by day of a zone",
        "SELECT date_bin_wallclock(INTERVAL '1 day', time AT TIME ZONE 'Asia/Pontianak') AS d, count(*) FROM t GROUP BY d",
    ),
];

fn time_ns(step: i64) -> i64 {
    START_NS + (step + step / RUN * RUN) * 20_000_000_000
}

fn table() -> MemTable {
    let batch = |first: i64| {
        let rows = || first..first + 8_000;
        let keys = rows().map(|row| format!("series-{}", row % SERIES));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("k", Arc::new(StringViewArray::from_iter_values(keys))),
            ("time", {
                let times = TimestampNanosecondArray::from_iter_values(rows().map(|row| time_ns(row / SERIES)));
                Arc::new(times.with_timezone("UTC"))
            }),
            ("v", Arc::new(Float64Array::from_iter_values(rows().map(|row| (row * 7 % 1_000) as f64)))),
        ];
        RecordBatch::try_from_iter(columns).expect("columns")
    };
    let batches: Vec<RecordBatch> = (0..ROWS / 8_000).map(|number| batch(number * 8_000)).collect();
    let half = batches.len() / 2;
    MemTable::try_new(batches[0].schema(), vec![batches[..half].to_vec(), batches[half..].to_vec()]).expect("a table")
}

fn functions(criterion: &mut Criterion) {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    denyut::query::register(&context).expect("functions");
    context.register_table("t", Arc::new(table())).expect("a table");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let end = time_ns(ROWS / SERIES);
    let zoned = |ns: i64| format!("arrow_cast({ns}, 'Timestamp(Nanosecond, Some(\"UTC\"))')");
    let range = format!("time >= {} AND time < {}", zoned(START_NS), zoned(end));
    let mut group = criterion.benchmark_group("functions");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    for (name, text) in QUERIES {
        let text = text.replace("{range}", &range);
        let run = || async { context.sql(&text).await?.collect().await };
        group.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(run()).expect("an answer").len()));
    }
    group.finish();
}

criterion_group!(benches, functions);
criterion_main!(benches);
