//! Making a summary while a segment's rows go by, as finely as its share of the bytes allows.

use std::ops::Range;

use arrow::array::ArrayRef;

use super::cells::{Cell, Column, Kind};
use super::packed::{encode_floats, encode_ints};
use super::{CELLS_FREE, CHUNK_CELLS, GRIDS_NS, ROWS_EACH_MIN, SHARE};
use crate::storage::codec::Encoder;

/// Bytes of cells that are held: beyond it the cells grow.
const HELD_BYTES_MAX: usize = 128 << 20;

/// The coarsest.
const GRID_NS_MAX: i64 = 86_400_000_000_000;

/// What of a cell is not of a field.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Which multiple of the grid it begins at.
    number: i64,
    rows: u32,
    first_at: i64,
    last_at: i64,
}

/// Gathers cells; by default those of no fields. What it does at a row depends on the rows before alone.
#[derive(Debug)]
pub(crate) struct Builder {
    /// Place in [`GRIDS_NS`]; none once even the coarsest was too fine.
    grid: Option<usize>,
    kinds: Vec<Kind>,
    /// Cells of each series.
    entries: Vec<u32>,
    series: Option<u32>,
    spans: Vec<Span>,
    /// A column of cells for each field.
    fields: Vec<Vec<Cell>>,
    rows: usize,
}

