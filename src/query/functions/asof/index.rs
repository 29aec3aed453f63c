//! The right side in memory: for each key, its times in order.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, UInt32Builder};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::{exec_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::StreamExt;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::keys::{Matching, Prepared, Side};
use super::merge::tie_breaker;

/// Rows of the right side by key and time. No key has a time twice.
pub(super) struct Index {
    batch: RecordBatch,
    groups: Groups,
    /// Of each group, where its times begin; and the end of the last.
    starts: Vec<usize>,
    times: Vec<i64>,
    /// The rows of `batch` they are of.
    rows: Vec<u32>,
    /// Held as long as the index is.
    _memory: MemoryReservation,
}

/// Numbers for keys.
#[derive(Default)]
struct Groups {
    table: HashTable<(u32, u64)>,
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Groups {
    fn bytes_of<'a>(bytes: &'a [u8], ends: &[usize], group: u32) -> Option<&'a [u8]> {
        let group = group as usize;
        let start = group.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied())?;
        bytes.get(start..*ends.get(group)?)
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let same =
            |entry: &(u32, u64)| entry.1 == hash && Self::bytes_of(&self.bytes, &self.ends, entry.0) == Some(key);
        self.table.find(hash, same).map(|entry| entry.0)
    }

    fn intern(&mut self, key: &[u8]) -> u32 {
        if let Some(group) = self.find(key) {
            return group;
        }
        let hash = self.hasher.hash_one(key);
        let group = self.ends.len() as u32;
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        self.table.insert_unique(hash, (group, hash), |entry| entry.1);
        group
    }

    fn size(&self) -> usize {
        self.table.allocation_size() + self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// What was found on the way to an index.
pub(super) enum Collected {
    Index(Box<Index>),
    /// It does not fit; nothing is held any more.
    TooLarge,
}

/// Bytes of one row beside its batch while an index is made: group, time and row, and both of the sorted.
const ROW_BYTES: usize = 32;

/// Keys that are gone on with where they were; of more, the places would cost more than they save.
const NEARS_MAX: usize = 4_096;

/// Reads all of `input` into an index, as far as `memory` goes.
pub(super) async fn collect(
    mut input: SendableRecordBatchStream,
    side: &Side,
    memory: MemoryReservation,
) -> Result<Collected> {
    let schema = input.schema();
    let mut batches = Vec::new();
    let mut bytes = 0;
    let mut groups = Groups::default();
    let mut entries: Vec<(u32, i64)> = Vec::new();
    while let Some(batch) = input.next().await {
        let prepared = side.prepare_valid(batch?)?;
        let groups_before = groups.size();
        let mut group = None;
        for row in 0..prepared.rows() {
            let key = prepared.key(row);
            let same = group.filter(|_| row > 0 && prepared.key(row - 1) == key);
            let number = same.unwrap_or_else(|| groups.intern(key));
            group = Some(number);
            entries.push((number, prepared.time(row)));
        }
        let held = bytes_of(&prepared.batch)?;
        bytes += held;
        let more = held + prepared.rows() * ROW_BYTES + (groups.size() - groups_before);
        if memory.try_grow(more).is_err() || entries.len() >= u32::MAX as usize {
            return Ok(Collected::TooLarge);
        }
        batches.push(prepared.batch);
    }
    // For a moment there are two of each row.
    if memory.try_grow(bytes).is_err() {
        return Ok(Collected::TooLarge);
    }
    let batch = match concat_batches(&schema, &batches) {
        Ok(batch) => batch,
        // Of texts whose offsets are of 32 bits.
        Err(ArrowError::OffsetOverflowError(_)) => return Ok(Collected::TooLarge),
        Err(error) => return Err(error.into()),
    };
    drop(batches);
    memory.shrink(bytes);
    Index::new(batch, groups, &entries, memory).map(|index| Collected::Index(Box::new(index)))
}

impl Index {
    fn new(batch: RecordBatch, groups: Groups, entries: &[(u32, i64)], memory: MemoryReservation) -> Result<Self> {
        let lost = || exec_datafusion_err!("ASOF JOIN lost count of its groups; this is a bug");
        let mut ends = vec![0_usize; groups.ends.len()];
        for (group, _) in entries {
            *ends.get_mut(*group as usize).ok_or_else(lost)? += 1;
        }
        let mut end = 0;
        for count in &mut ends {
            let start = end;
            end += *count;
            *count = start;
        }
        // Each group's rows side by side, in the order in which they came.
        let mut sorted = vec![(0_i64, 0_u32); entries.len()];
        for (row, (group, time)) in (0_u32..).zip(entries) {
            let next = ends.get_mut(*group as usize).ok_or_else(lost)?;
            *sorted.get_mut(*next).ok_or_else(lost)? = (*time, row);
            *next += 1;
        }
        let mut index = Self {
            batch,
            groups,
            starts: vec![0],
            times: Vec::with_capacity(entries.len()),
            rows: Vec::with_capacity(entries.len()),
            _memory: memory,
        };
        let mut rest = sorted.as_mut_slice();
        let mut start = 0;
        for end in ends {
            let (group, others) = rest.split_at_mut_checked(end - start).ok_or_else(lost)?;
            if !group.is_sorted() {
                group.sort_unstable();
            }
            index.push_group(group)?;
            (rest, start) = (others, end);
        }
        Ok(index)
    }

    /// Adds the rows of one key, which are in order, one for each time.
    fn push_group(&mut self, group: &[(i64, u32)]) -> Result<()> {
        for same in group.chunk_by(|a, b| a.0 == b.0) {
            let Some((time, first)) = same.first() else { continue };
            let row = if same.len() == 1 { *first } else { greatest(&self.batch, same)? };
            self.times.push(*time);
            self.rows.push(row);
        }
        self.starts.push(self.times.len());
        Ok(())
    }

    /// `batch` with the columns of the rows found for it.
    pub(super) fn probe(
        &self,
        batch: RecordBatch,
        side: &Side,
        matching: &Matching,
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let prepared = side.prepare(batch)?;
        let found = self.find_all(&prepared, matching)?;
        let mut columns: Vec<ArrayRef> = prepared.batch.columns().to_vec();
        for column in self.batch.columns() {
            columns.push(take(column, &found, None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(prepared.rows()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }

    fn find_all(&self, prepared: &Prepared, matching: &Matching) -> Result<UInt32Array> {
        let mut found = UInt32Builder::with_capacity(prepared.rows());
        // Rows of several keys mostly come in order of time all the same: each key is gone on with where it was.
        let mut nears = vec![0_usize; self.starts.len().min(NEARS_MAX)];
        let mut last = None;
        let mut group = None;
        for (row, time) in prepared.times.iter().enumerate() {
            if !prepared.is_valid(row) {
                found.append_null();
                continue;
            }
            let key = prepared.key(row);
            if last != Some(key) {
                last = Some(key);
                group = self.groups.find(key).map(|number| self.group(number as usize)).transpose()?;
            }
            let Some(Group { number, start, times }) = group else {
                found.append_null();
                continue;
            };
            let near = nears.get(number).copied().unwrap_or(0);
            let at = matching.find(times, *time, near);
            if let (Some(at), Some(near)) = (at, nears.get_mut(number)) {
                *near = at + usize::from(matching.backward);
            }
            found.append_option(at.and_then(|at| self.rows.get(start + at).copied()));
        }
        Ok(found.finish())
    }

    fn group(&self, number: usize) -> Result<Group<'_>> {
        let bounds = self.starts.get(number).zip(self.starts.get(number + 1));
        match bounds.and_then(|(start, end)| Some((*start, self.times.get(*start..*end)?))) {
            Some((start, times)) => Ok(Group { number, start, times }),
            None => internal_err!("no group {number} of {}", self.starts.len()),
        }
    }
}

/// The rows of one key: where they begin, and their times.
#[derive(Clone, Copy)]
struct Group<'a> {
    number: usize,
    start: usize,
    times: &'a [i64],
}

/// What the rows of `batch` take, and not what they are a part of: batches may be slices of one large buffer.
fn bytes_of(batch: &RecordBatch) -> Result<usize> {
    let mut bytes = 0;
    for column in batch.columns() {
        let heap = match column.data_type() {
            DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
            DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
            _ => 0,
        };
        bytes += heap + column.to_data().get_slice_memory_size()?;
    }
    Ok(bytes)
}

/// Of rows with the same key and time, the one to take.
fn greatest(batch: &RecordBatch, same: &[(i64, u32)]) -> Result<u32> {
    let rows = UInt32Array::from_iter_values(same.iter().map(|(_, row)| *row));
    let ties = take_record_batch(batch, &rows)?;
    let Some(breaker) = tie_breaker(&ties.schema())? else {
        return rows.values().last().copied().ok_or_else(|| DataFusionError::Internal("no ties".into()));
    };
    let ordered = breaker.convert(&ties)?;
    let best = (0..ties.num_rows()).max_by(|a, b| ordered.row(*a).cmp(&ordered.row(*b)));
    best.and_then(|best| rows.values().get(best).copied()).ok_or_else(|| DataFusionError::Internal("no ties".into()))
}
