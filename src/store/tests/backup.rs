//! A backup is the store of one moment, whole, or nothing.

use std::ops::ControlFlow;

use super::care::files;
use super::verify::{flip, verify_closed};
use super::*;
use crate::fs::FileSystem;
use crate::{Backup, Mending};

const COPY: &str = "/copies/monday";

fn open_copy(fs: &Arc<SimFs>) -> Result<Store> {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    Store::open_on(fs.clone(), options.without_background(), Path::new(COPY))
}

fn backup(store: &Store) -> Result<Backup> {
    store.inner.core.backup(Path::new(COPY), [7; 16], &mut |_| ControlFlow::Continue(()))
}

/// A store with a sealed part, a block that is sealed in part, and blocks of two writers.
fn made(fs: &Arc<SimFs>) -> Store {
    let store = open_sim(fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let (mut one, mut two) = (table.writer().unwrap(), table.writer().unwrap());
    append(&mut one, "a", 0..60).unwrap();
    store.seal().unwrap();
    append(&mut one, "a", 60..100).unwrap();
    append(&mut two, "b", 0..30).unwrap();
    store
}

fn rows(store: &Store) -> BTreeMap<(String, i64), usize> {
    rows_of(&store.existing("numbered").unwrap())
}

#[test]
fn a_backup_opens_as_a_store_and_has_the_rows_of_its_moment() {
    let fs = SimFs::new(1);
    let store = made(&fs);
    let expected = rows(&store);
    let made = backup(&store).unwrap();
    assert_eq!((made.rows, made.live_rows, made.tables), (130, 70, 1), "{made}");
    assert!(made.segments > 0 && made.copied_bytes < made.bytes, "{made}");
    // What happens to the one is nothing to the other.
    let mut writer = store.existing("numbered").unwrap().writer().unwrap();
    append(&mut writer, "a", 100..150).unwrap();
    store.seal().unwrap();
    drop(writer);
    let copy = open_copy(&fs).unwrap();
    assert!(copy.recovery().is_whole(), "{:?}", copy.recovery());
    assert_eq!(rows(&copy), expected);
    let view = copy.inner.core.view.load();
    let marked = |view: &crate::snapshot::BlockView| view.block.there_by(view.block.rows() - 1).is_some();
    assert!(view.blocks().all(marked), "every row has a second by which it was there");
    drop(view);
    append(&mut copy.existing("numbered").unwrap().writer().unwrap(), "c", 0..700).unwrap();
    copy.seal().unwrap();
    assert!(copy.verify().unwrap().is_whole());
    assert_eq!((rows(&copy).len(), rows(&store).len()), (830, 180));
    copy.close().unwrap();
    drop(copy);
    assert_eq!(rows(&open_copy(&fs).unwrap()).len(), 830);
    // A backup of a backup, from a power loss right after.
    let fs = fs.crash(3);
    let copy = open_copy(&fs).unwrap();
    assert_eq!(rows(&copy).len(), 830);
}

#[test]
fn what_is_written_meanwhile_is_not_in_it() {
    let fs = SimFs::new(2);
    let store = open_sim(&fs).unwrap();
    let tables = ["first", "second"].map(|name| {
        let schema = Schema::new(name).tag("writer").i64("number", "");
        store.table(schema).unwrap()
    });
    let mut writers = tables.each_ref().map(|table| table.writer().unwrap());
    let mut number = 0;
    let mut pairs = |count: i64| {
        for _ in 0..count {
            for writer in &mut writers {
                let _ = writer.append(row! { writer: "a", number: number }).unwrap();
            }
            number += 1;
        }
    };
    pairs(2_000);
    store.seal().unwrap();
    pairs(300);
    let mut told = 0;
    let made = store.inner.core.backup(Path::new(COPY), [7; 16], &mut |_| {
        // Between any two steps of the copy: rows, new series and tables, seals that recycle the blocks it reads.
        pairs(400);
        store.table(Schema::new(format!("new{told}")).tag("t").f64("x", "")).unwrap();
        store.existing("first").unwrap().series([&*format!("series{told}")]).unwrap();
        store.seal().unwrap();
        told += 1;
        ControlFlow::Continue(())
    });
    let made = made.unwrap();
    assert!(told > 4, "{told}");
    assert_eq!(made.rows, 4_600);
    assert!(verify_closed(&fs, COPY).is_whole());
    let copy = open_copy(&fs).unwrap();
    assert_eq!(copy.tables().len(), 2);
    for name in ["first", "second"] {
        let table = copy.existing(name).unwrap();
        let numbers = table.scan().unwrap().flat_map(|batch| {
            let batch = batch.unwrap();
            batch.column_by_name("number").unwrap().as_primitive::<Int64Type>().values().to_vec()
        });
        let mut numbers: Vec<i64> = numbers.collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..2_300).collect::<Vec<_>>(), "{name}");
    }
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn every_flipped_bit_of_a_backup_is_found() {
    let fs = SimFs::new(3);
    let store = open_sim(&fs).unwrap();
    let table = store.table(Schema::new("water").tag("gate").f64("level", "cm").utf8("note", "")).unwrap();
    let mut writer = table.writer().unwrap();
    for at in 0..20 {
        let time = Time::from_nanos(1_700_000_000_000_000_000 + at);
        let _ = writer.append_at(time, row! { gate: "x", level: at as f64, note: "long enough for the heap" }).unwrap();
        if at == 12 {
            store.seal().unwrap();
        }
    }
    backup(&store).unwrap();
    let found = verify_closed(&fs, COPY);
    assert!(found.is_whole(), "{found}");
    assert_eq!((found.rows, found.uncommitted_rows), (20, 0), "{found}");
    let (mut flips, mut chance) = (0_u64, 11_usize);
    for (path, bytes) in files(&fs, COPY).into_iter().filter(|(path, _)| !path.ends_with("/lock")) {
        // Every bit of what is small, and samples of the rest, which is control page, rows and room for rows.
        let step = (bytes.len() * 8 / 4_000).max(1);
        for place in (0..bytes.len() * 8).step_by(step) {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = (place + (chance >> 33) % step).min(bytes.len() * 8 - 1);
            flip(&fs, &path, place / 8, place % 8);
            let found = verify_closed(&fs, COPY);
            let damaged = found.damages.iter().any(|damage| damage.path == Path::new(&path));
            assert!(damaged, "bit {} of byte {} of {path}: {found}", place % 8, place / 8);
            flip(&fs, &path, place / 8, place % 8);
            flips += 1;
        }
        // Shorter, longer and gone.
        let file = fs.open(Path::new(&path)).unwrap().unwrap();
        for len in [bytes.len() - 1, bytes.len() + 1] {
            file.set_len(len as u64).unwrap();
            assert!(!verify_closed(&fs, COPY).is_whole(), "{path} of {len} bytes");
            file.set_len(bytes.len() as u64).unwrap();
            file.write_at(&bytes, 0).unwrap();
        }
        if !path.ends_with("/inventory") {
            fs.remove(Path::new(&path)).unwrap();
            assert!(!verify_closed(&fs, COPY).is_whole(), "{path} is gone");
            fs.create(Path::new(&path)).unwrap().write_at(&bytes, 0).unwrap();
        }
    }
    assert!(flips > 15_000, "{flips}");
    assert!(verify_closed(&fs, COPY).is_whole());
}

