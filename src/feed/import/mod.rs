//! Ways in: files and streams of agencies become rows, each once.
//!
//! [`Import`] says how a source is read, [`Source`] is what is read, and [`Store::import`](crate::Store::import) does it. What
//! that means for the same file twice, for rows that are broken, and for a crash in the middle is on the page
//! [feeds](crate::_pages::feeds).
//!
//! - `start` opens a source and maps its columns, `session` walks its content, `ledger` knows what was imported, `resume`
//!   compares after a crash, `follow` waits for more.
//! - `input` reads and decompresses; `csv`, `json`, `line_protocol` and `rows` take content apart into cells; `cell`,
//!   `number` and `time` read them; `targets` has the tables; `fault` what can be wrong.
//!
//! **Invariant:** every row of a source is taken, in quarantine, or a duplicate of a row that one of the two has from the
//! same content; and is counted as that. Nothing is dropped silently.
//!
//! **Invariant:** memory is bounded by `chunk_bytes`, whatever the source is; after a crash by some hundred bytes a row of
//! one such piece.

mod arrow_source;
mod cell;
mod csv;
mod fault;
mod follow;
pub(crate) mod host;
mod input;
mod json;
pub(crate) mod ledger;
mod line_protocol;
mod number;
mod options;
mod records;
mod resume;
mod rows;
mod session;
mod source;
mod start;
mod targets;
mod time;

pub use follow::Follow;
pub use options::Import;
pub use source::Source;
pub use time::Twice;

pub(crate) use options::Limits;
pub(crate) use start::import;

#[cfg(test)]
mod tests;

use ledger::Sums;

/// What became of a source. Each of its rows is counted in exactly one of `rows`, `duplicates` and `quarantined`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Rows that are in their table now.
    pub rows: u64,
    /// Rows that an earlier import of the same content had taken or put into quarantine.
    pub duplicates: u64,
    /// Rows that went to quarantine.
    pub quarantined: u64,
    /// Lines of the source that were looked at or known; rows, of Arrow's formats.
    pub lines: u64,
    /// Bytes of content, decompressed, behind its header.
    pub bytes: u64,
}

impl From<Sums> for Imported {
    fn from(sums: Sums) -> Self {
        let Sums { bytes, lines, rows, quarantined, duplicates } = sums;
        Self { rows, duplicates, quarantined, lines, bytes }
    }
}

impl std::fmt::Display for Imported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, duplicates, quarantined, .. } = self;
        write!(f, "{rows} rows, {duplicates} duplicates, {quarantined} in quarantine")
    }
}
