//! Whose turn it is: the words through which a block's one writer and everybody else meet.
//!
//! The count says how many rows are there for everybody. The limit says how many there may be: the capacity, or 0 to call
//! the writer aside. Written over any words, so that the model checkers run this very code.
//!
//! **Invariant:** the count rises in one life of a block, and only the writer stores it. What was written before the count
//! is seen by whoever has loaded it.
//!
//! **Invariant:** a limit of 0 that was stored before [`Fences::everywhere`] is seen by every append that begins after it.

use crate::sync::{Fences, Ordering, Word, load_acquire};

/// Shows the first `rows` rows to everybody.
#[inline(always)]
pub(crate) fn publish(count: &impl Word, rows: u64) {
    // Release: every byte of the rows below is visible to whoever loads this count with acquire.
    count.store(rows, Ordering::Release);
}

/// Rows that are there for everybody.
#[inline]
pub(crate) fn published<F: Fences>(count: &impl Word) -> u64 {
    // Acquire pairs with the release of `publish`: what the writer wrote before is visible after.
    load_acquire::<F>(count)
}

/// Rows up to which the writer may fill the block. The first step of an append.
#[inline(always)]
pub(crate) fn limit<F: Fences>(limit: &impl Word) -> u64 {
    // After the publication of the row before: a cut that does not see that row has called this one aside.
    F::here();
    // Relaxed: the barriers on both sides order it, and a writer that sees it late appends a row or two more.
    limit.load(Ordering::Relaxed)
}

/// Calls the writer aside: its next append takes the slow way, where it learns what is wanted.
pub(crate) fn call_aside(limit: &impl Word) {
    // Relaxed: who needs to know that it was seen has a barrier everywhere after it.
    limit.store(0, Ordering::Relaxed);
}

/// Lets the writer fill the block up to `rows`.
pub(crate) fn let_go_on(limit: &impl Word, rows: u64) {
    // Relaxed: a hint. A writer that sees the 0 before asks at the gate, and is told the same.
    limit.store(rows, Ordering::Relaxed);
}
