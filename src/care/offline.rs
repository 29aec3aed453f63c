//! Verifying a store that nobody has open, and changing nothing of it: also one that does not open.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{File, FileSystem};
use crate::ingest::check::{Checked, check_file};
use crate::model::TableId;
use crate::storage::control::{Control, Ends};
use crate::storage::manifest::{self, Catalog};
use crate::storage::metadata_cache::MetadataCache;
use crate::storage::places::{CONTROL_FILE, LIVE_DIR, SERIES_FILE, segments_dir};
use crate::storage::segment::Segment;
use crate::storage::series_log::{Record, SeriesLog};
use crate::storage::series_table::SeriesTable;

use super::inventory;
use super::progress::Report;
use super::verify::{SegmentOf, Verification, Verifier, bytes_of};

/// A closed store.
struct Closed<'a> {
    fs: &'a Arc<dyn FileSystem>,
    path: &'a Path,
    catalog: Catalog,
    tables: BTreeMap<TableId, Arc<SeriesTable>>,
}

/// Verifies the store at `path`, whose writer's lock the caller has.
pub(crate) fn verify<'a>(fs: &Arc<dyn FileSystem>, path: &Path, report: &'a mut Report<'a>) -> Result<Verification> {
    let control_path = path.join(CONTROL_FILE);
    let control = Control::open(&**fs, &control_path);
    let control = control.and_then(|found| found.ok_or_else(|| gone(&control_path)));
    let ends = control.as_ref().map_or(Ends::default(), |(_, ends)| *ends);
    let names: Vec<String> = names(&**fs, path)?;
    let manifest = manifest::read(&**fs, path, &names, (ends.manifest_number, ends.manifest_end));
    let mut closed =
        Closed { fs, path, catalog: manifest.as_ref().cloned().unwrap_or_default(), tables: BTreeMap::new() };
    let series = closed.series(ends.series_end);
    let blocks = closed.blocks()?;
    let segments = closed.segments();
    let live_bytes = blocks.iter().filter_map(|file| file.len().ok()).sum::<u64>();
    let mut verifier = Verifier::new(live_bytes + bytes_of(&segments), report);
    verifier.aside(closed.catalog.aside.len());
    verifier.note(&control, &control_path, None);
    verifier.note(&manifest, path, None);
    verifier.note(&series, &path.join(SERIES_FILE), None);
    match inventory::read(&**fs, path) {
        Ok(listed) => {
            for entry in listed.into_iter().flatten() {
                let file = path.join(&entry.name);
                verifier.failed(&inventory::check(&**fs, path, &entry), &file, None);
            }
        }
        Err(error) => verifier.failed::<()>(&Err(error), path, None),
    }
    for file in blocks {
        let checked = check_file(&*file, &|block, generation| closed.is_done(block, generation));
        let checked = checked.and_then(|checked| closed.check_table(&*file, checked));
        let sealed_rows = checked.as_ref().ok().and_then(|checked| closed.sealed_rows(checked.as_ref()?));
        verifier.block(checked, file.path(), None, sealed_rows.unwrap_or(0));
        verifier.meter.advance(file.path(), file.len()?)?;
    }
    segments.iter().try_for_each(|segment| verifier.segment(segment))?;
    Ok(verifier.finish())
}

fn gone(path: &Path) -> Error {
    Error::corrupted(path, 0, "the file is gone")
}

fn names(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<String>> {
    let entries = fs.read_dir(dir)?.unwrap_or_default();
    Ok(entries.into_iter().filter(|entry| entry.is_file).map(|entry| entry.name).collect())
}

impl Closed<'_> {
    /// Reads the series log into tables, as opening does. What cannot be read is left out.
    fn series(&mut self, durable_end: u64) -> Result<()> {
        let tags = |entry: &manifest::TableEntry| Arc::new(SeriesTable::new(entry.schema.tags.len()));
        self.tables = self.catalog.tables.iter().map(|(id, entry)| (*id, tags(entry))).collect();
        let path = self.path.join(SERIES_FILE);
        let file = self.fs.open(&path)?.ok_or_else(|| gone(&path))?;
        for payload in SeriesLog::check(&path, &crate::fs::read_all(&*file)?, durable_end)? {
            let damaged = || SeriesLog::damaged(&path, "a record that does not follow the ones before");
            let mut record = Record::decode(&payload).ok_or_else(damaged)?;
            let table = self.tables.get(&record.table).ok_or_else(damaged)?;
            table.replay(&mut record).ok_or_else(damaged)?;
        }
        for (id, entry) in &self.catalog.tables {
            let found = self.tables.get(id).map_or(0, |table| table.count());
            if found < entry.series {
                let reason = format!("it has {found} series of {:?}, the manifest {}", entry.schema.name, entry.series);
                return Err(SeriesLog::damaged(&path, reason));
            }
        }
        Ok(())
    }

    fn segments(&self) -> Vec<SegmentOf> {
        let cache = Arc::new(MetadataCache::new(0));
        let dir = segments_dir(self.path);
        let of = |meta: &crate::storage::edit::SegmentMeta| {
            let entry = self.catalog.tables.get(&meta.table)?;
            let segment = Segment::new(meta.clone(), self.fs.clone(), &dir, cache.clone());
            let series = self.tables.get(&meta.table)?.clone();
            Some(SegmentOf { schema: entry.schema.clone(), series, segment: Arc::new(segment) })
        };
        let read = |meta: &&crate::storage::edit::SegmentMeta| !self.catalog.aside.contains(&meta.id);
        self.catalog.segments.values().filter(read).filter_map(of).collect()
    }

    fn blocks(&self) -> Result<Vec<Arc<dyn File>>> {
        let dir = self.path.join(LIVE_DIR);
        let mut names = names(&**self.fs, &dir)?;
        names.sort_unstable();
        let open = |name: &String| self.fs.open(&dir.join(name)).transpose();
        names.iter().filter(|name| name.ends_with(".block")).filter_map(open).collect()
    }

    /// Whether all rows of a block's life are in segments.
    fn is_done(&self, block: u64, generation: u64) -> bool {
        self.catalog.seals.get(&block).is_some_and(|sealed| sealed.generation == generation && sealed.done)
    }

    fn sealed_rows(&self, checked: &Checked) -> Option<u64> {
        let sealed = self.catalog.seals.get(&checked.block)?;
        (sealed.generation == checked.generation).then_some(sealed.rows)
    }

    fn check_table(&self, file: &dyn File, checked: Option<Checked>) -> Result<Option<Checked>> {
        match checked.and_then(|checked| checked.table) {
            Some(table) if !self.catalog.tables.contains_key(&table) => {
                Err(Error::corrupted(file.path(), 12, format!("table {table} is not in the manifest")))
            }
            _ => Ok(checked),
        }
    }
}
