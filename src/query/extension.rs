//! Table functions that the floors above give SQL: each answers with a plan, most often made of SQL text.
//!
//! **Invariant:** the plan is over the moment of the statement that calls. What it names is looked up there, the store's own
//! hidden tables included, and it runs within the limits of that statement, since it becomes a part of its plan.

#![cfg_attr(not(feature = "feed"), allow(dead_code, reason = "there is no floor above that has functions"))]

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::{ViewTable, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;
use futures::FutureExt;

use super::catalog::{Moment, catalogs};
use super::engine::Source;
pub(crate) use super::failure::external;
use super::functions::Entry;
use super::functions::asof::with_brackets;
use super::provider::StoreTable;
use super::prune::prune;
use super::{engine, guard};
use crate::model::Time;
use crate::model::table::time_type;
use crate::options::Options;
use crate::snapshot::Snapshot;

/// A table function of a floor above.
pub(crate) struct Function {
    /// Its page of the reference; its name is the function's.
    pub(crate) entry: Entry,
    /// The plan of a call.
    pub(crate) plan: fn(&Call) -> Result<LogicalPlan>,
}

/// What all functions of an engine share.
pub(super) struct Shared {
    pub(super) functions: &'static [Function],
    pub(super) options: Options,
    /// Plans with all rules.
    pub(super) full: SessionState,
}

/// The functions as a statement at `moment` registers them.
pub(super) fn register(state: &mut SessionState, shared: &Arc<Shared>, moment: &Moment) {
    for function in shared.functions {
        let bound = Bound { function, shared: shared.clone(), moment: moment.clone() };
        state.register_udtf(function.entry.name, Arc::new(bound));
    }
}

/// A function at a moment.
struct Bound {
    function: &'static Function,
    shared: Arc<Shared>,
    moment: Moment,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("name", &self.function.entry.name).finish_non_exhaustive()
    }
}

impl TableFunctionImpl for Bound {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let entry = &self.function.entry;
        let constant = |argument: &Expr| match argument {
            Expr::Literal(value, _) => Ok(value.clone()),
            other => Err(plan_error(entry, format_args!("{other} is not a constant"))),
        };
        let values = arguments.exprs().iter().map(constant).collect::<Result<Vec<_>>>()?;
        let snapshot = self.moment.snapshot().map_err(external)?;
        let source = self.moment.source().clone();
        let moment = Moment::Pinned(snapshot.clone(), source.clone());
        let mut state = engine::at(&self.shared.full, moment.clone(), Some(&self.shared));
        state.register_catalog_list(catalogs(moment, true));
        let began = arguments.session().execution_props().query_execution_start_time;
        state.execution_props_mut().query_execution_start_time = began;
        let call = Call { entry, values, snapshot, source, state, shared: &self.shared, began };
        let plan = (self.function.plan)(&call)?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

fn plan_error(entry: &Entry, what: impl fmt::Display) -> DataFusionError {
    DataFusionError::Plan(format!("{}: {what}; write {}", entry.name, entry.signature))
}

fn planned(state: &SessionState, text: &str) -> Result<LogicalPlan> {
    let dialect = state.config().options().sql_parser.dialect;
    let mut statement = state.sql_to_statement(text, &dialect)?;
    with_brackets(&mut statement);
    // Every lookup of a catalog of this crate is ready at once.
    let planned = state.statement_to_plan(statement).now_or_never();
    planned.unwrap_or_else(|| Err(DataFusionError::Internal("a table lookup that waits".into())))
}

/// One call of a function.
pub(crate) struct Call<'a> {
    entry: &'static Entry,
    values: Vec<ScalarValue>,
    snapshot: Arc<Snapshot>,
    source: Arc<dyn Source>,
    state: SessionState,
    shared: &'a Shared,
    began: Option<DateTime<Utc>>,
}

