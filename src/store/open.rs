//! Opening: from what is on disk to a store that takes rows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crossbeam::channel::{Receiver, bounded, unbounded};

use crate::care::inventory::INVENTORY_FILE;
use crate::care::repair::move_files;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::fs::fork::Words;
use crate::ingest::clock::Clock;
use crate::ingest::live_block::Released;
use crate::ingest::pool::BlockPool;
use crate::ingest::recover::{Empty, Found, Known, Recovered, recover};
use crate::maintain::background::{Background, Work};
use crate::maintain::core::Core;
use crate::maintain::counters::Counters;
use crate::maintain::pins::Pins;
use crate::maintain::upkeep::Upkeep;
use crate::model::{Schema, TableId, TableSchema, names, quarantine};
use crate::options::Options;
use crate::snapshot::aside::Partial;
use crate::snapshot::cut::Gate;
use crate::snapshot::last::LastTables;
use crate::snapshot::stint::Stints;
use crate::snapshot::view::Stage;
use crate::snapshot::{Aside, BlockView, TableState, View, ViewCell};
use crate::storage::control::{BlockLife, Control, Ends};
use crate::storage::edit::Edit;
use crate::storage::manifest::{Catalog, Manifest, TableEntry};
use crate::storage::metadata_cache::MetadataCache;
use crate::storage::places::{CONTROL_FILE, POISON_FILE, SERIES_FILE, SPILL_DIR, aside_dir, live_dir, segments_dir};
use crate::storage::segment::Segment;
use crate::storage::segment_writer::parquet_path;
use crate::storage::series_log::{Record, SeriesLog};
use crate::storage::series_table::SeriesTable;

use super::create;
use super::handle::Handle;
use super::quarantine::Quarantine;
use super::salvage::{self, Salvage};
use super::{Inner, Recovery, Store};

impl Store {
    /// Opens a store on any file system.
    pub(crate) fn open_on(fs: Arc<dyn FileSystem>, options: Options, path: &Path) -> Result<Self> {
        check(&options)?;
        let options = options.bounded();
        let path = std::path::absolute(path).map_err(|source| Error::io("finding", path, source))?;
        let names = create::names(&*fs, &path)?;
        if let Some(kind) = fs.copy_on_write(&path)?
            && !options.allow_copy_on_write
        {
            return Err(Error::CopyOnWrite { path, kind });
        }
        let lock = create::lock(&*fs, &path)?;
        if names.iter().any(|name| name == INVENTORY_FILE) {
            // What a backup was when it was made is of no use once it changes.
            fs.remove(&path.join(INVENTORY_FILE))?;
            fs.sync_dir(&path)?;
        }
        let control_path = path.join(CONTROL_FILE);
        let mut salvage = options.salvage.then(|| Salvage::new(fs.clone(), &path));
        let found = Control::open(&*fs, &control_path).and_then(|found| match found {
            Some(found) => Ok(found),
            None => {
                create::create(&fs, &path, &names).inspect_err(|_| {
                    // A sync of the directory that failed may have left a name which no later one makes durable. Made anew
                    // it will be.
                    let _ = fs.remove(&control_path);
                })?;
                let gone = || Error::corrupted(&control_path, 0, "the control page is gone");
                Control::open(&*fs, &control_path)?.ok_or_else(gone)
            }
        });
        let (control, ends) = match (found, &mut salvage) {
            (Err(error @ (Error::Corrupted { .. } | Error::NotAStore { .. })), Some(salvage)) => {
                salvage.control(error, &names)?
            }
            (found, _) => found?,
        };
        let closed = control.closed().into_iter().collect();
        let recovery = Recovery::default();
        let mut opening = Opening { fs, path, options, recovery, limits: Arc::default(), closed, salvage };
        let (core, work, opened) = opening.core(control, ends)?;
        let core = Arc::new(core);
        // Durable before anything is appended: a power loss must not bring back the record of an earlier close.
        core.control.reopen();
        core.control.sync().map_err(|error| core.poison(error))?;
        // Readers in other processes see what was found from here on, and believe it.
        core.show(|_| ())?;
        core.control.set_writer(core.fs.boot_id(), std::process::id())?;
        if let Some(mut salvage) = opening.salvage {
            salvage.segments(&core.repair(&mut |_| ControlFlow::Continue(()))?);
            opening.recovery.segments_aside = core.view.load().segments_aside();
            opening.recovery.left_out = salvage.left_out;
        }
        core.remove_left()?;
        let background = Background::start(&core, work, opened)?;
        for id in full_blocks(&core.view.load()) {
            core.have_sealed(id)?;
        }
        #[cfg(feature = "sql")]
        let engine = {
            let source = Arc::new(super::source::CoreSource(Arc::downgrade(&core)));
            crate::query::Engine::new(
                source,
                core.options.clone(),
                opening.path.join(SPILL_DIR),
                super::source::FUNCTIONS,
            )?
        };
        let recovery = opening.recovery;
        Ok(Self {
            inner: Handle::new(Inner {
                core,
                background,
                recovery,
                quarantine: Quarantine::default(),
                #[cfg(feature = "feed")]
                registry: super::feeds::Registry::default(),
                #[cfg(feature = "feed")]
                ledger: crate::feed::import::ledger::Ledger::default(),
                lock: Mutex::new(Some(lock)),
                #[cfg(feature = "sql")]
                engine,
            }),
        })
    }
}

