//! Summaries: what each series did in each span of time, so that a question about hours does not read seconds.
//!
//! A summary lies in the series index of its segment. Its *cells* are the series of the segment, each cut at multiples of
//! one *grid* since 1970 (UTC); a cell without rows is not there. Of each field a cell has how many rows lack it, sum,
//! least, greatest, first and last value, and the times of those two.
//!
//! **Invariant:** a cell says what its rows say: counts, extremes and ends are exact, bit for bit; a sum of floats is that of
//! adding row by row from the first, or of adding such sums where cells were joined; a sum of integers wraps as SQL's does.
//!
//! **Invariant:** cells are in the order of rows, so that those of a series, and the rows of each, follow each other.
//!
//! **Invariant:** what a summary says depends on the rows and on the segment's length alone, not on the batches they came
//! in. So one that was lost can be made again, and proven.

mod build;
mod cells;
mod packed;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use build::{Builder, Encoded};
pub(crate) use cells::{Cell, Column, Kind};
#[cfg(feature = "sql")]
pub(crate) use read::{Cells, FieldCells};
pub(crate) use read::{Directory, Stats, SummaryReader};

const MINUTE_NS: i64 = 60_000_000_000;

/// The spans that there are, in ascending order. Each divides the next, so that cells can be joined.
pub(crate) const GRIDS_NS: [i64; 9] = [
    MINUTE_NS,
    5 * MINUTE_NS,
    15 * MINUTE_NS,
    30 * MINUTE_NS,
    60 * MINUTE_NS,
    180 * MINUTE_NS,
    360 * MINUTE_NS,
    720 * MINUTE_NS,
    1_440 * MINUTE_NS,
];

/// Of so many bytes of a segment its summary may have one.
const SHARE: u64 = 20;
/// Rows that a cell has on average at least: with fewer, its numbers cost more than their share of the rows.
const ROWS_EACH_MIN: usize = 32;
/// Cells that are kept however few rows they have, until more are known.
const CELLS_FREE: usize = 4_096;
/// Cells of a chunk, the unit that is read; that of the last series goes beyond.
const CHUNK_CELLS: usize = 4_096;