#[test]
fn a_damaged_row_of_a_backup_is_an_error_to_whoever_opens_it() {
    let fs = SimFs::new(4);
    let store = made(&fs);
    backup(&store).unwrap();
    let block = store.inner.core.view.load().blocks().find(|view| view.sealed_rows == 0).unwrap().block.clone();
    let path = format!("{COPY}/live/{:08}.block", block.id);
    flip(&fs, &path, block.layout.time + 5, 1);
    let error = open_copy(&fs).unwrap_err();
    assert!(matches!(error, Error::Corrupted { .. }), "{error}");
}

#[test]
fn a_poisoned_store_can_be_backed_up_with_all_that_queries_see() {
    use crate::fs::sim::{Fault, FaultKind};
    let fs = SimFs::new(7);
    let store = made(&fs);
    fs.fail_after(0, Fault { kind: FaultKind::FailedSync, once: true });
    assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
    let made = backup(&store).unwrap();
    assert_eq!(made.rows, 130);
    assert!(verify_closed(&fs, COPY).is_whole());
    let copy = open_copy(&fs).unwrap();
    assert!(copy.recovery().is_whole(), "{:?}", copy.recovery());
    assert_eq!(rows(&copy), rows(&store));
    assert!(matches!(store.repair(), Err(Error::Poisoned { .. })));
}

