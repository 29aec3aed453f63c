//! Now against normal: the latest reading of each series, what it usually is at this hour of the week, and thresholds.

use std::time::Duration;

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

use super::super::dimension;
use super::super::text::{before, name, names, text, time};
use super::calendar;
use crate::error::Error;
use crate::model::{FieldType, Time, names::is_hidden};
use crate::query::Entry;
use crate::query::extension::{Call, Function, external};

/// What baselines look back on: eight such days and what holidays there may be between.
const BACK: Duration = Duration::from_secs(9 * 7 * 86_400);

pub(in crate::feed) const NORMAL: Function = Function {
    entry: Entry {
        name: "now_against_normal",
        signature: "now_against_normal('table', 'field' [, as_of])",
        summary: "The latest value of each series against what is usual at this hour, and against its thresholds.",
        details: "A row a series that has a value in the nine weeks before as_of: its tags; time and value of the latest; \
                  age_s; normal, deviation and z as baseline and mad_zscore give them, null with fewer than three earlier \
                  weeks; watch, alert and danger from the dimension threshold as of the moment, by the key `table.field/tag \
                  value`, of the first tag that has one, and where that is null by `table.field`; status: danger, alert, \
                  watch or normal, by the highest threshold that the value reaches, or the lowest where `below` is true; \
                  unknown without thresholds. Hours are of the store's zone. Errors: a table or a number that is not there. \
                  Cost: nine weeks' rows of the field, sorted by series.",
        example: "SELECT gate, value, normal, round(z, 1) AS z, status FROM now_against_normal('water', 'level_cm') \
                  ORDER BY z DESC",
    },
    plan,
};

fn plan(call: &Call) -> Result<LogicalPlan> {
    call.check_count(2..=3)?;
    let (table, field) = (call.text(0)?, call.text(1)?);
    let unknown = || external(Error::UnknownTable { table: table.chars().take(80).collect() });
    let view = call.snapshot().table(table).filter(|_| !is_hidden(table)).ok_or_else(unknown)?;
    let schema = view.schema.clone();
    let known = schema.fields().iter().find(|known| known.name == field);
    let known = known.ok_or_else(|| external(schema.unknown(field)))?;
    if matches!(known.field_type, FieldType::Utf8 | FieldType::Bool) {
        return Err(call.error(format_args!("field {field:?} is {}, no number", known.field_type)));
    }
    let at = call.time(2)?.unwrap_or_else(|| call.began());
    let tags = schema.tags();
    let comma = if tags.is_empty() { "" } else { ", " };
    let by = if tags.is_empty() { String::new() } else { format!("PARTITION BY {} ", names(tags)) };
    let usual =
        format!("(value, time, {}, {}) OVER ({by}ORDER BY time)", text(&call.options().zone), calendar(call, at)?);
    let (joins, bounds) = thresholds(call, table, field, tags, at);
    let bound = |bound: &str| format!("{} AS {bound}", bounds(bound));
    let reached = |bound: &str| format!("CASE WHEN {} THEN value <= {bound} ELSE value >= {bound} END", "below");
    call.sql(&format!(
        "WITH known AS (SELECT time, {tags}{comma}CAST({field} AS DOUBLE) AS value FROM public.{table} \
         WHERE time > {after} AND time <= {until} AND {field} IS NOT NULL), \
         judged AS (SELECT *, baseline{usual} AS normal, mad_zscore{usual} AS z, \
         row_number() OVER ({by}ORDER BY time DESC) AS nth FROM known), \
         bounded AS (SELECT j.*, {watch}, {alert}, {danger}, coalesce({below}, false) AS below FROM \
         (SELECT * FROM judged WHERE nth = 1) j {joins}) \
         SELECT {tags}{comma}time, value, CAST({at_ns} - CAST(time AS BIGINT) AS DOUBLE) / 1e9 AS age_s, normal, \
         value - normal AS deviation, z, watch, alert, danger, CASE WHEN {is_danger} THEN 'danger' WHEN {is_alert} THEN \
         'alert' WHEN {is_watch} THEN 'watch' WHEN watch IS NULL AND alert IS NULL AND danger IS NULL THEN 'unknown' \
         ELSE 'normal' END AS status FROM bounded",
        tags = names(tags),
        field = name(field),
        table = name(table),
        after = time(before(at, BACK)),
        until = time(at),
        at_ns = at.as_nanos(),
        watch = bound("watch"),
        alert = bound("alert"),
        danger = bound("danger"),
        below = bounds("below"),
        is_danger = reached("danger"),
        is_alert = reached("alert"),
        is_watch = reached("watch"),
    ))
}

/// The joins with thresholds, and what one of them is of a series.
fn thresholds(call: &Call, table: &str, field: &str, tags: &[String], at: Time) -> (String, impl Fn(&str) -> String) {
    let view = call.snapshot().table("threshold");
    let there = view.is_some_and(|view| {
        let columns = ["watch", "alert", "danger", "below"];
        let has = |column: &&str| view.schema.fields().iter().any(|field| field.name == **column);
        dimension::is_dimension(&view.schema) && columns.iter().all(has)
    });
    let whole = format!("{table}.{field}");
    let mut keys: Vec<String> =
        tags.iter().map(|tag| format!("{} || j.{}", text(&format!("{whole}/")), name(tag))).collect();
    keys.push(text(&whole));
    let count = if there { keys.len() } else { 0 };
    let join =
        |(n, key): (usize, &String)| format!("LEFT JOIN dimension('threshold', {}) t{n} ON t{n}.key = {key}", time(at));
    let joins: Vec<String> = keys.iter().enumerate().take(count).map(join).collect();
    let bound = move |column: &str| {
        let all: Vec<String> = (0..count).map(|n| format!("t{n}.{column}")).collect();
        let nothing = if column == "below" { "CAST(NULL AS BOOLEAN)" } else { "CAST(NULL AS DOUBLE)" };
        if all.is_empty() { nothing.into() } else { format!("coalesce({})", all.join(", ")) }
    };
    (joins.join(" "), bound)
}
