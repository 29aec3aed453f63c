//! Rows whose time is wrong: where they go, what is said of them, and that none is lost.

use std::time::Duration;

use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray, TimestampNanosecondArray};

use super::*;
use crate::model::quarantine::{REASON, ROW, ROW_TIME_NS, TABLE, TABLE_NAME};
use crate::snapshot::scan::Scan;

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_NS: i64 = 3_600_000_000_000;
const NOON_NS: i64 = 1_700_000_000_000_000_000;

fn water() -> Schema {
    Schema::new("water").tag("gate").f64("level", "cm").decimal("price", 9, 2, "IDR").lateness(HOUR)
}

fn at(time_ns: i64) -> Time {
    Time::from_nanos(time_ns)
}

/// Rows in quarantine, without when they arrived: table, reason, time, row.
fn quarantined(store: &Store) -> Vec<(String, String, i64, String)> {
    let Some(table) = store.inner.core.snapshot().table(TABLE).cloned() else { return Vec::new() };
    let mut rows = Vec::new();
    for batch in Scan::new(table, crate::fs::fork::Origin::default()) {
        let batch = batch.unwrap();
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string_view().clone();
        let (tables, reasons, texts) = (text(TABLE_NAME), text(REASON), text(ROW));
        let times = batch.column_by_name(ROW_TIME_NS).unwrap().as_primitive::<Int64Type>();
        rows.extend((0..batch.num_rows()).map(|row| {
            let text = |column: &arrow::array::StringViewArray| column.value(row).to_string();
            (text(&tables), text(&reasons), times.value(row), text(&texts))
        }));
    }
    rows.sort();
    rows
}

fn rows(table: &Table) -> usize {
    table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum()
}

