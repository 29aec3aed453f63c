//! A reader beside the writer, on the simulator: what the one has, the other sees.

use super::*;
use crate::Reader;
use crate::fs::sim::Fault;
use crate::fs::sim::FaultKind;
use crate::storage::segment_writer::{index_path, parquet_path};

fn reader(fs: &Arc<SimFs>) -> Result<Reader> {
    Reader::open_on(fs.clone(), &Store::options().without_background(), Path::new("/store"))
}

fn read(reader: &Reader) -> BTreeMap<(String, i64), usize> {
    rows_in(reader.scan("numbered").unwrap())
}

#[test]
fn a_reader_sees_rows_fields_tables_and_series_at_once() {
    let fs = SimFs::new(11);
    assert!(matches!(reader(&fs), Err(Error::NotAStore { .. })), "there is no store yet");
    let store = open_sim(&fs).unwrap();
    let reader = reader(&fs).unwrap();
    assert!(reader.tables().unwrap().is_empty());
    let table = store.table(numbered()).unwrap();
    assert!(read(&reader).is_empty());
    let mut writer = table.writer().unwrap();
    for number in 0..3_000 {
        append(&mut writer, &format!("series {}", number / 100), number..number + 1).unwrap();
        if number % 97 == 0 {
            assert_eq!(read(&reader), rows_of(&table), "after row {number}");
        }
        if number % 500 == 250 {
            store.seal().unwrap();
        }
    }
    store.table(numbered().f64("more", "")).unwrap();
    assert_eq!(reader.tables().unwrap()[0].fields().len(), 4);
    assert_eq!(read(&reader), rows_of(&table));
    // Another life of the writing process, while the reader stays.
    drop(writer);
    store.close().unwrap();
    drop((table, store));
    assert_eq!(read(&reader).len(), 3_000);
    let store = open_sim(&fs).unwrap();
    let table = store.existing("numbered").unwrap();
    append(&mut table.writer().unwrap(), "again", 3_000..3_100).unwrap();
    assert_eq!(read(&reader), rows_of(&table));
    assert_eq!(read(&reader).len(), 3_100);
}

#[test]
fn a_scan_keeps_its_moment_while_the_store_moves_on() {
    let fs = SimFs::new(12);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, "a", 0..1_000).unwrap();
    let reader = reader(&fs).unwrap();
    let scan = reader.scan("numbered").unwrap();
    // All of its blocks are sealed, and the files of some go round and round.
    append(&mut writer, "a", 1_000..30_000).unwrap();
    store.seal().unwrap();
    let found = rows_in(scan);
    assert_eq!(found.len(), 1_000);
    assert!(found.values().all(|times| *times == 1));
    assert_eq!(read(&reader).len(), 30_000);
}

#[test]
fn without_a_writer_a_reader_shows_what_was_synced() {
    for seed in 0..20 {
        let fs = SimFs::new(13);
        let store = open_sim(&fs).unwrap();
        let table = store.table(numbered()).unwrap();
        let mut writer = table.writer().unwrap();
        append(&mut writer, "a", 0..1_500).unwrap();
        store.sync().unwrap();
        append(&mut writer, "a", 1_500..1_600).unwrap();
        let after = fs.crash(seed);
        drop((writer, table, store));
        let reader = reader(&after).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let shown = read(&reader);
        assert!((1_500..=1_600).contains(&shown.len()), "seed {seed}: {} rows", shown.len());
        // The process that recovers the store decides the same, and the reader follows it from there.
        let store = open_sim(&after).unwrap();
        let table = store.existing("numbered").unwrap();
        assert_eq!(rows_of(&table), shown, "seed {seed}");
        append(&mut table.writer().unwrap(), "b", 0..10).unwrap();
        assert_eq!(read(&reader), rows_of(&table), "seed {seed}");
    }
}

#[test]
fn released_segments_stay_until_the_last_reader_has_gone() {
    let fs = SimFs::new(14);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    append(&mut table.writer().unwrap(), "a", 0..100).unwrap();
    store.seal().unwrap();
    let core = &store.inner.core;
    let take_out = || {
        let segments = core.commit(
            |_| Vec::new(),
            |view| {
                let table = view.tables.keys().next().copied().unwrap();
                std::mem::take(&mut view.table_mut(table).unwrap().segments)
            },
        );
        core.release_segments(segments.unwrap().to_vec());
    };
    let files = || crate::fs::FileSystem::read_dir(&*fs, Path::new("/store/segments")).unwrap().unwrap().len();
    let reader = reader(&fs).unwrap();
    let scan = reader.scan("numbered").unwrap();
    let held = files();
    take_out();
    assert_eq!(files(), held, "a reader has them");
    let pins = core.pins.list();
    assert!(pins[0].held && pins[0].bytes > 0 && pins[0].age.is_some(), "{pins:?}");
    assert_eq!(rows_in(scan).len(), 100);
    assert!(core.pins.sweep().unwrap().left && files() == held, "the reader still holds its pin");
    drop(reader);
    assert!(!core.pins.sweep().unwrap().left, "nobody is left");
    assert_eq!(files(), 0);
}

