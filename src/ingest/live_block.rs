//! One life of a live block file: the memory that a writer fills and readers look at.
//!
//! **Invariant:** bytes of rows below the published count never change. A cursor writes at and above its own row only and
//! publishes by a release-store of the count; a reader loads the count with acquire and looks below it. So the two never
//! touch the same byte, and an Arrow buffer over published rows is what Rust calls immutable.
//!
//! **Invariant:** at most one cursor exists for a block, and only it stores the published count.
//!
//! **Invariant:** a block's file is recycled only when its last `Arc` is gone, so no buffer outlives its rows.
#![expect(unsafe_code, reason = "raw columns of a mapping: offsets come from the layout, rows are checked here")]

use std::sync::{Arc, Mutex, OnceLock};

use arrow::buffer::Buffer;
use crossbeam::channel::Sender;

use crate::fs::fork::Word;
use crate::fs::{File, Mapping};
use crate::model::{FieldType, TableSchema, Value};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Machine, Memory};

use super::block_commit::{CommitState, NextCommit};
use super::layout::{HEAP_USED, Layout, PUBLISHED};
use super::turn;

/// A live block, shared by its writer, the snapshots that see it, and the maintenance that syncs and seals it.
#[derive(Debug)]
pub(crate) struct LiveBlock {
    pub(crate) id: u64,
    pub(crate) generation: u64,
    /// The table at the version whose first fields the block has.
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) mapping: Mapping,
    pub(crate) layout: Layout,
    /// Rows up to which the cursor may fill: the capacity, or 0 to call the writer aside. A hint that orders nothing, so
    /// relaxed: a writer that sees it late appends a row or two more, which is as good. A forked child finds 0, and so
    /// writes nothing to what is its parent's.
    limit: Word,
    /// Whether all rows are in segments that the manifest names, so that the file may be recycled.
    sealed: AtomicBool,
    pub(super) commit: Mutex<CommitState>,
    pub(super) bounds: Mutex<super::read::TimeBounds>,
    /// Whether it takes no more rows although there is room.
    retired: AtomicBool,
    /// `None` until it was looked at.
    pub(super) marks: Mutex<Option<super::marks::Marked>>,
    home: OnceLock<Sender<Released>>,
    /// Rows and heap bytes that count, where the published words are not to be believed.
    fixed: Option<(u64, u64)>,
}

/// What is left of a block when nobody looks at it any more.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) mapping: Mapping,
    /// Whether it is to be recycled; else its bytes stay as they are.
    pub(crate) sealed: bool,
}

/// Why a row was not taken by a cursor. Nothing of it is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No row left, or the writer is called aside.
    Full,
    /// No heap left for this row's strings; so many bytes they all are.
    HeapFull(usize),
    /// The value of this field has another type.
    Type(usize),
    /// The string of this field is longer than the limit.
    TooLong(usize),
    /// This field is required.
    Null(usize),
}

impl LiveBlock {
    pub(crate) fn new(
        (id, generation): (u64, u64),
        schema: Arc<TableSchema>,
        file: Arc<dyn File>,
        mapping: Mapping,
        layout: Layout,
        next_commit: NextCommit,
        limit: Word,
    ) -> Self {
        assert!(layout.file_bytes <= mapping.len(), "the layout is made for the file");
        turn::let_go_on(limit.get(), layout.capacity as u64);
        Self {
            id,
            generation,
            schema,
            file,
            mapping,
            layout,
            limit,
            sealed: AtomicBool::new(false),
            commit: Mutex::new(CommitState::from(next_commit)),
            bounds: Mutex::default(),
            retired: AtomicBool::new(false),
            marks: Mutex::default(),
            home: OnceLock::new(),
            fixed: None,
        }
    }

    /// With these rows and heap bytes, whatever the published words say.
    pub(super) fn with_fixed(mut self, rows: u64, heap_bytes: u64) -> Self {
        self.fixed = Some((rows, heap_bytes));
        self
    }

    /// Whether it shows what a sync made durable, and not what its writer has published.
    pub(crate) fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// Where the file goes when the last handle is dropped. Set once, by the pool.
    pub(crate) fn set_home(&self, home: Sender<Released>) {
        self.home.get_or_init(|| home);
    }

    /// Rows that are in the block for everybody to see.
    #[inline]
    pub(crate) fn rows(&self) -> usize {
        let published = || turn::published::<Machine>(self.mapping.word(PUBLISHED));
        let rows = self.fixed.map_or_else(published, |(rows, _)| rows);
        usize::try_from(rows).map_or(self.layout.capacity, |rows| rows.min(self.layout.capacity))
    }

