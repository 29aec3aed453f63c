//! A process that dies with many unsealed rows, and the one that opens its store after it.

use denyut::prelude::*;

use crate::child;
use crate::numbered::{self, Way};

const WRITERS: [(&str, Way); 3] = [("named", Way::Named), ("handle", Way::Handle), ("batch", Way::Batch)];
const ROWS_EACH: i64 = 100_000;

#[test]
#[ignore = "the child of the reopening test"]
fn child_with_unsealed_rows() {
    let Some((path, _)) = child::work() else { return };
    let store = Store::options().seal_threads(0).open(path).unwrap();
    let table = store.table(numbered::schema("water")).unwrap();
    std::thread::scope(|scope| {
        for (name, way) in WRITERS {
            let table = &table;
            scope.spawn(move || {
                let mut writer = table.writer().unwrap();
                for from in (0..ROWS_EACH).step_by(1_000) {
                    numbered::append(way, table, &mut writer, name, from..from + 1_000).unwrap();
                }
                child::say(&format!("done {name}"));
            });
        }
    });
    child::say("all");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_with_300_000_unsealed_rows_reopens_with_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let (mut child, said) = child::start("reopen::child_with_unsealed_rows", &path, 0);
    let finished = child::whole_lines(said).any(|line| line == "all");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(finished, "the child died by itself");
    for life in 0..2 {
        let store = Store::options().seal_threads(0).open(&path).unwrap();
        let recovery = store.recovery();
        assert!(recovery.is_whole(), "life {life}: {recovery:?}");
        assert_eq!((recovery.live_rows, recovery.segments), (3 * ROWS_EACH as u64, 0), "life {life}");
        let table = store.existing("water").unwrap();
        let found = numbered::check(&table, &format!("life {life}"));
        assert_eq!(found.len(), WRITERS.len(), "life {life}");
        assert!(found.values().all(|rows| *rows == ROWS_EACH), "life {life}: {found:?}");
        if life == 1 {
            assert_eq!(store.seal().unwrap(), 3 * ROWS_EACH as u64);
            assert_eq!(numbered::check(&table, "sealed"), found);
        }
    }
}
