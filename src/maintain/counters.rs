//! Numbers that only grow, for `system.counters`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the store has done since it was opened.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl Counters {
            /// Names and values.
            pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

/// One number. Relaxed: it is looked at, and orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Blocks handed to writers.
    blocks_taken,
    /// Blocks made ready for another life.
    blocks_recycled,
    /// Appends that met the byte budget and its deadline.
    overloaded,
    /// Rows that went to quarantine.
    quarantined_rows,
    /// Syncs that had something to do, a block each.
    block_syncs,
    /// Seals that wrote segments.
    seals,
    /// Rows they moved.
    sealed_rows,
    /// Segments they wrote.
    segments_written,
    /// Bytes of those.
    segment_bytes_written,
    /// Seals that failed and will be tried again.
    seal_failures,
    /// Rows that a later write took the place of, dropped by seals and compactions.
    overwritten_rows,
    /// Compactions that were committed.
    compactions,
    /// Rows they read.
    compacted_rows,
    /// Segments they read.
    compacted_segments,
    /// Bytes of those.
    compaction_bytes_read,
    /// Segments they wrote.
    compaction_segments_written,
    /// Bytes of those.
    compaction_bytes_written,
    /// Compactions that failed and will be tried again.
    compaction_failures,
    /// Steps of rolling up that were committed.
    rollups,
    /// Segments they read for it, of each rollup.
    rolled_segments,
    /// Buckets they wrote, each of one series.
    rolled_buckets,
    /// Steps that failed and will be tried again.
    rollup_failures,
    /// Segments that retention dropped.
    retired_segments,
    /// Rows of those.
    retired_rows,
    /// Segments whose files were removed.
    segments_removed,
    /// Damaged segments that a repair set aside.
    segments_set_aside,
}