/// An error for options that cannot hold together.
fn check(options: &Options) -> Result<()> {
    const BLOCK_BYTES_SMALLEST: u64 = 64 << 10;
    const BLOCK_BYTES_LARGEST: u64 = 1 << 30;
    let check = |limit: &'static str, max: u64, found: u64, fine: bool| {
        if fine { Ok(()) } else { Err(Error::LimitExceeded { limit, max, found, place: "options".into() }) }
    };
    let (min, max) = (options.block_bytes_min, options.block_bytes_max);
    let is_block =
        |bytes: u64| bytes.is_power_of_two() && (BLOCK_BYTES_SMALLEST..=BLOCK_BYTES_LARGEST).contains(&bytes);
    check("block_bytes_max", BLOCK_BYTES_LARGEST, max, is_block(max) && max >= min)?;
    check("block_bytes_min", max, min, is_block(min))?;
    check("live_bytes_max", u64::MAX, options.live_bytes_max, options.live_bytes_max >= 2 * min)?;
    check("compact_fan_in", 1 << 10, options.compact_fan_in as u64, (2..=1 << 10).contains(&options.compact_fan_in))?;
    check("seal_partitions_max", 1 << 10, options.seal_partitions_max as u64, options.seal_partitions_max >= 2)
}

fn full_blocks(view: &View) -> Vec<u64> {
    view.blocks().filter(|view| view.stage == Stage::Full).map(|view| view.block.id).collect()
}

/// Makes the table of `schema`, or adds the fields it lacks, if somebody else did not just do so.
pub(super) fn declare(core: &Core, schema: &Schema) -> Result<()> {
    refuse_rollup(&core.view.load(), schema)?;
    let missing =
        |view: &View| view.table(schema.name()).map(|table| (table.schema.clone(), table.schema.missing_from(schema)));
    if let Some((_, fields)) = missing(&core.view.load())
        && fields?.is_empty()
    {
        return Ok(());
    }
    let mut declaring = core.view.lock();
    let view = declaring.view();
    refuse_rollup(&view, schema)?;
    let limit = |limit, max: usize, found: usize| {
        let place = format!("table {:?}", schema.name());
        let error = Error::LimitExceeded { limit, max: max as u64, found: found as u64, place };
        if found <= max { Ok(()) } else { Err(error) }
    };
    match missing(&view) {
        Some((known, fields)) => {
            let fields = fields?;
            if fields.is_empty() {
                return Ok(());
            }
            limit("fields_max", core.options.fields_max, known.fields.len() + fields.len())?;
            let table = known.id;
            let wider = Arc::new(known.with_fields(&fields));
            core.commit_in(&mut declaring, vec![Edit::AddFields { table, fields }], |view| {
                if let Some(table) = view.table_mut(table) {
                    table.schema = wider;
                }
            })
        }
        None => {
            if !names::is_hidden(schema.name()) {
                let tables = view.tables.values().filter(|table| !names::is_hidden(&table.schema.name));
                limit("tables_max", core.options.tables_max, tables.count() + 1)?;
            }
            let id: TableId = view.tables.keys().last().map_or(0, |last| last + 1);
            let made = TableSchema::declared(id, schema);
            let partition_ns = schema.policies.partition.map(crate::model::time::nanos_of);
            let state = table_state(Arc::new(made.clone()), partition_ns, core.partial.clone());
            core.commit_in(&mut declaring, vec![Edit::AddTable(made)], |view| {
                view.tables.insert(id, Arc::new(state));
            })
        }
    }
}

