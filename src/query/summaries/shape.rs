//! Which aggregates summaries can answer.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, split_conjunction};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::model::FieldType;
use crate::model::names::TIME;
use crate::model::rollup::Measure;
use crate::query::prune::{TimeRange, compared, nanoseconds_of};
use crate::query::scan::ScanExec;
use crate::storage::summary::Stats;

type Expr = Arc<dyn PhysicalExpr>;

/// An aggregate that summaries can answer. Expressions are over the scan's columns.
pub(super) struct Shape<'a> {
    pub(super) scan: &'a ScanExec,
    /// The times that the predicates leave, exactly.
    pub(super) time: TimeRange,
    /// Predicates on tags.
    pub(super) of_tags: Vec<Expr>,
    pub(super) keys: Vec<Key>,
    pub(super) aggregates: Vec<Aggregate>,
}

impl Shape<'_> {
    /// The same over another scan of the same columns, of these times.
    pub(super) fn over<'a>(&self, scan: &'a ScanExec, time: TimeRange) -> Shape<'a> {
        let (of_tags, keys, aggregates) = (self.of_tags.clone(), self.keys.clone(), self.aggregates.clone());
        Shape { scan, time, of_tags, keys, aggregates }
    }
}

/// What rows are grouped by.
#[derive(Clone)]
pub(super) enum Key {
    /// A function of tags.
    Tags(Expr),
    /// A function of time that never falls.
    Time(Expr),
}

impl Key {
    pub(super) fn of_tags(&self) -> Option<&Expr> {
        match self {
            Self::Tags(key) => Some(key),
            Self::Time(_) => None,
        }
    }

    pub(super) fn of_time(&self) -> Option<&Expr> {
        match self {
            Self::Time(key) => Some(key),
            Self::Tags(_) => None,
        }
    }
}

/// One of the aggregates, with where its states come from.
#[derive(Clone, Debug)]
pub(super) struct Aggregate {
    pub(super) function: Arc<AggregateFunctionExpr>,
    pub(super) source: Source,
}

/// What of a cell an aggregate takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The number of rows.
    Rows,
    /// The time of the first row, or the last.
    Time(End),
    /// Something of a field, by its place in the table.
    Field { field: usize, what: What },
    /// A sketch of a field, which rollups alone have.
    Sketch { field: usize, measure: Measure },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    First,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Count,
    Sum,
    /// Count and sum.
    Mean,
    Min,
    Max,
    /// The value at an end of time, and that time.
    Value(End),
    /// The time at an end.
    Time(End),
}

impl What {
    /// The numbers that it needs.
    pub(super) fn stats(self) -> Stats {
        let none = Stats::default();
        match self {
            Self::Count => none,
            Self::Sum | Self::Mean => Stats { sum: true, ..none },
            Self::Min => Stats { min: true, ..none },
            Self::Max => Stats { max: true, ..none },
            Self::Value(End::First) | Self::Time(End::First) => Stats { first: true, ..none },
            Self::Value(End::Last) | Self::Time(End::Last) => Stats { last: true, ..none },
        }
    }

    /// Whether SQL's answer may depend on the order of rows where a field has NaN, or zeros of both signs.
    pub(super) fn is_extreme(self) -> bool {
        matches!(self, Self::Min | Self::Max)
    }
}

impl<'a> Shape<'a> {
    /// `None` if the rows have to be read.
    pub(super) fn of(partial: &'a AggregateExec) -> Result<Option<Self>> {
        let group_by = partial.group_expr();
        let is_plain = group_by.is_single() && partial.filter_expr().iter().all(Option::is_none);
        let Some(Chain { scan, columns, predicates }) = Chain::of(partial.input()).filter(|_| is_plain) else {
            return Ok(None);
        };
        if !scan.has_all_rows() {
            return Ok(None);
        }
        let names = Names { scan };
        let (mut time, mut of_tags) = (TimeRange::ALL, Vec::new());
        for predicate in &predicates {
            for one in split_conjunction(predicate) {
                match names.time_range(one) {
                    Some(range) => time = time.and(range),
                    None if names.are_tags(one) => of_tags.push(one.clone()),
                    None => return Ok(None),
                }
            }
        }
        let mut keys = Vec::new();
        for (key, _) in group_by.expr() {
            let key = over_scan(key, &columns)?;
            keys.push(match key {
                key if names.are_tags(&key) => Key::Tags(key),
                key if names.rises(&key) => Key::Time(key),
                _ => return Ok(None),
            });
        }
        let mut aggregates = Vec::new();
        for function in partial.aggr_expr() {
            let arguments: Vec<Expr> =
                function.expressions().iter().map(|it| over_scan(it, &columns)).collect::<Result<_>>()?;
            let Some(source) = names.source(function, &arguments) else { return Ok(None) };
            aggregates.push(Aggregate { function: function.clone(), source });
        }
        Ok(Some(Self { scan, time, of_tags, keys, aggregates }))
    }
}

