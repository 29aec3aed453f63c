//! The leaf that reads summaries and gives partial states.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::Stream;
use hashbrown::HashMap;

use super::keys::{TagKeys, TimeKeys};
use super::shape::{Aggregate, Key, Shape, Source};
use super::split::{Figures, Split, Task};
use super::states::Picked;
use crate::query::failure::external;
use crate::query::leaf::leaf;
use crate::query::session::BATCH_ROWS;
use crate::storage::summary::{Cells, FieldCells, Stats};

/// Cells below which another partition costs more than it saves.
const PARTITION_CELLS_MIN: usize = 64 << 10;

/// Reads summaries. Its rows are like those of the partial aggregate beside it.
pub(super) struct SummaryExec {
    shared: Arc<Shared>,
    parts: Vec<Vec<Task>>,
    /// Of the chunks that are read.
    cells: usize,
    figures: Figures,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What all partitions share.
struct Shared {
    table: String,
    schema: SchemaRef,
    /// For each key whether it is of tags, and its place among those.
    keys: Vec<(bool, usize)>,
    tags: TagKeys,
    times: TimeKeys,
    aggregates: Vec<Aggregate>,
    /// What is read of each field.
    fields: BTreeMap<usize, Stats>,
    /// Keeps the files.
    _scan: Arc<dyn ExecutionPlan>,
}

impl Shared {
    fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        self.aggregates.iter().map(|aggregate| aggregate.function.create_groups_accumulator()).collect()
    }
}

impl SummaryExec {
    pub(super) fn new(schema: SchemaRef, shape: &Shape<'_>, split: Split, parts_max: usize) -> Result<Self> {
        let Split { rows, tasks, tags, times, figures } = split;
        let cells = |task: &Task| task.directory.chunks.get(task.chunk).map_or(0, |chunk| chunk.cells);
        let all: usize = tasks.iter().map(cells).sum();
        let count = parts_max.min(all / PARTITION_CELLS_MIN).max(1);
        let mut parts: Vec<Vec<Task>> = vec![Vec::new()];
        let mut held = 0;
        for task in tasks {
            if held >= all.div_ceil(count) {
                parts.push(Vec::new());
                held = 0;
            }
            held += cells(&task);
            parts.last_mut().into_iter().for_each(|part| part.push(task.clone()));
        }
        let mut fields: BTreeMap<usize, Stats> = BTreeMap::new();
        for aggregate in &shape.aggregates {
            if let Source::Field { field, what } = aggregate.source {
                let stats = fields.entry(field).or_default();
                *stats = stats.or(what.stats());
            }
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Both,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let (mut of_tags, mut of_time) = (0.., 0..);
        let keys = shape.keys.iter().map(|key| match key {
            Key::Tags(_) => (true, of_tags.next().unwrap_or_default()),
            Key::Time(_) => (false, of_time.next().unwrap_or_default()),
        });
        let shared = Shared {
            table: shape.scan.view().schema.name().to_string(),
            schema,
            keys: keys.collect(),
            tags,
            times,
            aggregates: shape.aggregates.clone(),
            fields,
            _scan: rows,
        };
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { shared: Arc::new(shared), parts, cells: all, figures, properties: Arc::new(properties), metrics })
    }
}

/// Cells that the node `plan` reads itself.
pub(in crate::query) fn cells_read(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.downcast_ref::<SummaryExec>().map_or(0, |summaries| summaries.cells)
}

impl fmt::Debug for SummaryExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for SummaryExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { segments, series, buckets, grids, raw_rows } = &self.figures;
        let grids: Vec<String> =
            grids.iter().map(|ns| format!("{:?}", Duration::from_nanos(ns.unsigned_abs()))).collect();
        write!(f, "DenyutSummaries: table={}, segments={segments}, series={series}", self.shared.table)?;
        write!(f, ", buckets={buckets}, cells_of=[{}], raw_rows={raw_rows}", grids.join(", "))
    }
}

