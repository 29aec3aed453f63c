//! `completeness('SELECT ..')`: how complete the answer to a statement is, by the feeds that it reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::logical_expr::{LogicalPlan, Union};

use super::super::dimension::is_dimension;
use super::super::text::{before, text, time};
use super::feeds::Judged;
use super::{AsOf, as_of, in_force};
use crate::model::{Time, names};
use crate::query::extension::{Call, Touched};

const COLUMNS: &str =
    "feed, agency, table_name, from_time, until_time, last_row, age_s, expected, present, present_share";

/// The plan of `completeness(query [, as_of])`.
pub(super) fn plan(call: &Call) -> Result<LogicalPlan> {
    call.check_count(1..=2)?;
    let as_of = as_of(call, 1)?;
    let feeds = in_force(call.snapshot(), as_of.time)?;
    let mut plans = Vec::new();
    for touched in merged(call.touched(call.text(0)?)?) {
        let until = touched.until_ns.map_or(as_of.time, |until| Time::from_nanos(until).min(as_of.time));
        let from =
            |back| touched.from_ns.map_or_else(|| before(until, back), |from| Time::from_nanos(from.saturating_sub(1)));
        let mut has_feed = false;
        for (version, since) in feeds.iter().filter(|(version, _)| version.feed.schema.name == touched.table) {
            has_feed = true;
            let back = call.options().scorecard.window.max(version.feed.cadence());
            let start = from(back).max(*since);
            let judged = Judged::over(call, version, start, AsOf { time: until, ..as_of })?;
            let (start, until) = (time(start), time(until));
            let counted = format!(
                "SELECT feed, agency, table_name, {start} AS from_time, {until} AS until_time, last_row, age_s, expected, \
                 present, present_share FROM ({})",
                judged.statement()
            );
            plans.push(Arc::new(call.sql(&counted)?));
        }
        // The store's own tables and dimensions are not sent at a cadence.
        let view = call.snapshot().table(&touched.table);
        let is_sent = !names::is_hidden(&touched.table) && !view.is_some_and(|view| is_dimension(&view.schema));
        if !has_feed && is_sent {
            plans.push(Arc::new(call.sql(&unknown(&touched.table, ""))?));
        }
    }
    match plans.len() {
        0 => call.sql(&unknown("", " WHERE false")),
        1 => Ok(Arc::unwrap_or_clone(plans.swap_remove(0))),
        _ => Ok(LogicalPlan::Union(Union::try_new(plans)?)),
    }
}

/// The row of a table that no feed is a contract for: nobody said what to expect.
fn unknown(table: &str, which: &str) -> String {
    let at = "arrow_cast(NULL, 'Timestamp(Nanosecond, Some(\"UTC\"))')";
    let none = |kind: &str| format!("CAST(NULL AS {kind})");
    let values = [
        none("VARCHAR"),
        none("VARCHAR"),
        format!("CAST({} AS VARCHAR)", text(table)),
        at.into(),
        at.into(),
        at.into(),
        none("DOUBLE"),
        none("BIGINT"),
        none("BIGINT"),
        none("DOUBLE"),
    ];
    let columns: Vec<String> =
        values.iter().zip(COLUMNS.split(", ")).map(|(value, name)| format!("{value} AS {name}")).collect();
    format!("SELECT {}{which}", columns.join(", "))
}

/// Each table once, with the range of all its reads.
fn merged(touched: Vec<Touched>) -> Vec<Touched> {
    let mut tables: BTreeMap<String, Touched> = BTreeMap::new();
    for one in touched {
        match tables.get_mut(&one.table) {
            Some(known) => {
                known.from_ns = known.from_ns.zip(one.from_ns).map(|(a, b)| a.min(b));
                known.until_ns = known.until_ns.zip(one.until_ns).map(|(a, b)| a.max(b));
            }
            None => {
                tables.insert(one.table.clone(), one);
            }
        }
    }
    tables.into_values().collect()
}
