//! Opening a store that is damaged: what can be read is kept, what cannot is kept aside, and said.
//!
//! **Invariant:** nothing is deleted. A damaged file is copied or moved to `aside/`, durably, before anything else is done
//! to it or takes its place.
//!
//! **Invariant:** no row is there twice. Of a damaged manifest the frames before the damage count, which are a state that
//! the store once had: a row of a segment that this state names is below the sealed rows of its block, and segments that
//! came later lie aside, whether their rows are in a block still or not.
//!
//! A salvage that is cut short leaves a store that still says that it is damaged, until the last of its files is mended; the
//! next one begins again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::care::Repair;
use crate::error::{Error, Result};
use crate::fs::{File, FileSystem};
use crate::ingest::recover::{Empty, Found, Known, recover};
use crate::model::TableId;
use crate::snapshot::TableState;
use crate::storage::control::{Control, Ends};
use crate::storage::manifest::{self, Catalog, Manifest};
use crate::storage::places::{CONTROL_FILE, MANIFEST_PREFIX, SERIES_FILE, aside_dir, segments_dir};
use crate::storage::segment_writer::{index_path, parquet_path};
use crate::storage::series_index;
use crate::storage::series_log::{Record, SeriesLog};

use super::LeftOut;
use super::create::store_id;

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What a salvage has kept and left out so far.
pub(super) struct Salvage {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    pub(super) left_out: Vec<LeftOut>,
}

/// How much of a file is left out.
#[derive(Default)]
struct Lost {
    table: Option<String>,
    rows: u64,
    bytes: u64,
}

/// The tags of a series whose record is lost.
pub(super) fn lost_tags(id: u32, tags: usize) -> Vec<String> {
    vec![format!("lost-{id}"); tags]
}

impl Salvage {
    pub(super) fn new(fs: Arc<dyn FileSystem>, path: &Path) -> Self {
        Self { fs, path: path.into(), left_out: Vec::new() }
    }

    /// A free name in `aside/` for a file.
    fn place(&self, file: &Path) -> Result<PathBuf> {
        let dir = aside_dir(&self.path);
        self.fs.create_dir(&dir)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut number = 1;
        let mut place = dir.join(&name);
        while self.fs.open(&place)?.is_some() {
            number += 1;
            place = dir.join(format!("{name}.{number}"));
        }
        Ok(place)
    }

    /// Copies a file to `aside/`, durably.
    fn copy(&self, file: &dyn File) -> Result<PathBuf> {
        let place = self.place(file.path())?;
        let copy = self.fs.create(&place)?;
        let len = file.len()?;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < len {
            let chunk = buffer.split_at_mut(usize::try_from(len - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)).0;
            if file.read_at(chunk, at).is_err() {
                // A bad sector: the pieces around it are worth keeping.
                for (piece, bytes) in (0..).zip(chunk.chunks_mut(crate::fs::PAGE_BYTES)) {
                    if file.read_at(bytes, at + piece * crate::fs::PAGE_BYTES as u64).is_err() {
                        bytes.fill(0);
                    }
                }
            }
            copy.write_at(chunk, at)?;
            at += chunk.len() as u64;
        }
        copy.sync_data()?;
        self.fs.sync_dir(&aside_dir(&self.path))?;
        Ok(place)
    }

    /// Notes what of a file is left out.
    fn note(&mut self, path: &Path, kept: Option<PathBuf>, lost: Lost, reason: impl Into<String>) {
        let Lost { table, rows, bytes } = lost;
        let left_out = LeftOut { path: path.into(), kept, table, rows, bytes, reason: reason.into() };
        tracing::warn!(%left_out, "left out by a salvage");
        self.left_out.push(left_out);
    }

    /// A control page in the place of one that cannot be read, if what it is the page of is there.
    pub(super) fn control(&mut self, error: Error, names: &[String]) -> Result<(Control, Ends)> {
        let path = self.path.join(CONTROL_FILE);
        if !names.iter().any(|name| name.starts_with(MANIFEST_PREFIX)) {
            let reason = format!("{}, and there is no manifest by which anything could be kept", reason_of(&error));
            return Err(Error::corrupted(&path, 0, reason));
        }
        let (mut kept, mut bytes) = (None, 0);
        if let Some(file) = self.fs.open(&path)? {
            (kept, bytes) = (Some(self.copy(&*file)?), file.len()?);
        }
        Control::create(&*self.fs, &path, store_id(&self.path))?;
        let reason = format!("{}; what the logs say of their own ends counts", reason_of(&error));
        self.note(&path, kept, Lost { bytes, ..Lost::default() }, reason);
        let gone = || Error::corrupted(&path, 0, "the control page is gone");
        Control::open(&*self.fs, &path)?.ok_or_else(gone)
    }

