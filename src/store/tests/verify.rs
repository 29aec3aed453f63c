//! Every kind of damage is found and named, on an open store and on a closed one, and nothing else is.

use std::ops::ControlFlow;

use super::care::{closed, files};
use super::*;
use crate::Verification;
use crate::fs::FileSystem;
use crate::store::care::verify_on;

/// Turns one bit over; twice is as before.
pub(super) fn flip(fs: &SimFs, path: &str, at: usize, bit: usize) {
    let file = fs.open(Path::new(path)).unwrap().unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at as u64).unwrap();
    file.write_at(&[byte[0] ^ (1 << bit)], at as u64).unwrap();
}

pub(super) fn verify_closed(fs: &Arc<SimFs>, path: &str) -> Verification {
    verify_on(&(fs.clone() as Arc<dyn FileSystem>), Path::new(path), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn named(found: &Verification, path: &str) -> bool {
    found.damages.iter().any(|damage| damage.path == Path::new(path))
}

#[test]
fn a_whole_store_is_found_whole() {
    let fs = SimFs::new(1);
    let store = open_sim(&fs).unwrap();
    assert!(store.verify().unwrap().is_whole(), "empty");
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, "a", 0..3_000).unwrap();
    store.seal().unwrap();
    append(&mut writer, "b", 0..40).unwrap();
    store.sync().unwrap();
    append(&mut writer, "b", 40..50).unwrap();
    let found = store.verify().unwrap();
    assert!(found.is_whole(), "{found}");
    assert_eq!((found.rows, found.uncommitted_rows), (3_040, 10), "{found}");
    assert!(matches!(store.verify_with(|_| ControlFlow::Break(())), Err(Error::Stopped { .. })));
    drop((writer, table));
    store.close().unwrap();
    assert!(matches!(store.verify(), Err(Error::Closed)));
    drop(store);
    let before = files(&fs, "/store");
    let found = verify_closed(&fs, "/store");
    assert!(found.is_whole(), "{found}");
    assert_eq!((found.rows, found.uncommitted_rows), (3_050, 0), "{found}");
    let mut after = files(&fs, "/store");
    after.insert("/store/lock".into(), before["/store/lock"].clone());
    assert_eq!(after, before, "nothing is changed");
}

#[test]
fn a_store_is_verified_while_it_is_written() {
    let fs = SimFs::new(2);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, "a", 0..5_000).unwrap();
    store.sync().unwrap();
    let (mut next, mut told) = (5_000, 0);
    let found = store.verify_with(|progress| {
        assert!(progress.done_bytes <= progress.total_bytes);
        // Between any two looks of the verifier: rows, a sync, a seal that recycles blocks.
        append(&mut writer, "a", next..next + 700).unwrap();
        next += 700;
        if told % 2 == 0 {
            store.sync().unwrap()
        } else {
            assert!(store.seal().unwrap() > 0)
        }
        told += 1;
        ControlFlow::Continue(())
    });
    let found = found.unwrap();
    assert!(found.is_whole(), "{found}");
    assert!(told > 5, "{told}");
    assert_eq!(rows_of(&table).len() as i64, next);
}

#[test]
fn a_flipped_bit_is_found_in_an_open_store() {
    let fs = SimFs::new(3);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    append(&mut writer, "a", 0..300).unwrap();
    store.seal().unwrap();
    append(&mut writer, "b", 0..40).unwrap();
    store.sync().unwrap();
    let block = store.inner.core.view.load().blocks().next().unwrap().block.clone();
    let block_name = block.file.path().to_str().unwrap().to_string();
    // The first commit's entry is in the second slot.
    let slot = crate::ingest::layout::SLOTS + block.layout.slot_bytes;
    let mut chance = 0_usize;
    let mut flips = 0;
    for (path, bytes) in files(&fs, "/store") {
        // Where there is a checksum, and how far apart the bytes are that are tried.
        let all = 0..bytes.len();
        let places: Vec<usize> = match &path {
            path if path.ends_with("control") => (0..512).collect(),
            path if path.ends_with(".series") || path.ends_with(".log") || path.contains("manifest") => all.collect(),
            path if path.ends_with(".parquet") => all.step_by(37).collect(),
            path if *path == block_name => {
                let time = block.layout.time;
                (0..512).chain(slot..slot + 512).chain(time..time + 8 * 340).step_by(7).collect()
            }
            _ => continue,
        };
        for at in places {
            chance = chance.wrapping_mul(31).wrapping_add(at + 7);
            let bit = chance % 8;
            flip(&fs, &path, at, bit);
            let found = store.verify().unwrap();
            assert!(named(&found, &path), "bit {bit} of byte {at} of {path}: {found}");
            flip(&fs, &path, at, bit);
            flips += 1;
        }
    }
    assert!(flips > 1_000, "{flips}");
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn damage_says_which_rows_and_times() {
    let fs = SimFs::new(4);
    let options = Store::options().block_bytes_min(4 << 20).without_background();
    let store = Store::open_on(fs.clone(), options, Path::new("/store")).unwrap();
    let day = std::time::Duration::from_secs(364 * 86_400);
    let table = store.table(numbered().partition(day)).unwrap();
    append(&mut table.writer().unwrap(), "a", 0..30_000).unwrap();
    store.seal().unwrap();
    let (path, bytes) = files(&fs, "/store").into_iter().find(|(path, _)| path.ends_with(".parquet")).unwrap();
    let mut rows = Vec::new();
    for piece in 0..bytes.len() as u64 / (16 << 10) {
        let at = piece * (16 << 10);
        flip(&fs, &path, at as usize + 99, 3);
        let found = store.verify().unwrap();
        flip(&fs, &path, at as usize + 99, 3);
        let [damage] = &found.damages[..] else { panic!("{found}") };
        assert_eq!((damage.table.as_deref(), damage.offset), (Some("numbered"), at));
        assert_eq!(damage.time, Some((time_of(0), time_of(29_999))));
        rows.push(damage.rows);
    }
    assert!(rows.iter().all(|rows| (1..=30_000).contains(rows)), "{rows:?}");
    assert!(rows.iter().any(|rows| *rows < 17_000), "a page or two of 8,192 rows: {rows:?}");
    flip(&fs, &path, bytes.len() - 4, 3);
    let found = store.verify().unwrap();
    assert!(found.damages.iter().all(|damage| damage.rows == 30_000), "without a footer nothing is known: {found}");
}

#[test]
fn files_that_are_gone_or_of_another_segment_are_found() {
    for ending in [".parquet", ".series", "series.log", "control", "manifest-00000001"] {
        let fs = closed(5);
        let path = files(&fs, "/store").into_keys().find(|path| path.ends_with(ending)).unwrap();
        fs.remove(Path::new(&path)).unwrap();
        let found = verify_closed(&fs, "/store");
        assert!(!found.is_whole(), "{ending}");
    }
    // A file of the right kind with right checksums, in the wrong place.
    let fs = SimFs::new(6);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    for start in [0, 300] {
        append(&mut writer, "a", start..start + 300).unwrap();
        store.seal().unwrap();
    }
    let parquet: Vec<_> = files(&fs, "/store").into_iter().filter(|(path, _)| path.ends_with(".parquet")).collect();
    fs.remove(Path::new(&parquet[0].0)).unwrap();
    fs.create(Path::new(&parquet[0].0)).unwrap().write_at(&parquet[1].1, 0).unwrap();
    let found = store.verify().unwrap();
    assert!(named(&found, &parquet[0].0), "{found}");
    assert!(!named(&found, &parquet[1].0), "{found}");
}
