//! The public writer: rows by name, by series handle, and in batches.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::fork::Origin;
use crate::ingest::batch::{Columns, Fate, accepted_runs};
use crate::ingest::live_block::Run;
use crate::ingest::writer::BlockWriter;
use crate::maintain::core::Core;
use crate::model::quarantine::Reason;
use crate::model::{Appended, Row, SeriesId, TableId, TableSchema, Time, Value};
use crate::options::Durability;
use crate::storage::series_table::{self, SeriesTable};

use super::handle::Handle;
use super::quarantine::Entry;

/// One thread's way into one table: `Send`, not `Sync`. A row is in every query begun after its append returned.
///
/// An append writes to the writer's own live block: no lock, no system call, no allocation, save when the block is full,
/// the series is new, or the store syncs every append.
// Alone on its cache lines: writers of two threads that lie side by side would otherwise take each other's.
#[repr(align(128))]
pub struct Writer {
    inner: Handle,
    /// Asked before anything is done, save by the usual row, which asks its block.
    origin: Origin,
    series: Arc<SeriesTable>,
    blocks: BlockWriter,
    /// Where the cells of the last row by name went, for the next one that looks the same.
    shape: Vec<(String, Place)>,
    every_sync: bool,
    /// The quarantine's table, once a row of this writer went there.
    quarantine: Option<TableId>,
}

/// Where a cell goes.
#[derive(Clone, Copy, Debug)]
enum Place {
    Tag(usize),
    Field(usize),
}

/// Tags and fields up to which a row by name needs no allocation.
const TAGS_INLINE: usize = 16;
const FIELDS_INLINE: usize = 32;

impl Writer {
    pub(super) fn new(inner: Handle, series: Arc<SeriesTable>, blocks: BlockWriter) -> Self {
        let every_sync = inner.core.options.durability == Durability::EverySync;
        let origin = inner.core.gate.origin.clone();
        Self { inner, origin, series, blocks, shape: Vec::new(), every_sync, quarantine: None }
    }

    /// The columns this writer appends to: those of the table when it was opened, or when a row by name first had a newer
    /// field.
    pub fn schema(&self) -> &Arc<TableSchema> {
        self.blocks.schema()
    }

