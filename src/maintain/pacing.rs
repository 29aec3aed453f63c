//! How fast work on segments goes: within the rate and when it is not paused, or at once for somebody who waits.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

use super::core::Core;
use super::running::{Kind, Running};
use crate::model::TableSchema;

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The store's own thread: within the rate, and not while it is paused.
    Background,
    /// Somebody who waits for it: all that can be done, now.
    Waiting,
}

/// A piece of work that reads rows of segments, listed until dropped.
pub(super) struct Paced<'a> {
    core: &'a Core,
    caller: Caller,
    running: Running,
    began: Instant,
    bytes_per_row: f64,
}

impl<'a> Paced<'a> {
    /// Begins one that reads so many rows and bytes.
    pub(super) fn begin(
        core: &'a Core,
        caller: Caller,
        kind: Kind,
        (table, partition_ns): (&TableSchema, Option<i64>),
        (rows, bytes): (u64, u64),
    ) -> Self {
        let running = core.upkeep.running.begin(kind, table, partition_ns, (rows, bytes));
        Self { core, caller, running, began: Instant::now(), bytes_per_row: bytes as f64 / rows.max(1) as f64 }
    }

    /// Shows that `rows` were read so far, and waits for its turn. An error once the store is being closed.
    pub(super) fn reach(&self, rows: u64) -> Result<()> {
        self.running.set_rows(rows);
        let pace = &self.core.upkeep.pace;
        let goes_on = match self.caller {
            Caller::Waiting => !pace.is_stopped(),
            Caller::Background => {
                let seconds = rows as f64 * self.bytes_per_row / self.core.options.compact_rate_max.max(1) as f64;
                // A rate so low that it would end in another age is as good as an hour a batch.
                let after = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
                let until = self.began.checked_add(after).unwrap_or(Instant::now() + Duration::from_secs(3_600));
                pace.wait(until)
            }
        };
        if goes_on { Ok(()) } else { Err(Error::Closed) }
    }
}
