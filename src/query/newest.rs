//! The newest buckets: where a query wants a few of them, older rows are not read.
//!
//! `GROUP BY date_bin(..) ORDER BY 1 DESC LIMIT n` needs the rows of n buckets. Which those are at least, a few rows say:
//! if there are rows of n buckets at or after some moment, no row before the earliest of these buckets is in the answer.
//! So the latest times of a few series are looked at, as far back as a bound on how many allows, and the scan begins at the
//! bucket that they come to. All else of the plan stays as it is; older buckets that a page brings along are cut off by the
//! limit.
//!
//! **Invariant:** each time that is looked at is of a row that matches. Which of them are looked at does not matter for the
//! answer: fewer of them come to an earlier bucket, or to none, and then the whole range is read.
//!
//! It does not apply where a predicate is about fields, or about `time` in another way than as one range, since nobody
//! knows then which rows match; nor with HAVING; nor where the first of the order is not the bucket, descending.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{Field, Schema, TimestampNanosecondType};
use datafusion::catalog::Session;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Sort};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::accelerations::accelerations;
use super::ends::{Below, origin, over};
use super::failure::external;
use super::provider::RowsOf;
use super::prune::{Pruned, TimeRange};
use super::session::BATCH_ROWS;
use crate::error::Result as StoreResult;
use crate::model::names::TIME;
use crate::model::table::time_type;
use crate::snapshot::TableView;
use crate::storage::series_index::SeriesRange;

/// Groups up to which it is worth a look.
const GROUPS_MAX: usize = 10_000;
/// Segments that are looked at, and series of each.
const SEGMENTS: usize = 4;
const SERIES: usize = 2;
/// Rows of each live range and of each series of a segment that are looked at, the newest, ..
const PLACE_ROWS: usize = 64 << 10;
/// .. and of all together.
const ROWS_MAX: usize = 16 * PLACE_ROWS;

/// What is wanted of the newest rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    /// The bucket of a row, over `time`; the bucket's first moment.
    bucket: Expr,
    /// So many groups, each of one bucket.
    groups: usize,
}

#[derive(Debug)]
pub(super) struct NewestRule;

impl OptimizerRule for NewestRule {
    fn name(&self) -> &'static str {
        "newest_buckets"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Sort(sort) = plan else { return Ok(Transformed::no(plan)) };
        let wanted = wanted(&sort).filter(|_| accelerations(&config.options()).uses_backward());
        let Some((below, newest)) = wanted else { return Ok(Transformed::no(LogicalPlan::Sort(sort))) };
        let input = over(Arc::unwrap_or_clone(sort.input), below.table.with(RowsOf::Newest(newest)))?;
        let input = Arc::new(input);
        Ok(Transformed::yes(LogicalPlan::Sort(Sort { input, ..sort })))
    }
}

/// The scan below, and what is wanted of it, if an order begins with the newest of few buckets.
fn wanted(sort: &Sort) -> Option<(Below, Newest)> {
    let groups = sort.fetch.filter(|groups| *groups <= GROUPS_MAX)?;
    let first = sort.expr.first().filter(|key| !key.asc)?;
    let Expr::Column(column) = &first.expr else { return None };
    let (aggregate, group) = group_of(&sort.input, column)?;
    let bucket = bucket(aggregate, aggregate.group_expr.get(group)?)?;
    Some((Below::find(&aggregate.input)?, Newest { bucket, groups }))
}

/// The aggregate below, and the number of the group that a column is.
fn group_of<'a>(plan: &'a LogicalPlan, column: &Column) -> Option<(&'a Aggregate, usize)> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let at = aggregate.schema.maybe_index_of_column(column)?;
            let is_plain = !aggregate.group_expr.iter().any(|group| matches!(group, Expr::GroupingSet(_)));
            (is_plain && at < aggregate.group_expr.len()).then_some((aggregate, at))
        }
        LogicalPlan::Projection(projection) => {
            let at = projection.schema.maybe_index_of_column(column)?;
            match projection.expr.get(at)?.clone().unalias() {
                Expr::Column(column) => group_of(&projection.input, &column),
                _ => None,
            }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let at = alias.schema.maybe_index_of_column(column)?;
            let (relation, field) = alias.input.schema().iter().nth(at)?;
            group_of(&alias.input, &Column::new(relation.cloned(), field.name()))
        }
        _ => None,
    }
}