/// An error for a rollup's table: its columns follow from what was declared of the rollup.
fn refuse_rollup(view: &View, schema: &Schema) -> Result<()> {
    match view.table(schema.name()).filter(|table| view.rollups.get(table.schema.id).is_some()) {
        None => Ok(()),
        Some(table) => Err(Error::InvalidRollup {
            rollup: table.schema.name.clone(),
            reason: "it is a rollup, not a table to be declared; use Store::rollup".into(),
        }),
    }
}

pub(super) fn table_state(schema: Arc<TableSchema>, partition_ns: Option<i64>, partial: Arc<Partial>) -> TableState {
    let aside = Aside::new(partial);
    let series = Arc::new(SeriesTable::new(schema.tags.len()));
    TableState { series, schema, partition_ns, segments: Arc::default(), aside, blocks: Vec::new(), stints: 0 }
}

/// A store on its way from disk to memory.
struct Opening {
    fs: Arc<dyn FileSystem>,
    path: std::path::PathBuf,
    options: Options,
    recovery: Recovery,
    limits: Arc<Words>,
    /// Rows of (block, generation) when the store was closed.
    closed: BTreeMap<BlockLife, u64>,
    salvage: Option<Salvage>,
}

impl Opening {
    fn core(&mut self, control: Control, ends: Ends) -> Result<(Core, Receiver<Work>, Receiver<()>)> {
        let names: Vec<String> = self.names(&self.path)?;
        // The last process may have died between giving a name and syncing it. What is found is counted on, so it is made
        // durable first.
        for dir in [self.path.clone(), segments_dir(&self.path), live_dir(&self.path)] {
            self.fs.sync_dir(&dir)?;
        }
        let durable = (ends.manifest_number, ends.manifest_end);
        let was_poisoned = names.iter().any(|name| name == POISON_FILE);
        let found = Manifest::open(self.fs.clone(), &self.path, &names, durable, was_poisoned);
        let (manifest, manifest_cut) = match (found, &mut self.salvage) {
            (Err(error @ Error::Corrupted { .. }), Some(salvage)) => (salvage.manifest(error, &names)?, 0),
            (found, _) => found?,
        };
        let catalog = manifest.catalog().clone();
        let cache = Arc::new(MetadataCache::new(self.options.metadata_cache_bytes_max));
        let partial = Arc::new(Partial::new(self.options.allow_partial));
        let mut tables = self.tables(&catalog, &cache, &partial)?;
        let found = self.series(&catalog, &tables, ends.series_end, was_poisoned);
        let (series_log, series_cut) = match (found, &mut self.salvage) {
            (Err(error @ Error::Corrupted { .. }), Some(salvage)) => {
                salvage.series(&error, &catalog, &tables)?;
                // What of it was read into the old ones is in the way.
                tables = self.tables(&catalog, &cache, &partial)?;
                self.series(&catalog, &tables, 0, false)?
            }
            (found, _) => found?,
        };
        self.finish_moves(&catalog)?;
        let last_pin = control.pin().unwrap_or_default();
        let pins = Pins::open(self.fs.clone(), &self.path, last_pin, self.options.pinned_bytes_max)?;
        let beyond_orphans = self.remove_orphans(&catalog, &pins)?;
        self.remove_spilled()?;
        let (mut blocks, nothing, marks) = self.blocks(&catalog, &tables, was_poisoned)?;
        let pool = BlockPool::new(
            self.fs.clone(),
            live_dir(&self.path),
            self.options.clone(),
            marks.next_block,
            marks.generation.max(catalog.last_generation),
            self.limits.clone(),
        );
        self.recovery = Recovery {
            segments: catalog.segments.len(),
            segments_aside: catalog.aside.len(),
            series: tables.values().map(|table| u64::from(table.series.count())).sum(),
            rows_cut: marks.rows_cut,
            bytes_cut: manifest_cut + series_cut,
            was_poisoned,
            ..Recovery::default()
        };
        let mut clock = catalog.clock.max(ends.clock);
        // As their writers took them, as far as that is known.
        blocks.sort_by_key(|found| found.created_ns);
        for found in blocks {
            clock = clock.max(self.join(found, &catalog, &mut tables, (&pool, &series_log))?);
        }
        if was_poisoned {
            // What was left out is left out for good, and every block that stays was synced by its recovery.
            self.fs.remove(&self.path.join(POISON_FILE))?;
            self.fs.sync_dir(&self.path)?;
        }
        nothing.into_iter().try_for_each(|released| pool.adopt_released(released))?;
        let ((work, to_do), (opened, openings)) = (unbounded(), bounded(1));
        let tables = tables.into_iter().map(|(id, table)| (id, Arc::new(table))).collect();
        let view = View { tables, rollups: catalog.rollups.clone() };
        let core = Core {
            fs: self.fs.clone(),
            path: self.path.clone(),
            options: self.options.clone(),
            pool,
            segment_ids: AtomicU64::new(catalog.next_segment.max(beyond_orphans)),
            manifest: Mutex::new(manifest),
            series_log,
            control,
            view: ViewCell::new(view),
            gate: Gate::default(),
            clock: Arc::new(Clock::after(clock, self.options.wall.clone())),
            cache,
            last: Arc::new(LastTables::new(self.options.last_bytes_max)),
            counters: Counters::default(),
            partial,
            sealing: Mutex::default(),
            ended: AtomicBool::new(false),
            sealed: Condvar::new(),
            pins,
            work,
            opened,
            upkeep: Upkeep::default(),
            sketches: super::rollup::SKETCHES,
        };
        Ok((core, to_do, openings))
    }

