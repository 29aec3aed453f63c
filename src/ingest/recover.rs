//! What a live block file holds when a store is opened.
//!
//! **Invariant (whose count to believe):** the published count is trusted only if boot id, device and inode are those of
//! the writer's life, no poison mark exists, and the kernel knows of no failed write-back. Then every page is in the page
//! cache or was written well. Otherwise only rows under a commit entry that holds count. In both cases all bytes that
//! count are read with `pread` first, so that a bad sector is an error here and not a signal later.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::fs::fork::Words;
use crate::fs::{File, LockKind, Mapping, PAGE_BYTES, SECTOR_BYTES};
use crate::model::{TableId, TableSchema};

use super::block_commit::NextCommit;
use super::commit::{CommitEntry, Slot};
use super::header::{FREE, Header, decode_descriptors};
use super::layout::{Columns, DESCRIPTOR_BYTES, HEAP_USED, Layout, POISON, PUBLISHED, SLOT_COUNT, SLOTS};
use super::live_block::{LiveBlock, Released};
use super::marks;

/// What was found in one file.
#[derive(Debug)]
pub(crate) enum Found {
    /// Rows to keep.
    Block(Recovered),
    /// Nothing to keep: to be recycled.
    Nothing(Released, u64),
    /// The file was being made when the process died; to be removed.
    Unfinished,
}

/// A block with rows.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) block: Arc<LiveBlock>,
    /// Whether a writer may go on with it.
    pub(crate) sound: bool,
    /// Rows that had been published but were not under a commit entry that holds; they are left out.
    pub(crate) rows_cut: u64,
}

/// What the rest of the store knows of a block.
pub(crate) struct Known<'a> {
    pub(crate) boot_id: [u8; 16],
    /// Rows of (block, generation) that are in segments, and whether that is all there will be.
    pub(crate) sealed: &'a dyn Fn(u64, u64) -> (usize, bool),
    pub(crate) table: &'a dyn Fn(TableId) -> Option<Arc<TableSchema>>,
    /// Where the blocks' limits are.
    pub(crate) limits: &'a Words,
}

/// The mark that a failed sync leaves in the block: which commit was the last good one.
pub(crate) fn poison(mapping: &Mapping, generation: u64, last_good: u64) {
    let mut mark = [0; 20];
    let (body, checksum) = mark.split_at_mut(16);
    let (first, second) = body.split_at_mut(8);
    first.copy_from_slice(&generation.to_le_bytes());
    second.copy_from_slice(&last_good.to_le_bytes());
    checksum.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    mapping.write(POISON, &mark);
}

/// The last good commit, if the head has a poison mark of this generation.
pub(super) fn poisoned(head: &[u8], generation: u64) -> Option<u64> {
    let mark = head.get(POISON..POISON + 20)?;
    let (body, checksum) = mark.split_at(16);
    let (marked, last_good) = body.split_at(8);
    let is_mark = checksum == crc32fast::hash(body).to_le_bytes() && marked == generation.to_le_bytes();
    is_mark.then(|| last_good.try_into().map_or(0, u64::from_le_bytes))
}