/// A group as a bucket of `time` alone.
fn bucket(aggregate: &Aggregate, group: &Expr) -> Option<Expr> {
    let Expr::ScalarFunction(mut call) = group.clone().unalias() else { return None };
    if !matches!(call.func.name(), "date_bin" | "date_trunc") {
        return None;
    }
    let mut times = 0;
    for argument in &mut call.args {
        match argument {
            Expr::Literal(..) => {}
            Expr::Column(column) if origin(&aggregate.input, column)? == TIME => {
                times += 1;
                *column = Column::from_name(TIME);
            }
            _ => return None,
        }
    }
    (times == 1).then_some(Expr::ScalarFunction(call))
}

impl Newest {
    /// The range that has all rows of the newest buckets, if it was found to be smaller than what `pruned` leaves. The
    /// predicates must be what `pruned` says and nothing else.
    pub(super) fn range(&self, view: &TableView, pruned: &Pruned, session: &dyn Session) -> Result<Option<TimeRange>> {
        let range = pruned.time.unwrap_or(TimeRange::ALL);
        let mut times = times_in(view, pruned, range).map_err(external)?;
        times.sort_unstable();
        times.dedup();
        let Some(floor) = self.floor(times, session)? else { return Ok(None) };
        Ok((floor > range.lo).then_some(TimeRange { lo: floor, hi: range.hi }))
    }

    /// The first moment of the earliest of so many buckets; `None` if ascending `times` have not so many.
    fn floor(&self, times: Vec<i64>, session: &dyn Session) -> Result<Option<i64>> {
        let schema = Arc::new(Schema::new(vec![Field::new(TIME, time_type(), false)]));
        let bucket = session.create_physical_expr(self.bucket.clone(), &DFSchema::try_from(schema.clone())?)?;
        let rows = times.len();
        let times = Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"));
        let batch = RecordBatch::try_new(schema, vec![times.clone()])?;
        let buckets = bucket.evaluate(&batch)?.into_array(rows)?;
        let Some(buckets) = buckets.as_primitive_opt::<TimestampNanosecondType>() else { return Ok(None) };
        let (mut found, mut last) = (0, None);
        for (bucket, time) in buckets.iter().zip(times.values()).rev() {
            // What is no first moment of a bucket says nothing about where to begin.
            let Some(bucket) = bucket.filter(|bucket| bucket <= time) else { return Ok(None) };
            if last.is_some_and(|last| bucket > last) {
                return Ok(None);
            }
            if last != Some(bucket) {
                found += 1;
                last = Some(bucket);
            }
            if found == self.groups {
                return Ok(Some(bucket));
            }
        }
        Ok(None)
    }
}

