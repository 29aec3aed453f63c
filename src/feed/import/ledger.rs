//! What was imported, so that nothing is twice: a table of the store's own, and what it says in memory.
//!
//! A place in a source is known by a hash of all content before it, not by the name of a file. The hash of a place is that of
//! the place before, its *anchor*, and the bytes in between, so a file that has grown shares its beginning with what it was,
//! and a copy of it, compressed or not, is the same content.
//!
//! | event    | says                                                                                                   |
//! | -------- | ------------------------------------------------------------------------------------------------------ |
//! | `open`   | rows behind `anchor` may be in the store from now on; the content there begins with `bytes` bytes of the hash `place` |
//! | `done`   | all rows of the `bytes` bytes between `anchor` and `place` are in the store, or in quarantine           |
//! | `closed` | the import that `open` began has ended; its sums                                                       |
//!
//! **Invariant:** `open` is durable before the first row behind it is appended; rows are durable before the `done` that
//! covers them is appended; and that is durable before rows behind it are. So whatever a crash or a power loss leaves, the
//! rows of what is done are in the store, and of what is not done only those within `window_bytes` behind the last place that
//! is done may be. Those alone are compared row by row, by [`resume`](super::resume).
//!
//! **Invariant:** imports into one table take turns, so that no two take the same place.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use sha2::{Digest, Sha256};

use super::host::Host;
use crate::error::{Error, Result};
use crate::ingest::writer::BlockWriter;
use crate::maintain::core::Core;
use crate::model::imports::{self, ANY_TABLE};
use crate::model::{TableId, Value};
use crate::snapshot::scan::Scan;
use crate::storage::series_table::SeriesTable;

/// A place in content, or a piece of it: half of a SHA-256, since nobody should be able to make another's rows pass for known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place(pub(crate) [u8; 16]);

impl Place {
    /// The hash of `bytes` behind this place.
    pub(crate) fn after(self, bytes: &[u8]) -> Self {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        Self::of(hasher)
    }

    /// A hasher that has this place behind it.
    pub(crate) fn hasher(self) -> Sha256 {
        Sha256::new().chain_update(self.0)
    }

    /// What a hasher has come to.
    pub(crate) fn of(hasher: Sha256) -> Self {
        let digest: [u8; 32] = hasher.finalize().into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }

    /// As text.
    pub(crate) fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let digits = text.as_bytes().chunks_exact(2);
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(digits) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Sums over a piece of content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    /// Rows that were taken.
    pub(crate) rows: u64,
    pub(crate) quarantined: u64,
    /// Rows that were there before.
    pub(crate) duplicates: u64,
}

/// A piece of content that is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) place: Place,
    pub(crate) sums: Sums,
    /// The newest time that the writer had appended by then, from which lateness is told.
    pub(crate) newest_ns: i64,
}

/// An import that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) anchor: Place,
    pub(crate) head_bytes: u64,
    pub(crate) head: Place,
    pub(crate) window_bytes: u64,
}

impl Opened {
    /// What quarantined rows name it by.
    pub(crate) fn id(&self) -> String {
        self.anchor.after(&self.head.0).hex()
    }

    fn same(&self, other: &Self) -> bool {
        (self.anchor, self.head) == (other.anchor, other.head)
    }
}

/// The ledger of an open store.
#[derive(Default)]
pub(crate) struct Ledger {
    state: Mutex<Option<State>>,
    /// One lock a table that is imported into.
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

struct State {
    done: HashMap<Place, Vec<Done>>,
    open: HashMap<Place, Vec<Opened>>,
    writer: BlockWriter,
    series: Arc<SeriesTable>,
}

impl Ledger {
    /// The turn of imports into `table`.
    pub(crate) fn turn(&self, table: &str) -> Arc<Mutex<()>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(table.into()).or_default().clone()
    }

