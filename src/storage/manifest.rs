//! The manifest: the log whose last frame that holds says which tables and segments exist. Its sync is the commit point.
//!
//! A frame is a list of edits that take effect together. The first frame of a file is the whole state; when the log has
//! grown well beyond it, a new file with the next number is published whole, and the old one removed.
//!
//! **Invariant:** what a frame names is durable before the frame is: segments and their directory entries, and the series
//! log up to the count it says.
//!
//! **Invariant:** the file with the highest number is whole, because it got its name after its sync. What an interrupted
//! change of files leaves behind is an older file, which is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, SYNCING_DIRECTORY};
use crate::model::{TableId, TableSchema};

use super::codec::{Decoder, Encoder};
use super::edit::{Edit, Sealed, SegmentMeta};
use super::frame_log::{self, FrameLog, FrameTail, Kind};
use super::rollups::Rollups;

const KIND: Kind = Kind { magic: *b"dnytmnfs", version: 1, what: "manifest", synced_one_by_one: true };
const PREFIX: &str = "manifest-";
/// Growth since the last whole state at which a new file is made. The short workloads of tests are to get there too.
const REWRITE_BYTES: u64 = if cfg!(test) { 2 << 10 } else { 1 << 20 };

/// What the manifest says now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) tables: BTreeMap<TableId, TableEntry>,
    pub(crate) segments: BTreeMap<u64, SegmentMeta>,
    /// Those of the segments that are damaged and not read.
    pub(crate) aside: BTreeSet<u64>,
    /// By block.
    pub(crate) seals: BTreeMap<u64, Sealed>,
    pub(crate) rollups: Arc<Rollups>,
    pub(crate) next_segment: u64,
    pub(crate) last_generation: u64,
    pub(crate) clock: u64,
}

/// A table in the catalog.
#[derive(Clone, Debug)]
pub(crate) struct TableEntry {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) partition_ns: Option<i64>,
    pub(crate) series: u32,
}

