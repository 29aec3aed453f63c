//! What an open believes, one reason at a time: each of these tests fails when its step is taken out of recovery.
//!
//! The files are those of a process that was killed, as the page cache has them, with one thing changed.

use super::care::files;
use super::*;
use crate::fs::sim::{Fault, FaultKind};
use crate::fs::{File, FileSystem, PAGE_BYTES};
use crate::ingest::commit::{CommitEntry, Slot};
use crate::ingest::layout::{SLOT_COUNT, SLOTS};

/// 40 rows that were synced and 20 that were not, and the process dead.
fn killed(seed: u64) -> Arc<SimFs> {
    let fs = SimFs::new(seed);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, "a", 0..40).unwrap();
    store.sync().unwrap();
    append(&mut writer, "a", 40..60).unwrap();
    fs.kill()
}

/// The only live block, and its name.
fn block(fs: &SimFs) -> (String, Arc<dyn File>) {
    let (name, _) = files(fs, "/store/live").into_iter().next().unwrap();
    let file = fs.open(Path::new(&name)).unwrap().unwrap();
    (name, file)
}

/// Rows that an open finds, which are the first ones, and how many it says that it cut.
fn kept(fs: &Arc<SimFs>) -> (usize, u64) {
    let store = open_sim(fs).unwrap();
    let found = rows_of(&store.existing("numbered").unwrap());
    assert!(found.keys().zip(0..).all(|((_, number), expected)| *number == expected), "{found:?}");
    (found.len(), store.recovery().rows_cut)
}

#[test]
fn rows_of_a_killed_process_count_up_to_the_last() {
    assert_eq!(kept(&killed(1)), (60, 0));
}

#[test]
fn rows_of_a_copied_block_count_when_they_were_synced() {
    let fs = killed(2);
    let (name, file) = block(&fs);
    let bytes = crate::fs::read_all(&*file).unwrap();
    fs.remove(Path::new(&name)).unwrap();
    fs.create(Path::new(&name)).unwrap().write_at(&bytes, 0).unwrap();
    assert_eq!(kept(&fs), (40, 20));
}

#[test]
fn rows_whose_write_back_failed_do_not_count() {
    let fs = killed(3);
    fs.fail_write_back(Path::new(&block(&fs).0)).unwrap();
    assert_eq!(kept(&fs.kill()), (40, 20));
}

#[test]
fn a_commit_entry_of_another_life_does_not_count() {
    let fs = killed(4);
    let (_, file) = block(&fs);
    let mut slots = vec![0; SLOT_COUNT * 512];
    file.read_at(&mut slots, SLOTS as u64).unwrap();
    let mut moved = 0;
    for (slot, bytes) in slots.chunks(512).enumerate() {
        // As many checksums as the columns of the table have regions: time, series, three fields with nulls, the heap.
        let Slot::Entry(mut entry) = CommitEntry::decode(bytes, 9) else { continue };
        entry.generation += 1;
        file.write_at(&entry.encode(), (SLOTS + 512 * slot) as u64).unwrap();
        moved += 1;
    }
    assert_eq!(moved, 1, "there was one sync");
    file.sync_data().unwrap();
    // After a power loss, so that the published count does not count either.
    assert_eq!(kept(&fs.crash(4)).0, 0);
}

#[test]
fn a_poisoned_block_counts_up_to_its_last_good_sync() {
    let fs = SimFs::new(5);
    let store = open_sim(&fs).unwrap();
    let mut writer = store.table(numbered()).unwrap().writer().unwrap();
    append(&mut writer, "a", 0..40).unwrap();
    store.sync().unwrap();
    append(&mut writer, "a", 40..60).unwrap();
    fs.fail_after(0, Fault { kind: FaultKind::FailedSync, once: true });
    assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
    let fs = fs.kill();
    // The directory's mark did not survive; the block's did.
    fs.remove(Path::new("/store/poisoned")).unwrap();
    assert_eq!(kept(&fs), (40, 20));
}

#[test]
fn logs_are_written_again_after_a_failed_sync() {
    let fs = SimFs::new(6);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    append(&mut table.writer().unwrap(), "a", 0..10).unwrap();
    store.sync().unwrap();
    // The sync of the series log fails and drops the page with the new series.
    append(&mut table.writer().unwrap(), "b", 0..10).unwrap();
    fs.fail_after(0, Fault { kind: FaultKind::FailedSync, once: true });
    assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
    let fs = fs.kill();
    drop((table, store));
    let store = open_sim(&fs).unwrap();
    let table = store.existing("numbered").unwrap();
    // The series is known from the page cache, so nothing of it is written again by this row.
    append(&mut table.writer().unwrap(), "b", 0..10).unwrap();
    store.sync().unwrap();
    for seed in 0..8 {
        let store = open_sim(&fs.crash(seed)).unwrap();
        assert_eq!(rows_of(&store.existing("numbered").unwrap()).len(), 20, "seed {seed}");
    }
}

