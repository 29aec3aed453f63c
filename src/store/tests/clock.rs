//! A wall clock that jumps: what the store orders, stamps, marks and waits for by it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::*;

const START_NS: i64 = 1_767_225_600_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
/// An hour back, ten years forth and back again, before 1970, the ends of time, and still.
const JUMPS_NS: [i64; 8] = [
    START_NS - HOUR_NS,
    START_NS + 10 * 365 * 24 * HOUR_NS,
    START_NS + 1,
    -HOUR_NS,
    i64::MIN,
    i64::MAX,
    START_NS,
    START_NS,
];

fn open(fs: &Arc<SimFs>, clock: &Arc<AtomicI64>, options: Options) -> Store {
    let options = options.block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    Store::open_on(fs.clone(), options.clock(clock.clone()).without_background(), Path::new("/store")).unwrap()
}

/// Clocks of rows by their number, of all live blocks.
fn clocks(store: &Store) -> BTreeMap<i64, u64> {
    let view = store.inner.core.view.load();
    let mut found = BTreeMap::new();
    for block in view.blocks().map(|view| &view.block) {
        let rows = 0..block.rows();
        let numbers = block.field(0, FieldType::I64, rows.clone()).unwrap();
        let clocks = block.clocks(rows).unwrap();
        let numbers = numbers.as_primitive::<Int64Type>().values().clone();
        found.extend(numbers.iter().copied().zip(clocks.iter().copied()));
    }
    found
}

#[test]
fn the_order_of_writes_goes_on_whatever_the_clock_does_and_in_the_next_life() {
    let (fs, clock) = (SimFs::new(1), Arc::new(AtomicI64::new(START_NS)));
    let mut number = 0;
    for life in 0..3 {
        let store = open(&fs, &clock, Store::options());
        let table = store.table(Schema::new("t").i64("n", "").dedup(Dedup::LastWrite)).unwrap();
        let (mut first, mut second) = (table.writer().unwrap(), table.writer().unwrap());
        for jump in JUMPS_NS.iter().cycle().take(50) {
            // Never the last nanosecond: then there is no later one.
            clock.store(jump / 2, Ordering::Relaxed);
            for writer in [&mut first, &mut second] {
                let _ = writer.append_at(Time::from_nanos(0), row! { n: number }).unwrap();
                number += 1;
            }
        }
        let found = clocks(&store);
        assert_eq!(found.len() as i64, number, "life {life}");
        assert!(found.values().is_sorted_by(|a, b| a < b), "life {life}: each write is later than those before");
        if life == 1 {
            store.close().unwrap();
        }
        drop((first, second, table, store));
    }
}

#[test]
fn a_seal_does_not_let_the_order_of_writes_be_forgotten() {
    let (fs, clock) = (SimFs::new(2), Arc::new(AtomicI64::new(START_NS)));
    let store = open(&fs, &clock, Store::options());
    let table = store.table(Schema::new("t").i64("n", "").dedup(Dedup::LastWrite)).unwrap();
    let _ = table.writer().unwrap().append_at(Time::from_nanos(0), row! { n: 0_i64 }).unwrap();
    let before = store.inner.core.clock.last();
    store.seal().unwrap();
    let image = fs.crash(2);
    drop((table, store));
    clock.store(START_NS - HOUR_NS, Ordering::Relaxed);
    let store = open(&image, &clock, Store::options());
    assert!(store.inner.core.clock.read(3) > before);
    assert!(store.inner.core.clock.read(1) > before + 3);
}

