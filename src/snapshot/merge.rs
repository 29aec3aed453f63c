//! Merging inputs that are sorted by series, time and clock into one.
//!
//! The order is that of segments: the series' rank by tags, then time, then the hybrid logical clock, then the number of
//! the input. Each input gives batches in that order, each row with its series, since a segment's index and a live block
//! know it. Rows leave as runs: from the input whose head is first, all that come before the next input's head, found by
//! galloping; so inputs that hardly overlap cost a comparison a batch, and only rows that alternate cost one each.
//!
//! **Invariant:** what leaves is in that order, if each input is.
//!
//! **Invariant (last write):** of rows of equal series and time only the one of the highest clock leaves. They follow one
//! another in the order, so a row is held back until the next one is known to be another's.
//!
//! **Invariant (memory):** a merge holds a batch of each input, and of batches that rows under way refer to as many again.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::interleave;

use crate::error::{Error, Result};
use crate::storage::segment_writer::Sorted;

/// Rows of an input with what they are sorted by. All of one length.
#[derive(Debug)]
pub(crate) struct Keyed {
    /// The place of each row's series in the order of tags.
    pub(crate) ranks: Vec<u32>,
    pub(crate) series: Vec<u32>,
    pub(crate) times: ScalarBuffer<i64>,
    /// `None` where no write takes another's place.
    pub(crate) clocks: Option<ScalarBuffer<u64>>,
    pub(crate) columns: Vec<ArrayRef>,
}

/// An input: its batches in order.
pub(crate) type Input = Box<dyn Iterator<Item = Result<Keyed>> + Send>;

/// What rows are sorted by.
type Key = (u32, i64, u64);

impl Keyed {
    fn rows(&self) -> usize {
        self.series.len()
    }

    /// The key of a row that is there.
    fn key(&self, row: usize) -> Key {
        let (rank, time) = self.point(row);
        let clock = self.clocks.as_ref().and_then(|clocks| clocks.get(row)).copied().unwrap_or_default();
        (rank, time, clock)
    }

    /// Series and time: what only one row may have if the last write wins.
    fn point(&self, row: usize) -> (u32, i64) {
        let rank = self.ranks.get(row).copied().unwrap_or(u32::MAX);
        (rank, self.times.get(row).copied().unwrap_or(i64::MAX))
    }