    /// Heap bytes that the published rows use, and perhaps those of a row being written.
    pub(crate) fn heap_bytes(&self) -> usize {
        // Acquire pairs with the cursor's release: the bytes below are visible, whichever row they belong to.
        let used = self.fixed.map_or_else(|| self.mapping.load_acquire(HEAP_USED), |(_, used)| used);
        usize::try_from(used).map_or(self.layout.heap.len(), |used| used.min(self.layout.heap.len()))
    }

    /// Calls the writer aside: its next append takes the slow path, where it learns what is wanted.
    pub(crate) fn call_aside(&self) {
        turn::call_aside(self.limit.get());
    }

    /// Ends the block before it is full: its writer's next append goes to another one.
    pub(crate) fn retire(&self) {
        // Relaxed: a writer that does not see it yet is called aside once more, by who ended the block.
        self.retired.store(true, Ordering::Relaxed);
        self.call_aside();
    }

    /// Whether the block was ended before it was full. A writer that was let go on at that very moment may not see it; who
    /// ended the block comes again.
    pub(crate) fn is_retired(&self) -> bool {
        // Relaxed: see `retire`.
        self.retired.load(Ordering::Relaxed)
    }

    /// Lets the writer go on, unless the block was ended.
    pub(crate) fn let_go_on(&self) {
        if self.is_retired() {
            return;
        }
        turn::let_go_on(self.limit.get(), self.layout.capacity as u64);
    }

    /// Says that the manifest names segments with all rows of this block.
    pub(crate) fn set_sealed(&self) {
        // Release pairs with the acquire of whoever drops the last handle: it finds what the commit has done.
        self.sealed.store(true, Ordering::Release);
    }

    /// A column's bytes of published rows, without copying. `rows` beyond the published count is a bug.
    pub(super) fn column(self: &Arc<Self>, offset: usize, row_bytes: usize, rows: std::ops::Range<usize>) -> Buffer {
        assert!(rows.start <= rows.end && rows.end <= self.rows(), "rows {rows:?} are not published");
        self.bytes(offset + rows.start * row_bytes, rows.len() * row_bytes)
    }

    /// The heap's first `len` bytes, all of them written by published rows.
    pub(super) fn heap(self: &Arc<Self>, range: std::ops::Range<usize>) -> Buffer {
        assert!(range.end <= self.layout.heap.len(), "heap range {range:?}");
        self.bytes(self.layout.heap.start + range.start, range.len())
    }

    fn bytes(self: &Arc<Self>, offset: usize, len: usize) -> Buffer {
        if len == 0 {
            return Buffer::from_vec(Vec::<u128>::new());
        }
        assert!(offset + len <= self.mapping.len(), "{offset} + {len}");
        // SAFETY: in bounds (asserted); the bytes belong to published rows, so nobody writes them; the `Arc` keeps the
        // mapping, and the file from being recycled, for as long as the buffer lives.
        unsafe { Buffer::from_custom_allocation(self.mapping.start().add(offset), len, self.clone()) }
    }
}

impl Drop for LiveBlock {
    fn drop(&mut self) {
        if !self.limit.origin().is_here() {
            // The file is the parent's, and the channel's lock may be held by a thread that this process does not have.
            return;
        }
        if let Some(home) = self.home.get() {
            // Acquire pairs with `set_sealed`. Dropping the last `Arc` acquires as well; this does not rely on it.
            let sealed = self.sealed.load(Ordering::Acquire);
            let (file, mapping) = (self.file.clone(), self.mapping.clone());
            // A closed pool wants nothing back: the file stays as it is and is looked at when the store opens.
            let _ = home.send(Released { id: self.id, file, mapping, sealed });
        }
    }
}

#[derive(Clone, Copy)]
struct Column {
    values: *mut u8,
    /// Null where the field is required.
    absent: *mut u8,
    field_type: FieldType,
}

/// The limit of a cursor that has no block yet: no row fits.
static NO_ROWS: AtomicU32 = AtomicU32::new(0);

/// The one writer's place in a block. **Invariant:** without a block its limit is 0, so nothing goes through its pointers.
pub(crate) struct Cursor {
    /// `None` before the writer's first row.
    block: Option<Arc<LiveBlock>>,
    limit: *const AtomicU32,
    row: usize,
    heap: usize,
    columns: Box<[Column]>,
    times: *mut i64,
    series: *mut u32,
    /// Null where the table has no clock.
    clocks: *mut u64,
    published: *mut u64,
    value_bytes_max: usize,
}

