//! `latest('table')`: of each series the latest row, without reading the others.
//!
//! Which row that is, the series indexes of the segments and the times of live blocks say. So a plan reads one row a
//! series, wherever it is.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt64Type;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use hashbrown::HashMap;

use super::catalog::Moment;
use super::failure::external;
use super::functions::Entry;
use super::provider::StoreTable;
use super::prune::Pruned;
use super::work::{Kept, Piece, Work};
use crate::error::{Error, Result as StoreResult};
use crate::snapshot::TableView;

pub(super) const NAME: &str = "latest";

pub(super) const REFERENCE: &[Entry] = &[Entry {
    name: NAME,
    signature: "latest('table')",
    summary: "A table of the latest row of each series.",
    details: "Stands in FROM, in sessions of a store, for tables of the store. Has the columns of the table; a field that \
              is null in that row is null, unlike last(value, time), which looks for the latest value. A predicate on tags \
              chooses series before anything is read; one on time or fields looks at the latest rows, so WHERE time < x \
              does not give the latest before x. Of rows of one latest time it is the one written last where the last \
              write wins, and any one of them elsewhere. Errors: a table that is not there. Cost: the series index of each segment, the times of live \
              rows, 32 bytes a series while it is planned, and one row a series: EXPLAIN shows how many.",
    example: "SELECT gate, time, level_cm FROM latest('water') WHERE agency = 'PUPR' ORDER BY gate",
}];

/// The table function.
#[derive(Debug)]
pub(super) struct Latest(pub(super) Moment);

impl TableFunctionImpl for Latest {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let name = table_name(arguments.exprs())?;
        let snapshot = self.0.snapshot().map_err(external)?;
        match snapshot.table(name).cloned() {
            Some(view) => Ok(Arc::new(StoreTable::latest(view, snapshot))),
            None => Err(external(Error::UnknownTable { table: name.chars().take(80).collect() })),
        }
    }
}

/// The table that a call names.
pub(super) fn table_name(arguments: &[Expr]) -> Result<&str> {
    let name = match arguments {
        [Expr::Literal(name, _)] => name.try_as_str().flatten(),
        _ => None,
    };
    name.ok_or_else(|| {
        let remedy = "write the name of one table, as text: latest('water')";
        DataFusionError::Plan(format!("{NAME}: argument `table` is not a text; {remedy}"))
    })
}

/// Where a row is.
#[derive(Clone, Copy)]
enum Place {
    Segment { number: usize, row: u64 },
    Live { number: usize, row: u32 },
}

/// The latest row of each of the series that are left.
pub(super) fn plan(view: &TableView, pruned: &Pruned, parts: usize) -> StoreResult<Work> {
    view.aside.check(&view.schema, None)?;
    let mut latest: Vec<Option<(i64, Place)>> = vec![None; view.series.len()];
    // Where the last write wins: other rows of the latest time of a series.
    let mut tied: HashMap<u32, Vec<Place>> = HashMap::new();
    let has_clock = view.schema.has_clock();
    let mut offer = |series: u32, time: i64, place: Place| {
        let Some(held) = latest.get_mut(series as usize) else { return };
        match *held {
            Some((before, _)) if before > time => {}
            Some((before, _)) if before == time && has_clock => tied.entry(series).or_default().push(place),
            _ => {
                *held = Some((time, place));
                tied.remove(&series);
            }
        }
    };
    let is_left = |series: u32| pruned.series.as_ref().is_none_or(|set| set.contains(series));
    for (number, segment) in view.segments.iter().enumerate() {
        let ranges = segment.series_ranges(&view.schema)?;
        for range in ranges.iter().filter(|range| range.rows > 0 && is_left(range.series)) {
            offer(range.series, range.max_time, Place::Segment { number, row: range.range().end - 1 });
        }
    }
    for (number, live) in view.live.iter().enumerate() {
        let (times, series) = (live.times(), live.series_ids());
        for (row, (time, series)) in (0..).zip(times.iter().zip(&series)).filter(|(_, (_, series))| is_left(**series)) {
            offer(*series, *time, Place::Live { number, row });
        }
    }
    for (series, others) in tied {
        let Some(Some((_, place))) = latest.get_mut(series as usize) else { continue };
        let mut last = (clock(view, *place)?, *place);
        for other in others {
            let found = clock(view, other)?;
            if found > last.0 {
                last = (found, other);
            }
        }
        *place = last.1;
    }
    Ok(work(view, latest.into_iter().flatten().map(|(_, place)| place), parts))
}

/// When a row was written, in the order of writes.
fn clock(view: &TableView, place: Place) -> StoreResult<Option<u64>> {
    match place {
        Place::Live { number, row } => {
            Ok(view.live.get(number).and_then(|live| live.clocks()?.get(row as usize).copied()))
        }
        Place::Segment { number, row } => {
            let Some(segment) = view.segments.get(number) else { return Ok(None) };
            // The clock is a segment's last column.
            let column = view.schema.segment_arrow().fields().len() - 1;
            let one = std::iter::once(row..row + 1).collect();
            let mut batches = segment.read(&view.schema, &[column], Some(one), None, 1)?;
            let batch = batches.next().transpose()?;
            let clocks = batch.as_ref().and_then(|batch| batch.column(0).as_primitive_opt::<UInt64Type>());
            Ok(clocks.filter(|clocks| !clocks.is_empty()).map(|clocks| clocks.value(0)))
        }
    }
}

fn work(view: &TableView, places: impl Iterator<Item = Place>, parts: usize) -> Work {
    let mut of_segments: Vec<Vec<u64>> = vec![Vec::new(); view.segments.len()];
    let mut of_live: Vec<Vec<u32>> = vec![Vec::new(); view.live.len()];
    for place in places {
        match place {
            Place::Segment { number, row } => of_segments.get_mut(number).into_iter().for_each(|rows| rows.push(row)),
            Place::Live { number, row } => of_live.get_mut(number).into_iter().for_each(|rows| rows.push(row)),
        }
    }
    let mut work = Work { segments: Kept { kept: 0, of: view.segments.len() }, ..Work::default() };
    work.live_ranges.of = view.live.len();
    let mut pieces = Vec::new();
    for (segment, mut rows) in view.segments.iter().zip(of_segments).filter(|(_, rows)| !rows.is_empty()) {
        rows.sort_unstable();
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        for row in rows {
            match ranges.last_mut() {
                Some(last) if last.end == row => last.end = row + 1,
                _ => ranges.push(row..row + 1),
            }
        }
        work.segments.kept += 1;
        work.row_ranges += ranges.len();
        pieces.push(Piece::Segment { segment: segment.clone(), ranges, whole: false });
    }
    for (live, mut rows) in of_live.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        rows.sort_unstable();
        work.live_ranges.kept += 1;
        pieces.push(Piece::LiveRows { live, rows });
    }
    work.deal(pieces, parts);
    work
}
