//! A store that another process writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::model::TableSchema;
use crate::options::Options;
use crate::snapshot::follower::Follower;
use crate::snapshot::scan::Scan;
use crate::storage::control::Control;
use crate::storage::places::CONTROL_FILE;

use super::Store;

/// A store opened for reading alone, beside the process that writes it, if there is one.
///
/// Made by [`Store::open_read_only`]. It sees every row whose append returned in the writing process before the query
/// began, without any message between the two; new tables, fields and series too. It goes on while that process dies and
/// another takes its place, and reads a store that nobody writes. Of a store that was not written since the machine
/// started, it shows what was synced.
///
/// It writes nothing into the store's directory and needs no right to. Cheap to clone; `Send` and `Sync`.
///
/// ```
/// use denyut::prelude::*;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("kota");
/// # let city = Store::open(&path)?;
/// # let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
/// # let mut writer = water.writer()?;
/// # writer.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
/// let reader = Store::open_read_only(&path)?;
/// let rows: usize = reader.scan("water")?.map(|batch| batch.map(|batch| batch.num_rows())).sum::<Result<_, _>>()?;
/// assert_eq!(rows, 1);
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone)]
pub struct Reader {
    inner: Arc<ReaderInner>,
}

struct ReaderInner {
    path: PathBuf,
    follower: Arc<Follower>,
    #[cfg(feature = "sql")]
    engine: crate::query::Engine,
    /// Where this process spills; not in the store, which belongs to another.
    #[cfg(feature = "sql")]
    spill: (Arc<dyn FileSystem>, PathBuf),
}

