//! Reading a summary: its directory with the series index, the rest when it is asked for, by field and chunk of series.
//!
//! **Invariant:** every section is summed before it is looked at. One that does not hold is `Corrupted`, never a guess.

use std::path::Path;
use std::sync::Arc;

use super::GRIDS_NS;
use super::cells::Kind;
use super::packed::Unpacker;
use crate::error::{Error, Result};
use crate::fs::File;
use crate::storage::codec::Decoder;

/// What there is, and where.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// The length of cells.
    pub(crate) grid_ns: i64,
    pub(crate) fields: Vec<FieldOf>,
    pub(crate) chunks: Vec<Chunk>,
    /// Bytes of all sections.
    pub(super) body_bytes: u64,
}

/// A field of the table, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldOf {
    pub(crate) kind: Kind,
    /// Whether SQL's least and greatest may depend on the order of rows.
    pub(crate) is_ambiguous: bool,
}

/// Cells that are read together: all of some series.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// Entries of the series index before.
    pub(crate) first_entry: usize,
    pub(crate) entries: usize,
    pub(crate) cells: usize,
    /// That of the spans, then one for each field.
    sections: Vec<Section>,
}

#[derive(Clone, Copy, Debug)]
struct Section {
    /// From the body's start.
    start: u64,
    bytes: u32,
    sum: u32,
}

impl Directory {
    /// `None` for bytes that no version up to this one writes for a segment of so many series.
    pub(crate) fn decode(bytes: &[u8], entries: usize) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        let grid_ns = from.i64().filter(|grid| GRIDS_NS.contains(grid))?;
        let field = |from: &mut Decoder<'_>| {
            Some(FieldOf { kind: Kind::from_code(from.u8()?)?, is_ambiguous: from.u8()? != 0 })
        };
        let fields = (0..from.u32()?).map(|_| field(&mut from)).collect::<Option<Vec<_>>>()?;
        let (mut chunks, mut first_entry, mut start) = (Vec::new(), 0, 0u64);
        for _ in 0..from.u32()? {
            let (entries, cells) = (from.u32()? as usize, from.u32()? as usize);
            let mut sections = Vec::with_capacity(fields.len() + 1);
            for _ in 0..=fields.len() {
                let section = Section { start, bytes: from.u32()?, sum: from.u32()? };
                start = start.checked_add(section.bytes.into())?;
                sections.push(section);
            }
            chunks.push(Chunk { first_entry, entries, cells, sections });
            first_entry += entries;
        }
        (from.is_empty() && first_entry == entries).then_some(Self { grid_ns, fields, chunks, body_bytes: start })
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let sections: usize = self.chunks.iter().map(|chunk| chunk.sections.len() * size_of::<Section>()).sum();
        sections + self.chunks.len() * size_of::<Chunk>() + self.fields.len() * size_of::<FieldOf>()
    }

    /// Bytes of all sections.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether `body` is what it says.
    pub(crate) fn holds(&self, body: &[u8]) -> bool {
        let holds = |section: &Section| {
            let from = usize::try_from(section.start).ok().and_then(|start| body.get(start..));
            from.and_then(|from| from.get(..section.bytes as usize))
                .is_some_and(|it| crc32fast::hash(it) == section.sum)
        };
        body.len() as u64 == self.body_bytes && self.chunks.iter().flat_map(|chunk| &chunk.sections).all(holds)
    }
}

/// The spans of a chunk's cells, in columns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cells {
    /// Cells of each entry.
    pub(crate) of_entry: Vec<usize>,
    /// At which multiple of the grid each begins.
    pub(crate) numbers: Vec<i64>,
    pub(crate) rows: Vec<u32>,
    /// The times of the first and the last row.
    pub(crate) first_at: Vec<i64>,
    pub(crate) last_at: Vec<i64>,
}

/// Which numbers of a field are asked for; rows without a value always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) sum: bool,
    pub(crate) min: bool,
    pub(crate) max: bool,
    pub(crate) first: bool,
    pub(crate) last: bool,
}

impl Stats {
    pub(crate) const ALL: Self = Self { sum: true, min: true, max: true, first: true, last: true };

    fn any(self) -> bool {
        self.sum || self.min || self.max || self.first || self.last
    }

    /// What either has.
    #[cfg(feature = "sql")]
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            sum: self.sum || other.sum,
            min: self.min || other.min,
            max: self.max || other.max,
            first: self.first || other.first,
            last: self.last || other.last,
        }
    }
}

/// What a chunk's cells say of a field, in columns; those that were not asked for are empty. Where no row has a value
/// only the count means something.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldCells {
    /// Rows with a value.
    pub(crate) counts: Vec<u32>,
    pub(crate) sums: Vec<u64>,
    pub(crate) mins: Vec<u64>,
    pub(crate) maxs: Vec<u64>,
    pub(crate) firsts: Vec<u64>,
    pub(crate) lasts: Vec<u64>,
    pub(crate) first_at: Vec<i64>,
    pub(crate) last_at: Vec<i64>,
}

/// Reads the sections of one summary.
pub(crate) struct SummaryReader {
    file: Arc<dyn File>,
    directory: Arc<Directory>,
    body_start: u64,
}

