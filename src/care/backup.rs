//! A copy of the whole store at one moment, while it is written.
//!
//! **Invariant (one moment):** the copy has what a snapshot of that moment has. View, manifest and counts are read under the
//! lock that changes the view, the counts as one moment, and the series log's end after them.
//!
//! **Invariant:** a backup that was cut short is never taken for a store. A file that says so is there, durably, before
//! anything else and until all else is durable, and nothing opens a directory that has it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::fs::{self, FileSystem};
use crate::ingest::live_block::LiveBlock;
use crate::ingest::pool::BlockPool;
use crate::maintain::core::Core;
use crate::snapshot::{Segment, TableState, cut};
use crate::storage::control::{Control, Ends};
use crate::storage::manifest::{Catalog, Manifest};
use crate::storage::places::{ASIDE_DIR, CONTROL_FILE, LIVE_DIR, SEGMENTS_DIR, SERIES_FILE, aside_dir, segments_dir};

use super::inventory;
use super::progress::{Meter, Report};
use super::units::{Bytes, Count};
use super::verify::Log;

/// Name of the file that marks a backup that is not finished.
pub(crate) const UNFINISHED_FILE: &str = "backup.unfinished";
const CHUNK_BYTES: usize = 1 << 20;

/// What [`Store::backup`](crate::Store::backup) wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Where it is.
    pub path: PathBuf,
    /// Tables in it.
    pub tables: u64,
    /// Rows in it.
    pub rows: u64,
    /// Those of them that were not in a segment yet.
    pub live_rows: u64,
    /// Segments in it.
    pub segments: u64,
    /// Damaged segments that had been set aside, carried along.
    pub segments_aside: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Those of them that take room of their own; the rest is shared with the store by hard links.
    pub copied_bytes: u64,
}

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, tables, rows, segments, bytes, copied_bytes, .. } = self;
        write!(f, "{}: {tables} tables, {} rows, {segments} segments, ", path.display(), Count(*rows))?;
        write!(f, "{}, of which {} are copies", Bytes(*bytes), Bytes(*copied_bytes))
    }
}

/// One moment of the store, and the files that have it.
struct Cut {
    catalog: Catalog,
    series: Log,
    clock: u64,
    /// Blocks with rows that no segment has, with the rows of each that count.
    blocks: Vec<(Arc<LiveBlock>, usize)>,
    live_rows: u64,
    segments: Vec<Arc<Segment>>,
    aside: Vec<Arc<Segment>>,
}

