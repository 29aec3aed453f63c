//! Prepared statements answer as the same text does when it is sent anew, whatever came in between.

use super::on_off::{Chance, RandomStore};
use super::*;
use crate::Parameter;

/// With `$1` as a gate and `$2` as a time, if they have such.
const TEXTS: &[&str] = &[
    "SELECT count(*), min(time), max(time) FROM water",
    "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(level_cm) FROM water \
     WHERE gate = $1 AND time >= $2 AND time < $2 + INTERVAL '1 hour' GROUP BY t ORDER BY t",
    "SELECT gate, count(*), sum(number) FROM water WHERE time >= $2 AND gate <> $1 GROUP BY gate ORDER BY gate",
    "SELECT gate, last(number, time) FROM water GROUP BY gate ORDER BY gate",
    "SELECT gate, agency, time FROM latest('water') WHERE gate = $1 ORDER BY agency, time",
    "SELECT * FROM water WHERE gate = $1 ORDER BY time, number LIMIT 20",
    "SELECT count(*) FROM water WHERE number > (SELECT avg(number) FROM water WHERE gate = $1)",
    "SELECT a.gate, count(*) FROM water AS a JOIN latest('water') AS b ON a.time = b.time WHERE b.gate = $1 \
     GROUP BY a.gate ORDER BY a.gate",
    "SELECT sum(rows) FROM system.segments",
    "SELECT date_bin_gapfill(INTERVAL '1 hour', time) AS t, count(*) FROM water WHERE time >= '2026-01-01T00:00:00Z' \
     AND time < '2026-01-01T04:00:00Z' GROUP BY t ORDER BY t",
];

/// `text` with values in the place of parameters.
fn plain(text: &str, gate: &str, time: Time) -> String {
    text.replace("$1", &format!("'{gate}'")).replace("$2", &format!("to_timestamp_nanos({})", time.as_nanos()))
}

#[test]
fn the_answers_are_those_of_the_text() {
    let chance = &mut Chance::seeded();
    let mut random = RandomStore::new(chance);
    let prepared: Vec<_> = TEXTS.iter().map(|text| random.store.prepare(text).unwrap()).collect();
    for _ in 0..4 {
        random.grow(chance, 2_000);
        for (prepared, text) in prepared.iter().zip(TEXTS) {
            let gate = *chance.one_of(&GATES);
            let time = Time::from_nanos(START_NS + chance.below(36_000) as i64 * 1_000_000_000);
            let both = [gate.into(), time.into()];
            let values: &[Parameter<'_>] =
                if text.contains("$2") { &both } else { &both[..usize::from(text.contains("$1"))] };
            let plain = plain(text, gate, time);
            let of_text = || random.store.query(&plain).unwrap().to_string();
            // System tables show what compaction does between an answer and its like; it comes to an end.
            let (found, wanted) = loop {
                let (before, found) = (of_text(), prepared.query(values).unwrap().to_string());
                if before == of_text() {
                    break (found, before);
                }
            };
            assert_eq!(found, wanted, "{text} with {gate} and {time}");
        }
    }
}

/// A plan must not keep a count that statistics knew, nor the time at which it was made.
#[test]
fn nothing_of_the_moment_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(Schema::new("t").tag("k").i64("v", "")).unwrap();
    let count = store.prepare("SELECT count(*) AS n, max(time) AS t FROM t").unwrap();
    let recent = store.prepare("SELECT count(*) AS n FROM t WHERE time > now() - INTERVAL '1 hour'").unwrap();
    let clock = store.prepare("SELECT now() AS t").unwrap();
    let n = |prepared: &crate::Prepared| prepared.query(&[]).unwrap().i64(0, "n").unwrap();
    assert_eq!((n(&count), n(&recent)), (Some(0), Some(0)));
    let before = clock.query(&[]).unwrap().i64(0, "t").unwrap();
    let mut writer = table.writer().unwrap();
    for v in 1..4_i64 {
        writer.append(row! { k: "a", v: v }).unwrap();
        assert_eq!((n(&count), n(&recent)), (Some(2 * v - 1), Some(v)));
        // Of long ago.
        writer.append_at(Time::from_nanos(v), row! { k: "b", v: v }).unwrap();
        assert_eq!((n(&count), n(&recent)), (Some(2 * v), Some(v)));
    }
    assert!(clock.query(&[]).unwrap().i64(0, "t").unwrap() > before);
}

#[test]
fn what_is_wrong_is_said() {
    let (store, _dir) = filled();
    assert!(matches!(store.prepare("DELETE FROM water"), Err(Error::ReadOnlySql { .. })));
    assert!(matches!(store.prepare("SELECT nothing FROM water"), Err(Error::Query { .. })));
    assert!(store.prepare("SELECT * FROM air").is_err());
    let of_gate = store.prepare("SELECT count(*) AS n FROM water WHERE gate = $1 AND number < $2").unwrap();
    let error = of_gate.query(&["Sei Wie".into()]).unwrap_err().to_string();
    assert!(error.contains("$2"), "{error}");
    let error = of_gate.query(&["Sei Wie".into(), "many".into()]).unwrap_err().to_string();
    assert!(error.contains("parameter $2"), "{error}");
    let n = of_gate.query(&["Sei Wie".into(), 5_000.into()]).unwrap().i64(0, "n").unwrap();
    assert_eq!(n, Some(5_000 / 4));
    store.close().unwrap();
    assert!(matches!(of_gate.query(&["Sei Wie".into(), 5_000.into()]), Err(Error::Closed)));
}

#[test]
fn limits_hold() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().query_rows_max(10).open(dir.path().join("kota")).unwrap();
    append(&store.table(water()).unwrap(), 0..100);
    let all = store.prepare("SELECT * FROM water").unwrap();
    assert!(matches!(all.query(&[]), Err(Error::LimitExceeded { limit: "query_rows_max", .. })));
    let first = store.prepare("SELECT * FROM water LIMIT 10").unwrap();
    assert_eq!(first.query(&[]).unwrap().num_rows(), 10);
}
