//! Looking at a live block: Arrow arrays over its published rows.
//!
//! Fixed-width columns are not copied; presence and booleans, a byte a row in the file, are packed into bits; string
//! views are copied and checked, because bytes in a mapped file are not trusted to be UTF-8.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringViewArray, TimestampNanosecondArray,
    UInt64Array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};

use crate::error::{Error, Result};
use crate::model::FieldType;
use crate::sync::atomic::Ordering;

use super::layout::FieldLayout;
use super::live_block::LiveBlock;
use super::marks::{self, MARKS_ENOUGH, Mark, Marked};

/// Exact bounds of the times of a block's first rows.
#[derive(Debug, Default)]
pub(crate) struct TimeBounds {
    from: usize,
    rows: usize,
    bounds: Option<(i64, i64)>,
}

impl LiveBlock {
    /// Times of published rows.
    pub(crate) fn times(self: &Arc<Self>, rows: Range<usize>) -> ScalarBuffer<i64> {
        self.column(self.layout.time, 8, rows).into()
    }

    /// Series of published rows.
    pub(crate) fn series(self: &Arc<Self>, rows: Range<usize>) -> ScalarBuffer<u32> {
        self.column(self.layout.series, 4, rows).into()
    }

    /// What is wrong if a row is of a series that the log of series, which was written before it, does not have.
    pub(crate) fn unknown_series(&self, series: u32, known: usize) -> Error {
        let reason = format!("a row is of series {series}, and the series log has {known}");
        Error::corrupted(self.file.path(), self.layout.series as u64, reason)
    }

    /// Hybrid logical clocks of published rows, where the table has them.
    pub(crate) fn clocks(self: &Arc<Self>, rows: Range<usize>) -> Option<ScalarBuffer<u64>> {
        Some(self.column(self.layout.clock?, 8, rows).into())
    }

    /// Times as SQL sees them.
    pub(crate) fn time_column(self: &Arc<Self>, rows: Range<usize>) -> TimestampNanosecondArray {
        TimestampNanosecondArray::new(self.times(rows), None).with_timezone("UTC")
    }

    /// Earliest and latest time of `rows`. Each row is looked at once, however often this is asked: the bounds are kept
    /// for the rows from `rows.start` on and extended to `rows.end`.
    pub(crate) fn time_bounds(self: &Arc<Self>, rows: Range<usize>) -> Option<(i64, i64)> {
        let mut known = self.bounds.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.from != rows.start || known.rows < known.from {
            *known = TimeBounds { from: rows.start, rows: rows.start, bounds: None };
        }
        if known.rows > rows.end {
            // Another snapshot, a later one, has moved the bounds on. They would be too wide for this one.
            return min_max(&self.times(rows));
        }
        let fresh = min_max(&self.times(known.rows..rows.end));
        known.rows = rows.end;
        known.bounds = match (known.bounds, fresh) {
            (Some((low, high)), Some((fresh_low, fresh_high))) => Some((low.min(fresh_low), high.max(fresh_high))),
            (known, fresh) => known.or(fresh),
        };
        known.bounds
    }

    /// Field number `field` of published rows. A field that the block does not have yet is all null.
    pub(crate) fn field(self: &Arc<Self>, field: usize, field_type: FieldType, rows: Range<usize>) -> Result<ArrayRef> {
        let Some(layout) = self.layout.fields.get(field) else {
            return Ok(new_null_array(&field_type.arrow(), rows.len()));
        };
        let nulls = self.nulls(field, layout, rows.clone());
        let values = self.column(layout.values, layout.field_type.width(), rows.clone());
        Ok(match layout.field_type {
            FieldType::F64 => Arc::new(Float64Array::new(values.into(), nulls)),
            FieldType::I64 => Arc::new(Int64Array::new(values.into(), nulls)),
            FieldType::U64 => Arc::new(UInt64Array::new(values.into(), nulls)),
            FieldType::Bool => Arc::new(BooleanArray::new(pack(&values, |byte| byte != 0), nulls)),
            FieldType::Decimal { .. } => {
                let array = Decimal128Array::new(values.into(), nulls);
                Arc::new(array.with_data_type(field_type.arrow()))
            }
            FieldType::Utf8 => Arc::new(self.strings(&values.into(), nulls, layout)?),
        })
    }

