//! Errors on their way through the query engine and back.

use std::io::ErrorKind::{QuotaExceeded, StorageFull};
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::session::{CATALOG, SCHEMA};
use crate::error::Error;

/// Wraps an error of the store for its way up through operators.
pub(crate) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error of a [`DataFrame`](datafusion::dataframe::DataFrame) as this crate's: what the store or its limits said is
/// unwrapped, whatever the engine says itself is [`Error::Query`] or [`Error::QueryMemory`].
///
/// ```
/// use denyut::Error;
/// use denyut::datafusion::error::DataFusionError;
/// let closed = DataFusionError::External(Box::new(Error::Closed)).context("scanning");
/// assert!(matches!(Error::from(closed), Error::Closed));
/// ```
impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        let mut error = error;
        loop {
            error = match error {
                DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => *inner,
                DataFusionError::External(inner) => match inner.downcast::<Self>() {
                    Ok(own) => return *own,
                    Err(inner) => match inner.downcast::<DataFusionError>() {
                        Ok(nested) => *nested,
                        Err(other) => return Self::Query { message: other.to_string() },
                    },
                },
                DataFusionError::ArrowError(inner, backtrace) => match *inner {
                    ArrowError::ExternalError(inner) => DataFusionError::External(inner),
                    other => return engines_own(&DataFusionError::ArrowError(Box::new(other), backtrace)),
                },
                // The partitions of a join share the failure of its build side.
                DataFusionError::Shared(shared) => match Arc::try_unwrap(shared) {
                    Ok(sole) => sole,
                    Err(shared) => return of_shared(&shared),
                },
                own => return engines_own(&own),
            }
        }
    }
}

fn of_shared(error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(Error::Corrupted { path, offset, reason }) => Error::corrupted(path, *offset, reason.clone()),
            Some(Error::SegmentAside { table, segment, path, rows, min_time, max_time }) => Error::SegmentAside {
                table: table.clone(),
                segment: *segment,
                path: path.clone(),
                rows: *rows,
                min_time: *min_time,
                max_time: *max_time,
            },
            Some(Error::Io { operation, path, source }) => Error::Io {
                operation,
                path: path.clone(),
                source: std::io::Error::new(source.kind(), source.to_string()),
            },
            Some(other) => Error::Query { message: other.to_string() },
            None => Error::Query { message: inner.to_string() },
        },
        root => engines_own(root),
    }
}

fn engines_own(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::ResourcesExhausted(message) => Error::QueryMemory { message: message.clone() },
        // The engine itself touches the disk only to spill.
        DataFusionError::IoError(io) if matches!(io.kind(), StorageFull | QuotaExceeded) => {
            Error::QueryMemory { message: format!("spilling: {io}") }
        }
        DataFusionError::Plan(message) => match unknown_table(message) {
            Some(table) => Error::UnknownTable { table },
            None => Error::Query { message: message.clone() },
        },
        DataFusionError::SQL(error, _) => Error::Query { message: error.to_string() },
        other => Error::Query { message: other.strip_backtrace() },
    }
}

/// The table that a plan error says is not there.
fn unknown_table(message: &str) -> Option<String> {
    let name = message.strip_prefix("table '")?.strip_suffix("' not found")?;
    let name = name.strip_prefix(CATALOG).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
    Some(name.strip_prefix(SCHEMA).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name).into())
}