/// A table that a statement reads, and of which times.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    pub(crate) table: String,
    /// Nanoseconds, both inclusive, where predicates bound them.
    pub(crate) from_ns: Option<i64>,
    pub(crate) until_ns: Option<i64>,
}

impl Call<'_> {
    /// The moment that the statement shows.
    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The store's options.
    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    /// When the statement began.
    pub(crate) fn began(&self) -> Time {
        let ns = self.began.and_then(|began| began.timestamp_nanos_opt());
        ns.map_or_else(crate::model::now, Time::from_nanos)
    }

    /// An error about this call, that says how to write it.
    pub(crate) fn error(&self, what: impl fmt::Display) -> DataFusionError {
        plan_error(self.entry, what)
    }

    /// Checks how many arguments there are.
    pub(crate) fn check_count(&self, allowed: std::ops::RangeInclusive<usize>) -> Result<()> {
        let found = self.values.len();
        if allowed.contains(&found) { Ok(()) } else { Err(self.error(format_args!("{found} arguments given"))) }
    }

    /// The argument at `place` as text.
    pub(crate) fn text(&self, place: usize) -> Result<&str> {
        let text = self.values.get(place).and_then(|value| value.try_as_str().flatten());
        text.ok_or_else(|| self.error(format_args!("argument {} is not a text", place + 1)))
    }

    /// The argument at `place` as a time, if it is there: a timestamp, a date, or a text of one; without a zone it is UTC.
    pub(crate) fn time(&self, place: usize) -> Result<Option<Time>> {
        let Some(value) = self.values.get(place) else { return Ok(None) };
        let wrong = || self.error(format_args!("argument {} is not a time: {value}", place + 1));
        if let Some(text) = value.try_as_str() {
            return text.and_then(|text| text.parse().ok()).map(Some).ok_or_else(wrong);
        }
        if !matches!(value, ScalarValue::Date32(_)) && !value.data_type().is_temporal() {
            return Err(wrong());
        }
        match value.cast_to(&time_type()) {
            Ok(ScalarValue::TimestampNanosecond(Some(ns), _)) => Ok(Some(Time::from_nanos(ns))),
            _ => Err(wrong()),
        }
    }

    /// The plan of `text`, one query of this crate's own making.
    pub(crate) fn sql(&self, text: &str) -> Result<LogicalPlan> {
        planned(&self.state, text)
    }

    /// The tables that a query of the caller's reads. Checked as any statement is.
    pub(crate) fn touched(&self, text: &str) -> Result<Vec<Touched>> {
        let opening = guard::check(text, &self.shared.options).map_err(external)?;
        let mut state = self.state.clone();
        state.register_catalog_list(catalogs(Moment::Pinned(self.snapshot.clone(), self.source.clone()), false));
        let plan = planned(&state, text)?;
        engine::only_reads(&plan, opening).map_err(external)?;
        let plan = self.state.optimize(&plan)?;
        let mut found = Vec::new();
        self.walk(&plan, &mut found)?;
        Ok(found)
    }

    fn walk(&self, plan: &LogicalPlan, found: &mut Vec<Touched>) -> Result<()> {
        plan.apply_with_subqueries(|node| {
            let LogicalPlan::TableScan(scan) = node else { return Ok(TreeNodeRecursion::Continue) };
            if let Some(view) = scan.source.get_logical_plan() {
                self.walk(&view, found)?;
            } else if let Ok(provider) = source_as_provider(&scan.source)
                && let Some(table) = provider.downcast_ref::<StoreTable>()
            {
                let range = prune(table.view(), &scan.filters, &self.state)?.time;
                let bound = |ns: i64, open: i64| (ns != open).then_some(ns);
                found.push(Touched {
                    table: table.view().schema.name().to_string(),
                    from_ns: range.and_then(|range| bound(range.lo, i64::MIN)),
                    until_ns: range.and_then(|range| bound(range.hi, i64::MAX)),
                });
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }
}
