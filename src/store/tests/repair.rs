//! What is damaged is mended or set aside, says so, and comes back when it is restored.

use std::ops::ControlFlow;

use super::care::files;
use super::verify::{flip, verify_closed};
use super::*;
use crate::fs::FileSystem;
use crate::{Mending, Repair};

/// Rows of the segment that gets damaged, and of the others: another of the table, live ones, another table.
const SEALED: std::ops::Range<i64> = 0..200;
const OTHERS: std::ops::Range<i64> = 300_000..300_080;

fn made(fs: &Arc<SimFs>) -> Store {
    let store = open_sim(fs).unwrap();
    let day = std::time::Duration::from_secs(364 * 86_400);
    let table = store.table(numbered().partition(day)).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, "a", SEALED).unwrap();
    store.seal().unwrap();
    append(&mut writer, "b", OTHERS.start..OTHERS.start + 50).unwrap();
    store.seal().unwrap();
    append(&mut writer, "b", OTHERS.start + 50..OTHERS.end).unwrap();
    let other = store.table(Schema::new("other").tag("gate").f64("level", "")).unwrap();
    let _ = other.writer().unwrap().append(row! { gate: "x", level: 1.0 }).unwrap();
    store.sync().unwrap();
    store
}

fn reopen(fs: &Arc<SimFs>, partial: bool) -> Store {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    Store::open_on(fs.clone(), options.allow_partial(partial).without_background(), Path::new("/store")).unwrap()
}

fn how(repair: &Repair) -> Vec<(u64, Mending)> {
    repair.mended.iter().map(|mended| (mended.segment, mended.how)).collect()
}

/// The first segment's file.
const PARQUET: &str = "/store/segments/0000000001.parquet";
const INDEX: &str = "/store/segments/0000000001.series";

fn flip_durably(fs: &SimFs, path: &str, at: usize) {
    flip(fs, path, at, 2);
    fs.open(Path::new(path)).unwrap().unwrap().sync_data().unwrap();
}

/// All rows but those of the damaged segment, none twice.
fn check_others(store: &Store, at: &str) {
    let rows = rows_of(&store.existing("numbered").unwrap());
    let numbers: Vec<i64> = rows.keys().map(|(_, number)| *number).collect();
    assert_eq!(numbers, OTHERS.collect::<Vec<_>>(), "{at}");
    assert!(rows.values().all(|times| *times == 1), "{at}");
}

#[test]
fn a_damaged_series_index_is_made_again_and_proven() {
    let fs = SimFs::new(1);
    let store = made(&fs);
    let index = files(&fs, "/store")[INDEX].clone();
    for at in 0..index.len() {
        flip(&fs, INDEX, at, at % 8);
        let repair = store.repair().unwrap();
        assert_eq!(how(&repair), [(1, Mending::IndexRebuilt)], "byte {at}: {repair}");
        assert!(repair.left.is_empty() && !repair.found.is_whole());
        assert_eq!(files(&fs, "/store")[INDEX], index, "byte {at}");
    }
    fs.remove(Path::new(INDEX)).unwrap();
    assert_eq!(how(&store.repair().unwrap()), [(1, Mending::IndexRebuilt)]);
    assert_eq!(files(&fs, "/store")[INDEX], index);
    assert_eq!(rows_of(&store.existing("numbered").unwrap()).len(), 280);
    assert_eq!(store.repair().unwrap().to_string(), "nothing to mend");
}

