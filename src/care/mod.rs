//! What an operator asks of a store: is it whole, mend what can be mended, copy it, how large is it.
//!
//! **Invariant:** nothing here keeps a writer or a query waiting for longer than a look at the view: what is read is held by
//! the same handles that snapshots hold, and the bytes under them never change.

pub(crate) mod backup;
pub(crate) mod inventory;
pub(crate) mod offline;
pub(crate) mod progress;
pub(crate) mod repair;
pub(crate) mod stat;
mod units;
pub(crate) mod verify;

pub use backup::Backup;
pub use progress::Progress;
pub use repair::{Mended, Mending, Repair};
pub use stat::{Stat, TableStat};
pub use verify::{Damage, Verification};
