//! The control page: the small mapped file by which the store is known, and by which other processes find its live blocks,
//! the manifest's end, and one moment of many counts.
//!
//! The page has two states, and the epoch says which of them is current. A change writes the other one and then moves the
//! epoch, so there is a whole state at every moment, also while the writing process is stopped or dies in the middle.
//! Cuts, which say how many rows each block had at one moment, are kept in the same way.
//!
//! **Invariant:** a state is written while the epoch is that of the other. A reader that finds the same epoch after it has
//! read a state as before has read it whole; else it starts over.
//!
//! **Invariant:** what a state names was durable before it was named, so a log that is shorter is damaged. All else of the
//! page is a hint that is rebuilt at every open, save for the head, which says that the directory is a store and of what
//! version.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, Mapping, SECTOR_BYTES};
use crate::sync::{Memory, Ordering};

use super::codec::{Decoder, Encoder};
use page::{BOOT_ID, DEVICE, FILE_BYTES, INODE, PID, Page};

pub(crate) use page::{BlockLife, Cut, Ends, State};

mod page;

const MAGIC: [u8; 8] = *b"dnytctrl";
/// The version of the whole store's format.
pub(crate) const VERSION: u32 = 1;

/// The open control page.
#[derive(Debug)]
pub(crate) struct Control {
    file: Arc<dyn File>,
    page: Page<Mapping>,
    changing: Mutex<()>,
}