/// A summary's bytes: what the index's checksum is over, and what it vouches for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) directory: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Builder {
    /// For fields of these types.
    pub(crate) fn new(kinds: Vec<Kind>) -> Self {
        let fields = vec![Vec::new(); kinds.len()];
        Self { grid: Some(0), kinds, entries: Vec::new(), series: None, spans: Vec::new(), fields, rows: 0 }
    }

    /// Takes rows that follow those before in a segment's order: the series and the time of each, and its fields.
    pub(crate) fn take(&mut self, series: &[u32], times: &[i64], fields: &[ArrayRef]) {
        let columns: Vec<Column<'_>> = fields.iter().map(Column::of).collect();
        let mut start = 0;
        while let (Some(grid), Some((id, at))) = (self.grid(), series.get(start).zip(times.get(start))) {
            if at.div_euclid(GRID_NS_MAX).checked_mul(GRID_NS_MAX).is_none() {
                // Within a day of the first time that there is: its cell begins at none.
                self.grid = None;
                return;
            }
            let number = at.div_euclid(grid);
            let end_ns = i128::from(number + 1) * i128::from(grid);
            let (of_series, of_times) = (series.iter().skip(start), times.iter().skip(start));
            let is_same = |(other, at): &(&u32, &i64)| *other == id && i128::from(**at) < end_ns;
            let count = of_series.zip(of_times).take_while(is_same).count();
            let rows = start..start + count;
            start = rows.end;
            self.take_run(*id, number, rows, times, &columns);
        }
    }

    fn grid(&self) -> Option<i64> {
        self.grid.and_then(|grid| GRIDS_NS.get(grid)).copied()
    }

    /// Rows of one series in one span of the grid.
    fn take_run(&mut self, series: u32, number: i64, rows: Range<usize>, times: &[i64], columns: &[Column<'_>]) {
        let Some(times) = times.get(rows.clone()) else { return };
        let (Some(first_at), Some(last_at)) = (times.first(), times.last()) else { return };
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let is_open = self.series == Some(series) && self.spans.last().is_some_and(|span| span.number == number);
        match self.spans.last_mut().filter(|_| is_open) {
            Some(span) => {
                span.rows += count;
                span.last_at = *last_at;
            }
            None => self.open(series, Span { number, rows: count, first_at: *first_at, last_at: *last_at }),
        }
        for (cells, column) in self.fields.iter_mut().zip(columns) {
            if let Some(cell) = cells.last_mut() {
                column.give(cell, rows.clone(), times);
            }
        }
        self.rows += rows.len();
    }

    fn open(&mut self, series: u32, span: Span) {
        let held = self.spans.len() * (size_of::<Span>() + self.fields.len() * size_of::<Cell>());
        let is_many = self.spans.len() > CELLS_FREE && self.spans.len() > self.rows / ROWS_EACH_MIN;
        // What is open now stays so: the run that opens this cell was cut at the finer grid, which divides the coarser.
        let number = if is_many || held > HELD_BYTES_MAX { self.coarsen(span.number) } else { Some(span.number) };
        let Some(number) = number else { return };
        if self.series != Some(series) {
            self.series = Some(series);
            self.entries.push(0);
        } else if let Some(last) = self.spans.last_mut().filter(|last| last.number == number) {
            last.rows += span.rows;
            last.last_at = span.last_at;
            return;
        }
        if let Some(cells) = self.entries.last_mut() {
            *cells += 1;
        }
        self.spans.push(Span { number, ..span });
        self.fields.iter_mut().for_each(|cells| cells.push(Cell::EMPTY));
    }

    /// Joins cells to those of the next grid; what `number` is there.
    fn coarsen(&mut self, number: i64) -> Option<i64> {
        let (from, next) = (self.grid(), self.grid.map(|grid| grid + 1).filter(|grid| *grid < GRIDS_NS.len()));
        self.grid = next;
        let (Some(from), Some(to)) = (from, self.grid()) else {
            self.spans = Vec::new();
            self.fields.iter_mut().for_each(|cells| *cells = Vec::new());
            return None;
        };
        let factor = to / from;
        // For each cell where it goes.
        let mut spans: Vec<Span> = Vec::with_capacity(self.spans.len() / 2);
        let mut places = Vec::with_capacity(self.spans.len());
        let mut at = 0;
        for cells in &mut self.entries {
            let begin = spans.len();
            for span in self.spans.iter().skip(at).take(*cells as usize) {
                let number = span.number.div_euclid(factor);
                match spans.last_mut().filter(|last| places.len() > at && last.number == number) {
                    Some(last) => {
                        last.rows += span.rows;
                        last.last_at = span.last_at;
                    }
                    None => spans.push(Span { number, ..*span }),
                }
                places.push(spans.len() - 1);
            }
            at += *cells as usize;
            *cells = u32::try_from(spans.len() - begin).unwrap_or(u32::MAX);
        }
        for (kind, cells) in self.kinds.iter().zip(&mut self.fields) {
            let mut joined: Vec<Cell> = Vec::with_capacity(spans.len());
            for (cell, place) in cells.iter().zip(&places) {
                match joined.get_mut(*place) {
                    Some(last) => last.join(*kind, cell),
                    None => joined.push(*cell),
                }
            }
            *cells = joined;
        }
        self.spans = spans;
        Some(number.div_euclid(factor))
    }

    /// The summary of a segment of `bytes` bytes; none if it has no room for one.
    pub(crate) fn finish(mut self, bytes: u64) -> Option<Encoded> {
        loop {
            let grid = self.grid()?;
            let encoded = self.encode(grid);
            if (encoded.directory.len() + encoded.body.len()) as u64 <= bytes / SHARE {
                return Some(encoded);
            }
            self.coarsen(0)?;
        }
    }

    fn encode(&self, grid: i64) -> Encoded {
        let mut directory = Encoder::default();
        let mut body = Vec::new();
        directory.i64(grid).u32(count(self.kinds.len()));
        for (kind, cells) in self.kinds.iter().zip(&self.fields) {
            directory.u8(kind.code()).u8(u8::from(cells.iter().any(|cell| cell.is_ambiguous(*kind))));
        }
        let chunks = self.chunks();
        directory.u32(count(chunks.len()));
        for (entries, cells) in chunks {
            directory.u32(count(entries.len())).u32(count(cells.len()));
            let mut section = |bytes: Vec<u8>| {
                directory.u32(count(bytes.len())).u32(crc32fast::hash(&bytes));
                body.extend_from_slice(&bytes);
            };
            section(self.encode_spans(entries, cells.clone(), grid));
            for (kind, of_field) in self.kinds.iter().zip(&self.fields) {
                let pairs = (of_field.get(cells.clone()), self.spans.get(cells.clone()));
                let (of_cells, spans) = (pairs.0.unwrap_or_default(), pairs.1.unwrap_or_default());
                section(encode_field(*kind, of_cells, spans));
            }
        }
        Encoded { directory: directory.into_bytes(), body }
    }

    /// Ranges of entries, each with that of its cells.
    fn chunks(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let mut chunks = Vec::new();
        let (mut entries, mut cells) = (0..0, 0..0);
        for count in &self.entries {
            entries.end += 1;
            cells.end += *count as usize;
            if cells.len() >= CHUNK_CELLS {
                chunks.push((entries.clone(), cells.clone()));
                (entries.start, cells.start) = (entries.end, cells.end);
            }
        }
        if !entries.is_empty() {
            chunks.push((entries, cells));
        }
        chunks
    }

    fn encode_spans(&self, entries: Range<usize>, cells: Range<usize>, grid: i64) -> Vec<u8> {
        let (Some(entries), Some(spans)) = (self.entries.get(entries), self.spans.get(cells)) else {
            return Vec::new();
        };
        let mut steps = Vec::with_capacity(spans.len());
        let (mut at, mut begin) = (0, 0);
        for cells in entries {
            // From the series before for the first, then from the one that was expected.
            let mut expected = begin;
            for span in spans.iter().skip(at).take(*cells as usize) {
                steps.push(span.number - expected);
                expected = span.number + 1;
            }
            begin = spans.get(at).map_or(begin, |span| span.number);
            at += *cells as usize;
        }
        let mut out = Vec::new();
        let begins_at = |span: &Span| span.number.saturating_mul(grid);
        encode_ints(&entries.iter().map(|cells| i64::from(*cells)).collect::<Vec<_>>(), &mut out);
        encode_ints(&steps, &mut out);
        encode_ints(&spans.iter().map(|span| i64::from(span.rows)).collect::<Vec<_>>(), &mut out);
        encode_ints(
            &spans.iter().map(|span| span.first_at.wrapping_sub(begins_at(span))).collect::<Vec<_>>(),
            &mut out,
        );
        encode_ints(&spans.iter().map(|span| span.last_at.wrapping_sub(begins_at(span))).collect::<Vec<_>>(), &mut out);
        out
    }
}

