//! SQL from outside: the same answers live and sealed, and nothing but reads.

use denyut::prelude::*;

use crate::numbered::{self, Way};

const ROWS: i64 = 1_000;

fn filled(dir: &tempfile::TempDir) -> (Store, Table) {
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(numbered::schema("plain")).unwrap();
    numbered::append(Way::Named, &table, &mut table.writer().unwrap(), "a", 0..ROWS).unwrap();
    (store, table)
}

#[test]
fn every_type_reads_the_same_live_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, table) = filled(&dir);
    let texts = [
        "SELECT * FROM plain ORDER BY number",
        "SELECT count(*), count(half), sum(half), sum(cents), min(square), max(square), count(odd) FROM plain",
        "SELECT site, count(*), min(time), max(time) FROM plain GROUP BY site ORDER BY site",
        "SELECT number, text FROM plain WHERE site LIKE 'a site%' AND text LIKE '%9' ORDER BY number",
        "SELECT number FROM plain WHERE time >= '2023-11-14T22:20:00Z' AND time < '2023-11-14T22:25:00Z' ORDER BY 1",
        "SELECT count(*), min(time), max(time) FROM plain",
    ];
    let answers = || texts.map(|text| store.query(text).unwrap().to_string());
    let live = answers();
    assert_eq!(store.seal().unwrap(), ROWS as u64);
    assert_eq!(answers(), live);
    assert_eq!(numbered::check(&table, "sealed")["a"], ROWS);
    let exact: i64 = (0..ROWS).filter_map(|n| numbered::Cells::of(n).cents).sum::<i128>() as i64;
    let sum = store.query("SELECT CAST(sum(cents) * 100 AS BIGINT) AS s FROM plain").unwrap();
    assert_eq!(sum.i64(0, "s").unwrap(), Some(exact));
}

#[test]
fn numbers_that_are_none_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(Schema::new("odd").tag("t").f64("x", "")).unwrap();
    let mut writer = table.writer().unwrap();
    for (second, x) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1.0].into_iter().enumerate() {
        writer.append_at(Time::from_secs(second as i64).unwrap(), row! { t: "a", x: x }).unwrap();
    }
    let text = "SELECT x FROM odd ORDER BY time";
    let live = store.query(text).unwrap().to_string();
    store.seal().unwrap();
    assert_eq!(store.query(text).unwrap().to_string(), live);
    assert!(live.contains("NaN") && live.contains("inf") && live.contains("-0.0"), "{live}");
    let above = store.query("SELECT count(*) AS n FROM odd WHERE x > 5").unwrap();
    // NaN sorts above every number, as everywhere here.
    assert_eq!(above.i64(0, "n").unwrap(), Some(2));
}

#[test]
fn a_field_that_came_later_is_null_before() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = filled(&dir);
    store.seal().unwrap();
    let table = store.table(numbered::schema("plain").f64("later", "")).unwrap();
    let mut writer = table.writer().unwrap();
    writer.append(row! { writer: "b", site: "s", number: 0_i64, later: 2.5 }).unwrap();
    for _ in 0..2 {
        let rows = store.query("SELECT count(*) AS n, count(later) AS l, sum(later) AS s FROM plain").unwrap();
        assert_eq!(rows.i64(0, "n").unwrap(), Some(ROWS + 1));
        assert_eq!((rows.i64(0, "l").unwrap(), rows.f64(0, "s").unwrap()), (Some(1), Some(2.5)));
        store.seal().unwrap();
    }
}

#[test]
fn the_store_says_what_it_is_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = filled(&dir);
    for table in ["tables", "fields", "series", "live_blocks", "counters"] {
        assert!(store.query(&format!("SELECT * FROM system.{table}")).unwrap().num_rows() > 0, "{table}");
    }
    store.seal().unwrap();
    for table in ["segments", "partitions"] {
        assert!(store.query(&format!("SELECT * FROM system.{table}")).unwrap().num_rows() > 0, "{table}");
    }
}

#[test]
fn nothing_is_changed_by_a_query() {
    let dir = tempfile::tempdir().unwrap();
    let (store, table) = filled(&dir);
    let out = dir.path().join("out.csv");
    for text in [
        "INSERT INTO plain SELECT * FROM plain",
        "DELETE FROM plain",
        "DROP TABLE plain",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        &format!("COPY plain TO '{}'", out.display()),
        &format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{}'", dir.path().display()),
        "SET datafusion.execution.batch_size = 1",
        "EXPLAIN ANALYZE INSERT INTO plain SELECT * FROM plain",
    ] {
        let error = store.query(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Query, "{text}: {error}");
    }
    assert!(!out.exists());
    assert!(
        matches!(store.query("SELECT * FROM nowhere"), Err(Error::UnknownTable { table }) if table.contains("nowhere"))
    );
    assert_eq!(numbered::check(&table, "after all that")["a"], ROWS);
}

#[test]
fn functions_of_time_read_the_same_live_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(Schema::new("water").tag("gate").f64("level_cm", "cm")).unwrap();
    let mut writer = table.writer().unwrap();
    for minute in (0..600_i64).filter(|minute| minute % 7 < 3) {
        for gate in ["Sei Wie", "Parit Tokaya"] {
            let time = Time::from_secs(1_767_225_600 + minute * 60).unwrap();
            writer.append_at(time, row! { gate: gate, level_cm: (minute * minute % 97) as f64 }).unwrap();
        }
    }
    let texts = [
        "SELECT gate, date_bin_gapfill(INTERVAL '5 minutes', time) AS bin, count(*), locf(last(level_cm, time)), \
            interpolate(avg(level_cm), INTERVAL '10 minutes') FROM water \
            WHERE time >= '2026-01-01T00:00:00Z' AND time < '2026-01-01T12:00:00Z' GROUP BY gate, bin ORDER BY gate, bin",
        "SELECT gate, date_bin_wallclock(INTERVAL '1 day', time AT TIME ZONE 'Asia/Pontianak') AS day, \
            time_weighted_avg(level_cm, time, 'linear'), increase(level_cm, time) FROM water GROUP BY gate, day ORDER BY gate, day",
        "SELECT gate, last(level_cm, time), last_time(level_cm, time) FROM water GROUP BY gate ORDER BY gate",
        "SELECT gate, time, session_start(time, INTERVAL '1 minute') OVER (PARTITION BY gate ORDER BY time) AS began, \
            avg(level_cm) OVER (PARTITION BY gate ORDER BY time RANGE BETWEEN INTERVAL '5 minutes' PRECEDING AND CURRENT ROW) \
            FROM water ORDER BY gate, time",
    ];
    let answers = || texts.map(|text| store.query(text).unwrap().to_string());
    let live = answers();
    assert_eq!(live[0].lines().count(), 2 * 144 + 4);
    assert!(live[1].contains("2026-01-01T00:00:00+07:00"), "{}", live[1]);
    store.seal().unwrap();
    assert_eq!(answers(), live);
    // A frame is planned on the engine's threads, and a trusted session plans for itself.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for text in texts {
        let frame = runtime.block_on(store.sql(text)).unwrap();
        let rows = runtime.block_on(frame.count()).unwrap();
        let trusted = runtime.block_on(async { store.session().sql(text).await?.count().await }).unwrap();
        assert_eq!(rows, trusted, "{text}");
    }
    let error = store.query("SELECT rate(gate, time) FROM water").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query);
    assert!(error.to_string().contains("rate: argument `value` is Utf8View; give a number"), "{error}");
}
