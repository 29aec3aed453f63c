//! What the store speaks of: names, types, schemas, values, rows and times. No disk, no threads.

pub(crate) mod appended;
#[cfg(feature = "feed")]
pub(crate) mod imports;
pub(crate) mod json;
pub(crate) mod names;
pub(crate) mod quarantine;
pub(crate) mod rollup;
pub(crate) mod row;
pub(crate) mod schema;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod value;

pub use appended::{Appended, Rejection};
pub use rollup::Rollup;
pub use row::Row;
pub use schema::{Dedup, Field, Policies, Schema};
pub use table::TableSchema;
pub use time::{Time, now};
pub use value::{FieldType, Value};

/// The dense number of a table, given at its creation and never given again.
pub(crate) type TableId = u32;

/// One distinct combination of a table's tags: the handle of the fast append.
///
/// Given out by [`Table::series`](crate::Table::series); valid for that table, in this and every later life of the
/// store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub(crate) u32);

impl SeriesId {
    /// The dense number, from 0 in order of first appearance.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = Store::open(dir.path().join("kota"))?;
    /// let air = store.table(Schema::new("air").tag("station").f64("pm25", "ug/m3"))?;
    /// assert_eq!(air.series(["Sungai Raya"])?.get(), 0);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn get(self) -> u32 {
        self.0
    }
}