impl Catalog {
    /// Whether it says what that of a new store does: there is nothing to lose.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.segments.is_empty() && self.seals.is_empty()
    }

    /// How many of the first `rows` rows of a block's life are in segments.
    pub(crate) fn sealed_of(&self, block: u64, generation: u64, rows: u64) -> u64 {
        match self.seals.get(&block) {
            // All of an earlier life is sealed before the next begins.
            Some(sealed) if sealed.generation > generation => rows,
            Some(sealed) if sealed.generation == generation => sealed.rows.min(rows),
            _ => 0,
        }
    }

    /// Applies an edit; an error is one that does not fit the state.
    fn apply(&mut self, edit: Edit) -> std::result::Result<(), String> {
        let unknown = |table: TableId| format!("it speaks of table {table}, which it did not name before");
        match edit {
            Edit::AddTable(schema) => {
                let partition_ns = schema.policies.partition.map(crate::model::time::nanos_of);
                self.tables.insert(schema.id, TableEntry { schema: Arc::new(schema), partition_ns, series: 0 });
            }
            Edit::AddFields { table, fields } => {
                let entry = self.tables.get_mut(&table).ok_or_else(|| unknown(table))?;
                entry.schema = Arc::new(entry.schema.with_fields(&fields));
            }
            Edit::SetPartition { table, width_ns } => {
                self.tables.get_mut(&table).ok_or_else(|| unknown(table))?.partition_ns = Some(width_ns);
            }
            Edit::Series { table, count } => {
                self.tables.get_mut(&table).ok_or_else(|| unknown(table))?.series = count;
            }
            Edit::AddSegment(meta) => {
                self.next_segment = self.next_segment.max(meta.id + 1);
                if self.rollups.concerns(meta.table) {
                    Arc::make_mut(&mut self.rollups).segment_added(&meta);
                }
                self.segments.insert(meta.id, meta);
            }
            Edit::RemoveSegment { id } => {
                let known = self.segments.remove(&id);
                self.aside.remove(&id);
                let meta = known.ok_or_else(|| format!("it removes segment {id}, which it did not name before"))?;
                if self.rollups.concerns(meta.table) {
                    Arc::make_mut(&mut self.rollups).segment_removed(id);
                }
            }
            Edit::Seal { block, sealed } => {
                self.last_generation = self.last_generation.max(sealed.generation);
                self.seals.insert(block, sealed);
            }
            Edit::SetAside { segment, aside } => {
                if !self.segments.contains_key(&segment) {
                    return Err(format!("it speaks of segment {segment}, which it did not name before"));
                }
                if aside {
                    self.aside.insert(segment)
                } else {
                    self.aside.remove(&segment)
                };
            }
            Edit::AddRollup { table, definition } => {
                for table in [table, definition.source] {
                    self.tables.get(&table).ok_or_else(|| unknown(table))?;
                }
                let of_source = self.segments.values().filter(|meta| meta.table == definition.source);
                let segments = of_source.map(|meta| meta.id).collect();
                if !Arc::make_mut(&mut self.rollups).add(table, definition, segments) {
                    return Err(format!("it makes table {table} a rollup, which it cannot be"));
                }
            }
            Edit::Rolled { table, segment } => {
                if !Arc::make_mut(&mut self.rollups).rolled(table, segment) {
                    return Err(format!("it rolls up into table {table}, which is no rollup"));
                }
            }
            Edit::RowsGone { table, before_ns } => {
                self.tables.get(&table).ok_or_else(|| unknown(table))?;
                Arc::make_mut(&mut self.rollups).rows_gone(table, before_ns);
            }
            Edit::Marks { next_segment, last_generation, clock } => {
                self.next_segment = self.next_segment.max(next_segment);
                self.last_generation = self.last_generation.max(last_generation);
                self.clock = self.clock.max(clock);
            }
        }
        Ok(())
    }

    fn apply_frame(&mut self, payload: &[u8]) -> std::result::Result<(), String> {
        let mut edits = Decoder::new(payload);
        while !edits.is_empty() {
            self.apply(Edit::decode(&mut edits).ok_or("an edit that cannot be read")?)?;
        }
        Ok(())
    }

    /// Edits that make this state from nothing.
    fn edits(&self) -> impl Iterator<Item = Edit> + '_ {
        let marks =
            Edit::Marks { next_segment: self.next_segment, last_generation: self.last_generation, clock: self.clock };
        let tables = self.tables.iter().flat_map(|(id, entry)| {
            let partition = entry.partition_ns.map(|width_ns| Edit::SetPartition { table: *id, width_ns });
            [Edit::AddTable((*entry.schema).clone()), Edit::Series { table: *id, count: entry.series }]
                .into_iter()
                .chain(partition)
        });
        let segments = self.segments.values().cloned().map(Edit::AddSegment);
        // One that was removed since has nothing to be set aside.
        let aside = self.aside.iter().filter(|segment| self.segments.contains_key(segment));
        let aside = aside.map(|segment| Edit::SetAside { segment: *segment, aside: true });
        let seals = self.seals.iter().map(|(block, sealed)| Edit::Seal { block: *block, sealed: *sealed });
        let rollups = self.rollups.edits(&self.segments);
        std::iter::once(marks).chain(tables).chain(segments).chain(rollups).chain(aside).chain(seals)
    }
}

fn encode(edits: impl Iterator<Item = Edit>) -> Vec<u8> {
    let mut out = Encoder::default();
    edits.for_each(|edit| edit.encode(&mut out));
    out.into_bytes()
}

/// The manifest of a store that another process writes, read from its start on.
#[derive(Debug)]
pub(crate) struct ManifestTail {
    pub(crate) number: u64,
    tail: FrameTail,
    catalog: Catalog,
}

impl ManifestTail {
    /// The newest among `names`.
    pub(crate) fn newest(fs: &dyn FileSystem, dir: &Path, names: &[String]) -> Result<Option<Self>> {
        let number = names.iter().filter_map(|name| number_of(name)).max();
        number.map_or(Ok(None), |number| Self::open(fs, dir, number))
    }

    /// `None` if there is no file of that number: the store has moved on to the next.
    pub(crate) fn open(fs: &dyn FileSystem, dir: &Path, number: u64) -> Result<Option<Self>> {
        let Some(file) = fs.open_read(&path(dir, number))? else { return Ok(None) };
        Ok(Some(Self { number, tail: FrameTail::open(file, KIND)?, catalog: Catalog::default() }))
    }