fn floats() -> Schema {
    Schema::new("floats").tag("writer").f64("first", "").f64("second", "")
}

/// Values of `first`, row by row.
fn firsts(table: &Table) -> Vec<Option<f64>> {
    let column = |batch: arrow::array::RecordBatch| {
        batch.column_by_name("first").unwrap().as_primitive::<Float64Type>().iter().collect::<Vec<_>>()
    };
    table.scan().unwrap().flat_map(|batch| column(batch.unwrap())).collect()
}

#[test]
fn a_refused_row_leaves_no_null_behind() {
    let fs = SimFs::new(7);
    let store = open_sim(&fs).unwrap();
    let table = store.table(floats()).unwrap();
    let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
    let time = |number: i64| Time::from_nanos(1_700_000_000_000_000_000 + number);
    let null_before_another_type = [Value::Null, Value::Bool(true)];
    assert!(matches!(writer.append_to(series, time(0), &null_before_another_type), Err(Error::TypeConflict { .. })));
    let _ = writer.append_to(series, time(1), &[Value::F64(1.0), Value::F64(1.0)]).unwrap();
    let _ = writer.append_to(series, time(2), &[Value::Null, Value::F64(2.0)]).unwrap();
    assert_eq!(firsts(&table), [Some(1.0), None]);
}

#[test]
fn a_row_that_was_being_written_leaves_no_null_behind() {
    let fs = SimFs::new(8);
    let store = open_sim(&fs).unwrap();
    let table = store.table(floats()).unwrap();
    let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
    let time = |number: i64| Time::from_nanos(1_700_000_000_000_000_000 + number);
    let _ = writer.append_to(series, time(0), &[Value::Null, Value::F64(0.0)]).unwrap();
    let view = store.inner.core.view.load();
    let absent = view.blocks().next().unwrap().block.layout.fields[0].absent.unwrap();
    let fs = fs.kill();
    drop((writer, table, store));
    // The process died between the null of its second row and the publication of that row.
    block(&fs).1.write_at(&[1], absent as u64 + 1).unwrap();
    let store = open_sim(&fs).unwrap();
    let table = store.existing("floats").unwrap();
    let _ = table.writer().unwrap().append_to(series, time(1), &[Value::F64(1.0), Value::F64(1.0)]).unwrap();
    assert_eq!(firsts(&table), [None, Some(1.0)]);
}

#[test]
fn a_block_that_was_being_made_is_removed() {
    for (len, bytes) in [(0, Vec::new()), (2 * PAGE_BYTES, vec![0; 2 * PAGE_BYTES])] {
        let fs = killed(9);
        let file = fs.create(Path::new("/store/live/00000777.block")).unwrap();
        file.write_at(&bytes, 0).unwrap();
        assert_eq!(kept(&fs), (60, 0), "{len} bytes");
        assert!(!files(&fs, "/store/live").contains_key("/store/live/00000777.block"), "{len} bytes");
    }
}

#[test]
fn a_block_that_is_not_what_its_header_says_is_damage() {
    let refused = |change: &dyn Fn(&dyn File)| {
        let fs = killed(10);
        change(&*block(&fs).1);
        let error = open_sim(&fs).unwrap_err();
        assert!(matches!(error, Error::Corrupted { .. }), "{error}");
        error.to_string()
    };
    let said = refused(&|file| file.set_len(PAGE_BYTES as u64 * 2).unwrap());
    assert!(said.contains("cut short"), "{said}");
    let said = refused(&|file| file.write_at(&u64::MAX.to_le_bytes(), 512).unwrap());
    assert!(said.contains("rows in a block of"), "{said}");
    // A byte of a descriptor, though there is a commit entry.
    let said = refused(&|file| file.write_at(&[99], (SLOTS + SLOT_COUNT * 512) as u64).unwrap());
    assert!(said.contains("descriptors"), "{said}");
}

