//! Years of rows in random order of time: sealed in few segments, compacted with few writes, and all there.
//!
//! `DENYUT_ROWS=20000000 cargo test --release --test store -- --nocapture years` is the full size.

use std::collections::BTreeMap;
use std::time::Duration;

use denyut::arrow::array::AsArray;
use denyut::arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use denyut::prelude::*;

use crate::chance::{Chance, seed, setting};

const STATIONS: u64 = 400;
/// 2021-01-01T00:00:00Z.
const START_NS: i64 = 1_609_459_200_000_000_000;
const YEARS_NS: i64 = 5 * 365 * 86_400 * 1_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

/// Numbers 0..`count` in an order that looks random: a walk of a prime-like step through the next power of two.
fn shuffled(count: u64, seed: u64) -> impl Iterator<Item = u64> {
    let size = count.next_power_of_two();
    let step = (size / 2 + size / 8 + 1) | 1;
    let mut at = seed % size;
    (0..size).filter_map(move |_| {
        at = (at.wrapping_mul(5).wrapping_add(step | 1)) % size;
        (at < count).then_some(at)
    })
}

fn station(number: u64) -> u64 {
    Chance::new(number).next() % STATIONS
}

fn value(number: u64) -> f64 {
    (number % 10_007) as f64 / 16.0
}

fn counters(store: &Store) -> BTreeMap<&'static str, u64> {
    store.counters().into_iter().collect()
}

fn run(partition: Option<Duration>) {
    let (rows, seed) = (setting("DENYUT_ROWS").unwrap_or(150_000), seed());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let small = rows < 1_000_000;
    let options = || {
        let options = Store::options();
        if small { options.block_bytes_min(256 << 10).block_bytes_max(512 << 10).compact_fan_in(3) } else { options }
    };
    let store = options().open(&path).unwrap();
    let schema = Schema::new("reading").tag("station").i64("number", "").required("number").f64("value", "");
    let schema = schema.required("value");
    let table = store.table(partition.map_or(schema.clone(), |width| schema.partition(width))).unwrap();
    let series: Vec<SeriesId> = (0..STATIONS).map(|id| table.series([&*format!("station {id}")]).unwrap()).collect();
    let step_ns = YEARS_NS / rows as i64;
    let began = std::time::Instant::now();
    let mut writer = table.writer().unwrap();
    let mut numbers = 0;
    for number in shuffled(rows, seed) {
        let time = Time::from_nanos(START_NS + number as i64 * step_ns);
        let values = [(number as i64).into(), value(number).into()];
        assert_eq!(writer.append_to(series[station(number) as usize], time, &values).unwrap().accepted(), 1);
        numbers += 1;
    }
    assert_eq!(numbers, rows);
    drop(writer);
    let appended = began.elapsed();
    store.seal().unwrap();
    let sealed = counters(&store);
    let done = store.maintain().unwrap();
    let maintained = began.elapsed();
    let after = counters(&store);
    assert!(after["segments_written"] <= 16 * after["seals"], "{after:?}");
    let amplification = after["file_bytes_written"] as f64 / after["segment_bytes_written"] as f64;
    // A live block's row is written back by the kernel once: 28 bytes, with its time and series.
    let of_rows = (after["file_bytes_written"] + 28 * rows) as f64 / (28 * rows) as f64;
    println!(
        "{rows} rows, partitions of {partition:?}: {} seals, {} segments of them, {} at the end; {} compactions; files \
         got {:.2} times the bytes that seals wrote, and all of the disk {of_rows:.2} times the rows' own; {:.2} bytes a \
         row when sealed, {:.2} in the end; appended in {appended:.1?}, up to date after {maintained:.1?}; {done:?}",
        after["seals"],
        after["segments_written"],
        after["segments"],
        after["compactions"],
        amplification,
        sealed["segment_bytes_written"] as f64 / rows as f64,
        disk(&path) as f64 / rows as f64,
    );
    // A row is written by its seal and twice more at most. Files of a few rows are heads and footers for the most part.
    assert!(after["compacted_rows"] <= 2 * rows, "{after:?}");
    assert!(small || amplification <= 3.0, "{amplification}: {after:?}");
    check(&table, rows, step_ns);
    drop(table);
    store.close().unwrap();
    drop(store);
    let store = options().open(&path).unwrap();
    check(&store.existing("reading").unwrap(), rows, step_ns);
    assert_eq!(counters(&store)["segments"], after["segments"]);
}

/// Bytes of the segments' files.
fn disk(store: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(store.join("segments")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// Every row is there, once, and as it was.
fn check(table: &Table, rows: u64, step_ns: i64) {
    let mut seen = vec![false; rows as usize];
    for batch in table.scan().unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (times, stations) = (column("time").as_primitive::<TimestampNanosecondType>(), column("station"));
        let (numbers, values) = (column("number").as_primitive::<Int64Type>(), column("value"));
        for row in 0..batch.num_rows() {
            let number = numbers.value(row);
            assert_eq!(times.value(row), START_NS + number * step_ns, "{number}");
            assert_eq!(values.as_primitive::<Float64Type>().value(row), value(number as u64), "{number}");
            let name = stations.as_string_view().value(row);
            assert_eq!(name.strip_prefix("station "), Some(&*station(number as u64).to_string()), "{number}");
            assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} is there twice");
        }
    }
    assert!(seen.iter().all(|seen| *seen), "a row is missing");
}

#[test]
fn years_in_random_order_with_a_width_of_their_own() {
    run(None);
}

#[test]
fn years_in_random_order_over_many_partitions() {
    run(Some(28 * DAY));
}
