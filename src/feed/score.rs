//! The scorecard: how each feed keeps its contract, how far each agency has come, and how complete an answer is.

mod completeness;
mod feeds;
mod maturity;
mod members;
mod reference;
mod trust;

pub(super) use reference::{BLOCKERS, COMPLETENESS, CONTRACTS, DIMENSION, FEEDS, HISTORY, MATURITY, SILENT};
pub use trust::{FeedTrust, Trust};

use crate::model::Time;
use crate::query::extension::{Call, external};
use crate::snapshot::Snapshot;

use super::registry::{self, Version};
use datafusion::error::Result;

/// The moment that a call asks about, and whether it is a past one: then rows that came later are left out of tables which
/// know when their rows came.
#[derive(Clone, Copy)]
struct AsOf {
    time: Time,
    is_past: bool,
}

/// The moment that argument `place` gives, or now.
fn as_of(call: &Call, place: usize) -> Result<AsOf> {
    let began = call.began();
    let time = call.time(place)?.unwrap_or(began);
    Ok(AsOf { time, is_past: time < began })
}

/// The contracts in force, each with the time since which its feed has had one.
fn in_force(snapshot: &Snapshot, at: Time) -> Result<Vec<(Version, Time)>> {
    registry::in_force(snapshot, at).map_err(external)
}
