//! Segments and live ranges as inputs of a merge, and the merged rows as a table's columns.
//!
//! Tags are not merged but gathered from the merged rows' series, which is cheaper than decoding and interleaving them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take;
use arrow::datatypes::{TimestampNanosecondType, UInt64Type};

use crate::error::{Error, Result};
use crate::model::TableSchema;
use crate::storage::segment::Segment;
use crate::storage::segment_writer::Sorted;

use super::merge::{Input, Keyed, Merge};
use super::{LiveRange, SeriesView, sort};

/// Rows of a batch of an input, if there are few inputs.
const INPUT_ROWS: usize = 8_192;
/// Rows of all inputs' batches together, from which on they become smaller.
const INPUTS_ROWS: usize = 32 * INPUT_ROWS;
/// Rows that a batch has at least: with fewer, decoding costs more than rows.
const INPUT_ROWS_MIN: usize = 512;
/// Inputs from which on a segment's file is not held open, but opened for each read.
const OPEN_FILES_MAX: usize = 16;

/// What is read of the inputs, and how their rows come out.
#[derive(Clone, Debug)]
pub(crate) struct Merging {
    schema: Arc<TableSchema>,
    series: SeriesView,
    ranks: Arc<[u32]>,
    /// Columns of a segment, by number.
    projection: Vec<usize>,
    /// Those of them that are not tags, then what rows are sorted by, unless they have it.
    stored: Vec<usize>,
    /// Of those the first that come out.
    kept: usize,
    inputs: usize,
}

impl Merging {
    /// Merges `inputs` inputs into the columns `projection` of [`TableSchema::segment_arrow`]. Of equal series and time
    /// only the last write leaves, if that is the table's policy.
    pub(crate) fn new(schema: &Arc<TableSchema>, series: &SeriesView, projection: &[usize], inputs: usize) -> Self {
        let tags = 1..schema.tags.len() + 1;
        let mut stored: Vec<usize> = projection.iter().copied().filter(|column| !tags.contains(column)).collect();
        let kept = stored.len();
        for key in std::iter::once(0).chain(clock_column(schema)) {
            if !stored.contains(&key) {
                stored.push(key);
            }
        }
        Self {
            schema: schema.clone(),
            ranks: series.ranks(),
            series: series.clone(),
            projection: projection.to_vec(),
            stored,
            kept,
            inputs,
        }
    }

    fn batch_rows(&self) -> usize {
        (INPUTS_ROWS / self.inputs.max(1)).clamp(INPUT_ROWS_MIN, INPUT_ROWS)
    }

    fn at(&self, column: usize) -> Option<usize> {
        self.stored.iter().position(|stored| *stored == column)
    }

    /// A segment, or those of its rows that `rows` and `time` leave and perhaps more.
    pub(crate) fn segment(
        &self,
        segment: &Arc<Segment>,
        rows: Option<Vec<Range<u64>>>,
        time: Option<(i64, i64)>,
    ) -> Result<Input> {
        let hold = self.inputs <= OPEN_FILES_MAX;
        let batches = segment.read_sorted(&self.schema, &self.stored, rows, time, (self.batch_rows(), hold))?;
        let (merging, segment) = (self.clone(), segment.clone());
        Ok(Box::new(batches.map(move |sorted| {
            let sorted = sorted?;
            merging.keyed(sorted).map_err(|reason| segment.damaged(reason))
        })))
    }

    /// Rows with their keys; what is wrong with them, if anything is.
    fn keyed(&self, Sorted { series, mut columns }: Sorted) -> std::result::Result<Keyed, String> {
        let unknown = |series: &u32| format!("a row of series {series}, the series log has {}", self.ranks.len());
        let rank = |series: &u32| self.ranks.get(*series as usize).copied().ok_or_else(|| unknown(series));
        let ranks = series.iter().map(rank).collect::<std::result::Result<Vec<u32>, _>>()?;
        let key = |column: usize| self.at(column).and_then(|at| columns.get(at));
        let times = key(0).and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
        let times = times.ok_or("its column time is none of times")?.values().clone();
        let clocks = match clock_column(&self.schema) {
            Some(column) => {
                let clocks = key(column).and_then(|clocks| clocks.as_primitive_opt::<UInt64Type>());
                Some(clocks.filter(|clocks| clocks.null_count() == 0).ok_or("it has no clocks")?.values().clone())
            }
            None => None,
        };
        if times.len() != series.len() {
            return Err("its series index counts other rows".into());
        }
        columns.truncate(self.kept);
        Ok(Keyed { ranks, series, times, clocks, columns })
    }

