//! From the parsed clause to a logical node.

use std::ops::ControlFlow;

use datafusion::common::{Column, DFSchema, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    Join, JoinConstraint, JoinOperator, ObjectName, Select, Statement, TableFactor, TableWithJoins, VisitMut,
    VisitorMut,
};

use super::keys::Bound;
use super::node::AsofNode;

/// Puts brackets around every `a ASOF JOIN b` in a statement, since the planner asks [`AsofSyntax`] about bracketed joins
/// only and refuses the others.
pub(in crate::query) fn with_brackets(statement: &mut Parsed) {
    match statement {
        Parsed::Statement(statement) => bracket_all(statement),
        Parsed::Explain(explain) => with_brackets(&mut explain.statement),
        _ => {}
    }
}

fn bracket_all(statement: &mut Statement) {
    let ControlFlow::Continue(()) = statement.visit(&mut Brackets);
}

struct Brackets;

impl VisitorMut for Brackets {
    type Break = std::convert::Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        select.from.iter_mut().for_each(bracket);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor
            && !is_alone(table_with_joins)
        {
            bracket(table_with_joins);
        }
        ControlFlow::Continue(())
    }
}

fn is_asof(join: &Join) -> bool {
    matches!(join.join_operator, JoinOperator::AsOf { .. })
}

/// Whether this is one ASOF join and nothing else.
fn is_alone(from: &TableWithJoins) -> bool {
    matches!(from.joins.as_slice(), [only] if is_asof(only))
}

/// `a JOIN b ASOF JOIN c JOIN d` to `((a JOIN b) ASOF JOIN c) JOIN d`.
fn bracket(from: &mut TableWithJoins) {
    if !from.joins.iter().any(is_asof) {
        return;
    }
    for join in std::mem::take(&mut from.joins) {
        if !is_asof(&join) {
            from.joins.push(join);
            continue;
        }
        let before = std::mem::take(&mut from.joins);
        let mut left = std::mem::replace(&mut from.relation, no_table());
        if !before.is_empty() {
            left = nested(TableWithJoins { relation: left, joins: before });
        }
        from.relation = nested(TableWithJoins { relation: left, joins: vec![join] });
    }
}

fn nested(joins: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin { table_with_joins: Box::new(joins), alias: None }
}

/// Stands in for a moment while a factor is moved.
fn no_table() -> TableFactor {
    TableFactor::UNNEST {
        alias: None,
        array_exprs: Vec::new(),
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    }
}

/// Plans bracketed ASOF joins.
#[derive(Debug)]
pub(in crate::query::functions) struct AsofSyntax;

