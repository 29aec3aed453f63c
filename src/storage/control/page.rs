//! The words of the control page, and the two protocols over them: states and cuts. See the module above.
//!
//! Generic over the memory, so that the model checkers run this very code.

use crate::fs::{PAGE_BYTES, SECTOR_BYTES};
use crate::sync::{Fences, Memory, Ordering, Word};

/// Blocks that the page can name.
pub(crate) const SLOTS_MAX: usize = 4_096;
const SLOT_BYTES: usize = 16;
const ROWS_BYTES: usize = 8;

pub(super) const BOOT_ID: usize = SECTOR_BYTES;
pub(super) const PID: usize = SECTOR_BYTES + 16;
pub(super) const DEVICE: usize = SECTOR_BYTES + 24;
pub(super) const INODE: usize = SECTOR_BYTES + 32;
const EPOCH: usize = 2 * SECTOR_BYTES;
const CUTS_BEGUN: usize = EPOCH + 8;
const CUTS_DONE: usize = EPOCH + 16;
/// Offset of the record of a close.
const CLOSED: usize = 3 * SECTOR_BYTES;
const STATES: usize = PAGE_BYTES;
const STATE_BYTES: usize = SECTOR_BYTES + SLOTS_MAX * SLOT_BYTES;
const CUTS: usize = STATES + 2 * STATE_BYTES;
const CUT_BYTES: usize = SECTOR_BYTES + SLOTS_MAX * ROWS_BYTES;
pub(super) const FILE_BYTES: usize = (CUTS + 2 * CUT_BYTES).next_multiple_of(PAGE_BYTES);
/// Words of a state before its checksum.
const STATE_WORDS: usize = 7;
/// Words of the record of a close before its checksum.
const CLOSED_WORDS: usize = 4;

/// A block and its generation.
pub(crate) type BlockLife = (u64, u64);

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

/// The page's words, wherever they are. States and cuts are written by one thread at a time.
#[derive(Debug)]
pub(crate) struct Page<M>(pub(crate) M);

impl<M: Memory> Page<M> {
    /// Moves on to the next state.
    pub(crate) fn publish(&self, ends: Ends, pin: u64, blocks: impl Iterator<Item = (u64, u64)>) {
        // Relaxed: only this thread writes it.
        let epoch = self.0.word(EPOCH).load(Ordering::Relaxed).wrapping_add(1);
        let at = state_at(epoch);
        // Release: whoever sees a word of what follows, all of them relaxed, and then fences also sees the epoch as it is now, which is that of the other state.
        M::Fences::fence(Ordering::Release);
        let mut used = 0;
        for (block, generation) in blocks.take(SLOTS_MAX) {
            let slot = at + SECTOR_BYTES + used * SLOT_BYTES;
            self.0.word(slot).store(block, Ordering::Relaxed);
            self.0.word(slot + 8).store(generation, Ordering::Relaxed);
            used += 1;
        }
        let Ends { manifest_number, manifest_end, series_end, clock } = ends;
        let words = [epoch, manifest_number, manifest_end, series_end, clock, pin, used as u64];
        // Relaxed, between the fence before and the release after.
        for (number, value) in words.iter().chain([&checksum(&words)]).enumerate() {
            self.0.word(at + 8 * number).store(*value, Ordering::Relaxed);
        }
        // Release: whoever sees the epoch sees its state.
        self.0.word(EPOCH).store(epoch, Ordering::Release);
    }

