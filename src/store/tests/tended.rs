//! Verifying, repairing and copying a store whose segments are merged and dropped meanwhile.

use std::ops::ControlFlow;
use std::time::Duration;

use super::care::files;
use super::verify::{flip, verify_closed};
use super::*;
use crate::Mending;
use crate::fs::FileSystem;
use crate::model::now;

const COPY: &str = "/copies/monday";

fn open_small(fs: &Arc<SimFs>, path: &str) -> Store {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    Store::open_on(fs.clone(), options.compact_fan_in(3).without_background(), Path::new(path)).unwrap()
}

/// A table of days in which every third row is written twice, and one that keeps all.
fn made(fs: &Arc<SimFs>) -> (Store, Vec<Writer>) {
    let store = open_small(fs, "/store");
    let day = Duration::from_secs(86_400);
    let all = store.table(numbered().partition(day)).unwrap();
    let last = Schema::new("last").tag("writer").i64("number", "").dedup(Dedup::LastWrite).partition(day);
    let last = store.table(last).unwrap();
    (store, vec![all.writer().unwrap(), last.writer().unwrap()])
}

fn write(writers: &mut [Writer], numbers: std::ops::Range<i64>) {
    append(&mut writers[0], "a", numbers.clone()).unwrap();
    for number in numbers {
        for _ in 0..if number % 3 == 0 { 2 } else { 1 } {
            let time = Time::from_nanos(1_700_000_000_000_000_000 + number * 60_000_000_000);
            let _ = writers[1].append_at(time, row! { writer: "a", number: number }).unwrap();
        }
    }
}

fn numbers(store: &Store, table: &str) -> Vec<i64> {
    let scan = store.existing(table).unwrap().scan().unwrap();
    let mut numbers: Vec<i64> = scan
        .flat_map(|batch| {
            let batch = batch.unwrap();
            batch.column_by_name("number").unwrap().as_primitive::<Int64Type>().values().to_vec()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn merged_segments_verify_and_every_damage_of_them_is_found() {
    let fs = SimFs::new(1);
    let (store, mut writers) = made(&fs);
    for piece in 0..6 {
        write(&mut writers, piece * 300..(piece + 1) * 300);
        store.seal().unwrap();
    }
    assert!(store.maintain().unwrap().compacted_segments > 0);
    let found = store.verify().unwrap();
    assert!(found.is_whole(), "{found}");
    assert_eq!(found.rows, 3_600);
    for (path, bytes) in files(&fs, "/store").into_iter().filter(|(path, _)| path.contains("/segments/")) {
        for at in (0..bytes.len()).step_by(211) {
            flip(&fs, &path, at, at % 8);
            let found = store.verify().unwrap();
            assert!(found.damages.iter().any(|damage| damage.path == Path::new(&path)), "{path} at {at}: {found}");
            flip(&fs, &path, at, at % 8);
        }
    }
}

#[test]
fn what_is_read_stays_while_it_is_merged_away() {
    let fs = SimFs::new(2);
    let (store, mut writers) = made(&fs);
    let mut next = 0;
    let mut work = |store: &Store| {
        for _ in 0..3 {
            write(&mut writers, next..next + 200);
            next += 200;
            store.seal().unwrap();
        }
        store.maintain().unwrap();
        next
    };
    let expected = (0..4).map(|_| work(&store)).max().unwrap();
    let mut told = 0;
    let found = store.verify_with(|_| {
        if told < 6 {
            work(&store);
        }
        told += 1;
        ControlFlow::Continue(())
    });
    let found = found.unwrap();
    assert!(found.is_whole() && told > 5, "{found}");
    let before = work(&store);
    assert!(before > expected);
    let mut told = 0;
    let backup = store.inner.core.backup(Path::new(COPY), [7; 16], &mut |_| {
        if told < 6 {
            work(&store);
        }
        told += 1;
        ControlFlow::Continue(())
    });
    backup.unwrap();
    let found = verify_closed(&fs, COPY);
    assert!(found.is_whole(), "{found}");
    let copy = open_small(&fs, COPY);
    for table in ["numbered", "last"] {
        assert!(numbers(&copy, table).into_iter().eq(0..before), "{table}");
    }
}

#[test]
fn a_mended_segment_is_merged_again() {
    let fs = SimFs::new(3);
    let (store, mut writers) = made(&fs);
    for piece in 0..3 {
        write(&mut writers, piece * 200..(piece + 1) * 200);
        store.seal().unwrap();
    }
    let index = files(&fs, "/store").into_keys().find(|path| path.ends_with(".series")).unwrap();
    flip(&fs, &index, 50, 2);
    assert!(matches!(store.maintain(), Err(Error::Corrupted { .. })));
    assert_eq!(store.repair().unwrap().mended[0].how, Mending::IndexRebuilt);
    assert!(store.maintain().unwrap().compacted_segments > 0);
    assert_eq!(store.maintain().unwrap().compacted_segments, 0);
    assert!(numbers(&store, "numbered").into_iter().eq(0..600));
}

#[test]
fn retention_drops_segments_that_are_aside_too() {
    let fs = SimFs::new(4);
    let store = open_small(&fs, "/store");
    let day = Duration::from_secs(86_400);
    let schema = Schema::new("short").tag("t").i64("number", "").partition(day).retention(30 * day);
    let table = store.table(schema).unwrap();
    let mut writer = table.writer().unwrap();
    let at = |days: u64| Time::from_nanos(now().as_nanos() - days as i64 * day.as_nanos() as i64);
    for number in 0..50 {
        let _ = writer.append_at(at(90), row! { t: "x", number: number }).unwrap();
    }
    store.seal().unwrap();
    let _ = writer.append_at(at(1), row! { t: "x", number: 50_i64 }).unwrap();
    store.seal().unwrap();
    let old = files(&fs, "/store").into_keys().find(|path| path.ends_with(".parquet")).unwrap();
    flip(&fs, &old, 500, 2);
    assert_eq!(store.repair().unwrap().mended[0].how, Mending::SetAside);
    assert!(matches!(table.scan(), Err(Error::SegmentAside { .. })));
    assert_eq!(store.maintain().unwrap().retired_segments, 1);
    assert_eq!(numbers(&store, "short"), [50]);
    assert!(fs.read_dir(Path::new("/store/aside")).unwrap().unwrap().is_empty());
    drop((writer, table));
    store.close().unwrap();
    drop(store);
    let store = open_small(&fs, "/store");
    assert_eq!((store.recovery().segments, store.recovery().segments_aside), (1, 0));
}
