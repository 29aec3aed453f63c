//! What a live block file holds when a store is opened.
//!
//! **Invariant (whose count to believe):** the published count is trusted only if boot id, device and inode are those of
//! the writer's life, no poison mark exists, and the kernel knows of no failed write-back. Then every page is in the page
//! cache or was written well. Otherwise only rows under a commit entry that holds count. In both cases all bytes that
//! count are read with `pread` first, so that a bad sector is an error here and not a signal later.
//!
//! **Invariant:** after a failed sync or write-back no byte counts that the kernel only takes for written: files with
//! rows to keep are written again, and those without are removed and not filled again. A file's mark stays until then.
//!
//! **Invariant:** a trusted count is not below the newest commit entry, whose checksums hold; and after a close it is what
//! the close said. So of what is committed every byte is checked in either case.

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
use super::layout::{Columns, DESCRIPTOR_BYTES, HEAP_USED, Layout, MARKS_BYTES, POISON, PUBLISHED, SLOT_COUNT, SLOTS};
use super::live_block::{LiveBlock, Released};
use super::marks;

/// What was found in one file.
#[derive(Debug)]
pub(crate) enum Found {
    /// Rows to keep.
    Block(Recovered),
    /// Nothing to keep: to be recycled.
    Nothing(Released, Empty),
    /// Nothing to keep, of a file of which a failed sync may have dropped what the kernel shows: to be removed.
    Spoiled(Empty),
    /// The file was being made when the process died; to be removed.
    Unfinished,
}

/// A block without rows to keep.
#[derive(Debug)]
pub(crate) struct Empty {
    pub(crate) block: u64,
    pub(crate) generation: u64,
    /// As of one with rows.
    pub(crate) rows_cut: u64,
}

/// A block with rows.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) block: Arc<LiveBlock>,
    /// Whether a writer may go on with it.
    pub(crate) sound: bool,
    /// Rows that had been published but were not under a commit entry that holds; they are left out.
    pub(crate) rows_cut: u64,
    /// When it was handed to the first writer of its life.
    pub(crate) created_ns: i64,
}

/// What the rest of the store knows of a block.
pub(crate) struct Known<'a> {
    pub(crate) boot_id: [u8; 16],
    /// Rows of (block, generation) that are in segments, and whether that is all there will be.
    pub(crate) sealed: &'a dyn Fn(u64, u64) -> (usize, bool),
    pub(crate) table: &'a dyn Fn(TableId) -> Option<Arc<TableSchema>>,
    /// Rows of (block, generation) that were durable when the store was closed, if it was.
    pub(crate) closed: &'a dyn Fn(u64, u64) -> Option<u64>,
    /// Where the blocks' limits are.
    pub(crate) limits: &'a Words,
    /// Whether damage is no error, but leaves what the longest prefix of rows is that a commit entry still vouches for.
    pub(crate) salvage: bool,
}

/// What of a block counts.
struct Counted {
    rows: usize,
    heap_bytes: usize,
    /// Of the newest commit entry that is believed.
    sequence: u64,
}

