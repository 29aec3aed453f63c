//! What leaders watch: budgets, complaints, services, and readings against what is normal. Tables to fill, and table
//! functions that answer.
//!
//! Days, years and office hours are of the store's [`zone`](crate::Options::zone); days off are the members of the dimension
//! `holiday`, or else of the store's [`calendar`](crate::Options::calendar).

mod budget;
mod complaints;
mod normal;
mod services;

pub use budget::{budget_ceilings, budget_plan, budget_realisations};
pub use complaints::complaint_events;
pub use services::service_visits;

pub(super) use budget::ABSORPTION;
pub(super) use complaints::reference::{COMPLAINTS, LEAGUE, TIME_CHARGED};
pub(super) use normal::NORMAL;
pub(super) use services::PERFORMANCE;

use datafusion::error::Result;

use super::dimension;
use super::text::text;
use crate::model::Time;
use crate::query::extension::{Call, external};

/// The days off that are known at `at`, as the argument `calendar` of SQL's functions.
fn calendar(call: &Call, at: Time) -> Result<String> {
    const HOLIDAY: &str = "holiday";
    if call.snapshot().table(HOLIDAY).is_none() {
        let named = call.options().calendar.as_deref();
        return Ok(named.map_or_else(|| "CAST(NULL AS VARCHAR)".into(), text));
    }
    let members = dimension::members(call.snapshot(), HOLIDAY, at).map_err(external)?;
    let mut days = Vec::new();
    for (key, _) in members.iter().filter(|(_, member)| member.is_some()) {
        if chrono::NaiveDate::parse_from_str(key, "%Y-%m-%d").is_err() {
            return Err(call.error(format_args!("the dimension holiday has {key:?}, which is no date like 2026-08-17")));
        }
        days.push(format!("CAST({} AS DATE)", text(key)));
    }
    Ok(if days.is_empty() { "CAST(NULL AS VARCHAR)".into() } else { format!("[{}]", days.join(", ")) })
}

/// `time`, an expression, on the clocks of the store's zone.
fn zoned(call: &Call, time: &str) -> String {
    let kind = format!("Timestamp(Nanosecond, Some(\"{}\"))", call.options().zone);
    format!("arrow_cast({time}, {})", text(&kind))
}

/// Whether the store has a table.
fn has(call: &Call, table: &str) -> bool {
    call.snapshot().table(table).is_some()
}
