//! The protocol of publishing and looking, for all orders of memory accesses that the memory model allows.
//!
//! ```sh
//! RUSTFLAGS="--cfg denyut_loom" cargo test --no-default-features --lib loom
//! ```
//!
//! Loom's atomics stand for the words of the mapping. The barrier on all threads has no counterpart in the model, so what
//! is checked is publishing, and the double look that does without it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::cut::agree;

/// Two blocks of two rows. A row is plain memory, as in the mapping; loom fails on an access that races.
struct Blocks {
    rows: [[UnsafeCell<u64>; 2]; 2],
    published: [AtomicU64; 2],
}

impl Blocks {
    fn new() -> Arc<Self> {
        let row = || UnsafeCell::new(0);
        Arc::new(Self { rows: [[row(), row()], [row(), row()]], published: [AtomicU64::new(0), AtomicU64::new(0)] })
    }

    /// As a cursor does: the row, then the count.
    #[expect(unsafe_code, reason = "the model of unsafe code")]
    fn append(&self, block: usize, row: usize) {
        // SAFETY: the row is not published, and this thread is the block's only writer; loom checks both.
        self.rows[block][row].with_mut(|cell| unsafe { *cell = 7 });
        self.published[block].store(row as u64 + 1, Ordering::Release);
    }

    fn counts(&self) -> [u64; 2] {
        [0, 1].map(|block| self.published[block].load(Ordering::Acquire))
    }

    #[expect(unsafe_code, reason = "the model of unsafe code")]
    fn check(&self, counts: [u64; 2]) {
        for (rows, count) in self.rows.iter().zip(counts) {
            for row in rows.iter().take(count as usize) {
                // SAFETY: published rows are never written again; loom checks that.
                assert_eq!(row.with(|cell| unsafe { *cell }), 7, "a published row is whole");
            }
        }
    }
}

#[test]
fn loom_published_rows_are_whole() {
    loom::model(|| {
        let blocks = Blocks::new();
        let writers = [0, 1].map(|block| {
            let blocks = blocks.clone();
            thread::spawn(move || (0..2).for_each(|row| blocks.append(block, row)))
        });
        blocks.check(blocks.counts());
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(blocks.counts(), [2, 2]);
    });
}

#[test]
fn loom_two_looks_that_agree_are_one_moment() {
    // One thread appends to the first block and then to the second; either order of looking must be safe, so the second
    // writer goes the other way round.
    for (first, second) in [(0, 1), (1, 0)] {
        loom::model(move || {
            let blocks = Blocks::new();
            let writing = blocks.clone();
            let writer = thread::spawn(move || {
                for row in 0..2 {
                    writing.append(first, row);
                    writing.append(second, row);
                }
            });
            if let Some(counts) = agree(|| blocks.counts()) {
                assert!(counts[second] <= counts[first], "{counts:?}: a row without the one before it");
                blocks.check(counts);
            }
            writer.join().unwrap();
        });
    }
}