impl Reader {
    pub(crate) fn open_on(fs: Arc<dyn FileSystem>, options: &Options, path: &Path) -> Result<Self> {
        let options = &options.clone().bounded();
        let path = std::path::absolute(path).map_err(|source| Error::io("finding", path, source))?;
        let none = || Error::NotAStore { path: path.clone(), reason: "it has no control page".into() };
        let control = Control::open_read(&*fs, &path.join(CONTROL_FILE))?.ok_or_else(none)?;
        let (follower, woken) = Follower::open(fs.clone(), &path, options, control);
        // What cannot be read is said now and not at the first query.
        follower.snapshot()?;
        if options.background {
            let weak = Arc::downgrade(&follower);
            std::thread::Builder::new()
                .name("denyut-reader".into())
                .spawn(move || Follower::let_go_when_idle(&weak, &woken))
                .map_err(|error| Error::Background { reason: error.to_string() })?;
        }
        #[cfg(feature = "sql")]
        let spill = {
            use std::sync::atomic::{AtomicU64, Ordering};
            static READERS: AtomicU64 = AtomicU64::new(0);
            // Relaxed: the read-modify-write alone makes each number unique.
            let number = READERS.fetch_add(1, Ordering::Relaxed);
            std::env::temp_dir().join(format!("denyut-spill-{}-{number}", std::process::id()))
        };
        let inner = ReaderInner {
            path,
            #[cfg(feature = "sql")]
            engine: {
                let source = Arc::new(super::source::FollowerSource(Arc::downgrade(&follower)));
                crate::query::Engine::new(source, options.clone(), spill.clone(), super::source::FUNCTIONS)?
            },
            #[cfg(feature = "sql")]
            spill: (fs, spill),
            follower,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All tables of this moment, by name.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn tables(&self) -> Result<Vec<Arc<TableSchema>>> {
        Ok(self.inner.follower.snapshot()?.tables().map(|table| table.schema.clone()).collect())
    }

    /// All rows of a table at this moment, batch by batch, without SQL.
    ///
    /// # Errors
    /// [`UnknownTable`](Error::UnknownTable); [`NoSnapshot`](Error::NoSnapshot) if the store changes faster than it can be
    /// looked at; [`Corrupted`](Error::Corrupted) and what the file system says.
    pub fn scan(&self, table: &str) -> Result<Scan> {
        let unknown = || Error::UnknownTable { table: table.chars().take(80).collect() };
        let snapshot = self.inner.follower.snapshot()?;
        let view = snapshot.table(table).cloned().ok_or_else(unknown)?;
        view.aside.check(&view.schema, None)?;
        Ok(Scan::new(view, self.inner.follower.origin.clone()).keeping(snapshot))
    }

    /// Reads with SQL, as [`Store::sql`].
    ///
    /// # Errors
    /// As [`Store::sql`] and [`scan`](Self::scan).
    #[cfg(feature = "sql")]
    pub async fn sql(&self, text: &str) -> Result<datafusion::dataframe::DataFrame> {
        self.inner.engine.sql(text).await
    }

    /// Reads with SQL and waits for the answer, as [`Store::query`].
    ///
    /// # Errors
    /// As [`Store::query`] and [`scan`](Self::scan).
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("kota");
    /// # let city = Store::open(&path)?;
    /// # let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// let reader = Store::open_read_only(&path)?;
    /// water.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// assert_eq!(reader.query("SELECT max(level_cm) AS level FROM water")?.f64(0, "level")?, Some(142.0));
    /// # Ok::<(), denyut::Error>(())
    /// ```
    #[cfg(feature = "sql")]
    pub fn query(&self, text: &str) -> Result<crate::query::Rows> {
        self.inner.engine.query(text)
    }

    /// Reads with SQL and says how complete the answer is, as [`Store::query_with_trust`].
    ///
    /// # Errors
    /// As [`query`](Self::query).
    #[cfg(all(feature = "feed", feature = "sql"))]
    pub fn query_with_trust(&self, text: &str) -> Result<(crate::query::Rows, crate::feed::Trust)> {
        super::feeds::with_trust(&self.inner.engine, text)
    }

    /// As [`Store::prepare`].
    ///
    /// # Errors
    /// As [`Store::prepare`].
    #[cfg(feature = "sql")]
    pub fn prepare(&self, text: &str) -> Result<crate::query::Prepared> {
        self.inner.engine.prepare(text)
    }

    /// A session that sees what `policy` shows, as [`Store::session_for`].
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "sql")]
    pub fn session_for(&self, policy: &crate::query::Policy) -> Result<crate::query::PolicySession> {
        crate::query::PolicySession::new(self.inner.engine.clone(), policy)
    }

    /// A DataFusion session over the live store, as [`Store::session`].
    #[cfg(feature = "sql")]
    pub fn session(&self) -> datafusion::prelude::SessionContext {
        self.inner.engine.session()
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.inner.follower.origin.is_here() {
            // A forked child: what is there is its parent's, and goes with the process.
            std::mem::forget(self.inner.clone());
        }
    }
}

#[cfg(feature = "sql")]
impl Drop for ReaderInner {
    fn drop(&mut self) {
        let (fs, spill) = &self.spill;
        if let Err(error) = fs.remove_dir(spill) {
            tracing::warn!(%error, "what queries spilled was not removed");
        }
    }
}

impl Store {
    /// Opens the store at `path` for reading alone, with default options, also while another process writes it.
    ///
    /// # Errors
    /// As [`Options::open_read_only`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Reader> {
        Self::options().open_read_only(path)
    }
}

impl Options {
    /// Opens the store at `path` for reading alone, also while another process writes it. Of the options, those of queries
    /// count, and `snapshot_timeout`.
    ///
    /// # Errors
    /// [`NotAStore`](Error::NotAStore) for a directory that is none, or not yet; [`NewerVersion`](Error::NewerVersion),
    /// [`Corrupted`](Error::Corrupted), and what the file system says.
    ///
    /// # Cost
    /// Reads the manifest and the series log, about 1 µs a series.
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<Reader> {
        Reader::open_on(Arc::new(crate::fs::real::RealFs::default()), &self, path.as_ref())
    }
}
