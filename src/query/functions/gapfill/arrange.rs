//! Brings rows of a group together, their bins ascending.
//!
//! A sort by group keys and bins compares keys as often as it compares rows. There are few groups and many bins of
//! each, and an aggregate mostly gives the bins of one in order, as it saw them. So rows are dealt to their groups by
//! hash, groups alone are sorted by their keys, and bins where they are not in order.
//!
//! **Invariants:**
//! - Rows come out once each and unchanged, in the order of [`Arrangement::order`]; rows that are equal in it, in any.
//! - What is held is reserved before more is asked for, and with it what putting it into order takes. What the pool
//!   does not grant goes to disk by [`SortExec`], in the same order: little memory makes it slower, and no other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::compute::{interleave, interleave_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::internal_datafusion_err;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt, stream};

use crate::query::functions::arguments::ticks;

/// By what rows are arranged.
#[derive(Clone, Debug)]
pub(super) struct Arrangement {
    /// Places of the group keys.
    pub(super) keys: Vec<usize>,
    /// The place of the bins.
    pub(super) time: usize,
    /// The keys, then the bins, ascending.
    pub(super) order: LexOrdering,
}

/// What an arrangement of one partition is counted and timed by.
pub(super) struct Measures {
    compute: Time,
    /// Partitions that had to be sorted, since memory was short.
    sorts: Count,
}

impl Measures {
    pub(super) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize, compute: Time) -> Self {
        Self { compute, sorts: MetricBuilder::new(metrics).counter("sorted_partitions", partition) }
    }
}

