//! The live block files of a store: made, handed out, and recycled within a byte budget.
//!
//! **Invariant (no resurrection):** a file joins the free queue only after its header says a new generation, its commit
//! slots are cleared and both are synced. What its columns still hold belongs to a generation that no commit entry and no
//! seal record can name again.
//!
//! **Invariant:** a file whose sync failed is not filled again. It is in no view where a failed sync marks blocks, and
//! if a store is only being opened no other mark is left, so the pool marks it, and the next open removes it.
//!
//! **Invariant:** nobody looks at a file that is recycled. In this process the last `Arc` of its block is gone; other
//! processes hold a shared lock while they look, so a file whose exclusive lock is not free waits until it is. When the
//! budget is met before that, the file is unlinked: its reader keeps what it looks at, and the store makes a new one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, unbounded};

use crate::error::{Error, Result};
use crate::fs::fork::Words;
use crate::fs::{File, FileSystem, LockKind, Mapping};
use crate::model::{TableSchema, now};
use crate::options::{Options, Overload};

use super::block_commit::NextCommit;
use super::header::{FREE, Header, encode_descriptors};
use super::layout::{Columns, HEAP_USED, Layout, PUBLISHED, SLOTS};
use super::live_block::{LiveBlock, Released};
use super::recover::poison;

/// Bytes at a file's start that recycling clears and syncs. A layout whose slots and marks need more syncs them when the
/// block is handed out.
const CLEARED_BYTES: usize = 16 << 10;
/// Files that a pool keeps at most: as many as the control page can name.
pub(crate) const BLOCKS_MAX: usize = 4_096;
/// Free files kept for reuse. More are not worth their descriptors and their part of the budget: where rows come fast,
/// blocks are large and few.
pub(crate) const FREE_MAX: usize = 64;
/// Fewest rows a block is worth making for.
const ROWS_MIN: usize = 64;

/// The first commit of a life makes header and descriptors durable before it writes its entry: an entry on disk then says
/// that they were whole.
const FIRST_COMMIT: NextCommit = NextCommit { sequence: 0, settle_first: true };

/// All live block files.
#[derive(Debug)]
pub(crate) struct BlockPool {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    options: Options,
    boot_id: [u8; 16],
    generation: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    home: Sender<Released>,
    released: Receiver<Released>,
    limits: Arc<Words>,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Free>,
    /// Blocks that a reader in another process still looks at.
    held: Vec<Released>,
    files: usize,
    bytes: u64,
    next_id: u64,
    closed: bool,
}

/// A file that waits for its next life, whose generation it already has.
#[derive(Debug)]
pub(crate) struct Free {
    id: u64,
    generation: u64,
    file: Arc<dyn File>,
    mapping: Mapping,
}

/// What a writer wants its next block to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) file_bytes: u64,
    /// Heap bytes a row, from what the rows so far used.
    pub(crate) heap_row_bytes: usize,
    /// Heap bytes that must fit at least, for one long string.
    pub(crate) heap_bytes_min: usize,
}

/// Syncs the first `len` bytes of a file that has no rows yet, whose header says `generation`. A mark stays if that
/// fails, in the page cache at least, which is where the bytes are that the kernel may now take for written.
fn sync_start(file: &dyn File, mapping: &Mapping, generation: u64, len: usize) -> Result<()> {
    file.sync_range(mapping, 0, len).inspect_err(|_| poison(mapping, generation, 0))
}

