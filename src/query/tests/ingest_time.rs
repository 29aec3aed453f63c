//! Answers as of a moment.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

#[test]
fn an_answer_as_of_a_moment_stays_the_same() {
    const SECOND_NS: i64 = 1_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(START_NS));
    let options = Store::options().clock(clock.clone()).without_background();
    let store = options.open(dir.path().join("kota")).unwrap();
    let table = store.table(water().keep_ingest_time()).unwrap();
    for hour in 0..3 {
        clock.store(START_NS + hour * HOUR_NS + SECOND_NS / 2, Ordering::Relaxed);
        append(&table, hour * 100..hour * 100 + 100);
        store.sync().unwrap();
    }
    // These have no mark: they are there now, and were not before.
    append(&table, 300..310);
    let as_of = |moment: &str| {
        let text = format!("SELECT count(number) AS n FROM water WHERE ingest_time <= TIMESTAMP '2026-01-01T{moment}'");
        store.query(&text).unwrap().i64(0, "n").unwrap()
    };
    let expected = [("00:00:00", 0), ("00:00:01", 100), ("01:00:00.5", 100), ("01:00:01", 200), ("02:00:01", 300)];
    for round in ["live", "sealed"] {
        for (moment, rows) in expected {
            assert_eq!(as_of(moment), Some(rows), "{round}, as of {moment}");
        }
        let all = store.query("SELECT count(*) AS n FROM water WHERE ingest_time <= now() + INTERVAL '2 seconds'");
        assert_eq!(all.unwrap().i64(0, "n").unwrap(), Some(310), "{round}");
        // The marks that the seal makes are of this clock, which is not the query's.
        clock.store(START_NS + 4 * HOUR_NS, Ordering::Relaxed);
        store.seal().unwrap();
    }
    let rows = store.query("SELECT * FROM water WHERE gate = 'Sei Wie' AND number < 10 ORDER BY number").unwrap();
    let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names.last().unwrap(), "ingest_time");
    assert_eq!(rows.i64(0, "ingest_time").unwrap(), Some(START_NS + SECOND_NS));
    let text = "SELECT kind, type FROM system.fields WHERE table_name = 'water' AND column_name = 'ingest_time'";
    assert_eq!(store.query(text).unwrap().str(0, "kind").unwrap(), Some("ingest_time"));
}