fn batch(times: &[i64], gates: Option<&[&str]>) -> RecordBatch {
    let prices = Decimal128Array::from(vec![Some(1_234); times.len()]).with_precision_and_scale(9, 2).unwrap();
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("time", Arc::new(TimestampNanosecondArray::from(times.to_vec()))), ("price", Arc::new(prices))];
    columns.extend(gates.map(|gates| ("gate", Arc::new(StringArray::from(gates.to_vec())) as ArrayRef)));
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn all_three_ways_in_keep_late_and_far_rows_out_and_none_is_lost() {
    let fs = SimFs::new(1);
    let store = open_sim(&fs).unwrap();
    let table = store.table(water()).unwrap();
    let mut writer = table.writer().unwrap();
    let a = table.series(["a"]).unwrap();
    let (late, far) = (at(NOON_NS - HOUR_NS - 1), at(i64::MAX));
    let price = Value::Decimal(-5);
    // The first row is never late; the newest row and one that is just not late are fine.
    for time in [NOON_NS, NOON_NS - HOUR_NS, NOON_NS] {
        let appended = writer.append_to(a, at(time), &[1.0.into(), price]).unwrap();
        assert_eq!((appended.accepted(), appended.quarantined(), appended.late()), (1, 0, 0));
    }
    let by_handle = writer.append_to(a, late, &[f64::NAN.into(), price]).unwrap();
    assert_eq!((by_handle.accepted(), by_handle.quarantined(), by_handle.late()), (0, 1, 1));
    let by_handle = writer.append_to(a, far, &[2.0.into(), Value::Null]).unwrap();
    assert_eq!((by_handle.accepted(), by_handle.quarantined(), by_handle.late()), (0, 1, 0));
    let by_name = writer.append_at(late, row! { gate: "b", level: 3.0 }).unwrap();
    assert_eq!((by_name.accepted(), by_name.quarantined(), by_name.late()), (0, 1, 1));
    let by_name = writer.append_at(far, row! { gate: "b", level: f64::NEG_INFINITY }).unwrap();
    assert_eq!((by_name.accepted(), by_name.quarantined(), by_name.late()), (0, 1, 0));
    // A batch moves its own newest row on, row by row; a row in the far future does not.
    let times = [NOON_NS + 1, i64::MAX, NOON_NS + HOUR_NS, NOON_NS - 1, NOON_NS];
    let appended = writer.append_batch(&batch(&times, Some(&["c", "d", "c", "e", "c"]))).unwrap();
    assert_eq!((appended.accepted(), appended.quarantined(), appended.late()), (3, 2, 1));
    let appended = writer.append_batch_to(a, &batch(&[NOON_NS - 2, NOON_NS + HOUR_NS], None)).unwrap();
    assert_eq!((appended.accepted(), appended.quarantined(), appended.rejected()), (1, 1, 0));
    assert_eq!(rows(&table), 7);
    // Tags of rows that are not in the table made no series of it.
    assert_eq!(store.inner.core.view.load().table("water").unwrap().series.count(), 2);
    let row = |reason: &str, time: Time, text: &str| {
        ("water".to_string(), reason.to_string(), time.as_nanos(), text.to_string())
    };
    let mut expected = vec![
        row("late", late, r#"{"gate":"a","level":"NaN","price":"-0.05"}"#),
        row("far_future", far, r#"{"gate":"a","level":2.0,"price":null}"#),
        row("late", late, r#"{"gate":"b","level":3.0,"price":null}"#),
        row("far_future", far, r#"{"gate":"b","level":"-Infinity","price":null}"#),
        row("far_future", far, r#"{"gate":"d","level":null,"price":"12.34"}"#),
        row("late", at(NOON_NS - 1), r#"{"gate":"e","level":null,"price":"12.34"}"#),
        row("late", at(NOON_NS - 2), r#"{"gate":"a","level":null,"price":"12.34"}"#),
    ];
    expected.sort();
    assert_eq!(quarantined(&store), expected);
    let counters: BTreeMap<_, _> = store.counters().into_iter().collect();
    assert_eq!(counters["quarantined_rows"], 7);
    // It is sealed, survives, and is gone on with as any table, and is nobody's to declare or open.
    assert_eq!(store.seal().unwrap(), 14);
    assert_eq!(quarantined(&store), expected);
    drop(writer);
    store.close().unwrap();
    drop((table, store));
    let store = open_sim(&fs).unwrap();
    assert_eq!(quarantined(&store), expected);
    let table = store.existing("water").unwrap();
    let mut writer = table.writer().unwrap();
    assert_eq!(writer.append_to(a, far, &[2.0.into(), Value::Null]).unwrap().quarantined(), 1);
    assert_eq!(quarantined(&store).len(), 8);
    assert_eq!(store.tables().len(), 1);
    assert!(matches!(store.existing(TABLE), Err(Error::UnknownTable { .. })));
    assert!(matches!(store.table(Schema::new(TABLE)), Err(Error::InvalidName { .. })));
}

#[test]
fn what_is_wrong_beside_the_time_stays_an_error() {
    let fs = SimFs::new(2);
    let options = Store::options().block_bytes_min(64 << 10).without_background();
    let store = Store::open_on(fs, options, Path::new("/store")).unwrap();
    let schema = Schema::new("t").tag("a").i64("n", "").utf8("text", "").required("n");
    let table = store.table(schema).unwrap();
    let mut writer = table.writer().unwrap();
    let (a, far) = (table.series(["1"]).unwrap(), at(i64::MAX));
    let error = |result: Result<Appended>| result.unwrap_err();
    assert!(matches!(error(writer.append_at(far, row! { a: "", n: 1_i64 })), Error::MissingTag { .. }));
    assert!(matches!(error(writer.append_at(far, row! { a: "1" })), Error::MissingField { .. }));
    assert!(matches!(error(writer.append_at(far, row! { a: "1", n: 1.0 })), Error::TypeConflict { .. }));
    assert!(matches!(error(writer.append_at(far, row! { a: "1", m: 1.0 })), Error::UnknownField { .. }));
    assert!(matches!(error(writer.append_to(SeriesId(9), far, &[Value::Null; 2])), Error::UnknownSeries { .. }));
    assert!(matches!(error(writer.append_to(a, far, &[1_i64.into()])), Error::WrongArity { .. }));
    // A row whose text does not fit is told of, and only then: its value alone would have fitted.
    let long = "\"".repeat(40_000);
    let values = [1_i64.into(), Value::from(&long)];
    assert!(matches!(error(writer.append_to(a, far, &values)), Error::LimitExceeded { limit: "value_bytes_max", .. }));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("time", Arc::new(TimestampNanosecondArray::from(vec![i64::MAX, i64::MAX, NOON_NS]))),
        ("a", Arc::new(StringArray::from(vec!["1", "1", "1"]))),
        ("n", Arc::new(arrow::array::Int64Array::from(vec![1, 2, 3]))),
        ("text", Arc::new(StringArray::from(vec![&*long, "short", &*long]))),
    ];
    let appended = writer.append_batch(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    assert_eq!((appended.accepted(), appended.quarantined(), appended.rejected()), (1, 1, 1));
    assert!(matches!(appended.reasons()[0].error, Error::LimitExceeded { .. }));
    assert_eq!(quarantined(&store).len(), 1);
}

#[test]
fn times_at_the_ends_of_what_can_be_said_are_judged_rightly() {
    let fs = SimFs::new(3);
    let store = open_sim(&fs).unwrap();
    let far_away = Duration::from_secs(u64::MAX);
    let without = store.table(Schema::new("without").i64("n", "").future_max(far_away)).unwrap();
    let with = store.table(Schema::new("with").i64("n", "").future_max(far_away).lateness(HOUR)).unwrap();
    for (table, expected) in [(without, [1, 1, 1]), (with, [1, 0, 1])] {
        let (mut writer, series) = (table.writer().unwrap(), table.series([]).unwrap());
        let times = [i64::MAX, i64::MIN, i64::MAX - 1];
        let accepted = times.map(|time| writer.append_to(series, at(time), &[1_i64.into()]).unwrap().accepted());
        assert_eq!(accepted, expected, "{}", table.name());
        let appended = writer.append_to(series, at(i64::MIN), &[1_i64.into()]).unwrap();
        assert_eq!(appended.accepted() + appended.late(), 1);
    }
}

#[test]
fn the_quarantine_counts_as_no_table_and_its_retention_is_of_this_open() {
    let fs = SimFs::new(4);
    let options = || Store::options().block_bytes_min(64 << 10).tables_max(1).tag_bytes_max(2).series_max(1);
    let open = |options: Options| Store::open_on(fs.clone(), options.without_background(), Path::new("/store"));
    let retention = |store: &Store| store.inner.core.view.load().table(TABLE).unwrap().schema.policies.retention;
    let store = open(options().quarantine_retention(HOUR)).unwrap();
    let table = store.table(Schema::new("t").tag("a").f64("x", "")).unwrap();
    let mut writer = table.writer().unwrap();
    assert_eq!(writer.append_at(at(i64::MAX), row! { a: "1", x: 1.0 }).unwrap().quarantined(), 1);
    assert_eq!(retention(&store), Some(HOUR));
    drop((writer, table));
    store.close().unwrap();
    drop(store);
    let store = open(options().quarantine_retention(HOUR * 2)).unwrap();
    assert_eq!(retention(&store), Some(HOUR * 2));
    assert!(matches!(store.table(Schema::new("u")), Err(Error::LimitExceeded { limit: "tables_max", .. })));
    let table = store.existing("t").unwrap();
    let mut writer = table.writer().unwrap();
    assert_eq!(writer.append_at(at(i64::MAX), row! { a: "1", x: 1.0 }).unwrap().quarantined(), 1);
    assert_eq!(quarantined(&store).len(), 2);
}

#[test]
fn a_synced_row_in_quarantine_survives_power_loss_at_any_operation_after() {
    for cut_at in 0..40 {
        let fs = SimFs::new(cut_at);
        let options = Store::options().block_bytes_min(64 << 10).durability(Durability::EverySync);
        let store = Store::open_on(fs.clone(), options.without_background(), Path::new("/store")).unwrap();
        let table = store.table(water()).unwrap();
        let mut writer = table.writer().unwrap();
        fs.crash_at(fs.operations() + cut_at);
        let mut acknowledged = 0;
        for number in 0..20 {
            let appended = writer.append_at(at(i64::MAX - number), row! { gate: "a", level: 1.0 });
            acknowledged += appended.map_or(0, |appended| appended.quarantined() as usize);
        }
        let image = fs.crash(cut_at);
        drop((writer, table, store));
        let found = quarantined(&open_sim(&image).unwrap()).len();
        assert!((acknowledged..=acknowledged + 1).contains(&found), "cut at {cut_at}: {found} of {acknowledged}");
    }
}
