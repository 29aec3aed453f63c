//! Reading a table: segments page by page, live blocks in place.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, Statistics,
};
use futures::Stream;

use super::failure::external;
use super::leaf::leaf;
use super::prune::{Pruned, TimeRange};
use super::session::BATCH_ROWS;
use super::summaries::cells_read;
use super::work::{Kept, Piece, Work};
use super::{overlapping, statistics, work};
use crate::error::{Error, Result as StoreResult};
use crate::model::Time;
use crate::snapshot::inputs::Merging;
use crate::snapshot::{LiveRange, Snapshot, TableView};
use crate::storage::segment_writer::Sorted;

/// Live rows looked at in one go, when few of them match.
const WINDOW_ROWS: usize = 64 * BATCH_ROWS;

/// The leaf of a plan. Also what `EXPLAIN` shows of pruning.
pub(super) struct ScanExec {
    scan: Arc<Scan>,
    work: Work,
    all: bool,
    /// Whether all rows that are not pruned are read.
    whole: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Rows that the scans of `plan` read at most, and cells of summaries, each of which is about as much work as a row.
pub(super) fn rows_read(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.downcast_ref::<ScanExec>().map_or_else(|| cells_read(plan), |scan| scan.work.rows);
    plan.children().into_iter().map(rows_read).fold(own, usize::saturating_add)
}

/// What all partitions of a scan share.
struct Scan {
    view: Arc<TableView>,
    /// Keeps files that a newer version of the store no longer names.
    snapshot: Arc<Snapshot>,
    projection: Vec<usize>,
    schema: SchemaRef,
    pruned: Pruned,
}

impl ScanExec {
    pub(super) fn new(
        view: Arc<TableView>,
        snapshot: Arc<Snapshot>,
        projection: Vec<usize>,
        pruned: Pruned,
        work: Work,
        all: bool,
    ) -> Result<Self> {
        let schema = Arc::new(view.schema.arrow().project(&projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(work.parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let scan = Arc::new(Scan { view, snapshot, projection, schema, pruned });
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { scan, work, all, whole: false, properties: Arc::new(properties), metrics })
    }

    /// Says that all rows that are not pruned are read: not only the latest, nor only so many.
    pub(super) fn of_all_rows(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Whether all rows that are not pruned are read.
    pub(super) fn has_all_rows(&self) -> bool {
        self.whole
    }

    pub(super) fn view(&self) -> &Arc<TableView> {
        &self.scan.view
    }

    pub(super) fn pruned(&self) -> &Pruned {
        &self.scan.pruned
    }

    pub(super) fn columns(&self) -> &SchemaRef {
        &self.scan.schema
    }

    /// The same of `view`, another view of its table or part of it, and of these times.
    pub(super) fn within(&self, view: Arc<TableView>, time: TimeRange, parts: usize) -> Result<Self> {
        let scan = &self.scan;
        let time = scan.pruned.time.unwrap_or(TimeRange::ALL).and(time);
        let pruned = Pruned { time: Some(time), ..scan.pruned.clone() };
        let work = work::plan(&view, &pruned, None, parts).map_err(external)?;
        Self::new(view, scan.snapshot.clone(), scan.projection.clone(), pruned, work, false)
    }

    /// Rows that it reads at most.
    pub(super) fn rows(&self) -> usize {
        self.work.rows
    }

    /// The moment that it shows.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.scan.snapshot
    }

    /// The same of these pieces alone. `work` has the figures of all that was found.
    pub(super) fn of_pieces(&self, work: Work, pieces: Vec<Piece>, parts: usize) -> Result<Self> {
        let of_segment = |piece: &Piece| match piece {
            Piece::Segment { ranges, .. } => Some(ranges.len()),
            _ => None,
        };
        let mut work = Work {
            segments: Kept { kept: pieces.iter().filter_map(of_segment).count(), ..work.segments },
            row_ranges: pieces.iter().filter_map(of_segment).sum(),
            merges: pieces.iter().filter(|piece| matches!(piece, Piece::Merged { .. })).count(),
            ..work
        };
        work.deal(pieces, parts);
        let properties = Arc::unwrap_or_clone(self.properties.clone())
            .with_partitioning(Partitioning::UnknownPartitioning(work.parts.len()));
        let (scan, metrics) = (self.scan.clone(), ExecutionPlanMetricsSet::new());
        Ok(Self { scan, work, all: false, whole: false, properties: Arc::new(properties), metrics })
    }
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scan, work) = (&*self.scan, &self.work);
        let columns: Vec<&str> = scan.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "DenyutScan: table={}, projection=[{}]", scan.view.schema.name(), columns.join(", "))?;
        if let Some(TimeRange { lo, hi }) = scan.pruned.time {
            let bound =
                |bound: i64, open: i64| if bound == open { String::new() } else { Time::from_nanos(bound).to_string() };
            write!(f, ", time=[{}..{}]", bound(lo, i64::MIN), bound(hi, i64::MAX))?;
        }
        if let Some(series) = &scan.pruned.series {
            write!(f, ", series={}/{}", series.matching(), scan.view.series.len())?;
        }
        let kept = |kept: Kept| format!("{}/{}", kept.kept, kept.of);
        write!(f, ", partitions={}, segments={}", kept(work.partitions), kept(work.segments))?;
        write!(f, ", row_ranges={}, rows={}, live_ranges={}", work.row_ranges, work.rows, kept(work.live_ranges))?;
        if work.merges > 0 {
            write!(f, ", merges={}", work.merges)?;
        }
        if work.newest {
            write!(f, ", newest_buckets")?;
        }
        match work.latest {
            Some((latest, scanned)) => write!(f, ", latest={latest}, scanned_series={scanned}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ScanExec {
    leaf!("DenyutScan");

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(pieces) = self.work.parts.get(partition) else {
            return internal_err!("partition {partition} of {}", self.work.parts.len());
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let stream = ScanStream { scan: self.scan.clone(), pieces: pieces.clone().into_iter(), current: None, metrics };
        Ok(Box::pin(cooperative(stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let (scan, work) = (&self.scan, &self.work);
        let (rows, all) = match args.partition() {
            None => (work.rows, self.all),
            Some(part) => (work.parts.get(part).map_or(0, |part| part.iter().map(Piece::rows).sum()), false),
        };
        let mut statistics = statistics::of_scan(&scan.view, &scan.projection, rows, all);
        if work.merges > 0 {
            // Times and tags are what they are, however often a row was overwritten.
            statistics.num_rows = statistics.num_rows.to_inexact();
        }
        Ok(Arc::new(statistics))
    }
}

/// One partition's batches.
struct ScanStream {
    scan: Arc<Scan>,
    pieces: std::vec::IntoIter<Piece>,
    current: Option<Reading>,
    metrics: BaselineMetrics,
}

/// A piece under way.
enum Reading {
    /// A segment's batches, or merged ones.
    Segment(Box<dyn Iterator<Item = StoreResult<RecordBatch>> + Send>),
    Live {
        live: usize,
        next: usize,
        end: usize,
    },
    LiveRows {
        live: usize,
        rows: std::vec::IntoIter<u32>,
    },
    /// Rows of which no column is asked for.
    Counted(usize),
}

impl ScanStream {
    /// The next batch; an empty one if there was none in what one call may look at; `None` at the end.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(reading) = &mut self.current else {
            return match self.pieces.next() {
                Some(piece) => {
                    self.current = Some(self.scan.open(piece)?);
                    Ok(Some(RecordBatch::new_empty(self.scan.schema.clone())))
                }
                None => Ok(None),
            };
        };
        let batch = match reading {
            Reading::Segment(batches) => batches.next().transpose().map_err(external)?,
            Reading::Counted(0) => None,
            Reading::Counted(left) => {
                let rows = BATCH_ROWS.min(*left);
                *left -= rows;
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                Some(RecordBatch::try_new_with_options(self.scan.schema.clone(), Vec::new(), &options)?)
            }
            Reading::Live { next, end, .. } if next == end => None,
            Reading::Live { live, next, end } => match self.scan.view.live.get(*live) {
                Some(range) => Some(self.scan.live_batch(range, next, *end)?),
                None => return internal_err!("no live range {live}"),
            },
            Reading::LiveRows { live, rows } => match self.scan.view.live.get(*live) {
                Some(range) => self.scan.live_singles(range, rows)?,
                None => return internal_err!("no live range {live}"),
            },
        };
        if batch.is_none() {
            self.current = None;
        }
        Ok(Some(batch.unwrap_or_else(|| RecordBatch::new_empty(self.scan.schema.clone()))))
    }
}

impl Scan {
    fn open(&self, piece: Piece) -> Result<Reading> {
        if self.projection.is_empty() && !matches!(piece, Piece::Merged { .. }) {
            return Ok(Reading::Counted(piece.rows()));
        }
        Ok(match piece {
            Piece::Merged { sources, ranks, .. } => {
                let merging = Merging::new(&self.view.schema, &self.view.series, &self.projection, sources.len());
                let inputs = overlapping::inputs(&self.view, &merging, &sources, &ranks, self.pruned.time);
                let merged = merging.merge(inputs.map_err(external)?);
                let (schema, name) = (self.schema.clone(), self.view.schema.clone());
                Reading::Segment(Box::new(merged.map(move |sorted| {
                    let Sorted { series, columns } = sorted?;
                    let options = RecordBatchOptions::new().with_row_count(Some(series.len()));
                    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options);
                    batch.map_err(|error| Error::batch(name.name(), error))
                })))
            }
            Piece::Rows(batch) => Reading::Segment(Box::new(std::iter::once(Ok(batch)))),
            Piece::Live { live, rows } => Reading::Live { live, next: rows.start, end: rows.end },
            Piece::LiveRows { live, rows } => Reading::LiveRows { live, rows: rows.into_iter() },
            Piece::Segment { segment, ranges, whole } => {
                let time = self.pruned.time.filter(|time| !time.covers(segment.meta.min_time, segment.meta.max_time));
                let time = time.map(|TimeRange { lo, hi }| (lo, hi));
                let ranges = (!whole).then_some(ranges);
                let batches = segment.read(&self.view.schema, &self.projection, ranges, time, BATCH_ROWS);
                Reading::Segment(batches.map_err(external)?)
            }
        })
    }

    /// Matching rows of `range` from `next` on, up to a batch of them, out of a window; `next` moves behind what was seen.
    fn live_batch(&self, range: &LiveRange, next: &mut usize, end: usize) -> Result<RecordBatch> {
        let start = *next;
        let time = self.pruned.time.filter(|time| !range.time_bounds().is_some_and(|(min, max)| time.covers(min, max)));
        let series = self.pruned.series.as_ref();
        if time.is_none() && series.is_none() {
            *next = end.min(start + BATCH_ROWS);
            return self.live_rows(range, start..*next);
        }
        let (times, ids) = (range.times(), range.series_ids());
        let window = end.min(start + WINDOW_ROWS);
        let mut matching: Vec<u32> = Vec::new();
        while *next < window && matching.len() < BATCH_ROWS {
            let chunk = *next..window.min(*next + BATCH_ROWS);
            let Some((times, ids)) = times.get(chunk.clone()).zip(ids.get(chunk.clone())) else {
                return internal_err!("live rows {chunk:?} of {}", range.rows());
            };
            let offset = u32::try_from(chunk.start - start).unwrap_or(u32::MAX);
            matching.extend((offset..).zip(times.iter().zip(ids)).filter_map(|(row, (at, id))| {
                let matches = time.is_none_or(|time| time.contains(*at)) && series.is_none_or(|set| set.contains(*id));
                matches.then_some(row)
            }));
            *next = chunk.end;
        }
        if matching.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        if matching.len() == *next - start {
            return self.live_rows(range, start..*next);
        }
        self.live_matches(range, start..*next, &UInt32Array::from(matching))
    }

    /// The next of `rows`, up to a batch of them, out of a window; none if there are none left.
    fn live_singles(&self, range: &LiveRange, rows: &mut std::vec::IntoIter<u32>) -> Result<Option<RecordBatch>> {
        let left = rows.as_slice();
        let Some(first) = left.first().copied() else { return Ok(None) };
        let is_near = |row: &&u32| ((**row - first) as usize) < WINDOW_ROWS;
        let near: Vec<u32> = left.iter().take(BATCH_ROWS).take_while(is_near).map(|row| row - first).collect();
        let end = first as usize + near.last().map_or(0, |last| *last as usize) + 1;
        rows.by_ref().take(near.len()).for_each(drop);
        self.live_matches(range, first as usize..end, &UInt32Array::from(near)).map(Some)
    }

    fn live_rows(&self, range: &LiveRange, rows: std::ops::Range<usize>) -> Result<RecordBatch> {
        let view = &self.view;
        let batch = range.batch(&view.series, &view.schema, &self.projection, rows).map_err(external)?;
        Ok(batch.with_schema(self.schema.clone())?)
    }

    /// The rows `matching`, counted from the start of `rows`. Tags are gathered for those alone.
    fn live_matches(
        &self,
        range: &LiveRange,
        rows: std::ops::Range<usize>,
        matching: &UInt32Array,
    ) -> Result<RecordBatch> {
        let view = &self.view;
        let tags = view.schema.tags().len();
        let is_tag = |column: &usize| (1..=tags).contains(column);
        let stored: Vec<usize> = self.projection.iter().copied().filter(|column| !is_tag(column)).collect();
        let ids = range.series_ids();
        let Some(all_ids) = ids.get(rows.clone()) else {
            return internal_err!("live rows {rows:?} of {}", range.rows());
        };
        let ids: Vec<u32> = matching.values().iter().filter_map(|row| all_ids.get(*row as usize).copied()).collect();
        let batch = range.batch(&view.series, &view.schema, &stored, rows).map_err(external)?;
        let mut stored = batch.columns().iter();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.projection.len());
        for column in &self.projection {
            if is_tag(column) {
                columns.push(range.tag_column(&view.series, column - 1, &ids).map_err(external)?);
            } else if let Some(stored) = stored.next() {
                let taken = take(stored, matching, None)?;
                // Else a few texts would carry the heap of the whole window, and every operator would count it.
                columns.push(taken.as_string_view_opt().map_or(taken.clone(), |texts| Arc::new(texts.gc())));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(matching.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl Stream for ScanStream {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let metrics = this.metrics.clone();
        let _timer = metrics.elapsed_compute().timer();
        // Where little matches, much is looked at between batches: others get their turn in between.
        for _ in 0..4 {
            match this.next_batch() {
                Ok(Some(batch)) if batch.num_rows() == 0 => {}
                other => return this.metrics.record_poll(Poll::Ready(other.transpose())),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl RecordBatchStream for ScanStream {
    fn schema(&self) -> SchemaRef {
        self.scan.schema.clone()
    }
}
