//! `latest('table')`: of each series the latest row, without reading the others.
//!
//! Which row that is, the last-value table says (`snapshot::last`), or, where that is off or would hold too much, the
//! series indexes of the segments and the times of live blocks. So a plan reads one row a series, wherever it is.
//!
//! The same for aggregates of latest rows, which [`EndsRule`](super::ends::EndsRule) finds.
//!
//! **Invariant:** what a plan for aggregates gives is rows of the table, and among them, of each series, the latest within
//! the predicates' range, with a value in each column where one is wanted. So the aggregates above find what they find in
//! all rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, TimestampNanosecondArray, UInt32Array};
use arrow::compute::take;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use hashbrown::HashMap;

use super::catalog::Moment;
use super::failure::external;
use super::functions::Entry;
use super::provider::{RowsOf, StoreTable};
use super::prune::{Pruned, SeriesSet};
use super::work::{self, Kept, Piece, Work};
use crate::error::{Error, Result as StoreResult};
use crate::model::names;
use crate::snapshot::TableView;
use crate::snapshot::last::{self, LastTable, LastTables, Place};

pub(super) const NAME: &str = "latest";

pub(super) const REFERENCE: &[Entry] = &[Entry {
    name: NAME,
    signature: "latest('table')",
    summary: "A table of the latest row of each series.",
    details: "Stands in FROM, in sessions of a store, for tables of the store. Has the columns of the table; a field that \
              is null in that row is null, unlike last(value, time), which looks for the latest value. A predicate on tags \
              chooses series before anything is read; one on time or fields looks at the latest rows, so WHERE time < x \
              does not give the latest before x. Of rows of one latest time it is the one written last where the last \
              write wins, and any one of them elsewhere. Errors: a table that is not there. Cost: one row a series, of which \
              EXPLAIN shows how many; and to find them, the rows that came to live blocks and the series indexes of the \
              segments that came since somebody asked last. Without accelerate_last, or where last_bytes_max does not do, \
              it is the times of all live rows, the series index of each segment, and 32 bytes a series while it is planned.",
    example: "SELECT gate, time, level_cm FROM latest('water') WHERE agency = 'PUPR' ORDER BY gate",
}];

/// The table function.
#[derive(Debug)]
pub(super) struct Latest(pub(super) Moment);

impl TableFunctionImpl for Latest {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let name = table_name(arguments.exprs())?;
        let snapshot = self.0.snapshot().map_err(external)?;
        match snapshot.table(name).filter(|_| !names::is_hidden(name)).cloned() {
            Some(view) => {
                let table = StoreTable::new(view, snapshot, self.0.source().last());
                Ok(Arc::new(table.with(RowsOf::Latest)))
            }
            None => Err(external(Error::UnknownTable { table: name.chars().take(80).collect() })),
        }
    }
}

/// What aggregates of latest rows need beside those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Columns whose latest value is wanted, so that a null there is not enough.
    pub(super) values: Vec<usize>,
    /// Whether, of rows of one latest time, all are wanted.
    pub(super) ties: bool,
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

/// The latest row of each of the series that are left.
pub(super) fn plan(
    view: &TableView,
    pruned: &Pruned,
    projection: &[usize],
    last: Option<&LastTables>,
    parts: usize,
) -> StoreResult<Work> {
    view.aside.check(&view.schema, None)?;
    let nothing = Need::default();
    let everything = Pruned::default();
    let caught_up = match last {
        Some(last) => last.with(view, |table, view| {
            Found::of(table, view, &everything, pruned.series.as_ref())?.work(table, projection, &nothing, parts)
        })?,
        None => None,
    };
    caught_up.map_or_else(|| looked_up(view, pruned, parts), Ok)
}

