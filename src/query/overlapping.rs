//! What is read together where the last write wins.
//!
//! Pieces whose times do not meet another's are read as in any table. The others are merged, group by group, and a large
//! group is cut by series so that all threads have a part of it: every piece of it has its rows in the order of series.
//!
//! **Invariant:** all rows of equal series and time that match the predicates on both are in one piece. What a piece has
//! beside those may be there twice; the predicates, which stay in the plan, drop it.

use std::ops::Range;
use std::sync::Arc;

use super::prune::{Pruned, TimeRange};
use super::session::BATCH_ROWS;
use super::work::{Kept, Piece};
use crate::error::{Error, Result};
use crate::snapshot::inputs::Merging;
use crate::snapshot::merge::Input;
use crate::snapshot::overlap::{self, Part};
use crate::snapshot::{LiveRange, Segment, TableView};
use crate::storage::segment::intersection;

/// Merged rows below which another part costs more than it saves.
const CUT_ROWS_MIN: usize = 4 * BATCH_ROWS;
/// Of so many live rows one is looked at to find where to cut.
const SAMPLE_EACH: usize = 64;

/// A part of what is merged.
#[derive(Clone)]
pub(super) enum Source {
    Segment {
        segment: Arc<Segment>,
        ranges: Vec<Range<u64>>,
    },
    /// Rows of a live range, or all of them.
    Live {
        live: usize,
        rows: Option<Arc<[u32]>>,
        count: usize,
    },
}

impl Source {
    fn rows(&self) -> usize {
        match self {
            Self::Segment { ranges, .. } => {
                ranges.iter().map(|range| usize::try_from(range.end - range.start).unwrap_or(usize::MAX)).sum()
            }
            Self::Live { count, .. } => *count,
        }
    }
}

/// Pieces of `segments`, which are all that is left of the table's, and of its live ranges: those that are read as they
/// are, and then those that are merged, at most `parts` a group. Also how many live ranges have rows in them.
pub(super) fn pieces(
    view: &TableView,
    pruned: &Pruned,
    segments: Vec<Piece>,
    parts: usize,
) -> Result<(Vec<Piece>, Vec<Piece>, Kept)> {
    let clip = |min: i64, max: i64| match pruned.time {
        Some(TimeRange { lo, hi }) => (min.max(lo), max.min(hi)),
        None => (min, max),
    };
    let mut all = Vec::new();
    for piece in segments {
        let Piece::Segment { segment, ranges, .. } = piece else { continue };
        let (min, max) = clip(segment.meta.min_time, segment.meta.max_time);
        all.push(Part { what: Source::Segment { segment, ranges }, min, max });
    }
    let mut kept = Kept { kept: 0, of: view.live.len() };
    for (live, range) in view.live.iter().enumerate() {
        let parts = live_parts(view, range, pruned);
        kept.kept += usize::from(!parts.is_empty());
        all.extend(parts.into_iter().map(|Part { what, min, max }| {
            let count = what.as_ref().map_or(range.rows(), Vec::len);
            Part { what: Source::Live { live, rows: what.map(Into::into), count }, min, max }
        }));
    }
    let (mut plain, mut merged) = (Vec::new(), Vec::new());
    for group in overlap::groups(all) {
        match <[Source; 1]>::try_from(group) {
            Ok([Source::Segment { segment, ranges }]) => {
                let whole = ranges.len() == 1 && ranges.first() == Some(&(0..segment.meta.rows));
                plain.push(Piece::Segment { segment, ranges, whole });
            }
            Ok(one) => merged.extend(cut(view, pruned, one.to_vec(), parts)?),
            Err(group) => merged.extend(cut(view, pruned, group, parts)?),
        }
    }
    Ok((plain, merged, kept))
}

fn live_parts(view: &TableView, range: &LiveRange, pruned: &Pruned) -> Vec<Part<Option<Vec<u32>>>> {
    let Some((min, max)) = range.time_bounds() else { return Vec::new() };
    let time = pruned.time.filter(|time| !time.covers(min, max));
    if time.is_some_and(|time| !time.meets(min, max)) {
        return Vec::new();
    }
    let series = pruned.series.as_ref();
    let wanted =
        |at: i64, id: u32| time.is_none_or(|time| time.contains(at)) && series.is_none_or(|set| set.contains(id));
    let narrows = time.is_some() || series.is_some();
    overlap::live_parts(range, view.partition_ns, narrows.then_some(&wanted as &dyn Fn(i64, u32) -> bool))
}

