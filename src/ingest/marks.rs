//! Ingest-time marks: pairs of (rows, second), each saying that the rows below were there by the end of that second.
//!
//! Kept by the store's house keeper, by syncs and by seals, never by an append.
//!
//! **Invariant:** marks of a block rise in rows and do not fall in seconds, and none speaks of rows that are not published.
//! So a row's ingest time is the second of the first mark above it, and once it has one it keeps it: a mark is only ever
//! extended within its own second. What a power loss leaves of the marks is cut to that at recovery: their sectors may be
//! of several moments, and rows that were published and not synced are gone, with others to come in their place.
//!
//! When the page of marks is nearly full, a block of a table that keeps ingest times takes no more rows. In other tables
//! the last mark moves on, so marks become coarse and never wrong.

use std::sync::atomic::Ordering;

use crate::fs::Mapping;

use super::layout::{Layout, MARKS_BYTES};

const MARK_BYTES: usize = 8;
/// Marks that fit.
pub(crate) const MARKS_MAX: usize = MARKS_BYTES / MARK_BYTES;
/// Marks up to which a block of a table that keeps ingest times takes rows. The rest is for rows that come before its
/// writer sees that.
pub(crate) const MARKS_ENOUGH: usize = MARKS_MAX - 8;

/// One mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) rows: u32,
    /// Unix seconds, until 2106.
    pub(crate) unix_s: u32,
}

impl Mark {
    /// When the rows below it were there for certain, in Unix nanoseconds: the end of its second.
    pub(crate) fn end_ns(unix_s: u32) -> i64 {
        (i64::from(unix_s) + 1) * 1_000_000_000
    }

    /// One word, so that no reader sees half a mark.
    fn word(self) -> u64 {
        u64::from(self.rows) | u64::from(self.unix_s) << 32
    }

    fn of_word(word: u64) -> Self {
        let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default();
        Self { rows: half(word), unix_s: half(word >> 32) }
    }
}

/// How far a block's rows are marked: the marks that are used, and the last of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marked {
    pub(crate) used: usize,
    pub(crate) last: Mark,
}

impl Marked {
    /// As the block has it.
    pub(crate) fn read(mapping: &Mapping, layout: &Layout) -> Self {
        let marks = read(mapping, layout);
        Self { used: marks.len(), last: marks.last().copied().unwrap_or_default() }
    }

    /// Marks `rows`, which are published, by `unix_s`. Where marks may not move, rows for which there is no mark left stay
    /// without.
    pub(crate) fn mark(&mut self, mapping: &Mapping, layout: &Layout, rows: u32, unix_s: u32, may_move: bool) {
        if rows <= self.last.rows {
            return;
        }
        // A clock that was set back does not set marks back.
        let mark = Mark { rows, unix_s: unix_s.max(self.last.unix_s) };
        let at = if self.used > 0 && mark.unix_s == self.last.unix_s { self.used - 1 } else { self.used };
        if at >= MARKS_MAX && !may_move {
            return;
        }
        let at = at.min(MARKS_MAX - 1);
        write(mapping, layout, at, mark);
        *self = Self { used: at + 1, last: mark };
    }
}

fn place(layout: &Layout, mark: usize) -> usize {
    layout.marks + mark * MARK_BYTES
}

/// The marks written so far, in their order.
pub(crate) fn read(mapping: &Mapping, layout: &Layout) -> Vec<Mark> {
    // Relaxed: a mark that is seen speaks of rows that were published before it was made, and whoever uses it has loaded
    // the count of the rows it looks at.
    let mark = |at| Mark::of_word(mapping.word(place(layout, at)).load(Ordering::Relaxed));
    (0..MARKS_MAX).map(mark).take_while(|mark| mark.rows > 0).collect()
}

fn write(mapping: &Mapping, layout: &Layout, at: usize, mark: Mark) {
    mapping.word(place(layout, at)).store(mark.word(), Ordering::Relaxed);
}

/// What `marks` say of the first `rows` rows. Once all of these are marked it is the same for good: later marks speak of later
/// rows, and a mark that grows says the same of earlier ones.
pub(super) fn of_rows(marks: impl Iterator<Item = Mark>, rows: usize) -> Vec<Mark> {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let mut kept: Vec<Mark> = Vec::new();
    for mark in marks {
        let last = kept.last().copied().unwrap_or_default();
        if mark.rows <= last.rows || mark.unix_s < last.unix_s || last.rows == rows {
            break;
        }
        kept.push(Mark { rows: mark.rows.min(rows), unix_s: mark.unix_s });
    }
    kept
}

/// A checksum of what the page of marks in `bytes` says of the first `rows` rows; never 0.
pub(crate) fn sum_of(bytes: &[u8], rows: usize) -> u32 {
    let words = bytes.chunks_exact(MARK_BYTES).filter_map(|word| word.first_chunk());
    let marks = words.map(|word| Mark::of_word(u64::from_le_bytes(*word))).take_while(|mark| mark.rows > 0);
    let mut hasher = crc32fast::Hasher::new();
    of_rows(marks, rows).iter().for_each(|mark| hasher.update(&mark.word().to_le_bytes()));
    hasher.finalize().max(1)
}

/// Makes the invariant hold of a block that keeps `rows` rows: the longest run of marks for which it does stays, the first
/// mark beyond the rows speaks of those that are kept, and the others go.
pub(crate) fn cut(mapping: &Mapping, layout: &Layout, rows: usize) {
    let kept = of_rows(read(mapping, layout).into_iter(), rows);
    for at in 0..MARKS_MAX {
        let wanted = kept.get(at).copied().unwrap_or_default();
        // What is as it should be is not written again: opening a store makes no page dirty that it need not. Relaxed: at
        // recovery nobody else looks.
        if mapping.word(place(layout, at)).load(Ordering::Relaxed) != wanted.word() {
            write(mapping, layout, at, wanted);
        }
    }
}
