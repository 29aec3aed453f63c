//! What is not a store, not a time, not for two: a typed error that says what and where, and nothing accepted is lost.

use std::fs;
use std::path::{Path, PathBuf};

use denyut::prelude::*;

use crate::fixtures::copy;
use crate::numbered::{self, Way};

fn filled(dir: &Path) -> PathBuf {
    let path = dir.join("kota");
    let store = Store::open(&path).unwrap();
    let table = store.table(numbered::schema("plain")).unwrap();
    let mut writer = table.writer().unwrap();
    numbered::append(Way::Handle, &table, &mut writer, "a", 0..600).unwrap();
    store.seal().unwrap();
    numbered::append(Way::Named, &table, &mut writer, "a", 600..900).unwrap();
    drop(writer);
    store.close().unwrap();
    path
}

fn only(path: &Path, end: &str) -> PathBuf {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.to_str().unwrap().ends_with(end)).min().unwrap()
}

/// CRC-32 as the format has it, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[test]
fn a_second_writer_is_told_who_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    let store = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.is_retryable());
    store.close().unwrap();
    let next = Store::open(&path).unwrap();
    assert_eq!(numbered::check(&next.existing("plain").unwrap(), "reopened")["a"], 900);
    assert!(matches!(store.existing("plain").unwrap().writer(), Err(Error::Closed)));
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    let mut control = fs::read(path.join("control")).unwrap();
    control[8] = 99;
    let sum = checksum(&control[..508]);
    control[508..512].copy_from_slice(&sum.to_le_bytes());
    fs::write(path.join("control"), control).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, Error::NewerVersion { found: 99, supported: 1, .. }), "{error}");
}

#[test]
fn what_is_no_store_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made beside it");
    let file = dir.path().join("letter.txt");
    let error = Store::open(&file).unwrap_err();
    assert!(error.to_string().contains("letter.txt"), "{error}");
    assert_eq!(fs::read(file).unwrap(), b"dear");
}

#[test]
fn other_things_in_a_files_place_are_errors_and_no_waits() {
    use std::process::Command;
    let dir = tempfile::tempdir().unwrap();
    for (name, make) in [("control", "mkfifo"), ("series.log", "mkfifo"), ("control", "mkdir")] {
        let path = filled(&dir.path().join(format!("{name}-{make}")));
        fs::remove_file(path.join(name)).unwrap();
        assert!(Command::new(make).arg(path.join(name)).status().unwrap().success());
        let error = Store::open(&path).unwrap_err();
        assert!(error.to_string().contains(name), "{make}: {error}");
    }
    let path = filled(&dir.path().join("link"));
    fs::rename(path.join("series.log"), dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), path.join("series.log")).unwrap();
    assert!(Store::open(&path).unwrap_err().to_string().contains("series.log"));
}

#[test]
fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, end) in
        [("", "manifest-00000001"), ("", "series.log"), ("segments", ".parquet"), ("segments", ".series")]
    {
        for cut in [true, false] {
            let path = filled(&dir.path().join(format!("{end}-{cut}")));
            let file = only(&path.join(folder), end);
            let mut bytes = fs::read(&file).unwrap();
            if cut {
                bytes.truncate(bytes.len() / 2);
            } else {
                // Of a series index the end is the summary, which a scan does not read.
                let middle = if end == ".parquet" { bytes.len() - 6 } else { 80 };
                bytes[middle] ^= 0xFF;
            }
            fs::write(&file, bytes).unwrap();
            let result = Store::open(&path).and_then(|store| {
                let table = store.existing("plain")?;
                table.scan()?.map(|batch| batch.map(|batch| batch.num_rows())).sum::<denyut::Result<usize>>()
            });
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupted, "{end}, cut {cut}: {error}");
            assert!(error.to_string().contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
        }
    }
}

#[test]
fn times_that_nanoseconds_cannot_say_are_refused() {
    assert!(matches!(Time::from_secs(i64::MAX), Err(Error::InvalidTime { .. })));
    assert!(matches!(Time::from_millis(i64::MIN), Err(Error::InvalidTime { .. })));
    for bad in ["1600-01-01T00:00:00Z", "2300-01-01T00:00:00Z", "yesterday", ""] {
        assert!(matches!(bad.parse::<Time>(), Err(Error::InvalidTime { .. })), "{bad:?}");
    }
    assert!("1677-09-22T00:00:00Z".parse::<Time>().is_ok());
}

#[test]
fn a_store_copied_while_open_has_every_synced_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    let store = Store::open(&path).unwrap();
    let table = store.existing("plain").unwrap();
    let mut writer = table.writer().unwrap();
    numbered::append(Way::Batch, &table, &mut writer, "a", 900..1_500).unwrap();
    store.sync().unwrap();
    numbered::append(Way::Batch, &table, &mut writer, "a", 1_500..1_600).unwrap();
    copy(&path, &dir.path().join("copy"));
    // A copy has other inodes, so its counts prove nothing and its commit entries all.
    let other = Store::open(dir.path().join("copy")).unwrap();
    assert_eq!(other.recovery().rows_cut, 100);
    assert_eq!(numbered::check(&other.existing("plain").unwrap(), "copy")["a"], 1_500);
    assert_eq!(numbered::check(&table, "original")["a"], 1_600);
}

#[test]
fn durations_without_end_are_fine() {
    use std::time::Duration;
    let dir = tempfile::tempdir().unwrap();
    let options = Store::options()
        .durability(Durability::Interval(Duration::MAX))
        .overload(Overload::Wait(Duration::MAX))
        .seal_after(Duration::MAX)
        .cold_after(Duration::MAX)
        .snapshot_timeout(Duration::MAX);
    let store = options.open(dir.path().join("kota")).unwrap();
    let schema = Schema::new("water").tag("gate").f64("level", "").retention(Duration::MAX).lateness(Duration::MAX);
    let table = store.table(schema).unwrap();
    let mut writer = table.writer().unwrap();
    writer.append(row! { gate: "a", level: 1.0 }).unwrap();
    store.seal().unwrap();
    store.maintain().unwrap();
    writer.append(row! { gate: "a", level: 2.0 }).unwrap();
    assert_eq!(table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    drop(writer);
    // Says so if a thread of the store has died.
    store.close().unwrap();
}