fn encode_field(kind: Kind, cells: &[Cell], spans: &[Span]) -> Vec<u8> {
    let mut out = Vec::new();
    let ints = |of: &dyn Fn(&Cell, &Span) -> i64, out: &mut Vec<u8>| {
        let values: Vec<i64> = cells.iter().zip(spans).map(|(cell, span)| of(cell, span)).collect();
        encode_ints(&values, out);
    };
    ints(&|cell, _| i64::from(cell.nulls), &mut out);
    if kind == Kind::Counted {
        return out;
    }
    let mut words = |of: &dyn Fn(&Cell) -> u64| {
        let words: Vec<u64> = cells.iter().map(of).collect();
        match kind {
            Kind::Float => encode_floats(&words, &mut out),
            _ => encode_ints(&words.into_iter().map(u64::cast_signed).collect::<Vec<_>>(), &mut out),
        }
    };
    if kind.adds() {
        words(&|cell| cell.sum);
    }
    words(&|cell| cell.min(kind));
    words(&|cell| cell.max(kind));
    words(&|cell| cell.first);
    words(&|cell| cell.last);
    let since = |cell: &Cell, at: i64, of_span: i64| if cell.count == 0 { 0 } else { at.wrapping_sub(of_span) };
    ints(&|cell, span| since(cell, cell.first_at, span.first_at), &mut out);
    ints(&|cell, span| since(cell, cell.last_at, span.last_at), &mut out);
    out
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
