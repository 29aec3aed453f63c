//! Prepared statements answer as the same text does when it is sent anew, whatever came in between.

use super::chance::Chance;
use super::on_off::RandomStore;
use super::*;
use crate::query::extension::Function;
use crate::query::functions::Entry;
use crate::{Parameter, Result};

/// With `$1` as a gate and `$2` as a time, if they have such; and whether their plan is kept.
const TEXTS: &[(&str, bool)] = &[
    ("SELECT count(*), min(time), max(time) FROM water", true),
    (
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(number), last(level_cm, time) FROM water \
         WHERE gate = $1 AND time >= $2 AND time < $2 + INTERVAL '1 hour' GROUP BY t ORDER BY t",
        true,
    ),
    ("SELECT gate, count(*), sum(number) FROM water WHERE time >= $2 AND gate <> $1 GROUP BY gate ORDER BY gate", true),
    ("SELECT gate, last(number, time) FROM water GROUP BY gate ORDER BY gate", true),
    ("SELECT gate, agency, time FROM latest('water') WHERE gate = $1 ORDER BY agency, time", true),
    ("SELECT * FROM water WHERE gate = $1 ORDER BY time, number LIMIT 20", true),
    ("SELECT count(*) FROM water WHERE number > (SELECT avg(number) FROM water WHERE gate = $1)", true),
    (
        "SELECT a.gate, count(*) FROM water AS a JOIN latest('water') AS b ON a.time = b.time WHERE b.gate = $1 \
         GROUP BY a.gate ORDER BY a.gate",
        true,
    ),
    (
        "SELECT date_trunc('minute', time) AS t, count(*) FROM water WHERE time < $2 AND gate <> $1 \
         GROUP BY t ORDER BY t DESC LIMIT 3",
        true,
    ),
    ("SELECT count(*) FROM water WHERE time < now() AND gate = $1", true),
    ("SELECT sum(rows) FROM system.segments", false),
    (
        "SELECT date_bin_gapfill(INTERVAL '1 hour', time) AS t, count(*) FROM water WHERE time >= '2026-01-01T00:00:00Z' \
         AND time < '2026-01-01T04:00:00Z' GROUP BY t ORDER BY t",
        false,
    ),
];

/// `text` with values in the place of parameters.
fn plain(text: &str, gate: &str, time: Time) -> String {
    text.replace("$1", &format!("'{gate}'")).replace("$2", &format!("to_timestamp_nanos({})", time.as_nanos()))
}

#[test]
fn the_answers_are_those_of_the_text() {
    let chance = &mut Chance::seeded();
    let mut random = RandomStore::new(chance);
    let prepared: Vec<_> = TEXTS.iter().map(|(text, _)| random.store.prepare(text).unwrap()).collect();
    for _ in 0..4 {
        random.grow(chance, 2_000);
        for (prepared, (text, is_kept)) in prepared.iter().zip(TEXTS) {
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
            assert_eq!(prepared.is_kept(), *is_kept, "{text}");
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

/// What a value would lose on its way to its parameter's type is not lost in silence.
#[test]
fn a_value_that_would_change_is_refused() {
    let (store, _dir) = filled();
    let of_number = store.prepare("SELECT count(*) AS n FROM water WHERE number < $1").unwrap();
    let of_level = store.prepare("SELECT count(*) AS n FROM water WHERE level_cm < $1").unwrap();
    let of_day = store.prepare("SELECT count(*) AS n FROM water WHERE CAST(time AS DATE) = $1").unwrap();
    let n =
        |prepared: &crate::Prepared, value: Parameter<'_>| Ok(prepared.query(&[value])?.i64(0, "n").unwrap().unwrap());
    let exact = (1_i64 << 53) as f64;
    for (prepared, value, wanted) in [
        (&of_number, Parameter::from(40.0), 40),
        (&of_number, (-0.0).into(), 0),
        (&of_number, exact.into(), 5_000),
        (&of_number, i64::MAX.into(), 5_000),
        (&of_number, 7_u64.into(), 7),
        (&of_number, "40".into(), 40),
        (&of_number, Value::Null.into(), 0),
        (&of_level, (1_i64 << 53).into(), 4_545),
        (&of_level, f64::NAN.into(), 4_545),
        (&of_day, Time::from_nanos(START_NS).into(), 5_000),
        (&of_day, "2026-01-02".into(), 0),
    ] {
        let found: Result<i64> = n(prepared, value);
        assert_eq!(found.unwrap(), wanted, "{value:?} in {}", prepared.text());
    }
    for (prepared, value) in [
        (&of_number, Parameter::from(1.5)),
        (&of_number, 9_223_372_036_854_775_808.0.into()),
        (&of_number, f64::NAN.into()),
        (&of_number, f64::INFINITY.into()),
        (&of_number, (1_u64 << 63).into()),
        (&of_level, ((1_i64 << 53) + 1).into()),
        (&of_level, i64::MAX.into()),
        (&of_level, u64::MAX.into()),
        (&of_day, Time::from_nanos(START_NS + 1).into()),
    ] {
        let error = n(prepared, value).unwrap_err();
        assert!(matches!(error, Error::Query { .. }), "{value:?} in {}: {error}", prepared.text());
        assert!(error.to_string().contains("parameter $1"), "{error}");
    }
}

#[test]
fn a_parameter_may_be_of_several_types() {
    let (store, _dir) = filled();
    let text = "SELECT count(*) AS n FROM water WHERE number < $1 AND level_cm < $1";
    let prepared = store.prepare(text).unwrap();
    for value in [10_i64, 40] {
        let plain = store.query(&text.replace("$1", &value.to_string())).unwrap();
        assert_eq!(prepared.query(&[value.into()]).unwrap().to_string(), plain.to_string());
    }
}

/// What fails whatever the parameters are fails when it is prepared.
#[test]
fn what_can_never_be_planned_is_said_at_once() {
    let (store, _dir) = filled();
    let error = store.prepare("SELECT count(*) FROM water WHERE time > 'never'").unwrap_err();
    assert!(matches!(error, Error::Query { .. }), "{error}");
}

#[test]
fn a_plan_is_explained_within_limits() {
    let (store, _dir) = filled();
    for (opening, mark) in [("EXPLAIN", "LimitsExec"), ("EXPLAIN ANALYZE", "output_rows")] {
        let prepared = store.prepare(&format!("{opening} SELECT count(number) FROM water WHERE gate = $1")).unwrap();
        let plan = prepared.query(&["Sei Wie".into()]).unwrap().to_string();
        assert!(plan.contains("DenyutScan") && plan.contains(mark), "{plan}");
    }
}

/// A table function of a floor above, which answers with when it was called.
const BEGAN: &[Function] = &[Function {
    entry: Entry { name: "began", signature: "began()", summary: "", details: "", example: "" },
    plan: |call| call.sql(&format!("SELECT {} AS ns", call.began().as_nanos())),
}];

#[test]
fn a_function_of_a_floor_above_is_called_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let source = Arc::new(Nothing::default());
    let engine = Engine::new(source, Options::default(), dir.path().join("spill"), BEGAN).unwrap();
    for text in ["SELECT ns FROM began()", "SELECT (SELECT ns FROM began()) AS ns"] {
        let prepared = engine.prepare(text).unwrap();
        let ns = || prepared.query(&[]).unwrap().i64(0, "ns").unwrap().unwrap();
        let (first, second) = (ns(), ns());
        assert!(first < second, "{text}: {first} {second}");
    }
}
