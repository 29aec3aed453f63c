//! The logical node, and the rule that moves filters below it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchemaRef, JoinType, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, Filter, LogicalPlan, Operator, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::keys::{Bound, Matching, common_key};

/// `left ASOF JOIN right`. Its columns are the left one's, then the right one's, which may be null.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AsofNode {
    pub(super) left: Arc<LogicalPlan>,
    pub(super) right: Arc<LogicalPlan>,
    pub(super) keys: Vec<(Expr, Expr)>,
    pub(super) times: (Expr, Expr),
    /// Between the left time and the right one.
    pub(super) operator: Operator,
    pub(super) bound: Option<Bound>,
    schema: DFSchemaRef,
}

/// Whether a node needs the planner that is here.
pub(in crate::query::functions) fn is_asof(node: &dyn UserDefinedLogicalNode) -> bool {
    node.as_any().is::<AsofNode>()
}

impl AsofNode {
    pub(super) fn try_new(
        left: LogicalPlan,
        right: LogicalPlan,
        keys: Vec<(Expr, Expr)>,
        times: (Expr, Expr),
        operator: Operator,
        bound: Option<Bound>,
    ) -> Result<Self> {
        let types = |pair: &(Expr, Expr)| -> Result<(DataType, DataType)> {
            Ok((pair.0.get_type(left.schema())?, pair.1.get_type(right.schema())?))
        };
        // Here, and not only when it is run, so that the error comes with the statement.
        let (left_time, right_time) = types(&times)?;
        Matching::try_new(operator, bound.as_ref(), &left_time, &right_time)?;
        for pair in &keys {
            let (left_key, right_key) = types(pair)?;
            common_key(&left_key, &right_key)?;
        }
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &JoinType::Left)?);
        Ok(Self { left: Arc::new(left), right: Arc::new(right), keys, times, operator, bound, schema })
    }

    pub(super) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// `filter`, which reads the left side's keys only, as it holds for the right side's.
    fn for_right(&self, filter: &Expr) -> Option<Expr> {
        let columns = filter.column_refs();
        let right_of = |column: &Column| {
            let key = self.keys.iter().find(|(left, _)| matches!(left, Expr::Column(key) if key == column))?;
            // Of unequal types, the filter might mean something else.
            let same = key.0.get_type(self.left.schema()).ok()? == key.1.get_type(self.right.schema()).ok()?;
            if let (Expr::Column(right), true) = (&key.1, same) { Some(right.clone()) } else { None }
        };
        if columns.is_empty() || filter.is_volatile() || columns.iter().any(|column| right_of(column).is_none()) {
            return None;
        }
        let replaced =
            filter.clone().transform(|expr| match &expr {
                Expr::Column(column) => Ok(right_of(column)
                    .map_or(Transformed::no(expr.clone()), |right| Transformed::yes(Expr::Column(right)))),
                Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => internal_err!("a subquery"),
                _ => Ok(Transformed::no(expr)),
            });
        replaced.ok().map(|replaced| replaced.data)
    }
}

impl PartialOrd for AsofNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other { Some(Ordering::Equal) } else { None }
    }
}

impl UserDefinedLogicalNodeCore for AsofNode {
    fn name(&self) -> &'static str {
        "AsofJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let pairs = self.keys.iter().chain([&self.times]);
        pairs.flat_map(|(left, right)| [left.clone(), right.clone()]).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsofJoin: match=[{} {} {}]", self.times.0, self.operator, self.times.1)?;
        let keys: Vec<String> = self.keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
        write!(f, ", on=[{}]", keys.join(", "))?;
        self.bound.as_ref().map_or(Ok(()), |bound| write!(f, ", tolerance={bound}"))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Ok([left, right]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return internal_err!("an ASOF join has two inputs");
        };
        let mut exprs = exprs.into_iter();
        let mut pairs = Vec::with_capacity(self.keys.len() + 1);
        while let (Some(first), Some(second)) = (exprs.next(), exprs.next()) {
            pairs.push((first, second));
        }
        let Some(times) = pairs.pop() else { return internal_err!("an ASOF join compares times") };
        Self::try_new(left, right, pairs, times, self.operator, self.bound.clone())
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let left_columns = self.left.schema().fields().len();
        let (left, right): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|column| **column < left_columns);
        Some(vec![left, right.into_iter().map(|column| column - left_columns).collect()])
    }
}

/// Moves filters on the left side below the join, and those on keys below both sides.
///
/// It changes no answer: a left row's match does not depend on other left rows, and a right row with another key is
/// never found. The engine's own rule moves filters below nodes that it does not know only if they hold for all inputs.
#[derive(Debug)]
pub(in crate::query::functions) struct PushLeftFilters;

impl OptimizerRule for PushLeftFilters {
    fn name(&self) -> &'static str {
        "push_filters_below_asof_join"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let Some(node) = AsofNode::of(&filter.input) else {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        };
        let on_left = |expr: &Expr| {
            let columns = expr.column_refs();
            !columns.is_empty()
                && !expr.is_volatile()
                && columns.iter().all(|column| node.left.schema().has_column(column))
        };
        let (below, above): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(on_left);
        let below_right = conjunction(below.iter().filter_map(|expr| node.for_right(expr)));
        let Some(below) = conjunction(below) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
        let left = LogicalPlan::Filter(Filter::try_new(below, node.left.clone())?);
        let right = match below_right {
            Some(filter) => LogicalPlan::Filter(Filter::try_new(filter, node.right.clone())?),
            None => (*node.right).clone(),
        };
        let exprs = UserDefinedLogicalNodeCore::expressions(node);
        let join = UserDefinedLogicalNodeCore::with_exprs_and_inputs(node, exprs, vec![left, right])?.into_plan();
        Ok(Transformed::yes(match conjunction(above) {
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(join))?),
            None => join,
        }))
    }
}
