//! What the files of a store are called.

use std::path::{Path, PathBuf};

pub(crate) const CONTROL_FILE: &str = "control";
pub(crate) const LOCK_FILE: &str = "lock";
pub(crate) const SERIES_FILE: &str = "series.log";
pub(crate) const LIVE_DIR: &str = "live";
pub(crate) const SEGMENTS_DIR: &str = "segments";
pub(crate) const PINS_DIR: &str = "pins";
pub(crate) const SPILL_DIR: &str = "spill";
pub(crate) const MANIFEST_PREFIX: &str = "manifest-";
/// Where the files of damaged segments are.
pub(crate) const ASIDE_DIR: &str = "aside";
/// The file that says that a sync failed.
pub(crate) const POISON_FILE: &str = "poisoned";

/// Where a store's segments are.
pub(crate) fn segments_dir(store: &Path) -> PathBuf {
    store.join(SEGMENTS_DIR)
}

/// Where the files of damaged segments are.
pub(crate) fn aside_dir(store: &Path) -> PathBuf {
    store.join(ASIDE_DIR)
}

/// Where a store's live blocks are.
pub(crate) fn live_dir(store: &Path) -> PathBuf {
    store.join(LIVE_DIR)
}

/// Where a store's pins are.
pub(crate) fn pins_dir(store: &Path) -> PathBuf {
    store.join(PINS_DIR)
}
