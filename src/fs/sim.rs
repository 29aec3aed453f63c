//! A file system in memory that can lose power.
//!
//! Each file, length and name exists twice: *live*, as the process and the page cache see it, and *durable*, as the disk
//! has it. Syncs carry the one over to the other, and nothing else does. [`SimFs::crash`] makes the machine that boots
//! after power loss, where every unsynced sector, length and name is old or new by the toss of a seeded coin;
//! [`SimFs::kill`] the one in which only the process died. Where kernels differ, this one is the least obliging: an
//! `fsync` of a new file does not keep its name, and directories above the parent of a new one are not synced.
//!
//! The machine that crashed or was killed stays for more images of the same moment, and answers every other call with
//! an error, so that handles of its store can do no harm. Threads that write its mapped memory should stop first: what
//! they write while it ends may or may not be seen, as with a real crash.
#![cfg_attr(not(test), allow(dead_code, reason = "fuzz targets use a part of it"))]

mod chance;
mod contents;
mod film;
mod handle;
mod machine;
mod sectors;
#[cfg(test)]
mod tests;
mod tree;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::film::Film;
pub(crate) use self::film::Take;
use self::handle::{OpenFile, SimFile};
use self::machine::{Call, Inode, State};
use super::{DirEntry, File, FileSystem, Space};
use crate::error::{Error, Result};

/// No simulated file is longer: a wild length is an error and not the end of the test process.
const FILE_BYTES_MAX: usize = 1 << 30;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// A call of any kind is refused and changes nothing. A sync that is refused has failed for all opens of the file.
    Eio,
    /// A call that may need space is refused and changes nothing.
    Enospc,
    /// A write stores its first bytes, perhaps none, and finds the disk full.
    ShortWrite,
    /// A sync fails, and the kernel forgets that its bytes or names were not on the disk: no later sync writes them,
    /// unless they are changed again.
    FailedSync,
}

/// What goes wrong, and whether more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Only the first call that it fits; otherwise each one until [`SimFs::repair`].
    pub(crate) once: bool,
}

#[derive(Debug)]
struct Machine(Mutex<State>);

impl Machine {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The tests of a panic go on to look at what it left.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulated machine's file system.
#[derive(Debug)]
pub(crate) struct SimFs {
    machine: Arc<Machine>,
}

impl SimFs {
    /// An empty disk. It is the same, and so is all that happens to it, for the same seed and the same calls.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Self::with(State::new(seed))
    }

    fn with(state: State) -> Arc<Self> {
        Arc::new(Self { machine: Arc::new(Machine(Mutex::new(state))) })
    }

    /// Power loss and the next boot. May be called again, with other seeds, for other images of the same moment.
    pub(crate) fn crash(&self, seed: u64) -> Arc<Self> {
        Self::with(self.machine.lock().crash(seed))
    }

    /// Death of the process: all it did is still there, and what it had not synced still is not. Locks are free.
    pub(crate) fn kill(&self) -> Arc<Self> {
        Self::with(self.machine.lock().kill())
    }

    /// Arms a fault: it hits the first call that it fits once `operations` more mutating calls were made.
    pub(crate) fn fail_after(&self, operations: u64, fault: Fault) {
        self.machine.lock().arm(operations, fault);
    }

    /// The first call that only looks, once `looks` more of them were made, meets a bad sector; and all others after it
    /// unless `once`. Mapped memory stays readable.
    pub(crate) fn blind_after(&self, looks: u64, once: bool) {
        let mut machine = self.machine.lock();
        machine.blind = Some((machine.looks.saturating_add(looks), once));
    }

    /// Calls so far that only looked, failed ones too.
    pub(crate) fn looks(&self) -> u64 {
        self.machine.lock().looks
    }

    /// From now on, takes images of each moment before a mutating call.
    pub(crate) fn film(&self, seed: u64, take: Take) {
        self.machine.lock().film = Some(Film::new(seed, take));
    }

    /// Takes images of the present moment too.
    pub(crate) fn shoot(&self) {
        self.machine.lock().shoot();
    }

    /// The images since the last call: each with its operation, and whether only the process died.
    pub(crate) fn develop(&self) -> Vec<(u64, bool, Arc<Self>)> {
        let shots = self.machine.lock().develop();
        shots.into_iter().map(|shot| (shot.operation, shot.killed, Self::with(shot.machine))).collect()
    }

    /// Operations of which a film of all images had to leave some out.
    pub(crate) fn sampled(&self) -> u64 {
        self.machine.lock().film.as_ref().map_or(0, |film| film.sampled)
    }

    /// Disarms all faults.
    pub(crate) fn repair(&self) {
        self.machine.lock().disarm();
    }

    /// The machine stops instead of doing its mutating call number `operation`, counted from 0, and every call from
    /// there on fails. [`crash`](Self::crash) and [`kill`](Self::kill) then show that moment.
    pub(crate) fn crash_at(&self, operation: u64) {
        self.machine.lock().crash_at = Some(operation);
    }

    /// Whether it crashed, was killed, or met the operation of [`crash_at`](Self::crash_at).
    pub(crate) fn is_gone(&self) -> bool {
        self.machine.lock().gone
    }

    /// Mutating calls so far, failed ones too.
    pub(crate) fn operations(&self) -> u64 {
        self.machine.lock().operations
    }