    /// The first row from `from` on that `before` does not hold for, if it holds for a prefix and for `from`.
    fn gallop(&self, from: usize, before: impl Fn(Key) -> bool) -> usize {
        let (mut low, mut step) = (from, 1);
        while low + step < self.rows() && before(self.key(low + step)) {
            low += step;
            step *= 2;
        }
        // It holds for `low`, and not for `high`.
        let mut high = self.rows().min(low + step);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if before(self.key(middle)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

/// An input with its batch of the moment.
struct Reading {
    batches: Input,
    batch: Arc<Keyed>,
    row: usize,
    /// Which of the batches under way its batch is, if rows of it are.
    place: Option<usize>,
}

/// The sorted rows of all inputs.
pub(crate) struct Merge {
    inputs: Vec<Reading>,
    heads: BinaryHeap<Reverse<(Key, usize)>>,
    last_write: bool,
    batch_rows: usize,
    out: Chunk,
    /// The last row of those taken, if the last write wins: the next may take its place.
    held: Option<(Arc<Keyed>, usize)>,
    consumed: u64,
    /// Opened when the first row is asked for.
    unopened: Vec<Input>,
    failed: bool,
}

impl Merge {
    /// Merges `inputs` into batches of about `batch_rows`; of equal (series, time) only the last write leaves if
    /// `last_write`.
    pub(crate) fn new(inputs: Vec<Input>, last_write: bool, batch_rows: usize) -> Self {
        Self {
            inputs: Vec::with_capacity(inputs.len()),
            heads: BinaryHeap::with_capacity(inputs.len()),
            last_write,
            batch_rows: batch_rows.max(1),
            out: Chunk::default(),
            held: None,
            consumed: 0,
            unopened: inputs,
            failed: false,
        }
    }

    /// Rows taken from the inputs so far: those that left, and those whose place another took.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    fn open(&mut self) -> Result<()> {
        for mut batches in std::mem::take(&mut self.unopened) {
            if let Some(batch) = next_filled(&mut batches)? {
                self.heads.push(Reverse((batch.key(0), self.inputs.len())));
                self.inputs.push(Reading { batches, batch, row: 0, place: None });
            }
        }
        Ok(())
    }

    /// The next batch; `None` at the end.
    fn next_batch(&mut self) -> Result<Option<Sorted>> {
        self.open()?;
        // With few rows of many batches, as where most are overwritten, a batch is given out early.
        let batches_max = 2 * self.inputs.len() + 2;
        while self.out.rows < self.batch_rows && self.out.batches.len() < batches_max {
            let Some(Reverse((_, first))) = self.heads.pop() else {
                if let Some((batch, row)) = self.held.take() {
                    self.out.push_of(&batch, row);
                }
                break;
            };
            self.take_run(first)?;
        }
        let out = std::mem::take(&mut self.out);
        self.inputs.iter_mut().for_each(|input| input.place = None);
        if out.rows == 0 { Ok(None) } else { out.finish().map(Some) }
    }

    /// Takes the rows of input number `first` that come before all others' heads, and puts its next head back.
    fn take_run(&mut self, first: usize) -> Result<()> {
        let room = self.batch_rows - self.out.rows;
        let Some(input) = self.inputs.get_mut(first) else { return Ok(()) };
        let end = match self.heads.peek() {
            Some(Reverse(next)) => input.batch.gallop(input.row, |key| (key, first) < *next),
            None => input.batch.rows(),
        };
        let rows = input.row..end.min(input.row + room);
        self.consumed += rows.len() as u64;
        input.row = rows.end;
        if self.last_write {
            self.out.push_last_writes(&mut self.held, input, rows);
        } else {
            self.out.push(input, rows);
        }
        if input.row == input.batch.rows() {
            match next_filled(&mut input.batches)? {
                Some(batch) => (input.batch, input.row, input.place) = (batch, 0, None),
                None => return Ok(()),
            }
        }
        self.heads.push(Reverse((input.batch.key(input.row), first)));
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = Result<Sorted>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.next_batch();
        // What is left of an input that failed is not known, so nothing that follows it can be.
        self.failed = batch.is_err();
        batch.transpose()
    }
}

/// The next batch that has rows.
fn next_filled(batches: &mut Input) -> Result<Option<Arc<Keyed>>> {
    let filled = batches.find(|batch| batch.as_ref().map_or(true, |batch| batch.rows() > 0));
    Ok(filled.transpose()?.map(Arc::new))
}

/// Rows under way: runs of rows of some batches.
#[derive(Default)]
struct Chunk {
    batches: Vec<Arc<Keyed>>,
    runs: Vec<(usize, Range<usize>)>,
    rows: usize,
}

impl Chunk {
    fn push(&mut self, input: &mut Reading, rows: Range<usize>) {
        if rows.is_empty() {
            return;
        }
        let place = *input.place.get_or_insert_with(|| {
            self.batches.push(input.batch.clone());
            self.batches.len() - 1
        });
        self.push_at(place, rows);
    }

    /// Adds one row of a batch that may be its input's no more.
    fn push_of(&mut self, batch: &Arc<Keyed>, row: usize) {
        let known = self.batches.iter().rposition(|known| Arc::ptr_eq(known, batch));
        let place = known.unwrap_or_else(|| {
            self.batches.push(batch.clone());
            self.batches.len() - 1
        });
        self.push_at(place, row..row + 1);
    }

    fn push_at(&mut self, place: usize, rows: Range<usize>) {
        self.rows += rows.len();
        match self.runs.last_mut() {
            Some((last, run)) if *last == place && run.end == rows.start => run.end = rows.end,
            _ => self.runs.push((place, rows)),
        }
    }

    /// Adds of `rows` those that the next one does not take the place of; the last of them is held.
    fn push_last_writes(&mut self, held: &mut Option<(Arc<Keyed>, usize)>, input: &mut Reading, rows: Range<usize>) {
        let batch = input.batch.clone();
        if let Some((other, row)) = held.take()
            && other.point(row) != batch.point(rows.start)
        {
            if Arc::ptr_eq(&other, &batch) {
                self.push(input, row..row + 1);
            } else {
                self.push_of(&other, row);
            }
        }
        let last = rows.end - 1;
        let mut from = rows.start;
        for row in rows.start..last {
            if batch.point(row) == batch.point(row + 1) {
                self.push(input, from..row);
                from = row + 1;
            }
        }
        self.push(input, from..last);
        *held = Some((batch, last));
    }

    fn finish(self) -> Result<Sorted> {
        if let ([batch], [(_, rows)]) = (&*self.batches, &*self.runs) {
            let series = batch.series.get(rows.clone()).unwrap_or_default().to_vec();
            let columns = batch.columns.iter().map(|column| column.slice(rows.start, rows.len())).collect();
            return Ok(Sorted { series, columns });
        }
        let indices: Vec<(usize, usize)> =
            self.runs.iter().flat_map(|(place, rows)| rows.clone().map(|row| (*place, row))).collect();
        let series_of = |(place, row): &(usize, usize)| Some(*self.batches.get(*place)?.series.get(*row)?);
        let series = indices.iter().filter_map(series_of).collect();
        let columns = self.batches.first().map_or(0, |batch| batch.columns.len());
        let column = |number: usize| {
            let parts: Vec<&dyn Array> =
                self.batches.iter().filter_map(|batch| batch.columns.get(number)).map(AsRef::as_ref).collect();
            let merged = interleave(&parts, &indices).map_err(|error| Error::batch("", error))?;
            // Else a few texts carry the heaps of all batches, and every operator counts those again.
            Ok(merged.as_string_view_opt().map_or(merged.clone(), |texts| Arc::new(texts.gc()) as ArrayRef))
        };
        Ok(Sorted { series, columns: (0..columns).map(column).collect::<Result<_>>()? })
    }
}