    /// Rows of a live range, sorted. `rows` is all of them if it is `None`.
    pub(crate) fn live(&self, range: &LiveRange, rows: Option<Vec<u32>>) -> Result<Input> {
        let (all_series, all_times) = (range.series_ids(), range.times());
        range.check_series(&all_series, self.ranks.len())?;
        let of = |rows: &[u32]| -> (Vec<u32>, Vec<i64>) {
            let row = |row: &u32| Some((*all_series.get(*row as usize)?, *all_times.get(*row as usize)?));
            rows.iter().filter_map(row).unzip()
        };
        let order = match rows {
            None => sort::order(&all_series, &all_times, &self.ranks),
            Some(rows) => {
                let (series, times) = of(&rows);
                let order = sort::order(&series, &times, &self.ranks);
                order.into_iter().filter_map(|place| rows.get(place as usize).copied()).collect()
            }
        };
        let clocks = range.clocks();
        let order = match &clocks {
            Some(clocks) => sort::by_clock(order, &all_series, &all_times, clocks),
            None => order,
        };
        let clock_column = clock_column(&self.schema);
        let stored: Vec<usize> = self.stored.iter().copied().filter(|column| Some(*column) != clock_column).collect();
        let batch = range.batch(&self.series, &self.schema, &stored, 0..range.rows())?;
        let (merging, batch_rows, mut next) = (self.clone(), self.batch_rows(), 0);
        Ok(Box::new(std::iter::from_fn(move || {
            let rows = order.get(next..order.len().min(next + batch_rows)).filter(|rows| !rows.is_empty())?;
            next += rows.len();
            Some(merging.gather(batch.columns(), clocks.as_ref(), &all_series, rows))
        })))
    }

    fn gather(
        &self,
        columns: &[ArrayRef],
        clocks: Option<&ScalarBuffer<u64>>,
        series: &[u32],
        rows: &[u32],
    ) -> Result<Keyed> {
        let failed = |error: arrow::error::ArrowError| Error::batch(&self.schema.name, error);
        let indices = UInt32Array::from(rows.to_vec());
        let mut stored = columns.iter();
        let mut gathered: Vec<ArrayRef> = Vec::with_capacity(self.stored.len());
        for column in &self.stored {
            if let Some(clocks) = clocks.filter(|_| Some(*column) == clock_column(&self.schema)) {
                let clocks = rows.iter().filter_map(|row| clocks.get(*row as usize).copied());
                gathered.push(Arc::new(arrow::array::UInt64Array::from_iter_values(clocks)));
            } else if let Some(column) = stored.next() {
                let taken = take(column, &indices, None).map_err(failed)?;
                // Else each batch carries the heap of the whole range.
                gathered.push(taken.as_string_view_opt().map_or(taken.clone(), |texts| Arc::new(texts.gc())));
            }
        }
        let series = rows.iter().filter_map(|row| series.get(*row as usize).copied()).collect();
        self.keyed(Sorted { series, columns: gathered }).map_err(|reason| Error::batch(&self.schema.name, reason))
    }

    /// The merged rows.
    pub(crate) fn merge(self, inputs: Vec<Input>) -> Merged {
        let merge = Merge::new(inputs, self.schema.has_clock(), INPUT_ROWS);
        Merged { merging: self, merge }
    }
}

/// The number of the hidden column of clocks in a segment, if the table has it.
fn clock_column(schema: &TableSchema) -> Option<usize> {
    let name = crate::model::table::clock_column();
    schema.has_clock().then(|| schema.segment_arrow().index_of(&name).ok()).flatten()
}

/// Merged rows, in batches of the columns that were asked for.
pub(crate) struct Merged {
    merging: Merging,
    merge: Merge,
}

impl Merged {
    /// Rows taken from the inputs so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.merge.consumed()
    }
}

impl Iterator for Merged {
    type Item = Result<Sorted>;

    fn next(&mut self) -> Option<Self::Item> {
        let Sorted { series, columns } = match self.merge.next()? {
            Ok(sorted) => sorted,
            Err(error) => return Some(Err(error)),
        };
        let tags = self.merging.schema.tags.len();
        let column = |column: &usize| -> Result<ArrayRef> {
            if (1..=tags).contains(column) {
                return Ok(Arc::new(self.merging.series.tag_column(column - 1, &series)?));
            }
            let stored = self.merging.at(*column).and_then(|at| columns.get(at)).cloned();
            stored.ok_or_else(|| Error::batch(&self.merging.schema.name, format!("no column {column}")))
        };
        let columns = self.merging.projection.iter().map(column).collect::<Result<_>>();
        Some(columns.map(|columns| Sorted { series, columns }))
    }
}
