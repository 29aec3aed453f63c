//! SQL that means harm, or was written by a program: refused by its text, on a small stack, at once.

use std::time::{Duration, Instant};

use super::super::guard;
use super::*;

/// Runs on a thread with the stack that threads have by default.
fn on_small_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, run).unwrap();
        thread.join().unwrap()
    })
}

fn repeated(start: &str, part: &str, count: usize, end: &str) -> String {
    format!("{start}{}{end}", part.repeat(count))
}

#[test]
fn long_chains_and_deep_nests_are_refused_before_planning() {
    let all_text = Options::default().query_text_bytes_max(1 << 20).query_tokens_max(200_000);
    let texts = [
        repeated("SELECT 1", " + 1", 10_000, ""),
        repeated("SELECT 'a'", " || 'a'", 10_000, ""),
        repeated("SELECT true", " OR true", 10_000, ""),
        repeated("SELECT 1", " UNION ALL SELECT 1", 10_000, ""),
        repeated("SELECT 1 FROM system.tables", ", system.tables", 10_000, ""),
        repeated("SELECT 1 FROM system.tables", " CROSS JOIN system.tables", 10_000, ""),
        repeated("SELECT ", "(", 10_000, ""),
        repeated("SELECT ", "- ", 10_000, "1"),
        repeated("SELECT ", "NOT ", 10_000, "true"),
        repeated("SELECT a", "[1]", 10_000, ""),
        repeated("SELECT 1", "::int", 10_000, ""),
        repeated("SELECT 1", " IS NULL", 10_000, ""),
        repeated("SELECT ", "CASE WHEN true THEN ", 10_000, "1"),
        repeated("SELECT ", "CAST(", 10_000, "1"),
        repeated("", "EXPLAIN ", 10_000, "SELECT 1"),
        repeated("", "DESCRIBE ", 10_000, "SELECT 1"),
        repeated("SELECT * FROM ", "(SELECT * FROM ", 10_000, "x"),
        repeated("SELECT 1 WHERE EXISTS ", "(SELECT 1 WHERE EXISTS ", 10_000, "x"),
        repeated("SELECT x", "->'a'", 10_000, ""),
        repeated("SELECT CAST(1 AS ", "ARRAY<", 10_000, "INT"),
        repeated("SELECT 1", " COLLATE c", 10_000, ""),
        repeated("SELECT 1", " AT TIME ZONE 'UTC'", 10_000, ""),
        repeated("SELECT ", "[", 10_000, ""),
        repeated("SELECT ", "{'a':", 10_000, ""),
    ];
    let (engine, _dir) = engine(all_text);
    on_small_stack(|| {
        for text in texts {
            let begun = Instant::now();
            let error = engine.query(&text).unwrap_err();
            assert!(matches!(error, Error::TooComplex { .. }), "{:.40}: {error}", text);
            assert!(begun.elapsed() < Duration::from_secs(5), "{:.40}: {:?}", text, begun.elapsed());
        }
    });
}

