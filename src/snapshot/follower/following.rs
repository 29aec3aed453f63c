//! What a follower has read so far, and reading on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::fs::File;
use crate::ingest::live_block::LiveBlock;
use crate::ingest::observe::{Known, Observed, observe};
use crate::model::{TableId, TableSchema};
use crate::storage::control::{BlockLife, State};
use crate::storage::frame_log::FrameTail;
use crate::storage::manifest::{Catalog, ManifestTail};
use crate::storage::pin::HeldPin;
use crate::storage::places::{SERIES_FILE, aside_dir, live_dir, segments_dir};
use crate::storage::segment::{Lease, Segment};
use crate::storage::series_log::{Record, SeriesLog};
use crate::storage::series_table::SeriesTable;

use super::super::aside::Aside;
use super::super::stint::Stints;
use super::super::view::Stage;
use super::super::{BlockView, TableState, View};
use super::{Place, Try};

/// How far a follower is.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// The state of the control page that the view shows; `None` of a store that nobody has written since the machine
    /// started, whose view comes from its directory.
    epoch: Option<u64>,
    view: Option<Arc<View>>,
    pin: Option<Arc<HeldPin>>,
    manifest: Option<ManifestTail>,
    series: Option<FrameTail>,
    /// Where the series log ends at least.
    series_end: u64,
    /// Records that were read before the table that they are of.
    records: VecDeque<Vec<u8>>,
    /// By number, and whether it was set aside.
    segments: HashMap<(u64, bool), Arc<Segment>>,
    series_tables: BTreeMap<TableId, Arc<SeriesTable>>,
    blocks: HashMap<(u64, u64), Arc<LiveBlock>>,
    /// The blocks of the state, in its order.
    slots: Vec<(u64, u64)>,
    none: Arc<View>,
}

impl Following {
    pub(super) fn view(&self) -> &Arc<View> {
        self.view.as_ref().unwrap_or(&self.none)
    }

