//! What happens to rows after they are appended: synced, sealed into segments, their blocks recycled.

pub(crate) mod background;
pub(crate) mod core;
pub(crate) mod counters;
mod cuts;
pub(crate) mod home;
pub(crate) mod partition;
pub(crate) mod pins;
pub(crate) mod seal;
pub(crate) mod sort;

#[cfg(test)]
mod tests;
