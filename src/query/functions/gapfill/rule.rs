//! The analyzer rule that puts [`GapFill`] where its functions are called.
//!
//! It comes after type coercion and before all optimizing, so that it sees the aggregate as it was written, and no
//! optimizer rule sees a function that only marks something.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan, Projection};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::utils::NamePreserver;

use super::bounds::{bounds, is_constant};
use super::node::{Fill, Filled, GapFill};
use super::{BIN, BIN_WALLCLOCK, INTERPOLATE, LOCF, misplaced};
use crate::query::functions::arguments::{nth, wrong};
use crate::query::functions::wallclock;

/// Replaces the marks of gap filling by nodes that fill gaps.
#[derive(Debug)]
pub(in crate::query::functions) struct GapFillRule;

impl AnalyzerRule for GapFillRule {
    fn name(&self) -> &'static str {
        "gap_fill"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut has_marks = false;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                has_marks |= find(expression, &[BIN, BIN_WALLCLOCK, LOCF, INTERPOLATE]).is_some();
                Ok(if has_marks { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        if !has_marks {
            return Ok(plan);
        }
        // From below, so that an aggregate has its node when what is above looks for it.
        let filled = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) => filling(aggregate),
            other => with_fills(other),
        })?;
        // What was never null below may be now.
        filled.data.transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes)).data()
    }
}

/// The first call of one of `names` in an expression.
fn find(expression: &Expr, names: &[&str]) -> Option<ScalarFunction> {
    let mut found = None;
    // The closure never fails.
    let _ = expression.apply(|part| {
        Ok(match part {
            Expr::ScalarFunction(call) if names.contains(&call.func.name()) => {
                found = Some(call.clone());
                TreeNodeRecursion::Stop
            }
            _ => TreeNodeRecursion::Continue,
        })
    });
    found
}

/// An aggregate, below a node if one of its keys is of bins.
fn filling(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let marked = |expression: &Expr| find(expression, &[BIN, BIN_WALLCLOCK]);
    if let Some(inside) = aggregate.aggr_expr.iter().find_map(marked) {
        return Err(misplaced(inside.func.name()));
    }
    let mut places = aggregate.group_expr.iter().enumerate().filter_map(|(place, key)| Some((place, marked(key)?)));
    let (Some((time, call)), second) = (places.next(), places.next()) else {
        return with_fills(LogicalPlan::Aggregate(aggregate));
    };
    let function = if call.func.name() == BIN { BIN } else { BIN_WALLCLOCK };
    if second.is_some() {
        let remedy = "group by one of them, and by the other's time with date_bin or date_bin_wallclock";
        return Err(DataFusionError::Plan(format!("{function}: there are two of its kind in GROUP BY; {remedy}")));
    }
    let whole = Expr::ScalarFunction(call.clone());
    let is_key = |key: &Expr| *key == whole || matches!(key, Expr::Alias(alias) if *alias.expr == whole);
    if !aggregate.group_expr.get(time).is_some_and(is_key) {
        let is_set = matches!(aggregate.group_expr.first(), Some(Expr::GroupingSet(_)));
        let remedy = "fill the gaps of a plain GROUP BY, and combine the answers with UNION ALL";
        let what = "is in GROUPING SETS, ROLLUP or CUBE";
        return Err(if is_set {
            DataFusionError::Plan(format!("{function}: {what}; {remedy}"))
        } else {
            misplaced(function)
        });
    }
    node(aggregate, time, function, call).map(Transformed::yes)
}