#[test]
fn a_damaged_segment_is_set_aside_and_comes_back_restored() {
    let fs = SimFs::new(2);
    let store = made(&fs);
    let table = store.existing("numbered").unwrap();
    flip_durably(&fs, PARQUET, 700);
    let whole = store.stat().unwrap();
    assert_eq!((whole.total.rows, whole.total.live_rows, whole.total.segments), (281, 31, 2), "{whole}");
    assert!(whole.total.oldest_unsealed.is_some());
    let repair = store.repair().unwrap();
    assert_eq!(how(&repair), [(1, Mending::SetAside)], "{repair}");
    let stat = store.stat().unwrap();
    assert_eq!((stat.total.rows, stat.total.segments_aside, stat.total.rows_aside), (81, 1, 200), "{stat}");
    assert_eq!(stat.tables.iter().map(|table| table.table.as_str()).collect::<Vec<_>>(), ["numbered", "other"]);
    assert_eq!(stat.tables[0].time, OTHERS.map(time_of).min().zip(OTHERS.map(time_of).max()));
    assert!(stat.to_string().contains("1 damaged segment with 200 rows is set aside"), "{stat}");
    assert_eq!((repair.mended[0].table.as_str(), repair.mended[0].rows), ("numbered", 200));
    assert_eq!(repair.mended[0].time, (time_of(0), time_of(199)));
    let Err(Error::SegmentAside { table: name, segment, path, rows, min_time, max_time }) = table.scan() else {
        panic!("it answers less");
    };
    assert_eq!((name.as_str(), segment, rows, min_time, max_time), ("numbered", 1, 200, time_of(0), time_of(199)));
    assert_eq!(path, Path::new("/store/aside/0000000001.parquet"));
    let names: Vec<String> = files(&fs, "/store").into_keys().collect();
    assert!(names.contains(&"/store/aside/0000000001.series".to_string()), "{names:?}");
    assert!(!names.contains(&PARQUET.to_string()), "{names:?}");
    assert!(store.existing("other").unwrap().scan().is_ok(), "other tables are whole");
    // Writing goes on, repairing again changes nothing, and the next life knows.
    append(&mut table.writer().unwrap(), "b", OTHERS.end..OTHERS.end).unwrap();
    assert_eq!(how(&store.repair().unwrap()), []);
    drop(table);
    store.close().unwrap();
    drop(store);
    assert_eq!(verify_closed(&fs, "/store").segments_aside, 1);
    let store = reopen(&fs, true);
    assert_eq!((store.recovery().segments, store.recovery().segments_aside), (2, 1));
    check_others(&store, "partial");
    let counters: BTreeMap<_, _> = store.counters().into_iter().collect();
    assert_eq!(counters["partial_answers"], 1);
    // Somebody restores the file.
    flip_durably(&fs, "/store/aside/0000000001.parquet", 700);
    let repair = store.repair().unwrap();
    assert_eq!(how(&repair), [(1, Mending::TakenBack)], "{repair}");
    let all = |store: &Store| rows_of(&store.existing("numbered").unwrap()).len();
    assert_eq!(all(&store), 280);
    store.close().unwrap();
    drop(store);
    let store = open_sim(&fs).unwrap();
    assert_eq!((all(&store), store.recovery().segments_aside), (280, 0));
}

#[test]
fn two_damages_of_one_segment_are_not_mended_into_other_rows() {
    for at in [8, 40, 58] {
        let fs = SimFs::new(3);
        let store = made(&fs);
        flip(&fs, INDEX, at, 1);
        flip(&fs, PARQUET, 900, 1);
        assert_eq!(how(&store.repair().unwrap()), [(1, Mending::SetAside)], "byte {at}");
        let index = files(&fs, "/store").remove("/store/aside/0000000001.series").unwrap();
        fs.remove(Path::new("/store/aside/0000000001.series")).unwrap();
        assert_eq!(how(&store.repair().unwrap()), [], "byte {at}");
        // The Parquet file alone restores both.
        flip(&fs, "/store/aside/0000000001.parquet", 900, 1);
        assert_eq!(how(&store.repair().unwrap()), [(1, Mending::TakenBack)], "byte {at}");
        assert_ne!(files(&fs, "/store")[INDEX], index);
        assert_eq!(rows_of(&store.existing("numbered").unwrap()).len(), 280);
    }
}

#[test]
fn every_other_damage_is_told_and_left() {
    let fs = SimFs::new(4);
    let store = made(&fs);
    flip(&fs, "/store/series.log", 80, 0);
    let repair = store.repair().unwrap();
    assert!(repair.mended.is_empty() && repair.left.len() == 1, "{repair}");
    assert!(matches!(store.repair_with(|_| ControlFlow::Break(())), Err(Error::Stopped { .. })));
}

