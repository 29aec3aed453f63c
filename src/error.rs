//! The one error type: what happened, where, and what to do about it.
//!
//! [`Error::kind`] is the part to branch on: it says what the caller can do. The variants say what happened and carry
//! the place (table, field, file, offset) as data.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Time;

/// The result of every fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call is wrong and will be wrong again: change it.
    Invalid,
    /// A named limit was met: send less, or raise the option.
    Limit,
    /// Somebody else holds what is needed, or the store is behind: the same call may succeed later.
    Busy,
    /// The file system refused; the source says why. Nothing that was accepted before is lost.
    Storage,
    /// Bytes on disk are not what was written there. The place is named; reads of other places go on.
    Corrupted,
    /// A sync failed, so rows since the last good one are indeterminate. Close the store and open it again.
    Poisoned,
    /// The handle is of no use any more: its store was closed, or this process was forked from the one that opened it.
    Closed,
    /// The query was refused or stopped.
    Query,
    /// The caller stopped it.
    Stopped,
}

/// Everything that can go wrong, with its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A table, tag or field name that is not allowed.
    #[error("invalid {what} name {name:?}: {reason}; use 1 to 63 of a-z, 0-9 and _, a letter first")]
    InvalidName {
        /// What the name was for: `table`, `tag`, `field`, `feed` or `dimension`.
        what: &'static str,
        /// The name as given, cut to 80 characters.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The store has no table of that name.
    #[error("unknown table {table:?}; Store::tables and the table system.tables list those there are")]
    UnknownTable {
        /// The name asked for.
        table: String,
    },
    /// The table has no tag or field of that name.
    #[error("table {table:?} has no tag or field {name:?}; it has {known}")]
    UnknownField {
        /// The table.
        table: String,
        /// The name asked for.
        name: String,
        /// The names it has.
        known: String,
    },
    /// The name is in the row, the batch or the schema more than once.
    #[error("table {table:?}: {name:?} is given twice")]
    Duplicate {
        /// The table.
        table: String,
        /// The name that repeats.
        name: String,
    },
    /// A tag was left out, null or empty where a value is needed.
    #[error("table {table:?}, row {row}: tag {tag:?} has no value; every row needs every tag")]
    MissingTag {
        /// The table.
        table: String,
        /// The tag.
        tag: String,
        /// Row in the batch, 0 for a single row.
        row: usize,
    },
    /// A required field was null or left out.
    #[error("table {table:?}, row {row}: field {field:?} is required and has no value")]
    MissingField {
        /// The table.
        table: String,
        /// The field.
        field: String,
        /// Row in the batch, 0 for a single row.
        row: usize,
    },
    /// A value or a schema names another type than the table has.
    #[error("table {table:?}, field {field:?}: the table has {expected}, this is {found}")]
    TypeConflict {
        /// The table.
        table: String,
        /// The field or tag.
        field: String,
        /// The table's type.
        expected: String,
        /// The type given.
        found: String,
    },
    /// The table exists with other tags or policies.
    #[error("table {table:?} exists and differs: {reason}")]
    SchemaConflict {
        /// The table.
        table: String,
        /// What differs.
        reason: String,
    },
    /// A rollup that cannot be made, or a call that a rollup's table does not take.
    #[error("rollup {rollup:?}: {reason}")]
    InvalidRollup {
        /// The rollup, its name cut to 80 characters.
        rollup: String,
        /// What is wrong.
        reason: String,
    },
    /// Too few or too many values for the table.
    #[error("table {table:?}: {expected} {what} are needed, {found} were given")]
    WrongArity {
        /// The table.
        table: String,
        /// `fields` or `tags`.
        what: &'static str,
        /// How many the table has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A series handle that this table never gave out.
    #[error("table {table:?} has no series {series}; resolve it with Table::series")]
    UnknownSeries {
        /// The table.
        table: String,
        /// The id.
        series: u32,
    },
    /// A feed's contract that cannot be kept, or a file of contracts that cannot be read.
    #[error("{place}: {reason}; {remedy}")]
    InvalidFeed {
        /// The file and the line, or the feed.
        place: String,
        /// What is wrong.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// A time outside of what nanoseconds in 64 bits can say (1677-09-21 to 2262-04-11).
    #[error(
        "time {given} is outside 1677-09-21T00:12:43Z to 2262-04-11T23:47:16Z, or not a time; use RFC 3339 or Unix nanoseconds"
    )]
    InvalidTime {
        /// The time as given.
        given: String,
    },
    /// A named limit was met.
    #[error("{place}: {found} exceeds {limit} = {max}; send less or raise the option")]
    LimitExceeded {
        /// The option's name.
        limit: &'static str,
        /// Its value.
        max: u64,
        /// What was asked for.
        found: u64,
        /// Where.
        place: String,
    },
    /// Live blocks are at their byte budget and sealing did not free one in time. Retry.
    #[error(
        "table {table:?}: live blocks are at live_bytes_max = {live_bytes_max} and none was sealed within {waited:?}; retry, slow down, or raise the option"
    )]
    Overloaded {
        /// The table.
        table: String,
        /// How long the append waited.
        waited: Duration,
        /// The budget.
        live_bytes_max: u64,
    },
    /// Another process has the store open for writing.
    #[error("{} is locked by {}; one process writes at a time", path.display(), holder(*pid))]
    Locked {
        /// The store.
        path: PathBuf,
        /// The holder's process id, if it could be read.
        pid: Option<u32>,
    },
    /// The directory holds something else.
    #[error("{} is not a denyut store: {reason}; open an empty or absent directory to make one", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory that has to be empty.
    #[error("{} is not empty; back up into an empty or absent directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a later version of this crate.
    #[error("{} has format version {found}, this build reads up to {supported}; upgrade denyut", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest this build reads.
        supported: u32,
    },
    /// A file system on which preallocation does not hold.
    #[error("{} is on a copy-on-write file system ({kind}), where a full disk can kill a process that writes a mapping; use ext4, xfs or tmpfs, or Options::allow_copy_on_write", path.display())]
    CopyOnWrite {
        /// The store.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// The disk or quota is full.
    #[error("no space left while {operation} {}: free some and retry; nothing accepted was lost", path.display())]
    StorageFull {
        /// What was being done.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Bytes on disk are not what was written.
    #[error("{} is damaged at byte {offset}: {reason}; restore it from a backup, or open with Options::salvage to keep the rest", path.display())]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A damaged segment was set aside, and the answer would lack its rows.
    #[error(
        "table {table:?}: segment {segment} with {rows} rows between {min_time} and {max_time} is damaged and was set aside; ask for other times, restore {} and repair, or open with allow_partial", path.display()
    )]
    SegmentAside {
        /// The table.
        table: String,
        /// The segment.
        segment: u64,
        /// Its file.
        path: PathBuf,
        /// Rows in it.
        rows: u64,
        /// The earliest time in it.
        min_time: Time,
        /// The latest time in it.
        max_time: Time,
    },
    /// A sync failed earlier. Never retried, because the kernel may have dropped the pages.
    #[error("store {} is poisoned by a failed sync ({reason}): rows since the last good sync are indeterminate; close it, check the disk, open it again", path.display())]
    Poisoned {
        /// The store.
        path: PathBuf,
        /// The first failure.
        reason: String,
    },
    /// A file of the snapshot was removed, because files that old snapshots keep had reached `pinned_bytes_max`. Run the
    /// query again.
    #[error("{} is gone: the snapshot is so old that its files exceeded pinned_bytes_max; run the query again, or raise the option", path.display())]
    SnapshotExpired {
        /// The file.
        path: PathBuf,
    },
    /// The writing process changes the store faster than this one could look at it.
    #[error("no snapshot of {} within snapshot_timeout = {snapshot_timeout:?} ({reason}); try again", path.display())]
    NoSnapshot {
        /// The store.
        path: PathBuf,
        /// The limit.
        snapshot_timeout: Duration,
        /// What stood in the way last.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The process was forked after the store was opened, and this is the child.
    #[error(
        "process {pid} opened this store and this one was forked from it: its handles are of use there alone; open a store of its own in the child, or the same one when the parent has closed it"
    )]
    Forked {
        /// The process that opened the store.
        pid: u32,
    },
    /// The caller's own report of progress asked for an end. Nothing is half done.
    #[error("{what} was stopped by its caller")]
    Stopped {
        /// What was being done.
        what: &'static str,
    },
    /// A background thread could not be started or died.
    #[error("background work stopped: {reason}")]
    Background {
        /// Why.
        reason: String,
    },
    /// The SQL text is larger or deeper than the session allows. Found before planning.
    #[error("query is too complex: {what} {found} exceeds {limit} = {max}; split it or raise the option")]
    TooComplex {
        /// What was counted.
        what: &'static str,
        /// The option's name.
        limit: &'static str,
        /// Its value.
        max: u64,
        /// What was found.
        found: u64,
    },
    /// A statement that would change something.
    #[error("{statement} is refused: sql() only reads; trusted code can use Store::session")]
    ReadOnlySql {
        /// What it was.
        statement: String,
    },
    /// A policy names what is not there, or cannot be enforced.
    #[error("policy {policy:?}, table {table:?}: {what}; {remedy}")]
    InvalidPolicy {
        /// Its name.
        policy: String,
        /// The table it is about.
        table: String,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A statement would show what the session's policy hides.
    #[error("policy {policy:?} refuses {what}; {remedy}")]
    PolicyRefuses {
        /// Its name.
        policy: String,
        /// What would be shown.
        what: String,
        /// What can be asked instead.
        remedy: &'static str,
    },
    /// The query ran longer than its option allows and was cancelled.
    #[error("query cancelled after query_timeout = {query_timeout:?}; narrow its time range or raise the option")]
    QueryTimeout {
        /// The limit.
        query_timeout: Duration,
    },
    /// The query met its memory or spill limit.
    #[error("query ran out of memory or spill space: {message}")]
    QueryMemory {
        /// The engine's word.
        message: String,
    },
    /// The query engine refused.
    #[error("query failed: {message}")]
    Query {
        /// The engine's word.
        message: String,
    },
    /// Something that is imported cannot be read as it was said to be.
    #[error("{source_name:?}, line {line}: {message}")]
    Import {
        /// The file or stream.
        source_name: String,
        /// Its line, 0 if it is about all of it.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A batch could not be built or read.
    #[error("table {table:?}: {message}")]
    Batch {
        /// The table.
        table: String,
        /// What is wrong with it.
        message: String,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

impl Error {
    /// What the caller can do.
    ///
    /// ```
    /// use denyut::{Error, ErrorKind};
    /// assert_eq!(Error::Closed.kind(), ErrorKind::Closed);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidName { .. }
            | Self::UnknownTable { .. }
            | Self::UnknownField { .. }
            | Self::Duplicate { .. }
            | Self::MissingTag { .. }
            | Self::MissingField { .. }
            | Self::TypeConflict { .. }
            | Self::SchemaConflict { .. }
            | Self::WrongArity { .. }
            | Self::UnknownSeries { .. }
            | Self::InvalidFeed { .. }
            | Self::InvalidRollup { .. }
            | Self::InvalidTime { .. }
            | Self::NotAStore { .. }
            | Self::NotEmpty { .. }
            | Self::NewerVersion { .. }
            | Self::CopyOnWrite { .. }
            | Self::Import { .. }
            | Self::InvalidPolicy { .. }
            | Self::Batch { .. } => ErrorKind::Invalid,
            Self::LimitExceeded { .. } => ErrorKind::Limit,
            Self::Overloaded { .. } | Self::Locked { .. } | Self::SnapshotExpired { .. } | Self::NoSnapshot { .. } => {
                ErrorKind::Busy
            }
            Self::StorageFull { .. } | Self::Io { .. } | Self::Background { .. } => ErrorKind::Storage,
            Self::Corrupted { .. } | Self::SegmentAside { .. } => ErrorKind::Corrupted,
            Self::Poisoned { .. } => ErrorKind::Poisoned,
            Self::Closed | Self::Forked { .. } => ErrorKind::Closed,
            Self::Stopped { .. } => ErrorKind::Stopped,
            Self::TooComplex { .. }
            | Self::ReadOnlySql { .. }
            | Self::PolicyRefuses { .. }
            | Self::QueryTimeout { .. }
            | Self::QueryMemory { .. }
            | Self::Query { .. } => ErrorKind::Query,
        }
    }

    /// Whether the same call, unchanged, may succeed later.
    ///
    /// ```
    /// assert!(!denyut::Error::Closed.is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        self.kind() == ErrorKind::Busy || matches!(self, Self::StorageFull { .. } | Self::QueryMemory { .. })
    }

    /// An I/O error with its place; a full disk becomes [`Error::StorageFull`].
    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.to_path_buf();
        match source.kind() {
            StorageFull | QuotaExceeded => Self::StorageFull { operation, path },
            _ => Self::Io { operation, path, source },
        }
    }

    pub(crate) fn corrupted(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupted { path: path.to_path_buf(), offset, reason: reason.into() }
    }

    #[cfg(feature = "feed")]
    pub(crate) fn import(source: &str, line: u64, message: impl Into<String>) -> Self {
        Self::Import { source_name: source.into(), line, message: message.into() }
    }

    pub(crate) fn batch(table: &str, message: impl ToString) -> Self {
        Self::Batch { table: table.into(), message: message.to_string() }
    }
}
