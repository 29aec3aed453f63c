//! Many tables of which few are busy: what the others hold.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::ingest::pool::FREE_MAX;
use crate::maintain::background::Asked;

const TABLES: usize = 200;
const BUSY: usize = 10;
const BLOCK_BYTES: u64 = 256 << 10;

/// Descriptors that this process has open below `dir`.
fn descriptors(dir: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| std::fs::read_link(entry.unwrap().path()));
    links.filter(|link| link.as_ref().is_ok_and(|target: &PathBuf| target.starts_with(dir))).count()
}

/// Bytes of live blocks, and of those that are free.
fn bytes(store: &Store) -> (u64, u64) {
    let counters: BTreeMap<_, _> = store.counters().into_iter().collect();
    (counters["live_block_bytes"], counters["free_block_bytes"])
}

fn rows(store: &Store) -> usize {
    let tables = store.tables();
    let tables = tables.iter().map(|table| store.existing(table.name()).unwrap());
    tables.map(|table| table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>()).sum()
}

/// One look of the house keeper, and what the sealers and the recycler do then.
fn keep_house(store: &Store) {
    let core = &store.inner.core;
    let (seals, to_seal) = crossbeam::channel::unbounded();
    let _ = core.keep_house(&seals, &mut Asked::default());
    for id in to_seal.try_iter() {
        core.seal(id).unwrap();
    }
    core.pool.released().try_iter().for_each(|released| core.recycle(released));
}

fn schema(number: usize) -> Schema {
    Schema::new(format!("t{number}")).tag("who").f64("x", "").f64("y", "")
}

fn append(writer: &mut Writer, rows: usize) {
    for row in 0..rows {
        let _ = writer.append_at(Time::from_nanos(row as i64), row! { who: "a", x: 1.0, y: row as f64 }).unwrap();
    }
}

#[test]
fn quiet_tables_hold_little_and_give_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = Store::options().seal_after(Duration::ZERO).live_bytes_max(128 << 20).without_background();
    let store = options.open(dir.path().join("kota")).unwrap();
    let tables: Vec<Table> = (0..TABLES).map(|number| store.table(schema(number)).unwrap()).collect();
    let mut writers: Vec<Writer> = tables.iter().map(|table| table.writer().unwrap()).collect();
    // Lock, control page, manifest, series log, pin; and no block for who appends nothing.
    assert_eq!((bytes(&store), descriptors(dir.path())), ((0, 0), 5));
    for (number, writer) in writers.iter_mut().enumerate() {
        append(writer, if number < BUSY { 50_000 } else { 1 });
    }
    let all = BUSY * 50_000 + TABLES - BUSY;
    assert_eq!(rows(&store), all);
    let quiet = (TABLES - BUSY) as u64 * BLOCK_BYTES;
    let (live, _) = bytes(&store);
    assert!(live <= quiet + (64 << 20), "{live} bytes of live blocks");
    // One for each block, also for the free ones.
    let blocks = store.inner.core.view.load().blocks().count();
    assert_eq!(blocks, TABLES);
    assert!(descriptors(dir.path()) <= 5 + blocks + FREE_MAX, "{} descriptors", descriptors(dir.path()));
    // By age the rows go to segments. The writers that are still open keep their blocks.
    keep_house(&store);
    let unsealed = store.inner.core.view.load().blocks().filter(|view| view.block.rows() > view.sealed_rows).count();
    assert_eq!((unsealed, rows(&store)), (0, all));
    writers.truncate(BUSY);
    keep_house(&store);
    let view = store.inner.core.view.load();
    assert_eq!(view.blocks().count(), BUSY, "blocks of the dropped writers are gone");
    drop(view);
    keep_house(&store);
    let (live, free) = bytes(&store);
    assert!(live - free <= BUSY as u64 * (4 << 20), "{live} bytes, {free} of them free");
    assert!(descriptors(dir.path()) <= 5 + BUSY + FREE_MAX, "{} descriptors", descriptors(dir.path()));
    assert_eq!(rows(&store), all);
    // And the next writer of such a table finds all in order.
    append(&mut tables[TABLES - 1].writer().unwrap(), 3);
    assert_eq!(rows(&store), all + 3);
    println!("{TABLES} tables, {BUSY} of them busy: {live} bytes of live blocks, {free} of them free");
}

#[test]
fn blocks_without_a_writer_do_not_hold_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let options = Store::options().live_bytes_max(4 * BLOCK_BYTES).overload(Overload::Fail).without_background();
    let store = options.open(dir.path().join("kota")).unwrap();
    // Young, and far more than the budget has room for.
    for number in 0..40 {
        append(&mut store.table(schema(number)).unwrap().writer().unwrap(), 10);
    }
    assert_eq!(rows(&store), 400);
    let (live, _) = bytes(&store);
    assert!(live <= 4 * BLOCK_BYTES, "{live}");
    // Who still has a writer is not taken anything away, and the refusal is typed.
    let tables: Vec<Table> = (0..5).map(|number| store.table(schema(number)).unwrap()).collect();
    let mut writers: Vec<Writer> = tables.iter().map(|table| table.writer().unwrap()).collect();
    let last = writers.split_off(4);
    writers.iter_mut().for_each(|writer| append(writer, 1));
    let mut last = last.into_iter().next().unwrap();
    let refused = last.append(row! { who: "a", x: 1.0 });
    assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
    drop(writers);
    append(&mut last, 1);
    assert_eq!(rows(&store), 405);
}

#[test]
fn threads_do_not_grow_with_tables() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().seal_threads(2).open(dir.path().join("kota")).unwrap();
    assert_eq!(store.inner.background.threads(), 6);
    for number in 0..50 {
        append(&mut store.table(schema(number)).unwrap().writer().unwrap(), 1);
    }
    assert_eq!(store.inner.background.threads(), 6);
    assert_eq!(rows(&store), 50);
}

#[test]
fn a_seal_that_is_asked_for_while_another_is_under_way_comes_after_it() {
    let store = open_sim(&SimFs::new(1)).unwrap();
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    super::append(&mut writer, "a", 0..10).unwrap();
    let core = &store.inner.core;
    let id = core.view.load().blocks().next().unwrap().block.id;
    core.sealing.lock().unwrap().push(id);
    let (asking, asked) = std::sync::mpsc::channel();
    let sealed = std::thread::scope(|scope| {
        let sealer = scope.spawn(move || {
            asking.send(()).unwrap();
            core.seal(id).unwrap()
        });
        asked.recv().unwrap();
        let full = |view: &mut crate::snapshot::View| {
            view.table_mut(0).unwrap().block_mut(id).unwrap().stage = crate::snapshot::view::Stage::Full;
        };
        core.show(full).unwrap();
        core.sealing.lock().unwrap().clear();
        core.sealed.notify_all();
        sealer.join().unwrap()
    });
    assert_eq!((sealed, core.view.load().blocks().count()), (10, 0));
    assert_eq!(rows_of(&table).len(), 10);
}
