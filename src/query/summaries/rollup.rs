//! Which rollup answers an aggregate, for which times, and what is left of its table.
//!
//! Time is cut in three:
//!
//! - *known*: buckets of which retention may have dropped rows. The rollup has all rows that it was given, so what answers is
//!   the rollup and the rows that it lacks: those of pending segments and of live blocks;
//! - *settled*: later buckets that it has and that no row it lacks is of. The rollup answers alone;
//! - the rest, with the buckets that the bounds of time cut: the table answers, as if there were no rollup.
//!
//! **Invariant:** each row that is or was in the table is in exactly one of what answers. A rollup has a row exactly if the
//! row's segment is not pending, and both are of one snapshot.
//!
//! **Invariant:** of settled buckets the rollup says what the rows would say: counts and ends exactly, and so extremes save
//! where floats have NaN or zeros of both signs, of which the engine's answer depends on the order.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use hashbrown::HashSet;

use super::keys::{matching, splits_no_bucket};
use super::shape::{End, Key, Shape, Source, What};
use crate::model::names::TIME;
use crate::model::rollup::{Definition, Measure, Part};
use crate::query::failure::external;
use crate::query::prune::{Pruned, SeriesSet, TimeRange};
use crate::query::scan::ScanExec;
use crate::query::work;
use crate::snapshot::{Segment, TableView};
use crate::storage::rollups::RollupState;

/// Buckets of the answer up to which it is looked whether each is of one group.
const BUCKETS_MAX: i64 = 4 << 20;
/// Buckets between the ends of a live range up to which all of them are taken for touched.
const NEAR_BUCKETS: i64 = 1;
/// Stretches of settled buckets at most: each costs the plan another side.
const STRETCHES_MAX: usize = 16;

/// A rollup that answers, and what it leaves.
pub(super) struct Rolled {
    pub(super) view: Arc<TableView>,
    pub(super) definition: Arc<Definition>,
    /// The rollup's rows.
    pub(super) buckets: Arc<ScanExec>,
    /// The times that it answers, ascending.
    pub(super) times: Vec<TimeRange>,
    /// Rows of the table that are earlier may be gone.
    pub(super) gone_before: i64,
    /// For each aggregate the columns of its states, by number in the rollup's table.
    pub(super) states: Vec<Vec<usize>>,
    pub(super) rest: Vec<Rest>,
}

impl Rolled {
    /// Whether it may have what the table has not any more.
    pub(super) fn knows_more(&self) -> bool {
        self.times.first().is_some_and(|time| time.lo < self.gone_before)
    }
}

/// A part of the table that is still to be answered.
pub(super) struct Rest {
    pub(super) scan: Arc<ScanExec>,
    pub(super) time: TimeRange,
}

/// The rollup that answers with the fewest buckets.
pub(super) fn rolled(shape: &Shape<'_>, parts: usize) -> Result<Option<Rolled>> {
    if shape.time.is_empty() || !shape.keys.iter().any(|key| matches!(key, Key::Time(_))) {
        return Ok(None);
    }
    let (source, snapshot) = (shape.scan.view().schema.id, shape.scan.snapshot());
    let mut all: Vec<_> = snapshot.rollups().of(source).collect();
    all.sort_by_key(|(table, state)| (std::cmp::Reverse(state.definition.every_ns), *table));
    for (table, state) in all {
        let Some(view) = snapshot.numbered(table) else { continue };
        let Some(states) = states(shape, &state.definition, view) else { continue };
        let gone_before = snapshot.rollups().rows_gone_before(source);
        if let Some(cut) = Cut::of(shape, view, state, gone_before)? {
            return answer(shape, view, state, (states, gone_before), cut, parts);
        }
    }
    Ok(None)
}