// SAFETY: the pointers go into the mapping that `block` keeps alive; a cursor is used by one thread at a time.
unsafe impl Send for Cursor {}

/// A column of rows to copy in: plain bytes of fixed width, or strings.
pub(crate) enum Source<'a> {
    /// Fixed-width values of all rows of the batch, as they lie in memory.
    Fixed(&'a [u8]),
    /// One byte a value.
    Bool(&'a arrow::array::BooleanArray),
    /// Strings; a null gives an empty view.
    Utf8(&'a arrow::array::StringViewArray),
    /// No values.
    Null,
}

/// Rows to copy in, column by column.
pub(crate) struct Run<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) series: &'a [u32],
    /// One a row, for tables with a clock.
    pub(crate) clocks: &'a [u64],
    /// One a field, with the nulls of the column.
    pub(crate) columns: &'a [(Source<'a>, Option<&'a arrow::buffer::NullBuffer>)],
}

impl Run<'_> {
    /// Bytes of all strings of a row.
    fn text_bytes(&self, row: usize) -> usize {
        let bytes = |source: &Source<'_>| match source {
            Source::Utf8(strings) => strings.value(row).len(),
            _ => 0,
        };
        self.columns.iter().map(|(source, _)| bytes(source)).sum()
    }
}

/// Bytes of all strings of a row.
fn text_bytes(values: &[Value<'_>]) -> usize {
    let bytes = |value: &Value<'_>| match value {
        Value::Utf8(text) => text.len(),
        _ => 0,
    };
    values.iter().map(bytes).sum()
}

impl Cursor {
    /// A place without a block, where no row fits.
    pub(crate) fn nowhere(value_bytes_max: usize) -> Self {
        Self {
            block: None,
            limit: &raw const NO_ROWS,
            row: 0,
            heap: 0,
            columns: Box::default(),
            times: std::ptr::null_mut(),
            series: std::ptr::null_mut(),
            clocks: std::ptr::null_mut(),
            published: std::ptr::null_mut(),
            value_bytes_max,
        }
    }

    /// The place after the published rows. The caller sees to it that it is the block's only cursor.
    pub(crate) fn new(block: Arc<LiveBlock>, value_bytes_max: usize) -> Self {
        let start = block.mapping.start().as_ptr();
        let layout = &block.layout;
        let at = |offset: usize| {
            // SAFETY: offsets come from the layout, which fits the mapping (asserted in `new`), and the layout aligns
            // columns to 64 bytes and the mapping to at least 16.
            unsafe { start.add(offset) }
        };
        let columns = layout.fields.iter().map(|field| Column {
            values: at(field.values),
            absent: field.absent.map_or(std::ptr::null_mut(), at),
            field_type: field.field_type,
        });
        Self {
            row: block.rows(),
            heap: block.heap_bytes(),
            columns: columns.collect(),
            times: at(layout.time).cast(),
            series: at(layout.series).cast(),
            clocks: layout.clock.map_or(std::ptr::null_mut(), |offset| at(offset).cast()),
            published: at(PUBLISHED).cast(),
            value_bytes_max,
            limit: &raw const *block.limit.get(),
            block: Some(block),
        }
    }

    /// The block, once there is one.
    pub(crate) fn block(&self) -> Option<&Arc<LiveBlock>> {
        self.block.as_ref()
    }

    /// Rows up to which the block may be filled; at most its capacity.
    #[inline(always)]
    fn limit(&self) -> usize {
        // SAFETY: the limit is a static, or in a page that `block` keeps alive, and only ever accessed as an atomic.
        turn::limit::<Machine>(unsafe { &*self.limit }) as usize
    }