fn node(aggregate: Aggregate, time: usize, function: &'static str, call: ScalarFunction) -> Result<LogicalPlan> {
    let bounds = bounds(&aggregate.input, nth(&call.args, 1)?)?;
    let sides = [(&bounds.lower, "lower", ">= now() - INTERVAL '1 day'"), (&bounds.upper, "upper", "< now()")];
    if let Some((_, word, sign)) = sides.into_iter().find(|(side, ..)| side.is_empty()) {
        let time = nth(&call.args, 1)?;
        return Err(DataFusionError::Plan(format!(
            "{function}: argument `time` is {time}, which WHERE gives no constant {word} bound; \
             add one by AND, such as `AND time {sign}`"
        )));
    }
    let (interval, origin) = (nth(&call.args, 0)?.clone(), call.args.get(2).cloned());
    let given = [("interval", Some(&interval)), ("origin", origin.as_ref())];
    given.into_iter().try_for_each(|(name, value)| check_constant(function, name, value))?;
    let aggregate = binning(aggregate, time, function, call)?;
    let (columns, schema) = columns(&aggregate, time)?;
    let input = Arc::new(LogicalPlan::Aggregate(aggregate));
    let node = GapFill { input, schema: Arc::new(schema), columns, function, time, interval, origin, bounds };
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn check_constant(function: &str, name: &str, value: Option<&Expr>) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    let remedy = "give a constant, the same for all rows";
    if is_constant(value)? { Ok(()) } else { Err(wrong(function, name, "is not constant", remedy)) }
}

/// The aggregate by the bins themselves instead of the mark. Its columns keep their names.
fn binning(aggregate: Aggregate, time: usize, function: &str, call: ScalarFunction) -> Result<Aggregate> {
    let binning = if function == BIN { datafusion::functions::datetime::date_bin() } else { wallclock::date_bin() };
    let mark = Expr::ScalarFunction(call.clone());
    let bin = Expr::ScalarFunction(ScalarFunction::new_udf(binning, call.args));
    let binned = |(place, key): (usize, Expr)| -> Result<Expr> {
        if place != time {
            return Ok(key);
        }
        let saved = NamePreserver::new_for_projection().save(&key);
        let binned = key
            .transform_up(|part| Ok(if part == mark { Transformed::yes(bin.clone()) } else { Transformed::no(part) }));
        Ok(saved.restore(binned?.data))
    };
    let keys = aggregate.group_expr.into_iter().enumerate().map(binned).collect::<Result<Vec<_>>>()?;
    Aggregate::try_new(aggregate.input, keys, aggregate.aggr_expr)
}

/// The columns of an aggregate, filled with what they are without rows.
fn columns(aggregate: &Aggregate, time: usize) -> Result<(Vec<Filled>, DFSchema)> {
    let (mut columns, mut fields) = (Vec::new(), Vec::new());
    for (source, (relation, field)) in aggregate.schema.iter().enumerate() {
        let made = source.checked_sub(aggregate.group_expr.len()).and_then(|place| aggregate.aggr_expr.get(place));
        let fill = match made {
            None if source == time => Fill::Time,
            None => Fill::Key,
            Some(made) => Fill::Constant(default_of(made, field.data_type())?),
        };
        let may_be_null = matches!(&fill, Fill::Constant(value) if value.is_null());
        let field = field.as_ref().clone().with_nullable(field.is_nullable() || may_be_null);
        fields.push((relation.cloned(), Arc::new(field)));
        columns.push(Filled { source, fill });
    }
    Ok((columns, DFSchema::new_with_metadata(fields, aggregate.schema.metadata().clone())?))
}

/// What an aggregate of no rows is: 0 for count, null for most.
fn default_of(aggregate: &Expr, data_type: &arrow::datatypes::DataType) -> Result<ScalarValue> {
    match aggregate {
        Expr::AggregateFunction(aggregate) => aggregate.func.default_value(data_type),
        Expr::Alias(alias) => default_of(&alias.expr, data_type),
        _ => ScalarValue::try_from(data_type),
    }
}

