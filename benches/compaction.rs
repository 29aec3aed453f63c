//! Sealed segments of one partition, merged into one: soon after, and for good in the small encoding.
//!
//! ```sh
//! cargo bench --bench compaction
//! cargo bench --bench compaction -- --save-baseline main    # then, after a change:
//! cargo bench --bench compaction -- --baseline main
//! ```
//!
//! Eight segments of 65,536 ten-field rows, 64 hosts. Throughput is in rows; making the store is not timed.

#![allow(clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use denyut::prelude::*;

const SEGMENTS: i64 = 8;
const SEGMENT_ROWS: i64 = 65_536;
const HOSTS: i64 = 64;
const START_NS: i64 = 1_704_067_200_000_000_000;

/// Past the age of any row.
const NEVER: Duration = Duration::from_secs(90 * 365 * 86_400);

/// Fills a store with sealed segments of one partition, and times what merges them.
fn merge(cold_after: Duration) -> Duration {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Store::options().seal_threads(0).seal_after(NEVER).cold_after(cold_after).block_bytes_min(64 << 20);
    let store = options.open(dir.path().join("store")).expect("a store");
    let schema = (0..10).fold(Schema::new("cpu").tag("hostname"), |schema, n| {
        let name = format!("usage_{n}");
        schema.f64(&name, "%").required(&name)
    });
    let cpu = store.table(schema.partition(Duration::from_secs(30 * 86_400))).expect("a table");
    let hosts: Vec<SeriesId> =
        (0..HOSTS).map(|n| cpu.series([format!("host_{n}").as_str()]).expect("a series")).collect();
    let pause = store.pause_background();
    let mut writer = cpu.writer().expect("a writer");
    for segment in 0..SEGMENTS {
        for row in segment * SEGMENT_ROWS..(segment + 1) * SEGMENT_ROWS {
            let value = |field: i64| Value::F64(((row * 7 + field * 31) % 1_000) as f64 / 10.0);
            let values: [Value<'_>; 10] = std::array::from_fn(|field| value(field as i64));
            let time = Time::from_nanos(START_NS + row / HOSTS * 1_000_000_000);
            writer.append_to(hosts[(row % HOSTS) as usize], time, &values).expect("an append");
        }
        store.seal().expect("a seal");
    }
    let began = Instant::now();
    let done = store.maintain().expect("a compaction");
    let spent = began.elapsed();
    assert_eq!((done.compacted_segments, done.compaction_segments_written), (SEGMENTS as u64, 1));
    drop(pause);
    spent
}

fn compaction(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compaction");
    group.throughput(Throughput::Elements((SEGMENTS * SEGMENT_ROWS) as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(10));
    for (name, cold_after) in [("eight sealed segments", NEVER), ("the same, for good", Duration::ZERO)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| (0..iterations).map(|_| merge(cold_after)).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, compaction);
criterion_main!(benches);
