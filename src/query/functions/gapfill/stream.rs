//! One partition, batch by batch.
//!
//! Input rows are gathered until they can come out: those of a group whose interpolated columns have no value yet wait.
//! Of what came out, one row is carried over: the last, with the last value of each filled column.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat, partition};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::metrics::{BaselineMetrics, RecordOutput};
use futures::{Stream, StreamExt};

use super::exec::{Rule, Spec};
use super::fill::{Filling, constant, keys, times};
use super::grid::Grid;
use super::work::{Cursor, NONE, Nearest, Run, Slots};
use crate::query::functions::arguments::ticks;
use crate::snapshot::copying::owned;

pub(super) struct GapFillStream {
    input: SendableRecordBatchStream,
    schema: SchemaRef,
    spec: Arc<Spec>,
    grid: Grid,
    /// Bytes of the grid, which stay reserved.
    grid_bytes: usize,
    reservation: MemoryReservation,
    metrics: BaselineMetrics,
    batch_rows: usize,
    /// Input that waits, the carried row first if there is one.
    pending: Vec<Vec<ArrayRef>>,
    pending_rows: usize,
    /// How many rows to wait for before looking again, after those at hand could not come out.
    wanted_rows: usize,
    carried: Option<Carried>,
    has_ended: bool,
    emitting: Option<Emitting>,
}

/// What is known of the carried row.
struct Carried {
    /// The first bin of its group that has not come out.
    number: i64,
    /// The bin of each filled column's value; any, if it has none.
    starts: Vec<i64>,
}

/// Gathered rows on their way out.
struct Emitting {
    columns: Vec<ArrayRef>,
    starts: Vec<i64>,
    /// Rows that come out, by group.
    runs: Vec<Run>,
    /// Of each filled column, in order.
    nearest: Vec<Nearest>,
    cursor: Cursor,
}

