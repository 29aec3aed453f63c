//! What happens to rows after they are appended: synced, sealed into segments, their blocks recycled, the segments
//! compacted, rolled up and in the end dropped.

pub(crate) mod background;
pub(crate) mod compact;
pub(crate) mod core;
pub(crate) mod counters;
mod cuts;
pub(crate) mod home;
pub(crate) mod pacing;
pub(crate) mod partition;
pub(crate) mod pins;
pub(crate) mod retain;
pub(crate) mod rollup;
pub(crate) mod running;
pub(crate) mod seal;
pub(crate) mod tiers;
pub(crate) mod unnamed;
pub(crate) mod upkeep;

#[cfg(test)]
mod tests;
