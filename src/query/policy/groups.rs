//! Groups instead of rows.
//!
//! A table that is only seen in groups has to be below an aggregate, with nothing between that could tell one row from
//! another but conditions, which choose rows as groups do. None of these may fail on a row, see [`super::total`]. Such an aggregate counts its rows beside, and groups of too few
//! are left out right above it, so that nothing else of the statement sees them.
//!
//! **Invariant:** of a table with `groups_of(k)`, what leaves the aggregate above it was computed from at least k rows, each
//! value from all of them that have one.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};

use super::table::PolicyTable;
use super::total::is_total;
use crate::error::Error;
use crate::query::failure::external;

/// What may be computed of a group.
const AGGREGATES: [&str; 8] = ["count", "sum", "avg", "median", "stddev", "stddev_pop", "var", "var_pop"];
/// The column that counts rows. Nothing else has a name like it: SQL of a policy's session cannot see it.
const ROWS: &str = "__group_rows";

/// A plan that lets out groups alone, where tables ask for it.
pub(super) fn grouped(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => match below(&aggregate.input)? {
            Some(table) => {
                let counted = counted(aggregate, &table)?;
                Ok(Transformed::new(counted, true, TreeNodeRecursion::Jump))
            }
            None => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        },
        LogicalPlan::TableScan(_) => match of_scan(&node)? {
            Some(table) => Err(table.refused("rows by themselves".into())),
            None => Ok(Transformed::no(node)),
        },
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// A table that is only seen in groups.
struct Grouped {
    policy: String,
    table: String,
    rows_min: u64,
}

impl Grouped {
    fn refused(&self, what: String) -> DataFusionError {
        let Self { policy, table, rows_min } = self;
        external(Error::PolicyRefuses {
            policy: policy.clone(),
            what: format!("{what} of table {table:?}, which shows groups of {rows_min} rows or more"),
            remedy: "aggregate its columns right above it with count, sum, avg, median, stddev or var, and GROUP BY",
        })
    }
}

fn of_scan(node: &LogicalPlan) -> Result<Option<Grouped>> {
    let LogicalPlan::TableScan(scan) = node else { return Ok(None) };
    // Of a source that is no table nothing is to be hidden.
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    let Some(table) = provider.downcast_ref::<PolicyTable>() else { return Ok(None) };
    let rules = table.rules();
    let rows_min = rules.group_rows_min();
    Ok((rows_min > 0).then(|| Grouped { policy: rules.policy.clone(), table: rules.table.clone(), rows_min }))
}

/// The table that an aggregate is right above, if it is one that is only seen in groups.
fn below(input: &Arc<LogicalPlan>) -> Result<Option<Grouped>> {
    let mut conditions = Vec::new();
    let mut node = input.as_ref();
    loop {
        node = match node {
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Filter(filter) => {
                conditions.push((&filter.predicate, filter.input.schema()));
                &filter.input
            }
            LogicalPlan::Projection(projection) if projection.expr.iter().all(is_column) => &projection.input,
            _ => break,
        };
    }
    let Some(table) = of_scan(node)? else { return Ok(None) };
    match conditions.into_iter().all(|(condition, schema)| is_total(condition, schema)) {
        true => Ok(Some(table)),
        false => Err(table.refused("a condition that looks beyond its row or may fail on it, on rows".into())),
    }
}

/// A column, perhaps under another name.
fn is_column(expression: &Expr) -> bool {
    match expression {
        Expr::Column(_) => true,
        Expr::Alias(alias) => is_column(&alias.expr),
        _ => false,
    }
}

/// The aggregate, without its groups of too few rows.
fn counted(aggregate: Aggregate, table: &Grouped) -> Result<LogicalPlan> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    for made in &aggr_expr {
        check(made, input.schema()).map_err(|what| table.refused(what))?;
    }
    if !group_expr.iter().all(|key| is_key(key, input.schema())) {
        return Err(table.refused("groups by what looks beyond a row or may fail on it,".into()));
    }
    let rows = count(lit(1_i64)).alias(ROWS);
    let aggregates = aggr_expr.into_iter().chain([rows]);
    let min = i64::try_from(table.rows_min).unwrap_or(i64::MAX);
    let shown = schema.columns().into_iter().map(Expr::Column);
    LogicalPlanBuilder::from(input)
        .aggregate(group_expr, aggregates)?
        .filter(Expr::Column(datafusion::common::Column::new_unqualified(ROWS)).gt_eq(lit(min)))?
        .project(shown)?
        .build()
}

/// Whether a group key fails on no row.
fn is_key(key: &Expr, schema: &DFSchema) -> bool {
    match key {
        Expr::GroupingSet(sets) => sets.distinct_expr().into_iter().all(|key| is_total(key, schema)),
        key => is_total(key, schema),
    }
}

/// Whether an aggregate tells of all rows of its group alike.
fn check(made: &Expr, schema: &DFSchema) -> std::result::Result<(), String> {
    let call = match made {
        Expr::Alias(alias) => return check(&alias.expr, schema),
        Expr::AggregateFunction(call) => call,
        other => return Err(format!("{other}")),
    };
    let AggregateFunction { func, params } = call;
    if !AGGREGATES.contains(&func.name()) {
        return Err(format!("{} of rows", func.name()));
    }
    if params.filter.is_some() {
        return Err("an aggregate with FILTER".into());
    }
    // A column, or one as another type; only `count` is of any type, others would make a number of a text.
    let is_plain = |argument: &Expr| match argument {
        Expr::Literal(..) => true,
        Expr::Cast(cast) => is_column(&cast.expr) && is_total(argument, schema),
        other => is_column(other),
    };
    let is_number = |argument: &Expr| argument.get_type(schema).is_ok_and(|found| found.is_numeric());
    match params.args.iter().all(|argument| is_plain(argument) && (func.name() == "count" || is_number(argument))) {
        true => Ok(()),
        false => Err(format!("{} of what is computed from rows", func.name())),
    }
}
