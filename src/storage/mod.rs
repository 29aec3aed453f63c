//! What is on disk for good: the manifest, the series log, segments, and the control page that points at them.

pub(crate) mod codec;
pub(crate) mod control;
pub(crate) mod edit;
pub(crate) mod encoding;
pub(crate) mod frame_log;
pub(crate) mod manifest;
pub(crate) mod metadata_cache;
pub(crate) mod pin;
pub(crate) mod places;
pub(crate) mod rollups;
pub(crate) mod segment;
pub(crate) mod segment_writer;
pub(crate) mod series_index;
pub(crate) mod series_log;
pub(crate) mod series_table;
pub(crate) mod series_view;
pub(crate) mod summary;

#[cfg(test)]
mod tests;
