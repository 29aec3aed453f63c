#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::Instant;

use super::*;
use crate::fs::real::RealFs;
use crate::fs::{LockKind, PAGE_BYTES, SECTOR_BYTES, publish, read_all};

const DIR: &str = "/kota";
const A: &str = "/kota/a";
const B: &str = "/kota/b";

fn disk() -> Arc<SimFs> {
    let fs = SimFs::new(1);
    fs.create_dir(DIR.as_ref()).unwrap();
    fs
}

/// A file whose bytes and name are on the disk.
fn synced(fs: &SimFs, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = fs.create(path.as_ref()).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(DIR.as_ref()).unwrap();
    file
}

fn bytes_of(fs: &dyn FileSystem, path: &str) -> Option<Vec<u8>> {
    fs.open(path.as_ref()).unwrap().map(|file| read_all(&*file).unwrap())
}

/// What `path` holds in many images of one moment.
fn images(fs: &SimFs, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..400).map(|seed| bytes_of(&*fs.crash(seed), path)).collect()
}

fn once(kind: FaultKind) -> Fault {
    Fault { kind, once: true }
}

fn is_gone<T: std::fmt::Debug>(result: Result<T>) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains("machine is gone"), "{message}");
}

/// What the floors above may expect of either file system.
fn contract(fs: &dyn FileSystem, root: &Path) {
    let dir = root.join("x/y");
    assert_eq!(fs.read_dir(&dir).unwrap(), None);
    assert!(fs.open(&dir.join("a")).unwrap().is_none());
    fs.remove(&dir.join("a")).unwrap();
    fs.create(&dir.join("a")).unwrap_err();
    fs.sync_dir(&dir).unwrap_err();
    fs.create_dir(&dir).unwrap();
    fs.create_dir(&dir).unwrap();
    assert_eq!(fs.read_dir(&dir).unwrap(), Some(vec![]));

    let (a, b) = (dir.join("a"), dir.join("b"));
    assert!(fs.open(&a).unwrap().is_none());
    let file = fs.create(&a).unwrap();
    fs.create(&a).unwrap_err();
    fs.open(&dir).unwrap_err();
    fs.create_dir(&a).unwrap_err();
    fs.open(&a.join("below")).unwrap_err();
    fs.read_dir(&a).unwrap_err();
    fs.remove(&dir).unwrap_err();
    assert_eq!(file.path(), a);
    assert_eq!(fs.read_dir(&dir).unwrap(), Some(vec![DirEntry { name: "a".into(), is_file: true }]));
    assert_eq!(fs.read_dir(&root.join("x")).unwrap(), Some(vec![DirEntry { name: "y".into(), is_file: false }]));

    file.write_at(b"level", 3).unwrap();
    assert_eq!(read_all(&*file).unwrap(), b"\0\0\0level");
    let mut beyond = [0; 2];
    assert!(matches!(file.read_at(&mut beyond, 7), Err(Error::Corrupted { offset: 7, .. })));
    file.read_at(&mut [], 100).unwrap();
    file.write_at(&[], 100).unwrap();
    file.set_len(4).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(read_all(&*file).unwrap(), b"\0\0\0l\0\0");
    file.allocate(2).unwrap();
    assert_eq!(file.len().unwrap(), 6);
    file.allocate(PAGE_BYTES as u64).unwrap();
    assert_eq!(file.len().unwrap(), PAGE_BYTES as u64);
    file.allocate(0).unwrap_err();

    let again = fs.open(&a).unwrap().unwrap();
    assert_eq!(again.identity().unwrap(), file.identity().unwrap());
    let other = fs.create(&b).unwrap();
    assert_ne!(other.identity().unwrap(), file.identity().unwrap());
    other.write_at(b"other", 0).unwrap();
    fs.rename(&b, &a).unwrap();
    assert!(fs.open(&b).unwrap().is_none());
    fs.rename(&b, &a).unwrap_err();
    assert_eq!(read_all(&*fs.open(&a).unwrap().unwrap()).unwrap(), b"other");
    // Who had the old file open still has it.
    assert_eq!(again.len().unwrap(), PAGE_BYTES as u64);

    // Two mappings and the file are the same bytes.
    let (first, second) = (file.map(PAGE_BYTES).unwrap(), again.map(SECTOR_BYTES).unwrap());
    assert_eq!((first.len(), second.len()), (PAGE_BYTES, SECTOR_BYTES));
    first.write(5, b"mapped");
    let mut seen = [0; 6];
    second.read(5, &mut seen);
    assert_eq!(&seen, b"mapped");
    again.read_at(&mut seen, 5).unwrap();
    assert_eq!(&seen, b"mapped");
    file.write_at(b"w", 5).unwrap();
    second.read(5, &mut seen);
    assert_eq!(&seen, b"wapped");
    file.sync_range(&first, 0, SECTOR_BYTES).unwrap();
    file.sync_data().unwrap();
    file.check_write_back().unwrap();
    drop((first, second));
    file.allocate(2 * PAGE_BYTES as u64).unwrap();
    assert_eq!(file.map(2 * PAGE_BYTES).unwrap().len(), 2 * PAGE_BYTES);
    file.map(0).unwrap_err();

    publish(fs, &b, b"published").unwrap();
    publish(fs, &b, b"again").unwrap();
    assert_eq!(read_all(&*fs.open(&b).unwrap().unwrap()).unwrap(), b"again");
    fs.remove(&b).unwrap();
    fs.remove(&b).unwrap();
    assert!(fs.open(&b).unwrap().is_none());
    assert_eq!(fs.boot_id(), fs.boot_id());

    locks(fs, &a);
}

