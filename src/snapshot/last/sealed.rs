//! The latest rows in segments: from the series indexes, and their values once they were asked for.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array, new_empty_array, new_null_array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{TimestampNanosecondType, UInt64Type};
use hashbrown::{HashMap, HashSet};

use super::{Found, LIMIT, Place};
use crate::error::{Error, Result};
use crate::snapshot::copying::owned;
use crate::snapshot::{Segment, TableView};

/// Rows of a batch that is read.
const BATCH_ROWS: usize = 8_192;
/// Bytes of an entry, and of the key of one value of it.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<Key>();

/// A row by the number of its segment, which no other ever has, and its number in it.
type Key = (u64, u64);
const NO_KEY: Key = (u64::MAX, u64::MAX);

/// The latest row of a series in segments.
#[derive(Clone, Copy, Debug)]
struct Entry {
    time: i64,
    /// [`NO_KEY`] if there is none.
    key: Key,
    /// Whether its segment has other rows of the series.
    follows: bool,
    /// Whether another segment has a row of the series and this time.
    tied: bool,
}

const NO_ENTRY: Entry = Entry { time: i64::MIN, key: NO_KEY, follows: false, tied: false };

/// Values by series, each with the row that it is of.
#[derive(Debug)]
struct Values {
    keys: Vec<Key>,
    values: ArrayRef,
}

#[derive(Debug, Default)]
pub(super) struct Sealed {
    /// Numbers of the segments that are in it, in the order of the view.
    segments: Vec<u64>,
    /// Their places in the view.
    numbers: HashMap<u64, usize>,
    /// By series.
    entries: Vec<Entry>,
    /// By [`lasting`] number of a column of a segment.
    columns: HashMap<usize, Values>,
    ties: Option<Values>,
}

impl Sealed {
    fn value_bytes(&self) -> usize {
        let of = |values: &Values| values.keys.capacity() * size_of::<Key>() + values.values.get_array_memory_size();
        self.columns.values().chain(&self.ties).map(of).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.value_bytes() + self.bytes_without_values()
    }

    pub(super) fn bytes_without_values(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.segments.capacity() * 32
    }

    pub(super) fn forget_values(&mut self) {
        self.columns.clear();
        self.ties = None;
    }

    /// Takes in what segments have come, or all of them if one has gone.
    pub(super) fn catch_up(&mut self, view: &TableView) -> Result<()> {
        let now = || view.segments.iter().map(|segment| segment.meta.id);
        if now().eq(self.segments.iter().copied()) {
            return Ok(());
        }
        let there: HashSet<u64> = now().collect();
        let mut known: HashSet<u64> = std::mem::take(&mut self.segments).into_iter().collect();
        let mut entries = std::mem::take(&mut self.entries);
        if !known.is_subset(&there) {
            known.clear();
            entries.clear();
        }
        // From here to the end it is of no view, so that an index that cannot be read leaves nothing half done.
        self.numbers = now().zip(0..).collect();
        entries.resize(view.series.len().max(entries.len()), NO_ENTRY);
        for segment in view.segments.iter().filter(|segment| !known.contains(&segment.meta.id)) {
            self.take_in(view, segment, &mut entries)?;
        }
        self.entries = entries;
        self.segments = now().collect();
        Ok(())
    }

    fn take_in(&self, view: &TableView, segment: &Arc<Segment>, entries: &mut [Entry]) -> Result<()> {
        let has_clock = view.schema.has_clock();
        for range in segment.series_ranges(&view.schema)?.iter().filter(|range| range.rows > 0) {
            let Some(held) = entries.get_mut(range.series as usize) else { continue };
            let key = (segment.meta.id, range.row_start + range.rows - 1);
            let mut entry = Entry { time: range.max_time, key, follows: range.rows > 1, tied: false };
            if held.key != NO_KEY {
                if held.time > entry.time {
                    continue;
                }
                entry.tied = held.time == entry.time;
                if entry.tied && has_clock && self.clock(view, held.key)? > self.clock(view, key)? {
                    held.tied = true;
                    continue;
                }
            }
            *held = entry;
        }
        Ok(())
    }

    fn clock(&self, view: &TableView, key: Key) -> Result<u64> {
        self.numbers.get(&key.0).map_or(Ok(0), |number| clock(view, *number, key.1))
    }

    pub(super) fn find(&self, series: u32) -> Option<Found> {
        let entry = self.entries.get(series as usize).filter(|entry| entry.key != NO_KEY)?;
        let number = *self.numbers.get(&entry.key.0)?;
        Some(Found { time: entry.time, place: Place::Segment { number, row: entry.key.1 }, tied: entry.tied })
    }

