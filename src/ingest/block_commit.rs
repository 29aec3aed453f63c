//! Making the rows of a live block durable: its next commit entry, and the sync.

use std::sync::{Arc, PoisonError};

use crate::error::Result;

use super::commit::CommitEntry;
use super::layout::{MARKS_BYTES, SLOT_COUNT, SLOTS};
use super::live_block::LiveBlock;
use super::marks;

/// Where a block's syncs go on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NextCommit {
    /// The last commit's number.
    pub(crate) sequence: u64,
    /// Whether what the next entry stands on may not be durable: the header of a new life, or a commit whose sync may have
    /// been cut short by the death of its process. It is then synced before the entry is written: the
    /// ring's argument needs each entry's predecessor on disk.
    pub(crate) settle_first: bool,
}

/// How far a block's bytes are summed and synced.
#[derive(Debug, Default)]
pub(super) struct CommitState {
    next: NextCommit,
    rows: usize,
    heap_bytes: usize,
    hashers: Vec<crc32fast::Hasher>,
}

impl From<NextCommit> for CommitState {
    fn from(next: NextCommit) -> Self {
        Self { next, ..Self::default() }
    }
}

impl LiveBlock {
    /// Makes rows below `rows` durable: extends the checksums, writes the next commit entry, syncs the file. Returns
    /// whether there was anything to do. One caller at a time; after an error the block must never be synced again.
    pub(crate) fn commit(self: &Arc<Self>, rows: usize) -> Result<bool> {
        let mut state = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        if rows <= state.rows {
            return Ok(false);
        }
        if state.next.settle_first {
            self.file.sync_data()?;
            state.next.settle_first = false;
        }
        // Loaded after the count was, so it covers at least the strings of those rows. What it covers beyond are whole
        // strings of later rows: the cursor moves the word only once their bytes are there, and never writes them again.
        let heap_bytes = self.heap_bytes();
        let regions: Vec<_> = self.layout.regions().collect();
        state.hashers.resize_with(regions.len(), crc32fast::Hasher::new);
        let (from, heap_from) = (state.rows, state.heap_bytes);
        for (region, hasher) in regions.iter().zip(&mut state.hashers) {
            let bytes = match region.row_bytes {
                0 => self.heap(heap_from..heap_bytes),
                row_bytes => self.column(region.offset, row_bytes, from..rows),
            };
            hasher.update(&bytes);
        }
        let entry = CommitEntry {
            generation: self.generation,
            sequence: state.next.sequence + 1,
            rows: rows as u64,
            heap_bytes: heap_bytes as u64,
            checksums: state.hashers.iter().map(|hasher| hasher.clone().finalize()).collect(),
            marks: if self.schema.policies.keep_ingest_time { self.sum_of_marks(rows) } else { 0 },
        };
        let slot = usize::try_from(entry.sequence % SLOT_COUNT as u64).unwrap_or_default();
        self.mapping.write(SLOTS + slot * self.layout.slot_bytes, &entry.encode());
        self.file.sync_data()?;
        (state.next.sequence, state.rows, state.heap_bytes) = (entry.sequence, rows, heap_bytes);
        Ok(true)
    }

    /// A checksum of what the marks say of the first `rows` rows, which are marked.
    fn sum_of_marks(&self, rows: usize) -> u32 {
        // Nobody writes a mark meanwhile.
        let _marking = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = vec![0; MARKS_BYTES];
        self.mapping.read(self.layout.marks, &mut page);
        marks::sum_of(&page, rows)
    }

    /// Rows under the last good commit of this process.
    pub(crate) fn committed_rows(&self) -> usize {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner).rows
    }

    /// The last good commit's sequence number.
    pub(crate) fn committed(&self) -> u64 {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner).next.sequence
    }
}
