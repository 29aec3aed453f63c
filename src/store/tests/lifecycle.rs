//! Compaction and retention on the simulator: nothing is lost, nothing is there twice, whatever the moment.

use super::*;
use crate::storage::edit::Tier;
use crate::store::Maintained;
use std::time::Duration;

/// As [`open_sim`], with a small fan-in.
fn open_small(fs: &Arc<SimFs>) -> Result<Store> {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    let options = options.compact_fan_in(3).seal_partitions_max(3);
    Store::open_on(fs.clone(), options.without_background(), Path::new("/store"))
}

/// Tier and rows of each segment, by partition.
fn segments(store: &Store) -> BTreeMap<(i64, i64), Vec<(Tier, u64)>> {
    let view = store.inner.core.view.load();
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for segment in view.tables.values().flat_map(|table| table.segments.iter()) {
        let meta = &segment.meta;
        found.entry((meta.partition_start_ns, meta.partition_ns)).or_default().push((meta.tier, meta.rows));
    }
    found
}

fn files(fs: &SimFs) -> usize {
    use crate::fs::FileSystem;
    fs.read_dir(Path::new("/store/segments")).unwrap().unwrap().len()
}

fn whole(table: &Table, rows: i64) {
    let found = rows_of(table);
    assert_eq!(found.len() as i64, rows);
    assert!(found.values().all(|times| *times == 1));
}

#[test]
fn old_partitions_become_one_cold_segment_each() {
    let fs = SimFs::new(1);
    let store = open_small(&fs).unwrap();
    let table = store.table(numbered().partition(Duration::from_secs(86_400))).unwrap();
    let mut writer = table.writer().unwrap();
    // Five days, sealed in ten pieces.
    for piece in 0..10 {
        append(&mut writer, "a", piece * 720..(piece + 1) * 720).unwrap();
        store.seal().unwrap();
    }
    let before = segments(&store).values().map(Vec::len).sum::<usize>();
    assert!(before > 10);
    let done = store.maintain().unwrap();
    let after = segments(&store);
    assert!(after.values().all(|segments| segments.len() == 1 && segments[0].0 == Tier::Cold), "{after:?}");
    assert_eq!(done.compaction_segments_written as usize, after.len());
    assert_eq!(done.compacted_segments as usize, before);
    assert_eq!(files(&fs), 2 * after.len(), "what was replaced is gone");
    whole(&table, 7_200);
    assert_eq!(store.maintain().unwrap(), Maintained::default(), "there is nothing more to do");
    drop((writer, table, store));
    let store = open_small(&fs).unwrap();
    assert_eq!(segments(&store), after);
    whole(&store.existing("numbered").unwrap(), 7_200);
}

#[test]
fn overlap_segments_are_split_into_their_partitions() {
    let fs = SimFs::new(2);
    let store = open_small(&fs).unwrap();
    let table = store.table(numbered().partition(Duration::from_secs(3_600))).unwrap();
    let mut writer = table.writer().unwrap();
    // Thirty hours, of which a seal gives two partitions and an overlap segment.
    append(&mut writer, "a", 0..900).unwrap();
    store.seal().unwrap();
    append(&mut writer, "b", 0..1_800).unwrap();
    store.seal().unwrap();
    assert!(segments(&store).keys().any(|(_, width)| *width == 0));
    store.maintain().unwrap();
    let after = segments(&store);
    assert!(after.keys().all(|(_, width)| *width == 3_600_000_000_000), "{after:?}");
    assert!(after.values().all(|segments| segments.len() == 1), "{after:?}");
    whole(&table, 2_700);
}

#[test]
fn late_rows_of_a_cold_partition_wait_until_they_are_many() {
    let fs = SimFs::new(3);
    let store = open_small(&fs).unwrap();
    let table = store.table(numbered().partition(Duration::from_secs(86_400 * 28))).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, "a", 1..1_000).unwrap();
    store.maintain().unwrap();
    append(&mut writer, "b", 1..10).unwrap();
    store.maintain().unwrap();
    let of = |tiers: &[(Tier, u64)]| segments(&store).into_values().next().unwrap() == tiers;
    assert!(of(&[(Tier::Cold, 999), (Tier::Sealed, 9)]), "{:?}", segments(&store));
    append(&mut writer, "b", 10..1_100).unwrap();
    store.maintain().unwrap();
    assert!(of(&[(Tier::Cold, 2_098)]), "{:?}", segments(&store));
    assert_eq!(rows_of(&table).len(), 2_098);
}

