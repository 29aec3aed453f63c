//! Small stores of every version of the format, which open for ever.
//!
//! `tests/fixtures/vN` was written once by a release of version N and is never written again:
//!
//! ```sh
//! DENYUT_FIXTURE=tests/fixtures/v1 cargo test --test store -- --ignored fixtures::write
//! ```

use std::path::{Path, PathBuf};

use denyut::prelude::*;

use crate::numbered::{self, Way};

/// Rows of each writer in a fixture.
const SEALED_ROWS: i64 = 1_200;
const LIVE_ROWS: i64 = 1_500;

fn tables(store: &Store) -> [Table; 2] {
    let plain = numbered::schema("plain").keep_ingest_time();
    let stamped = numbered::schema("stamped").dedup(Dedup::LastWrite);
    [plain, stamped].map(|schema| store.table(schema).unwrap())
}

#[test]
#[ignore = "writes a fixture: once a version of the format"]
fn write() {
    let path = std::env::var("DENYUT_FIXTURE").expect("DENYUT_FIXTURE says where");
    let options =
        Store::options().block_bytes_min(64 << 10).block_bytes_max(1 << 20).seal_after(std::time::Duration::MAX);
    let store = options.open(&path).unwrap();
    for table in &tables(&store) {
        let mut writer = table.writer().unwrap();
        numbered::append(Way::Batch, table, &mut writer, "a", 0..SEALED_ROWS / 2).unwrap();
        store.seal().unwrap();
        numbered::append(Way::Named, table, &mut writer, "a", SEALED_ROWS / 2..SEALED_ROWS).unwrap();
        numbered::append(Way::Handle, table, &mut writer, "b", 0..SEALED_ROWS).unwrap();
        // What the last write takes the place of is in a segment and in a live block.
        numbered::append(Way::Handle, table, &mut writer, "late", 0..10).unwrap();
        store.seal().unwrap();
        if table.schema().policies().dedup == Dedup::LastWrite {
            numbered::append(Way::Handle, table, &mut writer, "late", 0..10).unwrap();
        }
        numbered::append(Way::Batch, table, &mut writer, "a", SEALED_ROWS..LIVE_ROWS).unwrap();
    }
    let _ = tables(&store)[0]
        .writer()
        .unwrap()
        .append_at(Time::from_nanos(i64::MAX), row! { writer: "far", site: "s", number: 1_i64 });
    store.close().unwrap();
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn check(found: &std::collections::BTreeMap<String, i64>, place: &str) {
    let wanted = [("a", LIVE_ROWS), ("b", SEALED_ROWS), ("late", 10)];
    let wanted = wanted.map(|(writer, rows)| (writer.to_string(), rows));
    assert_eq!(*found, wanted.into(), "{place}");
}

#[test]
fn stores_of_every_version_open() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut versions: Vec<PathBuf> = std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    assert!(!versions.is_empty(), "the fixtures are gone");
    for version in versions {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kota");
        copy(&version, &path);
        let place = version.display().to_string();
        // As another process sees it, before anybody has recovered it.
        let reader = Store::open_read_only(&path).unwrap_or_else(|error| panic!("{place}: {error}"));
        let read = |table: &str| numbered::check_scan(reader.scan(table).unwrap(), &place);
        ["plain", "stamped"].iter().for_each(|table| check(&read(table), &place));
        let store = Store::open(&path).unwrap_or_else(|error| panic!("{place}: {error}"));
        for table in &tables(&store) {
            check(&numbered::check(table, &place), &place);
            let mut writer = table.writer().unwrap();
            numbered::append(Way::Named, table, &mut writer, "new", 0..100).unwrap();
            store.seal().unwrap();
            assert_eq!(numbered::check(table, &place)["new"], 100, "{place}");
        }
        assert_eq!(numbered::check_scan(reader.scan("plain").unwrap(), &place)["new"], 100, "{place}");
        let verified = store.verify().unwrap();
        assert!(verified.is_whole(), "{place}: {verified}");
    }
}
