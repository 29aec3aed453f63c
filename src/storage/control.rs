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
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, Mapping, PAGE_BYTES, SECTOR_BYTES};

use super::codec::{Decoder, Encoder};

const MAGIC: [u8; 8] = *b"dnytctrl";
/// The version of the whole store's format.
pub(crate) const VERSION: u32 = 1;
/// Blocks that the page can name.
pub(crate) const SLOTS_MAX: usize = 4_096;
const SLOT_BYTES: usize = 16;
const ROWS_BYTES: usize = 8;

const BOOT_ID: usize = SECTOR_BYTES;
const PID: usize = SECTOR_BYTES + 16;
const DEVICE: usize = SECTOR_BYTES + 24;
const INODE: usize = SECTOR_BYTES + 32;
const EPOCH: usize = 2 * SECTOR_BYTES;
const CUTS_BEGUN: usize = EPOCH + 8;
const CUTS_DONE: usize = EPOCH + 16;
/// Offset of the record of a close.
const CLOSED: usize = 3 * SECTOR_BYTES;
const STATES: usize = PAGE_BYTES;
const STATE_BYTES: usize = SECTOR_BYTES + SLOTS_MAX * SLOT_BYTES;
const CUTS: usize = STATES + 2 * STATE_BYTES;
const CUT_BYTES: usize = SECTOR_BYTES + SLOTS_MAX * ROWS_BYTES;
const FILE_BYTES: usize = (CUTS + 2 * CUT_BYTES).next_multiple_of(PAGE_BYTES);
/// Words of a state before its checksum.
const STATE_WORDS: usize = 7;
/// Words of the record of a close before its checksum.
const CLOSED_WORDS: usize = 4;

/// What the page says of the rest of the store, all of it durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) manifest_number: u64,
    pub(crate) manifest_end: u64,
    pub(crate) series_end: u64,
    pub(crate) clock: u64,
}

/// One state of the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) epoch: u64,
    pub(crate) ends: Ends,
    /// The pin that keeps the files of this state.
    pub(crate) pin: u64,
    /// Block and generation of each live block.
    pub(crate) blocks: Vec<(u64, u64)>,
}

/// Rows of each block of a state, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) epoch: u64,
    pub(crate) rows: Vec<u64>,
}

/// A block and its generation.
pub(crate) type BlockLife = (u64, u64);

