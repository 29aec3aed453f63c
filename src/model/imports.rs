//! The ledger of imports: the store's own table of what came in through files and streams.
//!
//! What its entries mean is in `feed/import/ledger.rs`. Its `time` is when the entry was made.

use super::{Schema, names};

/// Its name.
pub(crate) const TABLE: &str = "__imports";
/// The tag: the table that was imported into, or [`ANY_TABLE`] where rows name their own.
pub(crate) const TABLE_NAME: &str = "table_name";
pub(crate) const ANY_TABLE: &str = "*";
/// The fields.
pub(crate) const EVENT: &str = "event";
pub(crate) const ANCHOR: &str = "anchor";
pub(crate) const PLACE: &str = "place";
pub(crate) const BYTES: &str = "bytes";
pub(crate) const LINES: &str = "lines";
pub(crate) const ROWS: &str = "rows";
pub(crate) const QUARANTINED: &str = "quarantined";
pub(crate) const DUPLICATES: &str = "duplicates";
pub(crate) const NEWEST_NS: &str = "newest_ns";
pub(crate) const WINDOW_BYTES: &str = "window_bytes";
pub(crate) const EXTENDS: &str = "extends";
pub(crate) const SOURCE: &str = "source";
/// The events.
pub(crate) const OPEN: &str = "open";
pub(crate) const DONE: &str = "done";
pub(crate) const CLOSED: &str = "closed";
/// Longest name of a source that is kept.
pub(crate) const SOURCE_CHARS_MAX: usize = 1_000;

/// The table as the store declares it, with the fields in the order in which entries have them.
pub(crate) fn schema() -> Schema {
    debug_assert!(names::is_hidden(TABLE), "no user can declare it");
    Schema::new(TABLE)
        .tag(TABLE_NAME)
        .utf8(EVENT, "")
        .utf8(ANCHOR, "")
        .utf8(PLACE, "")
        .u64(BYTES, "bytes")
        .u64(LINES, "")
        .u64(ROWS, "")
        .u64(QUARANTINED, "")
        .u64(DUPLICATES, "")
        .i64(NEWEST_NS, "ns")
        .u64(WINDOW_BYTES, "bytes")
        .utf8(EXTENDS, "")
        .utf8(SOURCE, "")
}
