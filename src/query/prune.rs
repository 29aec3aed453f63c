//! What predicates on time and tags say about where to look.
//!
//! Nothing here decides about a row: a predicate that cannot be read, or fails to evaluate, narrows nothing.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;

use super::failure::external;
use crate::model::names::TIME;
use crate::snapshot::TableView;

/// Series whose tags are looked at together.
pub(super) const BATCH_SERIES: u32 = 8_192;

/// What is left to look at. `None` is no restriction.
#[derive(Clone, Debug, Default)]
pub(super) struct Pruned {
    pub(super) time: Option<TimeRange>,
    pub(super) series: Option<SeriesSet>,
    /// Whether the series are those for which all predicates on tags are true, and no more.
    pub(super) exact_series: bool,
}

/// A closed range of nanoseconds; empty if `lo` is above `hi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeRange {
    pub(super) lo: i64,
    pub(super) hi: i64,
}

impl TimeRange {
    pub(super) const ALL: Self = Self { lo: i64::MIN, hi: i64::MAX };
    const NONE: Self = Self { lo: i64::MAX, hi: i64::MIN };

    /// From bounds that may lie beyond what a time can be.
    fn clamped(lo: i128, hi: i128) -> Self {
        let clamp = |bound: i128| i64::try_from(bound).unwrap_or(if bound < 0 { i64::MIN } else { i64::MAX });
        if lo > hi || lo > i128::from(i64::MAX) || hi < i128::from(i64::MIN) {
            return Self::NONE;
        }
        Self { lo: clamp(lo), hi: clamp(hi) }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { lo: self.lo.max(other.lo), hi: self.hi.min(other.hi) }
    }

    fn or(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) },
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.lo > self.hi
    }

    pub(super) fn contains(self, time: i64) -> bool {
        self.lo <= time && time <= self.hi
    }

    /// Whether times from `min` to `max` may be in it.
    pub(super) fn meets(self, min: i64, max: i64) -> bool {
        !self.is_empty() && min <= self.hi && self.lo <= max
    }

    /// Whether times from `min` to `max` are all in it.
    pub(super) fn covers(self, min: i64, max: i64) -> bool {
        self.contains(min) && self.contains(max)
    }
}

/// The series whose tags match.
#[derive(Clone, Debug)]
pub(super) struct SeriesSet {
    bits: BooleanBuffer,
    matching: usize,
}

impl SeriesSet {
    pub(super) fn contains(&self, series: u32) -> bool {
        let series = series as usize;
        series < self.bits.len() && self.bits.value(series)
    }

    /// `series`, of a table that has `count`.
    pub(super) fn of(series: &[u32], count: usize) -> Self {
        let mut bits = BooleanBufferBuilder::new(count);
        bits.append_n(count, false);
        series.iter().filter(|id| (**id as usize) < count).for_each(|id| bits.set_bit(*id as usize, true));
        let bits = bits.finish();
        Self { matching: bits.count_set_bits(), bits }
    }

    pub(super) fn matching(&self) -> usize {
        self.matching
    }
}

/// The columns that predicates are read of.
fn known(view: &TableView, name: &str) -> bool {
    name == TIME || is_tag(view, name)
}

fn is_tag(view: &TableView, name: &str) -> bool {
    view.schema.tags().iter().any(|tag| tag == name)
}

/// Whether `filter` can narrow a scan of `view`.
pub(super) fn narrows(view: &TableView, filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty() && columns.iter().all(|column| known(view, &column.name)) && !filter.is_volatile()
}

/// Whether `filter` says which series and nothing else.
pub(super) fn narrows_series(view: &TableView, filter: &Expr) -> bool {
    narrows(view, filter) && filter.column_refs().iter().all(|column| is_tag(view, &column.name))
}

/// Whether `filter` is about tags alone, or says that `time` is in one range and nothing else. With `unknown`, the bounds of
/// the range may be made of parameters whose values are to come.
pub(super) fn is_of_tags_or_range(view: &TableView, filter: &Expr, unknown: bool) -> bool {
    let is_bound = |expr: &Expr| nanoseconds(expr).is_some() || unknown && is_unknown(expr);
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            is_of_tags_or_range(view, left, unknown) && is_of_tags_or_range(view, right, unknown)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_time(left) || is_time(right) => {
            let value = if is_time(left) { right } else { left };
            let ranges = [Operator::Eq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq];
            is_bound(value) && ranges.contains(op)
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => is_bound(low) && is_bound(high),
        other => narrows_series(view, other),
    }
}

/// Whether it is made of parameters and has a value as soon as they have.
fn is_unknown(expr: &Expr) -> bool {
    let is_parameter = |part: &Expr| Ok(matches!(part, Expr::Placeholder(_)));
    expr.column_refs().is_empty() && !expr.is_volatile() && expr.exists(is_parameter).unwrap_or(false)
}

/// What `filters`, all of which hold, leave of `view`.
pub(super) fn prune(view: &TableView, filters: &[Expr], session: &dyn Session) -> Result<Pruned> {
    let time = filters.iter().map(time_range).fold(TimeRange::ALL, TimeRange::and);
    let of_tags: Vec<&Expr> =
        filters.iter().filter(|filter| filter.column_refs().iter().all(|column| is_tag(view, &column.name))).collect();
    let (series, exact_series) = matching_series(view, &of_tags, session)?;
    Ok(Pruned { time: (time != TimeRange::ALL).then_some(time), series, exact_series })
}

