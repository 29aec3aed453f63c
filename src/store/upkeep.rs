//! Background work as the caller sees it: done now, or held back.

use std::sync::Arc;

use crate::error::Result;
use crate::maintain::compact::Outcome;
use crate::maintain::core::Core;
use crate::maintain::pacing::Caller;

use super::Store;

/// What [`Store::maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// Rows that were sealed.
    pub sealed_rows: u64,
    /// Segments that were compacted, and are replaced.
    pub compacted_segments: u64,
    /// Segments that replaced them.
    pub compaction_segments_written: u64,
    /// Segments that retention dropped.
    pub retired_segments: u64,
}

impl Store {
    /// Brings the store up to date and waits for it: seals every row appended before this call, rolls up what rollups
    /// lack, drops what retention no longer keeps, and does every compaction that is due, at full speed.
    ///
    /// The store does the same by itself, in its own time: seals as blocks fill and age, compaction within
    /// `compact_rate_max`, retention as partitions expire. Call it before a backup, at night, or in a test. It works while
    /// background work is [paused](Self::pause_background). Calling it again does nothing more.
    ///
    /// # Errors
    /// What the file system says, and [`Corrupted`](crate::Error::Corrupted) for a segment that cannot be read: it is
    /// then left as it is, and the next call goes on with the others. [`Closed`](crate::Error::Closed) if the store is
    /// closed meanwhile.
    ///
    /// # Cost
    /// Reads and writes what it compacts: a row is written three times in its life, by its seal, by a merge of its
    /// partition, and when that is cold. One core.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// water.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// assert_eq!(city.maintain()?.sealed_rows, 1);
    /// assert_eq!(city.maintain()?.sealed_rows, 0);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn maintain(&self) -> Result<Maintained> {
        let core = &self.inner.core;
        let sealed_rows = self.seal()?;
        let _hurry = core.upkeep.pace.hurry();
        let before = numbers(core);
        while core.roll_up_one(Caller::Waiting)? {
            core.gate.check()?;
        }
        core.retain()?;
        while let Outcome::Done = core.compact_one(Caller::Waiting)? {
            core.gate.check()?;
        }
        // A split may have shown that a partition has nothing that is awaited any more.
        core.retain()?;
        core.remove_released();
        let after = numbers(core);
        Ok(Maintained {
            sealed_rows,
            compacted_segments: after.0 - before.0,
            compaction_segments_written: after.1 - before.1,
            retired_segments: after.2 - before.2,
        })
    }

    /// Holds background work back until the guard is dropped: compaction stops between two batches, retention drops
    /// nothing, and blocks are not sealed for their age. Guards add up.
    ///
    /// Blocks that are full are sealed all the same: writers wait for them, and a pause must not stop a writer. What is
    /// asked for by [`seal`](Self::seal) and [`maintain`](Self::maintain) is done.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let pause = city.pause_background();
    /// // .. nothing else uses the disk now ..
    /// drop(pause);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn pause_background(&self) -> Pause {
        self.inner.core.upkeep.pace.pause();
        Pause { core: self.inner.core.clone() }
    }
}

fn numbers(core: &Core) -> (u64, u64, u64) {
    let counters = &core.counters;
    (counters.compacted_segments.get(), counters.compaction_segments_written.get(), counters.retired_segments.get())
}

/// Background work held back; made by [`Store::pause_background`]. It goes on when this is dropped.
#[must_use = "background work goes on when this is dropped"]
pub struct Pause {
    core: Arc<Core>,
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.core.upkeep.pace.resume();
    }
}

impl std::fmt::Debug for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pause").field("path", &self.core.path).finish_non_exhaustive()
    }
}