impl ExecutionPlan for SummaryExec {
    leaf!("DenyutSummaries");

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(tasks) = self.parts.get(partition) else {
            return internal_err!("partition {partition} of {}", self.parts.len());
        };
        let stream = SummaryStream {
            shared: self.shared.clone(),
            tasks: tasks.clone().into_iter(),
            groups: Groups::default(),
            accumulators: self.shared.accumulators()?,
            reservation: MemoryConsumer::new("DenyutSummaries").register(context.memory_pool()),
            answer: None,
            cells: MetricBuilder::new(&self.metrics).counter("cells", partition),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        Ok(Box::pin(cooperative(stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Numbers for groups by tags and time.
#[derive(Default)]
struct Groups {
    known: HashMap<(u32, u32), u32>,
    tags: Vec<u32>,
    times: Vec<u32>,
    /// The last one asked for: cells come series by series, in the order of time.
    held: Option<((u32, u32), u32)>,
}

impl Groups {
    fn number(&mut self, key: (u32, u32)) -> u32 {
        if let Some((held, number)) = self.held
            && held == key
        {
            return number;
        }
        let next = u32::try_from(self.tags.len()).unwrap_or(u32::MAX);
        let (tags, times) = (&mut self.tags, &mut self.times);
        let number = *self.known.entry(key).or_insert_with(|| {
            tags.push(key.0);
            times.push(key.1);
            next
        });
        self.held = Some((key, number));
        number
    }

    fn bytes(&self) -> usize {
        self.known.allocation_size() + (self.tags.capacity() + self.times.capacity()) * size_of::<u32>()
    }
}

struct SummaryStream {
    shared: Arc<Shared>,
    tasks: std::vec::IntoIter<Task>,
    groups: Groups,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    reservation: MemoryReservation,
    /// Groups that are given, and how many rows of them are out.
    answer: Option<(RecordBatch, usize)>,
    cells: Count,
    metrics: BaselineMetrics,
}

impl SummaryStream {
    /// Takes a chunk, or gives groups; an empty batch if there is nothing to give yet. Groups are given when all chunks are
    /// taken, and before if there is no memory for more of them: what comes of a group later, the final aggregate adds.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some((all, given)) = &mut self.answer {
            let rows = BATCH_ROWS.min(all.num_rows() - *given);
            if rows > 0 {
                let batch = all.slice(*given, rows);
                *given += rows;
                return Ok(Some(batch));
            }
            self.answer = None;
            self.reservation.free();
        }
        let fits = match self.tasks.next() {
            Some(task) => self.take(&task)?,
            None if self.groups.tags.is_empty() => return Ok(None),
            None => false,
        };
        if !fits {
            self.answer = Some((self.finish()?, 0));
        }
        Ok(Some(RecordBatch::new_empty(self.shared.schema.clone())))
    }

    /// Whether there is memory for what was taken.
    fn take(&mut self, task: &Task) -> Result<bool> {
        let Some(chunk) = task.directory.chunks.get(task.chunk) else {
            return internal_err!("no chunk {}", task.chunk);
        };
        let reader = task.segment.summary_reader(task.directory.clone()).map_err(external)?;
        let cells = reader.cells(chunk).map_err(external)?;
        let (places, groups) = self.pick(task, &cells);
        if groups.is_empty() {
            return Ok(true);
        }
        let shared = self.shared.clone();
        let mut fields: BTreeMap<usize, FieldCells> = BTreeMap::new();
        for (field, stats) in shared.fields.iter().filter(|(field, _)| **field < task.directory.fields.len()) {
            fields.insert(*field, reader.field(chunk, &cells, *field, *stats).map_err(external)?);
        }
        let whole = places.len() == cells.rows.len();
        let picked = Picked { cells: &cells, places: (!whole).then_some(&places) };
        self.cells.add(picked.len());
        let total = self.groups.tags.len();
        for (aggregate, accumulator) in shared.aggregates.iter().zip(&mut self.accumulators) {
            let field = match aggregate.source {
                Source::Field { field, .. } => {
                    fields.get(&field).zip(task.directory.fields.get(field)).map(|(cells, of)| (of.kind, cells))
                }
                Source::Rows | Source::Time(_) | Source::Sketch { .. } => None,
            };
            accumulator.merge_batch(&picked.states(aggregate, field)?, &groups, total)?;
        }
        let held: usize = self.accumulators.iter().map(|accumulator| accumulator.size()).sum();
        Ok(self.reservation.try_resize(held + self.groups.bytes()).is_ok())
    }

    /// The places of the cells that are asked for, and the group of each.
    fn pick(&mut self, task: &Task, cells: &Cells) -> (Vec<usize>, Vec<usize>) {
        let Some(chunk) = task.directory.chunks.get(task.chunk) else { return (Vec::new(), Vec::new()) };
        let (mut places, mut groups) = (Vec::with_capacity(chunk.cells), Vec::with_capacity(chunk.cells));
        let mut next = 0;
        for (range, count) in task.ranges.iter().skip(chunk.first_entry).zip(&cells.of_entry) {
            let of_entry = next..next + count;
            next = of_entry.end;
            let Some(tags) = self.shared.tags.group(range.series) else { continue };
            let numbers = cells.numbers.get(of_entry.clone()).unwrap_or_default();
            let before = numbers.partition_point(|number| *number < task.first);
            for (place, number) in (of_entry.start + before..).zip(numbers.iter().skip(before)) {
                let time = usize::try_from(number - task.first).ok().and_then(|at| task.groups.get(at));
                let Some(time) = time else { break };
                places.push(place);
                groups.push(self.groups.number((tags, *time)) as usize);
            }
        }
        (places, groups)
    }

    /// The groups so far; there are none afterwards.
    fn finish(&mut self) -> Result<RecordBatch> {
        let (groups, fresh) = (std::mem::take(&mut self.groups), self.shared.accumulators()?);
        let mut accumulators = std::mem::replace(&mut self.accumulators, fresh);
        let (of_tags, of_times) = (&groups.tags, &groups.times);
        let rows = of_tags.len();
        let places = UInt32Array::from(of_tags.clone());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.shared.schema.fields().len());
        for ((is_of_tags, place), field) in self.shared.keys.iter().zip(self.shared.schema.fields()) {
            columns.push(if *is_of_tags {
                let Some(keys) = self.shared.tags.columns.get(*place) else { return internal_err!("no key {place}") };
                take(keys, &places, None)?
            } else {
                let Some(ticks) = self.shared.times.columns.get(*place) else { return internal_err!("no key {place}") };
                let ticks = of_times.iter().map(|time| ticks.get(*time as usize).copied());
                cast(&ticks.collect::<Int64Array>(), field.data_type())?
            });
        }
        for accumulator in &mut accumulators {
            if rows > 0 {
                columns.extend(accumulator.state(EmitTo::All)?);
            }
        }
        if rows == 0 {
            return Ok(RecordBatch::new_empty(self.shared.schema.clone()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.shared.schema.clone(), columns, &options)?)
    }
}

impl Stream for SummaryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let elapsed = self.metrics.elapsed_compute().clone();
        let timer = elapsed.timer();
        let batch = self.next_batch();
        timer.done();
        self.metrics.record_poll(Poll::Ready(batch.transpose()))
    }
}

impl RecordBatchStream for SummaryStream {
    fn schema(&self) -> SchemaRef {
        self.shared.schema.clone()
    }
}
