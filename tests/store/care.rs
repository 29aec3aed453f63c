//! Tending a store on the real file system: a backup under load is one moment, damage is found, named and set aside.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use denyut::prelude::*;
use denyut::{Mending, Verification};

use crate::chance::{Chance, seed};

/// Blocks that fill all the time.
fn options() -> Options {
    Store::options().block_bytes_min(64 << 10).block_bytes_max(256 << 10).live_bytes_max(16 << 20)
}

fn verify(path: &Path) -> Verification {
    options().verify(path, |_| ControlFlow::Continue(())).unwrap()
}

fn number(store: &Store, sql: &str) -> i64 {
    let rows = store.query(sql).unwrap();
    let column = rows.batches()[0].column(0).clone();
    denyut::arrow::array::AsArray::as_primitive::<denyut::arrow::datatypes::Int64Type>(&column).value(0)
}

#[test]
fn a_backup_under_load_is_one_moment_of_all_tables() {
    const WRITERS: i64 = 3;
    let dir = tempfile::tempdir().unwrap();
    let store = options().open(dir.path().join("kota")).unwrap();
    let schema = |name: &str| Schema::new(name).tag("writer").i64("n", "");
    let tables = ["first", "second"].map(|name| store.table(schema(name)).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let returned: Arc<[AtomicI64; WRITERS as usize]> = Arc::default();
    // Up to where the writers go, so that a slow machine does not verify what a fast one appends.
    let allowed = Arc::new(AtomicI64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|who| {
            let mut writers = tables.each_ref().map(|table| table.writer().unwrap());
            let name = who.to_string();
            let series = tables.each_ref().map(|table| table.series([&*name]).unwrap());
            let (stop, returned, allowed) = (stop.clone(), returned.clone(), allowed.clone());
            std::thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    if n >= allowed.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                        continue;
                    }
                    let time = Time::from_nanos(1_700_000_000_000_000_000 + n);
                    for (writer, series) in writers.iter_mut().zip(series) {
                        let _ = writer.append_to(series, time, &[n.into()]).unwrap();
                    }
                    n += 1;
                    returned[who as usize].store(n, Ordering::SeqCst);
                }
                n
            })
        })
        .collect();
    let mut last = 0;
    for round in 0..4 {
        // Half of the round's rows before the backup, so that blocks were sealed and recycled, and half under it.
        allowed.store((round + 1) * 20_000, Ordering::Relaxed);
        let enough = || returned.iter().all(|n| n.load(Ordering::SeqCst) > round * 20_000 + 10_000);
        while !enough() {
            std::thread::yield_now();
        }
        let before: Vec<i64> = returned.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        let copy = dir.path().join(format!("copy{round}"));
        let made = store.backup(&copy).unwrap();
        let found = verify(&copy);
        assert!(found.is_whole(), "{found}");
        assert_eq!((found.rows, found.uncommitted_rows), (made.rows, 0));
        let copy = options().open(&copy).unwrap();
        assert!(copy.recovery().is_whole());
        assert_eq!(
            number(&copy, "SELECT (SELECT count(*) FROM first) + (SELECT count(*) FROM second)") as u64,
            made.rows
        );
        for who in 0..WRITERS {
            let counts = ["first", "second"].map(|table| {
                let rows = number(&copy, &format!("SELECT count(*) FROM {table} WHERE writer = '{who}'"));
                let numbers = number(&copy, &format!("SELECT count(DISTINCT n) FROM {table} WHERE writer = '{who}'"));
                let top = number(&copy, &format!("SELECT coalesce(max(n), -1) FROM {table} WHERE writer = '{who}'"));
                assert_eq!((numbers, top), (rows, rows - 1), "{table}: a prefix, none twice");
                rows
            });
            assert!(counts[0] >= before[who as usize], "rows of appends that returned: {counts:?} {before:?}");
            assert!(counts[0] == counts[1] || counts[0] == counts[1] + 1, "two moments: {counts:?}");
        }
        assert!(made.rows > last, "{} rows after {last}", made.rows);
        last = made.rows;
    }
    stop.store(true, Ordering::Relaxed);
    let appended: i64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    assert_eq!(number(&store, "SELECT count(*) FROM second"), appended);
    assert!(store.verify().unwrap().is_whole());
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.file_name().unwrap() != "lock" {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_bit_anywhere_in_a_backup_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    let store = options().open(dir.path().join("kota")).unwrap();
    let water = store.table(Schema::new("water").tag("gate").f64("level", "cm").utf8("note", "")).unwrap();
    let mut writer = water.writer().unwrap();
    for n in 0..3_000_i64 {
        let note = format!("row {n} of a note that is too long for a view");
        let _ = writer.append(row! { gate: ["x", "y"][n as usize % 2], level: n as f64, note: &*note }).unwrap();
        if n == 2_500 {
            store.seal().unwrap();
        }
    }
    store.backup(&copy).unwrap();
    assert!(verify(&copy).is_whole());
    let mut chance = Chance::new(seed());
    let files = files(&copy);
    for _ in 0..400 {
        let file = &files[chance.within(0..files.len() as u64) as usize];
        let whole = fs::read(file).unwrap();
        let (at, bit) = (chance.within(0..whole.len() as u64) as usize, chance.within(0..8));
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << bit;
        // In place: the store shares segments with its backup.
        fs::write(file, &flipped).unwrap();
        let found = verify(&copy);
        fs::write(file, &whole).unwrap();
        let named = found.damages.iter().any(|damage| damage.path == *file);
        assert!(named, "bit {bit} of byte {at} of {}: {found}", file.display());
    }
    assert!(verify(&copy).is_whole());
}

