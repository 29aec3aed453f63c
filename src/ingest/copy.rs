//! A prefix of a live block as a file of its own, for a backup.
//!
//! **Invariant:** the copy is believed for its commit entries alone: its header names no boot, so nobody trusts the published
//! count. There are two entries of the same rows, of which the older was durable by definition: if their bytes do not hold,
//! recovery calls that damage and not a sync that was cut short.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::File;
use crate::model::now;

use super::commit::CommitEntry;
use super::header::{Header, encode_descriptors};
use super::layout::{Columns, Layout, PUBLISHED, SLOT_COUNT, SLOTS};
use super::live_block::LiveBlock;
use super::marks::{self, MARKS_MAX, Mark};

/// Smallest file that a copy is.
const FILE_BYTES_MIN: usize = 64 << 10;

impl LiveBlock {
    /// Fills the empty `file` with the first `rows` rows, as the same block and generation, and makes it durable. It is as
    /// small as fits, and has room for more rows if that leaves any. Gives its size.
    pub(crate) fn copy_to(self: &Arc<Self>, rows: usize, file: &dyn File) -> Result<u64> {
        // Loaded after the count was: it covers the strings of those rows, and perhaps whole ones of later rows.
        let heap_bytes = self.heap_bytes();
        let fields = self.layout.fields.iter().map(|field| (field.field_type, field.required)).collect();
        let columns = Columns { has_clock: self.layout.clock.is_some(), fields };
        let layout = self.smaller(&columns, rows, heap_bytes);
        file.allocate(layout.file_bytes as u64)?;
        let mut checksums = Vec::new();
        for (from, to) in self.layout.regions().zip(layout.regions()) {
            let bytes = match from.row_bytes {
                0 => self.heap(0..heap_bytes),
                row_bytes => self.column(from.offset, row_bytes, 0..rows),
            };
            checksums.push(crc32fast::hash(&bytes));
            file.write_at(&bytes, to.offset as u64)?;
        }
        let marks = self.marks_of(rows);
        self.copy_head(&layout, &columns, &marks, file)?;
        let marks = if self.schema.policies.keep_ingest_time { marks::sum_of(&marks, rows) } else { 0 };
        let (generation, rows, heap_bytes) = (self.generation, rows as u64, heap_bytes as u64);
        let mut entry = CommitEntry { generation, sequence: 0, rows, heap_bytes, checksums, marks };
        for sequence in 1..=2 {
            entry.sequence = sequence;
            let slot = usize::try_from(sequence % SLOT_COUNT as u64).unwrap_or_default();
            file.write_at(&entry.encode(), (SLOTS + slot * layout.slot_bytes) as u64)?;
        }
        let counts = [rows.to_le_bytes(), heap_bytes.to_le_bytes()].concat();
        file.write_at(&counts, PUBLISHED as u64)?;
        file.sync_data()?;
        Ok(layout.file_bytes as u64)
    }

    fn smaller(&self, columns: &Columns, rows: usize, heap_bytes: usize) -> Layout {
        let heap_row_bytes = heap_bytes.div_ceil(rows.max(1));
        let mut file_bytes = FILE_BYTES_MIN;
        while file_bytes < self.layout.file_bytes {
            let capacity = columns.capacity(file_bytes, heap_row_bytes);
            let layout = Layout::new(file_bytes, capacity, columns).filter(|layout| layout.heap.len() >= heap_bytes);
            if let Some(layout) = layout.filter(|_| capacity >= rows) {
                return layout;
            }
            file_bytes *= 2;
        }
        self.layout.clone()
    }

    /// The marks of the first `rows` rows, which are all there by now, as bytes.
    fn marks_of(&self, rows: usize) -> Vec<u8> {
        let mut marks = marks::of_rows(marks::read(&self.mapping, &self.layout).into_iter(), rows);
        let last = marks.last().copied().unwrap_or_default();
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        if last.rows < rows && marks.len() < MARKS_MAX {
            let now_s = u32::try_from(now().as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
            marks.push(Mark { rows, unix_s: now_s.max(last.unix_s) });
        }
        marks.iter().flat_map(|mark| [mark.rows.to_le_bytes(), mark.unix_s.to_le_bytes()].concat()).collect()
    }

    /// Header, descriptors, null flags, and the marks of rows that are copied.
    fn copy_head(&self, layout: &Layout, columns: &Columns, marks: &[u8], file: &dyn File) -> Result<()> {
        let descriptors = encode_descriptors(columns);
        file.write_at(&descriptors, layout.descriptors as u64)?;
        let mut flags = vec![0; columns.fields.len()];
        self.mapping.read(self.layout.null_flags, &mut flags);
        file.write_at(&flags, layout.null_flags as u64)?;
        file.write_at(marks, layout.marks as u64)?;
        let number = |len: usize| {
            let too_many = || Error::corrupted(self.file.path(), 0, "more rows or fields than a header can say");
            u32::try_from(len).map_err(|_| too_many())
        };
        let header = Header {
            block: self.id,
            generation: self.generation,
            table: self.schema.id,
            file_bytes: layout.file_bytes as u64,
            capacity: number(layout.capacity)?,
            has_clock: columns.has_clock,
            fields: number(columns.fields.len())?,
            descriptors_checksum: crc32fast::hash(&descriptors),
            identity: file.identity()?,
            boot_id: [0; 16],
            created_ns: now().as_nanos(),
        };
        file.write_at(&header.encode(), 0)
    }
}