#[test]
fn a_crash_at_any_operation_of_setting_aside_is_finished_by_the_next_life() {
    let mut crashes = 0;
    for operation in 0.. {
        let fs = SimFs::new(operation);
        let store = made(&fs);
        flip_durably(&fs, PARQUET, 700);
        fs.crash_at(fs.operations() + operation);
        let done = store.repair().is_ok();
        for seed in 0..6 {
            let fs = if seed == 5 { fs.kill() } else { fs.crash(seed) };
            let at = format!("operation {operation}, seed {seed}");
            let store = reopen(&fs, true);
            let again = how(&store.repair().unwrap());
            assert!(again.is_empty() || again == [(1, Mending::SetAside)], "{at}: {again:?}");
            assert!(again.is_empty() || !done, "{at}: it was durable");
            check_others(&store, &at);
            drop(store);
            let store = reopen(&fs, true);
            assert_eq!(store.recovery().segments_aside, 1, "{at}");
            assert!(files(&fs, "/store").contains_key("/store/aside/0000000001.parquet"), "{at}");
            // Nothing of it was lost: restored it comes back.
            flip(&fs, "/store/aside/0000000001.parquet", 700, 2);
            assert_eq!(how(&store.repair().unwrap()), [(1, Mending::TakenBack)], "{at}");
            crashes += 1;
        }
        if done {
            break;
        }
    }
    assert!(crashes > 40, "{crashes}");
}

#[test]
fn a_crash_at_any_operation_of_taking_back_is_finished_too() {
    for operation in 0.. {
        let fs = SimFs::new(operation);
        let store = made(&fs);
        flip_durably(&fs, PARQUET, 700);
        store.repair().unwrap();
        flip_durably(&fs, "/store/aside/0000000001.parquet", 700);
        fs.crash_at(fs.operations() + operation);
        let done = store.repair().is_ok();
        for seed in 0..6 {
            let fs = if seed == 5 { fs.kill() } else { fs.crash(seed) };
            let store = reopen(&fs, false);
            let back = how(&store.repair().unwrap());
            assert_eq!(back.is_empty(), store.recovery().segments_aside == 0, "operation {operation}, seed {seed}");
            assert!(back.is_empty() || !done, "operation {operation}, seed {seed}");
            let rows = rows_of(&store.existing("numbered").unwrap()).len();
            assert_eq!(rows, 280, "operation {operation}, seed {seed}");
        }
        if done {
            break;
        }
    }
}

#[test]
fn a_damaged_summary_is_made_again_and_costs_no_rows() {
    let fs = SimFs::new(7);
    let store = open_sim(&fs).unwrap();
    let table = store.table(Schema::new("cpu").tag("host").f64("usage", "%").i64("n", "")).unwrap();
    let mut writer = table.writer().unwrap();
    for n in 0..1_600_i64 {
        let usage = (n * 2_654_435_761 % 1_009) as f64 / 3.0;
        let _ = writer.append_at(Time::from_nanos(n * 1_000_000_000), row! { host: "a", usage: usage, n: n }).unwrap();
    }
    store.seal().unwrap();
    let index = files(&fs, "/store")[INDEX].clone();
    assert_eq!(index[8], 2, "there is a summary");
    for at in (0..index.len()).step_by(7) {
        flip(&fs, INDEX, at, at % 8);
        let found = store.verify().unwrap();
        assert_eq!(found.damages.len(), 1, "byte {at}: {found}");
        let repair = store.repair().unwrap();
        assert_eq!(how(&repair), [(1, Mending::IndexRebuilt)], "byte {at}: {repair}");
        assert_eq!(files(&fs, "/store")[INDEX], index, "byte {at}");
    }
    let damage = store.verify().unwrap();
    assert!(damage.is_whole(), "{damage}");
}
