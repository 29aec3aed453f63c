//! Files of live blocks go round: each life begins empty, is told from the one before, and takes nothing from a reader.

use super::*;
use crate::Reader;
use crate::ingest::live_block::LiveBlock;

fn numbers() -> Schema {
    Schema::new("numbers").tag("writer").f64("x", "").f64("y", "")
}

/// The block that is filled now.
fn current(store: &Store) -> Arc<LiveBlock> {
    store.inner.core.view.load().blocks().last().unwrap().block.clone()
}

/// Appends rows of values, or of nulls where `null` says so, until `until` blocks of the table's writer were full, and gives
/// how many.
fn fill(
    store: &Store,
    writer: &mut Writer,
    series: SeriesId,
    (from, until): (i64, usize),
    null: fn(i64) -> bool,
) -> i64 {
    let (mut number, mut full, mut last) = (from, 0, 0);
    while full < until {
        let value = if null(number) { Value::Null } else { Value::F64(number as f64) };
        let time = Time::from_nanos(1_700_000_000_000_000_000 + number);
        let _ = writer.append_to(series, time, &[value, Value::F64(number as f64)]).unwrap();
        let generation = current(store).generation;
        full += usize::from(last != 0 && generation != last);
        (number, last) = (number + 1, generation);
    }
    number
}

/// `x` of all rows by `y`.
fn found(scan: crate::Scan) -> BTreeMap<i64, Option<f64>> {
    let mut found = BTreeMap::new();
    for batch in scan {
        let batch = batch.unwrap();
        let [x, y] = ["x", "y"].map(|name| batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone());
        found.extend(y.iter().zip(x.iter()).map(|(y, x)| (y.unwrap() as i64, x)));
    }
    found
}

#[test]
fn a_recycled_block_has_no_nulls_of_its_former_life() {
    let store = open_sim(&SimFs::new(1)).unwrap();
    let table = store.table(numbers()).unwrap();
    let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
    let nulls = fill(&store, &mut writer, series, (0, 3), |_| true);
    // Some nulls in each block, so that its presence bytes are looked at.
    let is_null = |number: i64| number % 100 == 0;
    let all = fill(&store, &mut writer, series, (nulls, 5), is_null);
    let found = found(table.scan().unwrap());
    assert_eq!(found.len() as i64, all);
    for (number, value) in found {
        let expected = (number >= nulls && !is_null(number)).then_some(number as f64);
        assert_eq!(value, expected, "row {number} of {nulls} nulls and {all}");
    }
}

#[test]
fn a_recycled_block_begins_without_rows() {
    let store = open_sim(&SimFs::new(2)).unwrap();
    let table = store.table(numbers()).unwrap();
    let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
    let all = fill(&store, &mut writer, series, (0, 12), |_| false);
    let counters: BTreeMap<_, _> = store.counters().into_iter().collect();
    assert!(counters["blocks_recycled"] > 3, "{counters:?}");
    let found = found(table.scan().unwrap());
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), (0..all).collect::<Vec<_>>());
}

#[test]
fn a_recycled_block_is_another_life() {
    let store = open_sim(&SimFs::new(3)).unwrap();
    let table = store.table(numbers()).unwrap();
    let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
    let mut lives = std::collections::BTreeSet::new();
    let mut from = 0;
    for life in 0..12 {
        from = fill(&store, &mut writer, series, (from, 1), |_| false);
        let generation = current(&store).generation;
        assert!(lives.insert(generation), "generation {generation} in life {life} again");
    }
}

#[test]
fn a_block_that_a_reader_holds_is_replaced() {
    let fs = SimFs::new(4);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbers()).unwrap();
    let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
    let _ = writer
        .append_to(series, Time::from_nanos(1_700_000_000_000_000_000), &[Value::F64(0.0), Value::F64(0.0)])
        .unwrap();
    let half = fill(&store, &mut writer, series, (1, 1), |_| false);
    let reader = Reader::open_on(fs.clone(), &Store::options().without_background(), Path::new("/store")).unwrap();
    let (scan, before) = (reader.scan("numbers").unwrap(), found(reader.scan("numbers").unwrap()));
    assert_eq!(before.len() as i64, half);
    // Far more blocks than the budget has: the reader's would be among them.
    fill(&store, &mut writer, series, (half, 40), |_| true);
    assert_eq!(found(scan), before, "rows of another life");
}

#[test]
fn a_full_budget_is_an_error_until_a_reader_lets_go() {
    let fs = SimFs::new(5);
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(128 << 10).live_bytes_max(512 << 10);
    let options = options.overload(crate::Overload::Fail).without_background();
    let store = Store::open_on(fs, options, Path::new("/store")).unwrap();
    let table = store.table(numbers()).unwrap();
    let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
    let (mut scans, mut accepted) = (Vec::new(), 0_i64);
    let refused = loop {
        let time = Time::from_nanos(1_700_000_000_000_000_000 + accepted);
        match writer.append_to(series, time, &[Value::F64(0.0), Value::F64(accepted as f64)]) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        if accepted % 500 == 0 {
            scans.push(table.scan().unwrap());
        }
    };
    assert!(matches!(refused, Error::Overloaded { .. }), "{refused}");
    assert!(store.counters().contains(&("overloaded", 1)));
    scans.clear();
    store.inner.core.pool.released().try_iter().for_each(|released| store.inner.core.recycle(released));
    let time = Time::from_nanos(1_700_000_001_000_000_000);
    let _ = writer.append_to(series, time, &[Value::F64(0.0), Value::F64(accepted as f64)]).unwrap();
    assert_eq!(found(table.scan().unwrap()).len() as i64, accepted + 1);
}

#[test]
fn rows_of_long_text_take_blocks_with_few_rows() {
    // Seven of these fill a block, which had room for dozens of what rows used before.
    let (long, short) = ("x".repeat(9_000), "y".repeat(600));
    let fs = SimFs::new(6);
    let store = open_sim(&fs).unwrap();
    let table = store.table(numbered()).unwrap();
    let mut writer = table.writer().unwrap();
    for number in 0..500 {
        let text = if number % 50 < 20 { &long } else { &short };
        let appended =
            writer.append_at(time_of(number), row! { writer: "a", number: number, text: text.as_str() }).unwrap();
        assert_eq!(appended.accepted(), 1);
        if number % 100 == 99 {
            store.seal().unwrap();
        }
    }
    let texts = table.scan().unwrap().map(|batch| {
        let batch = batch.unwrap();
        batch.column_by_name("text").unwrap().as_string_view().iter().map(|text| text.unwrap().len()).sum::<usize>()
    });
    assert_eq!(texts.sum::<usize>(), 200 * 9_000 + 300 * 600);
}