impl Control {
    /// Makes the page, which makes the directory a store: the last step of creating one.
    pub(crate) fn create(fs: &dyn FileSystem, path: &Path, store_id: [u8; 16]) -> Result<Self> {
        let mut head = Encoder::default();
        MAGIC.iter().for_each(|byte| {
            head.u8(*byte);
        });
        head.u32(VERSION).u32(0);
        store_id.iter().for_each(|byte| {
            head.u8(*byte);
        });
        let mut bytes = head.into_bytes();
        bytes.resize(SECTOR_BYTES - 4, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(FILE_BYTES, 0);
        fs::publish(fs, path, &bytes)?;
        Self::open(fs, path)?.ok_or_else(|| Error::corrupted(path, 0, "the control page is gone")).map(|(page, _)| page)
    }

    /// Opens the page for the writing process, and reads what it says; `None` if there is none.
    pub(crate) fn open(fs: &dyn FileSystem, path: &Path) -> Result<Option<(Self, Ends)>> {
        let Some(page) = Self::load(path, fs.open(path)?)? else { return Ok(None) };
        let ends = page.durable_ends();
        Ok(Some((page, ends)))
    }

    /// Where the logs ended at least when the page was written last, as far as it is legible.
    pub(crate) fn durable_ends(&self) -> Ends {
        let epoch = self.epoch();
        // After a power loss the sectors of the page may be of different moments. Any state that holds is true.
        let states = [epoch, epoch.wrapping_add(1)].map(|epoch| self.page.ends(epoch));
        states.into_iter().flatten().next().map(|(ends, _)| ends).unwrap_or_default()
    }

    /// Opens the page of a store that another process may be writing.
    pub(crate) fn open_read(fs: &dyn FileSystem, path: &Path) -> Result<Option<Self>> {
        Self::load(path, fs.open_read(path)?)
    }

    fn load(path: &Path, file: Option<Arc<dyn File>>) -> Result<Option<Self>> {
        let Some(file) = file else { return Ok(None) };
        let mut head = [0; SECTOR_BYTES];
        if file.len()? < FILE_BYTES as u64 {
            return Err(Error::corrupted(path, file.len()?, "the control page is cut short"));
        }
        file.read_at(&mut head, 0)?;
        check_head(path, &head)?;
        let mapping = file.map(FILE_BYTES)?;
        Ok(Some(Self { file, page: Page(mapping), changing: Mutex::new(()) }))
    }

    /// The page's file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Checks what of the page has a checksum: its head.
    pub(crate) fn check(&self) -> Result<()> {
        let mut head = [0; SECTOR_BYTES];
        self.file.read_at(&mut head, 0)?;
        check_head(self.file.path(), &head)
    }

    /// Says which process writes now. Comes when the store is whole: from here on readers believe the page.
    pub(crate) fn set_writer(&self, boot_id: [u8; 16], pid: u32) -> Result<()> {
        let identity = self.file.identity()?;
        // Relaxed: the release of the boot's id comes after them.
        self.page.0.word(PID).store(pid.into(), Ordering::Relaxed);
        self.page.0.word(DEVICE).store(identity.device, Ordering::Relaxed);
        self.page.0.word(INODE).store(identity.inode, Ordering::Relaxed);
        // Release: whoever sees the boot's id sees whose page this is, and the state that was published before.
        for (at, word) in [BOOT_ID, BOOT_ID + 8].into_iter().zip(halves(boot_id)) {
            self.page.0.word(at).store(word, Ordering::Release);
        }
        Ok(())
    }

    /// Whether the page was written under this boot of the kernel and is no copy. Else its states speak of blocks whose
    /// counts nobody vouches for.
    pub(crate) fn is_of(&self, boot_id: [u8; 16]) -> Result<bool> {
        let identity = self.file.identity()?;
        let word = |at: usize| self.page.0.load_acquire(at);
        Ok(boot_id != [0; 16]
            && [word(BOOT_ID), word(BOOT_ID + 8)] == halves(boot_id)
            && (word(DEVICE), word(INODE)) == (identity.device, identity.inode))
    }

    /// The pin of the current state.
    pub(crate) fn pin(&self) -> Option<u64> {
        let (_, [.., pin, _]) = self.page.ends(self.epoch())?;
        Some(pin)
    }

    /// Moves on to the next state.
    pub(crate) fn publish(&self, ends: Ends, pin: u64, blocks: impl Iterator<Item = (u64, u64)>) {
        let _changing = self.changing();
        self.page.publish(ends, pin, blocks);
    }

    /// The number of the current state.
    pub(crate) fn epoch(&self) -> u64 {
        self.page.epoch()
    }

    /// The current state; `None` if it changed meanwhile.
    pub(crate) fn state(&self) -> Option<State> {
        self.page.state()
    }

    /// Begins a cut: counts that are loaded from here on belong to it. One thread makes cuts.
    pub(crate) fn begin_cut(&self) -> u64 {
        self.page.begin_cut()
    }

    /// Writes the cut: rows of each (block, generation) in the order of the view that they were counted in.
    pub(crate) fn end_cut(&self, number: u64, rows: &[((u64, u64), u64)]) {
        let _changing = self.changing();
        self.page.end_cut(number, rows);
    }

    /// Cuts begun so far: a later one sees all that has happened by now.
    pub(crate) fn cuts_begun(&self) -> u64 {
        self.page.cuts_begun()
    }

    /// The latest cut, if it was begun after the first `begun`.
    pub(crate) fn cut_after(&self, begun: u64) -> Option<Cut> {
        self.page.cut_after(begun)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the writing process ends and that so many rows of each block of the view are durable: in the block, or in
    /// segments. As long as the page is not opened for writing again, no block has more.
    pub(crate) fn close(&self, rows: &[(BlockLife, u64)]) {
        let _changing = self.changing();
        self.page.close(rows);
    }

    /// What the last [`close`](Self::close) said, if it is all there still. The rows were durable then, so also after a power
    /// loss there are no fewer of that life of the block.
    pub(crate) fn closed(&self) -> Vec<(BlockLife, u64)> {
        self.page.closed()
    }

    /// Takes back what [`close`](Self::close) said: from here on blocks may get more rows.
    pub(crate) fn reopen(&self) {
        self.page.reopen();
    }

    /// Makes the page durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data()
    }
}

fn halves(boot_id: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(boot_id);
    let low = |word: u128| u64::try_from(word & u128::from(u64::MAX)).unwrap_or_default();
    [low(whole), low(whole >> 64)]
}

fn check_head(path: &Path, head: &[u8; SECTOR_BYTES]) -> Result<()> {
    let (body, stored) = head.split_at(SECTOR_BYTES - 4);
    if !body.starts_with(&MAGIC) {
        return Err(Error::NotAStore { path: path.into(), reason: "its control page is something else".into() });
    }
    if stored != crc32fast::hash(body).to_le_bytes() {
        return Err(Error::corrupted(path, 0, "the control page's head fails its checksum"));
    }
    let version = Decoder::new(body.split_at(8).1).u32().unwrap_or(u32::MAX);
    if version > VERSION {
        return Err(Error::NewerVersion { path: path.into(), found: version, supported: VERSION });
    }
    Ok(())
}
