//! The store's clock: the wall clock, and the order of writes for tables where the last write wins.
//!
//! The wall clock may be set back or forth at any moment. What the store takes from it is chosen so that this does little:
//!
//! - **Order of writes** is a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014), with the
//!   logical part folded into the nanoseconds: a reading is the wall clock, or one more than the last reading if that is
//!   later. **Invariant:** no two readings of a store are equal and none is earlier than one before it, in this life or a
//!   former: the store starts the clock after the latest reading that the manifest and the live blocks know.
//! - **Stamps** of rows that are appended without a time are what the wall clock shows. Times that stood still until the
//!   clock has caught up would make rows of one series and time out of many.
//! - **Ingest-time marks** and the arrival of rows in quarantine are the wall clock's too; the marks of one block do not go
//!   back.
//! - **Ages, intervals and deadlines** are measured by the monotonic clock and know nothing of it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Time;
use crate::model::time::Wall;

/// The clock of an open store.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: AtomicU64,
    wall: Wall,
}

impl Clock {
    /// A clock whose readings are all later than `last`.
    pub(crate) fn after(last: u64, wall: Wall) -> Self {
        Self { last: AtomicU64::new(last), wall }
    }

    /// What the wall clock shows.
    #[inline]
    pub(crate) fn now(&self) -> Time {
        self.wall.now()
    }

    /// The Unix second that the wall clock shows; the first or the last that marks can say for times beyond.
    pub(crate) fn second(&self) -> u32 {
        second_of(self.now())
    }

    /// The first of `count` readings in a row, all of them the caller's.
    pub(crate) fn read(&self, count: u64) -> u64 {
        let wall = u64::try_from(self.now().as_nanos()).unwrap_or(0);
        // Saturates in the year 2554, or when a damaged control page says that it is that late.
        let first = |last: u64| wall.max(last.saturating_add(1));
        // Relaxed: the read-modify-write alone makes readings unique and rising; they order nothing else.
        let next = |last: u64| Some(first(last).saturating_add(count.saturating_sub(1)));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|last| last);
        first(last)
    }

    /// The latest reading given.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}

/// The Unix second of a time, within what marks can say: 1970 to 2106.
pub(crate) fn second_of(time: Time) -> u32 {
    u32::try_from(time.as_nanos().div_euclid(1_000_000_000).max(0)).unwrap_or(u32::MAX)
}