impl GapFillStream {
    pub(super) fn new(
        input: SendableRecordBatchStream,
        schema: SchemaRef,
        spec: Arc<Spec>,
        grid: Grid,
        reservation: MemoryReservation,
        metrics: BaselineMetrics,
        batch_rows: usize,
    ) -> Self {
        let grid_bytes = reservation.size();
        Self {
            input,
            schema,
            spec,
            grid,
            grid_bytes,
            reservation,
            metrics,
            batch_rows: batch_rows.max(1),
            pending: Vec::new(),
            pending_rows: 0,
            wanted_rows: 0,
            carried: None,
            has_ended: false,
            emitting: None,
        }
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.pending_rows += batch.num_rows();
            self.pending.push(batch.columns().to_vec());
            self.reserve()?;
        }
        Ok(())
    }

    fn reserve(&self) -> Result<()> {
        // A slice of what others hold too is no more than the slice.
        let size = |column: &ArrayRef| column.to_data().get_slice_memory_size();
        let held = self.pending.iter().flatten().map(size).sum::<std::result::Result<usize, _>>()?;
        // Gathering copies it once.
        self.reservation.try_resize(self.grid_bytes + 2 * held)
    }

    /// Looks at what is gathered, and begins to emit what can come out.
    fn begin(&mut self) -> Result<()> {
        let Some(columns) = self.gathered()? else { return Ok(()) };
        let rows = columns.first().map_or(0, Array::len);
        let starts = self.starts(&columns)?;
        let mut runs = self.runs(&columns, rows)?;
        let has_values = |source: usize| {
            let nulls = columns.get(source).and_then(|column| column.logical_nulls());
            move |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
        };
        let nearest = self.spec.filled().map(|(source, _)| Nearest::new(rows, &runs, has_values(source)));
        let nearest: Vec<Nearest> = nearest.collect();
        if let Some(open) = runs.last_mut().filter(|run| run.is_open) {
            open.rows.end = self.end(open, &nearest);
        }
        let cursor = Cursor::new(self.carried.as_ref().map(|carried| carried.number));
        self.emitting = Some(Emitting { columns, starts, runs, nearest, cursor });
        Ok(())
    }

    fn gathered(&mut self) -> Result<Option<Vec<ArrayRef>>> {
        let pending = std::mem::take(&mut self.pending);
        if pending.len() < 2 {
            return Ok(pending.into_iter().next());
        }
        let count = pending.first().map_or(0, Vec::len);
        let column = |place: usize| {
            let parts: Vec<&dyn Array> =
                pending.iter().filter_map(|batch| batch.get(place).map(AsRef::as_ref)).collect();
            concat(&parts)
        };
        Ok(Some((0..count).map(column).collect::<std::result::Result<Vec<_>, _>>()?))
    }

    /// The bins of all rows, in nanoseconds.
    fn starts(&self, columns: &[ArrayRef]) -> Result<Vec<i64>> {
        let Some(times) = columns.get(self.spec.time) else { return Ok(Vec::new()) };
        let tick_ns = self.spec.tick_ns;
        let start = |tick: Option<i64>| {
            tick.and_then(|tick| tick.checked_mul(tick_ns)).ok_or_else(|| {
                exec_datafusion_err!(
                    "{}: a row has no bin between the years 1677 and 2262; leave it out",
                    self.spec.function
                )
            })
        };
        ticks(times)?.iter().map(start).collect()
    }

    fn runs(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Run>> {
        let keys: Vec<ArrayRef> = self.spec.keys().filter_map(|source| columns.get(source).cloned()).collect();
        let ranges = match (keys.is_empty(), rows) {
            (_, 0) => Vec::new(),
            (true, _) => std::iter::once(0..rows).collect(),
            (false, _) => partition(&keys)?.ranges(),
        };
        let last = rows;
        let run = |rows: Range<usize>| Run { is_open: !self.has_ended && rows.end == last, rows };
        Ok(ranges.into_iter().map(run).collect())
    }

    /// Behind the last row of an open run for which nothing more need be known.
    fn end(&self, open: &Run, nearest: &[Nearest]) -> usize {
        let last = open.rows.end - 1;
        let interpolated =
            self.spec.filled().zip(nearest).filter(|((_, rule), _)| matches!(rule, Rule::Interpolate(_)));
        let known = interpolated.map(|(_, nearest)| match nearest.before.get(last).copied().unwrap_or(NONE) {
            NONE => open.rows.start,
            row => row as usize + 1,
        });
        known.min().unwrap_or(open.rows.end)
    }

    /// The next rows that come out; none if all of what was gathered did.
    fn emit(&mut self) -> Result<Option<RecordBatch>> {
        let Some(emitting) = &mut self.emitting else { return Ok(None) };
        let mut slots = Slots::default();
        let Emitting { cursor, runs, starts, .. } = emitting;
        let has_more = cursor.fill(&mut slots, self.batch_rows, runs, starts, &self.grid);
        let batch = if slots.len() > 0 { Some(self.batch(&slots)?) } else { None };
        if !has_more {
            self.carry()?;
        }
        Ok(batch)
    }

    fn batch(&self, slots: &Slots) -> Result<RecordBatch> {
        let Some(emitting) = &self.emitting else { return Ok(RecordBatch::new_empty(self.schema.clone())) };
        let mut columns = Vec::with_capacity(self.spec.columns.len());
        let mut filled = 0;
        for (column, field) in self.spec.columns.iter().zip(self.schema.fields()) {
            let Some(values) = emitting.columns.get(column.source) else { continue };
            let mut filling = |max_gap| {
                let nearest = emitting.nearest.get(filled)?;
                let carried_start = self.carried.as_ref().and_then(|carried| carried.starts.get(filled)).copied();
                filled += 1;
                Some(Filling { values, nearest, starts: &emitting.starts, carried_start, max_gap })
            };
            columns.push(match &column.rule {
                Rule::Key => keys(slots, values)?,
                Rule::Time => times(slots, field.data_type(), self.spec.tick_ns)?,
                Rule::Constant(value) => constant(slots, values, value)?,
                Rule::Locf(gap) => match filling(gap.as_ref()) {
                    Some(filling) => filling.locf(slots)?,
                    None => continue,
                },
                Rule::Interpolate(gap) => match filling(gap.as_ref()) {
                    Some(filling) => filling.interpolate(slots)?,
                    None => continue,
                },
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Leaves pending what did not come out, behind the last row that did.
    fn carry(&mut self) -> Result<()> {
        let Some(Emitting { columns, starts, runs, nearest, cursor }) = self.emitting.take() else { return Ok(()) };
        let (Some(open), false) = (runs.last().filter(|run| run.is_open), self.has_ended) else {
            self.carried = None;
            self.pending_rows = 0;
            self.wanted_rows = 0;
            return self.reserve();
        };
        let rows = columns.first().map_or(0, Array::len);
        let (end, held) = (open.rows.end, rows - open.rows.end);
        if end > open.rows.start {
            let last = end - 1;
            let mut sources = vec![last as u32; columns.len()];
            let mut carried = Vec::new();
            for ((source, _), nearest) in self.spec.filled().zip(&nearest) {
                let row = nearest.before.get(last).copied().unwrap_or(NONE);
                sources.iter_mut().skip(source).take(1).for_each(|source| *source = row);
                let of_carried = self.carried.as_ref().and_then(|before| before.starts.get(carried.len())).copied();
                carried.push(match (row, of_carried) {
                    (0, Some(start)) => start,
                    _ => starts.get(row as usize).copied().unwrap_or(i64::MIN),
                });
            }
            let one = |(column, row): (&ArrayRef, u32)| match row {
                NONE => arrow::array::new_null_array(column.data_type(), 1),
                row => column.slice(row as usize, 1),
            };
            let row = own(columns.iter().zip(sources).map(one).collect())?;
            self.pending.push(row);
            self.carried = Some(Carried { number: cursor.number(), starts: carried });
        } else if end > 0 {
            self.carried = None;
        }
        if held > 0 {
            self.pending.push(own(columns.iter().map(|column| column.slice(end, held)).collect())?);
        }
        self.pending_rows = held;
        self.wanted_rows = 2 * held;
        self.reserve()
    }
}

/// Columns that share nothing with others.
fn own(columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    let field = |column: &ArrayRef| arrow::datatypes::Field::new("", column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    Ok(owned(&RecordBatch::try_new(schema, columns)?)?.columns().to_vec())
}

impl Stream for GapFillStream {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.emitting.is_some() {
                let compute = this.metrics.elapsed_compute().clone();
                let _timer = compute.timer();
                match this.emit() {
                    Ok(Some(batch)) => return Poll::Ready(Some(Ok(batch.record_output(&this.metrics)))),
                    Ok(None) => continue,
                    Err(error) => {
                        this.emitting = None;
                        this.has_ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            if this.has_ended {
                this.metrics.done();
                return Poll::Ready(None);
            }
            let taken = match ready!(this.input.poll_next_unpin(context)) {
                Some(batch) => batch.and_then(|batch| this.take(&batch)),
                None => {
                    this.has_ended = true;
                    Ok(())
                }
            };
            let looks = this.has_ended || this.pending_rows > this.wanted_rows;
            if let Err(error) = taken.and_then(|()| if looks { this.begin() } else { Ok(()) }) {
                this.has_ended = true;
                this.pending.clear();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl RecordBatchStream for GapFillStream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