/// The columns of each aggregate's states; `None` if the rollup has not all.
fn states(shape: &Shape<'_>, definition: &Definition, view: &TableView) -> Option<Vec<Vec<usize>>> {
    let (parts, first) = (definition.parts(), 1 + view.schema.tags().len());
    let column = |part: Part, field: usize| Some(first + parts.iter().position(|it| *it == (part, Some(field)))?);
    let all = |of: &[Part], field: usize| of.iter().map(|part| column(*part, field)).collect::<Option<Vec<_>>>();
    let of = |source: Source| match source {
        Source::Rows => Some(vec![first]),
        Source::Time(_) => None,
        Source::Field { field, what } => match what {
            What::Count => all(&[Part::Count], field),
            What::Sum => all(&[Part::Sum], field),
            What::Mean => all(&[Part::Count, Part::Sum], field),
            What::Min => all(&[Part::Min], field),
            What::Max => all(&[Part::Max], field),
            What::Value(End::First) => all(&[Part::First, Part::FirstTime], field),
            What::Value(End::Last) => all(&[Part::Last, Part::LastTime], field),
            What::Time(End::First) => all(&[Part::FirstTime], field),
            What::Time(End::Last) => all(&[Part::LastTime], field),
        },
        Source::Sketch { field, measure: Measure::Distinct } => all(&[Part::Distinct], field),
        Source::Sketch { field, .. } => all(&[Part::Percentiles], field),
    };
    shape.aggregates.iter().map(|aggregate| of(aggregate.source)).collect()
}

/// Which buckets are which. Ranges of numbers, both ends inclusive.
struct Cut {
    known: Option<(i64, i64)>,
    settled: Vec<(i64, i64)>,
}

impl Cut {
    /// `None` if the rollup answers nothing.
    fn of(shape: &Shape<'_>, view: &TableView, state: &RollupState, gone_before: i64) -> Result<Option<Self>> {
        let definition = &*state.definition;
        // What is damaged too, so that it is missed where nothing else knows of its buckets.
        let all = view.segments.iter().chain(view.aside.segments.iter());
        let bounds = all.map(|segment| (segment.meta.min_time, segment.meta.max_time));
        let Some((min, max)) = bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return Ok(None) };
        let Some((first, last)) = whole(shape.time, definition, min, max) else { return Ok(None) };
        if last - first >= BUCKETS_MAX || !splits_no_bucket(shape, definition.every_ns, first, last)? {
            return Ok(None);
        }
        // The first bucket that begins when no row is gone.
        let settles = if gone_before == i64::MIN {
            first
        } else {
            let bucket = definition.bucket(gone_before);
            bucket + i64::from(definition.begin(bucket) < gone_before)
        };
        let known = (first < settles).then_some((first, last.min(settles - 1)));
        let (from, to) = (first.max(settles), last);
        let settled = if from <= to { gaps(from, to, &touched(shape, view, state, (from, to))) } else { Vec::new() };
        Ok((known.is_some() || !settled.is_empty()).then_some(Self { known, settled }))
    }

    fn all(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.known.into_iter().chain(self.settled.iter().copied())
    }
}

/// The buckets between the times `min` and `max` that are whole within `time`.
fn whole(time: TimeRange, definition: &Definition, min: i64, max: i64) -> Option<(i64, i64)> {
    let (low, high) = (definition.bucket(time.lo), definition.bucket(time.hi));
    let low = low + i64::from(definition.begin(low) < time.lo);
    let high = high - i64::from(definition.end(high) > time.hi);
    let (first, last) = (low.max(definition.bucket(min)), high.min(definition.bucket(max)));
    (first <= last).then_some((first, last))
}