#[test]
fn a_directory_that_is_not_empty_is_refused() {
    let fs = SimFs::new(5);
    let store = made(&fs);
    backup(&store).unwrap();
    assert!(matches!(backup(&store), Err(Error::NotEmpty { .. })));
    let stopped = store.inner.core.backup(Path::new("/copies/b"), [7; 16], &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Stopped { .. })));
    let error = Store::open_on(fs, Store::options().without_background(), Path::new("/copies/b")).unwrap_err();
    assert!(error.to_string().contains("a backup that was cut short"), "{error}");
}

#[test]
fn without_links_files_are_copied_and_damaged_segments_come_along() {
    let fs = SimFs::new(6);
    fs.forbid_links();
    let store = made(&fs);
    append(&mut store.existing("numbered").unwrap().writer().unwrap(), "c", 0..10).unwrap();
    store.seal().unwrap();
    let (path, _) = files(&fs, "/store").into_iter().find(|(path, _)| path.ends_with(".parquet")).unwrap();
    flip(&fs, &path, 700, 1);
    assert_eq!(store.repair().unwrap().mended[0].how, Mending::SetAside);
    let made = backup(&store).unwrap();
    assert_eq!((made.segments_aside, made.copied_bytes), (1, made.bytes), "{made}");
    let copy = open_copy(&fs).unwrap();
    assert_eq!(copy.recovery().segments_aside, 1);
    assert!(matches!(copy.existing("numbered").unwrap().scan(), Err(Error::SegmentAside { .. })));
    let aside =
        files(&fs, COPY).into_keys().find(|path| path.contains("/aside/") && path.ends_with(".parquet")).unwrap();
    flip(&fs, &aside, 700, 1);
    assert_eq!(copy.repair().unwrap().mended[0].how, Mending::TakenBack);
    assert_eq!(rows(&copy).len(), 140);
}

#[test]
fn a_backup_cut_short_at_any_operation_is_no_store_and_the_store_is_whole() {
    let (mut refused, mut whole) = (0, 0);
    for operation in 0.. {
        let fs = SimFs::new(operation);
        let store = made(&fs);
        store.sync().unwrap();
        let expected = rows(&store);
        fs.create_dir(Path::new(COPY).parent().unwrap()).unwrap();
        fs.crash_at(fs.operations() + operation);
        let done = backup(&store).is_ok();
        for seed in 0..6 {
            let fs = if seed == 5 { fs.kill() } else { fs.crash(seed) };
            let at = format!("operation {operation}, seed {seed}");
            assert_eq!(rows(&open_sim(&fs).unwrap()), expected, "{at}");
            let is_empty = fs.read_dir(Path::new(COPY)).unwrap().unwrap_or_default().is_empty();
            match open_copy(&fs) {
                _ if is_empty => assert!(!done, "{at}"),
                Ok(copy) => {
                    assert_eq!(rows(&copy), expected, "{at}");
                    assert!(copy.verify().unwrap().is_whole(), "{at}");
                    whole += 1;
                }
                Err(error) => {
                    assert!(!done, "{at}: {error}");
                    assert!(error.to_string().contains("a backup that was cut short"), "{at}: {error}");
                    refused += 1;
                }
            }
        }
        if done {
            break;
        }
    }
    assert!(refused > 100 && whole >= 6, "{refused} refused, {whole} whole");
}