    fn names(&self, dir: &Path) -> Result<Vec<String>> {
        let entries = self.fs.read_dir(dir)?;
        let missing = || Error::corrupted(dir, 0, "the directory is gone");
        Ok(entries.ok_or_else(missing)?.into_iter().filter(|entry| entry.is_file).map(|entry| entry.name).collect())
    }

    /// A table's schema as of this open: how long the quarantine keeps rows is an option.
    fn schema(&self, stored: &Arc<TableSchema>) -> Arc<TableSchema> {
        if stored.name != quarantine::TABLE {
            return stored.clone();
        }
        let mut schema = (**stored).clone();
        schema.policies.retention = Some(self.options.quarantine_retention);
        Arc::new(schema)
    }

    fn tables(
        &self,
        catalog: &Catalog,
        cache: &Arc<MetadataCache>,
        partial: &Arc<Partial>,
    ) -> Result<BTreeMap<TableId, TableState>> {
        let state = |entry: &TableEntry| table_state(self.schema(&entry.schema), entry.partition_ns, partial.clone());
        let mut tables: BTreeMap<_, _> = catalog.tables.iter().map(|(id, entry)| (*id, state(entry))).collect();
        for meta in catalog.segments.values() {
            let is_aside = catalog.aside.contains(&meta.id);
            let dir = if is_aside { aside_dir(&self.path) } else { segments_dir(&self.path) };
            let unknown = || Error::corrupted(&parquet_path(&dir, meta.id), 0, format!("no table {}", meta.table));
            let table = tables.get_mut(&meta.table).ok_or_else(unknown)?;
            let segment = Segment::new(meta.clone(), self.fs.clone(), &dir, cache.clone());
            let segments = if is_aside { &mut table.aside.segments } else { &mut table.segments };
            Arc::make_mut(segments).push(Arc::new(segment));
        }
        Ok(tables)
    }

    /// Moves files of segments that went aside, or did not come back, before the last process died.
    fn finish_moves(&self, catalog: &Catalog) -> Result<()> {
        let (segments, aside) = (segments_dir(&self.path), aside_dir(&self.path));
        if catalog.aside.is_empty() {
            return Ok(());
        }
        self.fs.create_dir(&aside)?;
        catalog.aside.iter().try_for_each(|id| move_files(&*self.fs, &segments, &aside, *id))
    }