/// Looks at one file.
pub(crate) fn recover(file: Arc<dyn File>, known: &Known<'_>, poisoned_store: bool) -> Result<Found> {
    let path = file.path().to_path_buf();
    let len = file.len()?;
    if len < PAGE_BYTES as u64 {
        return Ok(Found::Unfinished);
    }
    let mut head = vec![0; PAGE_BYTES];
    file.read_at(&mut head, 0)?;
    let Some(sector) = head.first_chunk::<SECTOR_BYTES>() else { return Ok(Found::Unfinished) };
    if sector.iter().all(|byte| *byte == 0) {
        return Ok(Found::Unfinished);
    }
    let header = Header::decode(&path, sector)?;
    if len < header.file_bytes {
        return Err(Error::corrupted(
            &path,
            len,
            format!("the block is cut short, it had {} bytes", header.file_bytes),
        ));
    }
    let mapping = file.map(usize::try_from(header.file_bytes).unwrap_or(usize::MAX))?;
    file.try_lock(LockKind::Shared)?;
    let nothing = |mapping| {
        let released = Released { id: header.block, file: file.clone(), mapping, sealed: true };
        Ok(Found::Nothing(released, header.generation))
    };
    let (sealed_rows, done) = (known.sealed)(header.block, header.generation);
    if header.table == FREE || done {
        return nothing(mapping);
    }
    let mark = poisoned(&head, header.generation);
    let trusted = !poisoned_store
        && mark.is_none()
        && known.boot_id != [0; 16]
        && header.boot_id == known.boot_id
        && header.identity == file.identity()?
        && file.check_write_back().is_ok();
    let reader = Reader { file: &*file, path: &path, header: &header };
    let Some(layout) = reader.layout()? else { return nothing(mapping) };
    let schema = (known.table)(header.table)
        .ok_or_else(|| Error::corrupted(&path, 12, format!("table {} is not in the manifest", header.table)))?;
    let head_word =
        |at: usize| head.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes);
    let published = head_word(PUBLISHED);
    let (rows, heap_bytes, sequence) = if trusted {
        let rows = usize::try_from(published).unwrap_or(usize::MAX);
        if rows > layout.capacity {
            return Err(Error::corrupted(
                &path,
                PUBLISHED as u64,
                format!("{rows} rows in a block of {}", layout.capacity),
            ));
        }
        let heap_bytes = usize::try_from(head_word(HEAP_USED)).unwrap_or(usize::MAX).min(layout.heap.len());
        reader.checksums(&layout, rows, heap_bytes)?;
        (rows, heap_bytes, reader.newest_sequence(&layout)?)
    } else {
        let last_good = mark.unwrap_or(u64::MAX);
        let entry = reader.committed(&layout, last_good)?;
        let rows = entry.as_ref().map_or(0, |entry| entry.rows);
        let heap = entry.as_ref().map_or(0, |entry| entry.heap_bytes);
        // The next sync takes the place of one that never answered.
        let sequence = entry.as_ref().map_or(0, |entry| entry.sequence);
        (usize::try_from(rows).unwrap_or(usize::MAX), usize::try_from(heap).unwrap_or(usize::MAX), sequence)
    };
    // Sealed rows are in segments, whatever the block still has of them: their bytes are never looked at again.
    let kept = rows.max(sealed_rows).min(layout.capacity);
    let rows_cut = if trusted { 0 } else { published.min(layout.capacity as u64).saturating_sub(kept as u64) };
    if kept == 0 {
        return nothing(mapping);
    }
    // Release: a reader in another process that still has the block sees rows that are whole, as from its writer.
    mapping.word(PUBLISHED).store(kept as u64, Ordering::Release);
    mapping.word(HEAP_USED).store(heap_bytes as u64, Ordering::Release);
    marks::cut(&mapping, &layout, kept);
    for (number, field) in layout.fields.iter().enumerate() {
        let Some(absent) = field.absent else { continue };
        // A row that was being written may have left its mark; the next one there relies on zero.
        mapping.zero(absent + kept, layout.capacity - kept);
        if !trusted {
            mapping.write(layout.null_flags + number, &[1]);
        }
    }
    if !trusted {
        mapping.zero(POISON, SECTOR_BYTES);
        mapping.write(0, &Header { boot_id: known.boot_id, identity: file.identity()?, ..header.clone() }.encode());
    }
    let sound = mark.is_none() && !poisoned_store;
    let id = (header.block, header.generation);
    let next = NextCommit { sequence, settle_first: trusted };
    let block = LiveBlock::new(id, schema, file, mapping, layout, next, known.limits.take());
    Ok(Found::Block(Recovered { block: Arc::new(block), sound, rows_cut }))
}

/// A block file before it is trusted.
pub(super) struct Reader<'a> {
    pub(super) file: &'a dyn File,
    pub(super) path: &'a Path,
    pub(super) header: &'a Header,
}

