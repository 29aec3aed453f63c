//! What goes wrong with a store between two lives, and what is left of it.

use super::*;
use crate::fs::sim::{Fault, FaultKind};
use crate::fs::{FileSystem, read_all};

const STORE: &str = "/store";

/// Every file below `dir` with its bytes.
pub(super) fn files(fs: &SimFs, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs.read_dir(Path::new(dir)).unwrap().unwrap_or_default() {
        let path = format!("{dir}/{}", entry.name);
        if entry.is_file {
            let file = fs.open(Path::new(&path)).unwrap().unwrap();
            files.insert(path, read_all(&*file).unwrap());
        } else {
            files.extend(self::files(fs, &path));
        }
    }
    files
}

fn write(fs: &SimFs, path: &str, bytes: &[u8]) {
    fs.remove(Path::new(path)).unwrap();
    fs.create(Path::new(path)).unwrap().write_at(bytes, 0).unwrap();
}

/// A store with 60 sealed rows and 40 live ones, closed.
pub(super) fn closed(seed: u64) -> Arc<SimFs> {
    let fs = SimFs::new(seed);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, "a", 0..60).unwrap();
    store.seal().unwrap();
    append(&mut writer, "a", 60..100).unwrap();
    drop((writer, table));
    store.close().unwrap();
    drop(store);
    fs
}

#[test]
fn a_store_without_its_control_page_is_not_taken_for_a_new_one() {
    let fs = closed(1);
    let whole = files(&fs, STORE);
    // All of it, and what any one of these alone would be.
    for kept in ["/store", "/store/segments/", "/store/live/", "/store/manifest-", "/store/series.log"] {
        for (path, bytes) in &whole {
            fs.remove(Path::new(path)).unwrap();
            if path.starts_with(kept) && path != "/store/control" {
                write(&fs, path, bytes);
            }
        }
        fs.remove(Path::new("/store/lock")).unwrap();
        let before = files(&fs, STORE);
        let error = open_sim(&fs).unwrap_err();
        assert!(matches!(error, Error::Corrupted { .. }), "{kept}: {error}");
        assert!(error.to_string().contains("the control page is missing"), "{kept}: {error}");
        let mut after = files(&fs, STORE);
        after.remove("/store/lock");
        assert_eq!(after, before, "{kept}");
    }
    // With the page back all rows are.
    whole.iter().for_each(|(path, bytes)| write(&fs, path, bytes));
    let store = open_sim(&fs).unwrap();
    assert_eq!(rows_of(&store.existing("numbered").unwrap()).len(), 100);
}

#[test]
fn a_damaged_manifest_without_a_control_page_is_left_alone() {
    let fs = closed(2);
    for path in files(&fs, STORE).into_keys().filter(|path| !path.contains("manifest")) {
        fs.remove(Path::new(&path)).unwrap();
    }
    let manifest = "/store/manifest-00000001";
    write(&fs, manifest, b"something");
    assert!(matches!(open_sim(&fs), Err(Error::Corrupted { .. })));
    assert_eq!(files(&fs, STORE)[manifest], b"something");
}

#[test]
fn a_creation_cut_short_at_any_operation_is_begun_again() {
    for cut_at in 0.. {
        let fs = SimFs::new(cut_at);
        fs.crash_at(cut_at);
        let done = open_sim(&fs).is_ok();
        for seed in 0..8 {
            for fs in [fs.crash(seed), fs.kill()] {
                let store = open_sim(&fs).unwrap_or_else(|error| panic!("cut at {cut_at}, seed {seed}: {error}"));
                store.table(numbered()).unwrap();
            }
        }
        if done {
            break;
        }
    }
}

#[test]
fn poisoning_twice_keeps_the_first_reason() {
    let fs = closed(3);
    let store = open_sim(&fs).unwrap();
    let core = &store.inner.core;
    for reason in ["first", "second"] {
        core.poison(Error::corrupted(Path::new("x"), 0, reason));
    }
    let marked = files(&fs, STORE)["/store/poisoned"].clone();
    assert!(String::from_utf8(marked).unwrap().contains("first"));
    drop(store);
    // A mark that was made and never filled is filled.
    write(&fs, "/store/poisoned", b"");
    let store = open_sim(&fs).unwrap();
    assert!(store.recovery().was_poisoned);
    write(&fs, "/store/poisoned", b"");
    store.inner.core.poison(Error::corrupted(Path::new("x"), 0, "third"));
    assert!(String::from_utf8(files(&fs, STORE)["/store/poisoned"].clone()).unwrap().contains("third"));
}

#[test]
fn a_failed_sync_anywhere_in_a_seal_poisons() {
    let mut poisoned = 0;
    for operation in 0.. {
        let fs = SimFs::new(operation);
        let store = open_sim(&fs).unwrap();
        let table = store.table(numbered()).unwrap();
        append(&mut table.writer().unwrap(), "a", 0..50).unwrap();
        store.sync().unwrap();
        let before = fs.operations();
        fs.fail_after(operation, Fault { kind: FaultKind::FailedSync, once: true });
        let sealed = store.seal();
        if operation > fs.operations() - before {
            sealed.unwrap();
            break;
        }
        if let Err(error) = sealed {
            poisoned += 1;
            assert!(matches!(error, Error::Poisoned { .. }), "operation {operation}: {error}");
            assert!(matches!(store.seal(), Err(Error::Poisoned { .. })), "never retried");
            assert_eq!(rows_of(&table).len(), 50, "operation {operation}");
        }
        for seed in 0..4 {
            let store = open_sim(&fs.crash(seed)).unwrap();
            let rows = rows_of(&store.existing("numbered").unwrap());
            assert_eq!(rows.len(), 50, "operation {operation}, seed {seed}");
            assert!(rows.values().all(|times| *times == 1), "operation {operation}, seed {seed}");
        }
    }
    assert!(poisoned >= 4, "segment, its directory, its index, the manifest: {poisoned}");
}