fn locks(fs: &dyn FileSystem, path: &Path) {
    let open = || fs.open(path).unwrap().unwrap();
    open().set_len(PAGE_BYTES as u64).unwrap();
    let (one, two) = (open(), open());
    assert!(one.try_lock(LockKind::Shared).unwrap());
    assert!(one.try_lock(LockKind::Shared).unwrap());
    assert!(two.try_lock(LockKind::Shared).unwrap());
    // A refused change of kind costs the lock that was held.
    assert!(!two.try_lock(LockKind::Exclusive).unwrap());
    assert!(one.try_lock(LockKind::Exclusive).unwrap());
    assert!(!two.try_lock(LockKind::Shared).unwrap());
    let same = Arc::clone(&one);
    drop(one);
    assert!(!two.try_lock(LockKind::Exclusive).unwrap());
    // What is given up is free.
    same.unlock().unwrap();
    assert!(two.try_lock(LockKind::Shared).unwrap());
    two.unlock().unwrap();
    assert!(same.try_lock(LockKind::Exclusive).unwrap());
    // A mapping keeps the open file, and so its lock.
    let mapping = same.map(PAGE_BYTES).unwrap();
    drop(same);
    assert!(!two.try_lock(LockKind::Exclusive).unwrap());
    let copy = mapping.clone();
    drop(mapping);
    assert!(!two.try_lock(LockKind::Exclusive).unwrap());
    drop(copy);
    assert!(two.try_lock(LockKind::Exclusive).unwrap());
    assert!(!open().try_lock(LockKind::Shared).unwrap());
    two.unlock().unwrap();
    assert!(open().try_lock(LockKind::Shared).unwrap());
}

#[test]
fn the_real_file_system_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    contract(&RealFs::default(), root.path());
}

#[test]
fn the_simulated_file_system_keeps_the_contract() {
    contract(&*SimFs::new(1), Path::new("/somewhere"));
    contract(&*SimFs::new(1), Path::new("relative"));
}