/// Of each of the series that are left the latest row, if that is enough, and else all rows that are left.
pub(super) fn plan_ends(
    view: &TableView,
    pruned: &Pruned,
    projection: &[usize],
    need: &Need,
    last: Option<&LastTables>,
    parts: usize,
) -> StoreResult<Work> {
    let nothing = pruned.time.is_some_and(|time| time.is_empty());
    if let Some(last) = last.filter(|_| !nothing) {
        view.aside.check(&view.schema, pruned.time.map(|time| (time.lo, time.hi)))?;
        let caught_up = last.with(view, |table, view| {
            Found::of(table, view, pruned, pruned.series.as_ref())?.work(table, projection, need, parts)
        })?;
        if let Some(work) = caught_up {
            return Ok(work);
        }
    }
    work::plan(view, pruned, None, parts)
}

/// Latest rows that were found.
struct Found<'a> {
    view: &'a TableView,
    pruned: &'a Pruned,
    sealed: Vec<(u32, last::Found)>,
    live: Vec<(u32, last::Found)>,
    /// Series of which the latest row is not enough.
    scanned: Vec<u32>,
}

impl<'a> Found<'a> {
    fn of(table: &LastTable, view: &'a TableView, pruned: &'a Pruned, series: Option<&SeriesSet>) -> StoreResult<Self> {
        let mut found = Self { view, pruned, sealed: Vec::new(), live: Vec::new(), scanned: Vec::new() };
        let count = u32::try_from(view.series.len()).unwrap_or(u32::MAX);
        for series in (0..count).filter(|id| series.is_none_or(|set| set.contains(*id))) {
            let Some(row) = table.find(view, series)? else { continue };
            match (pruned.time, row.place) {
                (Some(time), _) if row.time > time.hi => found.scanned.push(series),
                (Some(time), _) if row.time < time.lo => {}
                (_, Place::Segment { .. }) => found.sealed.push((series, row)),
                (_, Place::Live { .. }) => found.live.push((series, row)),
            }
        }
        Ok(found)
    }

    fn work(mut self, table: &mut LastTable, projection: &[usize], need: &Need, parts: usize) -> StoreResult<Work> {
        if need.ties && !self.view.schema.has_clock() {
            self.scan_tied(table)?;
        }
        self.scan_null_live(need)?;
        let rows = self.sealed_rows(table, projection, need)?;
        let view = self.view;
        let mut work = if self.scanned.is_empty() {
            Work { segments: Kept { kept: 0, of: view.segments.len() }, ..Work::default() }
        } else {
            let series = SeriesSet::of(&self.scanned, view.series.len());
            let scanned = Pruned { time: self.pruned.time, series: Some(series), exact_series: true };
            let work = work::plan(view, &scanned, None, 1)?;
            Work { narrowed: scanned.series, ..work }
        };
        work.live_ranges.of = view.live.len();
        work.latest = Some((self.sealed.len() + self.live.len(), self.scanned.len()));
        let mut pieces: Vec<Piece> = std::mem::take(&mut work.parts).into_iter().flatten().collect();
        pieces.extend(rows.map(Piece::Rows));
        let mut of_live: Vec<Vec<u32>> = vec![Vec::new(); view.live.len()];
        for (_, row) in &self.live {
            if let Place::Live { number, row } = row.place {
                of_live.get_mut(number).into_iter().for_each(|rows| rows.push(row));
            }
        }
        work.live_ranges.kept = work.live_ranges.kept.max(of_live.iter().filter(|rows| !rows.is_empty()).count());
        pieces.extend(live_rows(of_live));
        work.deal(pieces, parts);
        Ok(work)
    }

    /// Has those series scanned of which several rows have the latest time.
    fn scan_tied(&mut self, table: &mut LastTable) -> StoreResult<()> {
        let series: Vec<u32> = self.sealed.iter().map(|(series, _)| *series).collect();
        let mut ties = table.sealed_ties(self.view, &series)?.into_iter();
        let scanned = &mut self.scanned;
        self.sealed.retain(|(series, row)| {
            let tied = ties.next().unwrap_or(true) || row.tied;
            if tied {
                scanned.push(*series);
            }
            !tied
        });
        self.live.retain(|(series, row)| {
            if row.tied {
                scanned.push(*series);
            }
            !row.tied
        });
        Ok(())
    }