    /// Replays the series log into the tables, and checks that no series is missing that the manifest counts.
    fn series(
        &self,
        catalog: &Catalog,
        tables: &BTreeMap<TableId, TableState>,
        durable_end: u64,
        rewritten: bool,
    ) -> Result<(SeriesLog, u64)> {
        let path = self.path.join(SERIES_FILE);
        let gone = || Error::corrupted(&path, 0, "the series log is gone");
        let file = self.fs.open(&path)?.ok_or_else(gone)?;
        SeriesLog::open(file, durable_end, rewritten, |payloads| {
            for (index, payload) in payloads.iter().enumerate() {
                let damaged = |what: &str| SeriesLog::damaged(&path, format!("record {}: {what}", index + 1));
                let mut record = Record::decode(payload).ok_or_else(|| damaged("it cannot be read"))?;
                let table = tables.get(&record.table).ok_or_else(|| damaged("it is of a table that does not exist"))?;
                table.series.replay(&mut record).ok_or_else(|| damaged("it does not follow the one before"))?;
            }
            for (id, entry) in &catalog.tables {
                let found = tables.get(id).map_or(0, |table| table.series.count());
                if found < entry.series {
                    let name = &entry.schema.name;
                    let reason = format!("it has {found} series of {name:?}, the manifest {}", entry.series);
                    return Err(SeriesLog::damaged(&path, reason));
                }
            }
            Ok(())
        })
    }

    /// Removes what a seal wrote and did not commit, and what a former life had taken out, once nobody reads it.
    ///
    /// Returns the first segment id beyond theirs. **Invariant:** no segment gets the id of a file that waits to be removed;
    /// the manifest does not know of ids that were never committed.
    fn remove_orphans(&self, catalog: &Catalog, pins: &Pins) -> Result<u64> {
        let dir = segments_dir(&self.path);
        let id = |name: &str| name.split('.').next().and_then(|id| id.parse::<u64>().ok());
        let wanted = |name: &str| {
            id(name).is_some_and(|id| catalog.segments.contains_key(&id))
                && (name.ends_with(".parquet") || name.ends_with(".series"))
        };
        let names = self.names(&dir)?;
        pins.keep(names.iter().filter(|name| !wanted(name)).map(|name| dir.join(name)).collect())?;
        Ok(names.iter().filter_map(|name| id(name)).max().map_or(0, |id| id.saturating_add(1)))
    }

    /// Removes what queries of a killed process had spilled.
    fn remove_spilled(&self) -> Result<()> {
        self.fs.remove_dir(&self.path.join(SPILL_DIR))
    }

    /// Looks at every live block file: those with rows, those without, and the highest numbers seen.
    fn blocks(
        &mut self,
        catalog: &Catalog,
        tables: &BTreeMap<TableId, TableState>,
        was_poisoned: bool,
    ) -> Result<(Vec<Recovered>, Vec<Released>, Marks)> {
        let dir = live_dir(&self.path);
        let sealed = |block: u64, generation: u64| match catalog.seals.get(&block) {
            Some(sealed) if sealed.generation == generation => {
                (usize::try_from(sealed.rows).unwrap_or(usize::MAX), sealed.done)
            }
            _ => (0, false),
        };
        let table = |id: TableId| tables.get(&id).map(|table| table.schema.clone());
        let known_closed = self.closed.clone();
        let closed = |block, generation| known_closed.get(&(block, generation)).copied();
        let limits = self.limits.clone();
        let known = Known {
            boot_id: self.fs.boot_id(),
            sealed: &sealed,
            table: &table,
            closed: &closed,
            limits: &limits,
            salvage: false,
        };
        let (mut blocks, mut nothing, mut marks) = (Vec::new(), Vec::new(), Marks::default());
        marks.generation = self.closed.keys().map(|(_, generation)| *generation).max().unwrap_or(0);
        let mut names = self.names(&dir)?;
        names.sort_unstable();
        let (mut seen, mut unwanted) = (BTreeMap::new(), Vec::new());
        for name in names {
            let path = dir.join(&name);
            let Some(id) = name.strip_suffix(".block").and_then(|id| id.parse::<u64>().ok()) else {
                return Err(Error::corrupted(&path, 0, "this is not the name of a live block"));
            };
            marks.next_block = marks.next_block.max(id + 1);
            let Some(file) = self.fs.open(&path)? else { continue };
            let found = match (recover(file.clone(), &known, was_poisoned), &mut self.salvage) {
                (Err(error @ Error::Corrupted { .. }), Some(salvage)) => {
                    salvage.block(&error, file, &known, was_poisoned)?.unwrap_or(Found::Unfinished)
                }
                (found, _) => found?,
            };
            match found {
                Found::Block(found) => {
                    marks.generation = marks.generation.max(found.block.generation);
                    seen.insert(id, found.block.generation);
                    blocks.push(found);
                }
                Found::Nothing(released, empty) => {
                    marks.empty(&empty);
                    seen.insert(id, empty.generation);
                    nothing.push(released);
                }
                Found::Spoiled(empty) => {
                    marks.empty(&empty);
                    seen.insert(id, empty.generation);
                    unwanted.push(path);
                }
                Found::Unfinished => unwanted.push(path),
            }
        }
        self.missing(&dir, &seen, catalog)?;
        unwanted.iter().try_for_each(|path| self.fs.remove(path))?;
        if !unwanted.is_empty() {
            // Before the poison goes: the name of a file with rows that were cut must not come back with a power loss.
            self.fs.sync_dir(&dir)?;
        }
        Ok((blocks, nothing, marks))
    }