    fn key(&self, series: u32) -> Key {
        self.entries.get(series as usize).map_or(NO_KEY, |entry| entry.key)
    }

    /// Series of `series` whose row is not that of `values`, with their keys, in the order in which rows are read.
    fn missing(&self, values: Option<&Values>, series: &[u32]) -> Vec<(Key, u32)> {
        let has = |series: u32| values.and_then(|values| values.keys.get(series as usize)).copied();
        let wanted = series.iter().map(|series| (self.key(*series), *series));
        wanted.filter(|(key, series)| *key != NO_KEY && has(*series) != Some(*key)).collect()
    }

    /// See [`LastTable::sealed_values`](super::LastTable::sealed_values). All values together have `room` bytes.
    pub(super) fn values(
        &mut self,
        view: &TableView,
        columns: &[usize],
        series: &[u32],
        room: usize,
    ) -> Result<Vec<ArrayRef>> {
        match self.values_beside(view, columns, series, room) {
            // What was asked for before makes way for what is asked for now.
            Err(Error::LimitExceeded { limit: LIMIT, .. }) if self.value_bytes() > 0 => {
                self.forget_values();
                self.values_beside(view, columns, series, room)
            }
            values => values,
        }
    }

    /// The same beside all values that are held.
    fn values_beside(
        &mut self,
        view: &TableView,
        columns: &[usize],
        series: &[u32],
        room: usize,
    ) -> Result<Vec<ArrayRef>> {
        let fields = view.schema.segment_arrow();
        let mut missing: Vec<(Key, u32)> =
            columns.iter().flat_map(|at| self.missing(self.columns.get(&lasting(view, *at)), series)).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            // Each column has a place for every series.
            let new = columns.iter().filter(|at| !self.columns.contains_key(&lasting(view, **at)));
            let width = |at: &usize| fields.fields().get(*at).and_then(|field| field.data_type().primitive_width());
            let places: usize =
                new.map(|at| view.series.len().saturating_mul(size_of::<Key>() + width(at).unwrap_or(1))).sum();
            let rows = missing.iter().map(|(key, _)| (*key, 1));
            let read = self.read(view, columns, rows, (self.value_bytes() + places, room))?;
            for (column, read) in columns.iter().map(|at| lasting(view, *at)).zip(read) {
                let known = self.columns.remove(&column);
                self.columns.insert(column, patched(known, &missing, &read, view.series.len())?);
            }
        }
        let index = UInt32Array::from(series.to_vec());
        let of = |column: &usize| match self.columns.get(&lasting(view, *column)) {
            Some(values) => take(&values.values, &index, None).map_err(|error| Error::batch(view.schema.name(), error)),
            None => {
                let field =
                    fields.fields().get(*column).ok_or_else(|| Error::batch(view.schema.name(), "no such column"))?;
                Ok(new_null_array(field.data_type(), series.len()))
            }
        };
        columns.iter().map(of).collect()
    }

    /// See [`LastTable::sealed_ties`](super::LastTable::sealed_ties).
    pub(super) fn ties(&mut self, view: &TableView, series: &[u32]) -> Result<Vec<bool>> {
        let follows = |series: &u32| self.entries.get(*series as usize).is_some_and(|entry| entry.follows);
        let followers: Vec<u32> = series.iter().copied().filter(follows).collect();
        let mut missing = self.missing(self.ties.as_ref(), &followers);
        if !missing.is_empty() {
            missing.sort_unstable();
            let pairs = missing.iter().map(|((segment, row), _)| ((*segment, row.saturating_sub(1)), 2));
            // Sixteen bytes a series.
            let read = self.read(view, &[0], pairs, (0, usize::MAX))?;
            let times = read.first().and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
            let times = times.map(|times| times.values().clone()).unwrap_or_default();
            let ties: BooleanArray = times.chunks_exact(2).map(|pair| Some(matches!(pair, [a, b] if a == b))).collect();
            let ties: ArrayRef = Arc::new(ties);
            self.ties = Some(patched(self.ties.take(), &missing, &ties, view.series.len())?);
        }
        let known = self.ties.as_ref().and_then(|ties| ties.values.as_boolean_opt());
        let tied = |series: &u32| {
            let at = *series as usize;
            follows(series) && known.is_some_and(|ties| at < ties.len() && ties.is_valid(at) && ties.value(at))
        };
        Ok(series.iter().map(tied).collect())
    }

    /// Reads runs of rows, which ascend within each segment, those of one segment behind one another. An error as soon as
    /// they have more than `room` bytes with the `held` ones.
    fn read(
        &self,
        view: &TableView,
        columns: &[usize],
        runs: impl Iterator<Item = (Key, u64)>,
        (mut held, room): (usize, usize),
    ) -> Result<Vec<ArrayRef>> {
        let failed = |error| Error::batch(view.schema.name(), error);
        let mut by_segment: Vec<(u64, Vec<Range<u64>>)> = Vec::new();
        for ((segment, row), rows) in runs {
            if by_segment.last().is_none_or(|(last, _)| *last != segment) {
                by_segment.push((segment, Vec::new()));
            }
            let Some((_, ranges)) = by_segment.last_mut() else { continue };
            match ranges.last_mut() {
                Some(last) if last.end == row => last.end = row + rows,
                _ => ranges.push(row..row + rows),
            }
        }
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); columns.len()];
        for (segment, ranges) in by_segment {
            let number = self.numbers.get(&segment).copied();
            let Some(segment) = number.and_then(|number| view.segments.get(number)) else { continue };
            for batch in segment.read(&view.schema, columns, Some(ranges), None, BATCH_ROWS)? {
                let batch = owned(&batch?).map_err(failed)?;
                held = held.saturating_add(batch.get_array_memory_size());
                if held > room {
                    return Err(Error::LimitExceeded {
                        limit: LIMIT,
                        max: room as u64,
                        found: held as u64,
                        place: format!("bytes of the last values of table {}", view.schema.name()),
                    });
                }
                parts.iter_mut().zip(batch.columns()).for_each(|(parts, column)| parts.push(column.clone()));
            }
        }
        let fields = view.schema.segment_arrow();
        let whole = |(column, parts): (&usize, Vec<ArrayRef>)| -> Result<ArrayRef> {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            if parts.is_empty() {
                let field = fields.fields().get(*column);
                let field = field.ok_or_else(|| Error::batch(view.schema.name(), "no such column"))?;
                return Ok(new_empty_array(field.data_type()));
            }
            concat(&parts).map_err(failed)
        };
        columns.iter().zip(parts).map(whole).collect()
    }
}