#[test]
fn text_and_tokens_are_limited() {
    let refused = |text: &str| match guard::check(text, &Options::default()) {
        Err(Error::TooComplex { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&" ".repeat(300 << 10)), "query_text_bytes_max");
    assert_eq!(refused(&repeated("SELECT 1 IN (1", ",1", 10_001, ")")), "query_tokens_max");
    assert_eq!(refused(&repeated("SELECT ", "(", 65, "")), "query_depth_max");
    assert_eq!(refused(&repeated("SELECT 1", "+1", 1_001, "")), "query_chain_max");
}

#[test]
fn common_expressions_count_where_they_are_used() {
    // Each joins the one before with itself: 2^40 scans.
    let mut text = String::from("WITH a0 AS (SELECT 1 AS x)");
    for level in 1..40 {
        text += &format!(", a{level} AS (SELECT l.x FROM a{0} AS l, a{0} AS r)", level - 1);
    }
    text += " SELECT count(*) FROM a39";
    // Each is the body of the one before, and looked at twice by it: 2^60 looks.
    let nested = format!("{}SELECT 1 AS x{}", "WITH a AS (".repeat(60), ") SELECT x FROM a".repeat(60));
    let cube = repeated("SELECT 1 FROM water GROUP BY CUBE(number", ", number + 1", 20, ")");
    // The same with names that are keywords elsewhere, and quoted.
    let quoted = text.replace("a1", "at").replace("a2", "\"FROM\"");
    let (engine, _dir) = engine(Options::default());
    on_small_stack(|| {
        for text in [text, nested, quoted, cube] {
            let error = engine.query(&text).unwrap_err();
            assert!(matches!(error, Error::TooComplex { limit: "query_tokens_max", .. }), "{error}");
        }
    });
    guard::check("SELECT 1 FROM water GROUP BY CUBE(gate, agency, number, open), ROLLUP(note)", &Options::default())
        .unwrap();
    let modest = "WITH a AS (SELECT 1 AS x), b (y) AS (SELECT x FROM a UNION ALL SELECT x FROM a),
                  c AS (SELECT l.y FROM b AS l, b AS r) SELECT count(*) AS n FROM c, a";
    assert_eq!(engine.query(modest).unwrap().i64(0, "n").unwrap(), Some(4));
}

#[test]
fn what_the_limits_allow_is_planned_on_a_small_stack_in_time() {
    let cases = "CASE WHEN 1 = 1 THEN ".repeat(60);
    let texts = [
        repeated("SELECT 1 = 2", " OR 1 = 2", 330, " AS x"),
        repeated("SELECT number FROM generate_series(1, 2) AS t(number) WHERE number = 1", " OR number = 1", 499, ""),
        repeated("SELECT 1 AS x", " UNION ALL SELECT 1", 200, ""),
        format!("SELECT {}1{} AS x", "(".repeat(60), ")".repeat(60)),
        format!("SELECT {cases}1{} AS x", " END".repeat(60)),
        format!("SELECT {}1{} AS x", "abs(".repeat(60), ")".repeat(60)),
        format!("{}SELECT 1 AS x{}", "SELECT * FROM (".repeat(60), ")".repeat(60)),
        repeated("SELECT 1 AS x WHERE 1 IN (1", ",1", 9_900, ")"),
        format!("SELECT {} AS x", "NOT ".repeat(500) + "true"),
        repeated("EXPLAIN SELECT 1", " + 1", 999, " AS x"),
        repeated(
            "EXPLAIN VERBOSE SELECT number FROM generate_series(1, 2) AS t(number) WHERE true",
            " AND number > 1",
            499,
            "",
        ),
    ];
    let options = Options::default().query_threads(1);
    let (engine, _dir) = engine(options);
    on_small_stack(|| {
        for text in texts {
            let run = async { engine.sql(&text).await?.collect().await.map_err(Error::from) };
            match futures::executor::block_on(run) {
                // The parser has limits of its own.
                Ok(_) | Err(Error::Query { .. }) => {}
                Err(error) => panic!("{:.60}: {error}", text),
            }
        }
    });
}

#[test]
fn only_reads_are_planned() {
    let (store, dir) = filled();
    let file = dir.path().join("out.csv");
    let copy = format!("COPY (SELECT 1) TO '{}'", file.display());
    let external = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", file.display());
    let refused = [
        (copy.as_str(), "COPY"),
        (external.as_str(), "CREATE EXTERNAL TABLE"),
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("CREATE SCHEMA s", "CREATE SCHEMA"),
        ("INSERT INTO water VALUES (1)", "INSERT"),
        ("UPDATE water SET number = 1", "UPDATE"),
        ("DELETE FROM water", "DELETE"),
        ("DROP TABLE water", "DROP TABLE"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        ("RESET datafusion.execution.batch_size", "RESET"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("EXECUTE p", "EXECUTE"),
        ("BEGIN", "BEGIN"),
        ("SET datafusion.runtime.memory_limit = '100G'", "SET"),
        ("EXPLAIN ANALYZE INSERT INTO water SELECT * FROM water", "INSERT"),
        ("EXPLAIN COPY (SELECT 1) TO 'x'", "COPY"),
    ];
    for (text, named) in refused {
        match store.query(text) {
            Err(Error::ReadOnlySql { statement }) => assert_eq!(statement, named, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in [
        "SELECT 1 INTO t",
        "SELECT 1; DROP TABLE water",
        "",
        ";",
        "SELEC 1",
        "TRUNCATE water",
        "CALL x()",
        "DEALLOCATE p",
        "COMMIT",
        "CREATE DATABASE d",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "CREATE INDEX i ON water (number)",
        "ALTER TABLE water ADD COLUMN x INT",
        "DROP VIEW water",
        "MERGE INTO water USING water AS w ON true WHEN MATCHED THEN DELETE",
        "GRANT ALL ON water TO x",
        "COPY water FROM '/etc/passwd'",
        "ATTACH 'x' AS y",
        "SET query_timeout = 0",
        "WITH x AS (DELETE FROM water) SELECT 1",
        "EXPLAIN EXPLAIN DROP TABLE water",
    ] {
        let error = store.query(text).unwrap_err();
        assert!(matches!(error, Error::Query { .. } | Error::ReadOnlySql { .. }), "{text}: {error:?}");
    }
    assert!(!file.exists());
    assert_eq!(store.query("SELECT count(*) AS n FROM water").unwrap().i64(0, "n").unwrap(), Some(5_000));
    assert!(store.query("EXPLAIN ANALYZE SELECT max(number) FROM water").unwrap().to_string().contains("DenyutScan"));
}

#[test]
fn functions_that_make_much_of_little_are_bounded() {
    let (engine, _dir) = engine(Options::default().query_bytes_max(64 << 20).query_threads(2));
    for text in [
        "SELECT repeat('x', 1073741824)",
        "SELECT length(repeat('x', 1073741824))",
        "SELECT sum(length(repeat(CAST(value AS VARCHAR), 100000))) FROM generate_series(1, 1000000)",
        "SELECT max(repeat(CAST(value AS VARCHAR), 1000000)) FROM generate_series(1, 10)",
        "SELECT lpad('x', 1073741824, 'y')",
        "SELECT rpad(CAST(value AS VARCHAR), 1000000) FROM generate_series(1, 1000)",
        "SELECT array_repeat('a text of some length', 100000000)",
        "SELECT array_resize([1], 1000000000, 0)",
        "SELECT generate_series(1, 1000000000)",
        "SELECT range(0, 9000000000000)",
        "SELECT cardinality(generate_series(1, value * 1000000)) FROM generate_series(1, 10000)",
        "SELECT generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '2026-01-01', INTERVAL '1 millisecond')",
    ] {
        match engine.query(text) {
            Err(Error::QueryMemory { .. }) => {}
            other => panic!("{text}: {:?}", other.map(|rows| rows.num_rows())),
        }
    }
    let small = "SELECT length(repeat('ab', 1000)) AS a, lpad('x', 5, 'y') AS b, cardinality(range(0, 10, 2)) AS c";
    let rows = engine.query(small).unwrap();
    assert_eq!((rows.str(0, "b").unwrap(), rows.num_rows()), (Some("yyyyx"), 1));
}

#[test]
fn hostile_patterns_and_lists_are_refused_or_answered() {
    let options = Options::default().query_threads(2).query_timeout(Duration::from_secs(20));
    let (engine, _dir) = engine(options);
    let long = "a".repeat(50_000);
    let texts = [
        // What takes exponential time elsewhere: this engine's patterns are automata.
        format!("SELECT '{long}!' ~ '^(a+)+$' AS x"),
        format!("SELECT '{long}!' ~ '(a|aa)*$' AS x"),
        format!("SELECT regexp_replace('{long}', '(a*)*b', 'x') AS x"),
        // What makes automata explode.
        "SELECT 'a' ~ '((a{1,100}){1,100}){1,100}' AS x".into(),
        "SELECT 'a' ~ '(((((a{1,30}){1,30}){1,30}){1,30}){1,30}){1,30}' AS x".into(),
        format!("SELECT 'a' ~ '{}a{}' AS x", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT 'a' LIKE '{}' AS x", "%a".repeat(20_000)),
        repeated("SELECT 1 AS x WHERE 1 IN (1", ",1", 100_000, ")"),
        repeated("SELECT 1 AS x FROM (VALUES (1)", ",(1)", 100_000, ") AS t(a)"),
        repeated("SELECT concat('a'", ",'a'", 100_000, ") AS x"),
    ];
    on_small_stack(|| {
        for text in texts {
            match engine.query(&text) {
                Ok(rows) => assert!(rows.num_rows() <= 1, "{:.60}", text),
                Err(Error::TooComplex { .. } | Error::Query { .. } | Error::QueryMemory { .. }) => {}
                Err(error) => panic!("{:.60}: {error:?}", text),
            }
        }
    });
    assert_eq!(engine.query("SELECT 1 AS one").unwrap().i64(0, "one").unwrap(), Some(1));
}

/// What a refusal takes, for a person to read: `cargo test --release --lib refusals -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement: how long refusals take"]
fn cost_of_refusals() {
    let options = Options::default().query_text_bytes_max(1 << 20).query_tokens_max(200_000);
    on_small_stack(|| {
        for (part, text) in [
            ("+", repeated("SELECT 1", " + 1", 10_000, "")),
            ("||", repeated("SELECT 'a'", " || 'a'", 10_000, "")),
            ("OR", repeated("SELECT true", " OR true", 10_000, "")),
            ("UNION ALL", repeated("SELECT 1", " UNION ALL SELECT 1", 10_000, "")),
        ] {
            let begun = Instant::now();
            assert!(matches!(guard::check(&text, &options), Err(Error::TooComplex { .. })));
            println!("10,000 terms of {part}: refused in {:?}", begun.elapsed());
        }
    });
}

#[test]
fn files_of_the_machine_are_no_tables() {
    let (store, _dir) = filled();
    for text in ["SELECT * FROM '/etc/passwd'", "SELECT * FROM read_csv('/etc/passwd')"] {
        let error = store.query(text).unwrap_err();
        assert!(matches!(error, Error::UnknownTable { .. } | Error::Query { .. }), "{text}: {error:?}");
    }
}

#[test]
fn what_is_unknown_is_named() {
    let (store, _dir) = filled();
    for (text, name) in [("SELECT 1 FROM nothing", "nothing"), ("SELECT 1 FROM system.nothing", "system.nothing")] {
        match store.query(text) {
            Err(Error::UnknownTable { table }) => assert_eq!(table, name),
            other => panic!("{text}: {other:?}"),
        }
    }
    let error = store.query("SELECT nothing FROM water").unwrap_err();
    assert!(matches!(&error, Error::Query { message } if message.contains("nothing")), "{error:?}");
    let error = store.query("SELECT 1 FROM water WHERE (gate").unwrap_err().to_string();
    assert!(error.starts_with("query failed: sql parser error: Expected: "), "{error}");
}
