//! Closing, once, for all handles.

use std::sync::PoisonError;

use crate::error::{Error, Result};
use crate::maintain::core::Core;
use crate::snapshot::BlockView;
use crate::snapshot::cut::Shut;

use super::Inner;

impl Inner {
    /// Stops appends, then the threads, then syncs what there is.
    pub(super) fn close(&self) -> Result<()> {
        let core = &self.core;
        core.gate.origin.check()?;
        let first = {
            let view = core.view.load();
            let mut gate = core.gate.hold();
            let open = gate.check();
            gate.shut(Shut::Closed, &view);
            match open {
                Err(Error::Closed) => false,
                Err(poisoned) => {
                    drop(gate);
                    self.stop_threads()?;
                    return Err(poisoned);
                }
                Ok(()) => true,
            }
        };
        if !first {
            return Ok(());
        }
        self.stop_threads()?;
        core.sync(None)?;
        // Rows that the sync made durable, or that segments have; not those of an append that comes too late.
        let view = core.view.load();
        let durable = |view: &BlockView| view.block.committed_rows().max(view.sealed_rows) as u64;
        let rows = view.blocks().map(|view| ((view.block.id, view.block.generation), durable(view)));
        core.control.close(&rows.collect::<Vec<_>>());
        core.control.sync().map_err(|error| core.poison(error))?;
        // Last: now another process may write. What this one still reads it keeps from being recycled by its locks.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(())
    }

    fn stop_threads(&self) -> Result<()> {
        self.core.pool.close();
        self.core.upkeep.pace.stop();
        self.background.stop()?;
        // A caller's compaction or retention that is under way gives up or ends.
        drop(self.core.upkeep.compacting.lock().unwrap_or_else(PoisonError::into_inner));
        self.core.end();
        self.core.remove_released();
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(path = %self.core.path.display(), %error, "store did not close cleanly");
        }
    }
}

impl Core {
    /// An error once the store is closed. A poisoned store still reads.
    pub(super) fn check_open(&self) -> Result<()> {
        match self.gate.check() {
            Err(error @ (Error::Closed | Error::Forked { .. })) => Err(error),
            _ => Ok(()),
        }
    }

    /// Counters, with what the pool knows.
    pub(super) fn count(&self) -> Vec<(&'static str, u64)> {
        let mut list = self.counters.list();
        if !self.gate.origin.is_here() {
            return list;
        }
        let (bytes, free) = self.pool.bytes();
        let segments = self.manifest.lock().unwrap_or_else(PoisonError::into_inner).catalog().segments.len();
        let pinned = self.pins.bytes();
        list.extend([("live_block_bytes", bytes), ("free_block_bytes", free)]);
        list.extend([("segments", segments as u64), ("pinned_bytes", pinned)]);
        list.push(("file_bytes_written", self.fs.bytes_written()));
        list.push(("partial_answers", self.partial.answers()));
        list
    }
}