    /// An error if the store was closed with rows in a block that is gone. Which rows blocks that are there must have, their
    /// recovery asks.
    fn missing(&mut self, dir: &Path, seen: &BTreeMap<u64, u64>, catalog: &Catalog) -> Result<()> {
        for ((block, generation), rows) in &self.closed {
            let path = BlockPool::path(dir, *block);
            let left = rows - catalog.sealed_of(*block, *generation, *rows);
            if seen.get(block).is_some_and(|seen| seen >= generation) || left == 0 {
                continue;
            }
            let error = Error::corrupted(&path, 0, format!("the store was closed with {left} rows in this block"));
            match &mut self.salvage {
                Some(salvage) => salvage.missing_block(&path, left, &error),
                None => return Err(error),
            }
        }
        Ok(())
    }

    /// Puts a block with rows where it belongs, and gives the latest clock reading in it.
    fn join(
        &mut self,
        found: Recovered,
        catalog: &Catalog,
        tables: &mut BTreeMap<TableId, TableState>,
        (pool, series_log): (&BlockPool, &SeriesLog),
    ) -> Result<u64> {
        let Recovered { block, sound, rows_cut, .. } = found;
        let rows = block.rows();
        let sealed = catalog.seals.get(&block.id).filter(|sealed| sealed.generation == block.generation);
        let sealed_rows = sealed.map_or(0, |sealed| usize::try_from(sealed.rows).unwrap_or(usize::MAX).min(rows));
        let Some(table) = tables.get_mut(&block.schema.id) else {
            return Err(Error::corrupted(block.file.path(), 0, "a block of no table"));
        };
        let highest = block.series(sealed_rows..rows).iter().max().copied();
        let count = table.series.count();
        if let Some(highest) = highest.filter(|highest| *highest >= count) {
            let Some(salvage) = &mut self.salvage else {
                let reason = format!("series {highest} of {:?}, and the log has {count}", table.schema.name);
                return Err(Error::corrupted(block.file.path(), block.layout.series as u64, reason));
            };
            salvage.lost_series(block.file.path(), &table.schema.name, count..highest + 1);
            for id in count..=highest {
                let tags = salvage::lost_tags(id, table.schema.tags.len());
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                table.series.resolve(&table.schema, series_log, &self.options, &tags)?;
            }
        }
        let clock = block.clocks(sealed_rows..rows).and_then(|clocks| clocks.iter().max().copied());
        self.recovery.rows_cut += rows_cut;
        self.recovery.live_rows += (rows - sealed_rows) as u64;
        self.recovery.live_blocks += 1;
        let goes_on = sound && rows < block.layout.capacity && block.layout.fields.len() == table.schema.fields.len();
        let stage = if goes_on { Stage::Waiting } else { Stage::Full };
        pool.adopt(&block);
        let mut stints = Stints::begun(table.next_stint());
        stints.end(table.next_stint(), rows);
        table.blocks.push(BlockView { block, sealed_rows, stage, stints, since: Instant::now() });
        Ok(clock.unwrap_or_default())
    }
}

/// The highest numbers seen on disk, and rows cut of blocks that keep none.
struct Marks {
    next_block: u64,
    generation: u64,
    rows_cut: u64,
}

impl Marks {
    fn empty(&mut self, empty: &Empty) {
        self.generation = self.generation.max(empty.generation);
        self.rows_cut += empty.rows_cut;
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self { next_block: 1, generation: 0, rows_cut: 0 }
    }
}
