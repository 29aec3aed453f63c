//! Aggregates that latest rows are enough for.
//!
//! `last(value, time)`, `last_value(value ORDER BY time)` and `max(time)`, grouped by tags, find in the latest row of each
//! series what they find in all rows; and so does `SELECT DISTINCT ON (tags) .. ORDER BY tags, time DESC`, which the
//! engine makes the same of. The rule has the scan below them give those rows; all else of the plan stays as it is.
//!
//! It does not apply where a predicate is about fields, or about `time` in another way than as one range; where anything
//! else is aggregated beside; and where groups are made of anything but tags.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, TableScan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::accelerations::accelerations;
use super::functions::first_last::last_of;
use super::latest::Need;
use super::provider::{RowsOf, StoreTable};
use super::prune::{is_of_tags_or_range, narrows_series};
use crate::model::names::TIME;

#[derive(Debug)]
pub(super) struct EndsRule;

impl OptimizerRule for EndsRule {
    fn name(&self) -> &'static str {
        "latest_rows_below_aggregates"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        if !accelerations(&config.options()).uses_last() {
            return Ok(Transformed::no(plan));
        }
        let Some((table, need)) = enough(aggregate) else { return Ok(Transformed::no(plan)) };
        let input = over(Arc::unwrap_or_clone(aggregate.input.clone()), table.with(RowsOf::Ends(need)))?;
        let (exprs, inputs) = (plan.expressions(), vec![input]);
        Ok(Transformed::yes(plan.with_new_exprs(exprs, inputs)?))
    }
}