impl RelationPlanner for AsofSyntax {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::NestedJoin { mut table_with_joins, alias } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if !is_alone(&table_with_joins) {
            // Such as `(a ASOF JOIN b .. JOIN c ..)` in a host's session. It comes back, in brackets of its own.
            bracket(&mut table_with_joins);
            return Ok(RelationPlanning::Original(Box::new(TableFactor::NestedJoin { table_with_joins, alias })));
        }
        let TableWithJoins { relation, mut joins } = *table_with_joins;
        let Some(Join { relation: right, join_operator: JoinOperator::AsOf { match_condition, constraint }, .. }) =
            joins.pop()
        else {
            return plan_err!("ASOF JOIN: no join to plan");
        };
        let (left, right) = (context.plan(relation)?, context.plan(right)?);
        let schema = left.schema().join(right.schema())?;
        let condition = context.sql_to_expr(match_condition, &schema)?;
        let mut clause = Clause::of_match(&left, &right, condition)?;
        let mut shared = Vec::new();
        match constraint {
            JoinConstraint::None => {}
            JoinConstraint::On(on) => {
                for conjunct in split_conjunction_owned(context.sql_to_expr(on, &schema)?) {
                    clause.take_conjunct(&left, &right, conjunct)?;
                }
            }
            JoinConstraint::Using(names) => shared = clause.take_using(&left, &right, &names, context)?,
            JoinConstraint::Natural => {
                return plan_err!(
                    "ASOF JOIN: NATURAL is not supported; name the keys: ON a.key = b.key, or USING (key)"
                );
            }
        }
        let node = AsofNode::try_new(left, right, clause.keys, clause.times, clause.operator, clause.bound)?;
        let plan = without_shared(node.into_plan(), &shared)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// `plan` without the right side's columns that `USING` named, so that the name alone is the left one.
fn without_shared(plan: LogicalPlan, shared: &[Column]) -> Result<LogicalPlan> {
    if shared.is_empty() {
        return Ok(plan);
    }
    let columns: Vec<Expr> =
        plan.schema().columns().into_iter().filter(|column| !shared.contains(column)).map(Expr::Column).collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// What the words after the two tables say.
struct Clause {
    keys: Vec<(Expr, Expr)>,
    times: (Expr, Expr),
    operator: Operator,
    bound: Option<Bound>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// The one input that `expr` reads.
fn side(left: &DFSchema, right: &DFSchema, expr: &Expr) -> Option<Side> {
    let columns = expr.column_refs();
    let all = |schema: &DFSchema| columns.iter().all(|column| schema.has_column(column));
    match (columns.is_empty(), all(left), all(right)) {
        (false, true, false) => Some(Side::Left),
        (false, false, true) => Some(Side::Right),
        _ => None,
    }
}

impl Clause {
    fn of_match(left: &LogicalPlan, right: &LogicalPlan, condition: Expr) -> Result<Self> {
        let help = "write one comparison by >=, >, <= or < of the left table's time with the right one's, as in \
                    MATCH_CONDITION (a.time >= b.time)";
        let Expr::BinaryExpr(BinaryExpr { left: first, op, right: second }) = condition else {
            return plan_err!("ASOF JOIN: MATCH_CONDITION ({condition}) is not a comparison; {help}");
        };
        if !matches!(op, Operator::GtEq | Operator::Gt | Operator::LtEq | Operator::Lt) {
            return plan_err!("ASOF JOIN: MATCH_CONDITION ({first} {op} {second}) compares by {op}; {help}");
        }
        let sides = [&first, &second].map(|expr| side(left.schema(), right.schema(), expr));
        let (times, operator) = match (sides, op.swap()) {
            ([Some(Side::Left), Some(Side::Right)], _) => ((*first, *second), op),
            ([Some(Side::Right), Some(Side::Left)], Some(swapped)) => ((*second, *first), swapped),
            _ => {
                return plan_err!(
                    "ASOF JOIN: MATCH_CONDITION ({first} {op} {second}) does not compare a time of the left table with \
                     one of the right table; {help}"
                );
            }
        };
        Ok(Self { keys: Vec::new(), times, operator, bound: None })
    }

    fn take_conjunct(&mut self, left: &LogicalPlan, right: &LogicalPlan, conjunct: Expr) -> Result<()> {
        let side = |expr: &Expr| side(left.schema(), right.schema(), expr);
        if let Expr::BinaryExpr(BinaryExpr { left: first, op: Operator::Eq, right: second }) = &conjunct {
            match (side(first), side(second)) {
                (Some(Side::Left), Some(Side::Right)) => {
                    self.keys.push((*first.clone(), *second.clone()));
                    return Ok(());
                }
                (Some(Side::Right), Some(Side::Left)) => {
                    self.keys.push((*second.clone(), *first.clone()));
                    return Ok(());
                }
                _ => {}
            }
        }
        if let Some((first, second, bound)) = tolerance(&conjunct) {
            return self.take_tolerance(&first, &second, bound);
        }
        plan_err!(
            "ASOF JOIN: ON has {conjunct}, which is neither an equality between the two tables nor a tolerance such as \
             {} <= INTERVAL '1 hour'; filter a table before the join: FROM (SELECT .. WHERE ..)",
            self.difference()
        )
    }

    fn take_tolerance(&mut self, first: &Expr, second: &Expr, bound: Bound) -> Result<()> {
        let backward = matches!(self.operator, Operator::GtEq | Operator::Gt);
        let (late, early) = if backward { (&self.times.0, &self.times.1) } else { (&self.times.1, &self.times.0) };
        if (first, second) != (late, early) {
            return plan_err!(
                "ASOF JOIN: the tolerance in ON bounds {first} - {second}; MATCH_CONDITION makes {} the difference that \
                 is not negative: bound that",
                self.difference()
            );
        }
        if self.bound.is_some() {
            return plan_err!("ASOF JOIN: ON has two tolerances; keep the smaller one");
        }
        self.bound = Some(bound);
        Ok(())
    }

    /// The difference that MATCH_CONDITION makes positive.
    fn difference(&self) -> String {
        let (left, right) = &self.times;
        match self.operator {
            Operator::GtEq | Operator::Gt => format!("{left} - {right}"),
            _ => format!("{right} - {left}"),
        }
    }

    /// Adds a key for each name, and returns the right side's columns of them.
    fn take_using(
        &mut self,
        left: &LogicalPlan,
        right: &LogicalPlan,
        names: &[ObjectName],
        context: &dyn RelationPlannerContext,
    ) -> Result<Vec<Column>> {
        let mut shared = Vec::with_capacity(names.len());
        for name in names {
            let Some(ident) = name.0.last().and_then(|part| part.as_ident()).filter(|_| name.0.len() == 1) else {
                return plan_err!("ASOF JOIN: USING ({name}) is not a column's plain name");
            };
            let ident = context.normalize_ident(ident.clone());
            let column = |plan: &LogicalPlan, which: &str| match plan
                .schema()
                .qualified_field_with_unqualified_name(&ident)
            {
                Ok((qualifier, field)) => Ok(Column::from((qualifier, field))),
                Err(_) => plan_err!("ASOF JOIN: USING ({ident}) names no single column of the {which} table; use ON"),
            };
            let (of_left, of_right) = (column(left, "left")?, column(right, "right")?);
            self.keys.push((Expr::Column(of_left), Expr::Column(of_right.clone())));
            shared.push(of_right);
        }
        Ok(shared)
    }
}

/// `(a, b, x)` of `a - b <= x`, `a - b < x`, `x >= a - b` and `x > a - b`.
fn tolerance(conjunct: &Expr) -> Option<(Expr, Expr, Bound)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = conjunct else { return None };
    let (difference, op, limit) = if is_difference(left) { (left, *op, right) } else { (right, op.swap()?, left) };
    let Expr::BinaryExpr(BinaryExpr { left: first, op: Operator::Minus, right: second }) = &**difference else {
        return None;
    };
    let inclusive = match op {
        Operator::LtEq => true,
        Operator::Lt => false,
        _ => return None,
    };
    Some((*first.clone(), *second.clone(), Bound { limit: constant(limit)?, inclusive }))
}

fn is_difference(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::Minus, .. }))
}

/// The value of a literal, with a sign perhaps.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Negative(inner) => constant(inner)?.arithmetic_negate().ok(),
        _ => None,
    }
}
