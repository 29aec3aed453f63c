//! What a scan has to read, cut into equal parts.
//!
//! Segments go by their bounds, then by the row ranges of the series that match; live ranges by their bounds. What is
//! left is dealt to the partitions by rows, large pieces cut, so that one segment keeps all threads busy.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::overlapping::{self, Source};
use super::prune::{Pruned, SeriesSet};
use super::session::BATCH_ROWS;
use crate::error::Result;
use crate::snapshot::{Segment, TableView};

/// Rows below which another partition costs more than it saves.
const PARTITION_ROWS_MIN: usize = 4 * BATCH_ROWS;

/// A part of one segment or of one live range.
#[derive(Clone)]
pub(super) enum Piece {
    /// All rows of the ranges.
    Segment { segment: Arc<Segment>, ranges: Vec<Range<u64>>, whole: bool },
    /// Rows of the table's live range of that number.
    Live { live: usize, rows: Range<usize> },
    /// Of `sources` together, the last writes of series of these ranks; at most so many rows.
    Merged { sources: Arc<[Source]>, ranks: Range<u32>, rows: usize },
    /// Single rows of it, ascending.
    LiveRows { live: usize, rows: Vec<u32> },
    /// Rows that are there already, in the columns that the scan gives.
    Rows(RecordBatch),
}

impl Piece {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Segment { ranges, .. } => {
                ranges.iter().map(|range| usize::try_from(range.end - range.start).unwrap_or(usize::MAX)).sum()
            }
            Self::Live { rows, .. } => rows.len(),
            Self::Merged { rows, .. } => *rows,
            Self::LiveRows { rows, .. } => rows.len(),
            Self::Rows(batch) => batch.num_rows(),
        }
    }

    /// The first `count` rows, and the rest; all of it where nobody knows which are the first.
    fn split(self, count: usize) -> (Self, Option<Self>) {
        match self {
            Self::Merged { .. } => (self, None),
            Self::Rows(batch) => {
                let count = count.min(batch.num_rows());
                (Self::Rows(batch.slice(0, count)), Some(Self::Rows(batch.slice(count, batch.num_rows() - count))))
            }
            Self::Live { live, rows } => {
                let middle = rows.start.saturating_add(count).min(rows.end);
                let rest = Self::Live { live, rows: middle..rows.end };
                (Self::Live { live, rows: rows.start..middle }, Some(rest))
            }
            Self::LiveRows { live, mut rows } => {
                let rest = rows.split_off(count.min(rows.len()));
                (Self::LiveRows { live, rows }, Some(Self::LiveRows { live, rows: rest }))
            }
            Self::Segment { segment, ranges, .. } => {
                let (mut first, mut rest, mut left) = (Vec::new(), Vec::new(), count as u64);
                for range in ranges {
                    let middle = range.start.saturating_add(left).min(range.end);
                    left -= middle - range.start;
                    first.extend((range.start < middle).then_some(range.start..middle));
                    rest.extend((middle < range.end).then_some(middle..range.end));
                }
                let rest = Self::Segment { segment: segment.clone(), ranges: rest, whole: false };
                (Self::Segment { segment, ranges: first, whole: false }, Some(rest))
            }
        }
    }
}

/// How many of how many, for `EXPLAIN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) kept: usize,
    pub(super) of: usize,
}

/// All of a scan's work.
#[derive(Default)]
pub(super) struct Work {
    /// One list for each output partition.
    pub(super) parts: Vec<Vec<Piece>>,
    pub(super) partitions: Kept,
    pub(super) segments: Kept,
    pub(super) live_ranges: Kept,
    /// Ranges of segment rows that are read.
    pub(super) row_ranges: usize,
    /// Rows that are read at most; where pieces are merged, some of them are overwritten.
    pub(super) rows: usize,
    /// Pieces that are merged.
    pub(super) merges: usize,
    /// Series of which the latest row is read alone, and series of which it is not enough.
    pub(super) latest: Option<(usize, usize)>,
    /// Whether rows of older buckets than are wanted are left out.
    pub(super) newest: bool,
    /// The series that are left to be scanned, if they are fewer than the predicates leave.
    pub(super) narrowed: Option<SeriesSet>,
}

/// What of a table is read, in pieces that are not dealt to anybody yet.
pub(super) struct Found {
    /// The figures; it has no parts.
    pub(super) work: Work,
    /// Those that are read as they are, ..
    pub(super) pieces: Vec<Piece>,
    /// .. and those that are merged.
    pub(super) merged: Vec<Piece>,
}

/// What of `view` is read, at most `limit` rows, in at most `parts` parts.
pub(super) fn plan(view: &TableView, pruned: &Pruned, limit: Option<usize>, parts: usize) -> Result<Work> {
    let Found { mut work, mut pieces, mut merged } = find(view, pruned, parts)?;
    if let Some(limit) = limit
        && pieces.iter().map(Piece::rows).sum::<usize>() >= limit
    {
        // How many rows a merge gives nobody knows, so it is read if the others have too few.
        pieces = deal(pieces, limit).next().unwrap_or_default();
        merged.clear();
    }
    work.merges = merged.len();
    pieces.extend(merged);
    work.deal(pieces, parts);
    Ok(work)
}

