//! Budgets: ceilings and their revisions, plans, and what was spent, in exact decimals.

use std::time::Duration;

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

use super::super::text::time;
use super::{has, zoned};
use crate::model::{Dedup, Schema};
use crate::query::Entry;
use crate::query::extension::{Call, Function};

const CEILINGS: &str = "budget_ceilings";
const PLAN: &str = "budget_plan";
const REALISATIONS: &str = "budget_realisations";

/// A year's rows together.
const YEAR: Duration = Duration::from_secs(366 * 86_400);
const PRECISION: u8 = 20;
const SCALE: u8 = 2;

/// The table `budget_ceilings`: from its `time` on a programme of an agency may spend so much in the year; `revision` 0 is the
/// original. A ceiling of one year says nothing of the next.
///
/// ```
/// use denyut::prelude::*;
/// # let dir = tempfile::tempdir().unwrap();
/// let city = Store::open(dir.path().join("kota"))?;
/// let mut ceilings = city.table(denyut::feed::budget_ceilings())?.writer()?;
/// // Amounts are in hundredths: 10,000,000.50 rupiah.
/// ceilings.append_at("2026-01-01T00:00:00Z".parse()?, row! {
///     agency: "PUPR", program: "roads", ceiling: 1_000_000_050_i128, revision: 0_i64
/// })?;
/// let rows = city.query("SELECT absorption FROM budget_absorption('2026-06-30')")?;
/// assert_eq!(rows.f64(0, "absorption")?, Some(0.0));
/// # Ok::<(), denyut::Error>(())
/// ```
pub fn budget_ceilings() -> Schema {
    let schema = Schema::new(CEILINGS).tag("agency").tag("program").decimal("ceiling", PRECISION, SCALE, "IDR");
    let schema = schema.required("ceiling").i64("revision", "").utf8("document", "");
    schema.dedup(Dedup::LastWrite).partition(YEAR)
}

/// The table `budget_plan`: by its `time` a programme of an agency shall have spent so much of its year in all.
pub fn budget_plan() -> Schema {
    let schema = Schema::new(PLAN).tag("agency").tag("program").decimal("planned", PRECISION, SCALE, "IDR");
    schema.required("planned").dedup(Dedup::LastWrite).partition(YEAR)
}

/// The table `budget_realisations`: what was spent, payment by payment.
pub fn budget_realisations() -> Schema {
    let schema = Schema::new(REALISATIONS).tag("agency").tag("program").decimal("amount", PRECISION, SCALE, "IDR");
    schema.required("amount").utf8("document", "").partition(YEAR)
}

pub(in crate::feed) const ABSORPTION: Function = Function {
    entry: Entry {
        name: "budget_absorption",
        signature: "budget_absorption([as_of [, ceilings_as_of]])",
        summary: "What each programme has spent of its ceiling, against plan and the same day last year.",
        details: "A row an agency and programme with rows in budget_ceilings, budget_plan or budget_realisations in the year \
                  of as_of or the one before: ceiling and revision in force at ceilings_as_of, which is as_of if left out, \
                  so that a day can be told before and after a revision; realised, the sum of the year until as_of, which \
                  is included; planned, the last plan until as_of; against_plan, realised less planned; the same of last \
                  year until the same day: last_year_ceiling, last_year_realised. Amounts are exact decimals with two \
                  digits after the point. absorption, planned_share and last_year_absorption are parts of the ceiling, \
                  null without one. Years are of the store's zone. Nothing spent is 0, no plan and no ceiling are null. \
                  A date without time is its midnight in UTC: give the end of the day meant. Cost: two years' rows.",
        example: "SELECT agency, program, ceiling, realised, round(absorption, 3) FROM budget_absorption() ORDER BY absorption",
    },
    plan: absorption,
};

fn absorption(call: &Call) -> Result<LogicalPlan> {
    call.check_count(0..=2)?;
    let at = call.time(0)?.unwrap_or_else(|| call.began());
    let ceilings_at = call.time(1)?.unwrap_or(at);
    let now = zoned(call, &time(at));
    let (at, ceilings_at) = (time(at), time(ceilings_at));
    let year = format!("date_trunc('year', {now})");
    let then = format!("({now} - INTERVAL '1 year')");
    let last_year = format!("date_trunc('year', {then})");
    let decimal = format!("DECIMAL({PRECISION}, {SCALE})");
    let part = |what: usize, table: &str, amount: &str, revision: &str| match has(call, table) {
        true => format!(
            "SELECT {what} AS what, time, agency, program, {amount} AS amount, {revision} AS revision FROM public.{table} \
             WHERE time >= {last_year} AND time <= greatest({at}, {ceilings_at})"
        ),
        false => format!(
            "SELECT {what} AS what, {at} AS time, '' AS agency, '' AS program, CAST(0 AS {decimal}) AS amount, \
             CAST(0 AS BIGINT) AS revision WHERE false"
        ),
    };
    let parts = [
        part(0, CEILINGS, "ceiling", "revision"),
        part(1, PLAN, "planned", "CAST(NULL AS BIGINT)"),
        part(2, REALISATIONS, "amount", "CAST(NULL AS BIGINT)"),
    ];
    let ceiling = format!("FILTER (WHERE what = 0 AND time >= {year} AND time <= {ceilings_at})");
    let last = format!("time < {year} AND time <= {then}");
    let share =
        |part: &str, of: &str| format!("CASE WHEN {of} > 0 THEN CAST({part} AS DOUBLE) / CAST({of} AS DOUBLE) END");
    call.sql(&format!(
        "WITH entries AS ({}), sums AS (SELECT agency, program, \
         last_value(amount ORDER BY time) {ceiling} AS ceiling, last_value(revision ORDER BY time) {ceiling} AS revision, \
         coalesce(sum(amount) FILTER (WHERE what = 2 AND time >= {year} AND time <= {at}), 0) AS realised, \
         last_value(amount ORDER BY time) FILTER (WHERE what = 1 AND time >= {year} AND time <= {at}) AS planned, \
         last_value(amount ORDER BY time) FILTER (WHERE what = 0 AND {last}) AS last_year_ceiling, \
         coalesce(sum(amount) FILTER (WHERE what = 2 AND {last}), 0) AS last_year_realised \
         FROM entries GROUP BY agency, program) \
         SELECT agency, program, ceiling, revision, realised, {} AS absorption, planned, {} AS planned_share, \
         realised - planned AS against_plan, last_year_ceiling, last_year_realised, {} AS last_year_absorption FROM sums",
        parts.join(" UNION ALL "),
        share("realised", "ceiling"),
        share("planned", "ceiling"),
        share("last_year_realised", "last_year_ceiling"),
    ))
}