/// A group in pieces of about equally many rows, of different series.
fn cut(view: &TableView, pruned: &Pruned, sources: Vec<Source>, parts: usize) -> Result<Vec<Piece>> {
    let rows: usize = sources.iter().map(Source::rows).sum();
    let sources: Arc<[Source]> = sources.into();
    let count = parts.min(rows / CUT_ROWS_MIN);
    if count < 2 {
        return Ok(vec![Piece::Merged { sources, ranks: 0..u32::MAX, rows }]);
    }
    let ranks = view.series.ranks();
    let rank = |series: u32| ranks.get(series as usize).copied().unwrap_or(u32::MAX);
    let mut weights: Vec<(u32, usize)> = Vec::new();
    for source in &*sources {
        match source {
            Source::Segment { segment, .. } => {
                let wanted = |series: u32| pruned.series.as_ref().is_none_or(|set| set.contains(series));
                let index = segment.series_ranges(&view.schema)?;
                let of_wanted = index.iter().filter(|range| wanted(range.series));
                let rows = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
                weights.extend(of_wanted.map(|range| (rank(range.series), rows(range.rows))));
            }
            Source::Live { live, rows, .. } => {
                let Some(range) = view.live.get(*live) else { continue };
                let ids = range.series_ids();
                let sample: Vec<u32> = match rows {
                    Some(rows) => rows.iter().step_by(SAMPLE_EACH).copied().collect(),
                    None => (0..u32::try_from(ids.len()).unwrap_or(u32::MAX)).step_by(SAMPLE_EACH).collect(),
                };
                let ids = sample.into_iter().filter_map(|row| ids.get(row as usize).copied());
                weights.extend(ids.map(|series| (rank(series), SAMPLE_EACH)));
            }
        }
    }
    weights.sort_unstable();
    let all: usize = weights.iter().map(|(_, rows)| rows).sum();
    let (mut pieces, mut from, mut sum) = (Vec::new(), 0, 0);
    for (rank, weight) in weights {
        if sum >= all.div_ceil(count) && rank > from {
            pieces.push(Piece::Merged { sources: sources.clone(), ranks: from..rank, rows: sum });
            (from, sum) = (rank, 0);
        }
        sum += weight;
    }
    pieces.push(Piece::Merged { sources, ranks: from..u32::MAX, rows: sum });
    Ok(pieces)
}

/// The rows of `sources` that are of series of the ranks `ranks`, as inputs of a merge.
pub(super) fn inputs(
    view: &TableView,
    merging: &Merging,
    sources: &[Source],
    ranks: &Range<u32>,
    time: Option<TimeRange>,
) -> Result<Vec<Input>> {
    let all_ranks = view.series.ranks();
    let is_in = |series: u32| all_ranks.get(series as usize).is_some_and(|rank| ranks.contains(rank));
    let all = *ranks == (0..u32::MAX);
    let input = |source: &Source| match source {
        Source::Segment { segment, ranges } => {
            let meta = &segment.meta;
            let time = time.filter(|time| !time.covers(meta.min_time, meta.max_time)).map(|time| (time.lo, time.hi));
            let ranges = if all {
                ranges.clone()
            } else {
                let index = segment.series_ranges(&view.schema)?;
                let of_series: Vec<_> =
                    index.iter().filter(|range| is_in(range.series)).map(|range| range.range()).collect();
                intersection(ranges, &of_series)
            };
            merging.segment(segment, Some(ranges), time)
        }
        Source::Live { live, rows, .. } => {
            let gone = || Error::batch(view.schema.name(), format!("no live range {live}"));
            let range = view.live.get(*live).ok_or_else(gone)?;
            if all {
                return merging.live(range, rows.as_ref().map(|rows| rows.to_vec()));
            }
            let ids = range.series_ids();
            let is_in = |row: &u32| ids.get(*row as usize).is_some_and(|series| is_in(*series));
            let rows: Vec<u32> = match rows {
                Some(rows) => rows.iter().copied().filter(is_in).collect(),
                None => (0..u32::try_from(range.rows()).unwrap_or(u32::MAX)).filter(is_in).collect(),
            };
            merging.live(range, Some(rows))
        }
    };
    sources.iter().map(input).collect()
}
