//! The way in: writers, and the live blocks they fill.
//!
//! Rows are written once, in columns, into a mapped file, and published by one release-store of the row count.

mod age;
pub(crate) mod batch;
pub(crate) mod block_commit;
pub(crate) mod check;
pub(crate) mod clock;
pub(crate) mod commit;
pub(crate) mod copy;
pub(crate) mod header;
pub(crate) mod layout;
pub(crate) mod live_block;
pub(crate) mod marks;
pub(crate) mod observe;
pub(crate) mod pool;
pub(crate) mod read;
pub(crate) mod recover;
pub(crate) mod turn;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
