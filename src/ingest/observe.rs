//! Looking at live blocks that another process writes, or has written.
//!
//! **Invariant:** a block is looked at under a shared lock that was taken before its generation was read. The store
//! recycles a file only under an exclusive one, so the generation stays for as long as the block is held.
//!
//! **Invariant (whose count to believe):** as in [`recover`](super::recover), save that nothing is changed: the published
//! count if the kernel that runs is the one under which this life of the file began, and the file is no copy; else the
//! rows under the last commit entry that holds.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::fork::Words;
use crate::fs::{File, LockKind, PAGE_BYTES, SECTOR_BYTES};
use crate::model::{TableId, TableSchema};

use super::block_commit::NextCommit;
use super::header::{FREE, Header};
use super::live_block::LiveBlock;
use super::recover::{Reader, UNKNOWN, poisoned};

/// What the rest of the store knows of a block.
pub(crate) struct Known<'a> {
    pub(crate) boot_id: [u8; 16],
    /// Whether all rows of a (block, generation) are in segments, so that nobody looks at its bytes again. After a power loss
    /// they may be those of the file's next life, under the header of this one.
    pub(crate) done: &'a dyn Fn(u64, u64) -> bool,
    pub(crate) table: &'a dyn Fn(TableId) -> Option<Arc<TableSchema>>,
    /// Where the blocks' limits are, which nobody looks at here.
    pub(crate) limits: &'a Words,
}

/// What a file is when it is looked at.
pub(crate) enum Observed {
    Block(Arc<LiveBlock>),
    /// No rows in it, and none will come in this generation.
    Nothing,
    /// The store is recycling or making it.
    Changing,
}

/// Looks at one file, which stays as it is for as long as the block is held.
pub(crate) fn observe(file: Arc<dyn File>, known: &Known<'_>) -> Result<Observed> {
    let path = file.path().to_path_buf();
    let len = file.len()?;
    if len == 0 || !file.try_lock(LockKind::Shared)? {
        return Ok(Observed::Changing);
    }
    if len < PAGE_BYTES as u64 {
        return Err(Error::corrupted(&path, len, "the block is cut short"));
    }
    let mut head = vec![0; PAGE_BYTES];
    file.read_at(&mut head, 0)?;
    let Some(sector) = head.first_chunk::<SECTOR_BYTES>() else { return Ok(Observed::Changing) };
    if sector.iter().all(|byte| *byte == 0) {
        return Ok(Observed::Changing);
    }
    let header = Header::decode(&path, sector)?;
    if header.table == FREE || (known.done)(header.block, header.generation) {
        return Ok(Observed::Nothing);
    }
    let schema = (known.table)(header.table)
        .ok_or_else(|| Error::corrupted(&path, 12, format!("table {} is not in the manifest", header.table)))?;
    let reader = Reader { file: &*file, path: &path, header: &header };
    if file.len()? < header.file_bytes {
        let reason = format!("the block is cut short, it had {} bytes", header.file_bytes);
        return Err(Error::corrupted(&path, file.len()?, reason));
    }
    let Some(layout) = reader.layout()? else { return Ok(Observed::Nothing) };
    let trusted = known.boot_id != [0; 16] && header.boot_id == known.boot_id && header.identity == file.identity()?;
    let fixed = if trusted {
        None
    } else {
        let entry = reader.committed(&layout, poisoned(&head, header.generation).unwrap_or(UNKNOWN))?;
        Some(entry.map_or((0, 0), |entry| (entry.rows, entry.heap_bytes)))
    };
    let mapping = file.map(usize::try_from(header.file_bytes).unwrap_or(usize::MAX))?;
    let id = (header.block, header.generation);
    let block = LiveBlock::new(id, schema, file, mapping, layout, NextCommit::default(), known.limits.take());
    Ok(Observed::Block(Arc::new(match fixed {
        Some((rows, heap_bytes)) => block.with_fixed(rows, heap_bytes),
        None => block,
    })))
}