/// The times for which `filter` can be true.
fn time_range(filter: &Expr) -> TimeRange {
    match filter {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
            let combine = if *op == Operator::And { TimeRange::and } else { TimeRange::or };
            // Chains lean to the left and may be long, so they are walked, not recursed into.
            let mut range: Option<TimeRange> = None;
            let mut rest = filter;
            while let Expr::BinaryExpr(BinaryExpr { left, op: same, right }) = rest
                && same == op
            {
                let right = time_range(right);
                range = Some(range.map_or(right, |range| combine(range, right)));
                rest = left;
            }
            let last = time_range(rest);
            range.map_or(last, |range| combine(range, last))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (nanoseconds(left), nanoseconds(right)) {
            (None, Some(value)) if is_time(left) => compared(*op, value),
            (Some(value), None) if is_time(right) => op.swap().map_or(TimeRange::ALL, |op| compared(op, value)),
            _ => TimeRange::ALL,
        },
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
            let low = nanoseconds(low).map_or(TimeRange::ALL, |value| compared(Operator::GtEq, value));
            low.and(nanoseconds(high).map_or(TimeRange::ALL, |value| compared(Operator::LtEq, value)))
        }
        Expr::InList(InList { expr, list, negated: false }) if is_time(expr) => {
            let each =
                list.iter().map(|item| nanoseconds(item).map_or(TimeRange::ALL, |value| compared(Operator::Eq, value)));
            each.fold(TimeRange::NONE, TimeRange::or)
        }
        _ => TimeRange::ALL,
    }
}

/// The times that compare so with a moment.
pub(super) fn compared(op: Operator, value: i128) -> TimeRange {
    let (min, max) = (i128::from(i64::MIN), i128::from(i64::MAX));
    match op {
        Operator::Eq | Operator::IsNotDistinctFrom => TimeRange::clamped(value, value),
        Operator::Lt => TimeRange::clamped(min, value - 1),
        Operator::LtEq => TimeRange::clamped(min, value),
        Operator::Gt => TimeRange::clamped(value + 1, max),
        Operator::GtEq => TimeRange::clamped(value, max),
        _ => TimeRange::ALL,
    }
}

/// `time` itself, or cast to another zone, which changes no value.
fn is_time(expr: &Expr) -> bool {
    match expr {
        Expr::Column(column) => column.name == TIME,
        Expr::Cast(cast) => {
            matches!(cast.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _))
                && matches!(&*cast.expr, Expr::Column(column) if column.name == TIME)
        }
        _ => false,
    }
}

fn nanoseconds(expr: &Expr) -> Option<i128> {
    let Expr::Literal(value, _) = expr else { return None };
    nanoseconds_of(value)
}

/// The moment that a value is.
pub(super) fn nanoseconds_of(value: &ScalarValue) -> Option<i128> {
    let (count, nanoseconds_each) = match value {
        ScalarValue::TimestampNanosecond(Some(count), _) => (count, 1),
        ScalarValue::TimestampMicrosecond(Some(count), _) => (count, 1_000),
        ScalarValue::TimestampMillisecond(Some(count), _) => (count, 1_000_000),
        ScalarValue::TimestampSecond(Some(count), _) => (count, 1_000_000_000),
        _ => return None,
    };
    Some(i128::from(*count) * nanoseconds_each)
}

/// The series for which all of `filters`, which are about tags only, are true; `None` if that is all of them. And whether
/// all filters could be read.
fn matching_series(view: &TableView, filters: &[&Expr], session: &dyn Session) -> Result<(Option<SeriesSet>, bool)> {
    let tags = view.schema.tags().iter().map(|tag| Field::new(tag, DataType::Utf8View, false));
    let schema = Arc::new(Schema::new(tags.collect::<Vec<_>>()));
    let named = DFSchema::try_from(schema.clone())?;
    let mut readable = Vec::new();
    for filter in filters {
        match session.create_physical_expr((*filter).clone(), &named) {
            Ok(filter) => readable.push(filter),
            Err(error) => tracing::debug!(%error, %filter, "a predicate that prunes no series"),
        }
    }
    let mut exact = readable.len() == filters.len();
    if readable.is_empty() {
        return Ok((None, exact));
    }
    let count = u32::try_from(view.series.len()).unwrap_or(u32::MAX);
    let mut bits = BooleanBufferBuilder::new(view.series.len());
    for start in (0..count).step_by(BATCH_SERIES as usize) {
        let ids = start..count.min(start.saturating_add(BATCH_SERIES));
        let batch = RecordBatch::try_new(schema.clone(), view.series.columns(ids).map_err(external)?)?;
        let mut matching = BooleanBuffer::new_set(batch.num_rows());
        for filter in &readable {
            match truths(&**filter, &batch) {
                Ok(truths) => matching = &matching & &truths,
                Err(error) => {
                    exact = false;
                    tracing::debug!(%error, %filter, "a predicate that prunes no series");
                }
            }
        }
        bits.append_buffer(&matching);
    }
    let bits = bits.finish();
    let matching = bits.count_set_bits();
    Ok(((matching < view.series.len()).then_some(SeriesSet { bits, matching }), exact))
}

/// Where `filter` is true: neither false nor null.
pub(super) fn truths(filter: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<BooleanBuffer> {
    let array = filter.evaluate(batch)?.into_array(batch.num_rows())?;
    let Some(booleans) = array.as_boolean_opt() else { return Ok(BooleanBuffer::new_set(batch.num_rows())) };
    Ok(match booleans.nulls() {
        Some(nulls) => booleans.values() & nulls.inner(),
        None => booleans.values().clone(),
    })
}
