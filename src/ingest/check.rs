//! What a live block's file says for itself: whether all that a commit entry vouches for is still there.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{File, PAGE_BYTES, SECTOR_BYTES};
use crate::model::TableId;

use super::commit::{CommitEntry, Slot};
use super::header::{FREE, Header};
use super::layout::{PUBLISHED, SLOT_COUNT, SLOTS};
use super::live_block::LiveBlock;
use super::recover::{Reader, UNKNOWN, poisoned};

/// A block's file that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// `None` while the file is free.
    pub(crate) table: Option<TableId>,
    pub(crate) block: u64,
    pub(crate) generation: u64,
    /// Rows under the newest commit entry.
    pub(crate) committed_rows: u64,
    /// Rows that were published, which no checksum covers beyond those.
    pub(crate) published_rows: u64,
}

impl LiveBlock {
    /// Checks header, descriptors, and every byte under the last good commit, while the writer goes on.
    pub(crate) fn check(self: &Arc<Self>) -> Result<Checked> {
        let path = self.file.path();
        let mut sector = [0; SECTOR_BYTES];
        self.file.read_at(&mut sector, 0)?;
        let header = Header::decode(path, &sector)?;
        if (header.block, header.generation) != (self.id, self.generation) {
            return Err(Error::corrupted(path, 0, "the header is of another block's life"));
        }
        let reader = Reader { file: &*self.file, path, header: &header };
        if reader.layout()?.as_ref() != Some(&self.layout) {
            return Err(Error::corrupted(path, 0, "header and descriptors are not those of the open block"));
        }
        let mut checked = Checked {
            table: Some(header.table),
            block: self.id,
            generation: self.generation,
            committed_rows: 0,
            published_rows: self.rows() as u64,
        };
        // Bytes of the entry's rows never change, so its sums can be made without keeping the next sync waiting.
        let Some(entry) = self.last_commit()? else { return Ok(checked) };
        if let Some(offset) = reader.holds(&self.layout, &entry)? {
            return Err(broken(path, &entry, offset));
        }
        checked.committed_rows = entry.rows;
        Ok(checked)
    }

    /// The entry of the last good commit of this life of the file; older and torn ones may lie beside it.
    fn last_commit(&self) -> Result<Option<CommitEntry>> {
        let mut bytes = vec![0; self.layout.slot_bytes];
        let (sequence, offset) = loop {
            let sequence = self.committed();
            if sequence == 0 {
                return Ok(None);
            }
            let slot = usize::try_from(sequence % SLOT_COUNT as u64).unwrap_or_default();
            let offset = (SLOTS + slot * self.layout.slot_bytes) as u64;
            self.file.read_at(&mut bytes, offset)?;
            // The next commit writes the next slot, so what was read is whole unless others came in between.
            if self.committed() == sequence {
                break (sequence, offset);
            }
        };
        match CommitEntry::decode(&bytes, self.layout.regions().count()) {
            Slot::Entry(entry) if (entry.generation, entry.sequence) == (self.generation, sequence) => Ok(Some(entry)),
            _ => Err(Error::corrupted(self.file.path(), offset, "the last commit entry is not what was written")),
        }
    }
}

fn broken(path: &std::path::Path, entry: &CommitEntry, offset: usize) -> Error {
    Error::corrupted(path, offset as u64, format!("bytes under commit {} fail their checksum", entry.sequence))
}

/// Checks a file that nobody writes, and changes nothing; `None` if it was not finished. `done` says whether all rows of a
/// (block, generation) are in segments, so that nobody looks at its bytes again.
pub(crate) fn check_file(file: &dyn File, done: &dyn Fn(u64, u64) -> bool) -> Result<Option<Checked>> {
    let path = file.path();
    let len = file.len()?;
    if len < PAGE_BYTES as u64 {
        return Ok(None);
    }
    let mut head = vec![0; PAGE_BYTES];
    file.read_at(&mut head, 0)?;
    let Some(sector) = head.first_chunk::<SECTOR_BYTES>().filter(|sector| sector.iter().any(|byte| *byte != 0)) else {
        return Ok(None);
    };
    let header = Header::decode(path, sector)?;
    if len < header.file_bytes {
        let reason = format!("the block is cut short, it had {} bytes", header.file_bytes);
        return Err(Error::corrupted(path, len, reason));
    }
    let (block, generation) = (header.block, header.generation);
    let free = Checked { table: None, block, generation, committed_rows: 0, published_rows: 0 };
    if header.table == FREE || done(block, generation) {
        return Ok(Some(free));
    }
    let reader = Reader { file, path, header: &header };
    // Descriptors that never became durable belong to a life without a commit.
    let Some(layout) = reader.layout()? else { return Ok(Some(free)) };
    let published =
        head.get(PUBLISHED..).and_then(|word| word.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word));
    if published > layout.capacity as u64 {
        let reason = format!("{published} rows in a block of {}", layout.capacity);
        return Err(Error::corrupted(path, PUBLISHED as u64, reason));
    }
    let entry = reader.committed(&layout, poisoned(&head, generation).unwrap_or(UNKNOWN))?;
    let committed_rows = entry.map_or(0, |entry| entry.rows);
    Ok(Some(Checked { table: Some(header.table), committed_rows, published_rows: published, ..free }))
}