/// The rows of `input`, arranged.
pub(super) fn arranged(
    input: SendableRecordBatchStream,
    arrangement: Arrangement,
    context: Arc<TaskContext>,
    partition: usize,
    measures: Measures,
) -> Result<SendableRecordBatchStream> {
    let schema = input.schema();
    let consumer = MemoryConsumer::new(format!("GapFillRows[{partition}]")).with_can_spill(true);
    let reservation = consumer.register(context.memory_pool());
    let headroom = context.session_config().options().execution.sort_spill_reservation_bytes;
    let gathering = Gathering::new(arrangement, &schema, reservation, headroom)?;
    let rows = stream::once(rows(input, gathering, context, measures)).try_flatten();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

async fn rows(
    mut input: SendableRecordBatchStream,
    mut gathering: Gathering,
    context: Arc<TaskContext>,
    measures: Measures,
) -> Result<SendableRecordBatchStream> {
    while let Some(batch) = input.next().await {
        let batch = batch?;
        let _timer = measures.compute.timer();
        if !gathering.take(batch)? {
            measures.sorts.add(1);
            return gathering.sorted(input, &context);
        }
    }
    // What the input was made of is free for what comes.
    drop(input);
    let _timer = measures.compute.timer();
    gathering.ordered(context.session_config().batch_size().max(1), measures.compute.clone())
}

struct Gathering {
    arrangement: Arrangement,
    schema: SchemaRef,
    /// Numbers of the groups; none if there are no keys, and so one group.
    groups: Option<Box<dyn GroupValues>>,
    parts: Vec<Part>,
    rows: usize,
    held: RecordBatchMemoryCounter,
    reservation: MemoryReservation,
    /// What a sort has to have before it takes its first row: kept, so that it has it if it comes to that.
    headroom: usize,
    numbers: Vec<usize>,
}

struct Part {
    batch: RecordBatch,
    /// Of each row; empty if there is one group.
    groups: Vec<u32>,
}

/// A row among those gathered.
#[derive(Clone, Copy, Default)]
struct Place {
    tick: i64,
    part: u32,
    row: u32,
}

/// What is held of each group while it is put into order, but for its keys.
const GROUP_BYTES: usize = 64;

impl Gathering {
    fn new(
        arrangement: Arrangement,
        schema: &SchemaRef,
        reservation: MemoryReservation,
        headroom: usize,
    ) -> Result<Self> {
        let groups = if arrangement.keys.is_empty() {
            None
        } else {
            let keys = Arc::new(Schema::project(schema, &arrangement.keys)?);
            Some(new_group_values(keys, &GroupOrdering::None)?)
        };
        let (schema, held) = (schema.clone(), RecordBatchMemoryCounter::new());
        Ok(Self {
            arrangement,
            schema,
            groups,
            parts: Vec::new(),
            rows: 0,
            held,
            reservation,
            headroom,
            numbers: Vec::new(),
        })
    }

    /// Takes rows, and says whether there is memory to go on; if not, they are kept, and they have no groups.
    fn take(&mut self, batch: RecordBatch) -> Result<bool> {
        if batch.num_rows() == 0 {
            return Ok(true);
        }
        self.held.count_batch(&batch);
        self.rows += batch.num_rows();
        let mut part = Part { batch, groups: Vec::new() };
        let mut fits = self.fits();
        if fits && let Some(groups) = &mut self.groups {
            groups.intern(&keys(&part.batch, &self.arrangement.keys), &mut self.numbers)?;
            // More groups than that do not fit.
            part.groups = self.numbers.iter().map(|number| *number as u32).collect();
            fits = self.fits();
        }
        self.parts.push(part);
        Ok(fits)
    }

    /// Reserves what is held, and what will be when it is put into order.
    fn fits(&self) -> bool {
        let (groups, keys) = self.groups.as_ref().map_or((1, 0), |groups| (groups.len(), groups.size()));
        let rows = self.rows * (size_of::<u32>() + size_of::<Place>());
        // Keys are held once more as rows that can be compared, and as their columns.
        let bytes = self.held.memory_usage() + rows + 3 * keys + groups * GROUP_BYTES;
        groups < u32::MAX as usize
            && self.parts.len() < u32::MAX as usize
            && self.reservation.try_resize(bytes + self.headroom).is_ok()
    }

    /// Rows gathered in order, in batches.
    fn ordered(mut self, batch_rows: usize, compute: Time) -> Result<SendableRecordBatchStream> {
        let mut places = self.places()?;
        places.shrink_to_fit();
        self.parts.iter_mut().for_each(|part| part.groups = Vec::new());
        self.groups = None;
        self.reservation.try_resize(self.held.memory_usage() + size_of_val(places.as_slice()))?;
        let schema = self.schema.clone();
        let batches = stream::iter((0..places.len()).step_by(batch_rows)).map(move |first| {
            let _timer = compute.timer();
            let places = places.get(first..places.len().min(first + batch_rows)).unwrap_or(&[]);
            let picks: Vec<_> = places.iter().map(|place| (place.part as usize, place.row as usize)).collect();
            let batches: Vec<&RecordBatch> = self.parts.iter().map(|part| &part.batch).collect();
            Ok(interleave_record_batch(&batches, &picks)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn places(&self) -> Result<Vec<Place>> {
        let mut ends = self.begins()?;
        let mut places = vec![Place::default(); self.rows];
        for (number, part) in self.parts.iter().enumerate() {
            let ticks = bins(&part.batch, self.arrangement.time)?;
            let groups = part.groups.iter().copied().chain(std::iter::repeat(0));
            for (row, (tick, group)) in ticks.iter().zip(groups).enumerate() {
                // A null is refused when it comes out.
                let tick = tick.unwrap_or(i64::MIN);
                if let Some(end) = ends.get_mut(group as usize) {
                    if let Some(place) = places.get_mut(*end) {
                        *place = Place { tick, part: number as u32, row: row as u32 };
                    }
                    *end += 1;
                }
            }
        }
        // Groups lie in some order, one behind another.
        ends.sort_unstable();
        let mut rest = places.as_mut_slice();
        let mut begin = 0;
        for end in ends {
            let (group, behind) = rest.split_at_mut_checked(end - begin).unwrap_or_default();
            if !group.is_sorted_by_key(|place| place.tick) {
                // A stable sort makes use of runs, of which there are as many as the aggregate had inputs.
                group.sort_by_key(|place| place.tick);
            }
            (rest, begin) = (behind, end);
        }
        Ok(places)
    }

    /// Where each group begins, among all rows in order.
    fn begins(&self) -> Result<Vec<usize>> {
        let Some(groups) = &self.groups else { return Ok(vec![0]) };
        let mut counts = vec![0_usize; groups.len()];
        let mut firsts = Vec::with_capacity(groups.len());
        for (number, part) in self.parts.iter().enumerate() {
            for (row, group) in part.groups.iter().enumerate() {
                if let Some(count) = counts.get_mut(*group as usize) {
                    // Groups are numbered as they were seen.
                    if *count == 0 {
                        firsts.push((number, row));
                    }
                    *count += 1;
                }
            }
        }
        let mut begin = 0;
        let mut begins = vec![0; counts.len()];
        for group in self.by_key(&firsts)? {
            if let (Some(at), Some(count)) = (begins.get_mut(group), counts.get(group)) {
                *at = begin;
                begin += count;
            }
        }
        Ok(begins)
    }

    /// Numbers of groups by their keys, of which each group has one row in `firsts`.
    fn by_key(&self, firsts: &[(usize, usize)]) -> Result<Vec<usize>> {
        let mut numbers: Vec<usize> = (0..firsts.len()).collect();
        if numbers.len() < 2 {
            return Ok(numbers);
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (key, sort) in self.arrangement.keys.iter().zip(self.arrangement.order.iter()) {
            let parts: Vec<&dyn Array> = self.parts.iter().map(|part| part.batch.column(*key).as_ref()).collect();
            columns.push(interleave(&parts, firsts)?);
            fields.push(SortField::new_with_options(self.schema.field(*key).data_type().clone(), sort.options));
        }
        let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
        numbers.sort_unstable_by(|one, other| rows.row(*one).cmp(&rows.row(*other)));
        Ok(numbers)
    }

    /// Rows gathered and the rest, sorted with the help of the disk.
    fn sorted(
        mut self,
        rest: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.groups = None;
        let mut parts: VecDeque<Part> = self.parts.into();
        let share = self.held.memory_usage().div_ceil(parts.len().max(1));
        let reservation = self.reservation;
        // Less than was reserved. The last batch is not, as one that the sort below takes is not before it does.
        reservation.try_resize(reservation.size().min(share * parts.len().saturating_sub(1)))?;
        let gathered = stream::iter(std::iter::from_fn(move || {
            let part = parts.pop_front()?;
            reservation.shrink(share.min(reservation.size()));
            Some(Ok(part.batch))
        }));
        let all = RecordBatchStreamAdapter::new(self.schema.clone(), gathered.chain(rest));
        let once = Once { schema: self.schema.clone(), rows: Mutex::new(Some(Box::pin(all))) };
        let input = StreamingTableExec::try_new(self.schema, vec![Arc::new(once)], None, [], false, None)?;
        SortExec::new(self.arrangement.order, Arc::new(input)).execute(0, context.clone())
    }
}

fn keys(batch: &RecordBatch, places: &[usize]) -> Vec<ArrayRef> {
    places.iter().filter_map(|place| batch.columns().get(*place).cloned()).collect()
}

fn bins(batch: &RecordBatch, place: usize) -> Result<Int64Array> {
    let column = batch.columns().get(place);
    ticks(column.ok_or_else(|| internal_datafusion_err!("gap filling has no bins in its input"))?)
}

/// Rows that can be had once, as an input of a plan.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
        rows.unwrap_or_else(|| {
            let twice = stream::iter([Err(internal_datafusion_err!("gathered rows are read twice"))]);
            Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), twice))
        })
    }
}