#[test]
fn hot_partitions_are_merged_by_the_fan_in() {
    let fs = SimFs::new(4);
    let store = open_small(&fs).unwrap();
    let table =
        store.table(Schema::new("t").tag("a").i64("n", "").partition(Duration::from_secs(86_400 * 364))).unwrap();
    let mut writer = table.writer().unwrap();
    for n in 0..8_i64 {
        let _ = writer.append_at(now(), row! { a: "x", n: n }).unwrap();
        store.seal().unwrap();
        store.maintain().unwrap();
    }
    let tiers: Vec<_> = segments(&store).into_values().flatten().collect();
    assert_eq!(tiers, [(Tier::Merged, 3), (Tier::Merged, 3), (Tier::Sealed, 1), (Tier::Sealed, 1)]);
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_or_the_new() {
    let build = |fs: &Arc<SimFs>| {
        let store = open_small(fs).unwrap();
        let table = store.table(numbered().partition(Duration::from_secs(3_600))).unwrap();
        let mut writer = table.writer().unwrap();
        for piece in 0..3 {
            append(&mut writer, "a", piece * 70..(piece + 1) * 70).unwrap();
            store.seal().unwrap();
        }
        (store, table)
    };
    let fs = SimFs::new(0);
    let (store, _) = build(&fs);
    let first = fs.operations();
    store.maintain().unwrap();
    let last = fs.operations();
    assert!(last > first + 20);
    for operation in first..last {
        let fs = SimFs::new(operation);
        fs.crash_at(operation);
        let (store, table) = build(&fs);
        assert!(store.maintain().is_err() || fs.is_gone());
        drop((store, table));
        for fs in [fs.kill(), fs.crash(operation), fs.crash(operation + 1_000)] {
            let store = open_small(&fs).unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            whole(&store.existing("numbered").unwrap(), 210);
            assert_eq!(files(&fs), 2 * segments(&store).values().map(Vec::len).sum::<usize>(), "operation {operation}");
            // It is due again, and done.
            store.maintain().unwrap();
            whole(&store.existing("numbered").unwrap(), 210);
            assert!(segments(&store).values().all(|segments| segments.len() == 1), "operation {operation}");
        }
    }
}

#[test]
fn a_full_disk_leaves_no_half_compaction_behind() {
    use crate::fs::sim::{Fault, FaultKind};
    let fs = SimFs::new(5);
    let store = open_small(&fs).unwrap();
    let table = store.table(numbered().partition(Duration::from_secs(3_600))).unwrap();
    append(&mut table.writer().unwrap(), "a", 0..600).unwrap();
    store.seal().unwrap();
    let before = files(&fs);
    for after in 0..60 {
        fs.fail_after(after, Fault { kind: FaultKind::Enospc, once: true });
        let error = store.maintain().err();
        fs.repair();
        if error.is_none() {
            break;
        }
        assert!(matches!(error, Some(Error::StorageFull { .. })), "{error:?}");
        let named = segments(&store).values().map(Vec::len).sum::<usize>();
        assert_eq!(files(&fs), 2 * named, "after {after}");
        whole(&table, 600);
    }
    assert!(before > 0);
    store.maintain().unwrap();
    whole(&table, 600);
}

#[test]
fn a_segment_that_cannot_be_read_is_left_alone_and_the_others_go_on() {
    use crate::fs::FileSystem;
    let fs = SimFs::new(6);
    let store = open_small(&fs).unwrap();
    let table = store.table(numbered().partition(Duration::from_secs(86_400))).unwrap();
    let mut writer = table.writer().unwrap();
    for piece in 0..4 {
        append(&mut writer, "a", piece * 1_440..(piece + 1) * 1_440).unwrap();
        store.seal().unwrap();
    }
    let view = store.inner.core.view.load();
    let id = view.table("numbered").unwrap().segments[0].meta.id;
    drop(view);
    let file = fs.open(Path::new(&format!("/store/segments/{id:010}.parquet"))).unwrap().unwrap();
    file.write_at(&[0xFF; 64], 100).unwrap();
    assert!(matches!(store.maintain(), Err(Error::Corrupted { .. })));
    store.maintain().unwrap();
    let cold = segments(&store).values().flatten().filter(|(tier, _)| *tier == Tier::Cold).count();
    assert!(cold >= 3, "{:?}", segments(&store));
}

#[test]
fn retention_drops_whole_partitions_and_keeps_what_is_looked_at() {
    let fs = SimFs::new(7);
    let store = open_small(&fs).unwrap();
    let day = Duration::from_secs(86_400);
    let schema = Schema::new("t").tag("a").i64("n", "").partition(day).retention(day * 3);
    let table = store.table(schema).unwrap();
    let mut writer = table.writer().unwrap();
    for n in 0..10_i64 {
        let time = Time::from_nanos(now().as_nanos() - n * 86_400_000_000_000);
        let _ = writer.append_at(time, row! { a: "x", n: n }).unwrap();
    }
    store.seal().unwrap();
    let rows = |scan: crate::Scan| scan.map(|batch| batch.unwrap().num_rows()).sum::<usize>();
    let scan = table.scan().unwrap();
    let done = store.maintain().unwrap();
    assert!(done.retired_segments >= 1, "{done:?}");
    assert_eq!(rows(scan), 10, "what a scan began with it ends with");
    let left = rows(table.scan().unwrap());
    // Today's and the three before, and none that ended more than three days ago.
    assert!((3..=5).contains(&left), "{left}");
    assert_eq!(store.maintain().unwrap(), Maintained::default());
    // The scan is over, so its files go.
    store.inner.core.remove_released();
    assert_eq!(files(&fs), 2 * segments(&store).values().map(Vec::len).sum::<usize>());
    drop((writer, table, store));
    assert_eq!(rows(open_small(&fs).unwrap().existing("t").unwrap().scan().unwrap()), left);
}

#[test]
fn the_last_write_wins_wherever_rows_are() {
    let fs = SimFs::new(8);
    let store = open_small(&fs).unwrap();
    let schema = || {
        let schema = Schema::new("t").tag("a").i64("n", "").utf8("text", "");
        schema.dedup(Dedup::LastWrite).partition(Duration::from_secs(3_600))
    };
    let table = store.table(schema()).unwrap();
    let mut expected = BTreeMap::new();
    let mut chance = 1_u64;
    let mut next = |below: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % below
    };
    let mut writers = [table.writer().unwrap(), table.writer().unwrap()];
    let check = |table: &Table, expected: &BTreeMap<(String, i64), (i64, Option<String>)>, place: &str| {
        let mut found = BTreeMap::new();
        for batch in table.scan().unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap().clone();
            let (times, names) = (column("time"), column("a"));
            let (numbers, texts) = (column("n"), column("text"));
            for row in 0..batch.num_rows() {
                let key = (
                    names.as_string_view().value(row).to_string(),
                    times.as_primitive::<TimestampNanosecondType>().value(row),
                );
                let text = texts.as_string_view();
                let text = text.is_valid(row).then(|| text.value(row).to_string());
                let before = found.insert(key.clone(), (numbers.as_primitive::<Int64Type>().value(row), text));
                assert!(before.is_none(), "{place}: {key:?} twice");
            }
        }
        assert!(found == *expected, "{place}: {} of {}", found.len(), expected.len());
    };
    for step in 0..400_i64 {
        for number in 0..next(40) as i64 {
            let writer = &mut writers[next(2) as usize];
            let name = ["x", "y", "z"][next(3) as usize];
            let time = Time::from_nanos(1_700_000_000_000_000_000 + next(600) as i64 * 60_000_000_000);
            let n = step * 1_000 + number;
            let text = (n % 3 != 0).then(|| format!("text {n}, longer than a view is"));
            let _ = writer.append_at(time, row! { a: name, n: n, text: text.as_deref() }).unwrap();
            expected.insert((name.to_string(), time.as_nanos()), (n, text));
        }
        match next(20) {
            0 => drop(store.seal().unwrap()),
            1 => assert!(store.maintain().unwrap() != Maintained::default() || expected.is_empty()),
            2..=4 => check(&table, &expected, &format!("step {step}")),
            _ => {}
        }
    }
    check(&table, &expected, "in the end");
    drop((writers, table));
    let fs = fs.kill();
    drop(store);
    let store = open_small(&fs).unwrap();
    let table = store.existing("t").unwrap();
    check(&table, &expected, "after a kill");
    store.maintain().unwrap();
    check(&table, &expected, "after compaction");
    let rows: u64 = segments(&store).values().flatten().map(|(_, rows)| *rows).sum();
    // What came late to a cold partition waits beside it.
    assert!((expected.len() as u64..2 * expected.len() as u64).contains(&rows), "{rows} of {}", expected.len());
    assert_eq!(store.maintain().unwrap(), Maintained::default());
}