/// `plan`, which has one scan, with `table` there.
pub(super) fn over(plan: LogicalPlan, table: StoreTable) -> Result<LogicalPlan> {
    let source = provider_as_source(Arc::new(table));
    let swapped = plan.transform_down(|node| match node {
        LogicalPlan::TableScan(scan) => {
            let scan = TableScan { source: source.clone(), ..scan };
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(swapped.data)
}

/// The table, and what of its rows `aggregate` needs, if latest rows can be enough.
fn enough(aggregate: &Aggregate) -> Option<(StoreTable, Need)> {
    if aggregate.aggr_expr.is_empty() && aggregate.group_expr.is_empty() {
        return None;
    }
    let scan = Below::find(&aggregate.input)?;
    let is_max = |expr: &Expr| matches!(expr, Expr::AggregateFunction(function) if function.func.name() == "max");
    if !scan.is_narrowed && aggregate.group_expr.is_empty() && aggregate.aggr_expr.iter().all(is_max) {
        // The bounds of all times are known without a row.
        return None;
    }
    let (table, input) = (&scan.table, &aggregate.input);
    let is_tag = |name: &str| table.view.schema.tags().iter().any(|tag| tag == name);
    let of_tags = |expr: &Expr| {
        let is_tag = |column: &&Column| origin(input, column).is_some_and(|name| is_tag(&name));
        expr.column_refs().iter().all(is_tag) && !expr.is_volatile()
    };
    if !aggregate.group_expr.iter().all(of_tags) {
        return None;
    }
    let mut need = Need::default();
    for expr in &aggregate.aggr_expr {
        let Expr::AggregateFunction(function) = expr.clone().unalias() else { return None };
        let wanted = wanted(&function, input, &aggregate.group_expr)?;
        need.ties |= wanted.ties;
        if let Some(name) = wanted.value {
            let schema = &table.view.schema;
            let column = schema.arrow().index_of(&name).ok()?;
            if schema.arrow().field(column).is_nullable() && !need.values.contains(&column) {
                need.values.push(column);
            }
        }
    }
    Some((scan.table, need))
}

/// What one aggregate needs.
#[derive(Default)]
struct Wanted {
    /// The column of which the latest value is wanted, and not that of the latest row.
    value: Option<String>,
    ties: bool,
}

fn wanted(function: &AggregateFunction, input: &LogicalPlan, groups: &[Expr]) -> Option<Wanted> {
    let params = &function.params;
    if params.filter.is_some() || params.distinct {
        return None;
    }
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => origin(input, column),
        _ => None,
    };
    if let Some(by_value) = last_of(&function.func) {
        let [value, time] = &*params.args else { return None };
        let is_plain = params.order_by.is_empty() && params.null_treatment.is_none();
        return (is_plain && column(time)? == TIME).then_some(Wanted { value: Some(column(value)?), ties: by_value });
    }
    let [value] = &*params.args else { return None };
    let value = column(value)?;
    match function.func.name() {
        "max" if value == TIME => Some(Wanted::default()),
        name @ ("first_value" | "last_value") => {
            let ties = by_latest_time(&params.order_by, name == "last_value", groups, &column)?;
            let ignores = params.null_treatment == Some(NullTreatment::IgnoreNulls);
            Some(Wanted { value: ignores.then_some(value), ties })
        }
        _ => None,
    }
}

/// Whether the latest row comes first in an order, or with `ascending` last; and if so, whether more decides about rows of
/// one time.
fn by_latest_time(
    order: &[Sort],
    ascending: bool,
    groups: &[Expr],
    column: &impl Fn(&Expr) -> Option<String>,
) -> Option<bool> {
    // What groups are made of is alike in a group.
    let mut keys = order.iter().skip_while(|key| groups.contains(&key.expr));
    let first = keys.next()?;
    (column(&first.expr)? == TIME && first.asc == ascending).then(|| keys.next().is_some())
}

/// The scan at the end of a chain of nodes that keep rows as they are, or drop those that are not of some tags or not in
/// one range of times. The scan itself knows the range.
pub(super) struct Below {
    pub(super) table: StoreTable,
    is_narrowed: bool,
}

impl Below {
    pub(super) fn find(plan: &LogicalPlan) -> Option<Self> {
        let mut predicates: Vec<Expr> = Vec::new();
        let mut node = plan;
        let scan = loop {
            match node {
                LogicalPlan::Filter(filter) => {
                    for predicate in split_conjunction(&filter.predicate) {
                        predicates.push(at_scan(&filter.input, predicate)?);
                    }
                    node = &filter.input;
                }
                LogicalPlan::SubqueryAlias(alias) => node = &alias.input,
                LogicalPlan::Projection(projection) => node = &projection.input,
                LogicalPlan::TableScan(scan) => break scan,
                _ => return None,
            }
        };
        let provider = source_as_provider(&scan.source).ok()?;
        let table = provider.downcast_ref::<StoreTable>()?.clone();
        if table.rows != RowsOf::Table || scan.fetch.is_some() {
            return None;
        }
        let mut known: Vec<Expr> = Vec::new();
        for filter in scan.filters.iter().flat_map(split_conjunction) {
            known.push(at_scan(node, filter)?);
        }
        let is_known = |predicate: &Expr| known.contains(predicate) || narrows_series(&table.view, predicate);
        let fits = |filter: &Expr| is_of_tags_or_range(&table.view, filter, true);
        let is_narrowed = !predicates.is_empty() || !known.is_empty();
        (predicates.iter().all(is_known) && known.iter().all(fits)).then_some(Self { table, is_narrowed })
    }
}

/// `predicate`, which is about the rows of `input`, by the names that the table has.
fn at_scan(input: &LogicalPlan, predicate: &Expr) -> Option<Expr> {
    let renamed = predicate.clone().transform(|expr| match &expr {
        Expr::Column(column) => match origin(input, column) {
            Some(name) => Ok(Transformed::yes(Expr::Column(Column::from_name(name)))),
            None => datafusion::common::plan_err!("computed"),
        },
        _ => Ok(Transformed::no(expr)),
    });
    renamed.ok().map(|renamed| renamed.data)
}

/// The table's column that a column of `plan` is, if it is one.
pub(super) fn origin(plan: &LogicalPlan, column: &Column) -> Option<String> {
    match plan {
        LogicalPlan::TableScan(_) => Some(column.name.clone()),
        LogicalPlan::Filter(filter) => origin(&filter.input, column),
        LogicalPlan::SubqueryAlias(alias) => {
            let at = alias.schema.maybe_index_of_column(column)?;
            let (relation, field) = alias.input.schema().iter().nth(at)?;
            origin(&alias.input, &Column::new(relation.cloned(), field.name()))
        }
        LogicalPlan::Projection(projection) => {
            let at = projection.schema.maybe_index_of_column(column)?;
            match projection.expr.get(at)?.clone().unalias() {
                Expr::Column(column) => origin(&projection.input, &column),
                _ => None,
            }
        }
        _ => None,
    }
}
