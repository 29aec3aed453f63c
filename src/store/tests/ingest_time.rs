//! When rows arrived: marks of live blocks, kept in segments where the table says so.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::fs::sim::SimFs;
use crate::ingest::marks::MARKS_MAX;

/// 2026-01-01T00:00:00Z.
const START_S: i64 = 1_767_225_600;

/// A clock that the test sets, in seconds.
fn clock(second: i64) -> Arc<AtomicI64> {
    Arc::new(AtomicI64::new(second * 1_000_000_000))
}

fn set(clock: &AtomicI64, second: i64) {
    clock.store(second * 1_000_000_000 + 999_999_999, Ordering::Relaxed);
}

fn open(fs: &Arc<SimFs>, clock: &Arc<AtomicI64>) -> Store {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    Store::open_on(fs.clone(), options.clock(clock.clone()).without_background(), Path::new("/store")).unwrap()
}

fn schema() -> Schema {
    Schema::new("seen").tag("who").i64("number", "").keep_ingest_time()
}

fn append(writer: &mut Writer, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let time = Time::from_nanos(number * 7_919 % 1_000);
        assert_eq!(writer.append_at(time, row! { who: "a", number: number }).unwrap().accepted(), 1);
    }
}

/// As the house keeper does once a second.
fn tick(store: &Store) {
    let core = &store.inner.core;
    core.view.load().blocks().for_each(|view| view.block.mark(core.clock.second()));
}

/// Seconds of `ingest_time` by number. Each is whole.
fn seen(table: &Table) -> BTreeMap<i64, i64> {
    let mut seen = BTreeMap::new();
    for batch in table.scan().unwrap() {
        let batch = batch.unwrap();
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names.first().zip(names.last()), Some((&"time".to_string(), &"ingest_time".to_string())));
        let times = batch.column_by_name("ingest_time").unwrap().as_primitive::<TimestampNanosecondType>().clone();
        let numbers = batch.column_by_name("number").unwrap().as_primitive::<Int64Type>();
        for (number, time) in numbers.values().iter().zip(times.values()) {
            assert_eq!(time % 1_000_000_000, 0);
            assert_eq!(seen.insert(*number, time / 1_000_000_000), None, "number {number} is there twice");
        }
    }
    seen
}

fn expect(seen: &BTreeMap<i64, i64>, numbers: std::ops::Range<i64>, second: i64, place: &str) {
    for number in numbers {
        assert_eq!(seen.get(&number), Some(&second), "{place}: number {number}");
    }
}

#[test]
fn a_row_keeps_the_second_of_its_arrival_through_seal_and_reopen() {
    let (fs, clock) = (SimFs::new(1), clock(START_S));
    let store = open(&fs, &clock);
    let table = store.table(schema()).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, 0..10);
    // Without a mark it is known that they are there now.
    assert!(seen(&table).values().all(|second| *second >= now().as_nanos() / 1_000_000_000));
    tick(&store);
    set(&clock, START_S + 60);
    append(&mut writer, 10..20);
    store.sync().unwrap();
    append(&mut writer, 20..25);
    store.sync().unwrap();
    let live = seen(&table);
    expect(&live, 0..10, START_S + 1, "live");
    expect(&live, 10..25, START_S + 61, "live");
    store.seal().unwrap();
    assert_eq!(seen(&table), live, "sealed");
    set(&clock, START_S + 120);
    append(&mut writer, 25..30);
    // A seal marks what has no mark yet, in the middle of a block too.
    store.seal().unwrap();
    let wider = store.table(schema().f64("more", "")).unwrap();
    append(&mut writer, 30..31);
    let _ = writer.append_at(Time::from_nanos(0), row! { who: "a", number: 31_i64, more: 1.0 }).unwrap();
    tick(&store);
    let all = seen(&wider);
    expect(&all, 25..32, START_S + 121, "wider");
    drop(writer);
    store.close().unwrap();
    drop((table, wider, store));
    set(&clock, START_S + 1_000);
    let store = open(&fs, &clock);
    tick(&store);
    let table = store.existing("seen").unwrap();
    assert!(table.schema().policies().keep_ingest_time);
    assert_eq!(seen(&table), all, "opened again");
    store.seal().unwrap();
    assert_eq!(seen(&table), all, "sealed again");
}

