//! The parts of an open store that maintenance works on, and the two ways it changes them: a commit and a sync.
//!
//! **Invariant:** the view follows the manifest. A change of segments, seals or tables is committed first and shown after,
//! under one lock, so views follow one another in the order of commits.
//!
//! **Invariant:** a failed sync is never repeated. It shuts the gate, marks the blocks and the directory, and every later
//! commit or sync answers [`Poisoned`](Error::Poisoned).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::Sender;

use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::ingest::clock::Clock;
use crate::ingest::pool::BlockPool;
use crate::ingest::recover::poison;
use crate::model::TableId;
use crate::options::Options;
use crate::snapshot::aside::Partial;
use crate::snapshot::cut::{Gate, Shut};
use crate::snapshot::last::LastTables;
use crate::snapshot::stint::Due;
use crate::snapshot::view::Changing;
use crate::snapshot::{Snapshot, View, ViewCell};
use crate::storage::control::{Control, Ends};
use crate::storage::edit::Edit;
use crate::storage::manifest::{CommitError, Manifest};
use crate::storage::metadata_cache::MetadataCache;
use crate::storage::places::{POISON_FILE, segments_dir};
use crate::storage::series_log::SeriesLog;

use super::background::Work;
use super::counters::Counters;
use super::pins::Pins;
use super::rollup::MakeSketch;
use super::upkeep::Upkeep;

/// An open store.
pub(crate) struct Core {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    pub(crate) pool: BlockPool,
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) series_log: SeriesLog,
    pub(crate) control: Control,
    pub(crate) view: ViewCell,
    pub(crate) gate: Gate,
    pub(crate) clock: Arc<Clock>,
    pub(crate) cache: Arc<MetadataCache>,
    pub(crate) last: Arc<LastTables>,
    pub(crate) counters: Counters,
    pub(crate) partial: Arc<Partial>,
    /// Blocks that a thread is sealing.
    pub(crate) sealing: Mutex<Vec<u64>>,
    /// Signalled when a block leaves `sealing`.
    pub(crate) sealed: std::sync::Condvar,
    /// Whether the store was closed, and nothing is sealed or committed any more.
    pub(crate) ended: AtomicBool,
    pub(crate) segment_ids: AtomicU64,
    pub(crate) pins: Pins,
    pub(crate) work: Sender<Work>,
    /// Tells who makes cuts that a block is being filled.
    pub(crate) opened: Sender<()>,
    /// Compaction, rollups and retention.
    pub(crate) upkeep: Upkeep,
    /// Makes sketches, where there is SQL.
    pub(crate) sketches: Option<MakeSketch>,
}

impl Core {
    /// Where segments are.
    pub(crate) fn segments_dir(&self) -> PathBuf {
        segments_dir(&self.path)
    }