    fn nulls(self: &Arc<Self>, field: usize, layout: &FieldLayout, rows: Range<usize>) -> Option<NullBuffer> {
        let absent = layout.absent?;
        // Relaxed: the flag of a published row was set before its count was, and the count was loaded with acquire. No
        // sync vouches for the flags, so where the count comes from a sync they say nothing.
        if !self.is_fixed() && self.mapping.byte(self.layout.null_flags + field).load(Ordering::Relaxed) == 0 {
            return None;
        }
        let present = pack(&self.column(absent, 1, rows), |byte| byte == 0);
        Some(NullBuffer::new(present)).filter(|nulls| nulls.null_count() > 0)
    }

    /// Views with their piece of the heap. Strings are put into the heap in the order of rows, so the rows of a batch
    /// refer to one contiguous piece, and the batch carries that piece only.
    fn strings(
        self: &Arc<Self>,
        views: &ScalarBuffer<u128>,
        nulls: Option<NullBuffer>,
        layout: &FieldLayout,
    ) -> Result<StringViewArray> {
        const INLINE_MAX: u32 = 12;
        let place = |view: u128| {
            let view = view.to_le_bytes();
            let word = |at: usize| view.split_at(at).1.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
            (word(0), word(12) as usize)
        };
        let heap_bytes = self.heap_bytes();
        let damaged =
            |offset: usize, reason: String| Error::corrupted(self.file.path(), (layout.values + offset) as u64, reason);
        let mut piece: Option<Range<usize>> = None;
        for (len, offset) in views.iter().map(|view| place(*view)).filter(|(len, _)| *len > INLINE_MAX) {
            let end = offset + len as usize;
            if end > heap_bytes {
                return Err(damaged(0, format!("a string ends at {end} of a heap of {heap_bytes} bytes")));
            }
            let known = piece.get_or_insert(offset..end);
            *known = known.start.min(offset)..known.end.max(end);
        }
        let start = piece.as_ref().map_or(0, |piece| piece.start);
        let moved = |view: &u128| match place(*view) {
            (len, _) if len <= INLINE_MAX => *view,
            // The offset is the view's last word, so taking `start` from it takes it from the whole.
            _ => *view - ((start as u128) << 96),
        };
        let views: ScalarBuffer<u128> =
            if start == 0 { views.clone() } else { views.iter().map(moved).collect::<Vec<_>>().into() };
        let buffers: Vec<Buffer> = piece.map(|piece| self.heap(piece)).into_iter().collect();
        StringViewArray::try_new(views, buffers, nulls).map_err(|error| damaged(0, error.to_string()))
    }

    /// Notes that the rows published so far were there by the end of `unix_s`. A block whose marks must not become coarse
    /// takes no more rows when few are left.
    pub(crate) fn mark(&self, unix_s: u32) {
        let mut marked = self.marks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let marked = marked.get_or_insert_with(|| Marked::read(&self.mapping, &self.layout));
        let keeps = self.schema.policies.keep_ingest_time;
        marked.mark(&self.mapping, &self.layout, u32::try_from(self.rows()).unwrap_or(u32::MAX), unix_s, !keeps);
        if keeps && marked.used >= MARKS_ENOUGH {
            self.retire();
        }
    }

    /// When each of `rows` was there for certain: the end of its mark's second, and for rows without a mark that of
    /// `unmarked_s`, or of the last mark if that is later.
    pub(crate) fn ingest_times(&self, rows: Range<usize>, unmarked_s: u32) -> TimestampNanosecondArray {
        let marks = marks::read(&self.mapping, &self.layout);
        let mut times: Vec<i64> = Vec::with_capacity(rows.len());
        for mark in &marks {
            let end = (mark.rows as usize).min(rows.end).saturating_sub(rows.start);
            times.resize(end.max(times.len()), Mark::end_ns(mark.unix_s));
        }
        let last_s = marks.last().map_or(unmarked_s, |last| last.unix_s.max(unmarked_s));
        times.resize(rows.len(), Mark::end_ns(last_s));
        TimestampNanosecondArray::new(times.into(), None).with_timezone("UTC")
    }
}

fn min_max(times: &[i64]) -> Option<(i64, i64)> {
    let first = *times.first()?;
    Some(times.iter().fold((first, first), |(low, high), time| (low.min(*time), high.max(*time))))
}

/// One bit a byte.
fn pack(bytes: &[u8], bit: impl Fn(u8) -> bool) -> BooleanBuffer {
    bytes.iter().map(|byte| bit(*byte)).collect()
}
