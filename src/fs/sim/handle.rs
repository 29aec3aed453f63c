//! One open of a simulated file.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::machine::{Call, Inode, State};
use super::{FaultKind, Machine};
use crate::error::{Error, Result};
use crate::fs::{File, Identity, LockKind, Mapping};

/// What a kernel calls an open file description: locks and unreported errors belong to it. Handles and mappings share
/// it, and the last of them closes it.
pub(super) struct OpenFile {
    pub(super) machine: Arc<Machine>,
    pub(super) inode: u64,
    pub(super) owner: u64,
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode {}, opened as {}", self.inode, self.owner)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.machine.lock().close(self.inode, self.owner);
    }
}

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) open: Arc<OpenFile>,
    pub(super) path: PathBuf,
}

impl SimFile {
    fn call<T>(&self, name: &'static str, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> Result<T> {
        act(&mut self.open.machine.lock(), self.open.inode).map_err(|source| Error::io(name, &self.path, source))
    }

    fn look<T>(&self, name: &'static str, act: impl FnOnce(&mut Inode) -> io::Result<T>) -> Result<T> {
        self.call(name, |state, inode| {
            state.look()?;
            act(state.inode(inode)?)
        })
    }

    /// For what the kernel answers from memory.
    fn ask<T>(&self, name: &'static str, act: impl FnOnce(&mut Inode) -> io::Result<T>) -> Result<T> {
        self.call(name, |state, inode| {
            state.alive()?;
            act(state.inode(inode)?)
        })
    }

    fn sync(&self, range: impl FnOnce(&Inode) -> io::Result<Range<usize>>) -> Result<()> {
        self.call("syncing", |state, inode| {
            let fault = state.mutate(Call::Sync)?;
            let file = state.inode(inode)?;
            let range = range(file)?;
            let written = match fault {
                None => file.contents.sync(range),
                Some(kind) => {
                    if kind == FaultKind::FailedSync {
                        file.contents.drop_dirty(range);
                    }
                    file.fail_write_back();
                    0
                }
            };
            // A sync also tells of a write-back that failed before it.
            let outcome = file.report(self.open.owner);
            state.bytes_written += written;
            outcome
        })
    }
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        self.look("examining", |file| Ok(file.contents.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let complete = self.look("reading", |file| {
            Ok(buffer.is_empty() || usize::try_from(offset).is_ok_and(|offset| file.contents.read(buffer, offset)))
        })?;
        if complete { Ok(()) } else { Err(Error::corrupted(&self.path, offset, "the file ends here")) }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.call("writing", |state, inode| {
            let fault = state.mutate(Call::Write)?;
            let len = match fault {
                None => bytes.len(),
                Some(FaultKind::ShortWrite) => state.short(bytes.len()),
                Some(kind) => return Err(kind.error()),
            };
            let (bytes, _) = bytes.split_at(len);
            state.inode(inode)?.contents.write(bytes, offset)?;
            state.bytes_written += len as u64;
            fault.map_or(Ok(()), |kind| Err(kind.error()))
        })
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.call("resizing", |state, inode| {
            state.permit(Call::Change)?;
            state.inode(inode)?.contents.resize(len)
        })
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.call("allocating", |state, inode| {
            state.permit(Call::Change)?;
            if len == 0 {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let contents = &mut state.inode(inode)?.contents;
            // What the length already covers is there: the simulated disk has no holes.
            contents.resize(len.max(contents.len() as u64))
        })
    }

    fn sync_data(&self) -> Result<()> {
        self.sync(|file| Ok(file.contents.all()))
    }

    fn sync_range(&self, mapping: &Mapping, offset: usize, len: usize) -> Result<()> {
        self.sync(|file| {
            let end = offset.checked_add(len).filter(|end| *end <= mapping.len() && file.contents.owns(mapping));
            let refusal = "not a range of a mapping of this file";
            Ok(offset..end.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, refusal))?)
        })
    }

    fn check_write_back(&self) -> Result<()> {
        self.ask("checking write-back of", |file| file.report(self.open.owner))
    }

    fn map(&self, len: usize) -> Result<Mapping> {
        self.look("mapping", |file| file.contents.map(len, &self.open))
    }

    fn try_lock(&self, kind: LockKind) -> Result<bool> {
        self.ask("locking", |file| Ok(file.try_lock(self.open.owner, kind)))
    }

    fn unlock(&self) -> Result<()> {
        self.ask("unlocking", |file| {
            file.unlock(self.open.owner);
            Ok(())
        })
    }

    fn identity(&self) -> Result<Identity> {
        self.call("examining", |state, inode| {
            state.alive()?;
            Ok(Identity { device: state.device, inode })
        })
    }
}