#[test]
fn stamps_are_what_the_clock_shows_and_no_row_is_lost_for_it() {
    let (fs, clock) = (SimFs::new(3), Arc::new(AtomicI64::new(START_NS)));
    let store = open(&fs, &clock, Store::options());
    let plain = store.table(Schema::new("plain").i64("n", "")).unwrap();
    let strict = store.table(Schema::new("strict").i64("n", "").lateness(Duration::from_secs(1_800))).unwrap();
    let (mut to_plain, mut to_strict) = (plain.writer().unwrap(), strict.writer().unwrap());
    let (mut accepted, mut quarantined) = (0, 0);
    for (number, time) in [0, -HOUR_NS, -HOUR_NS / 2, HOUR_NS, 0].into_iter().enumerate() {
        clock.store(START_NS + time, Ordering::Relaxed);
        assert_eq!(to_plain.append(row! { n: number as i64 }).unwrap().accepted(), 1);
        let appended = to_strict.append(row! { n: number as i64 }).unwrap();
        (accepted, quarantined) = (accepted + appended.accepted(), quarantined + appended.late());
    }
    // An hour back is too late for the strict table, half an hour is not.
    assert_eq!((accepted, quarantined), (3, 2));
    let times = |table: &Table| -> Vec<i64> {
        let batches = table.scan().unwrap().map(|batch| batch.unwrap());
        batches.flat_map(|b| b.column(0).as_primitive::<TimestampNanosecondType>().values().to_vec()).collect()
    };
    assert_eq!(times(&plain), [0, -HOUR_NS, -HOUR_NS / 2, HOUR_NS, 0].map(|time| START_NS + time));
    assert_eq!(times(&strict), [0, -HOUR_NS / 2, HOUR_NS].map(|time| START_NS + time));
}

#[test]
fn what_is_far_in_the_future_is_judged_by_the_clock_of_the_moment() {
    let (fs, clock) = (SimFs::new(4), Arc::new(AtomicI64::new(START_NS)));
    let store = open(&fs, &clock, Store::options());
    let table = store.table(Schema::new("t").i64("n", "").future_max(Duration::from_secs(60))).unwrap();
    let append = |time: i64| {
        let appended = table.writer().unwrap().append_at(Time::from_nanos(time), row! { n: 0_i64 }).unwrap();
        appended.accepted()
    };
    let in_an_hour = START_NS + HOUR_NS;
    assert_eq!(append(in_an_hour), 0);
    clock.store(START_NS + HOUR_NS, Ordering::Relaxed);
    assert_eq!(append(in_an_hour), 1);
    clock.store(START_NS, Ordering::Relaxed);
    assert_eq!(append(in_an_hour), 0, "the clock went back");
    for jump in JUMPS_NS {
        clock.store(jump, Ordering::Relaxed);
        assert_eq!(append(jump), 1, "now is never far, at {jump}");
    }
}

#[test]
fn ages_are_not_counted_by_the_wall_clock() {
    let (fs, clock) = (SimFs::new(5), Arc::new(AtomicI64::new(START_NS)));
    let store = open(&fs, &clock, Store::options().seal_after(Duration::from_secs(3_600)));
    let table = store.table(Schema::new("t").i64("n", "")).unwrap();
    let mut writer = table.writer().unwrap();
    let (seals, asked_for) = crossbeam::channel::unbounded();
    let mut asked = Default::default();
    for jump in JUMPS_NS {
        clock.store(jump, Ordering::Relaxed);
        let _ = writer.append(row! { n: 0_i64 }).unwrap();
        let next = store.inner.core.keep_house(&seals, &mut asked);
        assert!(next <= Instant::now() + Duration::from_secs(2), "it looks again soon, at {jump}");
        assert!(asked_for.is_empty(), "nothing is of age at {jump}");
    }
    drop(writer);
    store.close().unwrap();
    drop((table, store));
    // What is of age is asked for once, not at every look.
    let store = open(&fs, &clock, Store::options().seal_after(Duration::ZERO));
    let table = store.existing("t").unwrap();
    let mut writer = table.writer().unwrap();
    let _ = writer.append(row! { n: 0_i64 }).unwrap();
    for jump in JUMPS_NS {
        clock.store(jump, Ordering::Relaxed);
        let _ = store.inner.core.keep_house(&seals, &mut asked);
    }
    assert_eq!(asked_for.len(), 1);
}
