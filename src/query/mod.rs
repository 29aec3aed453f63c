//! SQL over snapshots, through DataFusion (feature `sql`), and the SQL functions that DataFusion lacks.
//!
//! [`reference()`] lists the functions. Sessions of a store have them; [`register`] gives them to any other.
//!
//! A statement goes one way: `guard` reads its text, `engine` plans it over one snapshot of the whole store (`catalog`,
//! `provider`, `prune`), `scan` reads what is left of `work`, and `limits` is the node at the root of every plan.
//!
//! **Invariant:** all tables of one statement show one moment.
//!
//! **Invariant:** what leaves the root node holds no buffer of a mapping, is at most `query_rows_max` rows, and ends at
//! `query_timeout`, on whichever runtime the caller polls it.
//!
//! **Invariant:** pruning only ever drops rows that a predicate drops too. Predicates stay in the plan, so that a piece
//! that cannot be judged is read, never guessed.

mod accelerations;
mod bounded;
mod catalog;
mod ends;
mod engine;
pub(crate) mod extension;
mod failure;
mod functions;
mod guard;
#[cfg(feature = "feed")]
mod imports;
mod latest;
mod leaf;
mod limits;
mod newest;
mod overlapping;
mod planning;
mod policy;
mod prepared;
mod provider;
mod prune;
mod quarantine;
mod rows;
mod scan;
mod session;
mod statistics;
mod stop;
mod summaries;
mod system;
#[cfg(test)]
mod tests;
mod threads;
mod work;

pub(crate) use engine::{Engine, Source};
pub(crate) use functions::rollup_sketch;
pub use functions::{Entry, reference, register};
pub use policy::{Access, Mask, Policy, PolicySession};
pub use prepared::{Parameter, Prepared};
pub use rows::{FromRollup, Rows};