/// The last good commit where nobody knows it.
pub(super) const UNKNOWN: u64 = u64::MAX;

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
    if len == 0 {
        return Ok(Found::Unfinished);
    }
    if len < PAGE_BYTES as u64 {
        // Space is allocated before anything is written, and in whole pages.
        return Err(Error::corrupted(&path, len, "the block is cut short"));
    }
    let mut head = vec![0; PAGE_BYTES];
    file.read_at(&mut head, 0)?;
    let Some(sector) = head.first_chunk::<SECTOR_BYTES>() else { return Ok(Found::Unfinished) };
    if sector.iter().all(|byte| *byte == 0) {
        let mut slots = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(SLOTS + SLOT_COUNT * SECTOR_BYTES)];
        file.read_at(&mut slots, 0)?;
        // The header is the first thing that is written to a file, and durable before the next.
        let unfinished = slots.iter().all(|byte| *byte == 0);
        return if unfinished { Ok(Found::Unfinished) } else { Err(Error::corrupted(&path, 0, "the header is gone")) };
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
    let mut mark = poisoned(&head, header.generation);
    if file.check_write_back().is_err() && mark.is_none() {
        // It dropped bytes as a failed sync does, and the kernel tells once: the next open must know if this one fails.
        poison(&mapping, header.generation, UNKNOWN);
        mark = Some(UNKNOWN);
    }
    let is_spoiled = poisoned_store || mark.is_some();
    let nothing = |mapping, rows_cut| {
        let empty = Empty { block: header.block, generation: header.generation, rows_cut };
        if is_spoiled {
            return Ok(Found::Spoiled(empty));
        }
        let released = Released { id: header.block, file: file.clone(), mapping, sealed: true };
        Ok(Found::Nothing(released, empty))
    };
    let (sealed_rows, done) = (known.sealed)(header.block, header.generation);
    if header.table == FREE || done {
        return nothing(mapping, 0);
    }
    let word = |at: usize| head.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes);
    let (published, heap_used) = (word(PUBLISHED), word(HEAP_USED));
    let trusted = !is_spoiled
        && known.boot_id != [0; 16]
        && header.boot_id == known.boot_id
        && header.identity == file.identity()?;
    let reader = Reader { file: &*file, path: &path, header: &header };
    let Some(layout) = reader.layout()? else {
        return nothing(mapping, published.min(u64::from(header.capacity)));
    };
    let schema = (known.table)(header.table)
        .ok_or_else(|| Error::corrupted(&path, 12, format!("table {} is not in the manifest", header.table)))?;
    let closed = (known.closed)(header.block, header.generation);
    let counted = if trusted && !known.salvage {
        reader.trusted(&layout, (published, heap_used), closed, sealed_rows)?
    } else {
        reader.durable(&layout, mark.unwrap_or(UNKNOWN), known.salvage)?
    };
    let Counted { rows, heap_bytes, sequence } = counted;
    if let Some(closed) = closed.and_then(|closed| usize::try_from(closed).ok())
        && rows.max(sealed_rows) < closed
        && !known.salvage
    {
        let reason =
            format!("the store was closed with {closed} rows in this block, and commit entries hold for {rows}");
        return Err(Error::corrupted(&path, SLOTS as u64, reason));
    }
    // Sealed rows are in segments, whatever the block still has of them: their bytes are never looked at again.
    let kept = rows.max(sealed_rows).min(layout.capacity);
    let rows_cut = published.min(layout.capacity as u64).saturating_sub(kept as u64);
    if kept == 0 {
        return nothing(mapping, rows_cut);
    }
    // Release: a reader in another process that still has the block sees rows that are whole, as from its writer.
    mapping.word(PUBLISHED).store(kept as u64, Ordering::Release);
    mapping.word(HEAP_USED).store(heap_bytes as u64, Ordering::Release);
    marks::cut(&mapping, &layout, kept);
    for (number, field) in layout.fields.iter().enumerate() {
        let Some(absent) = field.absent else { continue };
        // A row that was being written may have left its mark; the next one there relies on zero.
        mapping.zero(absent + kept, layout.capacity - kept);
        // No checksum covers the flags, and nulls are read only where they are set.
        let flag = u8::from(has_nulls(&mapping, absent, kept));
        if mapping.byte(layout.null_flags + number).load(Ordering::Relaxed) != flag {
            mapping.write(layout.null_flags + number, &[flag]);
        }
    }
    if !trusted || known.salvage {
        // Entries that do not count must not be taken for the newest once the count is trusted again.
        reader.forget_after(&mapping, &layout, sequence)?;
        mapping.write(0, &Header { boot_id: known.boot_id, identity: file.identity()?, ..header.clone() }.encode());
        if is_spoiled {
            // The mark goes from the store next. What was cut must not come back with a power loss.
            write_again(&*file, header.file_bytes)?;
            file.sync_data()?;
        }
        // Last: if that sync fails too, the next open must know. A mark that comes back with a power loss cuts nothing,
        // since no entry follows the one that it names but of the same rows.
        mapping.zero(POISON, SECTOR_BYTES);
    }
    let sound = !is_spoiled && !known.salvage;
    let id = (header.block, header.generation);
    let next = NextCommit { sequence, settle_first: trusted };
    let block = LiveBlock::new(id, schema, file, mapping, layout, next, known.limits.take());
    Ok(Found::Block(Recovered { block: Arc::new(block), sound, rows_cut, created_ns: header.created_ns }))
}