impl SummaryReader {
    /// Of the file that `directory` is in, whose sections begin at `body_start`.
    pub(crate) fn new(file: Arc<dyn File>, directory: Arc<Directory>, body_start: u64) -> Self {
        Self { file, directory, body_start }
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    fn section(&self, chunk: &Chunk, number: usize) -> Result<Vec<u8>> {
        let none = || Error::corrupted(self.path(), 0, "the summary has no such field");
        let section = chunk.sections.get(number).ok_or_else(none)?;
        let at = self.body_start + section.start;
        // No larger than the file: its length is the sum of these.
        let mut bytes = vec![0; section.bytes as usize];
        self.file.read_at(&mut bytes, at)?;
        if crc32fast::hash(&bytes) != section.sum {
            return Err(Error::corrupted(self.path(), at, "these bytes of the summary fail their checksum"));
        }
        Ok(bytes)
    }

    fn unreadable(&self, chunk: &Chunk, number: usize) -> Error {
        let start = chunk.sections.get(number).map_or(0, |section| section.start);
        Error::corrupted(self.path(), self.body_start + start, "the summary cannot be decoded")
    }

    /// Which spans the cells of `chunk` are of. Ascending within an entry, and of as many rows as it has.
    pub(crate) fn cells(&self, chunk: &Chunk) -> Result<Cells> {
        let bytes = self.section(chunk, 0)?;
        decode_cells(&bytes, chunk, self.directory.grid_ns).ok_or_else(|| self.unreadable(chunk, 0))
    }

    /// What those cells, `cells`, say of the field at `field` of the table.
    pub(crate) fn field(&self, chunk: &Chunk, cells: &Cells, field: usize, wanted: Stats) -> Result<FieldCells> {
        let bytes = self.section(chunk, field + 1)?;
        let decoded = self.directory.fields.get(field).and_then(|of| decode_field(&bytes, of.kind, cells, wanted));
        decoded.ok_or_else(|| self.unreadable(chunk, field + 1))
    }
}

fn decode_cells(bytes: &[u8], chunk: &Chunk, grid: i64) -> Option<Cells> {
    let mut from = Unpacker::new(bytes);
    let of_entry = from.ints(chunk.entries)?.into_iter().map(|cells| usize::try_from(cells).ok());
    let of_entry = of_entry.collect::<Option<Vec<_>>>()?;
    let sum = of_entry.iter().try_fold(0usize, |sum, cells| sum.checked_add(*cells));
    if sum != Some(chunk.cells) {
        return None;
    }
    let mut numbers = from.ints(chunk.cells)?;
    let mut rest = numbers.iter_mut();
    let mut begin = 0i64;
    for cells in &of_entry {
        let mut expected = begin;
        for (place, number) in rest.by_ref().take(*cells).enumerate() {
            if place > 0 && *number < 0 {
                return None;
            }
            *number = expected.checked_add(*number)?;
            // The first that is used as a time fails where it is no time.
            number.checked_mul(grid)?;
            if place == 0 {
                begin = *number;
            }
            expected = number.checked_add(1)?;
        }
    }
    let rows = from.ints(chunk.cells)?.into_iter().map(|rows| u32::try_from(rows).ok()).collect::<Option<_>>()?;
    let mut times = || {
        let since = from.ints(chunk.cells)?;
        let at = numbers.iter().zip(since).map(|(number, since)| number.wrapping_mul(grid).checked_add(since));
        at.collect::<Option<Vec<_>>>()
    };
    let (first_at, last_at) = (times()?, times()?);
    from.is_empty().then_some(Cells { of_entry, numbers, rows, first_at, last_at })
}

fn decode_field(bytes: &[u8], kind: Kind, cells: &Cells, wanted: Stats) -> Option<FieldCells> {
    let count = cells.rows.len();
    let mut from = Unpacker::new(bytes);
    let nulls = from.ints(count)?;
    let counts = nulls.iter().zip(&cells.rows).map(|(nulls, rows)| rows.checked_sub(u32::try_from(*nulls).ok()?));
    let mut found = FieldCells { counts: counts.collect::<Option<_>>()?, ..FieldCells::default() };
    if kind == Kind::Counted || !wanted.any() {
        return Some(found);
    }
    let mut words = |wanted: bool| match kind {
        Kind::Float if wanted => from.floats(count),
        _ if wanted => Some(from.ints(count)?.into_iter().map(i64::cast_unsigned).collect()),
        _ => from.skip(count, kind == Kind::Float).map(|()| Vec::new()),
    };
    if kind.adds() {
        found.sums = words(wanted.sum)?;
    }
    found.mins = words(wanted.min)?;
    found.maxs = words(wanted.max)?;
    if !(wanted.first || wanted.last) {
        return Some(found);
    }
    found.firsts = words(wanted.first)?;
    found.lasts = words(wanted.last)?;
    let mut times = |wanted: bool, of_cells: &[i64]| {
        let since = from.ints(count)?;
        Some(if wanted {
            of_cells.iter().zip(since).map(|(at, since)| at.wrapping_add(since)).collect()
        } else {
            Vec::new()
        })
    };
    found.first_at = times(wanted.first, &cells.first_at)?;
    found.last_at = times(wanted.last, &cells.last_at)?;
    from.is_empty().then_some(found)
}