#[test]
fn marks_beyond_a_cut_do_not_speak_of_rows_that_come_later() {
    // The page of marks may be on the disk while the rows that it speaks of are not.
    let mut cuts = 0;
    for seed in 0..100 {
        let (fs, clock) = (SimFs::new(seed), clock(START_S));
        let store = open(&fs, &clock);
        let table = store.table(schema()).unwrap();
        let mut writer = table.writer().unwrap();
        append(&mut writer, 0..10);
        store.sync().unwrap();
        for step in 1..200 {
            set(&clock, START_S + step);
            append(&mut writer, 10 * step..10 * step + 10);
            tick(&store);
        }
        let image = fs.crash(seed);
        drop((writer, table, store));
        set(&clock, START_S + 1_000);
        let store = open(&image, &clock);
        let table = store.existing("seen").unwrap();
        let kept = i64::try_from(seen(&table).len()).unwrap();
        cuts += i64::from(kept < 2_000);
        let mut writer = table.writer().unwrap();
        append(&mut writer, 10_000..10_010);
        tick(&store);
        let seconds = seen(&table);
        let place = format!("seed {seed}, {kept} rows kept");
        expect(&seconds, 0..10, START_S + 1, &place);
        expect(&seconds, 10_000..10_010, START_S + 1_001, &place);
        // Whatever else was kept has its second, or one later where its mark was lost; and nothing changes any more.
        for (number, second) in seconds.range(10..10_000) {
            assert!(*second > START_S + number / 10, "{place}: number {number} came after {second}");
        }
        set(&clock, START_S + 2_000);
        store.seal().unwrap();
        assert_eq!(seen(&table), seconds, "{place}: sealed");
    }
    assert!(cuts > 50, "{cuts} images had rows cut");
}

#[test]
fn rows_that_were_synced_keep_their_second_through_power_loss_at_any_operation() {
    for cut_at in 0..60 {
        let (fs, clock) = (SimFs::new(cut_at), clock(START_S));
        let store = open(&fs, &clock);
        let table = store.table(schema()).unwrap();
        let mut writer = table.writer().unwrap();
        fs.crash_at(fs.operations() + cut_at);
        let mut synced = 0;
        for step in 0..30 {
            set(&clock, START_S + step);
            let append = writer.append_at(Time::from_nanos(step), row! { who: "a", number: step });
            if append.is_err() || store.sync().is_err() {
                break;
            }
            synced = step + 1;
            if step % 7 == 6 && store.seal().is_err() {
                break;
            }
        }
        let image = fs.crash(cut_at);
        drop((writer, table, store));
        set(&clock, START_S + 1_000);
        let store = open(&image, &clock);
        let Ok(table) = store.existing("seen") else {
            assert_eq!(synced, 0);
            continue;
        };
        let seconds = seen(&table);
        for number in 0..synced {
            assert_eq!(seconds.get(&number), Some(&(START_S + number + 1)), "cut at {cut_at}: number {number}");
        }
    }
}

#[test]
fn a_clock_that_goes_back_does_not_take_marks_along() {
    let (fs, clock) = (SimFs::new(4), clock(START_S));
    let store = open(&fs, &clock);
    let table = store.table(schema()).unwrap();
    let mut writer = table.writer().unwrap();
    let mut number = 0;
    for (second, expected) in [(0, 0), (10, 10), (-5_000, 10), (9, 10), (11, 11), (i64::MIN / 4_000_000_000, 11)] {
        set(&clock, START_S + second);
        append(&mut writer, number..number + 3);
        tick(&store);
        expect(&seen(&table), number..number + 3, START_S + expected + 1, "after a step");
        number += 3;
    }
    let live = seen(&table);
    store.seal().unwrap();
    assert_eq!(seen(&table), live);
}

#[test]
fn a_block_whose_marks_run_out_makes_way_and_no_row_loses_its_second() {
    let (fs, clock) = (SimFs::new(5), clock(START_S));
    let store = open(&fs, &clock);
    let table = store.table(schema()).unwrap();
    let mut writer = table.writer().unwrap();
    let steps = 3 * i64::try_from(MARKS_MAX).unwrap();
    for step in 0..steps {
        set(&clock, START_S + step);
        append(&mut writer, step..step + 1);
        tick(&store);
    }
    let seconds = seen(&table);
    (0..steps).for_each(|step| expect(&seconds, step..step + 1, START_S + step + 1, "long lived"));
    assert!(store.counters().contains(&("blocks_taken", 4)), "{:?}", store.counters());
    // A writer that ended leaves such a block to nobody.
    let mut last = steps;
    while store.inner.core.view.load().blocks().all(|view| !view.block.is_retired()) {
        set(&clock, START_S + last);
        append(&mut writer, last..last + 1);
        tick(&store);
        last += 1;
    }
    drop(writer);
    append(&mut table.writer().unwrap(), last..last + 1);
    tick(&store);
    assert_eq!(seen(&table).len(), usize::try_from(last + 1).unwrap());
    expect(&seen(&table), last..last + 1, START_S + last, "the next writer");
}

#[test]
fn the_column_is_the_tables_own_and_the_policy_is_part_of_it() {
    let (fs, clock) = (SimFs::new(6), clock(START_S));
    let store = open(&fs, &clock);
    for taken in [schema().tag("ingest_time"), schema().f64("ingest_time", "")] {
        assert!(matches!(store.table(taken), Err(Error::InvalidName { .. })));
    }
    let table = store.table(schema()).unwrap();
    let without = Schema::new("seen").tag("who").i64("number", "");
    assert!(matches!(store.table(without), Err(Error::SchemaConflict { .. })));
    assert!(store.table(Schema::new("other").f64("ingest_time", "")).is_ok());
    let mut writer = table.writer().unwrap();
    let given = writer.append(row! { who: "a", ingest_time: 1.0 });
    assert!(matches!(given, Err(Error::UnknownField { .. })));
}