impl Reader<'_> {
    /// The columns' layout; `None` if the descriptors were never made durable, so that no commit was either.
    pub(super) fn layout(&self) -> Result<Option<Layout>> {
        // The layout of columns of any type has its descriptors at the same place, given their number and clock.
        let fields = usize::try_from(self.header.fields).unwrap_or(usize::MAX);
        let file_bytes = usize::try_from(self.header.file_bytes).unwrap_or(usize::MAX);
        if fields > file_bytes / DESCRIPTOR_BYTES {
            return Err(Error::corrupted(self.path, 44, format!("{fields} fields")));
        }
        let capacity = self.header.capacity as usize;
        let damaged = |reason: &str| Error::corrupted(self.path, SLOTS as u64, reason);
        // Where the descriptors are depends on how many checksums a commit has, and that on the types that they say. So
        // both lie behind slots of a size that is tried from the smallest up.
        let mut bytes = vec![0; fields * DESCRIPTOR_BYTES];
        for sectors in 1..=(4 + 2 * fields).div_ceil(super::commit::SECTOR_CHECKSUMS) {
            let at = SLOTS + SLOT_COUNT * sectors * SECTOR_BYTES;
            if at + bytes.len() > file_bytes {
                break;
            }
            self.file.read_at(&mut bytes, at as u64)?;
            if crc32fast::hash(&bytes) != self.header.descriptors_checksum {
                continue;
            }
            let columns: Columns = decode_descriptors(&bytes, self.header.has_clock)
                .ok_or_else(|| damaged("a column type that this build does not know"))?;
            let layout = Layout::new(file_bytes, capacity, &columns)
                .ok_or_else(|| damaged("the columns do not fit the file"))?;
            if layout.descriptors == at {
                return Ok(Some(layout));
            }
        }
        let mut first = vec![0; SLOT_COUNT * SECTOR_BYTES];
        self.file.read_at(&mut first, SLOTS as u64)?;
        if first.iter().any(|byte| *byte != 0) {
            return Err(damaged("the column descriptors fail their checksum"));
        }
        Ok(None)
    }

    fn slots(&self, layout: &Layout) -> Result<Vec<CommitEntry>> {
        let regions = layout.regions().count();
        let mut entries = Vec::new();
        for slot in 0..SLOT_COUNT {
            let offset = (SLOTS + slot * layout.slot_bytes) as u64;
            let mut bytes = vec![0; layout.slot_bytes];
            self.file.read_at(&mut bytes, offset)?;
            match CommitEntry::decode(&bytes, regions) {
                Slot::Entry(entry) if entry.generation == self.header.generation => entries.push(entry),
                Slot::Entry(_) | Slot::Empty | Slot::Torn => {}
                Slot::Damaged => return Err(Error::corrupted(self.path, offset, "a commit entry fails its checksum")),
            }
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.sequence));
        Ok(entries)
    }

    fn newest_sequence(&self, layout: &Layout) -> Result<u64> {
        Ok(self.slots(layout)?.first().map_or(0, |entry| entry.sequence))
    }

    /// The newest entry up to `last_good` that holds. The newest of all may be one whose sync never answered; the one
    /// before it was durable, so if that does not hold either, bytes were damaged.
    pub(super) fn committed(&self, layout: &Layout, last_good: u64) -> Result<Option<CommitEntry>> {
        let entries = self.slots(layout)?;
        let newest = entries.first().map_or(0, |entry| entry.sequence);
        let mut candidates = entries.into_iter().filter(|entry| entry.sequence <= last_good).peekable();
        while let Some(entry) = candidates.next() {
            let failed = match self.holds(layout, &entry)? {
                None => return Ok(Some(entry)),
                Some(offset) => offset,
            };
            // The first sync of a block has none before it to fall back on.
            let never_answered = entry.sequence == newest && last_good == u64::MAX;
            if !never_answered || (entry.sequence > 1 && candidates.peek().is_none()) {
                let reason = format!("bytes under commit {} fail their checksum", entry.sequence);
                return Err(Error::corrupted(self.path, failed as u64, reason));
            }
        }
        Ok(None)
    }

    /// Where the first checksum fails, if one does.
    pub(super) fn holds(&self, layout: &Layout, entry: &CommitEntry) -> Result<Option<usize>> {
        let fits = entry.rows <= layout.capacity as u64 && entry.heap_bytes <= layout.heap.len() as u64;
        if !fits {
            return Ok(Some(SLOTS));
        }
        let (rows, heap) = (usize::try_from(entry.rows), usize::try_from(entry.heap_bytes));
        let found = self.checksums(layout, rows.unwrap_or_default(), heap.unwrap_or_default())?;
        let mut pairs = layout.regions().zip(found).zip(&entry.checksums);
        Ok(pairs.find(|((_, found), stored)| found != *stored).map(|((region, _), _)| region.offset))
    }

    /// Reads every byte of `rows` rows, and sums them.
    fn checksums(&self, layout: &Layout, rows: usize, heap_bytes: usize) -> Result<Vec<u32>> {
        const CHUNK_BYTES: usize = 1 << 20;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut sums = Vec::new();
        for region in layout.regions() {
            let len = if region.row_bytes == 0 { heap_bytes } else { rows * region.row_bytes };
            let mut hasher = crc32fast::Hasher::new();
            for start in (0..len).step_by(CHUNK_BYTES) {
                let chunk = buffer.split_at_mut((len - start).min(CHUNK_BYTES)).0;
                self.file.read_at(chunk, (region.offset + start) as u64)?;
                hasher.update(chunk);
            }
            sums.push(hasher.finalize());
        }
        Ok(sums)
    }
}
