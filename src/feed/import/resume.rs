//! After a crash: which rows of the piece that was under way are in the store already.
//!
//! Rows of a piece were appended by one writer a table, in the order of the content, and what is left of a writer's rows is a
//! prefix of them: after a crash because what was published stays, and after a power loss because syncs and seals take
//! prefixes. So for each table a number of rows from the first is looked for: the largest such that all of them are in the
//! table, as many times as they come in the piece. **It is never too small**, so no row is doubled. It is too large only by
//! rows that follow directly on those that were appended and that the table has from elsewhere, equal in series, time and
//! every field.
//!
//! Of a table where the last write wins nothing has to be known: the same rows are written again, and win.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;

use super::cell::Cell;
use super::host::Host;
use super::records::Step;
use super::session::{Known, Session};
use crate::error::{Error, Result};
use crate::ingest::batch::Columns;
use crate::model::{TableSchema, Value, names, quarantine};
use crate::snapshot::scan::Scan;

/// Comparing, for as long as rows that nobody noted may come.
pub(crate) struct Compare {
    left_bytes: u64,
    /// Whether the one table there is was seen to end: it has no row from there on. Quarantine has a writer of its own, and may
    /// have more.
    settled: bool,
    /// Lines of the source that are in quarantine.
    lines: HashSet<u64>,
    hashers: [RandomState; 2],
}

type Print = u128;

/// Rows of a piece that would go to one table, in order.
#[derive(Default)]
struct Wanted {
    rows: Vec<Print>,
    min_ns: i64,
    max_ns: i64,
}

impl Compare {
    /// Comparing with what the imports `ids` left.
    pub(crate) fn new(host: &dyn Host, ids: &[String], window_bytes: u64) -> Result<Self> {
        let mut lines = HashSet::new();
        let core = host.core();
        if let Some(table) = core.snapshot().table(quarantine::TABLE).cloned() {
            table.aside.check(&table.schema, None)?;
            for batch in Scan::new(table, core.gate.origin.clone()) {
                lines_of(&batch?, ids, &mut lines);
            }
        }
        Ok(Self { left_bytes: window_bytes, settled: false, lines, hashers: [RandomState::new(), RandomState::new()] })
    }

    /// What is left of it behind the next `bytes`.
    pub(crate) fn past(mut self, bytes: usize) -> Option<Self> {
        self.left_bytes = self.left_bytes.saturating_sub(bytes as u64);
        (self.left_bytes > 0).then_some(self)
    }

    /// What of the next piece is there.
    pub(crate) fn look(&mut self, session: &mut Session, bytes: &[u8], last: bool) -> Result<Known> {
        if self.settled {
            return Ok(Known { lines: self.lines.clone(), rows: Vec::new() });
        }
        let wanted = self.wanted(session, bytes, last)?;
        let mut rows = Vec::new();
        for (target, wanted) in session.targets.list.iter().zip(&wanted) {
            rows.push(self.stored(&*session.host, target.schema(), wanted)?);
        }
        self.settled = matches!((&*rows, &*wanted), ([stored], [wanted]) if *stored < wanted.rows.len() as u64);
        Ok(Known { lines: self.lines.clone(), rows })
    }

