//! What agencies send, and how well: files and streams on their way into the store's tables, contracts, dimensions, and with
//! the feature `sql` the scorecard and what leaders watch. [`_pages::feeds`](crate::_pages::feeds) tells of all of it.

mod alerts;
#[cfg(feature = "sql")]
mod city;
mod contract;
pub(crate) mod declared;
pub mod dimension;
pub mod import;
pub(crate) mod registry;
#[cfg(feature = "sql")]
mod score;
#[cfg(all(test, feature = "sql"))]
mod tests;
#[cfg(feature = "sql")]
mod text;

pub use alerts::{alert_acknowledgements, alert_firings, alert_rules, external_scores};
#[cfg(feature = "sql")]
pub use city::{budget_ceilings, budget_plan, budget_realisations, complaint_events, service_visits};
pub use contract::{Arrival, Audience, Feed};
pub use dimension::{Dimension, Loaded};
#[cfg(feature = "sql")]
pub use score::{FeedTrust, Trust};

use crate::model::Time;
#[cfg(feature = "sql")]
use crate::query::{Entry, extension::Function};

/// One version of a contract, as [`Store::declare_feed`](crate::Store::declare_feed) kept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedVersion {
    /// Its number, from 1.
    pub version: i64,
    /// From when it is in force.
    pub from: Time,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// SQL's functions of this room.
#[cfg(feature = "sql")]
pub(crate) const FUNCTIONS: &[Function] = &[
    score::FEEDS,
    score::SILENT,
    score::CONTRACTS,
    score::MATURITY,
    score::BLOCKERS,
    score::DIMENSION,
    score::HISTORY,
    score::COMPLETENESS,
    city::ABSORPTION,
    city::COMPLAINTS,
    city::TIME_CHARGED,
    city::LEAGUE,
    city::PERFORMANCE,
    city::NORMAL,
];

/// SQL's functions of this room, by name, for help texts: as [`query::reference`](crate::query::reference()) of the others.
///
/// ```
/// let names: Vec<_> = denyut::feed::reference().iter().map(|entry| entry.name).collect();
/// assert!(names.contains(&"maturity"));
/// ```
#[cfg(feature = "sql")]
pub fn reference() -> Vec<&'static Entry> {
    let mut entries: Vec<&Entry> = FUNCTIONS.iter().map(|function| &function.entry).collect();
    entries.sort_by_key(|entry| entry.name);
    entries
}