    pub(super) fn pin(&self) -> Option<&Arc<HeldPin>> {
        self.pin.as_ref()
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Drops blocks and pin; snapshots that use them keep them.
    pub(super) fn let_go(&mut self) {
        (self.epoch, self.view, self.pin) = (None, None, None);
        self.blocks.clear();
    }

    /// Begins anew.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Rows of the slots, in the order of the view's blocks.
    pub(super) fn in_order(&self, view: &View, rows: &[u64]) -> Option<Vec<usize>> {
        if rows.len() != self.slots.len() {
            return None;
        }
        let by_block: HashMap<(u64, u64), u64> = self.slots.iter().copied().zip(rows.iter().copied()).collect();
        let rows = |view: &BlockView| by_block.get(&(view.block.id, view.block.generation)).copied();
        // A block of the state that has nothing to show is in no table of the view.
        view.blocks().map(|view| rows(view).and_then(|rows| usize::try_from(rows).ok())).collect()
    }

    /// Makes the view that of the store's present state.
    pub(super) fn catch_up(&mut self, place: &Place) -> Result<Try<()>> {
        let control = &place.control;
        if self.epoch.is_some() && self.epoch == Some(control.epoch()) {
            return Ok(Try::Done(()));
        }
        if !control.is_of(place.fs.boot_id())? {
            return match &self.view {
                // Whoever writes it again says so in the control page.
                Some(_) if self.epoch.is_none() => Ok(Try::Done(())),
                _ => self.read_directory(place).map(Try::Done),
            };
        }
        let Some(state) = control.state() else { return Ok(Try::Changed("its control page changes")) };
        if self.epoch.is_none() && self.view.take().is_some() {
            // What the directory showed has been recovered by a writer since.
            self.forget();
        }
        if let Try::Changed(reason) = self.take_pin(place, &state)? {
            return Ok(Try::Changed(reason));
        }
        if !self.read_manifest(place, &state)? {
            return Ok(Try::Changed("its manifest is succeeded by the next"));
        }
        if !self.look_at_blocks(place, &state)? {
            return Ok(Try::Changed("its blocks are being recycled"));
        }
        self.series_end = state.ends.series_end;
        self.read_series_of(place)?;
        self.slots.clone_from(&state.blocks);
        self.show(place)?;
        self.epoch = Some(state.epoch);
        Ok(Try::Done(()))
    }

    fn take_pin(&mut self, place: &Place, state: &State) -> Result<Try<()>> {
        if self.pin.as_ref().is_some_and(|pin| pin.number == state.pin) {
            return Ok(Try::Done(()));
        }
        let Some(pin) = HeldPin::take(&*place.fs, &place.path, state.pin)? else {
            return Ok(Try::Changed("its pin changes"));
        };
        // The store looks for holders of a pin only after it has moved on to the next.
        if place.control.epoch() != state.epoch {
            return Ok(Try::Changed("its pin changes"));
        }
        self.pin = Some(Arc::new(pin));
        Ok(Try::Done(()))
    }

    fn read_manifest(&mut self, place: &Place, state: &State) -> Result<bool> {
        let number = state.ends.manifest_number;
        if self.manifest.as_ref().is_none_or(|manifest| manifest.number != number) {
            self.manifest = ManifestTail::open(&*place.fs, &place.path, number)?;
        }
        let Some(manifest) = &mut self.manifest else { return Ok(false) };
        manifest.read(Some(state.ends.manifest_end))?;
        Ok(true)
    }

    fn catalog(&self) -> Option<&Catalog> {
        self.manifest.as_ref().map(ManifestTail::catalog)
    }

    fn look_at_blocks(&mut self, place: &Place, state: &State) -> Result<bool> {
        let mut blocks = HashMap::with_capacity(state.blocks.len());
        for id in &state.blocks {
            let known = self.blocks.get(id).filter(|block| !block.is_fixed()).cloned();
            let block = match known {
                Some(block) => Some(block),
                None => self.look_at(place, *id)?,
            };
            let Some(block) = block else { return Ok(false) };
            blocks.insert(*id, block);
        }
        self.blocks = blocks;
        Ok(true)
    }

    /// The block in one file; `None` if the file is another's by now.
    fn look_at(&self, place: &Place, (id, generation): (u64, u64)) -> Result<Option<Arc<LiveBlock>>> {
        let path = live_dir(&place.path).join(format!("{id:08}.block"));
        let Some(file) = place.fs.open_read(&path)? else { return Ok(None) };
        Ok(match self.observe(place, file)? {
            Observed::Block(block) if block.generation == generation => Some(block),
            Observed::Block(_) | Observed::Nothing | Observed::Changing => None,
        })
    }

    fn observe(&self, place: &Place, file: Arc<dyn File>) -> Result<Observed> {
        let done = |block: u64, generation: u64| {
            let seal = self.catalog().and_then(|catalog| catalog.seals.get(&block));
            seal.is_some_and(|seal| seal.generation == generation && seal.done)
        };
        let table = |id: TableId| self.schema(id);
        observe(file, &Known { boot_id: place.fs.boot_id(), done: &done, table: &table, limits: &place.limits })
    }

    fn read_series_of(&mut self, place: &Place) -> Result<()> {
        if self.series.is_none() {
            let path = place.path.join(SERIES_FILE);
            let gone = || Error::corrupted(&path, 0, "the series log is gone");
            self.series = Some(SeriesLog::tail(place.fs.open_read(&path)?.ok_or_else(gone)?)?);
        }
        let tables = self.manifest.as_ref().map(|manifest| &manifest.catalog().tables);
        for (id, entry) in tables.into_iter().flatten() {
            let made = || Arc::new(SeriesTable::new(entry.schema.tags().len()));
            self.series_tables.entry(*id).or_insert_with(made);
        }
        Ok(())
    }

    /// Reads the series that have come. After the counts: every series of a counted row is there.
    pub(super) fn read_series(&mut self) -> Result<()> {
        let Some(log) = &mut self.series else { return Ok(()) };
        self.records.extend(log.read(None)?.into_iter().filter(|payload| !payload.is_empty()));
        log.check_reached(self.series_end)?;
        while let Some(payload) = self.records.pop_front() {
            let damaged = |what: &str| SeriesLog::damaged(log.path(), what);
            let mut record = Record::decode(&payload).ok_or_else(|| damaged("a record cannot be read"))?;
            let Some(table) = self.series_tables.get(&record.table) else {
                // Of a table that was made since: the view does not have it yet.
                self.records.push_front(payload);
                break;
            };
            table.replay(&mut record).ok_or_else(|| damaged("a record does not follow the one before"))?;
        }
        Ok(())
    }

    /// Puts together what was read.
    fn show(&mut self, place: &Place) -> Result<()> {
        let Some(manifest) = &self.manifest else { return Ok(()) };
        let catalog = manifest.catalog();
        let pin = self.pin.as_ref().map_or(0, |pin| pin.number);
        let (mut tables, mut segments) = (BTreeMap::new(), HashMap::with_capacity(catalog.segments.len()));
        for (id, entry) in &catalog.tables {
            let series = self.series_tables.get(id).cloned();
            let series = series.unwrap_or_else(|| Arc::new(SeriesTable::new(entry.schema.tags().len())));
            let (schema, partition_ns) = (entry.schema.clone(), entry.partition_ns);
            let (segments, aside) = (Arc::default(), Aside::new(place.partial.clone()));
            tables.insert(
                *id,
                TableState { schema, series, partition_ns, segments, aside, blocks: Vec::new(), stints: 0 },
            );
        }
        for (id, meta) in &catalog.segments {
            let key = (*id, catalog.aside.contains(id));
            let dir = if key.1 { aside_dir(&place.path) } else { segments_dir(&place.path) };
            let made = || {
                let segment = Segment::new(meta.clone(), place.fs.clone(), &dir, place.cache.clone());
                Arc::new(segment.leased(Lease::of(place.control.clone(), pin)))
            };
            let segment = self.segments.get(&key).cloned().unwrap_or_else(made);
            segment.lease().extend(pin);
            if let Some(table) = tables.get_mut(&meta.table) {
                let list = if key.1 { &mut table.aside.segments } else { &mut table.segments };
                Arc::make_mut(list).push(segment.clone());
            }
            segments.insert(key, segment);
        }
        for block in self.slots.iter().filter_map(|id| self.blocks.get(id)) {
            let sealed = catalog.seals.get(&block.id).filter(|sealed| sealed.generation == block.generation);
            let sealed_rows = sealed.map_or(0, |sealed| usize::try_from(sealed.rows).unwrap_or(usize::MAX));
            let table = tables.get_mut(&block.schema.id);
            let unknown = || Error::corrupted(block.file.path(), 12, format!("no table {}", block.schema.id));
            let blocks = &mut table.ok_or_else(unknown)?.blocks;
            let (block, stints, since) = (block.clone(), Stints::default(), Instant::now());
            blocks.push(BlockView { block, sealed_rows, stage: Stage::Filling, stints, since });
        }
        self.segments = segments;
        let tables = tables.into_iter().map(|(id, table)| (id, Arc::new(table))).collect();
        self.view = Some(Arc::new(View { tables, rollups: catalog.rollups.clone() }));
        Ok(())
    }

    /// The store as its directory shows it, when no process that this boot knows of has written it: what is durable.
    fn read_directory(&mut self, place: &Place) -> Result<()> {
        self.forget();
        // Before anything of what it bounds is read.
        let (ends, closed) = (place.control.durable_ends(), place.control.closed());
        let names = |dir: &std::path::Path| -> Result<Vec<String>> {
            let entries = place.fs.read_dir(dir)?.ok_or_else(|| Error::corrupted(dir, 0, "the directory is gone"))?;
            Ok(entries.into_iter().map(|entry| entry.name).collect())
        };
        let none = || Error::corrupted(&place.path, 0, "it has no manifest");
        let mut manifest = ManifestTail::newest(&*place.fs, &place.path, &names(&place.path)?)?.ok_or_else(none)?;
        manifest.read(None)?;
        manifest.check_reached((ends.manifest_number, ends.manifest_end))?;
        self.series_end = ends.series_end;
        self.manifest = Some(manifest);
        let live = live_dir(&place.path);
        let mut files = names(&live)?;
        files.sort_unstable();
        for name in files.iter().filter(|name| name.ends_with(".block")) {
            let Some(file) = place.fs.open_read(&live.join(name))? else { continue };
            if let Observed::Block(block) = self.observe(place, file)? {
                let id = (block.id, block.generation);
                self.slots.push(id);
                self.blocks.insert(id, block);
            }
        }
        self.check_closed(place, &closed)?;
        self.read_series_of(place)?;
        self.show(place)
    }

    /// An error if rows are not there that were when the store was closed.
    fn check_closed(&self, place: &Place, closed: &[(BlockLife, u64)]) -> Result<()> {
        let Some(catalog) = self.catalog() else { return Ok(()) };
        for ((block, generation), rows) in closed {
            let shown = self.blocks.get(&(*block, *generation)).map_or(0, |block| block.rows() as u64);
            // A process that opens the store to write it takes the record back before anything is appended or sealed.
            if catalog.sealed_of(*block, *generation, *rows).max(shown) < *rows && !place.control.closed().is_empty() {
                let path = live_dir(&place.path).join(format!("{block:08}.block"));
                return Err(Error::corrupted(
                    &path,
                    0,
                    format!("it had {rows} rows when the store was closed, now {shown}"),
                ));
            }
        }
        Ok(())
    }

    fn schema(&self, id: TableId) -> Option<Arc<TableSchema>> {
        Some(self.catalog()?.tables.get(&id)?.schema.clone())
    }
}