/// What of `view` is read; a group of pieces that are merged is cut in at most `parts`.
pub(super) fn find(view: &TableView, pruned: &Pruned, parts: usize) -> Result<Found> {
    let mut work = Work::default();
    let mut pieces = Vec::new();
    let (mut all_partitions, mut kept_partitions) = (BTreeSet::new(), BTreeSet::new());
    let nothing = pruned.time.is_some_and(|time| time.is_empty())
        || pruned.series.as_ref().is_some_and(|set| set.matching() == 0);
    if !nothing {
        view.aside.check(&view.schema, pruned.time.map(|time| (time.lo, time.hi)))?;
    }
    work.segments.of = view.segments.len();
    for segment in &*view.segments {
        let partition = (segment.meta.partition_start_ns, segment.meta.partition_ns);
        all_partitions.insert(partition);
        let ranges = if nothing { Vec::new() } else { segment_ranges(view, segment, pruned)? };
        if !ranges.is_empty() {
            kept_partitions.insert(partition);
            work.segments.kept += 1;
            work.row_ranges += ranges.len();
            let whole = ranges.len() == 1 && ranges.first() == Some(&(0..segment.meta.rows));
            pieces.push(Piece::Segment { segment: segment.clone(), ranges, whole });
        }
    }
    work.partitions = Kept { kept: kept_partitions.len(), of: all_partitions.len() };
    let mut merged = Vec::new();
    if nothing {
        work.live_ranges.of = view.live.len();
    } else if view.schema.has_clock() {
        (pieces, merged, work.live_ranges) = overlapping::pieces(view, pruned, pieces, parts)?;
    } else {
        let live;
        (live, work.live_ranges) = live_pieces(view, pruned);
        pieces.extend(live);
    }
    Ok(Found { work, pieces, merged })
}

/// The live ranges of which rows may match, and how many of how many those are.
fn live_pieces(view: &TableView, pruned: &Pruned) -> (Vec<Piece>, Kept) {
    let mut pieces = Vec::new();
    for (live, range) in view.live.iter().enumerate() {
        let meets = pruned.time.is_none_or(|time| range.time_bounds().is_some_and(|(min, max)| time.meets(min, max)));
        if range.rows() > 0 && meets {
            pieces.push(Piece::Live { live, rows: 0..range.rows() });
        }
    }
    let kept = Kept { kept: pieces.len(), of: view.live.len() };
    (pieces, kept)
}

impl Work {
    /// Gives `pieces` to at most `parts` parts.
    pub(super) fn deal(&mut self, pieces: Vec<Piece>, parts: usize) {
        self.rows = pieces.iter().map(Piece::rows).sum();
        let parts = parts.min(self.rows.div_ceil(PARTITION_ROWS_MIN)).max(1);
        self.parts = deal(pieces, self.rows.div_ceil(parts)).collect();
        if self.parts.is_empty() {
            self.parts.push(Vec::new());
        }
    }
}

/// Lists of `rows` rows each, the last one shorter.
fn deal(pieces: Vec<Piece>, rows: usize) -> impl Iterator<Item = Vec<Piece>> {
    let mut rest = pieces.into_iter();
    let mut cut: Option<Piece> = None;
    std::iter::from_fn(move || {
        let (mut part, mut room) = (Vec::new(), rows);
        while room > 0
            && let Some(piece) = cut.take().or_else(|| rest.next())
        {
            let count = piece.rows();
            if count <= room {
                room -= count;
                part.push(piece);
            } else {
                let (first, after) = piece.split(room);
                part.push(first);
                cut = after;
                room = 0;
            }
        }
        (!part.is_empty()).then_some(part)
    })
}

/// The rows of `segment` that may match, in ascending ranges that do not touch.
fn segment_ranges(view: &TableView, segment: &Segment, pruned: &Pruned) -> Result<Vec<Range<u64>>> {
    let meta = &segment.meta;
    let covered = match pruned.time {
        Some(time) if !time.meets(meta.min_time, meta.max_time) => return Ok(Vec::new()),
        Some(time) => time.covers(meta.min_time, meta.max_time),
        None => true,
    };
    if meta.rows == 0 {
        return Ok(Vec::new());
    }
    if covered && pruned.series.is_none() {
        return Ok(std::iter::once(0..meta.rows).collect());
    }
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for of_series in &*segment.series_ranges(&view.schema)? {
        let in_series = pruned.series.as_ref().is_none_or(|set| set.contains(of_series.series));
        if !in_series || !pruned.time.is_none_or(|time| time.meets(of_series.min_time, of_series.max_time)) {
            continue;
        }
        let range = of_series.range();
        match ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        }
    }
    Ok(ranges)
}
