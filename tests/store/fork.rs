//! A host that forks while its store is open and busy.
//!
//! A child process opens a store, keeps threads at it, and forks over and over. Each fork calls everything there is on
//! handles of its parent and must be refused by each call, wait for nothing, and leave no trace.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use denyut::arrow::array::{Int64Array, RecordBatch, TimestampNanosecondArray};
use denyut::prelude::*;
use denyut::{Scan, Table};

use crate::chance::setting;
use crate::child;

/// Seconds after which a fork that waits for something is ended by a signal.
const STUCK_S: u32 = 60;

fn schema(name: &str) -> Schema {
    Schema::new(name).tag("who").i64("number", "").utf8("text", "")
}

/// What a fork has of its parent.
struct Inherited {
    store: Store,
    table: Table,
    writer: Writer,
    /// One that has no block yet.
    fresh: Writer,
    series: SeriesId,
    scan: Scan,
    #[cfg(feature = "sql")]
    frame: denyut::datafusion::dataframe::DataFrame,
    /// An answer that is under way.
    #[cfg(feature = "sql")]
    stream: denyut::datafusion::execution::SendableRecordBatchStream,
    #[cfg(feature = "sql")]
    session: denyut::datafusion::prelude::SessionContext,
}

fn inherited(store: &Store, table: &Table) -> Inherited {
    let series = table.series(["main"]).unwrap();
    let mut writer = table.writer().unwrap();
    let _ = writer.append_to(series, Time::from_nanos(0), &[(-1_i64).into(), Value::Null]).unwrap();
    let mut scan = table.scan().unwrap();
    let _ = scan.next();
    #[cfg(feature = "sql")]
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Inherited {
        store: store.clone(),
        table: table.clone(),
        writer,
        fresh: table.writer().unwrap(),
        series,
        scan,
        #[cfg(feature = "sql")]
        frame: runtime.block_on(store.sql("SELECT sum(number) FROM busy")).unwrap(),
        #[cfg(feature = "sql")]
        stream: {
            let frame = runtime.block_on(store.sql("SELECT * FROM busy")).unwrap();
            runtime.block_on(frame.execute_stream()).unwrap()
        },
        #[cfg(feature = "sql")]
        session: store.session(),
    }
}

/// In the fork: 0 if all was refused, else the number of the call that was not.
fn in_fork(mut had: Inherited, path: &std::path::Path, elsewhere: Option<std::path::PathBuf>) -> i32 {
    let mut call = 0;
    let mut wrong = 0;
    let mut expect = |refused: bool| {
        call += 1;
        if !refused && wrong == 0 {
            wrong = call;
        }
    };
    fn forked<T>(result: denyut::Result<T>) -> bool {
        matches!(&result, Err(error @ Error::Forked { .. }) if error.kind() == ErrorKind::Closed)
    }
    let values = [7_i64.into(), Value::Null];
    let batch = RecordBatch::try_from_iter([
        ("time", std::sync::Arc::new(TimestampNanosecondArray::from(vec![0])) as _),
        ("number", std::sync::Arc::new(Int64Array::from(vec![7])) as _),
    ])
    .unwrap();
    for writer in [&mut had.writer, &mut had.fresh] {
        expect(forked(writer.append_to(had.series, Time::from_nanos(1), &values)));
        expect(forked(writer.append_to(had.series, Time::from_nanos(i64::MAX), &values)));
        expect(forked(writer.append(row! { who: "a series of the fork", number: 7_i64 })));
        expect(forked(writer.append_batch(&batch)));
        expect(forked(writer.append_batch_to(had.series, &batch)));
        expect(forked(writer.sync()));
    }
    expect(forked(had.table.series(["another series of the fork"])));
    expect(forked(had.table.scan()));
    expect(forked(had.table.writer()));
    expect(matches!(had.scan.next(), Some(Err(Error::Forked { .. }))));
    expect(forked(had.store.table(schema("of_the_fork"))));
    expect(forked(had.store.existing("busy")));
    expect(forked(had.store.sync()));
    expect(forked(had.store.seal()));
    expect(forked(had.store.close()));
    expect(!had.store.counters().is_empty() && had.store.tables().len() == 1);
    #[cfg(feature = "sql")]
    {
        expect(forked(had.store.query("SELECT 1")));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        expect(forked(runtime.block_on(had.store.sql("SELECT 1"))));
        let collected = runtime.block_on(had.frame.collect());
        expect(forked(collected.map_err(Error::from)));
        let next = runtime.block_on(futures::StreamExt::next(&mut had.stream));
        expect(matches!(next.map(|next| forked(next.map_err(Error::from))), Some(true)));
        let planned = runtime.block_on(async { had.session.sql("SELECT * FROM busy").await });
        expect(forked(planned.map_err(Error::from)));
    }
    expect(matches!(Store::open(path), Err(Error::Locked { .. })));
    drop((had.writer, had.fresh, had.scan, had.table, had.store));
    #[cfg(feature = "sql")]
    drop((had.session, had.stream));
    // A fork may have stores of its own.
    if let Some(elsewhere) = elsewhere {
        let own = Store::open(elsewhere).unwrap();
        let table = own.table(schema("own")).unwrap();
        let mut writer = table.writer().unwrap();
        for number in 0..10_000_i64 {
            let _ = writer.append_at(Time::from_nanos(number), row! { who: "fork", number: number }).unwrap();
        }
        let rows: usize = table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
        expect(rows == 10_000);
        #[cfg(feature = "sql")]
        expect(own.query("SELECT count(number) AS n FROM own").unwrap().i64(0, "n").unwrap() == Some(10_000));
        expect(own.seal().is_ok());
        drop(writer);
        expect(own.close().is_ok());
    }
    wrong
}

