//! Overload for as long as one likes: writers that append far faster than one thread seals and are told so, row by row.
//! Memory stays within its budget, every rejection is counted, and every accepted row is there, once.
//!
//! `DENYUT_SOAK_SECONDS=600` is the long one. The writers are a child process, whose memory nobody else uses.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use denyut::arrow::array::AsArray;
use denyut::arrow::datatypes::{Float64Type, Int64Type};
use denyut::prelude::*;

use crate::chance::setting;
use crate::child;

const WRITERS: usize = 4;
const SERIES: i64 = 200;
const LIVE_BYTES_MAX: u64 = 64 << 20;
const BLOCK_BYTES_MAX: u64 = 4 << 20;
const METADATA_BYTES_MAX: u64 = 64 << 20;
/// What the options say: live blocks, footers and indexes, and about one block for a thread that seals.
const BUDGET_BYTES: u64 = LIVE_BYTES_MAX + METADATA_BYTES_MAX + BLOCK_BYTES_MAX;

fn options() -> Options {
    let options = Store::options().live_bytes_max(LIVE_BYTES_MAX).block_bytes_max(BLOCK_BYTES_MAX);
    let options = options.metadata_cache_bytes_max(usize::try_from(METADATA_BYTES_MAX).unwrap());
    options.seal_threads(1).overload(Overload::Fail)
}

/// What is resident of this process, in bytes: its own memory, and its live blocks.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Rows by writer: how many, and what their numbers sum to.
type Sums = BTreeMap<String, (u64, u64)>;

fn found(table: &Table) -> Sums {
    let mut sums = Sums::new();
    for batch in table.scan().unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().clone();
        let (writers, numbers) = (column("writer"), column("number"));
        let (writers, numbers) = (writers.as_string_view(), numbers.as_primitive::<Int64Type>());
        let (halves, texts) = (column("half"), column("text"));
        let (halves, texts) = (halves.as_primitive::<Float64Type>(), texts.as_string_view());
        for (row, number) in numbers.values().iter().enumerate() {
            assert_eq!(halves.value(row), *number as f64 / 2.0);
            assert_eq!(texts.value(row).strip_prefix("a text of the row with number ").unwrap(), number.to_string());
            let (rows, sum) = match sums.get_mut(writers.value(row)) {
                Some(known) => known,
                None => sums.entry(writers.value(row).to_string()).or_default(),
            };
            *rows += 1;
            // Squares, so that two wrong numbers do not make up for one another.
            *sum = sum.wrapping_add((*number as u64).wrapping_mul(*number as u64));
        }
    }
    sums
}

/// Appends until it is told to end, each number until it is accepted. Gives how many were, and the rejections.
fn write(table: &Table, name: &str, end: &AtomicBool, overloaded: &AtomicBool) -> (i64, u64) {
    let series: Vec<SeriesId> =
        (0..SERIES).map(|site| table.series([name, format!("site {site}").as_str()]).unwrap()).collect();
    let mut writer = table.writer().unwrap();
    let (mut number, mut rejected) = (0, 0);
    while !end.load(Ordering::Relaxed) {
        let text = format!("a text of the row with number {number}");
        let time = Time::from_nanos(1_700_000_000_000_000_000 + number * 1_000_000);
        let half = number as f64 / 2.0;
        // In no order of series, so that a seal has something to sort.
        let at = usize::try_from(number * 7_919 % SERIES).unwrap();
        match writer.append_to(series[at], time, &[number.into(), half.into(), text.as_str().into()]) {
            Ok(appended) => number += appended.accepted() as i64,
            Err(Error::Overloaded { .. }) => {
                rejected += 1;
                overloaded.store(true, Ordering::Relaxed);
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    (number, rejected)
}

#[test]
#[ignore = "the child of the soak test"]
fn child_overloaded() {
    let Some((path, seconds)) = child::work() else { return };
    let store = options().open(path).unwrap();
    let schema = Schema::new("soak").tag("writer").tag("site").i64("number", "").f64("half", "").utf8("text", "");
    let table = store.table(schema).unwrap();
    let (end, overloaded, highest) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let before = resident_bytes();
    let began = Instant::now();
    let done: Vec<(i64, u64)> = std::thread::scope(|scope| {
        let write = |number: usize| {
            let (table, end, overloaded) = (&table, &end, &overloaded);
            scope.spawn(move || write(table, &format!("w{number}"), end, overloaded))
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        // However slow the machine is, until there is overload.
        while began.elapsed() < Duration::from_secs(seconds) || !overloaded.load(Ordering::Relaxed) {
            highest.fetch_max(resident_bytes(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
        end.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let counters: BTreeMap<_, _> = store.counters().into_iter().collect();
    let rejected: u64 = done.iter().map(|(_, rejected)| rejected).sum();
    assert_eq!(counters["overloaded"], rejected, "each rejection is counted");
    assert_eq!(counters["seal_failures"], 0);
    let sealed = counters["sealed_rows"];
    store.close().unwrap();
    drop((table, store));
    let (accepted, grown) = (done.iter().map(|(rows, _)| *rows as u64).sum::<u64>(), highest.into_inner() - before);
    for (number, (rows, _)) in done.iter().enumerate() {
        child::say(&format!("writer w{number} {rows}"));
    }
    child::say(&format!("done {accepted} {rejected} {sealed} {grown}"));
}

#[test]
fn overload_stays_within_its_memory_and_loses_nothing() {
    let seconds = setting("DENYUT_SOAK_SECONDS").unwrap_or(2);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let (mut child, mut said) = child::start("soak::child_overloaded", &path, seconds);
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    let mut accepted: BTreeMap<String, u64> = BTreeMap::new();
    let mut totals = [0; 4];
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["writer", name, rows] => drop(accepted.insert(name.into(), rows.parse().unwrap())),
            ["done", a, b, c, d] => totals = [a, b, c, d].map(|number| number.parse::<u64>().unwrap()),
            _ => {}
        }
    }
    let [rows, rejected, sealed, grown] = totals;
    println!(
        "{seconds} s: {rows} rows accepted, {sealed} sealed meanwhile, {rejected} rejections, memory grew by {:.1} MiB, \
         {:.2} of its budget",
        grown as f64 / f64::from(1 << 20),
        grown as f64 / BUDGET_BYTES as f64
    );
    assert_eq!(accepted.len(), WRITERS, "{text}");
    assert!(rejected > 0, "it was no overload: {rows} rows");
    let store = options().open(&path).unwrap();
    let squares = |rows: u64| (0..rows).fold(0_u64, |sum, number| sum.wrapping_add(number.wrapping_mul(number)));
    let wanted: Sums = accepted.into_iter().map(|(name, rows)| (name, (rows, squares(rows)))).collect();
    assert_eq!(found(&store.existing("soak").unwrap()), wanted);
    assert!(grown * 2 <= BUDGET_BYTES * 3, "memory grew by {grown} bytes");
}