impl Core {
    /// Copies the store of this moment to the empty or absent directory `to`, as a store of its own named `store_id`.
    pub(crate) fn backup<'a>(&self, to: &Path, store_id: [u8; 16], report: &'a mut Report<'a>) -> Result<Backup> {
        if !self.fs.read_dir(to)?.unwrap_or_default().is_empty() {
            return Err(Error::NotEmpty { path: to.into() });
        }
        self.fs.create_dir(to)?;
        let marker = to.join(UNFINISHED_FILE);
        self.fs.create(&marker)?.sync_data()?;
        self.fs.sync_dir(to)?;
        for dir in [LIVE_DIR, SEGMENTS_DIR] {
            self.fs.create_dir(&to.join(dir))?;
        }
        let copied = self.copy(to, store_id, report)?;
        self.fs.sync_dir(to)?;
        self.fs.remove(&marker)?;
        self.fs.sync_dir(to)?;
        Ok(copied)
    }

    fn cut(&self) -> Cut {
        let changing = self.view.lock();
        let manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let (view, counts) = cut::take(&self.view, &self.gate);
        let (file, end) = self.series_log.position();
        let clock = self.clock.last();
        let mut catalog = manifest.catalog().clone();
        drop((manifest, changing));
        let blocks = view.blocks().zip(counts).filter(|(view, rows)| *rows > view.sealed_rows);
        let (mut kept, mut live_rows) = (Vec::new(), 0);
        for (view, rows) in blocks {
            live_rows += (rows - view.sealed_rows) as u64;
            kept.push((view.block.clone(), rows));
        }
        // What was sealed of other blocks is in segments, and their files are not in the copy.
        catalog.seals.retain(|id, _| kept.iter().any(|(block, _)| block.id == *id));
        catalog.clock = catalog.clock.max(clock);
        let list = |of: fn(&TableState) -> &Arc<Vec<Arc<Segment>>>| {
            view.tables.values().flat_map(|table| of(table).iter().cloned()).collect()
        };
        Cut {
            catalog,
            series: Log { file, end },
            clock,
            blocks: kept,
            live_rows,
            segments: list(|table| &table.segments),
            aside: list(|table| &table.aside.segments),
        }
    }

    fn copy<'a>(&self, to: &Path, store_id: [u8; 16], report: &'a mut Report<'a>) -> Result<Backup> {
        let Cut { catalog, series, clock, blocks, live_rows, segments, aside } = self.cut();
        let bytes_of = |segments: &[Arc<Segment>]| {
            segments.iter().map(|segment| segment.meta.bytes + segment.meta.index_bytes).sum::<u64>()
        };
        let blocks_bytes = blocks.iter().map(|(block, _)| block.layout.file_bytes as u64).sum::<u64>();
        let mut meter = Meter::new("backup", blocks_bytes + bytes_of(&segments) + series.end, report);
        let mut made = Backup {
            path: to.into(),
            tables: catalog.tables.len() as u64,
            rows: live_rows + segments.iter().map(|segment| segment.meta.rows).sum::<u64>(),
            live_rows,
            segments: segments.len() as u64,
            segments_aside: aside.len() as u64,
            ..Backup::default()
        };
        let mut names = Vec::new();
        let (mut live, mut blocks_copied) = (Vec::new(), 0);
        // First, and each let go at once: a block that is held cannot be recycled.
        for (block, rows) in blocks {
            let path = BlockPool::path(&to.join(LIVE_DIR), block.id);
            blocks_copied += block.copy_to(rows, &*self.fs.create(&path)?)?;
            live.push((block.id, block.generation));
            names.extend(path.strip_prefix(to).ok().and_then(Path::to_str).map(str::to_string));
            meter.advance(&path, block.layout.file_bytes as u64)?;
        }
        self.fs.sync_dir(&to.join(LIVE_DIR))?;
        for segment in &segments {
            made.copied_bytes += self.copy_segment(segment, &segments_dir(to))?;
            made.bytes += segment.meta.bytes + segment.meta.index_bytes;
            meter.advance(segment.path(), segment.meta.bytes + segment.meta.index_bytes)?;
        }
        self.fs.sync_dir(&segments_dir(to))?;
        if !aside.is_empty() {
            self.fs.create_dir(&to.join(ASIDE_DIR))?;
            for segment in &aside {
                made.copied_bytes += self.copy_segment(segment, &aside_dir(to))?;
                made.bytes += segment.meta.bytes + segment.meta.index_bytes;
            }
            self.fs.sync_dir(&aside_dir(to))?;
        }
        fs::publish(&*self.fs, &to.join(SERIES_FILE), &series.read()?)?;
        meter.advance(series.file.path(), series.end)?;
        let manifest = Manifest::write(self.fs.clone(), to, catalog)?;
        let (manifest_number, manifest_end) = manifest.position();
        let control = Control::create(&*self.fs, &to.join(CONTROL_FILE), store_id)?;
        let series_end = series.end;
        control.publish(Ends { manifest_number, manifest_end, series_end, clock }, 0, live.into_iter());
        control.sync()?;
        let manifest = manifest.file().0.path().to_path_buf();
        let rest = [to.join(CONTROL_FILE), to.join(SERIES_FILE), manifest];
        names.extend(rest.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_string)));
        let mut own = blocks_copied + inventory::write(&*self.fs, to, &names)?;
        for path in &rest {
            own += self.fs.open(path)?.map_or(Ok(0), |file| file.len())?;
        }
        made.copied_bytes += own;
        made.bytes += own;
        Ok(made)
    }

    /// Links a segment's files into `dir`, or copies them to another file system. Gives the bytes that were copied.
    fn copy_segment(&self, segment: &Segment, dir: &Path) -> Result<u64> {
        let mut copied = 0;
        for from in [segment.path(), segment.index_path()] {
            let Some(name) = from.file_name() else { continue };
            let to = dir.join(name);
            if !self.fs.link(from, &to)? {
                copied += copy_file(&*self.fs, from, &to)?;
            }
        }
        Ok(copied)
    }
}

/// Copies a file, durably save for its name. One that is gone is left out: verifying will say so.
fn copy_file(fs: &dyn FileSystem, from: &Path, to: &Path) -> Result<u64> {
    let Some(source) = fs.open(from)? else { return Ok(0) };
    let target = fs.create(to)?;
    let len = source.len()?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < len {
        let size = usize::try_from(len - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let bytes = buffer.split_at_mut(size).0;
        source.read_at(bytes, at)?;
        target.write_at(bytes, at)?;
        at += size as u64;
    }
    target.sync_data()?;
    Ok(len)
}