    /// The kernel wrote a file back by itself, failed, and told nobody yet: its dirty sectors are lost as by
    /// [`FaultKind::FailedSync`].
    pub(crate) fn fail_write_back(&self, path: &Path) -> Result<()> {
        self.call("writing back", path, |state| {
            state.alive()?;
            let at = state.tree.place(path)?;
            let inode = state.tree.find(&at).ok_or(io::ErrorKind::NotFound)?;
            let file = state.inode(inode)?;
            file.contents.drop_dirty(file.contents.all());
            file.fail_write_back();
            Ok(())
        })
    }

    /// Makes it name itself a file system that writes copies.
    pub(crate) fn set_copy_on_write(&self, kind: &'static str) {
        self.machine.lock().copy_on_write = Some(kind);
    }

    /// Makes it one that has no hard links.
    #[cfg(test)]
    pub(crate) fn forbid_links(&self) {
        self.machine.lock().links = false;
    }

    fn call<T>(&self, name: &'static str, path: &Path, act: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T> {
        act(&mut self.machine.lock()).map_err(|source| Error::io(name, path, source))
    }

    fn handle(&self, path: &Path, inode: u64, owner: u64) -> Arc<dyn File> {
        let open = Arc::new(OpenFile { machine: Arc::clone(&self.machine), inode, owner });
        Arc::new(SimFile { open, path: path.to_path_buf() })
    }
}

impl FileSystem for SimFs {
    fn create_dir(&self, path: &Path) -> Result<()> {
        self.call("creating directory", path, |state| {
            state.permit(Call::Change)?;
            let State { tree, last, .. } = state;
            tree.create_directories(path, || {
                *last += 1;
                *last
            })
        })
    }

    fn read_dir(&self, path: &Path) -> Result<Option<Vec<DirEntry>>> {
        self.call("reading directory", path, |state| {
            state.look()?;
            let directory = match state.tree.directory(path) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let entry = |(name, inode): (&String, u64)| DirEntry {
                name: name.clone(),
                is_file: !state.tree.is_directory(inode),
            };
            Ok(Some(state.tree.names(directory).map(entry).collect()))
        })
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        let (inode, owner) = self.call("creating", path, |state| {
            state.permit(Call::Change)?;
            let at = state.tree.place(path)?;
            if state.tree.find(&at).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let inode = state.number();
            state.inodes.insert(inode, Inode::default());
            state.tree.link(at, inode);
            Ok((inode, state.open(inode)?))
        })?;
        Ok(self.handle(path, inode, owner))
    }

    fn open(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        let found = self.call("opening", path, |state| {
            state.look()?;
            let at = match state.tree.place(path) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let Some(inode) = state.tree.find(&at) else { return Ok(None) };
            if state.tree.is_directory(inode) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(Some((inode, state.open(inode)?)))
        })?;
        Ok(found.map(|(inode, owner)| self.handle(path, inode, owner)))
    }

    fn open_read(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        // The simulator trusts its readers not to write.
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call("renaming to", to, |state| {
            state.permit(Call::Change)?;
            let (from, to) = (state.tree.place(from)?, state.tree.place(to)?);
            let inode = state.tree.find(&from).ok_or(io::ErrorKind::NotFound)?;
            if [Some(inode), state.tree.find(&to)].into_iter().flatten().any(|inode| state.tree.is_directory(inode)) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            state.tree.rename(from, to, inode);
            Ok(())
        })
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool> {
        self.call("linking", to, |state| {
            state.permit(Call::Change)?;
            let (from, to) = (state.tree.place(from)?, state.tree.place(to)?);
            let Some(inode) = state.tree.find(&from).filter(|_| state.links) else { return Ok(false) };
            if state.tree.is_directory(inode) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            if state.tree.find(&to).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.tree.link(to, inode);
            Ok(true)
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        // Only queries spill, and they do so outside of this trait: there never is such a directory here.
        match self.read_dir(path)? {
            None => Ok(()),
            Some(_) => Err(Error::io("removing", path, io::ErrorKind::Unsupported.into())),
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.call("removing", path, |state| {
            state.permit(Call::Remove)?;
            let at = match state.tree.place(path) {
                Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            };
            let Some(inode) = state.tree.find(&at) else { return Ok(()) };
            if state.tree.is_directory(inode) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            state.tree.unlink(at);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.call(super::SYNCING_DIRECTORY, path, |state| {
            let fault = state.mutate(Call::Sync)?;
            let directory = state.tree.directory(path)?;
            match fault {
                None => state.tree.sync(directory),
                Some(kind) => {
                    if kind == FaultKind::FailedSync {
                        state.tree.drop_changes(directory);
                    }
                    return Err(kind.error());
                }
            }
            state.sweep();
            Ok(())
        })
    }

    fn copy_on_write(&self, path: &Path) -> Result<Option<&'static str>> {
        self.call("examining", path, |state| {
            state.look()?;
            // Asked of a directory or of a file in one.
            if state.tree.directory(path).is_err() {
                let at = state.tree.place(path)?;
                state.tree.find(&at).ok_or(io::ErrorKind::NotFound)?;
            }
            Ok(state.copy_on_write)
        })
    }

    fn space(&self, path: &Path) -> Result<Space> {
        // As much as one file may have: what fills is told by faults.
        self.call("examining", path, |state| {
            state.look()?;
            Ok(Space { bytes: FILE_BYTES_MAX as u64, free_bytes: FILE_BYTES_MAX as u64 })
        })
    }

    fn boot_id(&self) -> [u8; 16] {
        self.machine.lock().boot
    }

    fn bytes_written(&self) -> u64 {
        self.machine.lock().bytes_written
    }
}