    fn with<T>(&self, host: &dyn Host, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            Some(state) => work(state),
            none => work(none.insert(State::load(host)?)),
        }
    }

    /// What is done from `anchor` on, the longest first.
    pub(crate) fn done(&self, host: &dyn Host, anchor: Place) -> Result<Vec<Done>> {
        self.with(host, |state| {
            let mut done = state.done.get(&anchor).cloned().unwrap_or_default();
            done.sort_by_key(|done| std::cmp::Reverse(done.sums.bytes));
            Ok(done)
        })
    }

    /// Imports that began at `anchor` and have not ended.
    pub(crate) fn open(&self, host: &dyn Host, anchor: Place) -> Result<Vec<Opened>> {
        self.with(host, |state| Ok(state.open.get(&anchor).cloned().unwrap_or_default()))
    }

    /// Whether anything is known to follow on `anchor`.
    pub(crate) fn knows(&self, host: &dyn Host, anchor: Place) -> Result<bool> {
        self.with(host, |state| Ok(state.done.contains_key(&anchor) || state.open.contains_key(&anchor)))
    }

    /// Notes that an import begins, durably.
    pub(crate) fn begin(&self, host: &dyn Host, about: About<'_>, opened: Opened) -> Result<()> {
        self.with(host, |state| {
            let sums = Sums { bytes: opened.head_bytes, ..Sums::default() };
            let entry = Entry { event: imports::OPEN, anchor: opened.anchor, place: opened.head, sums, ..Entry::NONE };
            state.append(host.core(), about, &Entry { window_bytes: opened.window_bytes, ..entry })?;
            state.open.entry(opened.anchor).or_default().push(opened);
            Ok(())
        })
    }

    /// Notes that a piece is done, durably; its rows must be. `extends` is the piece from the same anchor that is its beginning.
    pub(crate) fn finish(
        &self,
        host: &dyn Host,
        about: About<'_>,
        anchor: Place,
        done: Done,
        extends: Option<Place>,
    ) -> Result<()> {
        self.with(host, |state| {
            let Done { place, sums, newest_ns } = done;
            let entry = Entry { event: imports::DONE, anchor, place, sums, newest_ns, extends, ..Entry::NONE };
            state.append(host.core(), about, &entry)?;
            let pieces = state.done.entry(anchor).or_default();
            pieces.retain(|piece| Some(piece.place) != extends && piece.place != place);
            pieces.push(done);
            Ok(())
        })
    }

    /// Notes that an import has ended, with its sums.
    pub(crate) fn close(&self, host: &dyn Host, about: About<'_>, opened: &[Opened], sums: Sums) -> Result<()> {
        self.with(host, |state| {
            let mut sums = Some(sums);
            for opened in opened {
                let entry = Entry { event: imports::CLOSED, anchor: opened.anchor, place: opened.head, ..Entry::NONE };
                state.append(host.core(), about, &Entry { sums: sums.take().unwrap_or_default(), ..entry })?;
                if let Some(open) = state.open.get_mut(&opened.anchor) {
                    open.retain(|other| !other.same(opened));
                    if open.is_empty() {
                        state.open.remove(&opened.anchor);
                    }
                }
            }
            if let Some(sums) = sums {
                // Nothing was new: there is no beginning to name.
                state.append(host.core(), about, &Entry { event: imports::CLOSED, sums, ..Entry::NONE })?;
            }
            Ok(())
        })
    }
}

/// What an entry is about.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    /// The table; `None` where rows name their own.
    pub(crate) table: Option<&'a str>,
    /// The source's name, for people.
    pub(crate) source: &'a str,
}

struct Entry {
    event: &'static str,
    anchor: Place,
    place: Place,
    sums: Sums,
    newest_ns: i64,
    extends: Option<Place>,
    window_bytes: u64,
}

impl Entry {
    const NONE: Self = Self {
        event: "",
        anchor: Place([0; 16]),
        place: Place([0; 16]),
        sums: Sums { bytes: 0, lines: 0, rows: 0, quarantined: 0, duplicates: 0 },
        newest_ns: i64::MIN,
        extends: None,
        window_bytes: 0,
    };
}