    /// A manifest of the state before the damage. Segments that it does not name go aside first: the next open would take
    /// them for what a seal had not committed.
    pub(super) fn manifest(&mut self, error: Error, names: &[String]) -> Result<Manifest> {
        let Some(remains) = manifest::remains(&*self.fs, &self.path, names)? else { return Err(error) };
        let mut catalog = remains.catalog;
        let highest = self.move_segments(&catalog)?;
        catalog.next_segment = catalog.next_segment.max(highest + 1);
        let reason = format!("{}; the changes from there on are lost", reason_of(&error));
        let kept = self.copy(&*self.fs.open(&remains.path)?.ok_or(error)?)?;
        let manifest = Manifest::write_as(self.fs.clone(), &self.path, remains.number + 1, catalog)?;
        self.fs.remove(&remains.path)?;
        self.note(&remains.path, Some(kept), Lost { bytes: remains.lost_bytes, ..Lost::default() }, reason);
        Ok(manifest)
    }

    /// Moves segments aside that `catalog` does not name, and gives the highest number of any.
    fn move_segments(&mut self, catalog: &Catalog) -> Result<u64> {
        let (dir, aside) = (segments_dir(&self.path), aside_dir(&self.path));
        let mut highest = 0;
        for dir in [&dir, &aside] {
            let entries = self.fs.read_dir(dir)?.unwrap_or_default();
            highest = entries.iter().filter_map(|entry| number_of(&entry.name)).fold(highest, u64::max);
        }
        let entries = self.fs.read_dir(&dir)?.unwrap_or_default();
        let unnamed = |id: &u64| !catalog.segments.contains_key(id);
        let ids: BTreeSet<u64> = entries.iter().filter_map(|entry| number_of(&entry.name)).filter(unnamed).collect();
        for id in ids {
            let index = self.fs.open(&index_path(&dir, id))?.map(|file| crate::fs::read_all(&*file)).transpose()?;
            let rows = index.map_or(0, |index| rows_of(&index_path(&dir, id), id, &index));
            for path in [index_path(&dir, id), parquet_path(&dir, id)] {
                let Some(file) = self.fs.open(&path)? else { continue };
                let (bytes, place) = (file.len()?, self.place(&path)?);
                self.fs.rename(&path, &place)?;
                if path.extension().is_some_and(|extension| extension == "parquet") {
                    let reason = "no manifest names this segment; any tool reads it if its rows are missed";
                    self.note(&path, Some(place), Lost { rows, bytes, table: None }, reason);
                }
            }
        }
        self.fs.sync_dir(&aside).or_else(|error| if self.left_out.is_empty() { Ok(()) } else { Err(error) })?;
        self.fs.sync_dir(&dir)?;
        Ok(highest)
    }

    /// A series log of what can be read of a damaged one. Tags that are lost are looked for in segments; a series that has
    /// none gets made-up ones, so that its rows are not lost too.
    pub(super) fn series(
        &mut self,
        error: &Error,
        catalog: &Catalog,
        tables: &BTreeMap<TableId, TableState>,
    ) -> Result<()> {
        let path = self.path.join(SERIES_FILE);
        let file = self.fs.open(&path)?;
        let bytes = file.as_ref().map_or(Ok(Vec::new()), |file| crate::fs::read_all(&**file))?;
        let kept = file.map(|file| self.copy(&*file)).transpose()?;
        let (payloads, lost_bytes) = SeriesLog::remains(&bytes);
        let mut known = series_of(&payloads, catalog);
        let mut reason = reason_of(error);
        for (id, entry) in &catalog.tables {
            let series = known.entry(*id).or_default();
            let count = series.last_key_value().map_or(0, |(last, _)| last + 1).max(entry.series);
            let mut missing: BTreeSet<u32> = (0..count).filter(|id| !series.contains_key(id)).collect();
            let segments = tables.get(id).map(|table| table.segments.clone()).unwrap_or_default();
            for segment in segments.iter() {
                if missing.is_empty() {
                    break;
                }
                // A damaged one is set aside later.
                let found = segment.tags_of(&entry.schema, &missing).unwrap_or_default();
                missing.retain(|id| !found.contains_key(id));
                series.extend(found);
            }
            if !missing.is_empty() {
                reason += &format!("; {} series of table {:?} lost their tags", missing.len(), entry.schema.name);
                reason += &format!(", such as lost-{}", missing.first().copied().unwrap_or_default());
            }
            series.extend(missing.into_iter().map(|id| (id, lost_tags(id, entry.schema.tags.len()))));
        }
        let all =
            known.iter().flat_map(|(table, series)| series.iter().map(|(id, tags)| (*table, *id, tags.as_slice())));
        SeriesLog::replace(&*self.fs, &path, all)?;
        self.note(&path, kept, Lost { bytes: lost_bytes, ..Lost::default() }, reason);
        Ok(())
    }

