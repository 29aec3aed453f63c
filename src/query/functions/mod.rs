//! What SQL of time series needs and DataFusion lacks. Ordinary functions, nodes and rules: they work on any table.
//!
//! One file a family. Each gives its functions (`udfs`, `udafs`, `udwfs`) and its part of the reference, which the SQL
//! shell shows and the tests run.
//!
//! **Invariant:** an error names the function and the argument, says what is wrong with it, and what to do.
//!
//! **Invariant:** what a function holds of its input is counted by the session's memory pool.

mod arguments;
pub(super) mod asof;
mod baseline;
mod bins;
mod calendar;
mod counted;
pub(super) mod first_last;
mod gapfill;
#[cfg(feature = "geo")]
mod geo;
mod holt_winters;
mod measures;
mod one_group;
mod planner;
mod sampled;
mod samples;
mod sessions;
mod sketch;
mod state_changes;
#[cfg(test)]
mod tests;
mod wallclock;

use std::sync::Arc;

use datafusion::catalog::TableFunctionImpl;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::optimizer::{AnalyzerRule, OptimizerRule};
use datafusion::prelude::SessionContext;

use self::gapfill::GapFillRule;
use self::planner::FunctionPlanner;
pub(crate) use self::sketch::rollup_sketch;
pub(super) use self::sketch::sketch_bytes;

/// What the reference says of one function.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// As SQL writes it.
    pub name: &'static str,
    /// The arguments, optional ones in brackets.
    pub signature: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Units, nulls, errors, cost, and where the method is from.
    pub details: &'static str,
    /// A statement that needs no table, and behind it, as comments, the rows of its answer.
    pub example: &'static str,
}

const REFERENCES: &[&[Entry]] = &[
    first_last::REFERENCE,
    gapfill::REFERENCE,
    super::latest::REFERENCE,
    sampled::REFERENCE,
    sessions::REFERENCE,
    state_changes::REFERENCE,
    wallclock::REFERENCE,
    asof::REFERENCE,
    baseline::REFERENCE,
    calendar::REFERENCE,
    #[cfg(feature = "geo")]
    geo::REFERENCE,
    holt_winters::REFERENCE,
    sketch::REFERENCE,
];

/// All functions that [`register`] adds, by name.
///
/// ```
/// let last = denyut::query::reference().into_iter().find(|entry| entry.name == "last").unwrap();
/// assert_eq!(last.signature, "last(value, time)");
/// ```
///
#[doc = include_str!("../../docs/functions.md")]
pub fn reference() -> Vec<&'static Entry> {
    let mut entries: Vec<&Entry> = REFERENCES.iter().copied().flatten().collect();
    entries.sort_by_key(|entry| entry.name);
    entries
}

/// Adds this crate's SQL functions to a session of the host's own. They work on any table there; [`reference()`] lists
/// them. Sessions of a store have them already.
///
/// Functions of the same names are replaced; DataFusion 55.2 has none of these. An analyzer rule and an optimizer rule
/// are added. The session's query planner stays for statements that neither fill gaps nor join by the nearest time; those
/// that do are planned by DataFusion's own, together with this crate's, since nodes of two strangers in one plan have no
/// planner that knows both.
///
/// # Errors
/// [`Query`](crate::Error::Query) if the session refuses a function.
///
/// ```
/// use denyut::datafusion::prelude::SessionContext;
///
/// # let runtime = tokio::runtime::Runtime::new().unwrap();
/// # runtime.block_on(async {
/// let context = SessionContext::new();
/// denyut::query::register(&context)?;
/// let frame = context.sql("SELECT last(v, t) FROM (VALUES (1, now())) AS x(v, t)").await?;
/// assert_eq!(frame.count().await?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub fn register(context: &SessionContext) -> crate::error::Result<()> {
    let state = context.state_ref();
    let mut state = state.write();
    *state = extended(state.clone())?;
    Ok(())
}

/// `state` with all functions.
pub(super) fn extended(mut state: SessionState) -> Result<SessionState> {
    for function in udfs() {
        state.register_udf(function)?;
    }
    for function in udafs() {
        state.register_udaf(function)?;
    }
    for function in udwfs() {
        state.register_udwf(function)?;
    }
    for (name, function) in udtfs() {
        state.register_udtf(name, function);
    }
    let has_rule = state.analyzer().rules.iter().any(|rule| rule.name() == GapFillRule.name());
    if !has_rule {
        state.add_analyzer_rule(Arc::new(GapFillRule));
    }
    let planner = FunctionPlanner { before: state.query_planner().clone() };
    let session_id = state.session_id().to_string();
    let mut rules = state.optimizers().to_vec();
    if !rules.iter().any(|rule| rule.name() == asof::PushLeftFilters.name()) {
        // Right behind the engine's own rule, which leaves filters above the node; others put projections in between.
        let behind = rules.iter().position(|rule| rule.name() == "push_down_filter").map_or(rules.len(), |at| at + 1);
        rules.insert(behind, Arc::new(asof::PushLeftFilters));
    }
    let mut builder = SessionStateBuilder::new_from_existing(state)
        .with_session_id(session_id)
        .with_optimizer_rules(rules)
        .with_query_planner(Arc::new(planner));
    builder.relation_planners().get_or_insert_default().insert(0, Arc::new(asof::AsofSyntax));
    Ok(builder.build())
}

fn udfs() -> Vec<Arc<ScalarUDF>> {
    let families = [
        calendar::udfs(),
        gapfill::udfs(),
        #[cfg(feature = "geo")]
        geo::udfs(),
        sketch::udfs(),
        wallclock::udfs(),
    ];
    families.into_iter().flatten().collect()
}

fn udafs() -> Vec<Arc<AggregateUDF>> {
    let families =
        [first_last::udafs(), holt_winters::udafs(), sampled::udafs(), sketch::udafs(), state_changes::udafs()];
    families.into_iter().flatten().collect()
}

fn udwfs() -> Vec<Arc<WindowUDF>> {
    [baseline::udwfs(), sessions::udwfs()].into_iter().flatten().collect()
}

fn udtfs() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    calendar::udtfs()
}
