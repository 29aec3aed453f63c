//! The quarantine: the store's own table of rows that were too late for theirs, or too far in the future.
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
/// The fields: the row's own time in Unix nanoseconds, and the row as JSON.
pub(crate) const ROW_TIME_NS: &str = "row_time_ns";
pub(crate) const ROW: &str = "row";

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

/// The table as the store declares it. Rows arrive now, and now is never late nor in the far future.
pub(crate) fn schema(options: &Options) -> Schema {
    debug_assert!(names::is_hidden(TABLE), "no user can declare it");
    let mut schema = Schema::new(TABLE)
        .tag(TABLE_NAME)
        .tag(REASON)
        .i64(ROW_TIME_NS, "ns")
        .utf8(ROW, "")
        .required(ROW_TIME_NS)
        .required(ROW);
    schema.policies = Policies {
        retention: Some(options.quarantine_retention),
        future_max: Some(Duration::from_nanos(i64::MAX.cast_unsigned())),
        // The unit of retention.
        partition: Some(Duration::from_secs(86_400)),
        ..Policies::default()
    };
    schema
}
