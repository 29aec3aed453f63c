//! A flipped byte anywhere in the logs, indexes and segments of a store: an error that says where, or exactly the same rows.

use std::fs;
use std::path::{Path, PathBuf};

use denyut::prelude::*;

use crate::chance::{Chance, seed, setting};
use crate::numbered::{self, Way};

/// The rows of each writer, or the error of whatever read them.
fn rows(path: &Path) -> denyut::Result<i64> {
    let store = Store::open(path)?;
    let table = store.existing("plain")?;
    // First for errors, since the check unwraps them.
    table.scan()?.map(|batch| batch.map(|batch| batch.num_rows())).sum::<denyut::Result<usize>>()?;
    Ok(numbered::check(&table, "damaged").values().sum())
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
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

/// Where a flip must be noticed: all of a log, an index or a segment; of a block what comes before its columns, save the
/// counts, which are trusted while the kernel lives.
fn judged(file: &Path, at: usize) -> bool {
    let name = file.to_str().unwrap();
    if name.ends_with(".block") {
        return at < 512 || (4_096..4_096 + 4 * 512).contains(&at);
    }
    true
}

#[test]
fn a_flipped_byte_is_an_error_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let store = Store::options().block_bytes_min(64 << 10).open(&path).unwrap();
    let table = store.table(numbered::schema("plain")).unwrap();
    let mut writer = table.writer().unwrap();
    numbered::append(Way::Batch, &table, &mut writer, "a", 0..300).unwrap();
    store.seal().unwrap();
    numbered::append(Way::Batch, &table, &mut writer, "a", 300..350).unwrap();
    store.sync().unwrap();
    drop((writer, table));
    store.close().unwrap();
    drop(store);
    assert_eq!(rows(&path).unwrap(), 350);
    let read = |file: PathBuf| (file.clone(), fs::read(file).unwrap());
    // A pin has no byte to flip.
    let whole: Vec<_> = files(&path).into_iter().map(read).filter(|(_, bytes)| !bytes.is_empty()).collect();
    let mut chance = Chance::new(seed());
    let mut noticed = 0;
    for _ in 0..setting("DENYUT_FLIPS").unwrap_or(400) {
        let (file, bytes) = &whole[chance.within(0..whole.len() as u64) as usize];
        let at = chance.within(0..bytes.len() as u64) as usize;
        if !judged(file, at) {
            continue;
        }
        let bit = 1 << chance.within(0..8);
        let mut flipped = bytes.clone();
        flipped[at] ^= bit;
        fs::write(file, flipped).unwrap();
        match rows(&path) {
            Ok(rows) => assert_eq!(rows, 350, "{} at {at}, bit {bit}", file.display()),
            Err(error) => {
                noticed += 1;
                let kind = error.kind();
                assert!(
                    matches!(kind, ErrorKind::Corrupted | ErrorKind::Invalid),
                    "{} at {at}: {error}",
                    file.display()
                );
            }
        }
        // The store is put back as it was, byte for byte, for the next flip.
        for file in files(&path) {
            fs::remove_file(file).unwrap();
        }
        whole.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    }
    assert!(noticed > 20, "flips were made where they matter: {noticed}");
}
