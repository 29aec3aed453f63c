//! Tables where the last write wins, against a map.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chance::{Chance, seed};
use super::*;
use crate::Table;

/// By gate and time: number, level and note.
type Expected = BTreeMap<Key, Cells>;
type Key = (String, i64);
type Cells = (i64, Option<f64>, Option<String>);

fn schema() -> Schema {
    let schema = Schema::new("water").tag("gate").i64("number", "").f64("level_cm", "cm").utf8("note", "");
    schema.dedup(Dedup::LastWrite).partition(Duration::from_secs(3_600))
}

fn write(table: &Table, writers: &mut [Writer], chance: &mut Chance, expected: &mut Expected, rows: u64) {
    for _ in 0..rows {
        let gate = GATES[chance.below(4) as usize];
        // Mostly of the last hour written to, sometimes a late one of up to ten.
        let back = if chance.below(10) == 0 { chance.below(36_000) } else { chance.below(600) };
        let time = START_NS + (36_000 - back as i64) * 1_000_000_000;
        let number = chance.below(1 << 40) as i64;
        let level = (number % 4 != 0).then_some(number as f64 / 8.0);
        let note = (number % 3 != 0).then(|| format!("a note on {number}, too long for a view"));
        let series = table.series([gate]).unwrap();
        let values = [number.into(), level.into(), note.as_deref().into()];
        let writer = &mut writers[chance.below(3) as usize];
        assert_eq!(writer.append_to(series, Time::from_nanos(time), &values).unwrap().accepted(), 1);
        expected.insert((gate.into(), time), (number, level, note));
    }
}