/// What is between an aggregate and its scan.
struct Chain<'a> {
    scan: &'a ScanExec,
    /// The columns above, over the scan's.
    columns: Vec<Expr>,
    predicates: Vec<Expr>,
}

impl<'a> Chain<'a> {
    fn of(plan: &'a Arc<dyn ExecutionPlan>) -> Option<Self> {
        if let Some(scan) = plan.downcast_ref::<ScanExec>() {
            let fields = (0..).zip(scan.columns().fields());
            let columns = fields.map(|(at, field)| Arc::new(Column::new(field.name(), at)) as _).collect();
            return Some(Self { scan, columns, predicates: Vec::new() });
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let mut below = Self::of(filter.input())?;
            if filter.fetch().is_some() {
                return None;
            }
            below.predicates.push(over_scan(filter.predicate(), &below.columns).ok()?);
            if let Some(kept) = filter.projection() {
                below.columns = kept.iter().map(|at| below.columns.get(*at).cloned()).collect::<Option<_>>()?;
            }
            return Some(below);
        }
        let projection = plan.downcast_ref::<ProjectionExec>()?;
        let mut below = Self::of(projection.input())?;
        let columns = projection.expr().iter().map(|one| over_scan(&one.expr, &below.columns).ok());
        below.columns = columns.collect::<Option<_>>()?;
        Some(below)
    }
}

