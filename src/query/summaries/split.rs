//! What summaries answer of a table, and what is read as rows.

use std::ops::Range;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;

use super::keys::{NUMBERS_MAX, TagKeys, TimeKeys};
use super::shape::{Shape, Source, What};
use crate::query::failure::external;
use crate::query::work::{self, Found, Piece};
use crate::snapshot::Segment;
use crate::storage::series_index::SeriesRange;
use crate::storage::summary::{Directory, Kind};

/// An aggregate's table in two.
pub(super) struct Split {
    /// The scan of what is left.
    pub(super) rows: Arc<dyn ExecutionPlan>,
    pub(super) tasks: Vec<Task>,
    pub(super) tags: TagKeys,
    pub(super) times: TimeKeys,
    pub(super) figures: Figures,
}

impl Split {
    /// Cells and rows that are read at most.
    pub(super) fn reads(&self) -> usize {
        let cells = |task: &Task| task.directory.chunks.get(task.chunk).map_or(0, |chunk| chunk.cells);
        self.tasks.iter().map(cells).sum::<usize>() + self.figures.raw_rows
    }
}

/// For `EXPLAIN`.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) segments: usize,
    /// Series of those segments, counted in each.
    pub(super) series: usize,
    /// Groups by time.
    pub(super) buckets: usize,
    /// The lengths of cells, ascending.
    pub(super) grids: Vec<i64>,
    /// Rows that are read at most.
    pub(super) raw_rows: usize,
}

/// A chunk of a segment's cells, in whole or in part.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) segment: Arc<Segment>,
    pub(super) directory: Arc<Directory>,
    pub(super) chunk: usize,
    pub(super) ranges: Arc<[SeriesRange]>,
    /// The cells from this one on, ..
    pub(super) first: i64,
    /// .. and the group by time of each.
    pub(super) groups: Arc<[u32]>,
}

/// The chunks that answer for a segment, and the rows that are read beside.
type Answered = (Vec<Task>, Vec<Range<u64>>);

/// Which cells of a segment answer, and which are cut by the bounds of time.
struct Cut {
    first: i64,
    last: i64,
    edges: [Option<i64>; 2],
}

/// `None` if summaries answer nothing of it.
pub(super) fn split(shape: &Shape<'_>, parts: usize) -> Result<Option<Split>> {
    let scan = shape.scan;
    if shape.time.is_empty() || scan.view().segments.is_empty() {
        return Ok(None);
    }
    // An error is the rows' to give, if there is any.
    let Ok(tags) = TagKeys::of(shape) else { return Ok(None) };
    let mut times = TimeKeys::of(shape);
    let Found { work, pieces, merged } = work::find(scan.view(), scan.pruned(), parts).map_err(external)?;
    let (mut tasks, mut left, mut figures) = (Vec::new(), Vec::new(), Figures::default());
    for piece in pieces {
        let Piece::Segment { segment, .. } = &piece else {
            left.push(piece);
            continue;
        };
        match of_segment(shape, segment, &tags, &mut times, &mut figures)? {
            Some((of_segment, edges)) => {
                tasks.extend(of_segment);
                if !edges.is_empty() {
                    left.push(Piece::Segment { segment: segment.clone(), ranges: edges, whole: false });
                }
            }
            None => left.push(piece),
        }
    }
    if tasks.is_empty() {
        return Ok(None);
    }
    left.extend(merged);
    figures.raw_rows = left.iter().map(Piece::rows).sum();
    figures.buckets = times.columns.first().map_or(0, Vec::len);
    figures.grids.sort_unstable();
    figures.grids.dedup();
    let rows = Arc::new(scan.of_pieces(work, left, parts)?);
    Ok(Some(Split { rows, tasks, tags, times, figures }))
}