/// Every sync of an open fails once, the next open goes on, and power is lost while a block of another shape is filled.
#[test]
fn a_file_whose_recycling_failed_is_not_filled_again() {
    let mut failed = 0;
    for operation in 0.. {
        let fs = SimFs::new(11);
        let store = open_sim(&fs).unwrap();
        let table = store.table(numbered()).unwrap();
        let mut writer = table.writer().unwrap();
        for number in 0..4 {
            append(&mut writer, "a", number..number + 1).unwrap();
            store.sync().unwrap();
        }
        drop(writer);
        // Somebody still looks at the block, so that it is recycled by the next open and not now.
        let view = store.inner.core.view.load();
        store.inner.core.end_waiting(|_| true).unwrap();
        let fs = fs.kill();
        drop((view, table, store));
        fs.fail_after(operation, Fault { kind: FaultKind::FailedSync, once: true });
        let opened = open_sim(&fs);
        let last = operation >= fs.operations();
        failed += u64::from(opened.is_err());
        fs.repair();
        let fs = fs.kill();
        drop(opened);
        let store = open_sim(&fs).unwrap();
        let table = store.table(floats()).unwrap();
        let row = [Value::F64(1.0), Value::F64(1.0)];
        let series = table.series(["a"]).unwrap();
        let _ = table.writer().unwrap().append_to(series, Time::from_nanos(0), &row).unwrap();
        for seed in 0..64 {
            let place = format!("operation {operation}, seed {seed}");
            let store = open_sim(&fs.crash(seed)).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(rows_of(&store.existing("numbered").unwrap()).len(), 4, "{place}");
        }
        if last {
            break;
        }
    }
    assert!(failed >= 4, "{failed}");
}

/// The block's write-back fails, an open fails or not, the next one keeps `rows`, all up to 60 are appended, and a sync
/// answers.
fn goes_on_after_a_failed_write_back(fs: &Arc<SimFs>, rows: i64, plan: Option<u64>) {
    fs.fail_write_back(Path::new(&block(fs).0)).unwrap();
    let mut fs = fs.kill();
    if let Some(operation) = plan {
        fs.fail_after(operation, Fault { kind: FaultKind::FailedSync, once: false });
        assert!(open_sim(&fs).is_err());
        fs = fs.kill();
    }
    let store = open_sim(&fs).unwrap();
    let table = store.existing("numbered").unwrap();
    assert_eq!(rows_of(&table).len() as i64, rows);
    // The very bytes that were dropped.
    append(&mut table.writer().unwrap(), "a", rows..60).unwrap();
    store.sync().unwrap();
    for seed in 0..8 {
        assert_eq!(kept(&fs.crash(seed)), (60, 0), "{rows} rows, seed {seed}, {plan:?}");
    }
}

#[test]
fn rows_written_where_a_write_back_failed_are_on_the_disk_once_synced() {
    // The first sync that fails is of a directory, of a log, of the block, or of the control page.
    for plan in std::iter::once(None).chain((0..10).map(Some)) {
        goes_on_after_a_failed_write_back(&killed(12), 40, plan);
    }
}

#[test]
fn rows_of_a_commit_that_never_answered_are_on_the_disk_if_they_count_after_a_failed_write_back() {
    let fs = SimFs::new(12);
    let store = open_sim(&fs).unwrap();
    let mut writer = store.table(numbered()).unwrap().writer().unwrap();
    append(&mut writer, "a", 0..40).unwrap();
    store.sync().unwrap();
    append(&mut writer, "a", 40..60).unwrap();
    // The entry is written, and the process dies in the sync.
    fs.crash_at(fs.operations());
    assert!(store.sync().is_err());
    goes_on_after_a_failed_write_back(&fs.kill(), 60, None);
}

#[test]
fn rows_that_were_cut_after_a_failed_sync_stay_away_after_a_power_loss() {
    let fs = SimFs::new(13);
    let store = open_sim(&fs).unwrap();
    let table = store.table(Schema::new("small").tag("t").f64("x", "")).unwrap();
    let series = table.series(["a"]).unwrap();
    store.sync().unwrap();
    let mut writer = table.writer().unwrap();
    let _ = writer.append_to(series, Time::from_nanos(1), &[Value::F64(1.0)]).unwrap();
    // The second sync, that of the first commit entry: refused, though some of it may reach the disk.
    fs.fail_after(1, Fault { kind: FaultKind::Eio, once: true });
    assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
    let fs = fs.kill();
    drop((writer, table, store));
    let store = open_sim(&fs).unwrap();
    assert_eq!(store.recovery().live_rows, 0);
    for seed in 0..512 {
        let store = open_sim(&fs.crash(seed)).unwrap();
        assert_eq!(store.recovery().live_rows, 0, "seed {seed}");
    }
}