    /// Reads on up to `durable_end`, or else as far as frames are whole. Says whether there was anything.
    pub(crate) fn read(&mut self, durable_end: Option<u64>) -> Result<bool> {
        let payloads = self.tail.read(durable_end)?;
        for payload in &payloads {
            self.catalog.apply_frame(payload).map_err(|reason| Error::corrupted(self.tail.path(), 0, reason))?;
        }
        Ok(!payloads.is_empty())
    }

    /// An error if it does not reach what is known to have been durable: a file number and an end.
    pub(crate) fn check_reached(&self, durable: (u64, u64)) -> Result<()> {
        if self.number < durable.0 {
            return Err(missing(self.tail.path(), durable.0));
        }
        self.tail.check_reached(if self.number == durable.0 { durable.1 } else { 0 })
    }

    /// What it says.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

/// The open manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    number: u64,
    log: FrameLog,
    rewritten_bytes: u64,
    catalog: Catalog,
}

/// Why a commit did not happen.
pub(crate) enum CommitError {
    /// Nothing changed; the store goes on.
    Refused(Error),
    /// A sync failed: nobody knows what is on disk.
    Unknown(Error),
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:08}"))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX).and_then(|number| number.parse().ok())
}

/// The file that counts among `names`, or the one that should.
fn newest(dir: &Path, names: &[String], durable_number: u64) -> (u64, PathBuf) {
    let number = names.iter().filter_map(|name| number_of(name)).max().unwrap_or(durable_number);
    (number, path(dir, number))
}

fn missing(path: &Path, durable_number: u64) -> Error {
    Error::corrupted(path, 0, format!("manifest {durable_number} or a later one should be here"))
}

/// The state that a file's frames make.
fn replay(path: &Path, payloads: &[Vec<u8>]) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    for (index, payload) in payloads.iter().enumerate() {
        let damaged = |reason: String| Error::corrupted(path, 0, format!("frame {}: {reason}", index + 1));
        catalog.apply_frame(payload).map_err(damaged)?;
    }
    if payloads.is_empty() {
        return Err(Error::corrupted(path, super::frame_log::HEAD_BYTES, "the manifest's first frame is broken"));
    }
    Ok(catalog)
}

/// Reads the newest manifest among `names` and changes nothing. `durable` is a file number and the end it reached at least.
pub(crate) fn read(fs: &dyn FileSystem, dir: &Path, names: &[String], durable: (u64, u64)) -> Result<Catalog> {
    let (number, path) = newest(dir, names, durable.0);
    let file = fs.open(&path)?.filter(|_| number >= durable.0).ok_or_else(|| missing(&path, durable.0))?;
    check(&path, &fs::read_all(&*file)?, if number == durable.0 { durable.1 } else { 0 })
}

/// What is left of a damaged manifest.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    /// A state that the store once had: that of the frames before the damage.
    pub(crate) catalog: Catalog,
    /// Bytes from the damage on.
    pub(crate) lost_bytes: u64,
}

/// What is left of the newest manifest among `names`; `None` if not even its first frame is.
pub(crate) fn remains(fs: &dyn FileSystem, dir: &Path, names: &[String]) -> Result<Option<Remains>> {
    let (number, path) = newest(dir, names, 0);
    let Some(file) = fs.open(&path)? else { return Ok(None) };
    let bytes = fs::read_all(&*file)?;
    let (mut catalog, mut lost_bytes, mut frames) = (Catalog::default(), bytes.len() as u64, 0);
    for payload in frame_log::salvage_prefix(&bytes) {
        let mut next = catalog.clone();
        if next.apply_frame(&payload).is_err() {
            break;
        }
        catalog = next;
        frames += 1;
        lost_bytes = lost_bytes.saturating_sub(frame_log::FRAME_HEAD_BYTES as u64 + payload.len() as u64);
    }
    lost_bytes = lost_bytes.saturating_sub(frame_log::HEAD_BYTES);
    Ok((frames > 0).then_some(Remains { path, number, catalog, lost_bytes }))
}

/// What the `bytes` of a manifest say; an error if any up to `durable_end` is not what was written.
pub(crate) fn check(path: &Path, bytes: &[u8], durable_end: u64) -> Result<Catalog> {
    replay(path, &frame_log::scan(path, KIND, bytes, durable_end)?.payloads)
}

