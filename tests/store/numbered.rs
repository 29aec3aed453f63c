//! Rows whose every column is a function of the row's number, so that a row that is there can be told from one that is
//! half there.

use std::collections::BTreeMap;
use std::sync::Arc;

use denyut::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use denyut::arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use denyut::prelude::*;

/// Rows of one value of the tag `site`, so that series keep coming.
const SITE_ROWS: i64 = 500;
const START_NS: i64 = 1_700_000_000_000_000_000;

/// A table of such rows: nullable fields of every type.
pub(crate) fn schema(table: &str) -> Schema {
    Schema::new(table)
        .tag("writer")
        .tag("site")
        .i64("number", "")
        .required("number")
        .f64("half", "")
        .utf8("text", "")
        .bool("odd", "")
        .u64("square", "")
        .decimal("cents", 18, 2, "IDR")
}

/// The columns of row `number`.
pub(crate) struct Cells {
    pub(crate) time: Time,
    pub(crate) site: String,
    pub(crate) half: Option<f64>,
    pub(crate) text: Option<String>,
    pub(crate) odd: Option<bool>,
    pub(crate) square: Option<u64>,
    pub(crate) cents: Option<i128>,
}

impl Cells {
    /// Times go forward, with every seventh row late by an hour and a half second, so that no two are equal.
    pub(crate) fn of(number: i64) -> Self {
        let late_ns = if number % 7 == 0 { 3_600_500_000_000 } else { 0 };
        let site = number / SITE_ROWS;
        Self {
            time: Time::from_nanos(START_NS + number * 1_000_000_000 - late_ns),
            site: if site % 2 == 0 { format!("s{site}") } else { format!("a site with a longer name, {site}") },
            half: (number % 5 != 0).then_some(number as f64 / 2.0),
            text: match number % 4 {
                0 => None,
                1 => Some(format!("t{number}")),
                _ => Some(format!("a text too long for a view, number {number}")),
            },
            odd: (number % 3 != 0).then_some(number % 2 == 1),
            square: (number % 6 != 0).then(|| (number * number) as u64),
            cents: (number % 8 != 0).then_some(i128::from(number) * 101 - 7_000),
        }
    }

    /// The fields in the schema's order.
    pub(crate) fn values(&self, number: i64) -> [Value<'_>; 6] {
        let text = self.text.as_deref();
        [number.into(), self.half.into(), text.into(), self.odd.into(), self.square.into(), self.cents.into()]
    }
}

/// How a writer puts its rows in. All three are to give the same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Named,
    Handle,
    Batch,
}

/// Appends rows `numbers` of `name`.
pub(crate) fn append(
    way: Way,
    table: &Table,
    writer: &mut Writer,
    name: &str,
    numbers: std::ops::Range<i64>,
) -> denyut::Result<()> {
    if let Way::Batch = way {
        let rows = numbers.end - numbers.start;
        assert_eq!(writer.append_batch(&batch(name, numbers))?.accepted(), rows as u64);
        return Ok(());
    }
    // A writer that was opened after a field was added has it too.
    let more = writer.schema().fields().len() - 6;
    for number in numbers {
        let cells = Cells::of(number);
        let [number_value, half, text, odd, square, cents] = cells.values(number);
        let appended = match way {
            Way::Named => writer.append_at(
                cells.time,
                row! { cents: cents, writer: name, half: half, site: cells.site.as_str(), number: number_value,
                text: text, odd: odd, square: square },
            )?,
            _ => {
                let series = table.series([name, &cells.site])?;
                let values = [&cells.values(number)[..], &vec![Value::Null; more]].concat();
                writer.append_to(series, cells.time, &values)?
            }
        };
        assert_eq!(appended.accepted(), 1);
    }
    Ok(())
}

fn batch(name: &str, numbers: std::ops::Range<i64>) -> RecordBatch {
    let cells: Vec<Cells> = numbers.clone().map(Cells::of).collect();
    fn column<A: FromIterator<T> + Array + 'static, T>(cells: &[Cells], cell: impl FnMut(&Cells) -> T) -> ArrayRef {
        Arc::new(cells.iter().map(cell).collect::<A>())
    }
    let cents: Decimal128Array = cells.iter().map(|cells| cells.cents).collect();
    RecordBatch::try_from_iter([
        ("time", column::<TimestampNanosecondArray, _>(&cells, |cells| Some(cells.time.as_nanos()))),
        ("writer", column::<StringArray, _>(&cells, |_| Some(name.to_string()))),
        ("site", column::<StringArray, _>(&cells, |cells| Some(cells.site.clone()))),
        ("number", Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef),
        ("half", column::<Float64Array, _>(&cells, |cells| cells.half)),
        ("text", column::<StringArray, _>(&cells, |cells| cells.text.clone())),
        ("odd", column::<BooleanArray, _>(&cells, |cells| cells.odd)),
        ("square", column::<UInt64Array, _>(&cells, |cells| cells.square)),
        ("cents", Arc::new(cents.with_precision_and_scale(18, 2).unwrap())),
    ])
    .unwrap()
}

/// How many rows of each writer a table has, after checking that they are rows 0, 1, .. of it, each once and whole.
pub(crate) fn check(table: &Table, place: &str) -> BTreeMap<String, i64> {
    check_scan(table.scan().unwrap(), place)
}

/// As [`check`], of rows that are scanned.
pub(crate) fn check_scan(scan: denyut::Scan, place: &str) -> BTreeMap<String, i64> {
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for batch in scan {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (writers, sites, texts) =
            (column("writer").as_string_view(), column("site").as_string_view(), column("text").as_string_view());
        let (times, numbers) =
            (column("time").as_primitive::<TimestampNanosecondType>(), column("number").as_primitive::<Int64Type>());
        let (halves, odds) = (column("half").as_primitive::<Float64Type>(), column("odd").as_boolean());
        let (squares, cents) =
            (column("square").as_primitive::<UInt64Type>(), column("cents").as_primitive::<Decimal128Type>());
        let mut numbers_of: Option<(&str, &mut Vec<i64>)> = None;
        for row in 0..batch.num_rows() {
            let number = numbers.value(row);
            let cells = Cells::of(number);
            let is = |array: &dyn Array| array.is_valid(row);
            let whole = times.value(row) == cells.time.as_nanos()
                && sites.value(row) == cells.site
                && is(halves).then(|| halves.value(row)) == cells.half
                && is(texts).then(|| texts.value(row)) == cells.text.as_deref()
                && is(odds).then(|| odds.value(row)) == cells.odd
                && is(squares).then(|| squares.value(row)) == cells.square
                && is(cents).then(|| cents.value(row)) == cells.cents;
            assert!(whole, "{place}: row {number} of {} is not whole: {:?}", writers.value(row), batch.slice(row, 1));
            let writer = writers.value(row);
            match &mut numbers_of {
                Some((name, list)) if *name == writer => list.push(number),
                _ => {
                    let list = found.entry(writer.to_string()).or_default();
                    list.push(number);
                    numbers_of = Some((writer, list));
                }
            }
        }
    }
    let prefix = |(writer, mut numbers): (String, Vec<i64>)| {
        numbers.sort_unstable();
        let wrong = numbers.iter().zip(0..).find(|(found, wanted)| **found != *wanted);
        assert_eq!(wrong, None, "{place}: (found, wanted) of {writer}, which has {} rows", numbers.len());
        (writer, numbers.len() as i64)
    };
    found.into_iter().map(prefix).collect()
}