/// A node whose calls of `locf` and `interpolate` are columns of the gap filling below it.
fn with_fills(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut calls: Vec<ScalarFunction> = Vec::new();
    let mut misplaced_bin = None;
    plan.apply_expressions(|expression| {
        expression.apply(|part| {
            if let Expr::ScalarFunction(call) = part {
                match call.func.name() {
                    LOCF | INTERPOLATE if !calls.contains(call) => calls.push(call.clone()),
                    BIN | BIN_WALLCLOCK => misplaced_bin = Some(call.func.name().to_string()),
                    _ => {}
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if let Some(name) = misplaced_bin {
        return Err(misplaced(&name));
    }
    let Some(first) = calls.first().map(|call| call.func.name().to_string()) else { return Ok(Transformed::no(plan)) };
    // Of the expressions alone: a wildcard in a subquery has its own place.
    let inputs = plan.inputs();
    let [input] = inputs.as_slice() else { return Err(misplaced(&first)) };
    let input = calls.iter().try_fold((*input).clone(), with_column)?;
    let replaced = |expression: Expr| -> Result<Expr> {
        let saved = NamePreserver::new(&plan).save(&expression);
        let columns = expression.transform_up(|part| {
            Ok(match &part {
                Expr::ScalarFunction(call) if calls.contains(call) => {
                    Transformed::yes(Expr::Column(Column::new_unqualified(part.to_string())))
                }
                _ => Transformed::no(part),
            })
        });
        Ok(saved.restore(columns?.data))
    };
    let expressions = plan.expressions().into_iter().map(replaced).collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(plan.with_new_exprs(expressions, vec![input])?.recompute_schema()?))
}

/// `plan` with the column that a call asks for, from the gap filling in it.
fn with_column(plan: LogicalPlan, call: &ScalarFunction) -> Result<LogicalPlan> {
    // In full: a schema's name leaves casts out, and two calls may differ by one.
    let name = Expr::ScalarFunction(call.clone()).to_string();
    if plan.schema().has_column_with_unqualified_name(&name) {
        return Ok(plan);
    }
    match plan {
        LogicalPlan::Extension(Extension { node }) => match node.as_any().downcast_ref::<GapFill>() {
            Some(filling) => filled(filling.clone(), call, &name),
            None => Err(misplaced(call.func.name())),
        },
        // HAVING, and windows over the groups.
        LogicalPlan::Filter(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => {
            let inputs = plan.inputs();
            let [input] = inputs.as_slice() else { return Err(misplaced(call.func.name())) };
            let input = with_column((*input).clone(), call)?;
            plan.with_new_exprs(plan.expressions(), vec![input])?.recompute_schema()
        }
        _ => Err(misplaced(call.func.name())),
    }
}

/// The column of an expression that another call has had made already.
fn projected(filling: &GapFill, value: &Expr) -> Option<usize> {
    let is_filled = |column: &&Filled| matches!(column.fill, Fill::Locf { .. } | Fill::Interpolate { .. });
    let own = filling.columns.iter().filter(|column| !is_filled(column)).count();
    let name = value.to_string();
    filling.input.schema().fields().iter().enumerate().skip(own).find(|(_, f)| *f.name() == name).map(|(at, _)| at)
}

fn filled(mut filling: GapFill, call: &ScalarFunction, name: &str) -> Result<LogicalPlan> {
    let value = nth(&call.args, 0)?;
    let max_gap = call.args.get(1).cloned();
    check_constant(call.func.name(), "max_gap", max_gap.as_ref())?;
    let source = match value {
        Expr::Column(column) => filling.input.schema().maybe_index_of_column(column),
        _ => projected(&filling, value),
    };
    let source = match source {
        Some(source) => source,
        // An expression over the groups is a column of a projection between.
        None => {
            let below = filling.input.clone();
            let columns = below.schema().columns().into_iter().map(Expr::Column);
            let all = columns.chain([value.clone().alias(value.to_string())]).collect();
            filling.input = Arc::new(LogicalPlan::Projection(Projection::try_new(all, below)?));
            filling.input.schema().fields().len() - 1
        }
    };
    if source == filling.time || filling.columns.iter().any(|c| c.source == source && c.fill == Fill::Key) {
        let remedy = "give an aggregate, such as avg(value): group keys have no gaps";
        let function = call.func.name();
        return Err(wrong(function, "aggregate", "is a group key", remedy));
    }
    let fill = if call.func.name() == LOCF { Fill::Locf { max_gap } } else { Fill::Interpolate { max_gap } };
    let field = filling.input.schema().field(source).as_ref().clone().with_name(name).with_nullable(true);
    let own = filling.schema.iter().map(|(relation, field)| (relation.cloned(), field.clone()));
    let fields = own.chain([(None, Arc::new(field))]).collect();
    let schema = DFSchema::new_with_metadata(fields, filling.schema.metadata().clone())?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(filling.with_filled(schema, source, fill)) }))
}