impl Manifest {
    /// Makes the manifest of an empty store.
    pub(crate) fn create(fs: Arc<dyn FileSystem>, dir: &Path) -> Result<Self> {
        Self::write(fs, dir, Catalog { next_segment: 1, ..Catalog::default() })
    }

    /// Makes the first manifest of a store that has `catalog`.
    pub(crate) fn write(fs: Arc<dyn FileSystem>, dir: &Path, catalog: Catalog) -> Result<Self> {
        Self::write_as(fs, dir, 1, catalog)
    }

    /// Makes a manifest file of that number, whole under its name.
    pub(crate) fn write_as(fs: Arc<dyn FileSystem>, dir: &Path, number: u64, catalog: Catalog) -> Result<Self> {
        let log = FrameLog::create(&*fs, &path(dir, number), KIND, number, &encode(catalog.edits()))?;
        let rewritten_bytes = log.end();
        Ok(Self { fs, dir: dir.into(), number, log, rewritten_bytes, catalog })
    }

    /// Opens the newest manifest among `names` and says how many bytes of a torn tail were cut off. `durable` is a file
    /// number and the end it reached at least.
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        names: &[String],
        durable: (u64, u64),
        rewritten: bool,
    ) -> Result<(Self, u64)> {
        let (number, path) = newest(dir, names, durable.0);
        let missing = || missing(&path, durable.0);
        let file = fs.open(&path)?.filter(|_| number >= durable.0).ok_or_else(missing)?;
        let durable_end = if number == durable.0 { durable.1 } else { 0 };
        let mut catalog = Catalog::default();
        let opened = FrameLog::open(file, KIND, durable_end, rewritten, |payloads| {
            catalog = replay(&path, payloads)?;
            Ok(())
        })?;
        let rewritten_bytes = opened.payloads.first().map_or(0, |first| first.len() as u64);
        let mut manifest = Self { fs, dir: dir.into(), number, log: opened.log, rewritten_bytes, catalog };
        let older: Vec<u64> = names.iter().filter_map(|name| number_of(name)).filter(|old| *old < number).collect();
        if rewritten && !older.is_empty() {
            // The sync that failed may be the one that was to make this name durable, and no later one does. The older
            // files stay until there is a name that is.
            manifest.succeed()?;
        }
        for old in older {
            manifest.fs.remove(&self::path(dir, old))?;
        }
        Ok((manifest, opened.cut_bytes))
    }

    /// What it says.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The file and its end.
    pub(crate) fn file(&self) -> (Arc<dyn File>, u64) {
        self.log.position()
    }

    /// File number and end, all of it durable after a commit.
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.number, self.log.end())
    }

    /// Makes `edits` durable, all or none, and applies them.
    pub(crate) fn commit(&mut self, edits: Vec<Edit>) -> std::result::Result<(), CommitError> {
        let mut next = self.catalog.clone();
        for edit in edits.iter().cloned() {
            next.apply(edit).map_err(|reason| CommitError::Refused(Error::corrupted(self.log.path(), 0, reason)))?;
        }
        self.log.append(&encode(edits.into_iter())).map_err(CommitError::Refused)?;
        self.log.sync().map_err(CommitError::Unknown)?;
        self.catalog = next;
        if self.log.end() > REWRITE_BYTES + 4 * self.rewritten_bytes {
            match self.succeed() {
                // Tried again at the next commit; save at the last step, when the file has its name: that is a sync that
                // failed.
                Err(Error::StorageFull { operation, .. }) if operation != SYNCING_DIRECTORY => {}
                other => other.map_err(CommitError::Unknown)?,
            }
        }
        Ok(())
    }

    /// Writes the whole state as the next file, and removes the one before.
    fn succeed(&mut self) -> Result<()> {
        let next = path(&self.dir, self.number + 1);
        let log = FrameLog::create(&*self.fs, &next, KIND, self.number + 1, &encode(self.catalog.edits()))?;
        let old = std::mem::replace(&mut self.log, log);
        self.number += 1;
        self.rewritten_bytes = self.log.end();
        self.fs.remove(old.path())
    }
}