/// The chunks to read of a segment's summary, and the rows of the cells that the bounds of time cut.
fn of_segment(
    shape: &Shape<'_>,
    segment: &Arc<Segment>,
    tags: &TagKeys,
    times: &mut TimeKeys,
    figures: &mut Figures,
) -> Result<Option<Answered>> {
    let schema = &shape.scan.view().schema;
    let Some(directory) = segment.summary(schema).map_err(external)?.filter(|it| suits(shape, it)) else {
        return Ok(None);
    };
    let Some(cut) = cut(shape, segment, directory.grid_ns) else { return Ok(None) };
    let Some(groups) = times.of_cells(shape, directory.grid_ns, cut.first, cut.last)? else { return Ok(None) };
    let groups: Arc<[u32]> = groups.into();
    let ranges = segment.series_ranges(schema).map_err(external)?;
    let is_wanted =
        |range: &SeriesRange| tags.group(range.series).is_some() && shape.time.meets(range.min_time, range.max_time);
    let has_edges = cut.edges.iter().any(Option::is_some);
    let reader = match has_edges {
        true => Some(segment.summary_reader(directory.clone()).map_err(external)?),
        false => None,
    };
    let (mut tasks, mut rows) = (Vec::new(), Vec::new());
    for (number, chunk) in directory.chunks.iter().enumerate() {
        let entries = ranges.iter().skip(chunk.first_entry).take(chunk.entries);
        let wanted = entries.clone().filter(|range| is_wanted(range)).count();
        if wanted == 0 {
            continue;
        }
        figures.series += wanted;
        if let Some(reader) = &reader {
            let cells = reader.cells(chunk).map_err(external)?;
            let mut next = 0;
            for (range, count) in entries.zip(&cells.of_entry) {
                let of_entry = next..next + count;
                next = of_entry.end;
                if is_wanted(range) {
                    let numbers = cells.numbers.get(of_entry.clone()).unwrap_or_default();
                    let counts = cells.rows.get(of_entry).unwrap_or_default();
                    edge_rows(range, numbers.iter().copied().zip(counts), &cut, &mut rows);
                }
            }
        }
        tasks.push(Task {
            segment: segment.clone(),
            directory: directory.clone(),
            chunk: number,
            ranges: ranges.clone(),
            first: cut.first,
            groups: groups.clone(),
        });
    }
    figures.segments += usize::from(!tasks.is_empty());
    figures.grids.push(directory.grid_ns);
    Ok(Some((tasks, rows)))
}

/// Whether the summary has what is asked for, and gives what the rows would.
fn suits(shape: &Shape<'_>, directory: &Directory) -> bool {
    let fields = &shape.scan.view().schema.fields;
    shape.aggregates.iter().all(|aggregate| {
        let (field, what) = match aggregate.source {
            Source::Rows | Source::Time(_) => return true,
            Source::Sketch { .. } => return false,
            Source::Field { field, what } => (field, what),
        };
        // A field that came later is null in all its rows.
        let Some(found) = directory.fields.get(field) else { return true };
        let kind = fields.get(field).map(|field| Kind::of(&field.field_type.arrow()));
        Some(found.kind) == kind
            && !(what.is_extreme() && found.is_ambiguous)
            && (what == What::Count || found.kind != Kind::Counted)
    })
}

/// `None` if no cell is within the bounds, or so many are that looking at each is no way.
fn cut(shape: &Shape<'_>, segment: &Segment, grid: i64) -> Option<Cut> {
    let (meta, time) = (&segment.meta, shape.time);
    let (low, high) = (meta.min_time.max(time.lo), meta.max_time.min(time.hi));
    if low > high {
        return None;
    }
    let (mut first, mut last) = (low.div_euclid(grid), high.div_euclid(grid));
    let end = i128::from(last) * i128::from(grid) + i128::from(grid) - 1;
    let low_edge = (time.lo > meta.min_time && first.checked_mul(grid)? < time.lo).then_some(first);
    let high_edge = (time.hi < meta.max_time && end > i128::from(time.hi)).then_some(last);
    first += i64::from(low_edge.is_some());
    last -= i64::from(high_edge.is_some());
    (first <= last && last - first < NUMBERS_MAX).then_some(Cut { first, last, edges: [low_edge, high_edge] })
}

/// Adds the rows of the cells of one series that the bounds of time cut.
fn edge_rows<'a>(
    range: &SeriesRange,
    cells: impl Iterator<Item = (i64, &'a u32)>,
    cut: &Cut,
    rows: &mut Vec<Range<u64>>,
) {
    let mut start = range.row_start;
    for (number, count) in cells {
        let of_cell = start..start + u64::from(*count);
        start = of_cell.end;
        if !cut.edges.contains(&Some(number)) {
            continue;
        }
        match rows.last_mut() {
            Some(last) if last.end == of_cell.start => last.end = of_cell.end,
            _ => rows.push(of_cell),
        }
    }
}