#[test]
fn many_overlapping_segments_are_read_with_few_descriptors() {
    let fs = SimFs::new(9);
    let store = open_small(&fs).unwrap();
    let table = store.table(Schema::new("t").tag("a").i64("n", "").dedup(Dedup::LastWrite)).unwrap();
    let mut writer = table.writer().unwrap();
    for n in 0..60_i64 {
        for minute in 0..3 {
            let time = Time::from_nanos(1_700_000_000_000_000_000 + (minute + n % 2) * 60_000_000_000);
            let _ = writer.append_at(time, row! { a: "x", n: n }).unwrap();
        }
        store.seal().unwrap();
    }
    let numbers = |table: &Table| -> Vec<i64> {
        let batches = table.scan().unwrap().map(|batch| batch.unwrap());
        let column = |batch: arrow::array::RecordBatch| batch.column(2).as_primitive::<Int64Type>().values().to_vec();
        batches.flat_map(column).collect()
    };
    assert_eq!(segments(&store).values().map(Vec::len).sum::<usize>(), 60);
    assert_eq!(numbers(&table), [58, 59, 59, 59]);
    store.maintain().unwrap();
    assert_eq!(segments(&store).values().map(Vec::len).sum::<usize>(), 1);
    assert_eq!(numbers(&table), [58, 59, 59, 59]);
}