#[test]
fn synced_bytes_survive_and_others_may_not() {
    let fs = disk();
    let file = synced(&fs, A, &[1; 2 * SECTOR_BYTES]);
    file.write_at(&[2; 2 * SECTOR_BYTES], 0).unwrap();
    let sectors = |first, second| Some([[first; SECTOR_BYTES], [second; SECTOR_BYTES]].concat());
    // A write of two sectors is torn between them, never within one.
    assert_eq!(images(&fs, A), [(1, 1), (1, 2), (2, 1), (2, 2)].map(|(a, b)| sectors(a, b)).into());

    let fs = disk();
    let file = synced(&fs, A, &[1; 2 * SECTOR_BYTES]);
    file.write_at(&[2; 2 * SECTOR_BYTES], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(images(&fs, A), [sectors(2, 2)].into());
}

#[test]
fn extremes_are_among_the_images() {
    let fs = disk();
    let old = vec![1; 200 * SECTOR_BYTES];
    let new = vec![2; 200 * SECTOR_BYTES];
    let file = synced(&fs, A, &old);
    file.write_at(&new, 0).unwrap();
    let images = images(&fs, A);
    assert!(images.contains(&Some(old)) && images.contains(&Some(new)));
    assert!(images.len() > 100, "{} images", images.len());
}

#[test]
fn length_and_bytes_reach_the_disk_apart() {
    let fs = disk();
    let file = synced(&fs, A, &[1; 10]);
    file.write_at(&[2; 5], 10).unwrap();
    file.write_at(&[3; SECTOR_BYTES], 15).unwrap();
    let images = images(&fs, A);
    let lengths: BTreeSet<usize> = images.iter().flatten().map(Vec::len).collect();
    assert_eq!(lengths, [10, 15, 15 + SECTOR_BYTES].into());
    // The length without the bytes shows zeros, and never loses what was synced.
    assert!(images.contains(&Some([&[1; 10][..], &[0; 5 + SECTOR_BYTES]].concat())));
    assert!(images.iter().flatten().all(|bytes| bytes[..10] == [1; 10]));

    let fs = disk();
    synced(&fs, A, &[1; 15 + SECTOR_BYTES]).set_len(4).unwrap();
    let lengths: BTreeSet<_> = self::images(&fs, A).into_iter().flatten().map(|bytes| bytes.len()).collect();
    assert_eq!(lengths, [4, 15 + SECTOR_BYTES].into());
}

#[test]
fn allocation_is_a_length_that_a_sync_keeps() {
    let allocated = |sync: bool| {
        let fs = disk();
        let file = synced(&fs, A, b"");
        file.allocate(4096).unwrap();
        if sync {
            file.sync_data().unwrap();
        }
        images(&fs, A)
    };
    assert_eq!(allocated(false), [Some(vec![]), Some(vec![0; 4096])].into());
    assert_eq!(allocated(true), [Some(vec![0; 4096])].into());
}

#[test]
fn a_new_name_needs_its_directory_synced() {
    let created = |sync: bool| {
        let fs = disk();
        let file = fs.create(A.as_ref()).unwrap();
        file.write_at(b"here", 0).unwrap();
        file.sync_data().unwrap();
        if sync {
            fs.sync_dir(DIR.as_ref()).unwrap();
        }
        images(&fs, A)
    };
    assert_eq!(created(false), [None, Some(b"here".to_vec())].into());
    assert_eq!(created(true), [Some(b"here".to_vec())].into());
}

#[test]
fn a_synced_name_of_an_unsynced_file_may_be_empty() {
    let fs = disk();
    fs.create(A.as_ref()).unwrap().write_at(b"here", 0).unwrap();
    fs.sync_dir(DIR.as_ref()).unwrap();
    assert_eq!(images(&fs, A), [Some(vec![]), Some(vec![0; 4]), Some(b"here".to_vec())].into());
}

#[test]
fn a_removed_name_may_come_back_until_its_directory_is_synced() {
    let removed = |sync: bool| {
        let fs = disk();
        synced(&fs, A, b"a");
        fs.remove(A.as_ref()).unwrap();
        if sync {
            fs.sync_dir(DIR.as_ref()).unwrap();
        }
        images(&fs, A)
    };
    assert_eq!(removed(false), [None, Some(b"a".to_vec())].into());
    assert_eq!(removed(true), [None].into());
}

#[test]
fn a_rename_is_atomic_for_its_target() {
    let fs = disk();
    synced(&fs, A, b"new");
    synced(&fs, B, b"old");
    fs.rename(A.as_ref(), B.as_ref()).unwrap();
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    let pairs: BTreeSet<_> =
        (0..400).map(|seed| fs.crash(seed)).map(|fs| (bytes_of(&*fs, A), bytes_of(&*fs, B))).collect();
    let expected = [(new.clone(), old), (new.clone(), new.clone()), (None, new.clone())];
    assert_eq!(pairs, expected.into());

    let fs = disk();
    synced(&fs, A, b"new");
    fs.rename(A.as_ref(), B.as_ref()).unwrap();
    fs.sync_dir(DIR.as_ref()).unwrap();
    assert_eq!((images(&fs, A), images(&fs, B)), ([None].into(), [new].into()));
}

#[test]
fn a_rename_between_directories_loses_no_file() {
    let away = "/kota/away/a";
    let kept = Some(b"kept".to_vec());
    for synced_dir in ["/kota", "/kota/away"] {
        let fs = disk();
        fs.create_dir("/kota/away".as_ref()).unwrap();
        synced(&fs, A, b"kept");
        fs.create(away.as_ref()).unwrap();
        fs.rename(A.as_ref(), away.as_ref()).unwrap();
        fs.sync_dir(synced_dir.as_ref()).unwrap();
        assert_eq!(images(&fs, away), [kept.clone()].into());
        let source = if synced_dir == "/kota" { vec![None] } else { vec![None, kept.clone()] };
        assert_eq!(images(&fs, A), source.into_iter().collect());
    }
}

#[test]
fn only_the_last_new_directory_is_durable() {
    let fs = SimFs::new(1);
    fs.create_dir("/one".as_ref()).unwrap();
    fs.create_dir("/two/three".as_ref()).unwrap();
    let there = |path: &str| -> BTreeSet<bool> {
        (0..200).map(|seed| fs.crash(seed).read_dir(path.as_ref()).unwrap().is_some()).collect()
    };
    assert_eq!(there("/one"), [true].into());
    assert_eq!(there("/two/three"), [false, true].into());
}

#[test]
fn a_published_file_is_old_or_new_at_every_crash_point() {
    let prepare = || {
        let fs = disk();
        publish(&*fs, A.as_ref(), b"old").unwrap();
        fs
    };
    let start = prepare().operations();
    let mut seen = BTreeSet::new();
    for point in start.. {
        let fs = prepare();
        fs.crash_at(point);
        let outcome = publish(&*fs, A.as_ref(), b"new, and longer");
        assert_eq!(outcome.is_err(), fs.is_gone());
        for seed in 0..50 {
            let bytes = bytes_of(&*fs.crash(seed), A).expect("the name was durable");
            assert!(bytes == b"old" || (bytes == b"new, and longer" && point > start + 3), "{point} {seed} {bytes:?}");
            assert!(outcome.is_err() || bytes != b"old", "published and synced, then lost");
            seen.insert((point - start, bytes));
        }
        if outcome.is_ok() {
            assert_eq!(point - start, 6, "remove, create, write, sync, rename, sync");
            break;
        }
    }
    assert!(seen.contains(&(5, b"old".to_vec())) && seen.contains(&(5, b"new, and longer".to_vec())));
}

#[test]
fn the_crash_point_is_exact_for_mapped_memory_too() {
    let fs = disk();
    let file = synced(&fs, A, &[0; PAGE_BYTES]);
    let mapping = file.map(PAGE_BYTES).unwrap();
    mapping.write(0, b"before");
    fs.crash_at(fs.operations());
    assert_eq!(file.len().unwrap(), PAGE_BYTES as u64);
    is_gone(file.write_at(b"x", 9));
    mapping.write(0, b"after!");
    is_gone(file.len());
    let starts: BTreeSet<_> = images(&fs, A).into_iter().map(|bytes| bytes.unwrap()[..6].to_vec()).collect();
    assert_eq!(starts, [b"before".to_vec(), vec![0; 6]].into());
    assert_eq!(bytes_of(&*fs.kill(), A).unwrap()[..6], *b"before");
}

#[test]
fn mapped_writes_are_durable_when_synced() {
    let fs = disk();
    let file = synced(&fs, A, &[0; 2 * PAGE_BYTES]);
    let mapping = file.map(2 * PAGE_BYTES).unwrap();
    let written = fs.bytes_written();
    mapping.write(0, &[7]);
    mapping.write(PAGE_BYTES, &[8]);
    let ends = |fs: &SimFs| -> BTreeSet<_> {
        images(fs, A).into_iter().flatten().map(|bytes| (bytes[0], bytes[PAGE_BYTES])).collect()
    };
    file.sync_range(&mapping, PAGE_BYTES + 9, 1).unwrap();
    assert_eq!(fs.bytes_written() - written, SECTOR_BYTES as u64);
    let killed = fs.kill();
    assert_eq!(ends(&killed), [(0, 8), (7, 8)].into());

    let fs = disk();
    let file = synced(&fs, A, &[0; 2 * PAGE_BYTES]);
    let mapping = file.map(2 * PAGE_BYTES).unwrap();
    mapping.write(0, &[7]);
    mapping.write(PAGE_BYTES, &[8]);
    file.sync_data().unwrap();
    assert_eq!(ends(&fs), [(7, 8)].into());
}

#[test]
fn the_sync_of_a_range_keeps_the_length_and_no_other_bytes() {
    let fs = disk();
    let file = synced(&fs, A, b"");
    file.write_at(&[9; 2 * SECTOR_BYTES], 0).unwrap();
    let mapping = file.map(2 * SECTOR_BYTES).unwrap();
    file.sync_range(&mapping, 0, SECTOR_BYTES).unwrap();
    let half = [[9; SECTOR_BYTES], [0; SECTOR_BYTES]].concat();
    assert_eq!(images(&fs, A), [Some(half), Some(vec![9; 2 * SECTOR_BYTES])].into());
}

#[test]
fn mappings_have_bounds_and_a_file() {
    let fs = disk();
    let (a, b) = (synced(&fs, A, &[0; PAGE_BYTES]), synced(&fs, B, &[0; PAGE_BYTES]));
    a.map(PAGE_BYTES + 1).unwrap_err();
    let mapping = a.map(PAGE_BYTES).unwrap();
    let _other = b.map(PAGE_BYTES).unwrap();
    b.sync_range(&mapping, 0, 1).unwrap_err();
    a.sync_range(&mapping, PAGE_BYTES, 1).unwrap_err();
    a.set_len(PAGE_BYTES as u64 + 1).unwrap_err();
    a.write_at(&[1; 2], PAGE_BYTES as u64 - 1).unwrap_err();
    a.set_len(10).unwrap();
    a.set_len(20).unwrap();
    assert_eq!(a.len().unwrap(), 20);
    assert!(matches!(b.set_len(u64::MAX), Err(Error::Io { .. })));
}

#[test]
fn a_killed_process_leaves_all_it_wrote_unsynced() {
    let fs = disk();
    let file = synced(&fs, A, &[1; PAGE_BYTES]);
    assert!(file.try_lock(LockKind::Exclusive).unwrap());
    let mapping = file.map(PAGE_BYTES).unwrap();
    mapping.write(0, b"mapped");
    fs.create(B.as_ref()).unwrap().write_at(b"b", 0).unwrap();
    let identity = file.identity().unwrap();
    let next = fs.kill();
    assert_eq!(next.boot_id(), fs.boot_id());
    assert_eq!(bytes_of(&*next, A).unwrap()[..6], *b"mapped");
    assert_eq!(bytes_of(&*next, B).unwrap(), b"b");
    let opened = next.open(A.as_ref()).unwrap().unwrap();
    assert!(opened.try_lock(LockKind::Exclusive).unwrap());
    assert_eq!(opened.identity().unwrap(), identity);

    mapping.write(0, b"ghosts");
    assert_eq!(bytes_of(&*next, A).unwrap()[..6], *b"mapped");
    assert_eq!(images(&next, B).len(), 4, "no name, empty, a zero, or the byte");
}

#[test]
fn a_machine_that_is_gone_answers_nothing() {
    let fs = disk();
    let file = synced(&fs, A, &[0; PAGE_BYTES]);
    let mapping = file.map(PAGE_BYTES).unwrap();
    let identity = file.identity().unwrap();
    let next = fs.crash(3);
    assert_ne!(next.boot_id(), fs.boot_id());
    assert_eq!(next.open(A.as_ref()).unwrap().unwrap().identity().unwrap(), identity);

    let operations = fs.operations();
    let (a, b) = (Path::new(A), Path::new(B));
    is_gone(fs.create_dir(a));
    is_gone(fs.read_dir(a));
    is_gone(fs.create(b));
    is_gone(fs.open(a));
    is_gone(fs.rename(a, b));
    is_gone(fs.remove(a));
    is_gone(fs.sync_dir(DIR.as_ref()));
    is_gone(fs.copy_on_write(a));
    is_gone(fs.fail_write_back(a));
    is_gone(file.len());
    is_gone(file.read_at(&mut [0], 0));
    is_gone(file.write_at(&[0], 0));
    is_gone(file.set_len(0));
    is_gone(file.allocate(1));
    is_gone(file.sync_data());
    is_gone(file.sync_range(&mapping, 0, 1));
    is_gone(file.check_write_back());
    is_gone(file.map(1));
    is_gone(file.try_lock(LockKind::Shared));
    is_gone(file.identity());
    assert_eq!(fs.operations(), operations);
}

#[test]
fn a_refused_call_changes_nothing() {
    let fs = disk();
    let file = synced(&fs, A, b"old");
    fs.fail_after(1, once(FaultKind::Enospc));
    file.write_at(b"new", 0).unwrap();
    assert!(matches!(file.write_at(b"more", 3), Err(Error::StorageFull { .. })));
    assert_eq!(read_all(&*file).unwrap(), b"new");
    file.write_at(b"more", 3).unwrap();

    fs.fail_after(0, Fault { kind: FaultKind::Enospc, once: false });
    assert!(matches!(fs.create(B.as_ref()), Err(Error::StorageFull { .. })));
    assert!(matches!(file.allocate(100), Err(Error::StorageFull { .. })));
    file.sync_data().unwrap();
    fs.remove(B.as_ref()).unwrap();
    fs.repair();
    fs.create(B.as_ref()).unwrap();

    fs.fail_after(0, once(FaultKind::Eio));
    assert!(matches!(fs.rename(A.as_ref(), B.as_ref()), Err(Error::Io { .. })));
    assert_eq!(bytes_of(&*fs, B).unwrap(), b"");
}

#[test]
fn a_short_write_stores_its_start() {
    let mut lengths = BTreeSet::new();
    for seed in 0..50 {
        let fs = SimFs::new(seed);
        let file = fs.create("a".as_ref()).unwrap();
        fs.fail_after(0, once(FaultKind::ShortWrite));
        file.sync_data().unwrap();
        assert!(matches!(file.write_at(b"abc", 0), Err(Error::StorageFull { .. })));
        assert!(b"abc".starts_with(&read_all(&*file).unwrap()));
        assert_eq!(fs.bytes_written(), file.len().unwrap());
        lengths.insert(file.len().unwrap());
    }
    assert_eq!(lengths, [0, 1, 2].into());
}

#[test]
fn a_failed_sync_drops_what_it_should_have_written() {
    let fs = disk();
    let file = synced(&fs, A, &[1; 2 * SECTOR_BYTES]);
    let other = fs.open(A.as_ref()).unwrap().unwrap();
    file.write_at(&[2; 2 * SECTOR_BYTES], 0).unwrap();
    fs.fail_after(0, once(FaultKind::FailedSync));
    assert!(matches!(file.sync_data(), Err(Error::Io { .. })));
    // The retry succeeds, the live bytes are there, and the disk has none of them.
    file.sync_data().unwrap();
    assert_eq!(read_all(&*file).unwrap(), [2; 2 * SECTOR_BYTES]);
    // Who did not sync learns of it once; who did knows already; who opens later is too late.
    file.check_write_back().unwrap();
    other.check_write_back().unwrap_err();
    other.check_write_back().unwrap();
    fs.open(A.as_ref()).unwrap().unwrap().check_write_back().unwrap();

    file.write_at(&[2; 10], SECTOR_BYTES as u64).unwrap();
    file.sync_data().unwrap();
    let half = [[1; SECTOR_BYTES], [2; SECTOR_BYTES]].concat();
    assert_eq!(images(&fs, A), [Some(half)].into());
}

#[test]
fn a_failed_sync_drops_mapped_bytes() {
    let fs = disk();
    let file = synced(&fs, A, &[1; PAGE_BYTES]);
    let mapping = file.map(PAGE_BYTES).unwrap();
    mapping.write(0, &[2; PAGE_BYTES]);
    fs.fail_after(0, once(FaultKind::FailedSync));
    file.sync_range(&mapping, 0, PAGE_BYTES).unwrap_err();
    mapping.write(SECTOR_BYTES, &[3]);
    file.sync_data().unwrap();
    let killed = fs.kill();
    assert_eq!(bytes_of(&*killed, A).unwrap()[0], 2, "the page cache still shows it");
    let image = images(&killed, A);
    let [Some(bytes)] = &Vec::from_iter(image)[..] else { panic!("all was synced or dropped") };
    assert_eq!((bytes[0], bytes[SECTOR_BYTES], bytes[SECTOR_BYTES + 1], bytes[2 * SECTOR_BYTES]), (1, 3, 2, 1));
}

#[test]
fn a_refused_sync_keeps_pages_dirty() {
    let fs = disk();
    let file = synced(&fs, A, b"old");
    let other = fs.open(A.as_ref()).unwrap().unwrap();
    file.write_at(b"new", 0).unwrap();
    fs.fail_after(0, once(FaultKind::Eio));
    file.sync_data().unwrap_err();
    other.check_write_back().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(images(&fs, A), [Some(b"new".to_vec())].into());
}

#[test]
fn a_failed_directory_sync_drops_names() {
    let fs = disk();
    synced(&fs, B, b"b");
    fs.create(A.as_ref()).unwrap().sync_data().unwrap();
    fs.fail_after(0, once(FaultKind::FailedSync));
    fs.sync_dir(DIR.as_ref()).unwrap_err();
    fs.sync_dir(DIR.as_ref()).unwrap();
    assert!(bytes_of(&*fs, A).is_some());
    assert_eq!(images(&fs, A), [None].into());
    assert_eq!(images(&fs, B), [Some(b"b".to_vec())].into());
}

#[test]
fn a_write_back_that_failed_unseen_is_told_to_whoever_comes_next() {
    let fs = disk();
    let file = synced(&fs, A, b"old");
    file.write_at(b"new", 0).unwrap();
    fs.fail_write_back(A.as_ref()).unwrap();
    let fs = fs.kill();
    let (one, two) = (fs.open(A.as_ref()).unwrap().unwrap(), fs.open(A.as_ref()).unwrap().unwrap());
    one.sync_data().unwrap_err();
    one.sync_data().unwrap();
    two.check_write_back().unwrap_err();
    fs.open(A.as_ref()).unwrap().unwrap().check_write_back().unwrap();
    assert_eq!(read_all(&*one).unwrap(), b"new");
    assert_eq!(images(&fs, A), [Some(b"old".to_vec())].into());
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let run = |seed| {
        let fs = disk();
        for path in [A, B, "/kota/c", "/kota/d"] {
            let file = synced(&fs, path, &[1; PAGE_BYTES]);
            file.map(PAGE_BYTES).unwrap().write(0, &[2; PAGE_BYTES]);
        }
        fs.rename(A.as_ref(), B.as_ref()).unwrap();
        fs.remove("/kota/c".as_ref()).unwrap();
        let image = fs.crash(seed);
        let again = fs.crash(seed);
        let state = |fs: &SimFs| (fs.boot_id(), [A, B, "/kota/c", "/kota/d"].map(|path| bytes_of(fs, path)));
        assert_eq!(state(&image), state(&again));
        state(&image)
    };
    assert_eq!(run(7), run(7));
    let distinct: BTreeSet<_> = (0..20).map(|seed| run(seed).1).collect();
    assert!(distinct.len() > 10, "{}", distinct.len());
}

#[test]
fn an_image_can_crash_again() {
    let fs = disk();
    let file = synced(&fs, A, b"one");
    file.write_at(b"two", 0).unwrap();
    for seed in 0..20 {
        let first = fs.crash(seed);
        let after = bytes_of(&*first, A).unwrap();
        assert_eq!(images(&first, A), [Some(after)].into(), "what survived is on the disk");
        assert_eq!(first.operations(), 0);
    }
}

#[test]
fn removed_files_are_forgotten_once_nobody_can_reach_them() {
    let fs = disk();
    let file = synced(&fs, A, b"a");
    let count = || fs.machine.lock().inodes.len();
    fs.remove(A.as_ref()).unwrap();
    fs.sync_dir(DIR.as_ref()).unwrap();
    assert_eq!((count(), read_all(&*file).unwrap()), (1, b"a".to_vec()));
    drop(file);
    fs.sync_dir(DIR.as_ref()).unwrap();
    assert_eq!(count(), 0);
}

#[test]
fn the_kind_of_file_system_is_as_set() {
    let fs = disk();
    assert_eq!(fs.copy_on_write(DIR.as_ref()).unwrap(), None);
    fs.set_copy_on_write("btrfs");
    assert_eq!(fs.copy_on_write(DIR.as_ref()).unwrap(), Some("btrfs"));
    fs.copy_on_write(A.as_ref()).unwrap_err();
}

#[test]
fn random_calls_leave_the_same_bytes_as_on_the_real_file_system() {
    let root = tempfile::tempdir().unwrap();
    for seed in 0..10 {
        let mut random = chance::Random::new(seed);
        let fs = disk();
        let files = [RealFs::default().create(&root.path().join(seed.to_string())).unwrap(), synced(&fs, A, b"")];
        let mut synced = Vec::new();
        for _ in 0..60 {
            let (call, offset) = (random.below(8), random.below(3 * PAGE_BYTES));
            let bytes = vec![random.below(250) as u8 + 1; random.below(2 * PAGE_BYTES)];
            let bytes = &bytes;
            let outcomes = files.each_ref().map(|file| match call {
                0 => file.set_len(offset as u64).is_ok(),
                1 => file.allocate(offset as u64 + 1).is_ok(),
                2 => file.sync_data().is_ok(),
                // Within the file, so that neither has to extend under the mapping.
                3 if file.len().unwrap() > 0 => {
                    let mapping = file.map(usize::try_from(file.len().unwrap()).unwrap()).unwrap();
                    let start = offset.min(mapping.len());
                    mapping.write(start, &bytes[..bytes.len().min(mapping.len() - start)]);
                    true
                }
                _ => file.write_at(bytes, offset as u64).is_ok(),
            });
            assert_eq!(outcomes, [true, true]);
            let [real, simulated] = files.each_ref().map(|file| read_all(&**file).unwrap());
            assert_eq!(real, simulated, "seed {seed}, call {call} at {offset}");
            if call == 2 {
                synced = simulated;
            }
        }
        let live = read_all(&*files[1]).unwrap();
        // Each sector of an image is the synced one or the live one, as far as the image reaches.
        let sector = |bytes: &[u8], number: usize| {
            let mut sector = bytes.chunks(SECTOR_BYTES).nth(number).unwrap_or(&[]).to_vec();
            sector.resize(SECTOR_BYTES, 0);
            sector
        };
        for seed in 0..10 {
            let image = bytes_of(&*fs.crash(seed), A).unwrap();
            for (number, found) in image.chunks(SECTOR_BYTES).enumerate() {
                let known = [sector(&synced, number), sector(&live, number)];
                assert!(known.iter().any(|known| known.starts_with(found)), "sector {number} of image {seed}");
            }
        }
        assert_eq!(bytes_of(&*fs.kill(), A).unwrap(), live);
    }
}

#[test]
#[ignore = "a measurement: what an image costs"]
fn cost_of_an_image() {
    for dirty_bytes in [0, 64 << 10, 1 << 20] {
        let fs = disk();
        let mut maps = Vec::new();
        for path in [A, B, "/kota/c"] {
            let map = synced(&fs, path, &vec![1; 1 << 20]).map(1 << 20).unwrap();
            map.write(0, &vec![2; dirty_bytes]);
            maps.push(map);
        }
        let start = Instant::now();
        for seed in 0..1000 {
            assert!(fs.crash(seed).open(A.as_ref()).unwrap().is_some());
        }
        println!("{:?} an image of 3 MiB, {dirty_bytes} bytes of each dirty", start.elapsed() / 1000);
    }
}