/// The open control page.
#[derive(Debug)]
pub(crate) struct Control {
    file: Arc<dyn File>,
    mapping: Mapping,
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
        let states = [epoch, epoch.wrapping_add(1)].map(|epoch| self.ends(epoch));
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
        Ok(Some(Self { file, mapping, changing: Mutex::new(()) }))
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
        self.mapping.word(PID).store(pid.into(), Ordering::Relaxed);
        self.mapping.word(DEVICE).store(identity.device, Ordering::Relaxed);
        self.mapping.word(INODE).store(identity.inode, Ordering::Relaxed);
        // Release: whoever sees the boot's id sees whose page this is, and the state that was published before.
        for (at, word) in [BOOT_ID, BOOT_ID + 8].into_iter().zip(halves(boot_id)) {
            self.mapping.word(at).store(word, Ordering::Release);
        }
        Ok(())
    }

    /// Whether the page was written under this boot of the kernel and is no copy. Else its states speak of blocks whose
    /// counts nobody vouches for.
    pub(crate) fn is_of(&self, boot_id: [u8; 16]) -> Result<bool> {
        let identity = self.file.identity()?;
        let word = |at: usize| self.mapping.load_acquire(at);
        Ok(boot_id != [0; 16]
            && [word(BOOT_ID), word(BOOT_ID + 8)] == halves(boot_id)
            && (word(DEVICE), word(INODE)) == (identity.device, identity.inode))
    }

    /// The pin of the current state.
    pub(crate) fn pin(&self) -> Option<u64> {
        let (_, [.., pin, _]) = self.ends(self.epoch())?;
        Some(pin)
    }

    /// Moves on to the next state.
    pub(crate) fn publish(&self, ends: Ends, pin: u64, blocks: impl Iterator<Item = (u64, u64)>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.mapping.word(EPOCH).load(Ordering::Relaxed).wrapping_add(1);
        let at = state_at(epoch);
        // Whoever sees a word of what follows also sees the epoch as it is now, which is that of the other state.
        fence(Ordering::Release);
        let mut used = 0;
        for (block, generation) in blocks.take(SLOTS_MAX) {
            let slot = at + SECTOR_BYTES + used * SLOT_BYTES;
            self.mapping.word(slot).store(block, Ordering::Relaxed);
            self.mapping.word(slot + 8).store(generation, Ordering::Relaxed);
            used += 1;
        }
        let Ends { manifest_number, manifest_end, series_end, clock } = ends;
        let words = [epoch, manifest_number, manifest_end, series_end, clock, pin, used as u64];
        for (number, value) in words.iter().chain([&checksum(&words)]).enumerate() {
            self.mapping.word(at + 8 * number).store(*value, Ordering::Relaxed);
        }
        // Release: whoever sees the epoch sees its state.
        self.mapping.word(EPOCH).store(epoch, Ordering::Release);
    }

    /// The number of the current state.
    pub(crate) fn epoch(&self) -> u64 {
        self.mapping.load_acquire(EPOCH)
    }

    /// The words of a state, if they hold.
    fn ends(&self, epoch: u64) -> Option<(Ends, [u64; STATE_WORDS])> {
        let at = state_at(epoch);
        // Relaxed: the checksum tells words of two states, and who needs one state alone looks at the epoch again.
        let word = |number: usize| self.mapping.word(at + 8 * number).load(Ordering::Relaxed);
        let words: [u64; STATE_WORDS] = std::array::from_fn(word);
        let [_, manifest_number, manifest_end, series_end, clock, ..] = words;
        let holds = word(STATE_WORDS) == checksum(&words);
        holds.then_some((Ends { manifest_number, manifest_end, series_end, clock }, words))
    }

    /// The current state; `None` if it changed meanwhile.
    pub(crate) fn state(&self) -> Option<State> {
        let epoch = self.epoch();
        let (ends, [of, .., pin, used]) = self.ends(epoch)?;
        let slot = |number: usize| {
            let at = state_at(epoch) + SECTOR_BYTES + number * SLOT_BYTES;
            let word = |at| self.mapping.word(at).load(Ordering::Relaxed);
            (word(at), word(at + 8))
        };
        let blocks = (0..usize::try_from(used).unwrap_or(SLOTS_MAX).min(SLOTS_MAX)).map(slot).collect();
        // What was read above is read before the epoch is again.
        fence(Ordering::Acquire);
        let unchanged = of == epoch && self.mapping.word(EPOCH).load(Ordering::Relaxed) == epoch;
        unchanged.then_some(State { epoch, ends, pin, blocks })
    }

    /// Begins a cut: counts that are loaded from here on belong to it. One thread makes cuts.
    pub(crate) fn begin_cut(&self) -> u64 {
        let number = self.mapping.word(CUTS_BEGUN).load(Ordering::Relaxed).wrapping_add(1);
        // The cut that was done last stays whole while this one is written.
        self.mapping.word(CUTS_BEGUN).store(number, Ordering::Relaxed);
        // A reader that does not see this number yet has its fence before this one, so the loads after it see every row
        // that the reader knew of.
        fence(Ordering::SeqCst);
        number
    }

    /// Writes the cut: rows of each (block, generation) in the order of the view that they were counted in.
    pub(crate) fn end_cut(&self, number: u64, rows: &[((u64, u64), u64)]) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let word = |at: usize| self.mapping.word(at).load(Ordering::Relaxed);
        let epoch = word(EPOCH);
        let is_slot = |(slot, (block, _)): (usize, &((u64, u64), u64))| {
            let at = state_at(epoch) + SECTOR_BYTES + slot * SLOT_BYTES;
            (word(at), word(at + 8)) == *block
        };
        let used = word(state_at(epoch) + 8 * (STATE_WORDS - 1));
        // Between a change of the view and that of the page they differ, and then the cut is of no state.
        let of_state = used == rows.len() as u64 && rows.iter().enumerate().all(is_slot);
        let at = cut_at(number);
        let words = [number, if of_state { epoch } else { epoch.wrapping_sub(1) }, used];
        for (word, value) in words.iter().enumerate() {
            self.mapping.word(at + 8 * word).store(*value, Ordering::Relaxed);
        }
        for (slot, (_, rows)) in rows.iter().take(SLOTS_MAX).enumerate() {
            self.mapping.word(at + SECTOR_BYTES + slot * ROWS_BYTES).store(*rows, Ordering::Relaxed);
        }
        // Release: whoever sees the number sees its cut.
        self.mapping.word(CUTS_DONE).store(number, Ordering::Release);
    }

    /// Cuts begun so far: a later one sees all that has happened by now.
    pub(crate) fn cuts_begun(&self) -> u64 {
        fence(Ordering::SeqCst);
        self.mapping.load_acquire(CUTS_BEGUN)
    }

    /// The latest cut, if it was begun after the first `begun`.
    pub(crate) fn cut_after(&self, begun: u64) -> Option<Cut> {
        let number = self.mapping.load_acquire(CUTS_DONE);
        if number <= begun {
            return None;
        }
        let at = cut_at(number);
        let word = |at: usize| self.mapping.word(at).load(Ordering::Relaxed);
        let (of, epoch, used) = (word(at), word(at + 8), word(at + 16));
        let used = usize::try_from(used).unwrap_or(SLOTS_MAX).min(SLOTS_MAX);
        let rows = (0..used).map(|slot| word(at + SECTOR_BYTES + slot * ROWS_BYTES)).collect();
        fence(Ordering::Acquire);
        // The cut after the next one is written over this one.
        let whole = of == number && word(CUTS_BEGUN) < number + 2;
        whole.then_some(Cut { epoch, rows })
    }

    /// Says that the writing process ends and that so many rows of each block of the view are durable: in the block, or in
    /// segments. As long as the page is not opened for writing again, no block has more.
    pub(crate) fn close(&self, rows: &[(BlockLife, u64)]) {
        let number = self.begin_cut();
        self.end_cut(number, rows);
        let words = [self.epoch(), number, rows.len() as u64, sum_of(rows)];
        for (word, value) in words.iter().chain([&checksum(&words)]).enumerate() {
            self.mapping.word(CLOSED + 8 * word).store(*value, Ordering::Relaxed);
        }
    }

    /// What the last [`close`](Self::close) said, if it is all there still. The rows were durable then, so also after a power
    /// loss there are no fewer of that life of the block.
    pub(crate) fn closed(&self) -> Vec<(BlockLife, u64)> {
        let word = |at: usize| self.mapping.word(at).load(Ordering::Relaxed);
        let words: [u64; CLOSED_WORDS] = std::array::from_fn(|number| word(CLOSED + 8 * number));
        let [epoch, number, used, sum] = words;
        let used = usize::try_from(used).unwrap_or(usize::MAX);
        if word(CLOSED + 8 * CLOSED_WORDS) != checksum(&words) || used > SLOTS_MAX {
            return Vec::new();
        }
        let slot = |slot: usize| {
            let at = state_at(epoch) + SECTOR_BYTES + slot * SLOT_BYTES;
            ((word(at), word(at + 8)), word(cut_at(number) + SECTOR_BYTES + slot * ROWS_BYTES))
        };
        let rows: Vec<_> = (0..used).map(slot).collect();
        // A later life may have written over a part of it.
        if sum_of(&rows) == sum { rows } else { Vec::new() }
    }

    /// Takes back what [`close`](Self::close) said: from here on blocks may get more rows.
    pub(crate) fn reopen(&self) {
        self.mapping.word(CLOSED + 8 * CLOSED_WORDS).store(0, Ordering::Relaxed);
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

fn state_at(epoch: u64) -> usize {
    STATES + if epoch.is_multiple_of(2) { 0 } else { STATE_BYTES }
}

fn cut_at(number: u64) -> usize {
    CUTS + if number.is_multiple_of(2) { 0 } else { CUT_BYTES }
}

fn sum_of(rows: &[(BlockLife, u64)]) -> u64 {
    rows.iter().fold(0, |sum, ((block, generation), rows)| checksum(&[sum, *block, *generation, *rows]))
}

fn checksum(words: &[u64]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    words.iter().for_each(|word| hasher.update(&word.to_le_bytes()));
    // Never zero, so that a state of zeros does not hold.
    u64::from(hasher.finalize()) | 1 << 32
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
