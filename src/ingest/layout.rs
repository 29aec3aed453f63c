//! Where each column of a live block lies. See `docs/format.md`, "Live block".
//!
//! The layout is a function of the file's size, the capacity and the columns' types, so the file stores those and no
//! offsets: there is nothing to disagree.

use std::ops::Range;

use crate::fs::{PAGE_BYTES, SECTOR_BYTES};
use crate::model::{FieldType, TableSchema};

/// Offset of the published row count: a sector of its own, so that no other write can tear it.
pub(crate) const PUBLISHED: usize = SECTOR_BYTES;
/// Offset of the bytes used of the heap, written before the count.
pub(crate) const HEAP_USED: usize = SECTOR_BYTES + 8;
/// Offset of the poison mark.
pub(crate) const POISON: usize = 2 * SECTOR_BYTES;
/// Offset of the commit slots.
pub(crate) const SLOTS: usize = PAGE_BYTES;
/// Commit slots in the ring. Two are enough for the argument in [`commit`](super::commit); four keep older ones to fall
/// back on when bytes are damaged.
pub(crate) const SLOT_COUNT: usize = 4;
/// Bytes of ingest-time marks.
pub(crate) const MARKS_BYTES: usize = PAGE_BYTES;
/// Bytes of one column descriptor.
pub(crate) const DESCRIPTOR_BYTES: usize = 4;

const COLUMN_ALIGN: usize = 64;
/// Rows come in units of this, so that columns start aligned.
const ROWS_ALIGN: usize = 8;

/// A field's part of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLayout {
    pub(crate) field_type: FieldType,
    pub(crate) required: bool,
    pub(crate) values: usize,
    /// Offset of one byte a row, 1 where the value is null. Absent for required fields.
    pub(crate) absent: Option<usize>,
}

/// What one checksum of a commit entry covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) offset: usize,
    /// Bytes a row; 0 for the heap, whose used bytes are counted apart.
    pub(crate) row_bytes: usize,
}

/// Offsets of everything in one live block file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) file_bytes: usize,
    pub(crate) capacity: usize,
    pub(crate) slot_bytes: usize,
    pub(crate) descriptors: usize,
    pub(crate) null_flags: usize,
    pub(crate) marks: usize,
    pub(crate) time: usize,
    pub(crate) series: usize,
    pub(crate) clock: Option<usize>,
    pub(crate) fields: Vec<FieldLayout>,
    pub(crate) heap: Range<usize>,
}

/// The columns a layout is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) has_clock: bool,
    /// Type and whether a value is required, field by field.
    pub(crate) fields: Vec<(FieldType, bool)>,
}

impl Columns {
    pub(crate) fn of(schema: &TableSchema) -> Self {
        let fields = schema.fields.iter().map(|field| (field.field_type, field.required)).collect();
        Self { has_clock: schema.has_clock(), fields }
    }

    fn has_heap(&self) -> bool {
        self.fields.iter().any(|(field_type, _)| *field_type == FieldType::Utf8)
    }

    fn row_bytes(&self) -> usize {
        let fields = self.fields.iter().map(|(field_type, required)| field_type.width() + usize::from(!required));
        8 + 4 + if self.has_clock { 8 } else { 0 } + fields.sum::<usize>()
    }

    /// Checksums that a commit entry needs.
    fn regions(&self) -> usize {
        let fields = self.fields.iter().map(|(_, required)| 1 + usize::from(!required)).sum::<usize>();
        2 + usize::from(self.has_clock) + fields + usize::from(self.has_heap())
    }

    /// The most rows that fit into `file_bytes` beside `heap_row_bytes` of heap a row; 0 if not even eight do.
    pub(crate) fn capacity(&self, file_bytes: usize, heap_row_bytes: usize) -> usize {
        let mut cursor = Cursor { at: 0 };
        let fixed = self.fixed(&mut cursor);
        let columns = 3 + 2 * self.fields.len();
        let room = file_bytes.saturating_sub(fixed.end + columns * COLUMN_ALIGN);
        let heap = if self.has_heap() { heap_row_bytes.max(1) } else { 0 };
        room / (self.row_bytes() + heap) / ROWS_ALIGN * ROWS_ALIGN
    }

    fn fixed(&self, cursor: &mut Cursor) -> Fixed {
        cursor.at = SLOTS;
        let slot_bytes = self.regions().div_ceil(super::commit::SECTOR_CHECKSUMS) * SECTOR_BYTES;
        cursor.take(SLOT_COUNT * slot_bytes, SECTOR_BYTES);
        let descriptors = cursor.take(self.fields.len() * DESCRIPTOR_BYTES, SECTOR_BYTES);
        let null_flags = cursor.take(self.fields.len(), SECTOR_BYTES);
        let marks = cursor.take(MARKS_BYTES, SECTOR_BYTES);
        Fixed { slot_bytes, descriptors, null_flags, marks, end: cursor.at }
    }
}

struct Fixed {
    slot_bytes: usize,
    descriptors: usize,
    null_flags: usize,
    marks: usize,
    end: usize,
}

struct Cursor {
    at: usize,
}

impl Cursor {
    fn take(&mut self, bytes: usize, align: usize) -> usize {
        let start = self.at.next_multiple_of(align);
        self.at = start + bytes;
        start
    }
}

impl Layout {
    /// The layout of `columns` in a file, or `None` if they do not fit.
    pub(crate) fn new(file_bytes: usize, capacity: usize, columns: &Columns) -> Option<Self> {
        let mut cursor = Cursor { at: 0 };
        let fixed = columns.fixed(&mut cursor);
        let mut column =
            |row_bytes: usize| capacity.checked_mul(row_bytes).map(|bytes| cursor.take(bytes, COLUMN_ALIGN));
        let time = column(8)?;
        let series = column(4)?;
        let clock = if columns.has_clock { Some(column(8)?) } else { None };
        let mut fields = Vec::with_capacity(columns.fields.len());
        for &(field_type, required) in &columns.fields {
            let values = column(field_type.width())?;
            let absent = if required { None } else { Some(column(1)?) };
            fields.push(FieldLayout { field_type, required, values, absent });
        }
        let heap_start = cursor.take(0, COLUMN_ALIGN);
        let heap = if columns.has_heap() { heap_start..file_bytes } else { heap_start..heap_start };
        let fits = capacity > 0 && heap_start <= file_bytes && u32::try_from(capacity).is_ok();
        fits.then_some(Self {
            file_bytes,
            capacity,
            slot_bytes: fixed.slot_bytes,
            descriptors: fixed.descriptors,
            null_flags: fixed.null_flags,
            marks: fixed.marks,
            time,
            series,
            clock,
            fields,
            heap,
        })
    }

    /// What the checksums of a commit entry cover, in their order.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Region> + '_ {
        let column = |offset, row_bytes| Region { offset, row_bytes };
        let fields = self.fields.iter().flat_map(move |field| {
            let values = column(field.values, field.field_type.width());
            std::iter::once(values).chain(field.absent.map(|offset| column(offset, 1)))
        });
        [column(self.time, 8), column(self.series, 4)]
            .into_iter()
            .chain(self.clock.map(|offset| column(offset, 8)))
            .chain(fields)
            .chain((!self.heap.is_empty()).then(|| column(self.heap.start, 0)))
    }
}
