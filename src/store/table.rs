//! A handle on one table.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ingest::writer::BlockWriter;
use crate::model::{SeriesId, TableId, TableSchema};
use crate::snapshot::TableState;
use crate::snapshot::scan::Scan;
use crate::storage::series_table::SeriesTable;

use super::handle::Handle;
use super::{Latest, Writer};

/// A table of a store. Cheap to clone; `Send` and `Sync`.
#[derive(Clone)]
pub struct Table {
    inner: Handle,
    id: TableId,
    schema: Arc<TableSchema>,
    series: Arc<SeriesTable>,
}

impl Table {
    pub(super) fn new(inner: Handle, table: &TableState) -> Self {
        Self { inner, id: table.schema.id, schema: table.schema.clone(), series: table.series.clone() }
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        self.schema.name()
    }

    /// Its columns and policies now; fields may have been added since this handle was made.
    pub fn schema(&self) -> Arc<TableSchema> {
        let view = self.inner.core.view.load();
        view.tables.get(&self.id).map_or_else(|| self.schema.clone(), |table| table.schema.clone())
    }

    /// A writer, for one thread. Open as many as there are threads that append; each fills live blocks of its own.
    ///
    /// # Errors
    /// [`Closed`](crate::Error::Closed) and [`Poisoned`](crate::Error::Poisoned).
    ///
    /// # Cost
    /// Nothing until its first row, which takes a live block: `block_bytes_min` of the budget, one descriptor and one
    /// mapping, held until the writer is dropped. Drop those that will not append for long.
    pub fn writer(&self) -> Result<Writer> {
        let core = &self.inner.core;
        core.gate.check()?;
        let writer = BlockWriter::new(core.clone(), self.schema(), core.clock.clone(), &core.options);
        Ok(Writer::new(self.inner.clone(), self.series.clone(), writer))
    }

    /// All rows of this moment, batch by batch, without SQL.
    ///
    /// # Errors
    /// [`Closed`](crate::Error::Closed); [`SegmentAside`](crate::Error::SegmentAside) if a segment is; the iterator's items say what a segment's file does.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// water.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// let rows: usize = water.scan()?.map(|batch| batch.map(|batch| batch.num_rows())).sum::<Result<_, _>>()?;
    /// assert_eq!(rows, 1);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn scan(&self) -> Result<Scan> {
        let core = &self.inner.core;
        core.check_open()?;
        let unknown = || Error::UnknownTable { table: self.name().into() };
        let table = self.inner.core.snapshot().table(self.name()).cloned().ok_or_else(unknown)?;
        table.aside.check(&table.schema, None)?;
        Ok(Scan::new(table, self.inner.core.gate.origin.clone()))
    }

    /// The series of these tag values, in the order the tags were declared; it becomes one if it is not yet.
    ///
    /// # Errors
    /// [`WrongArity`](crate::Error::WrongArity), [`MissingTag`](crate::Error::MissingTag) for an empty value, and
    /// [`LimitExceeded`](crate::Error::LimitExceeded) for a long value or one series too many.
    ///
    /// # Cost
    /// A hash lookup under a shared lock; a new series writes to the series log.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").tag("agency").f64("level_cm", "cm"))?;
    /// let gate = water.series(["Sei Wie", "PUPR"])?;
    /// assert_eq!(gate, water.series(["Sei Wie", "PUPR"])?);
    /// water.writer()?.append_to(gate, now(), &[142.5.into()])?;
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn series<'a>(&self, tags: impl AsRef<[&'a str]>) -> Result<SeriesId> {
        let core = &self.inner.core;
        core.gate.check()?;
        self.series.resolve(&self.schema, &core.series_log, &core.options, tags.as_ref()).map(SeriesId)
    }

    /// A handle on the latest row of a series, for those who look at it often.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// let mut gate = water.latest(water.series(["Sei Wie"])?);
    /// assert!(gate.get()?.is_none());
    /// water.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// assert_eq!(gate.get()?.unwrap().value("level_cm")?, Value::F64(142.0));
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn latest(&self, series: SeriesId) -> Latest {
        Latest::new(self.inner.clone(), self.id, self.name(), series)
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("name", &self.name()).finish_non_exhaustive()
    }
}
