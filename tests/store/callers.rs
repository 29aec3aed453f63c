//! Callers that mean harm, or do not think: a typed error and never the end of the process, and the store goes on.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use denyut::arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray};
use denyut::arrow::buffer::{Buffer, OffsetBuffer};
use denyut::prelude::*;

use crate::chance::setting;
use crate::fixtures::copy;
use crate::numbered::{self, Way};

fn count(table: &Table) -> usize {
    table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum()
}

fn water() -> Schema {
    Schema::new("water").tag("gate").f64("level", "").utf8("note", "")
}

#[test]
fn tags_without_end_meet_a_limit_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let tags = setting("DENYUT_TAGS").unwrap_or(100_000);
    let max = 20_000;
    let store = Store::options().series_max(max).open(dir.path().join("kota")).unwrap();
    let table = store.table(water()).unwrap();
    let mut writer = table.writer().unwrap();
    let (mut taken, mut refused) = (0, 0);
    for number in 0..tags {
        let gate = format!("gate {number}");
        match writer.append_at(Time::from_nanos(number as i64), row! { gate: gate.as_str(), level: 1.0 }) {
            Ok(appended) => taken += appended.accepted(),
            Err(Error::LimitExceeded { limit: "series_max", .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((taken, refused), (u64::from(max), tags - u64::from(max)));
    // Of the series that there are rows are taken as before.
    writer.append(row! { gate: "gate 7", level: 2.0 }).unwrap();
    store.seal().unwrap();
    assert_eq!(count(&table), max as usize + 1);
    println!("{tags} distinct tags, {refused} refused");
}

#[test]
fn a_string_of_a_gibibyte_is_refused_wherever_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(water()).unwrap();
    let mut writer = table.writer().unwrap();
    writer.append(row! { gate: "a", note: "short" }).unwrap();
    // Zeros that nobody has touched take no memory.
    let huge = String::from_utf8(vec![0; 1 << 30]).unwrap();
    let refused = |result: denyut::Result<()>, what: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Limit | ErrorKind::Invalid), "{what}: {error}");
        assert!(error.to_string().len() < 1_000, "{what}: the error repeats it");
    };
    refused(writer.append(row! { gate: "a", note: huge.as_str() }).map(drop), "a field");
    refused(writer.append(row! { gate: huge.as_str(), note: "" }).map(drop), "a tag");
    refused(table.series([huge.as_str()]).map(drop), "a series");
    refused(store.table(Schema::new(huge.as_str()).tag("t").f64("v", "")).map(drop), "a table");
    refused(store.table(Schema::new("other").tag("t").f64(huge.as_str(), "")).map(drop), "a field's name");
    assert!(matches!(store.existing(&huge), Err(Error::UnknownTable { table }) if table.len() < 1_000));
    let series = table.series(["a"]).unwrap();
    refused(writer.append_to(series, now(), &[Value::Null, huge.as_str().into()]).map(drop), "a value");
    #[cfg(feature = "sql")]
    assert!(matches!(store.query(&huge), Err(Error::TooComplex { .. })));
    let offsets = OffsetBuffer::from_lengths([huge.len()]);
    let notes = StringArray::new(offsets, Buffer::from_vec(huge.into_bytes()), None);
    let batch = RecordBatch::try_from_iter([
        ("time", Arc::new(TimestampNanosecondArray::from(vec![1])) as ArrayRef),
        ("gate", Arc::new(StringArray::from(vec!["a"])) as ArrayRef),
        ("note", Arc::new(notes) as ArrayRef),
    ]);
    let appended = writer.append_batch(&batch.unwrap()).unwrap();
    assert_eq!((appended.accepted(), appended.rejected()), (0, 1));
    assert_eq!(count(&table), 1);
}

