//! What runs in the background now, for `system.background`.

#![cfg_attr(not(feature = "sql"), allow(dead_code, reason = "only SQL looks at it"))]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{TableSchema, Time, now};

/// What a piece of background work does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Writes rows of a live block as segments.
    Seal,
    /// Merges segments of one partition.
    Merge,
    /// Splits overlap segments by partition.
    Split,
    /// Merges an old partition and encodes it to be small.
    Cool,
    /// Rolls up what sealed segments did.
    RollUp,
}

impl Kind {
    /// Its name in `system.background`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Merge => "merge",
            Self::Split => "split",
            Self::Cool => "cool",
            Self::RollUp => "roll up",
        }
    }
}

/// One piece of work.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) kind: Kind,
    pub(crate) table: String,
    /// Start of the partition, if it is of one.
    pub(crate) partition_ns: Option<i64>,
    pub(crate) rows_total: u64,
    /// Of what is read.
    pub(crate) bytes_total: u64,
    pub(crate) since: Time,
    rows_done: AtomicU64,
}

impl Progress {
    /// Bytes read so far, to the share of rows.
    pub(crate) fn bytes_done(&self) -> u64 {
        // Relaxed: it orders nothing.
        let (done, total) = (u128::from(self.rows_done.load(Ordering::Relaxed)), u128::from(self.rows_total.max(1)));
        u64::try_from(u128::from(self.bytes_total) * done.min(total) / total).unwrap_or(self.bytes_total)
    }
}

/// All work that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunningList {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    work: BTreeMap<u64, Arc<Progress>>,
}

/// One piece of work, on the list until dropped.
#[derive(Debug)]
pub(crate) struct Running {
    list: RunningList,
    id: u64,
    progress: Arc<Progress>,
}

impl RunningList {
    /// Puts a piece of work on the list.
    pub(crate) fn begin(
        &self,
        kind: Kind,
        table: &TableSchema,
        partition_ns: Option<i64>,
        (rows_total, bytes_total): (u64, u64),
    ) -> Running {
        let (table, rows_done) = (table.name.clone(), AtomicU64::new(0));
        let since = now();
        let progress = Arc::new(Progress { kind, table, partition_ns, rows_total, bytes_total, since, rows_done });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last += 1;
        let id = state.last;
        state.work.insert(id, progress.clone());
        Running { list: self.clone(), id, progress }
    }

    /// What runs now, the longest running first.
    pub(crate) fn list(&self) -> Vec<Arc<Progress>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).work.values().cloned().collect()
    }
}

impl Running {
    /// Counts rows that are done.
    pub(crate) fn set_rows(&self, rows: u64) {
        // Relaxed: it orders nothing.
        self.progress.rows_done.store(rows, Ordering::Relaxed);
    }

    /// Counts more rows that are done.
    pub(crate) fn add_rows(&self, rows: u64) {
        // Relaxed: it orders nothing.
        self.progress.rows_done.fetch_add(rows, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.list.state.lock().unwrap_or_else(PoisonError::into_inner).work.remove(&self.id);
    }
}