/// `expr`, which is over `columns`, over what those are over.
fn over_scan(expr: &Expr, columns: &[Expr]) -> Result<Expr> {
    let replaced = expr.clone().transform_down(|part| {
        let column = part.downcast_ref::<Column>().and_then(|column| columns.get(column.index()));
        Ok(match column {
            // Not what it is replaced by: that has columns of its own.
            Some(column) => Transformed::new(column.clone(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(part),
        })
    });
    replaced.data()
}

/// What the scan's columns mean.
struct Names<'a> {
    scan: &'a ScanExec,
}

impl Names<'_> {
    fn are_tags(&self, expr: &Expr) -> bool {
        let tags = self.scan.view().schema.tags();
        !is_volatile(expr) && collect_columns(expr).iter().all(|column| tags.iter().any(|tag| tag == column.name()))
    }

    fn field(&self, expr: &Expr) -> Option<(usize, FieldType)> {
        let column = expr.downcast_ref::<Column>()?;
        let mut fields = self.scan.view().schema.fields.iter().enumerate();
        fields.find(|(_, field)| field.name == column.name()).map(|(place, field)| (place, field.field_type))
    }

    /// `time`, or that cast to a timestamp, which changes its zone or cuts digits off.
    fn is_time(expr: &Expr) -> bool {
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            return matches!(cast.cast_type(), DataType::Timestamp(..)) && Self::is_time(cast.expr());
        }
        expr.downcast_ref::<Column>().is_some_and(|column| column.name() == TIME)
    }

    /// `time` with all its digits.
    fn is_exact_time(expr: &Expr) -> bool {
        let is_exact = |data_type: &DataType| matches!(data_type, DataType::Timestamp(TimeUnit::Nanosecond, Some(_)));
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            return is_exact(cast.cast_type()) && Self::is_exact_time(cast.expr());
        }
        expr.downcast_ref::<Column>().is_some_and(|column| column.name() == TIME)
    }

    /// The times for which a predicate is true, if it is about nothing else.
    fn time_range(&self, predicate: &Expr) -> Option<TimeRange> {
        let binary = predicate.downcast_ref::<BinaryExpr>()?;
        let value = |expr: &Expr| nanoseconds_of(expr.downcast_ref::<Literal>()?.value());
        let (op, value) = match (value(binary.left()), value(binary.right())) {
            (None, Some(value)) if Self::is_exact_time(binary.left()) => (*binary.op(), value),
            (Some(value), None) if Self::is_exact_time(binary.right()) => (binary.op().swap()?, value),
            _ => return None,
        };
        matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
            .then(|| compared(op, value))
    }

    /// Whether an expression is of time alone and never falls while time rises.
    fn rises(&self, expr: &Expr) -> bool {
        let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() else { return false };
        let constant = |place: usize| call.args().get(place).is_none_or(|it| it.downcast_ref::<Literal>().is_some());
        let of_time = |place: usize| call.args().get(place).is_some_and(Self::is_time);
        match call.name() {
            // Cutting the clock's hours of a zone may fall when that is set back; UTC's is not.
            "date_trunc" => constant(0) && of_time(1) && is_utc(call),
            "date_bin" | "date_bin_wallclock" => constant(0) && of_time(1) && constant(2) && is_moment(call),
            _ => false,
        }
    }

    fn source(&self, function: &AggregateFunctionExpr, arguments: &[Expr]) -> Option<Source> {
        let is_plain = !function.is_distinct() && function.order_bys().is_empty() && !function.is_reversed();
        let name = function.fun().name();
        if !is_plain {
            return None;
        }
        if let ("percentile_sketch" | "distinct_sketch", [one]) = (name, arguments) {
            let measure = if name == "distinct_sketch" { Measure::Distinct } else { Measure::Percentiles };
            return self.field(one).map(|(field, _)| Source::Sketch { field, measure });
        }
        if !function.groups_accumulator_supported() {
            return None;
        }
        match (name, arguments) {
            ("count", [one]) => self.counted(one),
            ("min", [time]) if is_column(time, TIME) => Some(Source::Time(End::First)),
            ("max", [time]) if is_column(time, TIME) => Some(Source::Time(End::Last)),
            ("sum" | "avg" | "min" | "max", [one]) => {
                let (field, of_type) = self.field(one)?;
                let what = match (name, of_type) {
                    ("sum", FieldType::F64 | FieldType::I64 | FieldType::U64) => What::Sum,
                    ("avg", FieldType::F64) => What::Mean,
                    ("min", FieldType::F64 | FieldType::I64 | FieldType::U64) => What::Min,
                    ("max", FieldType::F64 | FieldType::I64 | FieldType::U64) => What::Max,
                    _ => return None,
                };
                Some(Source::Field { field, what })
            }
            ("first" | "last" | "first_time" | "last_time", [value, time]) if is_column(time, TIME) => {
                let (field, of_type) = self.field(value)?;
                let end = if name.starts_with("first") { End::First } else { End::Last };
                let what = match of_type {
                    FieldType::Utf8 | FieldType::Decimal { .. } => return None,
                    _ if name.ends_with("_time") => What::Time(end),
                    _ => What::Value(end),
                };
                Some(Source::Field { field, what })
            }
            _ => None,
        }
    }

    fn counted(&self, one: &Expr) -> Option<Source> {
        if let Some(literal) = one.downcast_ref::<Literal>() {
            return (!literal.value().is_null()).then_some(Source::Rows);
        }
        let column = one.downcast_ref::<Column>()?;
        // Every row has a time and its tags.
        if column.name() == TIME || self.are_tags(one) {
            return Some(Source::Rows);
        }
        self.field(one).map(|(field, _)| Source::Field { field, what: What::Count })
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    expr.downcast_ref::<Column>().is_some_and(|column| column.name() == name)
}

/// Whether the answer of a call is a time of UTC or of no zone.
fn is_utc(call: &ScalarFunctionExpr) -> bool {
    let zone = match call.return_type() {
        DataType::Timestamp(_, zone) => zone.as_deref(),
        _ => return false,
    };
    // What has no zone may come of one by a cast, and then shows its clock.
    fn names_other(expr: &Expr) -> bool {
        let Some(cast) = expr.downcast_ref::<CastExpr>() else { return false };
        let is_other = match cast.cast_type() {
            DataType::Timestamp(_, Some(zone)) => !matches!(&**zone, "UTC" | "+00:00"),
            _ => false,
        };
        is_other || names_other(cast.expr())
    }
    matches!(zone, None | Some("UTC" | "+00:00")) && !call.args().iter().any(names_other)
}

/// Whether it is a moment, or a local time of UTC: a local time of another zone falls when its clock is set back.
fn is_moment(call: &ScalarFunctionExpr) -> bool {
    let has_zone = matches!(call.return_type(), DataType::Timestamp(_, Some(_)));
    has_zone || is_utc(call)
}
