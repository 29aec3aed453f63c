//! Time, rows and memory run out with an error that says so, and what was running ends.

use std::time::{Duration, Instant};

use futures::StreamExt;

use super::*;

/// Joins that run for hours, by different operators, with and without rows that come out.
const ENDLESS: [&str; 6] = [
    "SELECT count(*) FROM generate_series(1, 200000) a, generate_series(1, 200000) b, generate_series(1, 200000) c",
    "SELECT count(*) FROM generate_series(1, 3000000) a(x), generate_series(1, 3000000) b(y) WHERE x * y < -1",
    "SELECT count(*) FROM generate_series(1, 3000000) a(x) JOIN generate_series(1, 3000000) b(y)
        ON x % 2 = y % 2 WHERE x * y < -1",
    "SELECT count(*) FROM generate_series(1, 3000000) a(x) JOIN generate_series(1, 3000000) b(y) ON x % 2 = y % 2",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n % 2 FROM t) SELECT count(*) FROM t",
    "SELECT sum(x) FROM generate_series(1, 9000000000000000) a(x)",
];

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} after {:?}", begun.elapsed());
        std::thread::yield_now();
    }
}

#[test]
fn a_query_ends_at_its_timeout_and_so_does_its_work() {
    let timeout = Duration::from_millis(300);
    let (engine, _dir) = engine(Options::default().query_timeout(timeout).query_threads(2));
    for text in ENDLESS {
        let begun = Instant::now();
        let error = engine.query(text).unwrap_err();
        assert!(
            matches!(error, Error::QueryTimeout { query_timeout } if query_timeout == timeout),
            "{text}: {error:?}"
        );
        assert!(begun.elapsed() < timeout + Duration::from_secs(30), "{text}: {:?}", begun.elapsed());
        until(text, || engine.busy_tasks() == 0);
    }
    assert_eq!(engine.query("SELECT 1 AS one").unwrap().i64(0, "one").unwrap(), Some(1));
}

#[test]
fn a_frame_ends_at_its_timeout_on_a_runtime_without_a_timer() {
    let timeout = Duration::from_millis(300);
    let (engine, _dir) = engine(Options::default().query_timeout(timeout).query_threads(2));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for text in ENDLESS {
        let begun = Instant::now();
        let error = runtime.block_on(async { engine.sql(text).await.unwrap().collect().await.unwrap_err() });
        let error = Error::from(error);
        assert!(matches!(error, Error::QueryTimeout { .. }), "{text}: {error:?}");
        assert!(begun.elapsed() < timeout + Duration::from_secs(30), "{text}: {:?}", begun.elapsed());
        until(text, || engine.busy_tasks() == 0);
    }
    // Explained, it runs below another root.
    let analyzed = engine.query(&format!("EXPLAIN ANALYZE {}", ENDLESS[0])).unwrap_err();
    assert!(matches!(analyzed, Error::QueryTimeout { .. }), "{analyzed:?}");
}

#[test]
fn an_operator_that_stops_first_is_a_timeout_too() {
    let (engine, _dir) = engine(Options::default().query_timeout(Duration::from_secs(1)).query_threads(2));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // The joins whose filter looks at the flag; the others end when they are polled no more.
    for text in ENDLESS.into_iter().filter(|text| text.contains("-1")) {
        let error = runtime.block_on(async {
            let mut stream = engine.sql(text).await.unwrap().execute_stream().await.unwrap();
            assert!(futures::poll!(stream.next()).is_pending());
            // Nobody looks until the work below has ended, with whatever error it ended with.
            until(text, || engine.busy_tasks() == 0);
            stream.next().await.unwrap().unwrap_err()
        });
        assert!(matches!(Error::from(error), Error::QueryTimeout { .. }), "{text}");
    }
}

#[test]
fn a_caller_who_leaves_ends_the_query() {
    let (engine, _dir) = engine(Options::default().query_threads(2));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for text in ENDLESS {
        runtime.block_on(async {
            let mut stream = engine.sql(text).await.unwrap().execute_stream().await.unwrap();
            let none_yet = futures::poll!(stream.next());
            assert!(none_yet.is_pending());
        });
        until(text, || engine.busy_tasks() == 0);
    }
}

#[test]
fn rows_are_limited() {
    let (engine, _dir) = engine(Options::default().query_rows_max(20_000));
    let rows = engine.query("SELECT * FROM generate_series(1, 20000)").unwrap();
    assert_eq!(rows.num_rows(), 20_000);
    let error = engine.query("SELECT * FROM generate_series(1, 20001)").unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { limit: "query_rows_max", max: 20_000, .. }), "{error:?}");
    assert_eq!(engine.query("SELECT count(*) AS n FROM generate_series(1, 20001)").unwrap().num_rows(), 1);
}

#[test]
fn memory_is_limited_and_sorts_spill() {
    let (engine, dir) = engine(Options::default().query_bytes_max(8 << 20).query_threads(2));
    let sorted = "SELECT x, y FROM (SELECT (value * 7919) % 1000003 AS x, value AS y FROM generate_series(1, 1000000)) ORDER BY x";
    let rows = engine.query(&format!(
        "SELECT count(*) AS n, max(r) AS top FROM (SELECT x, row_number() OVER (ORDER BY x) AS r FROM ({sorted}))"
    ));
    assert_eq!(rows.unwrap().i64(0, "top").unwrap(), Some(1_000_000));
    assert!(dir.path().join("spill").is_dir(), "nothing was spilled");
    let joined = "SELECT count(*) FROM generate_series(1, 5000000) a(x) JOIN generate_series(1, 5000000) b(y) ON x = y";
    let error = engine.query(joined).unwrap_err();
    assert!(matches!(error, Error::QueryMemory { .. }) && error.is_retryable(), "{error:?}");
    until("tasks", || engine.busy_tasks() == 0);
}

#[test]
fn spilling_is_limited() {
    let (engine, _dir) =
        engine(Options::default().query_bytes_max(8 << 20).query_spill_bytes_max(1 << 20).query_threads(2));
    let error = engine.query("SELECT value FROM generate_series(1, 5000000) ORDER BY value % 1000, value").unwrap_err();
    assert!(matches!(error, Error::QueryMemory { .. }), "{error:?}");
}

#[test]
fn an_engine_that_ran_nothing_has_no_threads_and_a_timeout_may_be_endless() {
    let (engine, _dir) = engine(Options::default().query_timeout(Duration::MAX));
    assert_eq!(engine.query("SELECT 1 AS one").unwrap().num_rows(), 1);
}

/// Whoever waits for one of the engine's threads is told what became of it, planning or running.
#[test]
fn a_panic_is_no_timeout() {
    let (engine, _dir) = engine(Options::default());
    let error = engine.wait::<()>(async { panic!("of this test") }, || unreachable!("it is not late")).unwrap_err();
    assert!(matches!(&error, Error::Background { reason } if reason.contains("panicked")), "{error}");
    let (engine, _dir) = super::engine(Options::default().query_timeout(Duration::from_millis(10)));
    let mut late = false;
    let error = engine.wait::<()>(std::future::pending(), || late = true).unwrap_err();
    assert!(matches!(error, Error::QueryTimeout { .. }) && late, "{error}");
}