/// A number for a column of a segment that it keeps for ever: a field that is added moves what lies behind the fields, so
/// that is counted from the other end.
fn lasting(view: &TableView, column: usize) -> usize {
    let behind = 1 + view.schema.tags().len() + view.schema.fields().len();
    column.checked_sub(behind).map_or(column, |at| usize::MAX - at)
}

/// Texts without the heap of what lay beside them.
fn slim(column: &ArrayRef) -> ArrayRef {
    column.as_string_view_opt().map_or_else(|| column.clone(), |texts| Arc::new(texts.gc()))
}

/// `known`, with one value of `read` for each of `missing`, for so many series.
fn patched(known: Option<Values>, missing: &[(Key, u32)], read: &ArrayRef, series: usize) -> Result<Values> {
    let failed = |error: arrow::error::ArrowError| Error::batch("", error);
    if read.len() != missing.len() {
        return Err(Error::batch("", format!("{} rows were asked for and {} read", missing.len(), read.len())));
    }
    let none = || Values { keys: Vec::new(), values: new_empty_array(read.data_type()) };
    let Values { mut keys, values } = known.unwrap_or_else(none);
    let nothing = new_null_array(read.data_type(), 1);
    let before = values.len();
    // Which array, and which of its values.
    let mut places: Vec<(usize, usize)> =
        (0..series.max(before)).map(|at| if at < before { (0, at) } else { (2, 0) }).collect();
    keys.resize(places.len(), NO_KEY);
    for (at, (key, series)) in missing.iter().enumerate() {
        let place = keys.get_mut(*series as usize).zip(places.get_mut(*series as usize));
        let (known, place) = place.ok_or_else(|| Error::batch("", format!("no series {series}")))?;
        (*known, *place) = (*key, (1, at));
    }
    let values = interleave(&[&*values, &**read, &*nothing], &places).map_err(failed)?;
    Ok(Values { keys, values: slim(&values) })
}

/// When a row of a segment was written, in the order of writes.
pub(crate) fn clock(view: &TableView, number: usize, row: u64) -> Result<u64> {
    let Some(segment) = view.segments.get(number) else { return Ok(0) };
    // The clock is a segment's last column.
    let column = view.schema.segment_arrow().fields().len() - 1;
    let one = std::iter::once(row..row + 1).collect();
    let batch = segment.read(&view.schema, &[column], Some(one), None, 1)?.next().transpose()?;
    let clocks = batch.as_ref().and_then(|batch| batch.column(0).as_primitive_opt::<UInt64Type>());
    Ok(clocks.filter(|clocks| !clocks.is_empty()).map_or(0, |clocks| clocks.value(0)))
}
