//! Ten thousand segments under a limit of 256 descriptors.

use std::time::Duration;

use denyut::prelude::*;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::chance::setting;
use crate::child;

const DESCRIPTORS: u64 = 256;
/// Segments that one seal makes.
const PARTITIONS: i64 = 1_000;
const MINUTE_NS: i64 = 60_000_000_000;
const SITES: [&str; 3] = ["a", "b", "a site with a longer name"];

fn options() -> Options {
    // Footers of a few segments only, so that queries open files over and over.
    Store::options()
        .seal_partitions_max(1_024)
        .metadata_cache_bytes_max(1 << 20)
        .seal_after(Duration::from_secs(86_400))
        .query_threads(4)
        .query_timeout(Duration::from_secs(600))
}

/// Three rows in each minute: a minute is a partition, and each becomes a segment.
fn fill(store: &Store, segments: i64) {
    let schema = Schema::new("sites").tag("site").i64("number", "").partition(Duration::from_secs(60));
    let table = store.table(schema).unwrap();
    let mut writer = table.writer().unwrap();
    for minute in 0..segments {
        for site in SITES {
            let _ =
                writer.append_at(Time::from_nanos(minute * MINUTE_NS), row! { site: site, number: minute }).unwrap();
        }
        if minute % PARTITIONS == PARTITIONS - 1 {
            store.seal().unwrap();
        }
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
#[ignore = "the child of the descriptor test"]
fn child_with_few_descriptors() {
    let Some((path, segments)) = child::work() else { return };
    let limit = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let store = options().open(path).unwrap();
    let segments = segments as i64;
    assert_eq!(store.recovery().segments as i64, segments);
    assert!(open_descriptors() < 64, "{} descriptors after opening", open_descriptors());
    let table = store.existing("sites").unwrap();
    let rows: usize = table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows as i64, 3 * segments);
    // Many scans, each in the middle of a segment.
    let mut scans: Vec<_> = (0..100).map(|_| table.scan().unwrap()).collect();
    assert!(scans.iter_mut().all(|scan| scan.next().unwrap().unwrap().num_rows() == 3));
    drop(scans);
    #[cfg(feature = "sql")]
    {
        let text = "SELECT site, count(number) AS n, sum(number) AS total FROM sites GROUP BY site ORDER BY site";
        let rows = store.query(text).unwrap();
        assert_eq!(rows.num_rows(), SITES.len());
        for row in 0..SITES.len() {
            assert_eq!(rows.i64(row, "n").unwrap(), Some(segments));
            assert_eq!(rows.i64(row, "total").unwrap(), Some(segments * (segments - 1) / 2));
        }
    }
    assert!(open_descriptors() < 64, "{} descriptors are left open", open_descriptors());
    // And it still writes.
    let mut writer = table.writer().unwrap();
    let _ = writer.append(row! { site: "a", number: 0_i64 }).unwrap();
    store.seal().unwrap();
    drop(writer);
    store.close().unwrap();
    child::say("done");
}

#[test]
fn ten_thousand_segments_need_no_ten_thousand_descriptors() {
    let segments = setting("DENYUT_SEGMENTS").map_or(10_000, |segments| segments as i64) / PARTITIONS * PARTITIONS;
    // A segment is two files and three syncs; in memory they cost nothing.
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let path = dir.path().join("kota");
    let store = options().open(&path).unwrap();
    fill(&store, segments);
    store.close().unwrap();
    drop(store);
    let (mut child, said) = child::start("descriptors::child_with_few_descriptors", &path, segments as u64);
    let lines: Vec<String> = child::whole_lines(said).collect();
    let status = child.wait().unwrap();
    assert!(status.success() && lines.iter().any(|line| line == "done"), "{status}: {lines:?}");
}