#[test]
fn writers_opened_in_a_loop_by_many_threads_share_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(2 << 20);
    let store = options.overload(Overload::Fail).open(dir.path().join("kota")).unwrap();
    let table = store.table(water()).unwrap();
    let rows: u64 = std::thread::scope(|scope| {
        let hostile = |thread: usize| {
            let table = &table;
            scope.spawn(move || {
                let mut accepted = 0;
                for number in 0..20 {
                    let mut writers: Vec<Writer> = (0..=number % 3).map(|_| table.writer().unwrap()).collect();
                    for writer in &mut writers {
                        let gate = format!("thread {thread}");
                        match writer.append(row! { gate: gate.as_str(), level: 1.0 }) {
                            Ok(appended) => accepted += appended.accepted(),
                            Err(Error::Overloaded { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                accepted
            })
        };
        let threads: Vec<_> = (0..64).map(hostile).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(rows > 64, "{rows}");
    assert_eq!(count(&table) as u64, rows);
    store.close().unwrap();
}

/// All orders of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let with = |order: Vec<usize>| {
        (0..count).map(move |at| {
            let mut order = order.clone();
            order.insert(at, count - 1);
            order
        })
    };
    orders(count - 1).into_iter().flat_map(with).collect()
}

#[test]
fn handles_may_be_dropped_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    for (rows, order) in orders(5).into_iter().enumerate() {
        let store = Store::options().block_bytes_min(64 << 10).open(&path).unwrap();
        let table = store.table(water()).unwrap();
        assert_eq!(count(&table), rows, "{order:?}");
        let mut writer = table.writer().unwrap();
        writer.append(row! { gate: "a", level: 1.0 }).unwrap();
        let mut scan = table.scan().unwrap();
        let batch = scan.next().unwrap().unwrap();
        let reader = Store::open_read_only(&path).unwrap();
        let mut handles: Vec<Option<Box<dyn std::any::Any>>> = vec![
            Some(Box::new(store)),
            Some(Box::new(table)),
            Some(Box::new(writer)),
            Some(Box::new(scan)),
            Some(Box::new(reader)),
        ];
        order.iter().for_each(|at| drop(handles[*at].take()));
        // What was read is the caller's.
        assert!(batch.num_rows() > 0, "{order:?}");
    }
}

#[test]
fn a_panic_in_what_the_caller_hands_in_leaves_a_store_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(water()).unwrap();
    let mut writer = table.writer().unwrap();
    writer.append(row! { gate: "a", level: 1.0 }).unwrap();
    store.seal().unwrap();
    writer.append(row! { gate: "a", level: 2.0 }).unwrap();
    struct Tags;
    impl AsRef<[&'static str]> for Tags {
        fn as_ref(&self) -> &[&'static str] {
            panic!("the caller's")
        }
    }
    let panics = |act: &mut dyn FnMut()| assert!(catch_unwind(AssertUnwindSafe(act)).is_err());
    panics(&mut || drop(table.series(Tags)));
    panics(&mut || drop(store.verify_with(|_| panic!("the caller's"))));
    panics(&mut || drop(store.repair_with(|_| panic!("the caller's"))));
    panics(&mut || drop(store.backup_with(dir.path().join("copy"), |_| panic!("the caller's"))));
    // While rows go in and a scan is under way.
    panics(&mut || {
        for (number, batch) in table.scan().unwrap().enumerate() {
            writer.append(row! { gate: "b", level: batch.unwrap().num_rows() as f64 }).unwrap();
            assert!(number < 1, "the caller's");
        }
    });
    writer.append(row! { gate: "a", level: 3.0 }).unwrap();
    store.sync().unwrap();
    store.seal().unwrap();
    assert_eq!(count(&table), 5);
    assert!(store.verify().unwrap().is_whole());
    store.close().unwrap();
}

fn filled(path: &Path) {
    let store = Store::options().block_bytes_min(64 << 10).open(path).unwrap();
    let table = store.table(numbered::schema("plain")).unwrap();
    let mut writer = table.writer().unwrap();
    numbered::append(Way::Batch, &table, &mut writer, "a", 0..300).unwrap();
    store.seal().unwrap();
    numbered::append(Way::Batch, &table, &mut writer, "a", 300..400).unwrap();
    drop(writer);
    store.close().unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, mut found): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(|path| path.is_dir());
    found.extend(dirs.iter().flat_map(|dir| files(dir)));
    found.sort();
    found
}

#[test]
fn other_things_in_the_place_of_any_file_are_errors_and_no_waits() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    filled(&whole);
    for (number, file) in files(&whole).into_iter().enumerate() {
        let name = file.strip_prefix(&whole).unwrap().to_path_buf();
        for kind in ["fifo", "directory", "link", "link to nothing"] {
            let path = dir.path().join(format!("{number}-{kind}"));
            copy(&whole, &path);
            let (place, elsewhere) = (path.join(&name), dir.path().join(format!("elsewhere {number} {kind}")));
            fs::rename(&place, &elsewhere).unwrap();
            match kind {
                "fifo" => assert!(Command::new("mkfifo").arg(&place).status().unwrap().success()),
                "directory" => fs::create_dir(&place).unwrap(),
                "link" => std::os::unix::fs::symlink(&elsewhere, &place).unwrap(),
                _ => std::os::unix::fs::symlink(dir.path().join("nothing"), &place).unwrap(),
            }
            let before = fs::read(&elsewhere).unwrap();
            for salvage in [false, true] {
                let opened = Store::options().salvage(salvage).open(&path).and_then(|store| {
                    let table = store.existing("plain")?;
                    table.scan()?.map(|batch| batch.map(|batch| batch.num_rows())).sum::<denyut::Result<usize>>()
                });
                match opened {
                    // What is empty, or made at every open, may be made anew.
                    Ok(rows) => assert!(rows == 400 || salvage, "{kind} for {}: {rows} rows", name.display()),
                    Err(error) => assert!(error.to_string().len() < 1_000, "{kind} for {}: {error}", name.display()),
                }
            }
            assert_eq!(fs::read(&elsewhere).unwrap(), before, "{kind} for {}: written through", name.display());
            fs::remove_dir_all(&path).unwrap();
        }
    }
}