impl BlockPool {
    /// A pool over `dir`. `next_id` and `last_generation` are above and at what the directory and the manifest have seen.
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        options: Options,
        next_id: u64,
        last_generation: u64,
        limits: Arc<Words>,
    ) -> Self {
        let (home, released) = unbounded();
        let boot_id = fs.boot_id();
        let state = Mutex::new(State { next_id, ..State::default() });
        let generation = AtomicU64::new(last_generation);
        Self { fs, dir, options, boot_id, generation, state, changed: Condvar::new(), home, released, limits }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks that nobody looks at any more, for [`recycle`](Self::recycle).
    pub(crate) fn released(&self) -> &Receiver<Released> {
        &self.released
    }

    /// Bytes of all files, and of those that are free.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let state = self.state();
        (state.bytes, state.free.iter().map(|free| free.mapping.len() as u64).sum())
    }

    /// Counts a block that recovery found, and takes it home when it is dropped.
    pub(crate) fn adopt(&self, block: &LiveBlock) {
        let mut state = self.state();
        state.files += 1;
        state.bytes += block.mapping.len() as u64;
        block.set_home(self.home.clone());
    }

    /// A file that recovery found without rows to keep.
    pub(crate) fn adopt_released(&self, released: Released) -> Result<()> {
        let mut state = self.state();
        state.files += 1;
        state.bytes += released.mapping.len() as u64;
        drop(state);
        self.recycle(released).map(drop)
    }

    /// A block for `schema`, empty and not yet visible to anybody. Waits for the budget as the options say.
    pub(crate) fn take(&self, schema: &Arc<TableSchema>, wanted: Wanted) -> Result<Arc<LiveBlock>> {
        let columns = Columns::of(schema);
        let (bytes, capacity) = self.fit(&columns, schema, wanted)?;
        let free = self.reserve(schema.name(), bytes)?;
        let free = match free {
            Some(free) => free,
            None => self.make(bytes).inspect_err(|_| self.forget(bytes))?,
        };
        let block = self.hand_out(free, schema, &columns, capacity)?;
        block.set_home(self.home.clone());
        Ok(block)
    }

    /// File size and capacity: what is wanted, doubled until some rows fit.
    fn fit(&self, columns: &Columns, schema: &TableSchema, wanted: Wanted) -> Result<(u64, usize)> {
        // A row must fit with its longest strings, else a rotation would not help it.
        let limit = self.options.block_bytes_max.max(self.options.block_bytes_min);
        let mut bytes = wanted.file_bytes.next_power_of_two().clamp(self.options.block_bytes_min, limit);
        loop {
            let size = usize::try_from(bytes).unwrap_or(usize::MAX);
            let mut capacity = columns.capacity(size, wanted.heap_row_bytes);
            let heap = |capacity| Layout::new(size, capacity, columns).map_or(0, |layout| layout.heap.len());
            while capacity >= ROWS_MIN && heap(capacity) < wanted.heap_bytes_min {
                capacity = capacity / 2 / 8 * 8;
            }
            if capacity >= ROWS_MIN {
                return Ok((bytes, capacity));
            }
            if bytes >= limit {
                // What rows use on average is an estimate: where it has no room, the row at hand may have.
                if columns.capacity(size, 0) >= ROWS_MIN && heap(ROWS_MIN) >= wanted.heap_bytes_min.max(1) {
                    return Ok((bytes, ROWS_MIN));
                }
                return Err(Error::LimitExceeded {
                    limit: "block_bytes_max",
                    max: limit,
                    found: limit * 2,
                    place: format!("table {:?}: {ROWS_MIN} rows of its {} fields", schema.name(), columns.fields.len()),
                });
            }
            bytes *= 2;
        }
    }

    /// A free file of `bytes`, or `None` and the right to make one. Waits while neither is to be had.
    fn reserve(&self, table: &str, bytes: u64) -> Result<Option<Free>> {
        let began = Instant::now();
        let mut state = self.state();
        loop {
            if state.closed {
                return Err(Error::Closed);
            }
            if let Some(at) = state.free.iter().position(|free| free.mapping.len() as u64 == bytes) {
                return Ok(Some(state.free.swap_remove(at)));
            }
            let fits = |state: &State| state.bytes + bytes <= self.options.live_bytes_max && state.files < BLOCKS_MAX;
            while !fits(&state)
                && let Some(other) = state.free.pop()
            {
                // A file of another size makes room.
                state.bytes -= other.mapping.len() as u64;
                state.files -= 1;
                self.unlink(&other.file)?;
            }
            if fits(&state) {
                state.bytes += bytes;
                state.files += 1;
                return Ok(None);
            }
            if !state.held.is_empty() {
                drop(state);
                self.make_way_of_held()?;
                state = self.state();
                continue;
            }
            let wait = match self.options.overload {
                Overload::Fail => std::time::Duration::ZERO,
                Overload::Wait(wait) => wait,
            };
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                let live_bytes_max = self.options.live_bytes_max;
                return Err(Error::Overloaded { table: table.into(), waited: began.elapsed(), live_bytes_max });
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether a block of `bytes`, or of twice that, would have to wait for another one to be freed.
    pub(crate) fn is_short(&self, bytes: u64) -> bool {
        let state = self.state();
        let free: u64 = state.free.iter().map(|free| free.mapping.len() as u64).sum();
        let used = state.bytes - free + 2 * bytes.max(self.options.block_bytes_min);
        used > self.options.live_bytes_max || state.files - state.free.len() >= BLOCKS_MAX
    }

    fn forget(&self, bytes: u64) {
        let mut state = self.state();
        state.bytes -= bytes;
        state.files -= 1;
        drop(state);
        self.changed.notify_all();
    }

    fn next_generation(&self) -> u64 {
        // Relaxed: the read-modify-write alone makes each number unique.
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The path of a block's file.
    pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
        dir.join(format!("{id:08}.block"))
    }

    /// Makes a file, durable with its name before anything is written to it.
    fn make(&self, bytes: u64) -> Result<Free> {
        let id = {
            let mut state = self.state();
            state.next_id += 1;
            state.next_id - 1
        };
        let path = Self::path(&self.dir, id);
        let make = || {
            let file = self.fs.create(&path)?;
            file.allocate(bytes)?;
            let mapping = file.map(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            let generation = self.next_generation();
            let header = self.header(&*file, id, generation, bytes)?;
            mapping.write(0, &header.encode());
            file.sync_data()?;
            self.fs.sync_dir(&self.dir)?;
            file.try_lock(LockKind::Shared)?;
            Ok(Free { id, generation, file, mapping })
        };
        make().inspect_err(|_| {
            // Half a block is worth nothing, and its space may be what is lacking. If this fails too, the next open
            // finds a file without a header and removes it.
            let _ = self.fs.remove(&path);
        })
    }

    fn header(&self, file: &dyn File, block: u64, generation: u64, file_bytes: u64) -> Result<Header> {
        Ok(Header {
            block,
            generation,
            table: FREE,
            file_bytes,
            capacity: 0,
            has_clock: false,
            fields: 0,
            descriptors_checksum: 0,
            identity: file.identity()?,
            boot_id: self.boot_id,
            created_ns: now().as_nanos(),
        })
    }

    /// Gives a free file its table. Nothing here needs to be durable: without a commit entry its rows do not count.
    fn hand_out(
        &self,
        free: Free,
        schema: &Arc<TableSchema>,
        columns: &Columns,
        capacity: usize,
    ) -> Result<Arc<LiveBlock>> {
        let Free { id, generation, file, mapping } = free;
        let layout = Layout::new(mapping.len(), capacity, columns)
            .ok_or_else(|| Error::corrupted(file.path(), 0, "the layout does not fit its file"))?;
        mapping.zero(SLOTS, layout.time - SLOTS);
        layout.fields.iter().filter_map(|field| field.absent).for_each(|absent| mapping.zero(absent, capacity));
        let descriptors = encode_descriptors(columns);
        mapping.write(layout.descriptors, &descriptors);
        let header = Header {
            table: schema.id,
            capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
            has_clock: columns.has_clock,
            fields: u32::try_from(columns.fields.len()).unwrap_or(u32::MAX),
            descriptors_checksum: crc32fast::hash(&descriptors),
            ..self.header(&*file, id, generation, mapping.len() as u64)?
        };
        if layout.time > CLEARED_BYTES {
            // Recycling did not clear that far: what a former life left there must not be taken for commit entries.
            sync_start(&*file, &mapping, generation, layout.time)?;
        }
        mapping.write(0, &header.encode());
        let (id, limit) = ((id, generation), self.limits.take());
        Ok(Arc::new(LiveBlock::new(id, schema.clone(), file, mapping, layout, FIRST_COMMIT, limit)))
    }

    /// Gives a file that nobody looks at its next generation and puts it into the free queue. False if somebody in another
    /// process looks at it.
    pub(crate) fn recycle(&self, released: Released) -> Result<bool> {
        let Released { id, file, mapping, sealed } = released;
        if !sealed {
            return Ok(true);
        }
        let bytes = mapping.len() as u64;
        if self.state().free.len() >= FREE_MAX {
            self.forget(bytes);
            return self.unlink(&file).map(|()| true);
        }
        if !file.try_lock(LockKind::Exclusive)? {
            // Somebody may want its bytes more than its reader's leave.
            self.state().held.push(Released { id, file, mapping, sealed });
            self.changed.notify_all();
            return Ok(false);
        }
        let generation = self.next_generation();
        // Relaxed: under the exclusive lock nobody else looks, and who takes the file from the queue does so under its lock.
        mapping.word(PUBLISHED).store(0, Ordering::Relaxed);
        mapping.word(HEAP_USED).store(0, Ordering::Relaxed);
        mapping.zero(SLOTS, CLEARED_BYTES - SLOTS);
        mapping.write(0, &self.header(&*file, id, generation, bytes)?.encode());
        sync_start(&*file, &mapping, generation, CLEARED_BYTES)?;
        file.try_lock(LockKind::Shared)?;
        self.state().free.push(Free { id, generation, file, mapping });
        self.changed.notify_all();
        Ok(true)
    }

    /// Recycles blocks whose readers have gone. Says whether some have not.
    pub(crate) fn retry_held(&self) -> Result<bool> {
        let held = std::mem::take(&mut self.state().held);
        held.into_iter().try_for_each(|released| self.recycle(released).map(drop))?;
        Ok(!self.state().held.is_empty())
    }

    /// Frees the bytes of a block that is held by a reader, if not by its leave.
    fn make_way_of_held(&self) -> Result<()> {
        let before = self.state().held.len();
        self.retry_held()?;
        let mut state = self.state();
        if state.held.len() < before || state.held.is_empty() {
            return Ok(());
        }
        let released = state.held.remove(0);
        drop(state);
        self.forget(released.mapping.len() as u64);
        self.unlink(&released.file)
    }

    fn unlink(&self, file: &Arc<dyn File>) -> Result<()> {
        self.fs.remove(file.path())
    }

    /// Wakes everybody who waits for a block, with [`Closed`](Error::Closed).
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}
