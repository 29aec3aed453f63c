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
mod calendar;
#[cfg(feature = "geo")]
mod geo;
mod holt_winters;
mod planner;
mod sketch;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::catalog::TableFunctionImpl;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::optimizer::OptimizerRule;
use datafusion::prelude::SessionContext;

use planner::FunctionPlanner;

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
/// assert!(denyut::query::reference().iter().any(|entry| entry.name == "ASOF JOIN"));
/// ```
pub fn reference() -> Vec<&'static Entry> {
    let mut entries: Vec<&Entry> = REFERENCES.iter().copied().flatten().collect();
    entries.sort_by_key(|entry| entry.name);
    entries
}

/// Adds this crate's SQL functions to a session of the host's own. They work on any table there; [`reference`] lists
/// them. Sessions of a store have them already.
///
/// Functions of the same names are replaced. Statements with `ASOF JOIN` are planned by DataFusion's own planner,
/// others by the session's.
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
/// let text = "SELECT * FROM ((VALUES (5)) AS a(t) ASOF JOIN (VALUES (2)) AS b(t) MATCH_CONDITION (a.t >= b.t))";
/// assert_eq!(context.sql(text).await?.count().await?, 1);
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
        #[cfg(feature = "geo")]
        geo::udfs(),
        sketch::udfs(),
    ];
    families.into_iter().flatten().collect()
}

fn udafs() -> Vec<Arc<AggregateUDF>> {
    [holt_winters::udafs(), sketch::udafs()].into_iter().flatten().collect()
}

fn udwfs() -> Vec<Arc<WindowUDF>> {
    baseline::udwfs()
}

fn udtfs() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    calendar::udtfs()
}