fn one(store: &Store, text: &str) -> Vec<Option<i64>> {
    let rows = store.query(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let row = |row: usize| (0..rows.schema().fields().len()).map(move |column| (row, column));
    assert_eq!(rows.num_rows(), 1, "{text}");
    use arrow::array::{Array, AsArray};
    let batch = rows.batches().iter().find(|batch| batch.num_rows() == 1).unwrap();
    let value = |(row, column): (usize, usize)| {
        let column = arrow::compute::cast(batch.column(column), &arrow::datatypes::DataType::Int64).unwrap();
        let column = column.as_primitive::<arrow::datatypes::Int64Type>().clone();
        column.is_valid(row).then(|| column.value(row))
    };
    row(0).map(value).collect()
}

fn check(store: &Store, chance: &mut Chance, expected: &Expected, place: &str) {
    let sums = |rows: &mut dyn Iterator<Item = (&Key, &Cells)>| {
        let (mut count, mut sum, mut levels, mut notes) = (0, None, 0, 0);
        for (_, (number, level, note)) in rows {
            count += 1;
            sum = Some(sum.unwrap_or(0) + number);
            levels += i64::from(level.is_some());
            notes += note.as_ref().map_or(0, |note| note.len() as i64);
        }
        vec![Some(count), sum, Some(levels), (count > 0 && notes > 0).then_some(notes)]
    };
    let text = "SELECT count(*), sum(number), count(level_cm), sum(length(note)) FROM water";
    assert_eq!(one(store, text), sums(&mut expected.iter()), "{place}: all");
    assert_eq!(one(store, "SELECT count(*) FROM water"), [Some(expected.len() as i64)], "{place}: count");
    let gate = GATES[chance.below(4) as usize];
    let of_gate = sums(&mut expected.iter().filter(|((of, _), _)| of == gate));
    assert_eq!(one(store, &format!("{text} WHERE gate = '{gate}'")), of_gate, "{place}: {gate}");
    let (a, b) = (chance.below(36_000) as i64, chance.below(36_000) as i64);
    let (from, to) = (START_NS + a.min(b) * 1_000_000_000, START_NS + a.max(b) * 1_000_000_000);
    let range = format!("time >= to_timestamp_nanos({from}) AND time < to_timestamp_nanos({to})");
    let within = sums(&mut expected.iter().filter(|((_, time), _)| (from..to).contains(time)));
    assert_eq!(one(store, &format!("{text} WHERE {range}")), within, "{place}: {range}");
    let both = sums(&mut expected.iter().filter(|((of, time), _)| of == gate && (from..to).contains(time)));
    assert_eq!(one(store, &format!("{text} WHERE {range} AND gate = '{gate}'")), both, "{place}: {gate}, {range}");
    // A predicate on a field must not see what was overwritten.
    let odd = sums(&mut expected.iter().filter(|(_, (number, ..))| number % 2 == 1));
    assert_eq!(one(store, &format!("{text} WHERE number % 2 = 1")), odd, "{place}: by field");
    let bounds = expected.keys().map(|(_, time)| *time);
    let text = "SELECT CAST(min(time) AS BIGINT), CAST(max(time) AS BIGINT) FROM water";
    assert_eq!(one(store, text), [bounds.clone().min(), bounds.max()], "{place}: times");
    let limit = 1 + chance.below(2 * expected.len() as u64 + 1) as usize;
    let rows = store.query(&format!("SELECT gate, time FROM water LIMIT {limit}")).unwrap();
    assert_eq!(rows.num_rows(), limit.min(expected.len()), "{place}: limit {limit}");
    let distinct = "SELECT count(*) FROM (SELECT DISTINCT gate, time FROM water)";
    assert_eq!(one(store, distinct), [Some(expected.len() as i64)], "{place}: distinct");
}

#[test]
fn the_last_write_is_the_answer_wherever_it_is() {
    let seed = seed();
    let chance = &mut Chance::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let options = || {
        let options = Store::options().query_threads(3).block_bytes_min(64 << 10).block_bytes_max(256 << 10);
        options.seal_partitions_max(4).compact_fan_in(3)
    };
    let mut expected = Expected::new();
    for life in 0..2 {
        let store = options().open(dir.path().join("kota")).unwrap();
        let table = store.table(schema()).unwrap();
        let mut writers: Vec<Writer> = (0..3).map(|_| table.writer().unwrap()).collect();
        for step in 0..7 {
            let rows = 1 + chance.below(7_000);
            write(&table, &mut writers, chance, &mut expected, rows);
            match chance.below(6) {
                0 | 1 => drop(store.seal().unwrap()),
                2 => assert!(store.maintain().unwrap().sealed_rows > 0 || rows > 0),
                _ => {}
            }
            check(&store, chance, &expected, &format!("life {life}, step {step}"));
        }
        store.maintain().unwrap();
        check(&store, chance, &expected, &format!("life {life}, in the end"));
    }
}

#[test]
fn only_what_overlaps_is_merged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().query_threads(3).open(dir.path().join("kota")).unwrap();
    let table = store.table(schema()).unwrap();
    let mut writer = table.writer().unwrap();
    let series = table.series(["x"]).unwrap();
    let mut append = |minutes: std::ops::Range<i64>| {
        for minute in minutes {
            let values = [minute.into(), Value::Null, Value::Null];
            let _ = writer.append_to(series, Time::from_nanos(START_NS + minute * 60_000_000_000), &values).unwrap();
        }
    };
    let plan = |store: &Store| {
        let rows = store.query("EXPLAIN SELECT number FROM water").unwrap();
        rows.to_string().lines().find(|line| line.contains("DenyutScan")).unwrap().to_string()
    };
    append(0..60);
    store.seal().unwrap();
    append(60..120);
    store.seal().unwrap();
    assert!(!plan(&store).contains("merges"), "{}", plan(&store));
    let counted = store.query("EXPLAIN SELECT count(*) FROM water").unwrap().to_string();
    assert!(!counted.contains("DenyutScan"), "the count is known: {counted}");
    append(30..31);
    assert!(plan(&store).contains("merges=1"), "{}", plan(&store));
    assert_eq!(one(&store, "SELECT count(*) FROM water"), [Some(120)]);
    store.seal().unwrap();
    assert!(plan(&store).contains("merges=1"), "{}", plan(&store));
    store.maintain().unwrap();
    assert_eq!(one(&store, "SELECT count(*) FROM water"), [Some(120)]);
}
