//! The quarantine: the store's own table of rows that were too late for theirs, too far in the future, or broken when they
//! were imported.
//!
//! It is a table like any other, with a name that no user can declare. Its `time` is when the row arrived.

use std::time::Duration;

use super::{Policies, Schema, names};
use crate::options::Options;

/// Its name.
pub(crate) const TABLE: &str = "__quarantine";
/// The tags: the table that the row was meant for, and why it is not there.
pub(crate) const TABLE_NAME: &str = "table_name";
pub(crate) const REASON: &str = "reason";
/// The fields: the row's own time in Unix nanoseconds, or [`NO_TIME`]; and the row as JSON, or as it stood in what was
/// imported.
pub(crate) const ROW_TIME_NS: &str = "row_time_ns";
pub(crate) const ROW: &str = "row";
/// Of rows that were imported also where they stood, what is wrong, and the import, as its ledger names it.
pub(crate) const FILE: &str = "file";
pub(crate) const LINE: &str = "line";
pub(crate) const COLUMN: &str = "column_name";
pub(crate) const VALUE: &str = "value";
pub(crate) const MESSAGE: &str = "message";
pub(crate) const IMPORT: &str = "import";

/// The time of a row that has none that could be read. The column was required before there were such rows.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// Why a row is not in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Older than the writer's newest row by more than the table's `lateness`.
    Late,
    /// Later than now by more than `future_max`.
    FarFuture,
}

impl Reason {
    /// As the tag says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::FarFuture => "far_future",
        }
    }
}

/// Where a row stood that was imported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: u64,
    pub(crate) column: Option<&'a str>,
    pub(crate) value: Option<&'a str>,
    pub(crate) message: &'a str,
    pub(crate) import: &'a str,
}

/// A row that was imported and is not in its table.
#[cfg(feature = "feed")]
#[derive(Clone, Debug)]
pub(crate) struct Broken<'a> {
    pub(crate) table: &'a str,
    pub(crate) reason: &'static str,
    pub(crate) time: Option<super::Time>,
    /// Itself, as JSON or as it stood there.
    pub(crate) row: String,
    pub(crate) origin: Origin<'a>,
}

/// The table as the store declares it. Rows arrive now, and now is never late nor in the far future.
pub(crate) fn schema(options: &Options) -> Schema {
    debug_assert!(names::is_hidden(TABLE), "no user can declare it");
    let mut schema = Schema::new(TABLE)
        .tag(TABLE_NAME)
        .tag(REASON)
        .i64(ROW_TIME_NS, "ns")
        .utf8(ROW, "")
        .required(ROW_TIME_NS)
        .required(ROW)
        .utf8(FILE, "")
        .u64(LINE, "")
        .utf8(COLUMN, "")
        .utf8(VALUE, "")
        .utf8(MESSAGE, "")
        .utf8(IMPORT, "");
    schema.policies = Policies {
        retention: Some(options.quarantine_retention),
        future_max: Some(Duration::from_nanos(i64::MAX.cast_unsigned())),
        // The unit of retention.
        partition: Some(Duration::from_secs(86_400)),
        ..Policies::default()
    };
    schema
}