    /// Appends one row of plain words and publishes it: the types that measurements have, all eight bytes. False if the
    /// row has anything else, or does not fit; then nothing of it is visible, and [`append`](Self::append) says why.
    #[inline(always)]
    pub(crate) fn append_words(&mut self, series: u32, time: i64, values: &[Value<'_>]) -> bool {
        let row = self.row;
        // The limit is at most the capacity, so every column has room for `row`.
        if row >= self.limit() || values.len() != self.columns.len() {
            return false;
        }
        for (column, value) in self.columns.iter().zip(values) {
            let (field_type, word) = match value {
                Value::F64(value) => (FieldType::F64, value.to_bits()),
                Value::I64(value) => (FieldType::I64, value.cast_unsigned()),
                Value::U64(value) => (FieldType::U64, *value),
                _ => return false,
            };
            if field_type != column.field_type {
                return false;
            }
            // SAFETY: `row` is below the capacity and not published, so its bytes are this cursor's alone; the column's
            // type has eight bytes a row.
            unsafe { column.values.cast::<u64>().add(row).write(word) }
        }
        if !self.clocks.is_null() {
            return false;
        }
        // SAFETY: as above.
        unsafe {
            self.times.add(row).write(time);
            self.series.add(row).write(series);
        }
        self.publish(row + 1, self.heap);
        true
    }

    /// Appends one row and publishes it. `values` are one a field of the block.
    pub(crate) fn append(&mut self, series: u32, time: i64, clock: u64, values: &[Value<'_>]) -> Result<(), Refusal> {
        let row = self.row;
        if row >= self.limit() {
            return Err(Refusal::Full);
        }
        assert_eq!(values.len(), self.columns.len(), "one value a field");
        let mut heap = self.heap;
        for index in 0..self.columns.len() {
            heap = self.write_value(index, heap, values)?;
        }
        // SAFETY: `row` is below the limit and not published, so its bytes are this cursor's alone.
        unsafe {
            self.times.add(row).write(time);
            self.series.add(row).write(series);
            if !self.clocks.is_null() {
                self.clocks.add(row).write(clock);
            }
        }
        self.publish(row + 1, heap);
        Ok(())
    }

    /// Appends as many rows of `run` as fit, from `from` on, and publishes them at once. Returns how many.
    pub(crate) fn append_run(&mut self, run: &Run<'_>, from: usize) -> Result<usize, Refusal> {
        let mut rows = self.limit().saturating_sub(self.row).min(run.times.len() - from);
        let mut heap = self.heap;
        let Some(block) = self.block.as_ref().filter(|_| rows > 0) else { return Err(Refusal::Full) };
        // Strings first: they decide how many rows fit.
        for (column, (source, _)) in self.columns.iter().zip(run.columns) {
            let Source::Utf8(strings) = source else { continue };
            for row in 0..rows {
                let value =
                    if arrow::array::Array::is_null(strings, from + row) { "" } else { strings.value(from + row) };
                let Some(view) = block.store_string(&mut heap, value) else {
                    if row == 0 {
                        return Err(Refusal::HeapFull(run.text_bytes(from)));
                    }
                    rows = row;
                    break;
                };
                // SAFETY: `self.row + row` is below the limit and not published; a string column has 16 bytes a row.
                unsafe { column.values.cast::<u128>().add(self.row + row).write(view) }
            }
        }
        for (index, (column, (source, nulls))) in self.columns.iter().zip(run.columns).enumerate() {
            let width = column.field_type.width();
            // SAFETY: rows `self.row..self.row + rows` are within the limit and not published; the source slices are
            // checked to be as long as what is copied; a mapping and a Rust slice do not overlap.
            unsafe {
                let target = column.values.add(self.row * width);
                match source {
                    Source::Fixed(bytes) => {
                        let bytes = bytes.split_at(from * width).1.split_at(rows * width).0;
                        std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
                    }
                    Source::Bool(values) => {
                        (0..rows).for_each(|row| target.add(row).write(u8::from(values.value(from + row))));
                    }
                    Source::Utf8(_) => {}
                    Source::Null => target.write_bytes(0, rows * width),
                }
                if column.absent.is_null() {
                    continue;
                }
                let absent = |row: usize| match (source, nulls) {
                    (Source::Null, _) => true,
                    (_, nulls) => nulls.is_some_and(|nulls| nulls.is_null(from + row)),
                };
                for row in (0..rows).filter(|row| absent(*row)) {
                    column.absent.add(self.row + row).write(1);
                    self.flag_null(index);
                }
            }
        }
        // SAFETY: as above; `split_at` checks the lengths.
        unsafe {
            let copy = |source: &[u8], target: *mut u8| {
                std::ptr::copy_nonoverlapping(source.as_ptr(), target, source.len());
            };
            let times = run.times.split_at(from).1.split_at(rows).0;
            copy(bytes_of(times), self.times.add(self.row).cast());
            let series = run.series.split_at(from).1.split_at(rows).0;
            copy(bytes_of(series), self.series.add(self.row).cast());
            if !self.clocks.is_null() {
                let clocks = run.clocks.split_at(from).1.split_at(rows).0;
                copy(bytes_of(clocks), self.clocks.add(self.row).cast());
            }
        }
        self.publish(self.row + rows, heap);
        Ok(rows)
    }

    /// Writes a value of any type, and gives the heap's new end.
    fn write_value(&self, index: usize, mut heap: usize, values: &[Value<'_>]) -> Result<usize, Refusal> {
        let row = self.row;
        let (Some(column), Some(value), Some(block)) = (self.columns.get(index), values.get(index), &self.block) else {
            return Err(self.refuse(Refusal::Type(index)));
        };
        // SAFETY: as in `append`, which has checked that there is room for the row; the width is that of the type.
        unsafe {
            match (value, column.field_type) {
                (Value::F64(value), FieldType::F64) => column.values.cast::<f64>().add(row).write(*value),
                (Value::I64(value), FieldType::I64) => column.values.cast::<i64>().add(row).write(*value),
                (Value::U64(value), FieldType::U64) => column.values.cast::<u64>().add(row).write(*value),
                (Value::Bool(value), FieldType::Bool) => column.values.add(row).write(u8::from(*value)),
                (Value::Decimal(value), FieldType::Decimal { .. }) => {
                    column.values.cast::<i128>().add(row).write(*value)
                }
                (Value::Utf8(value), FieldType::Utf8) if value.len() > self.value_bytes_max => {
                    return Err(self.refuse(Refusal::TooLong(index)));
                }
                (Value::Utf8(value), FieldType::Utf8) => match block.store_string(&mut heap, value) {
                    Some(view) => column.values.cast::<u128>().add(row).write(view),
                    None => return Err(self.refuse(Refusal::HeapFull(text_bytes(values)))),
                },
                (Value::Null, _) if column.absent.is_null() => return Err(self.refuse(Refusal::Null(index))),
                (Value::Null, field_type) => {
                    column.values.add(row * field_type.width()).write_bytes(0, field_type.width());
                    column.absent.add(row).write(1);
                    self.flag_null(index);
                }
                _ => return Err(self.refuse(Refusal::Type(index))),
            }
        }
        Ok(heap)
    }

    /// Whether there is room, and the block is not at its end: somebody only wants to be heard.
    pub(crate) fn is_called_aside(&self) -> bool {
        self.block.as_ref().is_some_and(|block| self.row < block.layout.capacity && !block.is_retired())
    }

    #[inline(always)]
    fn publish(&mut self, rows: usize, heap: usize) {
        if heap != self.heap
            && let Some(block) = &self.block
        {
            // Release: a commit sums all heap bytes below this word, also those of rows it does not count yet.
            block.mapping.word(HEAP_USED).store(heap as u64, Ordering::Release);
            self.heap = heap;
        }
        self.row = rows;
        // SAFETY: the word is in the mapping that `block` keeps alive, aligned, and only ever accessed as an atomic.
        let published = unsafe { AtomicU64::from_ptr(self.published) };
        turn::publish(published, rows as u64);
    }

    /// Remembers that the column has a null somewhere, for readers to look at its presence bytes at all. Comes before the
    /// row's publication, and is never unset.
    #[inline]
    fn flag_null(&self, field: usize) {
        if let Some(block) = &self.block {
            // Relaxed: the release of the row's count comes after it.
            block.mapping.byte(block.layout.null_flags + field).store(1, Ordering::Relaxed);
        }
    }

    /// Takes back the presence bytes of the row that is refused: the next one relies on their being zero.
    #[cold]
    fn refuse(&self, refusal: Refusal) -> Refusal {
        for column in self.columns.iter().filter(|column| !column.absent.is_null()) {
            // SAFETY: `self.row` is below the limit and not published.
            unsafe { column.absent.add(self.row).write(0) }
        }
        refusal
    }
}

/// Bytes of plain numbers.
fn bytes_of<T: arrow::datatypes::ArrowNativeType>(values: &[T]) -> &[u8] {
    // SAFETY: Arrow's native types have no padding, and every byte pattern is a `u8`.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

impl LiveBlock {
    /// Puts a string at the heap's `used` end and gives the Arrow view of it; `None` if it does not fit.
    #[inline]
    fn store_string(&self, used: &mut usize, value: &str) -> Option<u128> {
        const INLINE_MAX: usize = 12;
        let mut view = [0; 16];
        let (len, rest) = view.split_at_mut(4);
        len.copy_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
        if value.len() <= INLINE_MAX {
            rest.split_at_mut(value.len()).0.copy_from_slice(value.as_bytes());
        } else {
            let end = used.checked_add(value.len()).filter(|end| *end <= self.layout.heap.len())?;
            self.mapping.write(self.layout.heap.start + *used, value.as_bytes());
            let (prefix, place) = rest.split_at_mut(4);
            prefix.copy_from_slice(value.as_bytes().split_at(4).0);
            // Buffer 0, and the offset in it.
            place.split_at_mut(4).1.copy_from_slice(&u32::try_from(*used).ok()?.to_le_bytes());
            *used = end;
        }
        Some(u128::from_le_bytes(view))
    }
}