impl State {
    fn load(host: &dyn Host) -> Result<Self> {
        let core = host.core();
        host.declare(&imports::schema())?;
        let gone = || Error::UnknownTable { table: imports::TABLE.into() };
        let view = core.view.load();
        let table = view.table(imports::TABLE).ok_or_else(gone)?;
        let writer = BlockWriter::new(core.clone(), table.schema.clone(), core.clock.clone(), &core.options);
        let mut state = Self { done: HashMap::new(), open: HashMap::new(), writer, series: table.series.clone() };
        let table = core.snapshot().table(imports::TABLE).cloned().ok_or_else(gone)?;
        table.aside.check(&table.schema, None)?;
        let mut found = Found::default();
        for batch in Scan::new(table, core.gate.origin.clone()) {
            found.read(&batch?);
        }
        for (anchor, done) in found.done {
            if !found.extended.contains(&(anchor, done.place)) {
                state.done.entry(anchor).or_default().push(done);
            }
        }
        for opened in found.open {
            // As often as it was begun it was ended, if it was.
            let key = (opened.anchor, opened.head);
            match found.closed.get_mut(&key).filter(|times| **times > 0) {
                Some(times) => *times -= 1,
                None => state.open.entry(opened.anchor).or_default().push(opened),
            }
        }
        Ok(state)
    }

    /// Appends an entry and makes it durable.
    fn append(&mut self, core: &Arc<Core>, about: About<'_>, entry: &Entry) -> Result<()> {
        let schema = self.writer.schema().clone();
        let tags = [about.table.unwrap_or(ANY_TABLE)];
        let series = self.series.resolve(&schema, &core.series_log, &core.options, &tags)?;
        let (anchor, place) = (entry.anchor.hex(), entry.place.hex());
        let extends = entry.extends.map(Place::hex);
        let source: String = about.source.chars().take(imports::SOURCE_CHARS_MAX).collect();
        let values = [
            Value::Utf8(entry.event),
            Value::Utf8(&anchor),
            Value::Utf8(&place),
            Value::U64(entry.sums.bytes),
            Value::U64(entry.sums.lines),
            Value::U64(entry.sums.rows),
            Value::U64(entry.sums.quarantined),
            Value::U64(entry.sums.duplicates),
            Value::I64(entry.newest_ns),
            Value::U64(entry.window_bytes),
            extends.as_deref().map_or(Value::Null, Value::Utf8),
            Value::Utf8(&source),
        ];
        if self.writer.append(series, core.clock.now().as_nanos(), &values)?.is_some() {
            return Err(Error::batch(imports::TABLE, "a row that arrives now is refused; this is a bug"));
        }
        core.sync(Some(schema.id))
    }
}

/// What the table says.
#[derive(Default)]
struct Found {
    done: Vec<(Place, Done)>,
    extended: HashSet<(Place, Place)>,
    open: Vec<Opened>,
    closed: HashMap<(Place, Place), usize>,
}

impl Found {
    fn read(&mut self, batch: &RecordBatch) {
        let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_view_opt());
        let count = |name: &str| batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let newest = batch.column_by_name(imports::NEWEST_NS).and_then(|column| column.as_primitive_opt::<Int64Type>());
        for row in 0..batch.num_rows() {
            let text = |name| text(name).filter(|column| column.is_valid(row)).map(|column| column.value(row));
            let place = |name| text(name).and_then(Place::from_hex);
            let count = |name| count(name).filter(|column| column.is_valid(row)).map_or(0, |column| column.value(row));
            let (Some(anchor), Some(hash)) = (place(imports::ANCHOR), place(imports::PLACE)) else { continue };
            match text(imports::EVENT) {
                Some(imports::OPEN) => self.open.push(Opened {
                    anchor,
                    head_bytes: count(imports::BYTES),
                    head: hash,
                    window_bytes: count(imports::WINDOW_BYTES),
                }),
                Some(imports::CLOSED) => *self.closed.entry((anchor, hash)).or_default() += 1,
                Some(imports::DONE) => {
                    let sums = Sums {
                        bytes: count(imports::BYTES),
                        lines: count(imports::LINES),
                        rows: count(imports::ROWS),
                        quarantined: count(imports::QUARANTINED),
                        duplicates: count(imports::DUPLICATES),
                    };
                    let newest_ns = newest.map_or(i64::MIN, |newest| newest.value(row));
                    self.done.push((anchor, Done { place: hash, sums, newest_ns }));
                    self.extended.extend(place(imports::EXTENDS).map(|extends| (anchor, extends)));
                }
                _ => {}
            }
        }
    }
}

/// Makes the rows of `tables` durable.
pub(crate) fn sync(core: &Core, tables: impl Iterator<Item = TableId>) -> Result<()> {
    tables.into_iter().try_for_each(|table| core.sync(Some(table)))
}
