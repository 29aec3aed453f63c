//! The floor: every byte on disk goes through these two traits.
//!
//! [`real`] is Linux through `rustix`; [`sim`] keeps live and durable state apart and can crash, tear, reorder and
//! refuse. What the floors above may assume of a disk is what the simulator grants:
//!
//! - a 512-byte sector is written whole or not at all, and a rewrite keeps bytes that did not change;
//! - without a sync, any subset of the written sectors, lengths and directory entries survives a crash, in any order;
//! - [`File::sync_data`] makes a file's bytes and length durable, [`FileSystem::sync_dir`] the names in a directory;
//! - a sync that fails proves nothing about any byte since the last one that did not, and is never repeated.

pub(crate) mod fork;
pub(crate) mod mapping;
pub(crate) mod real;
#[cfg(any(test, fuzzing))]
pub(crate) mod sim;

use std::fmt::Debug;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;

pub(crate) use mapping::Mapping;

use crate::error::Result;

/// The unit that a disk writes whole.
pub(crate) const SECTOR_BYTES: usize = 512;
/// The unit of a mapping.
pub(crate) const PAGE_BYTES: usize = 4096;

/// How a file is locked. Locks are `flock`'s: they belong to the open file, not to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    Shared,
    Exclusive,
}

/// What distinguishes a file from a copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// How large a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Space {
    pub(crate) bytes: u64,
    pub(crate) free_bytes: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirEntry {
    pub(crate) name: String,
    pub(crate) is_file: bool,
}

/// The operation of an error that a directory's sync has.
pub(crate) const SYNCING_DIRECTORY: &str = "syncing directory";

/// A directory tree.
pub(crate) trait FileSystem: Send + Sync + Debug {
    /// Makes `path` and its parents; fine if it is there. The parent of each new one is synced.
    fn create_dir(&self, path: &Path) -> Result<()>;
    /// The names in `path`, in no order; `None` if there is no such directory.
    fn read_dir(&self, path: &Path) -> Result<Option<Vec<DirEntry>>>;
    /// Makes a new file, open for reading and writing; an error if the name exists.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// Opens a file for reading and writing; `None` if there is no such name. Refuses what is not a plain file.
    fn open(&self, path: &Path) -> Result<Option<Arc<dyn File>>>;
    /// As [`open`](Self::open), for reading and locking alone: what needs no right to write.
    fn open_read(&self, path: &Path) -> Result<Option<Arc<dyn File>>>;
    /// Renames a file, replacing what has the name. Durable after [`sync_dir`](Self::sync_dir).
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Gives a file a second name, which must be free; false if it cannot have one there, because it is gone or the place is
    /// on another file system. Durable after [`sync_dir`](Self::sync_dir).
    fn link(&self, from: &Path, to: &Path) -> Result<bool>;
    /// Removes a name. Fine if it is not there.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Removes a directory and all that is in it. Fine if it is not there. Not durable: for what nobody misses.
    fn remove_dir(&self, path: &Path) -> Result<()>;
    /// Makes the names in `path` durable.
    fn sync_dir(&self, path: &Path) -> Result<()>;
    /// The name of the file system under `path`, if it is one that writes copies and so cannot preallocate.
    fn copy_on_write(&self, path: &Path) -> Result<Option<&'static str>>;
    /// How large the file system under `path` is, and how much of it is free to this process.
    fn space(&self, path: &Path) -> Result<Space>;
    /// Which boot of the kernel this is: what the page cache knows lives as long.
    fn boot_id(&self) -> [u8; 16];
    /// Bytes that were written to files so far; what the kernel writes back of mapped memory by itself is not counted.
    fn bytes_written(&self) -> u64;
}

/// One open file. Reads and writes carry their offset, so that threads share it.
pub(crate) trait File: Send + Sync + Debug + UnwindSafe + RefUnwindSafe {
    /// The name it was opened by, for errors.
    fn path(&self) -> &Path;
    /// Its length in bytes.
    fn len(&self) -> Result<u64>;
    /// Fills `buffer` from `offset`; past the end is [`Corrupted`](crate::Error::Corrupted).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Cuts or extends it.
    fn set_len(&self, len: u64) -> Result<()>;
    /// Extends it to `len` with blocks that are really there, so that no later write to the mapping can lack space.
    fn allocate(&self, len: u64) -> Result<()>;
    /// Makes bytes and length durable, those written through a mapping too.
    fn sync_data(&self) -> Result<()>;
    /// Makes one range of a mapping durable.
    fn sync_range(&self, mapping: &Mapping, offset: usize, len: usize) -> Result<()>;
    /// Fails if a write-back of this file failed and nobody was told; forces none.
    fn check_write_back(&self) -> Result<()>;
    /// Maps the first `len` bytes, shared, for reading, and for writing if the file was opened for that.
    fn map(&self, len: usize) -> Result<Mapping>;
    /// Takes the lock if it is free; false if somebody holds it.
    fn try_lock(&self, kind: LockKind) -> Result<bool>;
    /// Gives up the lock, also for processes that inherited the open file: its closing alone would wait for theirs.
    fn unlock(&self) -> Result<()>;
    /// What it is, beside its name.
    fn identity(&self) -> Result<Identity>;
}

/// Reads all of a file that is known to be small.
pub(crate) fn read_all(file: &dyn File) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Writes `bytes` as a new file under a temporary name, syncs it, and gives it its name; the directory is synced last.
pub(crate) fn publish(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    fs.remove(&temporary)?;
    let file = fs.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    fs.rename(&temporary, path)?;
    fs.sync_dir(path.parent().unwrap_or(path))
}