    /// Appends a row by name, stamped now. Fields that are left out are null. A row that is older than this writer's newest
    /// by more than the table's `lateness` goes to quarantine, and the answer says so.
    ///
    /// # Errors
    /// [`UnknownField`](Error::UnknownField), [`MissingTag`](Error::MissingTag),
    /// [`TypeConflict`](Error::TypeConflict), [`MissingField`](Error::MissingField), [`Duplicate`](Error::Duplicate) for
    /// the row; [`Overloaded`](Error::Overloaded), [`Poisoned`](Error::Poisoned), [`Closed`](Error::Closed) for the store.
    /// A row with an error is not in the store.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let air = city.table(Schema::new("air").tag("station").f64("pm25", "ug/m3").i64("alarms", ""))?;
    /// let mut writer = air.writer()?;
    /// let appended = writer.append(row! { station: "Parit", pm25: 31.5 })?;
    /// assert_eq!(appended.accepted(), 1);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn append(&mut self, row: Row<'_>) -> Result<Appended> {
        self.append_at(self.inner.core.clock.now(), row)
    }

    /// Appends a row by name at a time of its own. One that is too late or in the far future goes to quarantine.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let air = Schema::new("air").tag("station").f64("pm25", "ug/m3").lateness(Duration::from_secs(3_600));
    /// let mut writer = city.table(air)?.writer()?;
    /// writer.append_at("2026-11-24T12:00:00Z".parse()?, row! { station: "Parit", pm25: 31.5 })?;
    /// let appended = writer.append_at("2026-11-23T12:00:00Z".parse()?, row! { station: "Parit", pm25: 30.0 })?;
    /// assert_eq!((appended.accepted(), appended.quarantined()), (0, 1));
    /// # #[cfg(feature = "sql")] {
    /// let rows = city.query("SELECT table_name, reason, row FROM system.quarantine")?;
    /// assert_eq!(rows.str(0, "row")?, Some(r#"{"station":"Parit","pm25":30.0}"#));
    /// # }
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn append_at(&mut self, time: Time, row: Row<'_>) -> Result<Appended> {
        self.origin.check()?;
        let cells = row.cells();
        if !self.is_same_shape(cells) {
            self.learn_shape(cells)?;
        }
        let schema = self.blocks.schema().clone();
        let (mut tags, mut fields) = ([""; TAGS_INLINE], [Value::Null; FIELDS_INLINE]);
        let (mut more_tags, mut more_fields) = (Vec::new(), Vec::new());
        let tags = inline_or_more(&mut tags, &mut more_tags, schema.tags.len(), "");
        let fields = inline_or_more(&mut fields, &mut more_fields, schema.fields.len(), Value::Null);
        for ((_, value), (name, place)) in cells.iter().zip(&self.shape) {
            match (*place, value) {
                (Place::Field(at), value) => {
                    if let Some(field) = fields.get_mut(at) {
                        *field = *value;
                    }
                }
                (Place::Tag(at), Value::Utf8(value)) => {
                    if let Some(tag) = tags.get_mut(at) {
                        *tag = value;
                    }
                }
                (Place::Tag(_), Value::Null) => {}
                (Place::Tag(_), other) => {
                    return Err(Error::TypeConflict {
                        table: schema.name.clone(),
                        field: name.clone(),
                        expected: "utf8, as every tag".into(),
                        found: other.type_name().into(),
                    });
                }
            }
        }
        if let Some(reason) = self.blocks.judge(time.as_nanos(), self.blocks.newest_ns()) {
            // Before it is resolved: a row that is not taken makes no series.
            series_table::check(&schema, &self.inner.core.options, tags)?;
            self.blocks.check_values(fields).map_err(|error| conflict(&schema, fields, error))?;
            return self.quarantine(&schema, (reason, time), tags, fields);
        }
        let series = resolve(&self.inner.core, &self.series, &schema, tags)?;
        self.append_to(SeriesId(series), time, fields)
    }

    /// Appends a row to a series resolved before: the fast way. `values` are one a field, in the order of
    /// [`schema`](Self::schema).
    ///
    /// # Errors
    /// [`UnknownSeries`](Error::UnknownSeries), [`WrongArity`](Error::WrongArity),
    /// [`TypeConflict`](Error::TypeConflict), [`MissingField`](Error::MissingField),
    /// [`LimitExceeded`](Error::LimitExceeded) for a long string, or for a row whose JSON does not fit the quarantine; and
    /// what the store says, as [`append`](Self::append).
    ///
    /// # Cost
    /// A few nanoseconds and about one a field, without a clock: the caller passes the time.
    #[inline(always)]
    pub fn append_to(&mut self, series: SeriesId, time: Time, values: &[Value<'_>]) -> Result<Appended> {
        if !self.every_sync && self.blocks.append_words(series.0, time.as_nanos(), values) {
            return Ok(Appended::one());
        }
        self.append_unusual(series, time, values)
    }

    /// A row that is not of plain words, or meets something for the first time, or is synced at once.
    #[inline(never)]
    fn append_unusual(&mut self, series: SeriesId, time: Time, values: &[Value<'_>]) -> Result<Appended> {
        self.origin.check()?;
        let outcome = self.blocks.append(series.0, time.as_nanos(), values);
        let outcome = outcome.map_err(|error| conflict(self.blocks.schema(), values, error))?;
        if let Some(reason) = outcome {
            let schema = self.blocks.schema().clone();
            let tags = self.series.tags_of(series.0).unwrap_or_default();
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            return self.quarantine(&schema, (reason, time), &tags, values);
        }
        if self.every_sync {
            self.sync()?;
        }
        Ok(Appended::one())
    }

    /// Puts a row that is fine but for its time into quarantine.
    #[cold]
    fn quarantine(
        &mut self,
        schema: &TableSchema,
        why: (Reason, Time),
        tags: &[&str],
        values: &[Value<'_>],
    ) -> Result<Appended> {
        let reason = why.0;
        let entry = Entry::new(schema, &self.inner.core.options, why, tags, values)?;
        self.quarantine = Some(self.inner.quarantine.put(&self.inner.core, &entry)?);
        if self.every_sync {
            self.sync()?;
        }
        let mut appended = Appended::default();
        appended.quarantine(reason);
        Ok(appended)
    }

    /// The same for a row of a batch, which is rejected alone if its text is too long.
    #[cold]
    fn quarantine_of_batch(
        &mut self,
        schema: &TableSchema,
        (reason, time_ns): (Reason, i64),
        tags: &[&str],
        values: &[Value<'_>],
    ) -> Result<Fate> {
        let core = &self.inner.core;
        let checked = series_table::check(schema, &core.options, tags);
        let why = (reason, Time::from_nanos(time_ns));
        match checked.and_then(|()| Entry::new(schema, &core.options, why, tags, values)) {
            Ok(entry) => {
                self.quarantine = Some(self.inner.quarantine.put(core, &entry)?);
                Ok(Fate::Quarantined(reason))
            }
            Err(error) => Ok(Fate::Rejected(error)),
        }
    }

    /// Appends a batch: a column `time` (timestamps of any unit, without a zone taken as UTC), every tag as text, and any
    /// of the fields. Rows without a time, a tag or a required field are rejected one by one, rows that are too late or in
    /// the far future go to quarantine, and all others are taken.
    ///
    /// # Errors
    /// For the batch as a whole, with no row taken: [`UnknownField`](Error::UnknownField),
    /// [`TypeConflict`](Error::TypeConflict), [`MissingTag`](Error::MissingTag) or
    /// [`MissingField`](Error::MissingField) for a column that is not there, [`InvalidTime`](Error::InvalidTime). The
    /// store's own, as for [`append`](Self::append), may come after some rows were taken or quarantined.
    ///
    /// # Cost
    /// A copy of each column, and a series lookup wherever the tags change from row to row.
    pub fn append_batch(&mut self, batch: &RecordBatch) -> Result<Appended> {
        self.origin.check()?;
        let schema = self.schema_for(batch)?;
        let columns = Columns::find(&schema, batch, true)?;
        let mut ids: Vec<u32> = Vec::with_capacity(columns.rows);
        let mut appended = Appended::default();
        // The tags of the last row that was looked up, and its series. Rows in between that are not taken change neither.
        let (mut values, mut known) = (vec![""; schema.tags.len()], None);
        let core = self.inner.core.clone();
        let (series, tags) = (self.series.clone(), columns.tags());
        let value_bytes_max = core.options.value_bytes_max;
        let may_refuse = columns.may_refuse(&schema);
        let mut newest_ns = self.blocks.newest_ns();
        let runs = accepted_runs(columns.rows, &mut appended, |row| {
            if may_refuse && let Some(error) = columns.refused(&schema, row, value_bytes_max) {
                ids.push(0);
                return Ok(Fate::Rejected(error));
            }
            let time_ns = columns.times().get(row).copied().unwrap_or_default();
            if let Some(reason) = self.blocks.judge(time_ns, newest_ns) {
                ids.push(0);
                let tags: Vec<&str> = tags.iter().map(|column| column.value(row)).collect();
                return self.quarantine_of_batch(&schema, (reason, time_ns), &tags, &columns.values(row));
            }
            let mut changed = known.is_none();
            for (value, column) in values.iter_mut().zip(tags) {
                let new = column.value(row);
                changed |= *value != new;
                *value = new;
            }
            let same = known.filter(|_| !changed);
            let id = same.map_or_else(|| resolve(&core, &series, &schema, &values), Ok);
            known = id.as_ref().ok().copied();
            ids.push(known.unwrap_or_default());
            match id {
                Ok(_) => {
                    newest_ns = newest_ns.max(time_ns);
                    Ok(Fate::Accepted)
                }
                Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Limit) => {
                    Ok(Fate::Rejected(error))
                }
                // Nothing is wrong with the row.
                Err(error) => Err(error),
            }
        })?;
        self.append_runs(&columns, &ids, &runs, &mut appended)?;
        Ok(appended)
    }

    /// Appends a batch of one series: a column `time` and any of the fields, and no tags. Else as
    /// [`append_batch`](Self::append_batch), and faster.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch), and [`UnknownSeries`](Error::UnknownSeries).
    pub fn append_batch_to(&mut self, series: SeriesId, batch: &RecordBatch) -> Result<Appended> {
        self.origin.check()?;
        let schema = self.schema_for(batch)?;
        let columns = Columns::find(&schema, batch, false)?;
        self.blocks.check_series(series.0)?;
        let mut appended = Appended::default();
        let value_bytes_max = self.inner.core.options.value_bytes_max;
        let may_refuse = columns.may_refuse(&schema);
        let mut newest_ns = self.blocks.newest_ns();
        let runs = accepted_runs(columns.rows, &mut appended, |row| {
            if may_refuse && let Some(error) = columns.refused(&schema, row, value_bytes_max) {
                return Ok(Fate::Rejected(error));
            }
            let time_ns = columns.times().get(row).copied().unwrap_or_default();
            if let Some(reason) = self.blocks.judge(time_ns, newest_ns) {
                let tags = self.series.tags_of(series.0).unwrap_or_default();
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                return self.quarantine_of_batch(&schema, (reason, time_ns), &tags, &columns.values(row));
            }
            newest_ns = newest_ns.max(time_ns);
            Ok(Fate::Accepted)
        })?;
        let ids = vec![series.0; columns.rows];
        self.append_runs(&columns, &ids, &runs, &mut appended)?;
        Ok(appended)
    }

    fn append_runs(
        &mut self,
        columns: &Columns,
        ids: &[u32],
        runs: &[std::ops::Range<usize>],
        appended: &mut Appended,
    ) -> Result<()> {
        for range in runs {
            // A run ends at its range; the sources are whole columns, of which it starts at the range's start.
            let clocks = self.blocks.clocks(range.end);
            let run = Run {
                times: columns.times().get(..range.end).unwrap_or_default(),
                series: ids.get(..range.end).unwrap_or_default(),
                clocks: &clocks,
                columns: &columns.sources(),
            };
            self.blocks.append_run(&run, range.start, appended)?;
        }
        if self.every_sync && appended.accepted() + appended.quarantined() > 0 {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes every row of this writer's table whose append returned durable against power loss, and what this writer sent
    /// to quarantine.
    ///
    /// # Errors
    /// [`Poisoned`](Error::Poisoned) if the disk refuses.
    pub fn sync(&self) -> Result<()> {
        self.inner.core.gate.check()?;
        self.inner.core.sync(Some(self.blocks.schema().id))?;
        self.quarantine.map_or(Ok(()), |quarantine| self.inner.core.sync(Some(quarantine)))
    }

    fn is_same_shape(&self, cells: &[(&str, Value<'_>)]) -> bool {
        cells.len() == self.shape.len() && cells.iter().zip(&self.shape).all(|((name, _), (known, _))| name == known)
    }

    /// Finds where each cell goes. A name that the writer's schema lacks may be a field added since.
    fn learn_shape(&mut self, cells: &[(&str, Value<'_>)]) -> Result<()> {
        let place = |schema: &TableSchema, name: &str| {
            let tag = schema.tags.iter().position(|tag| tag == name).map(Place::Tag);
            tag.or_else(|| schema.fields.iter().position(|field| field.name == name).map(Place::Field))
        };
        if cells.iter().any(|(name, _)| place(self.blocks.schema(), name).is_none()) {
            self.upgrade()?;
        }
        let schema = self.blocks.schema();
        let mut shape: Vec<(String, Place)> = Vec::with_capacity(cells.len());
        for (name, _) in cells {
            if shape.iter().any(|(known, _)| known == name) {
                return Err(Error::Duplicate { table: schema.name.clone(), name: (*name).into() });
            }
            shape.push(((*name).into(), place(schema, name).ok_or_else(|| schema.unknown(name))?));
        }
        self.shape = shape;
        Ok(())
    }

    fn schema_for(&mut self, batch: &RecordBatch) -> Result<Arc<TableSchema>> {
        let known = self.blocks.schema().arrow().clone();
        if batch.schema().fields().iter().any(|field| known.index_of(field.name()).is_err()) {
            self.upgrade()?;
        }
        Ok(self.blocks.schema().clone())
    }

    fn upgrade(&mut self) -> Result<()> {
        let table = self.blocks.schema().id;
        let view = self.inner.core.view.load();
        match view.tables.get(&table) {
            Some(table) if table.schema.fields.len() > self.blocks.schema().fields.len() => {
                self.blocks.upgrade(table.schema.clone())
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("table", &self.schema().name()).finish_non_exhaustive()
    }
}

/// The series of these tags, which becomes one if it is not yet; but not in a store that is closed or poisoned.
fn resolve(core: &Core, series: &SeriesTable, schema: &TableSchema, tags: &[&str]) -> Result<u32> {
    if let Some(id) = series.find(tags) {
        return Ok(id);
    }
    core.gate.check()?;
    series.resolve(schema, &core.series_log, &core.options, tags)
}

/// The first `len` places of `inline`, or of `more` where those do not suffice.
fn inline_or_more<'a, T: Copy, const N: usize>(
    inline: &'a mut [T; N],
    more: &'a mut Vec<T>,
    len: usize,
    empty: T,
) -> &'a mut [T] {
    if len <= N {
        return inline.split_at_mut(len).0;
    }
    more.resize(len, empty);
    more
}

/// Says which type a value has where the row itself is at hand.
fn conflict(schema: &TableSchema, values: &[Value<'_>], error: Error) -> Error {
    match error {
        Error::TypeConflict { field, .. } => {
            let mut pairs = schema.fields.iter().zip(values);
            match pairs.find(|(known, _)| known.name == field) {
                Some((known, value)) => schema.type_conflict(known, value.type_name()),
                None => schema.unknown(&field),
            }
        }
        other => other,
    }
}