    /// The rows of a piece by target, without those that go to quarantine.
    fn wanted(&self, session: &mut Session, bytes: &[u8], last: bool) -> Result<Vec<Wanted>> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut newest: Vec<i64> = Vec::new();
        let mut cells: Vec<Cell<'_>> = Vec::new();
        session.records.begin();
        let (mut at, mut line) = session.beginning(bytes);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let step = session.records.next(rest, last, &mut cells, &mut session.targets)?;
            let (len, lines) = match step {
                Step::Row { bytes, lines, target: number } => {
                    let list = &mut session.targets.list;
                    for target in list.iter_mut().skip(wanted.len()) {
                        newest.push(target.sink().blocks.newest_ns());
                        wanted.push(Wanted { min_ns: i64::MAX, max_ns: i64::MIN, ..Wanted::default() });
                    }
                    let places = (list.get_mut(number), wanted.get_mut(number), newest.get_mut(number));
                    if let (Some(target), Some(wanted), Some(newest)) = places
                        && !self.lines.contains(&line)
                    {
                        let _ = target.with_row(&cells, |sink, time_ns, tags, values| {
                            if sink.blocks.judge(time_ns, *newest).is_none() {
                                *newest = (*newest).max(time_ns);
                                wanted.rows.push(self.print(time_ns, tags.iter().copied(), values));
                                wanted.min_ns = wanted.min_ns.min(time_ns);
                                wanted.max_ns = wanted.max_ns.max(time_ns);
                            }
                        });
                    }
                    (bytes, lines)
                }
                Step::Broken { bytes, lines, .. } | Step::Blank { bytes, lines } => (bytes, lines),
                Step::Endless { bytes } => (bytes, 1),
                Step::More => break,
            };
            at += len;
            line += lines;
        }
        wanted.resize_with(session.targets.list.len(), Wanted::default);
        Ok(wanted)
    }

    /// How many of the rows, from the first, the table has.
    fn stored(&self, host: &dyn Host, schema: &TableSchema, wanted: &Wanted) -> Result<u64> {
        if wanted.rows.is_empty() || schema.has_clock() {
            return Ok(0);
        }
        let core = host.core();
        let unknown = || Error::UnknownTable { table: schema.name.clone() };
        let table = core.snapshot().table(&schema.name).cloned().ok_or_else(unknown)?;
        table.aside.check(&table.schema, None)?;
        let schema = table.schema.clone();
        let mut found: HashMap<Print, u32> = wanted.rows.iter().map(|print| (*print, 0)).collect();
        let window = (wanted.min_ns, wanted.max_ns);
        for batch in Scan::new(table, core.gate.origin.clone()).within(window) {
            let batch = without_ingest_time(batch?);
            let columns = Columns::find(&schema, &batch, true)?;
            for (row, time_ns) in columns.times().iter().enumerate() {
                if (window.0..=window.1).contains(time_ns) {
                    let tags = columns.tags().iter().map(|tag| tag.value(row));
                    if let Some(count) = found.get_mut(&self.print(*time_ns, tags, &columns.values(row))) {
                        *count += 1;
                    }
                }
            }
        }
        let mut stored = 0;
        for print in &wanted.rows {
            match found.get_mut(print).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => break,
            }
            stored += 1;
        }
        Ok(stored)
    }

    /// A row in 128 bits, under keys that nobody knows.
    fn print<'a>(&self, time_ns: i64, tags: impl Iterator<Item = &'a str>, values: &[Value<'_>]) -> Print {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&time_ns.to_le_bytes());
        for tag in tags {
            bytes.extend_from_slice(&tag.len().to_le_bytes());
            bytes.extend_from_slice(tag.as_bytes());
        }
        // A field that was added since is null in rows from before.
        let len = values.iter().rposition(|value| *value != Value::Null).map_or(0, |last| last + 1);
        for value in values.iter().take(len) {
            let (kind, word) = match value {
                Value::Null => (0, 0),
                Value::F64(value) => (1, value.to_bits().into()),
                Value::I64(value) => (2, i128::from(*value).cast_unsigned()),
                Value::U64(value) => (3, u128::from(*value)),
                Value::Bool(value) => (4, u128::from(*value)),
                Value::Decimal(value) => (5, value.cast_unsigned()),
                Value::Utf8(text) => (6, text.len() as u128),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&word.to_le_bytes());
            if let Value::Utf8(text) = value {
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(&bytes)));
        high << 64 | low
    }
}

fn without_ingest_time(mut batch: RecordBatch) -> RecordBatch {
    if let Ok(column) = batch.schema().index_of(names::INGEST_TIME) {
        batch.remove_column(column);
    }
    batch
}

fn lines_of(batch: &RecordBatch, ids: &[String], lines: &mut HashSet<u64>) {
    let imports = batch.column_by_name(quarantine::IMPORT).and_then(|column| column.as_string_view_opt());
    let numbers = batch.column_by_name(quarantine::LINE).and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let (Some(imports), Some(numbers)) = (imports, numbers) else { return };
    for row in 0..batch.num_rows() {
        if imports.is_valid(row) && numbers.is_valid(row) && ids.iter().any(|id| id == imports.value(row)) {
            lines.insert(numbers.value(row));
        }
    }
}