/// Times of some rows that match, late ones first of all.
fn times_in(view: &TableView, pruned: &Pruned, range: TimeRange) -> StoreResult<Vec<i64>> {
    let is_left = |series: u32| pruned.series.as_ref().is_none_or(|set| set.contains(series));
    let (mut found, mut left) = (Vec::new(), ROWS_MAX);
    for live in &view.live {
        let (times, series) = (live.times(), live.series_ids());
        let looked = PLACE_ROWS.min(left).min(times.len());
        left -= looked;
        let rows = times.iter().zip(&series).rev().take(looked);
        found.extend(rows.filter(|(time, series)| range.contains(**time) && is_left(**series)).map(|(time, _)| *time));
    }
    let mut segments: Vec<_> = view.segments.iter().collect();
    segments.retain(|segment| range.meets(segment.meta.min_time, segment.meta.max_time));
    segments.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.meta.max_time.min(range.hi)));
    for segment in segments.into_iter().take(SEGMENTS) {
        let index = segment.series_ranges(&view.schema)?;
        let meets =
            |of_series: &&SeriesRange| is_left(of_series.series) && range.meets(of_series.min_time, of_series.max_time);
        let mut series: Vec<_> = index.iter().filter(meets).collect();
        series.sort_by_key(|of_series| std::cmp::Reverse((of_series.max_time.min(range.hi), of_series.rows)));
        for of_series in series.into_iter().take(SERIES) {
            let (rows, time) = newest_of(of_series, range);
            let mut batches = segment.read(&view.schema, &[0], Some(vec![rows]), Some(time), BATCH_ROWS)?;
            let mut looked = 0;
            while looked < PLACE_ROWS.min(left)
                && let Some(batch) = batches.next().transpose()?
            {
                looked += batch.num_rows();
                let times = batch.column(0).as_primitive_opt::<TimestampNanosecondType>();
                let times = times.into_iter().flat_map(|times| times.values());
                found.extend(times.filter(|time| range.contains(**time)));
            }
            left -= looked.min(left);
        }
    }
    Ok(found)
}

/// Where the newest rows of a series in `range` are, at most [`PLACE_ROWS`] of them: row numbers, and times. Rows ascend by
/// time, so they are the last ones, if the range ends behind them. Else it is guessed from when half as many have come, as
/// if in each second there were as many: whole pages are read, and those that do not fit are the newest.
fn newest_of(series: &SeriesRange, range: TimeRange) -> (Range<u64>, (i64, i64)) {
    let (rows, most) = (series.range(), PLACE_ROWS as u64);
    if range.hi >= series.max_time {
        return (rows.start.max(rows.end.saturating_sub(most))..rows.end, (range.lo, range.hi));
    }
    let span = i128::from(series.max_time) - i128::from(series.min_time);
    let back = span * i128::from(most / 2) / i128::from(series.rows.max(1));
    let from = i64::try_from(i128::from(range.hi) - back).unwrap_or(i64::MIN);
    (rows, (from.max(range.lo), range.hi))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Schema, Store, Time};

    #[test]
    fn few_rows_are_looked_at_however_many_there_are() {
        const ROWS: i64 = 200_000;
        let dir = tempfile::tempdir().unwrap();
        let options = Store::options().block_bytes_min(16 << 20).block_bytes_max(16 << 20);
        let store = options.open(dir.path().join("kota")).unwrap();
        let table = store.table(Schema::new("t").tag("k").i64("v", "")).unwrap();
        let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
        let mut append = |rows: std::ops::Range<i64>| {
            for n in rows {
                let _ = writer.append_to(series, Time::from_nanos(n * 1_000_000), &[n.into()]).unwrap();
            }
        };
        append(0..ROWS);
        store.seal().unwrap();
        let engine = store.prepare("SELECT 1").unwrap().engine().clone();
        let look = |hi: i64| {
            let view = engine.snapshot().unwrap().table("t").unwrap().clone();
            let mut found = times_in(&view, &Pruned::default(), TimeRange { lo: i64::MIN, hi }).unwrap();
            found.sort_unstable();
            (found.len(), found.last().copied())
        };
        let most = PLACE_ROWS + BATCH_ROWS;
        for hi in [i64::MAX, ROWS / 2 * 1_000_000, 10_000_000] {
            let (rows, newest) = look(hi);
            assert!(0 < rows && rows <= most, "{rows} rows up to {hi}");
            assert_eq!(newest, Some(hi.min((ROWS - 1) * 1_000_000)));
        }
        append(ROWS..2 * ROWS);
        let (rows, newest) = look(i64::MAX);
        assert!(rows <= PLACE_ROWS + most, "{rows} rows with live ones");
        assert_eq!(newest, Some((2 * ROWS - 1) * 1_000_000));
    }
}
