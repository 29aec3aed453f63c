//! The top: opens a store, wires its rooms together, and closes it. The only place that knows everybody.

mod care;
mod close;
mod create;
#[cfg(feature = "feed")]
mod feeds;
mod handle;
#[cfg(feature = "feed")]
mod import;
mod latest;
mod open;
mod quarantine;
mod reader;
mod recovery;
mod rollup;
mod salvage;
#[cfg(feature = "sql")]
mod source;
mod table;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::maintain::background::Background;
use crate::maintain::core::Core;
use crate::model::{Schema, TableSchema, names};
use crate::options::Options;

use handle::Handle;
pub use latest::{Latest, LatestRow};
pub use reader::Reader;
pub use recovery::{LeftOut, Recovery};
pub use table::Table;
pub use upkeep::{Maintained, Pause};
pub use writer::Writer;

/// A store: one directory with tables of time series.
///
/// Cheap to clone; all clones, and the tables and writers made from them, are the same open store, which closes when the
/// last of them is dropped. One process writes at a time. `Send` and `Sync`.
///
/// A child process that is forked after the store was opened cannot use it: every call there is
/// [`Forked`](Error::Forked) and touches nothing of the parent's, also a drop. The child may open stores of its own. Until
/// it exits, executes another program or drops a handle of the store, it keeps others from opening the store after its
/// parent.
///
/// ```
/// use denyut::prelude::*;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("kota");
/// let city = Store::open(path)?;
/// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
/// let mut writer = water.writer()?;
/// writer.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
/// city.sync()?;
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Handle,
}

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    background: Background,
    recovery: Recovery,
    quarantine: quarantine::Quarantine,
    #[cfg(feature = "feed")]
    registry: feeds::Registry,
    #[cfg(feature = "feed")]
    ledger: crate::feed::import::ledger::Ledger,
    /// Held for as long as the store is open: until it is closed, or else until the last handle is dropped.
    lock: Mutex<Option<create::WriterLock>>,
    #[cfg(feature = "sql")]
    engine: crate::query::Engine,
}

impl Store {
    /// Opens the store at `path` with default options, or makes one in an empty or absent directory.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Options to open a store with.
    ///
    /// ```
    /// let options = denyut::Store::options().live_bytes_max(128 << 20);
    /// # drop(options);
    /// ```
    pub fn options() -> Options {
        Options::default()
    }

    pub(crate) fn open_with(options: Options, path: &Path) -> Result<Self> {
        Self::open_on(Arc::new(crate::fs::real::RealFs::default()), options, path)
    }

    /// The table that `schema` declares: made if it is absent, checked if it is present, and given the fields it lacks.
    ///
    /// # Errors
    /// [`InvalidName`](Error::InvalidName), [`Duplicate`](Error::Duplicate), [`TypeConflict`](Error::TypeConflict) and
    /// [`SchemaConflict`](Error::SchemaConflict) for a schema that is wrong or differs;
    /// [`LimitExceeded`](Error::LimitExceeded) for too many tables, tags or fields.
    ///
    /// # Cost
    /// One manifest commit if anything is new, else a lookup.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let air = city.table(Schema::new("air").tag("station").f64("pm25", "ug/m3"))?;
    /// // A field is added while writers go on.
    /// let air = city.table(Schema::new("air").tag("station").f64("pm25", "ug/m3").f64("no2", "ug/m3"))?;
    /// assert_eq!(air.schema().fields().len(), 2);
    /// // A type that differs is an error that names table, field and both types.
    /// let error = city.table(Schema::new("air").tag("station").i64("pm25", "ug/m3")).unwrap_err();
    /// assert!(error.to_string().contains("the table has f64, this is i64"));
    /// # Ok::<(), denyut::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "a schema is declared in place")]
    pub fn table(&self, schema: Schema) -> Result<Table> {
        let core = &self.inner.core;
        schema.check(&core.options)?;
        core.gate.check()?;
        let name = schema.name().to_string();
        open::declare(core, &schema)?;
        self.existing(&name)
    }

    /// The table of that name.
    ///
    /// # Errors
    /// [`UnknownTable`](Error::UnknownTable), [`Forked`](Error::Forked).
    pub fn existing(&self, name: &str) -> Result<Table> {
        self.inner.core.gate.origin.check()?;
        let view = self.inner.core.view.load();
        let table = view.table(name).filter(|_| !names::is_hidden(name));
        let unknown = || Error::UnknownTable { table: name.chars().take(80).collect() };
        Ok(Table::new(self.inner.clone(), table.ok_or_else(unknown)?))
    }

    /// All tables, by name.
    pub fn tables(&self) -> Vec<Arc<TableSchema>> {
        let view = self.inner.core.view.load();
        let schemas = view.tables.values().map(|table| &table.schema).filter(|schema| !names::is_hidden(&schema.name));
        let mut schemas: Vec<_> = schemas.cloned().collect();
        schemas.sort_by(|a, b| a.name().cmp(b.name()));
        schemas
    }

