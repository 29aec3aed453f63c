//! Contracts and dimensions on their way into the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;

use crate::error::{Error, Result};
#[cfg(feature = "sql")]
use crate::feed::Trust;
use crate::feed::declared::FILE_BYTES_MAX;
use crate::feed::dimension::{self, Dimension, Loaded};
use crate::feed::registry;
use crate::feed::{Feed, FeedVersion};
use crate::fs::{FileSystem, read_all, real::RealFs};
use crate::ingest::batch::Columns;
use crate::ingest::writer::BlockWriter;
use crate::model::{Row, Time, Value};
#[cfg(feature = "sql")]
use crate::query::{Engine, Rows};

use super::{Store, Table, open};

/// What contracts and dimensions are declared under: one at a time, since each looks at what is there.
#[derive(Default)]
pub(super) struct Registry {
    declaring: Mutex<()>,
}

impl Store {
    /// Declares a feed from `from` on: makes its table if it is absent, checks and widens it if it is present, and keeps
    /// the contract as a new version beside the old ones. A contract that is the one in force at `from` changes nothing.
    ///
    /// A table that is there keeps its own policies: the contract says what the scorecard expects, the table's
    /// [`lateness`](crate::Policies::lateness) what it takes. Durable when it returns, in one row: after a crash the
    /// version is there or not.
    ///
    /// # Errors
    /// [`InvalidFeed`](Error::InvalidFeed), and what [`table`](Self::table) says of the schema;
    /// [`LimitExceeded`](Error::LimitExceeded) for more feeds than [`Scorecard::feeds_max`](crate::Scorecard::feeds_max).
    ///
    /// # Cost
    /// Reads all contracts; one sync if anything is new.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use denyut::prelude::*;
    /// use denyut::feed::{Arrival, Feed};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let city = Store::open(dir.path().join("kota"))?;
    /// let water = || Schema::new("water").tag("gate").f64("level_cm", "cm").cadence(Duration::from_secs(600));
    /// let (new_year, july) = ("2026-01-01T00:00:00Z".parse()?, "2026-07-01T00:00:00Z".parse()?);
    /// let by_hand = Feed::new("water_level", "PUPR", water());
    /// assert_eq!(city.declare_feed(&by_hand, new_year)?.version, 1);
    /// assert_eq!(city.declare_feed(&by_hand.clone().arrives(Arrival::ByItself), july)?.version, 2);
    ///
    /// let rows = city.query("SELECT arrives FROM feeds('2026-03-01')")?;
    /// assert_eq!(rows.str(0, "arrives")?, Some("by hand"));
    /// assert_eq!(city.query("SELECT * FROM feed_contracts()")?.num_rows(), 2);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn declare_feed(&self, feed: &Feed, from: Time) -> Result<FeedVersion> {
        let core = &self.inner.core;
        feed.check(&core.options)?;
        let text = feed.to_toml();
        // A version that cannot be read back would take all feeds with it.
        Feed::parse(&text, &format!("feed {:?}, as the store would keep it", feed.name()), Some(&core.options))?;
        core.gate.check()?;
        let _declaring = self.inner.registry.declaring.lock().unwrap_or_else(PoisonError::into_inner);
        let known = registry::versions(&core.snapshot())?;
        let max = core.options.scorecard.feeds_max;
        let is_in_force = |versions: &Vec<registry::Version>| versions.last().is_some_and(|last| !last.retired);
        let in_force = known.values().filter(|versions| is_in_force(versions)).count();
        if !known.get(feed.name()).is_some_and(is_in_force) && in_force >= max {
            let found = in_force as u64 + 1;
            return Err(Error::LimitExceeded { limit: "feeds_max", max: max as u64, found, place: "feeds".into() });
        }
        let mut schema = feed.schema.clone();
        if let Ok(table) = self.existing(schema.name()) {
            schema.policies = table.schema().policies().clone();
        }
        self.table(schema)?;
        let versions = known.get(feed.name()).map(Vec::as_slice).unwrap_or_default();
        let in_force = versions.iter().rfind(|version| version.from <= from);
        if let Some(same) = in_force.filter(|version| !version.retired && version.text == text) {
            return Ok(FeedVersion { version: same.number, from: same.from, is_new: false });
        }
        self.keep(feed.name(), versions.len(), from, false, &text)
    }

    /// Declares all feeds of a TOML file, as [`declare_feed`](Self::declare_feed) one by one. None is declared if one cannot
    /// be read. [`Feed::from_toml`] has the form; limits are this store's.
    ///
    /// # Errors
    /// As [`Feed::from_toml`], with file and line, and [`declare_feed`](Self::declare_feed); what the file system says.
    pub fn declare_feeds(&self, file: impl AsRef<Path>, from: Time) -> Result<Vec<FeedVersion>> {
        let path = file.as_ref();
        let gone = || Error::io("opening", path, std::io::ErrorKind::NotFound.into());
        let file = RealFs::default().open_read(path)?.ok_or_else(gone)?;
        let len = file.len()?;
        if len > FILE_BYTES_MAX as u64 {
            return Err(Error::InvalidFeed {
                place: path.display().to_string(),
                reason: format!("it has {len} bytes"),
                remedy: format!("split it: {FILE_BYTES_MAX} are the most"),
            });
        }
        let bytes = read_all(&*file)?;
        let text = String::from_utf8(bytes).map_err(|error| Error::InvalidFeed {
            place: path.display().to_string(),
            reason: error.to_string(),
            remedy: "write it in UTF-8".into(),
        })?;
        let feeds = Feed::parse(&text, &path.display().to_string(), Some(&self.inner.core.options))?;
        feeds.iter().map(|feed| self.declare_feed(feed, from)).collect()
    }

    /// Ends a feed from `from` on. Its versions, its table and its rows stay.
    ///
    /// # Errors
    /// [`InvalidFeed`](Error::InvalidFeed) if there is no such feed.
    pub fn retire_feed(&self, name: &str, from: Time) -> Result<FeedVersion> {
        let core = &self.inner.core;
        core.gate.check()?;
        let _declaring = self.inner.registry.declaring.lock().unwrap_or_else(PoisonError::into_inner);
        let known = registry::versions(&core.snapshot())?;
        let versions = known.get(name).map(Vec::as_slice).unwrap_or_default();
        let Some(last) = versions.last() else {
            let place = format!("feed {:?}", name.chars().take(80).collect::<String>());
            let remedy = "feed_contracts() lists those there are".into();
            return Err(Error::InvalidFeed { place, reason: "there is none of that name".into(), remedy });
        };
        self.keep(name, versions.len(), from, true, &last.text)
    }

    /// Appends one version, and makes it durable.
    fn keep(&self, feed: &str, before: usize, from: Time, retired: bool, text: &str) -> Result<FeedVersion> {
        let core = &self.inner.core;
        let schema = registry::schema();
        open::declare(core, &schema)?;
        let view = core.view.load();
        let gone = || Error::UnknownTable { table: registry::TABLE.into() };
        let table = view.table(registry::TABLE).ok_or_else(gone)?;
        let version = i64::try_from(before).unwrap_or(i64::MAX).saturating_add(1);
        let series = table.series.resolve(&table.schema, &core.series_log, &core.options, &[feed])?;
        let values = [version.into(), core.clock.now().as_nanos().into(), retired.into(), Value::Utf8(text)];
        let mut writer = BlockWriter::new(core.clone(), table.schema.clone(), core.clock.clone(), &core.options);
        if writer.append(series, from.as_nanos(), &values)?.is_some() {
            return Err(Error::batch(registry::TABLE, "a version is refused; this is a bug"));
        }
        drop(writer);
        core.sync(Some(table.schema.id))?;
        Ok(FeedVersion { version, from, is_new: true })
    }

    /// Reads with SQL, as [`query`](Self::query), and says how complete the answer is: which feeds it was made of, how old
    /// their last rows are, and which share of the rows that their contracts promise is there. Both are of one moment. In SQL
    /// it is `completeness('SELECT ..')`.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cost
    /// That of the statement, and its range's rows of the feeds once more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use denyut::prelude::*;
    /// use denyut::feed::Feed;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let city = Store::open(dir.path().join("kota"))?;
    /// let water = Schema::new("water").tag("gate").f64("level_cm", "cm").cadence(Duration::from_secs(600));
    /// let feed = Feed::new("water_level", "PUPR", water).series_expected(2);
    /// city.declare_feed(&feed, Time::from_nanos(now().as_nanos() - 3_600_000_000_000))?;
    /// city.existing("water")?.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    ///
    /// let (rows, trust) = city.query_with_trust("SELECT max(level_cm) AS level FROM water")?;
    /// assert_eq!(rows.f64(0, "level")?, Some(142.0));
    /// // One of two gates in one of six slots of ten minutes.
    /// assert_eq!((trust.feeds[0].present, trust.feeds[0].expected), (1, 12));
    /// # Ok::<(), denyut::Error>(())
    /// ```
    #[cfg(feature = "sql")]
    pub fn query_with_trust(&self, text: &str) -> Result<(Rows, Trust)> {
        self.inner.core.check_open()?;
        with_trust(&self.inner.engine, text)
    }

    /// Loads a dimension whole: from `from` on its members are `rows` and no others. Writes what differs from the members
    /// in force at `from`, so the same load again changes nothing. A row has a `key`, and attributes or null. Durable when
    /// it returns.
    ///
    /// # Errors
    /// As [`table`](Self::table); [`MissingTag`](Error::MissingTag), [`Duplicate`](Error::Duplicate) for the keys; and those
    /// of an [append](crate::Writer::append), when rows before may be written: load again.
    ///
    /// # Cost
    /// Reads all versions of the dimension.
    pub fn load_dimension(&self, dimension: &Dimension, from: Time, rows: &[Row<'_>]) -> Result<Loaded> {
        self.load(dimension, from, rows, true)
    }

    /// Changes members of a dimension from `from` on, and leaves the others. `removed: true` removes one.
    ///
    /// # Errors
    /// As [`load_dimension`](Self::load_dimension).
    pub fn update_dimension(&self, dimension: &Dimension, from: Time, rows: &[Row<'_>]) -> Result<Loaded> {
        self.load(dimension, from, rows, false)
    }

    /// As [`load_dimension`](Self::load_dimension), of a batch: a text column `key`, and attributes, each of the type of its
    /// field. Its times, if it has any, are not looked at.
    ///
    /// # Errors
    /// As [`load_dimension`](Self::load_dimension); [`TypeConflict`](Error::TypeConflict),
    /// [`UnknownField`](Error::UnknownField) and [`Duplicate`](Error::Duplicate) for a column that cannot be an attribute,
    /// when nothing is written.
    pub fn load_dimension_batch(&self, dimension: &Dimension, from: Time, batch: &RecordBatch) -> Result<Loaded> {
        let schema = self.table(dimension.schema().clone())?.schema();
        let columns = Columns::find(&schema, &dimension::versions(batch, from)?, true)?;
        let cells: Vec<_> = (0..batch.num_rows()).map(|row| dimension::member(&schema, &columns, row)).collect();
        let rows: Vec<Row<'_>> = cells.iter().map(|cells| Row::new(cells)).collect();
        self.load(dimension, from, &rows, true)
    }

    fn load(&self, dimension: &Dimension, from: Time, rows: &[Row<'_>], whole: bool) -> Result<Loaded> {
        let table = self.table(dimension.schema().clone())?;
        let _declaring = self.inner.registry.declaring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = dimension::members(&self.inner.core.snapshot(), table.name(), from)?;
        let mut given: BTreeMap<&str, Row<'_>> = BTreeMap::new();
        for (number, row) in rows.iter().enumerate() {
            let key = dimension::key_of(table.name(), number, *row)?;
            if given.insert(key, *row).is_some() {
                return Err(Error::Duplicate { table: table.name().into(), name: key.into() });
            }
        }
        let (schema, mut writer, mut loaded) = (table.schema(), table.writer()?, Loaded::default());
        for (key, row) in given {
            let attributes = dimension::attributes(&schema, row.cells());
            match (before.remove(key), &attributes) {
                (Some(old), new) if old == *new => {
                    loaded.unchanged += 1;
                    continue;
                }
                (None, None) => continue,
                (_, None) => loaded.removed += 1,
                (None | Some(None), _) => loaded.added += 1,
                (Some(Some(_)), _) => loaded.changed += 1,
            }
            let cells = row.cells().iter().copied().filter(|(name, _)| *name != dimension::REMOVED);
            let cells: Vec<_> = cells.chain([(dimension::REMOVED, Value::Bool(attributes.is_none()))]).collect();
            let _ = writer.append_at(from, Row::new(&cells))?;
        }
        let gone = before.into_iter().filter(|(_, attributes)| whole && attributes.is_some());
        for (key, _) in gone {
            let cells = [(dimension::KEY, Value::Utf8(&key)), (dimension::REMOVED, Value::Bool(true))];
            let _ = writer.append_at(from, Row::new(&cells))?;
            loaded.removed += 1;
        }
        self.synced(&table)?;
        Ok(loaded)
    }

    fn synced(&self, table: &Table) -> Result<()> {
        let core: &Arc<_> = &self.inner.core;
        core.sync(core.view.load().table(table.name()).map(|table| table.schema.id))
    }
}

/// The answer to a statement and what is to be thought of it, both of one moment.
#[cfg(feature = "sql")]
pub(super) fn with_trust(engine: &Engine, text: &str) -> Result<(Rows, Trust)> {
    let mut answers = engine.queries(&[text, &Trust::statement(text)])?.into_iter();
    match (answers.next(), answers.next()) {
        (Some(rows), Some(told)) => {
            let trust = Trust::of(&told, &rows)?;
            Ok((rows, trust))
        }
        _ => Err(Error::Background { reason: "a statement without an answer; this is a bug".into() }),
    }
}
