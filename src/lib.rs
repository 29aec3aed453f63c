#![doc = include_str!("../README.md")]

mod care;
mod error;
#[cfg(feature = "feed")]
pub mod feed;
mod fs;
mod ingest;
mod maintain;
mod model;
mod options;
#[cfg(feature = "sql")]
pub mod query;
mod snapshot;
mod storage;
mod store;
mod sync;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

pub use arrow;
#[cfg(feature = "sql")]
pub use datafusion;
pub use parquet;

pub use care::{Backup, Damage, Mended, Mending, Progress, Repair, Stat, TableStat, Verification};
pub use error::{Error, ErrorKind, Result};
pub use model::{
    Appended, Dedup, Field, FieldType, Policies, Rejection, Rollup, Row, Schema, SeriesId, TableSchema, Time, Value,
    now,
};
pub use options::{Accelerations, Durability, Options, Overload, Scorecard};
#[cfg(feature = "sql")]
pub use query::{FromRollup, Parameter, Prepared, Rows};
pub use snapshot::scan::Scan;
pub use store::{Latest, LatestRow, LeftOut, Maintained, Pause, Reader, Recovery, Store, Table, Writer};

/// Pages to read, which hold no code.
pub mod _pages {
    #[cfg(feature = "feed")]
    #[doc = include_str!("docs/feeds.md")]
    pub mod feeds {}
    #[doc = include_str!("docs/operate.md")]
    pub mod operate {}
    #[doc = include_str!("docs/accelerations.md")]
    pub mod accelerations {}
}

/// What most programs need: `use denyut::prelude::*`.
pub mod prelude {
    #[cfg(feature = "sql")]
    pub use crate::Rows;
    pub use crate::{
        Appended, Dedup, Durability, Error, ErrorKind, FieldType, Options, Overload, Reader, Rollup, Row, Schema,
        SeriesId, Store, Table, Time, Value, Writer, now, row,
    };
}
