//! Writers and readers of one process at once, over real files: for ThreadSanitizer, and short enough for every run.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::*;
use crate::Reader;

const WRITERS: usize = 2;
const ROWS: i64 = 20_000;

fn counted() -> Schema {
    Schema::new("counted").tag("writer").i64("number", "").f64("half", "").utf8("text", "")
}

/// Checks that each writer's rows are a prefix, each row whole, and gives how many each has.
fn prefixes(scan: crate::Scan) -> [i64; WRITERS] {
    let mut found: [Vec<i64>; WRITERS] = Default::default();
    for batch in scan {
        let batch = batch.unwrap();
        let column = |name| batch.column_by_name(name).unwrap();
        let (writers, numbers) = (column("writer").as_string_view(), column("number").as_primitive::<Int64Type>());
        let (halves, texts) = (column("half").as_primitive::<Float64Type>(), column("text").as_string_view());
        for row in 0..batch.num_rows() {
            let number = numbers.value(row);
            assert_eq!(halves.iter().nth(row).unwrap(), half_of(number), "row {number}");
            assert_eq!(texts.is_valid(row).then(|| texts.value(row)), text_of(number).as_deref(), "row {number}");
            found[writers.value(row).parse::<usize>().unwrap()].push(number);
        }
    }
    found.map(|mut numbers| {
        numbers.sort_unstable();
        assert!(numbers.iter().zip(0..).all(|(number, expected)| *number == expected), "no prefix");
        numbers.len() as i64
    })
}

#[test]
fn readers_beside_writers_see_whole_rows_that_only_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(256 << 10).live_bytes_max(4 << 20);
    let store = options.open(&path).unwrap();
    let table = store.table(counted()).unwrap();
    let beside =
        Reader::open_on(Arc::new(crate::fs::real::RealFs::default()), &Store::options().without_background(), &path);
    let beside = beside.unwrap();
    let appended: [AtomicI64; WRITERS] = Default::default();
    let done = AtomicBool::new(false);
    let check = |scan: &dyn Fn() -> crate::Scan| {
        let (mut before, mut looks) = ([0; WRITERS], 0);
        while !done.load(Ordering::Relaxed) || looks < 3 {
            let least: Vec<i64> = appended.iter().map(|rows| rows.load(Ordering::Acquire)).collect();
            let now = prefixes(scan());
            for who in 0..WRITERS {
                assert!(now[who] >= least[who].max(before[who]), "{now:?} after {least:?} and {before:?}");
            }
            (before, looks) = (now, looks + 1);
        }
    };
    std::thread::scope(|scope| {
        let writing: Vec<_> = (0..WRITERS)
            .map(|who| {
                let (table, appended) = (&table, &appended[who]);
                scope.spawn(move || {
                    let mut writer = table.writer().unwrap();
                    let name = who.to_string();
                    for number in 0..ROWS {
                        let (half, text) = (half_of(number), text_of(number));
                        let _ = writer
                            .append_at(
                                time_of(number),
                                row! { writer: &*name, number: number, half: half, text: text.as_deref() },
                            )
                            .unwrap();
                        appended.store(number + 1, Ordering::Release);
                    }
                })
            })
            .collect();
        scope.spawn(|| check(&|| table.scan().unwrap()));
        scope.spawn(|| check(&|| beside.scan("counted").unwrap()));
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.sync().unwrap();
                store.seal().unwrap();
            }
        });
        // Before anybody's panic goes on, or the others would be waited for for ever.
        let ended: Vec<_> = writing.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert_eq!(prefixes(table.scan().unwrap()), [ROWS; WRITERS]);
}
