//! The store's hybrid logical clock, for tables where the last write wins.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014), with the logical part folded into the nanoseconds: a
//! reading is the wall clock, or one more than the last reading if that is later. **Invariant:** no two readings of a
//! store are equal and none is earlier than one before it, in this life or a former: the store starts the clock after the
//! latest reading that the manifest and the live blocks know.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::now;

/// Gives each row of such a table its place in the order of writes.
#[derive(Debug, Default)]
pub(crate) struct HybridClock {
    last: AtomicU64,
}

impl HybridClock {
    /// A clock whose readings are all later than `last`.
    pub(crate) fn after(last: u64) -> Self {
        Self { last: AtomicU64::new(last) }
    }

    /// The first of `count` readings in a row, all of them the caller's.
    pub(crate) fn read(&self, count: u64) -> u64 {
        let wall = u64::try_from(now().as_nanos()).unwrap_or(0);
        // Relaxed: the read-modify-write alone makes readings unique and rising; they order nothing else.
        let next = |last: u64| Some(wall.max(last + 1) + count - 1);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|last| last);
        wall.max(last + 1)
    }

    /// The latest reading given.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}