/// The buckets within `within` of which there may be rows that the rollup lacks, in ranges that may meet.
fn touched(shape: &Shape<'_>, view: &TableView, state: &RollupState, within: (i64, i64)) -> Vec<(i64, i64)> {
    let (source, definition) = (shape.scan.view(), &*state.definition);
    let of = |min: i64, max: i64| (definition.bucket(min), definition.bucket(max));
    let all = source.segments.iter().chain(source.aside.segments.iter());
    let pending = all.filter(|segment| state.pending.contains(&segment.meta.id));
    // What is damaged of the rollup the table still has.
    let damaged = view.aside.segments.iter();
    let mut touched: Vec<_> =
        pending.chain(damaged).map(|segment| of(segment.meta.min_time, segment.meta.max_time)).collect();
    for range in &source.live {
        let Some((min, max)) = range.time_bounds() else { continue };
        let (first, last) = of(min, max);
        if first.max(within.0) > last.min(within.1) {
            continue;
        }
        if last - first <= NEAR_BUCKETS {
            touched.push((first, last));
            continue;
        }
        // One late row must not touch all that is since.
        let (mut buckets, mut held) = (BTreeSet::new(), None);
        for time in range.times().iter() {
            let bucket = definition.bucket(*time);
            if held.replace(bucket) != Some(bucket) {
                buckets.insert(bucket);
            }
        }
        touched.extend(buckets.into_iter().map(|bucket| (bucket, bucket)));
    }
    touched
}

/// What of `from..=to` is in none of `touched`: the longest stretches, ascending.
fn gaps(from: i64, to: i64, touched: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut sorted = touched.to_vec();
    sorted.sort_unstable();
    let (mut gaps, mut next) = (Vec::new(), from);
    for (first, last) in sorted {
        if first > next {
            gaps.push((next, to.min(first - 1)));
        }
        next = next.max(last.saturating_add(1));
        if next > to {
            break;
        }
    }
    if next <= to {
        gaps.push((next, to));
    }
    gaps.retain(|(first, last)| first <= last);
    gaps.sort_unstable_by_key(|(first, last)| (std::cmp::Reverse(last - first), *first));
    gaps.truncate(STRETCHES_MAX);
    gaps.sort_unstable();
    gaps
}

fn answer(
    shape: &Shape<'_>,
    view: &Arc<TableView>,
    state: &RollupState,
    (states, gone_before): (Vec<Vec<usize>>, i64),
    cut: Cut,
    parts: usize,
) -> Result<Option<Rolled>> {
    let definition = &state.definition;
    let range = |(first, last): (i64, i64)| TimeRange { lo: definition.begin(first), hi: definition.end(last) };
    let times: Vec<TimeRange> = cut.all().map(range).collect();
    // What of the rollup is damaged is an error only where the table's rows may be gone too.
    let is_missed = |segment: &Segment| {
        cut.known.is_some_and(|known| range(known).meets(segment.meta.min_time, segment.meta.max_time))
    };
    let readable = Arc::new(part_of(view, |_| true, is_missed));
    let Some(buckets) = buckets(shape, &readable, &times, &states, parts)? else { return Ok(None) };
    let mut rest = Vec::new();
    if let Some(known) = cut.known.map(range) {
        let lacking = Arc::new(lacking(shape.scan.view(), state));
        rest.push(Rest { scan: Arc::new(shape.scan.within(lacking, known, parts)?), time: known });
    }
    for time in between(shape.time, &times) {
        let scan = Arc::new(shape.scan.within(shape.scan.view().clone(), time, parts)?);
        rest.push(Rest { scan, time });
    }
    let (view, definition, buckets) = (view.clone(), definition.clone(), Arc::new(buckets));
    Ok(Some(Rolled { view, definition, buckets, times, gone_before, states, rest }))
}

