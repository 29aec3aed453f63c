//! Aggregates of latest rows: what they are made of, and that they answer as all rows do.

use super::chance::Chance;
use super::on_off::{RandomStore, check};
use super::*;
use crate::Accelerations;

/// Answered from latest rows; or, if of no series that row is enough, from summaries where these can.
const SHAPES: &[&str] = &[
    "SELECT gate, agency, last(number, time), last(level_cm, time), last(note, time) FROM water GROUP BY gate, agency",
    "SELECT gate, last(note, time) AS note, last_time(note, time), max(time) FROM water GROUP BY gate",
    "SELECT last(level_cm, time) FROM water",
    "SELECT agency, last(w.level_cm, w.time) FROM water AS w WHERE w.gate <> 'Kuala Dua' GROUP BY agency",
    "SELECT agency, last_value(note ORDER BY time, number) FROM water GROUP BY agency",
    "SELECT gate || agency, first_value(level_cm ORDER BY time DESC, number) FROM water GROUP BY gate || agency",
    "SELECT gate, last_value(level_cm ORDER BY time, number) IGNORE NULLS FROM water GROUP BY gate",
    "SELECT DISTINCT ON (gate, agency) * FROM water ORDER BY gate, agency, time DESC, number DESC",
    "SELECT DISTINCT ON (gate) gate, time, note FROM water ORDER BY gate, time DESC, number",
    "SELECT gate, count(*) FROM (SELECT gate, agency, last(level_cm, time) AS l FROM water GROUP BY gate, agency) \
     GROUP BY gate",
    "SELECT DISTINCT gate, agency FROM water",
    "SELECT gate, max(time) FROM water WHERE agency = 'PUPR' GROUP BY gate",
];

/// These read rows.
const OTHERS: &[&str] = &[
    "SELECT gate, last(level_cm, time) FROM water WHERE number % 2 = 0 GROUP BY gate",
    "SELECT gate, last(level_cm, time), max(level_cm) FROM water GROUP BY gate",
    "SELECT gate, last(level_cm, time), count(*) FROM water GROUP BY gate",
    "SELECT gate, last(level_cm, time) FILTER (WHERE number > 3) FROM water GROUP BY gate",
    "SELECT note, last(level_cm, time) FROM water GROUP BY note",
    "SELECT gate, first(level_cm, time) FROM water GROUP BY gate",
    "SELECT gate, last(level_cm + 1, time) FROM water GROUP BY gate",
    "SELECT gate, last(level_cm, time + INTERVAL '1 hour') FROM water GROUP BY gate",
    "SELECT gate, last(level_cm, time) FROM water WHERE time < '2026-01-01T03:00:00Z' OR \
     time > '2026-01-01T05:00:00Z' GROUP BY gate",
    "SELECT gate, last_value(number ORDER BY number) FROM water GROUP BY gate",
    "SELECT gate, last(level_cm, time) FROM (SELECT * FROM water ORDER BY number LIMIT 9) GROUP BY gate",
];