/// Writes a file's bytes to it, as the kernel shows them: it takes what a failed sync dropped for written, and would not
/// write it until something changes there.
fn write_again(file: &dyn File, len: u64) -> Result<()> {
    let mut chunk = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(1 << 20)];
    for at in (0..len).step_by(chunk.len().max(1)) {
        let part = chunk.split_at_mut(usize::try_from(len - at).unwrap_or(usize::MAX).min(1 << 20)).0;
        file.read_at(part, at)?;
        file.write_at(part, at)?;
    }
    Ok(())
}

/// Whether any of the first `rows` rows is absent.
fn has_nulls(mapping: &Mapping, absent: usize, rows: usize) -> bool {
    let mut chunk = vec![0; rows.min(64 << 10)];
    (0..rows).step_by(chunk.len().max(1)).any(|start| {
        let part = chunk.split_at_mut((rows - start).min(64 << 10)).0;
        mapping.read(absent + start, part);
        part.iter().any(|byte| *byte != 0)
    })
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

    /// The entries of this life, the newest first. Damaged ones are passed over if `salvage`.
    fn slots(&self, layout: &Layout, salvage: bool) -> Result<Vec<CommitEntry>> {
        let regions = layout.regions().count();
        let mut entries = Vec::new();
        for slot in 0..SLOT_COUNT {
            let offset = (SLOTS + slot * layout.slot_bytes) as u64;
            let mut bytes = vec![0; layout.slot_bytes];
            self.file.read_at(&mut bytes, offset)?;
            match CommitEntry::decode(&bytes, regions) {
                Slot::Entry(entry) if entry.generation == self.header.generation => entries.push(entry),
                Slot::Entry(_) | Slot::Empty | Slot::Torn => {}
                Slot::Damaged if salvage => {}
                Slot::Damaged => return Err(Error::corrupted(self.path, offset, "a commit entry fails its checksum")),
            }
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.sequence));
        Ok(entries)
    }

    /// What counts where the published count is trusted.
    fn trusted(
        &self,
        layout: &Layout,
        (published, heap_used): (u64, u64),
        closed: Option<u64>,
        sealed_rows: usize,
    ) -> Result<Counted> {
        let damaged = |offset: usize, reason: String| Err(Error::corrupted(self.path, offset as u64, reason));
        let rows = usize::try_from(published).unwrap_or(usize::MAX);
        let heap_bytes = usize::try_from(heap_used).unwrap_or(usize::MAX);
        if rows > layout.capacity {
            return damaged(PUBLISHED, format!("{rows} rows in a block of {}", layout.capacity));
        }
        if heap_bytes > layout.heap.len() {
            return damaged(HEAP_USED, format!("{heap_bytes} bytes of a heap of {}", layout.heap.len()));
        }
        let newest = self.slots(layout, false)?.into_iter().next();
        let entry = newest.as_ref().map_or((0, 0, 0), |entry| (entry.rows, entry.heap_bytes, entry.sequence));
        if published.max(sealed_rows as u64) < closed.unwrap_or(0).max(entry.0) || heap_used < entry.1 {
            let reason =
                format!("{rows} rows and {heap_bytes} bytes of strings were published, fewer than were synced");
            return damaged(PUBLISHED, reason);
        }
        // Rows that nobody knew of at the close came after it.
        let rows = closed.and_then(|closed| usize::try_from(closed).ok()).map_or(rows, |closed| rows.min(closed));
        let summed = (usize::try_from(entry.0).unwrap_or(0), usize::try_from(entry.1).unwrap_or(0));
        let found = self.read(layout, (rows, heap_bytes), summed)?;
        let failed = match &newest {
            Some(entry) => self.first_failed(layout, &found, entry)?,
            None => None,
        };
        match failed {
            // Nobody looks at the bytes of sealed rows again.
            Some(offset) if rows > sealed_rows => {
                damaged(offset, format!("bytes under commit {} fail their checksum", entry.2))
            }
            _ => Ok(Counted { rows, heap_bytes, sequence: entry.2 }),
        }
    }

    /// What counts where commit entries alone are believed.
    fn durable(&self, layout: &Layout, last_good: u64, salvage: bool) -> Result<Counted> {
        let entry = if salvage { self.longest(layout, last_good)? } else { self.committed(layout, last_good)? };
        // The next sync takes the place of one that never answered.
        let (rows, heap_bytes, sequence) =
            entry.map_or((0, 0, 0), |entry| (entry.rows, entry.heap_bytes, entry.sequence));
        let size = |word: u64| usize::try_from(word).unwrap_or(usize::MAX);
        Ok(Counted { rows: size(rows), heap_bytes: size(heap_bytes), sequence })
    }

    /// The newest entry up to `last_good` that holds, whatever else is damaged.
    fn longest(&self, layout: &Layout, last_good: u64) -> Result<Option<CommitEntry>> {
        for entry in self.slots(layout, true)?.into_iter().filter(|entry| entry.sequence <= last_good) {
            if self.holds(layout, &entry)?.is_none() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Clears slots of this life with entries after `sequence`, and those that say nothing.
    fn forget_after(&self, mapping: &Mapping, layout: &Layout, sequence: u64) -> Result<()> {
        let regions = layout.regions().count();
        for slot in 0..SLOT_COUNT {
            let offset = SLOTS + slot * layout.slot_bytes;
            let mut bytes = vec![0; layout.slot_bytes];
            self.file.read_at(&mut bytes, offset as u64)?;
            let counts = match CommitEntry::decode(&bytes, regions) {
                Slot::Empty => true,
                Slot::Entry(entry) => entry.generation == self.header.generation && entry.sequence <= sequence,
                Slot::Torn | Slot::Damaged => false,
            };
            if !counts {
                mapping.zero(offset, layout.slot_bytes);
            }
        }
        Ok(())
    }

    /// The newest entry up to `last_good` that holds. The newest of all may be one whose sync never answered; the one
    /// before it was durable, so if that does not hold either, bytes were damaged.
    pub(super) fn committed(&self, layout: &Layout, last_good: u64) -> Result<Option<CommitEntry>> {
        let entries = self.slots(layout, false)?;
        let newest = entries.first().map_or(0, |entry| entry.sequence);
        let mut candidates = entries.into_iter().filter(|entry| entry.sequence <= last_good).peekable();
        while let Some(entry) = candidates.next() {
            let failed = match self.holds(layout, &entry)? {
                None => return Ok(Some(entry)),
                Some(offset) => offset,
            };
            // The first sync of a block has none before it to fall back on.
            let never_answered = entry.sequence == newest && last_good == UNKNOWN;
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
        let prefix = (rows.unwrap_or_default(), heap.unwrap_or_default());
        self.first_failed(layout, &self.read(layout, prefix, prefix)?, entry)
    }

    /// Where the first of an entry's checksums fails, if one does; `found` are those of the columns.
    fn first_failed(&self, layout: &Layout, found: &[u32], entry: &CommitEntry) -> Result<Option<usize>> {
        let mut pairs = layout.regions().zip(found).zip(&entry.checksums);
        if let Some(((region, _), _)) = pairs.find(|((_, found), stored)| found != stored) {
            return Ok(Some(region.offset));
        }
        if entry.marks == 0 {
            return Ok(None);
        }
        let mut page = vec![0; MARKS_BYTES];
        // Twice, because a mark may have been written while it was read.
        for _ in 0..2 {
            self.file.read_at(&mut page, layout.marks as u64)?;
            if marks::sum_of(&page, usize::try_from(entry.rows).unwrap_or(usize::MAX)) == entry.marks {
                return Ok(None);
            }
        }
        Ok(Some(layout.marks))
    }

    /// Reads every byte of so many rows and heap bytes, and gives the checksums of the first `summed` of them.
    fn read(
        &self,
        layout: &Layout,
        (rows, heap_bytes): (usize, usize),
        (summed_rows, summed_heap): (usize, usize),
    ) -> Result<Vec<u32>> {
        const CHUNK_BYTES: usize = 1 << 20;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut sums = Vec::new();
        for region in layout.regions() {
            let bytes = |rows: usize, heap: usize| if region.row_bytes == 0 { heap } else { rows * region.row_bytes };
            let (len, summed) = (bytes(rows, heap_bytes), bytes(summed_rows, summed_heap));
            let mut hasher = crc32fast::Hasher::new();
            for start in (0..len).step_by(CHUNK_BYTES) {
                let chunk = buffer.split_at_mut((len - start).min(CHUNK_BYTES)).0;
                self.file.read_at(chunk, (region.offset + start) as u64)?;
                hasher.update(chunk.split_at(summed.saturating_sub(start).min(chunk.len())).0);
            }
            sums.push(hasher.finalize());
        }
        Ok(sums)
    }
}