/// The scan of the rollup's rows of those times, with tags, time and the columns of the states.
fn buckets(
    shape: &Shape<'_>,
    view: &Arc<TableView>,
    times: &[TimeRange],
    states: &[Vec<usize>],
    parts: usize,
) -> Result<Option<ScanExec>> {
    // An error of a predicate is the rows' to give.
    let Ok(series) = matching(shape, view, None) else { return Ok(None) };
    let series = SeriesSet::of(&series, view.series.len());
    let all = times.iter().copied().reduce(|a, b| TimeRange { lo: a.lo.min(b.lo), hi: a.hi.max(b.hi) });
    let pruned = Pruned { time: all, series: Some(series), exact_series: true };
    let wanted: BTreeSet<usize> = (0..=view.schema.tags().len()).chain(states.iter().flatten().copied()).collect();
    let work = work::plan(view, &pruned, None, parts).map_err(external)?;
    let (snapshot, projection) = (shape.scan.snapshot().clone(), wanted.into_iter().collect());
    ScanExec::new(view.clone(), snapshot, projection, pruned, work, false).map(Some)
}

/// The rows of `view` that the rollup lacks.
fn lacking(view: &TableView, state: &RollupState) -> TableView {
    let pending: HashSet<u64> = state.pending.iter().copied().collect();
    let is_pending = |segment: &Segment| pending.contains(&segment.meta.id);
    part_of(view, is_pending, is_pending)
}

/// `view` with some of its segments, and some of its damaged ones.
fn part_of(view: &TableView, keep: impl Fn(&Segment) -> bool, keep_aside: impl Fn(&Segment) -> bool) -> TableView {
    let segments = view.segments.iter().filter(|segment| keep(segment)).cloned().collect();
    TableView {
        schema: view.schema.clone(),
        series: view.series.clone(),
        live: view.live.clone(),
        segments: Arc::new(segments),
        aside: view.aside.only(keep_aside),
        partition_ns: view.partition_ns,
    }
}

/// What of `all` is in none of `times`, which are ascending.
fn between(all: TimeRange, times: &[TimeRange]) -> Vec<TimeRange> {
    let (mut rest, mut next) = (Vec::new(), Some(all.lo));
    for time in times {
        if let Some(lo) = next.filter(|lo| *lo < time.lo) {
            rest.push(TimeRange { lo, hi: time.lo - 1 });
        }
        next = time.hi.checked_add(1);
    }
    rest.extend(next.filter(|lo| *lo <= all.hi).map(|lo| TimeRange { lo, hi: all.hi }));
    rest
}

/// The predicate that a row of `scan` is of `time`.
pub(super) fn within(scan: &ScanExec, time: TimeRange) -> Result<Arc<dyn PhysicalExpr>> {
    let column = Arc::new(Column::new_with_schema(TIME, scan.columns())?);
    let compare = |op: Operator, ns: i64| -> Arc<dyn PhysicalExpr> {
        let bound = ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into()));
        Arc::new(BinaryExpr::new(column.clone(), op, Arc::new(Literal::new(bound))))
    };
    let (low, high) = (compare(Operator::GtEq, time.lo), compare(Operator::LtEq, time.hi));
    Ok(Arc::new(BinaryExpr::new(low, Operator::And, high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_left_out() {
        assert_eq!(gaps(0, 9, &[]), [(0, 9)]);
        assert_eq!(gaps(0, 9, &[(3, 4), (20, 30), (-5, -1)]), [(0, 2), (5, 9)]);
        assert_eq!(gaps(0, 9, &[(7, 100), (-3, 1), (2, 2)]), [(3, 6)]);
        assert_eq!(gaps(0, 9, &[(-3, 12)]), []);
        let many: Vec<_> = (0..100).map(|n| (3 * n, 3 * n)).collect();
        assert_eq!(gaps(0, 1_000, &many).len(), STRETCHES_MAX);
    }

    #[test]
    fn the_rest_is_what_is_between() {
        let range = |lo, hi| TimeRange { lo, hi };
        assert_eq!(between(TimeRange::ALL, &[TimeRange::ALL]), []);
        assert_eq!(between(range(0, 9), &[range(2, 3), range(4, 5)]), [range(0, 1), range(6, 9)]);
        assert_eq!(between(range(0, 9), &[range(0, 3), range(6, 9)]), [range(4, 5)]);
    }
}