#[test]
fn a_pause_stops_no_writer_and_no_caller() {
    let dir = tempfile::tempdir().unwrap();
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(256 << 10);
    let store = options.compact_fan_in(2).open(dir.path().join("kota")).unwrap();
    let table = store.table(numbered().partition(Duration::from_secs(86_400))).unwrap();
    let pause = (store.pause_background(), store.pause_background());
    // Several times what live blocks may hold: full blocks are sealed all the same.
    append(&mut table.writer().unwrap(), "a", 0..20_000).unwrap();
    store.seal().unwrap();
    let counters: BTreeMap<_, _> = store.counters().into_iter().collect();
    assert_eq!((counters["compactions"], counters["overloaded"]), (0, 0));
    assert!(counters["blocks_recycled"] > 0, "{counters:?}");
    assert!(store.maintain().unwrap().compacted_segments > 0);
    assert!(segments(&store).values().all(|segments| segments.len() == 1));
    whole(&table, 20_000);
    drop(pause);
    store.close().unwrap();
}

#[test]
fn a_compaction_that_is_paused_is_hurried_by_whoever_waits_for_it() {
    let pace = crate::maintain::upkeep::Pace::default();
    let now = std::time::Instant::now;
    assert!(pace.wait(now()));
    pace.pause();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pace.wait(now() + Duration::from_secs(3_600)));
        let hurry = pace.hurry();
        assert!(waiting.join().unwrap(), "neither the pause nor the rate holds it");
        drop(hurry);
        let waiting = scope.spawn(|| pace.wait(now()));
        pace.resume();
        assert!(waiting.join().unwrap());
        pace.pause();
        let waiting = scope.spawn(|| pace.wait(now()));
        pace.stop();
        assert!(!waiting.join().unwrap(), "the store closes, pause or not");
    });
    assert!(!pace.wait(now()));
}

#[test]
fn the_store_compacts_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().compact_fan_in(3).open(dir.path().join("kota")).unwrap();
    let table =
        store.table(Schema::new("t").tag("a").i64("n", "").partition(Duration::from_secs(364 * 86_400))).unwrap();
    let mut writer = table.writer().unwrap();
    for n in 0..3_i64 {
        let _ = writer.append_at(now(), row! { a: "x", n: n }).unwrap();
        store.seal().unwrap();
    }
    let compactions = || store.counters().into_iter().find(|(name, _)| *name == "compactions").unwrap().1;
    let began = std::time::Instant::now();
    while compactions() == 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "nobody compacts");
        std::thread::yield_now();
    }
    assert_eq!(segments(&store).into_values().flatten().collect::<Vec<_>>(), [(Tier::Merged, 3)]);
}

#[cfg(feature = "sql")]
#[test]
fn what_runs_is_shown() {
    use crate::maintain::running::Kind;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(Schema::new("t").tag("a").i64("n", "")).unwrap();
    let list = &store.inner.core.upkeep.running;
    let running = list.begin(Kind::Merge, &table.schema(), Some(0), (200, 1_000));
    running.set_rows(50);
    let rows = store.query("SELECT kind, table_name, bytes_done, bytes_total FROM system.background").unwrap();
    assert_eq!(rows.num_rows(), 1);
    let text = rows.to_string();
    assert!(["merge", "| t ", "250", "1000"].iter().all(|part| text.contains(part)), "{text}");
    drop(running);
    assert_eq!(store.query("SELECT * FROM system.background").unwrap().num_rows(), 0);
}
