//! Where writers get their blocks and bring them back.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::fs::SYNCING_DIRECTORY;
use crate::ingest::live_block::LiveBlock;
use crate::ingest::pool::Wanted;
use crate::ingest::writer::Home;
use crate::model::TableSchema;
use crate::snapshot::BlockView;
use crate::snapshot::stint::Stints;
use crate::snapshot::view::Stage;

use super::background::Work;
use super::core::Core;

impl Home for Core {
    fn rotate(
        &self,
        schema: &Arc<TableSchema>,
        full: Option<&Arc<LiveBlock>>,
        wanted: Wanted,
    ) -> Result<Arc<LiveBlock>> {
        self.gate.check()?;
        if self.view.load().rollups.get(schema.id).is_some() {
            let reason = "its rows come from the table that it is of; append to that".into();
            return Err(Error::InvalidRollup { rollup: schema.name.clone(), reason });
        }
        if full.is_none()
            && let Some(block) = self.go_on_with_waiting(schema)?
        {
            self.wake_keeper();
            return Ok(block);
        }
        let seals = self.options.seal_threads > 0 || !self.options.background;
        if seals && self.pool.is_short(wanted.file_bytes) {
            // Blocks without a writer are not worth a wait.
            self.end_waiting(|_| true)?;
        }
        let block = self.pool.take(schema, wanted).inspect_err(|error| {
            if matches!(error, Error::Overloaded { .. }) {
                self.counters.overloaded.add(1);
            }
        });
        let block = block.map_err(|error| self.poison_if_sync(error))?;
        self.counters.blocks_taken.add(1);
        self.show(|view| {
            let Some(table) = view.table_mut(schema.id) else { return };
            if let Some(full) = full {
                table.leave(full.id);
                table.block_mut(full.id).into_iter().for_each(|full| full.stage = Stage::Full);
            }
            let (block, stints, since) = (block.clone(), Stints::begun(table.next_stint()), Instant::now());
            table.blocks.push(BlockView { block, sealed_rows: 0, stage: Stage::Filling, stints, since });
        })?;
        match full {
            Some(full) => self.have_sealed(full.id)?,
            None => self.wake_keeper(),
        }
        Ok(block)
    }

    fn resume(&self, block: &LiveBlock) -> Result<()> {
        self.gate.origin.check()?;
        self.gate.hold().resume(block)
    }

    fn give_back(&self, block: &Arc<LiveBlock>) {
        if !self.gate.origin.is_here() {
            // A child has a copy of the writer; its parent's goes on.
            return;
        }
        // Refused when the store is closed or poisoned, and then nobody asks for the block again.
        let _ = self.show(|view| {
            let Some(table) = view.table_mut(block.schema.id) else { return };
            table.leave(block.id);
            table.block_mut(block.id).into_iter().for_each(|view| view.stage = Stage::Waiting);
        });
    }

    fn series_count(&self, table: &TableSchema) -> u32 {
        self.view.load().tables.get(&table.id).map_or(0, |table| table.series.count())
    }
}

impl Core {
    /// A block that another writer of the table left with room in it. One of an older schema, or one that was ended, is
    /// called full instead.
    fn go_on_with_waiting(&self, schema: &Arc<TableSchema>) -> Result<Option<Arc<LiveBlock>>> {
        let view = self.view.load();
        let is_waiting = |view: &BlockView| view.stage == Stage::Waiting;
        if !view.tables.get(&schema.id).is_some_and(|table| table.blocks.iter().any(is_waiting)) {
            return Ok(None);
        }
        let (found, old) = self.show(|view| {
            let (mut found, mut old) = (None, Vec::new());
            let Some(table) = view.table_mut(schema.id) else { return (found, old) };
            for view in table.blocks.iter_mut().filter(|view| is_waiting(view)) {
                let fits = view.block.layout.fields.len() == schema.fields.len() && !view.block.is_retired();
                if !fits {
                    view.stage = Stage::Full;
                    old.push(view.block.id);
                } else if found.is_none() {
                    view.stage = Stage::Filling;
                    found = Some(view.block.clone());
                }
            }
            found.iter().for_each(|block: &Arc<LiveBlock>| table.go_on(block.id));
            (found, old)
        })?;
        if found.is_some() {
            // A seal that waits for this block's own need not any more, and must not: this one's may come to wait for it.
            drop(self.sealing.lock().unwrap_or_else(PoisonError::into_inner));
            self.sealed.notify_all();
        }
        old.into_iter().try_for_each(|id| self.have_sealed(id))?;
        Ok(found)
    }

    /// Tells the keeper, and who makes cuts, that a block is being filled, which the view shows by now.
    fn wake_keeper(&self) {
        // The keeper ends only at close.
        let _ = self.work.send(Work::Filling);
        // Full means that it was told already.
        let _ = self.opened.try_send(());
    }

    /// Ends blocks that wait for a writer, those that `which` chooses: they are sealed for good, and their files free.
    pub(crate) fn end_waiting(&self, which: impl Fn(&BlockView) -> bool) -> Result<()> {
        let is_it = |view: &BlockView| view.stage == Stage::Waiting && which(view);
        if !self.view.load().blocks().any(is_it) {
            return Ok(());
        }
        let ended = self.show(|view| {
            let tables = view.tables.values_mut().filter(|table| table.blocks.iter().any(is_it));
            let blocks = tables.flat_map(|table| &mut Arc::make_mut(table).blocks).filter(|view| is_it(view));
            let end = |view: &mut BlockView| {
                view.stage = Stage::Full;
                view.block.id
            };
            blocks.map(end).collect::<Vec<_>>()
        })?;
        ended.into_iter().try_for_each(|id| self.have_sealed(id))
    }

    /// Queues a full block for the sealers; without threads of its own the store seals and recycles right here.
    pub(crate) fn have_sealed(&self, id: u64) -> Result<()> {
        if self.options.background {
            // The keeper ends only at close, and then nothing is sealed any more.
            let _ = self.work.send(Work::Seal(id));
            return Ok(());
        }
        self.seal(id)?;
        while let Ok(released) = self.pool.released().try_recv() {
            self.recycle(released);
        }
        Ok(())
    }

    /// A sync that failed while a block or a segment was being made is as bad as any other. One of a file's bytes for
    /// which there was no space is not: that file is removed, and made anew later.
    pub(crate) fn poison_if_sync(&self, error: Error) -> Error {
        match error {
            Error::Io { operation: "syncing" | SYNCING_DIRECTORY, .. }
            | Error::StorageFull { operation: SYNCING_DIRECTORY, .. } => self.poison(error),
            other => other,
        }
    }
}