    /// The number of the current state.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.load_acquire(EPOCH)
    }

    /// The words of a state, if they hold.
    pub(super) fn ends(&self, epoch: u64) -> Option<(Ends, [u64; STATE_WORDS])> {
        let at = state_at(epoch);
        // Relaxed: the checksum tells words of two states, and who needs one state alone looks at the epoch again.
        let word = |number: usize| self.0.word(at + 8 * number).load(Ordering::Relaxed);
        let words: [u64; STATE_WORDS] = std::array::from_fn(word);
        let [_, manifest_number, manifest_end, series_end, clock, ..] = words;
        let holds = word(STATE_WORDS) == checksum(&words);
        holds.then_some((Ends { manifest_number, manifest_end, series_end, clock }, words))
    }

    /// The current state; `None` if it changed meanwhile.
    pub(crate) fn state(&self) -> Option<State> {
        let epoch = self.epoch();
        let (ends, [of, .., pin, used]) = self.ends(epoch)?;
        // Relaxed: the fence below orders them before the second look at the epoch.
        let slot = |number: usize| {
            let at = state_at(epoch) + SECTOR_BYTES + number * SLOT_BYTES;
            let word = |at| self.0.word(at).load(Ordering::Relaxed);
            (word(at), word(at + 8))
        };
        let blocks = (0..usize::try_from(used).unwrap_or(SLOTS_MAX).min(SLOTS_MAX)).map(slot).collect();
        // Acquire: if any word read above was of a later state, the epoch read below is a later one. The epoch itself
        // orders nothing more, so it is relaxed.
        M::Fences::fence(Ordering::Acquire);
        let unchanged = of == epoch && self.0.word(EPOCH).load(Ordering::Relaxed) == epoch;
        unchanged.then_some(State { epoch, ends, pin, blocks })
    }

    /// Begins a cut: counts that are loaded from here on belong to it. One thread makes cuts.
    pub(crate) fn begin_cut(&self) -> u64 {
        // Relaxed: only this thread writes it.
        let number = self.0.word(CUTS_BEGUN).load(Ordering::Relaxed).wrapping_add(1);
        // The cut that was done last stays whole while this one is written. Relaxed: the fence comes after it.
        self.0.word(CUTS_BEGUN).store(number, Ordering::Relaxed);
        // Sequentially consistent: a reader that does not see this number yet has its fence before this one, so the loads
        // after it see every row that the reader knew of.
        M::Fences::fence(Ordering::SeqCst);
        number
    }

    /// Writes the cut: rows of each (block, generation) in the order of the view that they were counted in.
    pub(crate) fn end_cut(&self, number: u64, rows: &[((u64, u64), u64)]) {
        let word = |at: usize| self.0.word(at).load(Ordering::Relaxed);
        let epoch = word(EPOCH);
        let is_slot = |(slot, (block, _)): (usize, &((u64, u64), u64))| {
            let at = state_at(epoch) + SECTOR_BYTES + slot * SLOT_BYTES;
            (word(at), word(at + 8)) == *block
        };
        let used = word(state_at(epoch) + 8 * (STATE_WORDS - 1));
        // Between a change of the view and that of the page they differ, and then the cut is of no state.
        let of_state = used == rows.len() as u64 && rows.iter().enumerate().all(is_slot);
        let at = cut_at(number);
        // Relaxed, between the fence of `begin_cut` and the release after.
        let words = [number, if of_state { epoch } else { epoch.wrapping_sub(1) }, used];
        for (word, value) in words.iter().enumerate() {
            self.0.word(at + 8 * word).store(*value, Ordering::Relaxed);
        }
        for (slot, (_, rows)) in rows.iter().take(SLOTS_MAX).enumerate() {
            self.0.word(at + SECTOR_BYTES + slot * ROWS_BYTES).store(*rows, Ordering::Relaxed);
        }
        // Release: whoever sees the number sees its cut, whose words are relaxed.
        self.0.word(CUTS_DONE).store(number, Ordering::Release);
    }

    /// Cuts begun so far: a later one sees all that has happened by now.
    pub(crate) fn cuts_begun(&self) -> u64 {
        // Sequentially consistent: see `begin_cut`.
        M::Fences::fence(Ordering::SeqCst);
        self.0.load_acquire(CUTS_BEGUN)
    }

    /// The latest cut, if it was begun after the first `begun`.
    pub(crate) fn cut_after(&self, begun: u64) -> Option<Cut> {
        let number = self.0.load_acquire(CUTS_DONE);
        if number <= begun {
            return None;
        }
        let at = cut_at(number);
        // Relaxed: the fence below orders them before the look at what is being written.
        let word = |at: usize| self.0.word(at).load(Ordering::Relaxed);
        let (of, epoch, used) = (word(at), word(at + 8), word(at + 16));
        let used = usize::try_from(used).unwrap_or(SLOTS_MAX).min(SLOTS_MAX);
        let rows = (0..used).map(|slot| word(at + SECTOR_BYTES + slot * ROWS_BYTES)).collect();
        // Acquire: if any word read above, relaxed, was of a later cut, the number read below is a later one. The cut after
        // the next one is written over this one.
        M::Fences::fence(Ordering::Acquire);
        let whole = of == number && word(CUTS_BEGUN) < number + 2;
        whole.then_some(Cut { epoch, rows })
    }

    /// Writes the record of a close: the cut of these rows, and a sum over it.
    pub(super) fn close(&self, rows: &[(BlockLife, u64)]) {
        let number = self.begin_cut();
        self.end_cut(number, rows);
        let words = [self.epoch(), number, rows.len() as u64, sum_of(rows)];
        for (word, value) in words.iter().chain([&checksum(&words)]).enumerate() {
            // Relaxed: nobody reads it before this process has ended, or while another opens the store under its lock.
            self.0.word(CLOSED + 8 * word).store(*value, Ordering::Relaxed);
        }
    }

    /// Rows of the record of a close, if it holds.
    pub(super) fn closed(&self) -> Vec<(BlockLife, u64)> {
        // Relaxed: the store's lock is held, and its last holder wrote this.
        let word = |at: usize| self.0.word(at).load(Ordering::Relaxed);
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

    /// Takes the record of a close back.
    pub(super) fn reopen(&self) {
        // Relaxed: as in `close`.
        self.0.word(CLOSED + 8 * CLOSED_WORDS).store(0, Ordering::Relaxed);
    }
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