#[test]
fn files_beyond_the_limit_go_and_their_reader_is_told() {
    let fs = SimFs::new(15);
    let options = Store::options().block_bytes_min(64 << 10).without_background().pinned_bytes_max(0);
    let store = Store::open_on(fs.clone(), options, Path::new("/store")).unwrap();
    let table = store.table(numbered()).unwrap();
    append(&mut table.writer().unwrap(), "a", 0..100).unwrap();
    store.seal().unwrap();
    let reader = reader(&fs).unwrap();
    let (theirs, ours) = (reader.scan("numbered").unwrap(), table.scan().unwrap());
    let core = &store.inner.core;
    let segments = core.commit(|_| Vec::new(), |view| std::mem::take(&mut view.table_mut(0).unwrap().segments));
    core.release_segments(segments.unwrap().to_vec());
    for mut scan in [theirs, ours] {
        let error = scan.next().unwrap().unwrap_err();
        assert!(matches!(error, Error::SnapshotExpired { .. }) && error.is_retryable(), "{error:?}");
    }
}

/// A seal that was killed before its commit leaves files whose id the manifest does not know, and a reader of that time keeps
/// them on the disk while the next life seals.
#[test]
fn a_segment_never_has_the_name_of_a_file_that_waits_to_be_removed() {
    let fs = SimFs::new(18);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    append(&mut table.writer().unwrap(), "a", 0..100).unwrap();
    let next = store.inner.core.segment_ids.load(std::sync::atomic::Ordering::Relaxed);
    for file in [parquet_path, index_path] {
        crate::fs::FileSystem::create(&*fs, &file(Path::new("/store/segments"), next)).unwrap();
    }
    let reader = reader(&fs).unwrap();
    let scan = reader.scan("numbered").unwrap();
    drop((table, store));
    let store = open_sim(&fs).unwrap();
    store.seal().unwrap();
    drop((scan, reader));
    assert!(!store.inner.core.pins.sweep().unwrap().left);
    assert_eq!(
        store.existing("numbered").unwrap().scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(),
        100
    );
}

#[test]
fn a_reader_needs_no_right_to_write() {
    let fs = SimFs::new(16);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    append(&mut table.writer().unwrap(), "a", 0..100).unwrap();
    let before = fs.operations();
    fs.fail_after(0, Fault { kind: FaultKind::Eio, once: false });
    let reader = reader(&fs).unwrap();
    assert_eq!(read(&reader).len(), 100);
    drop(reader);
    assert_eq!(fs.operations(), before, "a reader changes nothing");
    fs.repair();
}

#[test]
fn files_that_a_disk_does_not_remove_are_removed_later() {
    let fs = SimFs::new(17);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let core = &store.inner.core;
    for piece in 0..3 {
        append(&mut table.writer().unwrap(), "a", piece * 100..(piece + 1) * 100).unwrap();
        store.seal().unwrap();
    }
    let reader = reader(&fs).unwrap();
    let scan = reader.scan("numbered").unwrap();
    let segments = core.commit(|_| Vec::new(), |view| std::mem::take(&mut view.table_mut(0).unwrap().segments));
    let segments = segments.unwrap().to_vec();
    let count = segments.len() as u64;
    core.release_segments(segments);
    let kept = core.pins.bytes();
    assert!(count > 1 && kept > 0);
    drop((scan, reader));
    // The first file goes, the second does not.
    fs.fail_after(2, Fault { kind: FaultKind::Eio, once: true });
    assert!(core.pins.sweep().is_err());
    assert!(core.pins.bytes() > 0, "what is left is not forgotten");
    assert!(!core.pins.sweep().unwrap().left);
    assert_eq!(core.pins.bytes(), 0);
    let files = crate::fs::FileSystem::read_dir(&*fs, Path::new("/store/segments")).unwrap().unwrap();
    assert!(files.is_empty(), "{files:?}");
}
