//! What a program does with a store, on the real file system, in processes of its own and in threads.
//!
//! One binary, because linking DataFusion is slow. Settings: `DENYUT_SEED=s` repeats a run that chance decided,
//! `DENYUT_KILLS=n` kills more children, `DENYUT_ROWS=n` appends more rows, `PROPTEST_CASES=n` tries more sequences.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bad_input;
mod callers;
#[cfg(feature = "sql")]
mod care;
mod chance;
mod child;
mod damage;
mod descriptors;
mod fixtures;
mod fork;
#[cfg(feature = "sql")]
mod freshness;
#[cfg(all(feature = "sql", feature = "feed"))]
mod hostile;
#[cfg(feature = "feed")]
mod import;
mod kill;
mod model;
mod numbered;
#[cfg(feature = "sql")]
mod readers;
mod reopen;
#[cfg(feature = "sql")]
mod slt;
mod soak;
#[cfg(feature = "sql")]
mod sql;
mod twice;
mod years;