#[test]
fn queries_over_a_damaged_segment_say_so_and_all_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let store = options().open(&path).unwrap();
    let hour = std::time::Duration::from_secs(3_600);
    let water = store.table(Schema::new("water").tag("gate").i64("n", "").partition(hour)).unwrap();
    let other = store.table(Schema::new("other").tag("gate").i64("n", "")).unwrap();
    let mut writer = water.writer().unwrap();
    // Four hours, a segment each: 1970-01-01T00 to 03.
    for n in 0..4_000_i64 {
        let _ = writer.append_at(Time::from_millis(n * 3_600).unwrap(), row! { gate: "x", n: n }).unwrap();
    }
    let _ = other.writer().unwrap().append(row! { gate: "x", n: 1_i64 }).unwrap();
    store.seal().unwrap();
    let segment = path.join("segments/0000000002.parquet");
    let whole = fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 4;
    fs::write(&segment, &damaged).unwrap();
    let found = store.verify().unwrap();
    assert_eq!((found.damages.len(), found.damages[0].segment), (1, Some(2)), "{found}");
    let repair = store.repair().unwrap();
    assert_eq!(repair.mended[0].how, Mending::SetAside, "{repair}");

    for sql in ["SELECT count(*) FROM water", "SELECT sum(n) FROM water WHERE time >= '1970-01-01T01:30:00Z'"] {
        match store.query(sql) {
            Err(Error::SegmentAside { table, segment: 2, rows: 1_000, .. }) => assert_eq!(table, "water"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    let within = "SELECT count(*) FROM water WHERE time < '1970-01-01T01:00:00Z'";
    assert_eq!(number(&store, within), 1_000);
    assert_eq!(number(&store, "SELECT count(*) FROM other"), 1);
    assert_eq!(number(&store, "SELECT CAST(segment_id AS BIGINT) FROM system.segments WHERE aside"), 2);
    drop((writer, water, other));
    store.close().unwrap();
    drop(store);

    let store = options().allow_partial(true).open(&path).unwrap();
    assert_eq!(store.recovery().segments_aside, 1);
    assert_eq!(number(&store, "SELECT count(*) FROM water"), 3_000);
    assert_eq!(number(&store, within), 1_000);
    let partial = "SELECT CAST(value AS BIGINT) FROM system.counters WHERE name = 'partial_answers'";
    assert_eq!(number(&store, partial), 1, "the other answer lacked nothing");
    // Restored from a backup, which here is memory.
    fs::write(path.join("aside/0000000002.parquet"), &whole).unwrap();
    assert_eq!(store.repair().unwrap().mended[0].how, Mending::TakenBack);
    assert_eq!(number(&store, "SELECT count(*) FROM water"), 4_000);
}
