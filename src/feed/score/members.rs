//! `dimension('name' [, as_of])` and `dimension_history('name')`.

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

use super::super::dimension;
use super::super::text::{name, names, time};
use super::as_of;
use crate::error::Error;
use crate::query::extension::{Call, external};

/// The plan of `dimension(name [, as_of])`.
pub(super) fn plan(call: &Call) -> Result<LogicalPlan> {
    call.check_count(1..=2)?;
    let (versions, attributes) = versions(call)?;
    let at = time(as_of(call, 1)?.time);
    call.sql(&format!(
        "SELECT key, valid_from, valid_to{attributes} FROM ({versions}) \
         WHERE valid_from <= {at} AND (valid_to IS NULL OR valid_to > {at}) AND NOT removed"
    ))
}

/// The plan of `dimension_history(name)`.
pub(super) fn history(call: &Call) -> Result<LogicalPlan> {
    call.check_count(1..=1)?;
    let (versions, attributes) = versions(call)?;
    call.sql(&format!("SELECT key, valid_from, valid_to, removed{attributes} FROM ({versions})"))
}

/// All versions with the time until which each is in force, and the attributes, each after a comma.
fn versions(call: &Call) -> Result<(String, String)> {
    let table = call.text(0)?;
    let unknown = || external(Error::UnknownTable { table: table.chars().take(80).collect() });
    let view = call.snapshot().table(table).filter(|_| !crate::model::names::is_hidden(table)).ok_or_else(unknown)?;
    if !dimension::is_dimension(&view.schema) {
        return Err(call.error(format_args!("table {table:?} is no dimension: its tag is not key")));
    }
    let attributes: Vec<String> = view.schema.fields().iter().map(|field| field.name.clone()).collect();
    let attributes = names(attributes.iter().filter(|attribute| *attribute != dimension::REMOVED));
    let comma = if attributes.is_empty() { "" } else { ", " };
    let versions = format!(
        "SELECT key, time AS valid_from, lead(time) OVER (PARTITION BY key ORDER BY time) AS valid_to, \
         removed{comma}{attributes} FROM public.{}",
        name(table)
    );
    Ok((versions, format!("{comma}{attributes}")))
}