    /// Has those series scanned whose latest row is live and lacks a value.
    fn scan_null_live(&mut self, need: &Need) -> StoreResult<()> {
        if need.values.is_empty() {
            return Ok(());
        }
        let view = self.view;
        let columns =
            |range: &crate::snapshot::LiveRange| range.batch(&view.series, &view.schema, &need.values, 0..range.rows());
        let batches = view.live.iter().map(columns).collect::<StoreResult<Vec<_>>>()?;
        let lacks = |row: &last::Found| match row.place {
            Place::Live { number, row } => batches
                .get(number)
                .is_none_or(|batch| batch.columns().iter().any(|column| column.is_null(row as usize))),
            Place::Segment { .. } => false,
        };
        let scanned = &mut self.scanned;
        self.live.retain(|(series, row)| {
            let lacks = lacks(row);
            if lacks {
                scanned.push(*series);
            }
            !lacks
        });
        Ok(())
    }

    /// The latest rows that are in segments, as columns `projection`; series whose row lacks a value go to be scanned.
    fn sealed_rows(
        &mut self,
        table: &mut LastTable,
        projection: &[usize],
        need: &Need,
    ) -> StoreResult<Option<RecordBatch>> {
        let view = self.view;
        let tags = view.schema.tags().len();
        let series: Vec<u32> = self.sealed.iter().map(|(series, _)| *series).collect();
        let mut columns: Vec<usize> = projection.iter().chain(&need.values).copied().filter(|at| *at > tags).collect();
        columns.sort_unstable();
        columns.dedup();
        let values = table.sealed_values(view, &columns, &series)?;
        let column = |at: &usize| columns.iter().position(|column| column == at).and_then(|at| values.get(at));
        let needed: Vec<&ArrayRef> = need.values.iter().filter_map(column).collect();
        let is_whole = |row: &usize| needed.iter().all(|column| column.is_valid(*row));
        let (whole, lacking): (Vec<usize>, Vec<usize>) = (0..series.len()).partition(is_whole);
        self.scanned.extend(lacking.iter().filter_map(|row| series.get(*row)));
        let kept: Vec<(u32, last::Found)> = whole.iter().filter_map(|row| self.sealed.get(*row).copied()).collect();
        self.sealed = kept;
        if self.sealed.is_empty() {
            return Ok(None);
        }
        let ids: Vec<u32> = self.sealed.iter().map(|(series, _)| *series).collect();
        let index: UInt32Array = whole.iter().map(|row| u32::try_from(*row).unwrap_or(u32::MAX)).collect();
        let failed = |error: arrow::error::ArrowError| Error::batch(view.schema.name(), error);
        let of = |at: &usize| -> StoreResult<ArrayRef> {
            match *at {
                0 => {
                    let times = TimestampNanosecondArray::from_iter_values(self.sealed.iter().map(|(_, row)| row.time));
                    Ok(Arc::new(times.with_timezone("UTC")))
                }
                tag if tag <= tags => Ok(Arc::new(view.series.tag_column(tag - 1, &ids)?)),
                field => {
                    let values = column(&field).ok_or_else(|| Error::batch(view.schema.name(), "no such column"))?;
                    take(values, &index, None).map_err(failed)
                }
            }
        };
        let arrays = projection.iter().map(of).collect::<StoreResult<Vec<_>>>()?;
        let schema = Arc::new(view.schema.arrow().project(projection).map_err(failed)?);
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        RecordBatch::try_new_with_options(schema, arrays, &options).map(Some).map_err(failed)
    }
}

/// As [`plan`], by looking at the times of all live rows.
fn looked_up(view: &TableView, pruned: &Pruned, parts: usize) -> StoreResult<Work> {
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
        Place::Segment { number, row } => last::sealed::clock(view, number, row).map(Some),
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
    let before = pieces.len();
    pieces.extend(live_rows(of_live));
    work.live_ranges.kept = pieces.len() - before;
    work.deal(pieces, parts);
    work
}

/// Single rows of live ranges, by the range's number.
fn live_rows(of_live: Vec<Vec<u32>>) -> impl Iterator<Item = Piece> {
    of_live.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).map(|(live, mut rows)| {
        rows.sort_unstable();
        Piece::LiveRows { live, rows }
    })
}