    /// Makes every row whose append returned before this call durable against power loss.
    ///
    /// # Errors
    /// [`Poisoned`](Error::Poisoned) if the disk refuses: then rows since the last good sync are indeterminate.
    ///
    /// # Cost
    /// One disk sync for each live block with new rows, and one for new series.
    pub fn sync(&self) -> Result<()> {
        self.inner.core.gate.check()?;
        self.inner.core.sync(None)
    }

    /// Seals every row appended before this call into segments, and gives their number.
    ///
    /// The store does so by itself as blocks fill and age. Call it before handing the Parquet files to another tool.
    ///
    /// # Errors
    /// What the file system says; the rows then stay in their blocks.
    pub fn seal(&self) -> Result<u64> {
        let core = &self.inner.core;
        core.gate.check()?;
        let before = core.counters.sealed_rows.get();
        let blocks: Vec<u64> = core.view.load().blocks().map(|view| view.block.id).collect();
        for id in blocks {
            core.seal(id)?;
        }
        Ok(core.counters.sealed_rows.get() - before)
    }

    /// Numbers of what the store did since it was opened, as in `system.counters`.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.inner.counters()
    }

    /// What opening found: how the last life ended and what was left of it.
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    /// Closes the store for all its handles and reports how that went. Appends and queries then answer
    /// [`Closed`](Error::Closed). Rows that are not sealed stay in their blocks, synced; that of an append which is under way in
    /// another thread may be cut. Closing twice is fine.
    ///
    /// # Errors
    /// [`Poisoned`](Error::Poisoned) if the last sync fails; [`Background`](Error::Background) if a thread died.
    ///
    /// # Cost
    /// One sync; waits for seals under way.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }

    /// Reads with SQL: plans `text` over one snapshot of the whole store. The answer is DataFusion's lazy
    /// [`DataFrame`](datafusion::dataframe::DataFrame), to be collected or streamed on any tokio runtime.
    ///
    /// Only reads are planned, within the options' limits of text, memory, spill, time and rows.
    ///
    /// # Errors
    /// [`TooComplex`](Error::TooComplex), [`ReadOnlySql`](Error::ReadOnlySql), [`UnknownTable`](Error::UnknownTable),
    /// [`Query`](Error::Query). What execution meets comes as DataFusion's error; [`query`](Self::query) gives this
    /// crate's.
    #[cfg(feature = "sql")]
    pub async fn sql(&self, text: &str) -> Result<datafusion::dataframe::DataFrame> {
        self.inner.core.check_open()?;
        self.inner.engine.sql(text).await
    }

    /// Reads with SQL, and waits for the answer. Works inside and outside a tokio runtime: it runs on the store's own.
    ///
    /// # Errors
    /// As [`sql`](Self::sql), and [`QueryTimeout`](Error::QueryTimeout), [`QueryMemory`](Error::QueryMemory),
    /// [`LimitExceeded`](Error::LimitExceeded).
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// # city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// let rows = city.query("SELECT gate, max(level_cm) FROM water GROUP BY gate")?;
    /// assert_eq!(rows.num_rows(), 0);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    #[cfg(feature = "sql")]
    pub fn query(&self, text: &str) -> Result<crate::query::Rows> {
        self.inner.core.check_open()?;
        self.inner.engine.query(text)
    }

    /// A statement that is planned once and answered often, with parameters `$1`, `$2`, ..: for panels that ask the same
    /// every second. Each answer is of the moment of its call, as [`query`](Self::query)'s.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// let highest = city.prepare("SELECT max(level_cm) AS cm FROM water WHERE gate = $1 AND time >= $2")?;
    /// let today = Time::from_secs(1_767_225_600)?;
    /// assert_eq!(highest.query(&["Sei Wie".into(), today.into()])?.f64(0, "cm")?, None);
    /// water.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// assert_eq!(highest.query(&["Sei Wie".into(), today.into()])?.f64(0, "cm")?, Some(142.0));
    /// # Ok::<(), denyut::Error>(())
    /// ```
    #[cfg(feature = "sql")]
    pub fn prepare(&self, text: &str) -> Result<crate::query::Prepared> {
        self.inner.core.check_open()?;
        self.inner.engine.prepare(text)
    }

    /// A session that sees what `policy` shows, for readers who may not see everything. It reads the live store, as
    /// [`query`](Self::query) does.
    ///
    /// # Errors
    /// [`UnknownTable`](Error::UnknownTable), [`InvalidPolicy`](Error::InvalidPolicy).
    #[cfg(feature = "sql")]
    pub fn session_for(&self, policy: &crate::query::Policy) -> Result<crate::query::PolicySession> {
        self.inner.core.check_open()?;
        crate::query::PolicySession::new(self.inner.engine.clone(), policy)
    }

    /// A DataFusion session over the live store, without the guards of [`sql`](Self::sql): for trusted callers.
    ///
    /// Each lookup of a table takes a snapshot of its own, so two tables of one statement may show two moments.
    #[cfg(feature = "sql")]
    pub fn session(&self) -> datafusion::prelude::SessionContext {
        self.inner.engine.session()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.core.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.core.count()
    }
}