/// Forks, runs `in_fork` there, and gives how the fork ended.
#[expect(unsafe_code, reason = "fork, and what a fork may call of libc")]
fn fork(work: impl FnOnce() -> i32) -> ExitStatus {
    // SAFETY: the fork calls `work` and ends without unwinding into what its parent was doing.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: no memory is passed.
            unsafe { libc::alarm(STUCK_S) };
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(101);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` is an int that outlives the call.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            ExitStatus::from_raw(status)
        }
    }
}

#[test]
#[ignore = "the child of the fork test"]
fn child_that_forks() {
    let Some((path, forks)) = child::work() else { return };
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(4 << 20);
    let store = options.open(&path).unwrap();
    let table = store.table(schema("busy")).unwrap();
    let (stop, appended) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (table, stop, appended) = (&table, &stop, &appended);
            scope.spawn(move || {
                let mut writer = table.writer().unwrap();
                for number in 0_i64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // New series and rotations all the time: their locks are what a fork finds taken.
                    let who = format!("{thread}-{}", number % 1_000);
                    let text = (number % 3 == 0).then_some("a text that is too long for a view");
                    let row =
                        writer.append_at(Time::from_nanos(number), row! { who: &who, number: number, text: text });
                    appended.fetch_add(row.unwrap().accepted() as i64, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                store.sync().unwrap();
                let rows = table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
                #[cfg(feature = "sql")]
                let rows = rows.min(store.query("SELECT count(number) FROM busy").unwrap().num_rows());
                std::hint::black_box(rows);
                let _ = store.counters();
            }
        });
        let elsewhere = path.with_extension("elsewhere");
        for number in 0..forks {
            let had = inherited(&store, &table);
            appended.fetch_add(1, Ordering::Relaxed);
            let elsewhere = (number == 0).then(|| elsewhere.clone());
            let status = fork(|| in_fork(had, &path, elsewhere));
            child::say(&format!("fork {number}: {status}"));
            assert!(status.success(), "fork {number}: {status}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    // All is as if there had been no forks.
    store.close().unwrap();
    child::say(&format!("appended {}", appended.load(Ordering::Relaxed)));
}

#[test]
fn a_fork_is_refused_everything_and_leaves_no_trace() {
    let forks = setting("DENYUT_FORKS").unwrap_or(20);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let (mut child, said) = child::start("fork::child_that_forks", &path, forks);
    let lines: Vec<String> = child::whole_lines(said).collect();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {lines:?}");
    let appended = lines.iter().find_map(|line| line.strip_prefix("appended ")).expect("it came to its end");
    let store = Store::open(&path).unwrap();
    assert!(store.recovery().is_whole());
    let table = store.existing("busy").unwrap();
    let rows: usize = table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows.to_string(), appended);
    println!("{forks} forks while {rows} rows were appended");
}

#[test]
#[ignore = "the child of the test of the lock"]
fn child_that_leaves_a_fork() {
    let Some((path, _)) = child::work() else { return };
    let store = Store::open(path).unwrap();
    leave_fork(store);
}

/// Ends this process at once, while a fork of it that has dropped its handle lives on.
#[expect(unsafe_code, reason = "fork, and what a fork may call of libc")]
fn leave_fork(store: Store) {
    // SAFETY: the fork drops a handle, sleeps, and ends without unwinding.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            drop(store);
            child::say("dropped");
            std::thread::sleep(Duration::from_secs(u64::from(STUCK_S)));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        pid => {
            child::say(&format!("left {pid}"));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
    }
}

#[test]
fn a_fork_that_dropped_its_handle_does_not_keep_the_store_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let (mut child, said) = child::start("fork::child_that_leaves_a_fork", &path, 0);
    let (mut left, mut dropped) = (None, false);
    for line in child::whole_lines(said) {
        left = left.or_else(|| line.strip_prefix("left ").and_then(|pid| pid.parse::<i32>().ok()));
        dropped |= line == "dropped";
        if dropped && left.is_some() {
            break;
        }
    }
    assert!(child.wait().unwrap().success());
    let left = left.expect("the fork's process id");
    let opened = Store::open(&path).map(|store| store.close());
    end(left);
    opened.unwrap().unwrap();
}

#[expect(unsafe_code, reason = "kill")]
fn end(pid: i32) {
    // SAFETY: no memory is passed; the process is the one that the child said it left.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
}