/// Each shape is asked at some time of some store; more often with `DENYUT_ROUNDS`.
#[test]
fn the_answers_are_those_of_all_rows() {
    let chance = &mut Chance::seeded();
    let rounds = std::env::var("DENYUT_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    let (mut shapes, mut others) = (SHAPES.iter().cycle(), OTHERS.iter().cycle());
    let mut random = RandomStore::new(chance);
    let mut latest = 0;
    for round in 0..rounds {
        if round % 3 == 2 {
            random = RandomStore::new(chance);
        }
        random.grow(chance, 3_000);
        let store = &random.store;
        for text in shapes.by_ref().take(2) {
            let plan = check(store, text, "");
            assert!(plan.contains("latest=") || plan.contains("DenyutSummaries"), "{text}\n{plan}");
            latest += usize::from(plan.contains("latest="));
        }
        for text in others.by_ref().take(2) {
            let plan = explain(store, text);
            assert!(!plan.contains("latest="), "{text}\n{plan}");
        }
        let mut bound = || START_NS + chance.below(40_000) as i64 * 1_000_000_000;
        let (a, b) = (bound(), bound());
        let range = match round % 3 {
            0 => format!("time < to_timestamp_nanos({a})"),
            1 => format!("time >= to_timestamp_nanos({a})"),
            _ => format!("time BETWEEN to_timestamp_nanos({}) AND to_timestamp_nanos({})", a.min(b), a.max(b)),
        };
        let what = "last(level_cm, time), last_time(level_cm, time), last(number, time), max(time)";
        check(store, &format!("SELECT gate, {what} FROM water WHERE {range} GROUP BY gate"), "");
        check(store, &format!("SELECT DISTINCT gate FROM water WHERE {range} AND agency = 'PUPR'"), "");
        if random.dedup == Dedup::LastWrite {
            check(store, "SELECT time, note FROM latest('water') WHERE number % 2 = 0", "latest=");
            let of_agency = "FROM water WHERE agency = 'PUPR' GROUP BY gate";
            check(store, &format!("SELECT gate, last_value(note ORDER BY time) {of_agency}"), "latest=");
        }
        // Neither a null nor another row of that time matters to this one.
        check(store, "SELECT gate, last_time(number, time), max(time) FROM water GROUP BY gate", "latest=");
    }
    assert!(latest > 0, "no question was answered from latest rows");
}

#[test]
fn a_store_that_moves_on_is_caught_up_with() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().accelerations(Accelerations::all()).open(dir.path().join("kota")).unwrap();
    let table = store.table(Schema::new("t").tag("k").i64("v", "").f64("x", "")).unwrap();
    let mut handle = table.latest(table.series(["a"]).unwrap());
    let mut writer = table.writer().unwrap();
    let last = || store.query("SELECT last(v, time) AS v FROM t WHERE k = 'a' GROUP BY k").unwrap();
    assert!(handle.get().unwrap().is_none());
    for v in 0..60_i64 {
        // Every third is late.
        let time = if v % 3 == 2 { v - 2 } else { v };
        writer.append_at(Time::from_nanos(time), row! { k: "a", v: v, x: 0.5 }).unwrap();
        writer.append_at(Time::from_nanos(1_000), row! { k: "b", v: v }).unwrap();
        let wanted = if v % 3 == 2 { v - 1 } else { v };
        assert_eq!(last().i64(0, "v").unwrap(), Some(wanted), "{v}");
        let row = handle.get().unwrap().unwrap();
        assert_eq!((row.value("v").unwrap(), row.time().as_nanos()), (Value::I64(wanted), wanted), "{v}");
        assert_eq!(row.value("x").unwrap(), Value::F64(0.5));
        match v % 10 {
            3 | 7 => drop(store.seal().unwrap()),
            9 => drop(store.maintain().unwrap()),
            _ => {}
        }
        assert_eq!(last().i64(0, "v").unwrap(), Some(wanted), "{v}, sealed");
        assert_eq!(handle.get().unwrap().unwrap().value("v").unwrap(), Value::I64(wanted), "{v}, sealed");
    }
    assert!(matches!(handle.get().unwrap().unwrap().value("y"), Err(Error::UnknownField { .. })));
    store.close().unwrap();
    assert!(matches!(handle.get(), Err(Error::Closed)));
}

#[test]
fn a_table_that_would_hold_too_much_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().last_bytes_max(100).open(dir.path().join("kota")).unwrap();
    let table = store.table(water()).unwrap();
    append(&table, 0..100);
    store.seal().unwrap();
    append(&table, 100..200);
    let text = "SELECT gate, agency, last(number, time) AS n FROM water GROUP BY gate, agency ORDER BY n";
    assert!(!explain(&store, text).contains("latest="), "{}", explain(&store, text));
    assert_eq!(store.query(text).unwrap().i64(7, "n").unwrap(), Some(199));
    assert_eq!(store.query("SELECT max(number) AS n FROM latest('water')").unwrap().i64(0, "n").unwrap(), Some(199));
    let mut handle = table.latest(table.series([GATES[0], AGENCIES[0]]).unwrap());
    assert!(matches!(handle.get(), Err(Error::LimitExceeded { limit: "last_bytes_max", .. })));
}

/// Texts have no size of their own, so what their values need is known when they are read.
#[test]
fn values_that_would_hold_too_much_are_not_held() {
    const EACH: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().last_bytes_max(64 << 10).open(dir.path().join("kota")).unwrap();
    let table = store.table(water()).unwrap();
    let mut writer = table.writer().unwrap();
    let gates: Vec<String> = (0..8).map(|gate| format!("gate {gate}")).collect();
    for gate in &gates {
        let note = gate.repeat(EACH / gate.len());
        let series = table.series([gate.as_str(), "PUPR"]).unwrap();
        let values = [7_i64.into(), Value::Null, Value::Null, note.as_str().into()];
        assert_eq!(writer.append_to(series, Time::from_nanos(START_NS), &values).unwrap().accepted(), 1);
    }
    store.seal().unwrap();
    let of = |value: &str| format!("SELECT gate, last({value}, time) AS v FROM water GROUP BY gate ORDER BY gate");
    for _ in 0..2 {
        let plan = explain(&store, &of("note"));
        assert!(!plan.contains("latest="), "{plan}");
        check(&store, &of("note"), "");
        // Of numbers there is room for all, whatever was asked for before.
        check(&store, &of("number"), "latest=8");
        // And of one text.
        for gate in &gates {
            let mut handle = table.latest(table.series([gate.as_str(), "PUPR"]).unwrap());
            let row = handle.get().unwrap().unwrap();
            assert_eq!(row.value("note").unwrap(), Value::Utf8(&gate.repeat(EACH / gate.len())));
        }
        check(
            &store,
            &format!("SELECT last(note, time) FROM water WHERE gate = '{}' GROUP BY gate", gates[3]),
            "latest=1",
        );
        assert_eq!(store.query("SELECT count(note) AS n FROM latest('water')").unwrap().i64(0, "n").unwrap(), Some(8));
    }
}
