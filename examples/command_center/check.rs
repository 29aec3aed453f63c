//! Does the store hold exactly what the files say?
//!
//! The files are read again, apart from the replay. Of each feed the check compares the rows, the sum of their times, and
//! of each field the values that are not null and their sum. Sums are exact: floating-point values are added as whole
//! millionths, rounded in the same way here and in SQL, and texts by their length.

use std::path::Path;

use denyut::prelude::*;

use crate::Outcome;
use crate::city::Cell;
use crate::feeds::{FEEDS, Feed};
use crate::replay::Plan;

/// Rows, seconds, then values and sum of each field.
type Sums = Vec<i128>;

fn millionths(value: f64) -> i128 {
    (value * 1e6).round() as i128
}

/// What one row adds: `cells` are the values and None for null.
fn add(sums: &mut Sums, times: i128, time_s: i64, cells: impl Iterator<Item = Option<i128>>) {
    let cells = cells.flat_map(|cell| [i128::from(cell.is_some()), cell.unwrap_or(0)]);
    let adds = [1, i128::from(time_s)].into_iter().chain(cells);
    for (sum, add) in sums.iter_mut().zip(adds) {
        *sum += times * add;
    }
}

/// What each feed must hold after `plan`: every lap the whole file, less what the first lap left out.
pub(crate) fn expected(plan: &Plan, data: &Path) -> Outcome<Vec<Sums>> {
    let laps = i128::from(plan.laps);
    let mut all = Vec::new();
    for feed in &FEEDS {
        let mut sums = vec![0; 2 + 2 * feed.fields.len()];
        feed.lines(data, |fields, _, time_s, _| {
            let cells = feed.fields.iter().zip(fields).map(|(of, text)| match of.field_type {
                _ if text.is_empty() => Ok(None),
                FieldType::Utf8 => Ok(Some(text.chars().count() as i128)),
                FieldType::I64 => text.parse().map(Some).map_err(Into::into),
                _ => text.parse().map(|value| Some(millionths(value))).map_err(Into::into),
            });
            let cells = cells.collect::<Outcome<Vec<_>>>()?;
            add(&mut sums, laps, time_s, cells.into_iter());
            Ok(())
        })?;
        let moved_s: i128 = (0..plan.laps).map(|lap| i128::from(plan.moved_s(lap))).sum();
        if let [rows, seconds, ..] = sums.as_mut_slice() {
            *seconds += *rows / laps * moved_s;
        }
        all.push(sums);
    }
    for record in plan.city.records.iter().take(plan.skipped) {
        let cells = plan.city.cells(record).iter().map(|cell| match cell {
            Cell::Null => None,
            Cell::F64(value) => Some(millionths(*value)),
            Cell::I64(value) => Some(i128::from(*value)),
            Cell::Text(_) => match plan.city.value(*cell) {
                Value::Utf8(text) => Some(text.chars().count() as i128),
                _ => None,
            },
        });
        if let Some(sums) = all.get_mut(record.feed as usize) {
            add(sums, -1, record.time_s + plan.moved_s(0), cells);
        }
    }
    Ok(all)
}

/// What the store holds of `feed`.
fn found(store: &Store, feed: &Feed) -> Outcome<Sums> {
    let mut sums = vec!["count(*)".to_string(), "sum(CAST(time AS BIGINT) / 1000000000)".into()];
    for of in feed.fields {
        let field = of.field;
        sums.push(format!("count({field})"));
        sums.push(match of.field_type {
            FieldType::I64 => format!("sum({field})"),
            FieldType::Utf8 => format!("sum(CAST(character_length({field}) AS BIGINT))"),
            _ => format!("sum(CAST(round({field} * 1e6) AS BIGINT))"),
        });
    }
    let names: Vec<String> = (0..sums.len()).map(|number| format!("sum_{number}")).collect();
    let sums: Vec<String> = sums.iter().zip(&names).map(|(sum, name)| format!("{sum} AS {name}")).collect();
    let tags: Vec<String> = feed.fixed.iter().map(|(tag, value)| format!("{tag} = '{value}'")).collect();
    let sql = format!("SELECT {} FROM {} WHERE {}", sums.join(", "), feed.table, tags.join(" AND "));
    let rows = store.query(&sql)?;
    // The sum of no rows is null.
    names.iter().map(|name| Ok(i128::from(rows.i64(0, name)?.unwrap_or(0)))).collect()
}

/// Compares every feed with what it must hold. Returns the rows found; the error says all that differs.
pub(crate) fn feeds(store: &Store, expected: &[Sums]) -> Outcome<u64> {
    let mut rows = 0;
    let mut differs = Vec::new();
    for (feed, expected) in FEEDS.iter().zip(expected) {
        let found = found(store, feed)?;
        rows += found.first().copied().unwrap_or(0);
        let of_fields =
            feed.fields.iter().flat_map(|of| ["values", "sum"].map(|what| format!("{what} of {}", of.field)));
        let what = ["rows", "sum of times"].map(String::from).into_iter().chain(of_fields);
        for (what, (found, expected)) in what.zip(found.iter().zip(expected)).filter(|(_, (a, b))| a != b) {
            differs.push(format!("{}: {what}: {found} in the store, {expected} in the files", feed.name));
        }
    }
    match differs.is_empty() {
        true => Ok(u64::try_from(rows)?),
        false => Err(format!("the store and the files differ:\n  {}", differs.join("\n  ")).into()),
    }
}

/// Rows in all tables, as one statement and so of one moment.
pub(crate) fn rows(store: &Store) -> Outcome<u64> {
    let mut tables = FEEDS.map(|feed| feed.table).to_vec();
    tables.dedup();
    let counts: Vec<String> = tables.iter().map(|table| format!("(SELECT count(*) FROM {table})")).collect();
    let rows = store.query(&format!("SELECT {} AS all_rows", counts.join(" + ")))?;
    Ok(u64::try_from(rows.i64(0, "all_rows")?.ok_or("a count that is null")?)?)
}