    /// A read view of this moment.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Snapshot::take(&self.view, &self.gate)
    }

    /// An error if a sync has failed.
    pub(crate) fn check_sound(&self) -> Result<()> {
        match self.gate.check() {
            Err(error @ (Error::Poisoned { .. } | Error::Forked { .. })) => Err(error),
            _ => Ok(()),
        }
    }

    /// Commits what `edits` makes of the present view, then shows what `change` makes of it. If the commit fails the view
    /// stays. Locks are taken in the order view, manifest, gate.
    pub(crate) fn commit<T>(
        &self,
        edits: impl FnOnce(&View) -> Vec<Edit>,
        change: impl FnOnce(&mut View) -> T,
    ) -> Result<T> {
        let mut changing = self.view.lock();
        let edits = edits(&changing.view());
        self.commit_in(&mut changing, edits, change)
    }

    /// As [`commit`](Self::commit), by somebody who keeps the view from changing already.
    pub(crate) fn commit_in<T>(
        &self,
        view: &mut Changing<'_>,
        edits: Vec<Edit>,
        change: impl FnOnce(&mut View) -> T,
    ) -> Result<T> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_sound()?;
        self.check_not_ended()?;
        let series_end = self.series_log.sync().map_err(|error| self.poison(error))?;
        manifest.commit(edits).map_err(|error| match error {
            CommitError::Refused(error) => error,
            CommitError::Unknown(error) => self.poison(error),
        })?;
        let rollups = &manifest.catalog().rollups;
        let result = view.change(|view| {
            view.rollups = rollups.clone();
            change(view)
        });
        self.publish(&view.view(), &manifest, series_end);
        Ok(result)
    }

    /// Lets the seals and commits that are under way end, and refuses all that come later.
    ///
    /// **Invariant:** after it this process writes no segment and commits nothing, since another may be writing the store.
    pub(crate) fn end(&self) {
        let sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let sealing = self.sealed.wait_while(sealing, |sealing| !sealing.is_empty());
        // Relaxed: a seal looks while it holds the lock of the seals, which is held here, and a commit that of the view,
        // which is taken below.
        self.ended.store(true, Ordering::Relaxed);
        drop(sealing);
        drop(self.view.lock());
    }

    /// An error once all has ended.
    pub(super) fn check_not_ended(&self) -> Result<()> {
        // Relaxed: see `end`.
        if self.ended.load(Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Shows a change that commits nothing: a block that joins or changes hands. While the gate is held, so that a cut has
    /// all blocks that anybody appends to; refused if the gate is shut.
    pub(crate) fn show<T>(&self, change: impl FnOnce(&mut View) -> T) -> Result<T> {
        let mut view = self.view.lock();
        let manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = self.gate.hold();
        gate.check()?;
        let result = view.change(change);
        self.publish(&view.view(), &manifest, self.series_log.durable_end());
        Ok(result)
    }

    fn publish(&self, view: &View, manifest: &Manifest, series_end: u64) {
        let (manifest_number, manifest_end) = manifest.position();
        let ends = Ends { manifest_number, manifest_end, series_end, clock: self.clock.last() };
        let pin = self.pins.current();
        self.control.publish(ends, pin, view.blocks().map(|view| (view.block.id, view.block.generation)));
        self.pins.published(pin);
    }

    /// Makes every row published so far durable, of one table or of all.
    pub(crate) fn sync(&self, table: Option<TableId>) -> Result<()> {
        self.check_sound()?;
        let view = self.view.load();
        // Counts first: every series of a row that is counted is in the log when the log is synced.
        let tables = view.tables.iter().filter(|(id, _)| table.is_none_or(|table| table == **id));
        let due: Vec<_> = tables.flat_map(|(_, state)| state.due_now()).collect();
        self.sync_blocks(&due)
    }

    /// Makes so many rows of each block durable, one block after the other. Who gives the counts loaded them before.
    pub(super) fn sync_blocks(&self, due: &[Due]) -> Result<()> {
        self.series_log.sync().map_err(|error| self.poison(error))?;
        for (block, rows) in due {
            if block.schema.policies.keep_ingest_time {
                // Durable with the rows, so that they keep it.
                block.mark(self.clock.second());
            }
            if block.commit(*rows).map_err(|error| self.poison(error))? {
                self.counters.block_syncs.add(1);
            }
        }
        Ok(())
    }

    /// Shuts the store after a failed sync and gives the error that says so. Nothing is retried.
    pub(crate) fn poison(&self, error: Error) -> Error {
        let reason = error.to_string();
        let shut = Shut::Poisoned { path: self.path.clone(), reason: reason.clone() };
        let view = self.view.load();
        self.gate.hold().shut(shut.clone(), &view);
        for view in view.blocks() {
            poison(&view.block.mapping, view.block.generation, view.block.committed());
        }
        // Best effort: the disk is failing. What matters is in the blocks' heads already, in the page cache at least.
        let marked = self.mark_poisoned(&reason);
        tracing::error!(%reason, marked = marked.is_ok(), "store poisoned by a failed sync");
        shut.error()
    }
}

impl Core {
    /// Leaves the file that says so to the next open. Several threads may meet a failing disk; the first reason stays.
    fn mark_poisoned(&self, reason: &str) -> Result<()> {
        let path = self.path.join(POISON_FILE);
        let file = match self.fs.open(&path)? {
            Some(file) => file,
            // Another thread may have made it just now.
            None => self.fs.create(&path).or_else(|error| self.fs.open(&path)?.ok_or(error))?,
        };
        if file.len()? == 0 {
            file.write_at(reason.as_bytes(), 0)?;
        }
        file.sync_data()?;
        self.fs.sync_dir(&self.path)
    }
}