    /// What a commit entry still vouches for of a damaged block; the file as it was lies aside.
    pub(super) fn block(
        &mut self,
        error: &Error,
        file: Arc<dyn File>,
        known: &Known<'_>,
        was_poisoned: bool,
    ) -> Result<Option<Found>> {
        let path = file.path().to_path_buf();
        let kept = self.copy(&*file)?;
        let bytes = file.len()?;
        let known = Known { salvage: true, ..*known };
        match recover(file, &known, was_poisoned) {
            Ok(Found::Block(mut found)) => {
                let (block, rows) = (&found.block, found.block.rows() as u64);
                let closed = (known.closed)(block.id, block.generation).unwrap_or(0);
                let table = Some(block.schema.name.clone());
                let rows = found.rows_cut.max(closed.saturating_sub(rows));
                self.note(&path, Some(kept), Lost { table, rows, bytes }, reason_of(error));
                found.rows_cut = 0;
                Ok(Some(Found::Block(found)))
            }
            Ok(Found::Nothing(_, empty) | Found::Spoiled(empty)) => {
                let rows = empty.rows_cut.max((known.closed)(empty.block, empty.generation).unwrap_or(0));
                self.note(&path, Some(kept), Lost { rows, bytes, table: None }, reason_of(error));
                Ok(Some(Found::Spoiled(Empty { rows_cut: 0, ..empty })))
            }
            Ok(Found::Unfinished) | Err(_) => {
                self.note(&path, Some(kept), Lost { bytes, ..Lost::default() }, reason_of(error));
                Ok(None)
            }
        }
    }

    /// A block that should be there and is not.
    pub(super) fn missing_block(&mut self, path: &Path, rows: u64, error: &Error) {
        match self.left_out.iter_mut().find(|left_out| left_out.path == path) {
            Some(left_out) => left_out.rows = left_out.rows.max(rows),
            None => self.note(path, None, Lost { rows, ..Lost::default() }, reason_of(error)),
        }
    }

    /// Rows of series that the log does not have.
    pub(super) fn lost_series(&mut self, path: &Path, table: &str, series: std::ops::Range<u32>) {
        let reason = format!("the tags of {} series are lost, such as lost-{}", series.len(), series.start);
        self.note(path, None, Lost { table: Some(table.into()), ..Lost::default() }, reason);
    }

    /// What repairing segments set aside or could do nothing about.
    pub(super) fn segments(&mut self, repair: &Repair) {
        for damage in &repair.found.damages {
            let aside = |path: &Path| path.file_name().map(|name| aside_dir(&self.path).join(name));
            let rebuilt = repair.mended.iter().any(|mended| {
                Some(mended.segment) == damage.segment && mended.how == crate::care::Mending::IndexRebuilt
            });
            if rebuilt || self.left_out.iter().any(|left_out| left_out.path == damage.path) {
                continue;
            }
            let kept = aside(&damage.path).filter(|path| self.fs.open(path).is_ok_and(|file| file.is_some()));
            let set_aside = repair.mended.iter().find(|mended| Some(mended.segment) == damage.segment);
            let rows = set_aside.map_or(damage.rows, |mended| mended.rows);
            let lost = Lost { table: damage.table.clone(), rows, bytes: 0 };
            self.note(&damage.path, kept, lost, damage.reason.clone());
        }
    }
}

fn reason_of(error: &Error) -> String {
    match error {
        Error::Corrupted { offset, reason, .. } => format!("damaged at byte {offset}: {reason}"),
        other => other.to_string(),
    }
}

/// Rows of a segment, as its index says; 0 if that is damaged.
fn rows_of(path: &Path, segment: u64, index: &[u8]) -> u64 {
    let proven = series_index::proven_bytes(path, index).ok().and_then(|len| index.get(..len));
    let index = proven.and_then(|proven| series_index::decode(path, segment, proven).ok());
    index.map_or(0, |index| index.ranges.iter().map(|range| range.rows).sum())
}

/// The number of a segment's file.
fn number_of(name: &str) -> Option<u64> {
    name.split_once('.').and_then(|(number, _)| number.parse().ok())
}

/// The tags by table and id that records say, of tables that there are.
fn series_of(payloads: &[Vec<u8>], catalog: &Catalog) -> BTreeMap<TableId, BTreeMap<u32, Vec<String>>> {
    let mut known: BTreeMap<TableId, BTreeMap<u32, Vec<String>>> = BTreeMap::new();
    for payload in payloads {
        let Some(mut record) = Record::decode(payload) else { continue };
        let Some(entry) = catalog.tables.get(&record.table) else { continue };
        for id in record.first..record.first.saturating_add(record.count) {
            let tags: Option<Vec<String>> =
                entry.schema.tags.iter().map(|_| record.value().map(str::to_string)).collect();
            let Some(tags) = tags else { break };
            known.entry(record.table).or_default().insert(id, tags);
        }
    }
    known
}
