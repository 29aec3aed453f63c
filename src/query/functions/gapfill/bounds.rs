//! The time range that the predicates below an aggregate leave.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, Volatility,
};

/// One end of a range, as WHERE says it: a constant expression of the type of the binned time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    pub(super) end: Expr,
    pub(super) is_inclusive: bool,
}

/// What all rows of an input are known to be within. Several bounds of one side all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    pub(super) lower: Vec<Bound>,
    pub(super) upper: Vec<Bound>,
}

/// The bounds of `time`, an expression over `input`, in the predicates of `input`.
pub(super) fn bounds(input: &LogicalPlan, time: &Expr) -> Result<Bounds> {
    let mut bounds = Bounds::default();
    let base = base(time);
    if let Expr::Column(column) = base
        && matches!(base.get_type(input.schema())?, DataType::Timestamp(..))
    {
        Search { time, base: column, bounds: &mut bounds }.walk(input, column)?;
    }
    Ok(bounds)
}

/// What an expression casts, if it is a cast.
fn cast_of(expression: &Expr) -> Option<&Expr> {
    match expression {
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => Some(expr),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "arrow_cast" => args.first(),
        _ => None,
    }
}

/// An expression without its aliases and casts.
fn base(expression: &Expr) -> &Expr {
    match expression {
        Expr::Alias(alias) => base(&alias.expr),
        _ => cast_of(expression).map_or(expression, base),
    }
}

/// The column of which an expression is the same moment: it may have another zone or a finer unit.
///
/// From local time to a moment is not the same, nor is anything that rounds.
fn same_moment<'a>(expression: &'a Expr, schema: &DFSchema) -> Option<&'a Column> {
    let inner = match expression {
        Expr::Column(column) => return Some(column),
        Expr::Alias(alias) => return same_moment(&alias.expr, schema),
        _ => cast_of(expression)?,
    };
    match (inner.get_type(schema).ok()?, expression.get_type(schema).ok()?) {
        (DataType::Timestamp(from, from_zone), DataType::Timestamp(to, to_zone))
            if from_zone.is_some() == to_zone.is_some() && to >= from =>
        {
            same_moment(inner, schema)
        }
        _ => None,
    }
}

struct Search<'a> {
    /// The binned time, and the column that it is of.
    time: &'a Expr,
    base: &'a Column,
    bounds: &'a mut Bounds,
}

impl Search<'_> {
    /// Looks for predicates on `column` of `plan` in it and below.
    fn walk(&mut self, plan: &LogicalPlan, column: &Column) -> Result<()> {
        let Ok(place) = plan.schema().index_of_column(column) else { return Ok(()) };
        let (input, column) = match plan {
            LogicalPlan::Filter(filter) => {
                self.take_all(&filter.predicate, plan.schema(), column)?;
                (&filter.input, column.clone())
            }
            LogicalPlan::Projection(projection) => {
                let input = &projection.input;
                match projection.expr.get(place).and_then(|made| same_moment(made, input.schema())) {
                    Some(column) => (input, column.clone()),
                    None => return Ok(()),
                }
            }
            LogicalPlan::SubqueryAlias(alias) => (&alias.input, alias.input.schema().qualified_field(place).into()),
            LogicalPlan::Sort(sort) => (&sort.input, column.clone()),
            LogicalPlan::Limit(limit) => (&limit.input, column.clone()),
            LogicalPlan::Repartition(repartition) => (&repartition.input, column.clone()),
            LogicalPlan::Window(window) => (&window.input, column.clone()),
            LogicalPlan::Join(join) => {
                let of_left = join.left.schema().index_of_column(column).is_ok();
                // Rows of the other side may be nulls that no predicate saw.
                let (keeps_left, keeps_right) = match join.join_type {
                    JoinType::Inner => (true, true),
                    JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
                    JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, true),
                    _ => (false, false),
                };
                if let (Some(filter), JoinType::Inner) = (&join.filter, join.join_type) {
                    self.take_all(filter, plan.schema(), column)?;
                }
                match (of_left, keeps_left, keeps_right) {
                    (true, true, _) => (&join.left, column.clone()),
                    (false, _, true) => (&join.right, column.clone()),
                    _ => return Ok(()),
                }
            }
            LogicalPlan::TableScan(scan) => {
                scan.filters.iter().try_for_each(|filter| self.take_all(filter, plan.schema(), column))?;
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.walk(input, &column)
    }

    fn take_all(&mut self, predicate: &Expr, schema: &DFSchema, column: &Column) -> Result<()> {
        split_conjunction(predicate).into_iter().try_for_each(|part| self.take(part, schema, column))
    }

    fn take(&mut self, predicate: &Expr, schema: &DFSchema, column: &Column) -> Result<()> {
        let place = schema.index_of_column(column).ok();
        let is_time = |side: &Expr| {
            let is_column = |found| schema.index_of_column(found).is_ok_and(|found| Some(found) == place);
            (side == self.time && column == self.base) || same_moment(side, schema).is_some_and(is_column)
        };
        match predicate {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (side, other, op) = match (is_time(left), is_time(right)) {
                    (true, false) => (left, right, Some(*op)),
                    (false, true) => (right, left, op.swap()),
                    _ => return Ok(()),
                };
                match op {
                    Some(Operator::Gt) => self.add(true, side, other, false),
                    Some(Operator::GtEq) => self.add(true, side, other, true),
                    Some(Operator::Lt) => self.add(false, side, other, false),
                    Some(Operator::LtEq) => self.add(false, side, other, true),
                    Some(Operator::Eq) => {
                        self.add(true, side, other, true)?;
                        self.add(false, side, other, true)
                    }
                    _ => Ok(()),
                }
            }
            Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
                self.add(true, expr, low, true)?;
                self.add(false, expr, high, true)
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, is_lower: bool, bounded: &Expr, end: &Expr, is_inclusive: bool) -> Result<()> {
        if !is_constant(end)? {
            return Ok(());
        }
        let side = if is_lower { &mut self.bounds.lower } else { &mut self.bounds.upper };
        if bounded == self.time {
            side.push(Bound { end: end.clone(), is_inclusive });
            return Ok(());
        }
        // What is made of the column is made of its bound: casts keep the order.
        let base = self.base;
        let end = self.time.clone().transform_up(|part| {
            Ok(match &part {
                Expr::Column(column) if column == base => Transformed::yes(end.clone()),
                _ => Transformed::no(part),
            })
        })?;
        side.push(Bound { end: end.data, is_inclusive });
        Ok(())
    }
}

/// Whether an expression is the same for all rows. `now()` is, and so is a parameter of a prepared statement.
pub(super) fn is_constant(expression: &Expr) -> Result<bool> {
    let mut is_constant = true;
    expression.apply(|part| {
        is_constant &= match part {
            Expr::Column(_) | Expr::OuterReferenceColumn(..) => false,
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => false,
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => false,
            Expr::ScalarFunction(function) => function.func.signature().volatility != Volatility::Volatile,
            _ => true,
        };
        Ok(if is_constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is_constant)
}
