//! Who may see what: sessions that see parts of tables.
//!
//! A [`Policy`] lists the tables that somebody sees, and of each the rows, columns and masks. It is enforced below SQL: the
//! catalog of such a session has nothing else in it ([`catalog`]), each table is a leaf that gives out only what may be
//! seen ([`table`]), and where single rows are not to be seen, a rewrite of the plan lets out groups alone ([`groups`]).
//!
//! **Invariant:** no expression of the statement is evaluated on a row that the policy hides, or on a value that it masks,
//! but to narrow what is read: predicates on tags are asked of the tags of all series, and what they fail with is nothing.
//! So neither an answer nor an error, and no statistic or order that an operator relies on, depends on them.

mod catalog;
mod groups;
mod rules;
mod session;
mod table;
mod total;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::rules::Rules;
pub use self::session::PolicySession;
#[cfg(test)]
pub(super) use self::table::inside;

/// What one kind of reader sees of a store. Tables that are not named are not there.
///
/// The tables of the schema `system` are never there, and `EXPLAIN ANALYZE` is refused: both count what a reader may not
/// see. What a policy does not hide is how long a query takes: rows of other agencies are not read when
/// [`Access::rows`] is about tags, but those that a predicate on fields hides are read and left out.
///
/// ```
/// # use denyut::prelude::*;
/// use denyut::query::{Access, Mask, Policy};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let city = Store::open(dir.path().join("kota"))?;
/// let complaints = city.table(Schema::new("complaints").tag("agency").utf8("reporter", "").f64("lat", "deg"))?;
/// complaints.writer()?.append(row! { agency: "PUPR", reporter: "Sari", lat: 0.0263 })?;
/// complaints.writer()?.append(row! { agency: "BPBD", reporter: "Budi", lat: 0.0551 })?;
///
/// let works = Policy::new("PUPR").table(
///     "complaints",
///     Access::all().rows("agency = 'PUPR'").mask("reporter", Mask::Hidden).mask("lat", Mask::Coarse(0.01)),
/// );
/// let session = city.session_for(&works)?;
/// let rows = session.query("SELECT * FROM complaints")?;
/// assert_eq!((rows.num_rows(), rows.f64(0, "lat")?), (1, Some(0.02)));
/// assert!(session.query("SELECT reporter FROM complaints").is_err());
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    tables: BTreeMap<String, Access>,
}

impl Policy {
    /// A policy under which nothing is seen. The name stands in errors and in `EXPLAIN`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), tables: BTreeMap::new() }
    }

    /// Shows a table; a second call for the same one takes the place of the first.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>, access: Access) -> Self {
        self.tables.insert(name.into(), access);
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What is seen of a table.
#[derive(Clone, Debug, Default)]
pub struct Access {
    rows: Option<String>,
    columns: Option<BTreeSet<String>>,
    masks: BTreeMap<String, Mask>,
    group_rows_min: u64,
}

impl Access {
    /// All of it.
    pub fn all() -> Self {
        Self::default()
    }

    /// The rows of which `predicate`, in SQL over the table's own columns, is true. It may use columns that are hidden. A
    /// second call takes the place of the first.
    #[must_use]
    pub fn rows(mut self, predicate: impl Into<String>) -> Self {
        self.rows = Some(predicate.into());
        self
    }

    /// These columns alone. Without this a field that is added to the table later is seen.
    #[must_use]
    pub fn columns<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Something else in place of a column's values.
    #[must_use]
    pub fn mask(mut self, column: impl Into<String>, mask: Mask) -> Self {
        self.masks.insert(column.into(), mask);
        self
    }

    /// Only groups of `rows` or more: a statement has to aggregate the table, and groups of fewer rows are left out of the
    /// answer.
    ///
    /// Allowed are `count`, `sum`, `avg`, `median`, `stddev`, `var` and their `_pop` and `_samp` forms, of columns. `min`,
    /// `max`, `FILTER` and conditions inside of an aggregate show single rows, and are refused; and so is what may fail on a
    /// row, such as a division in `WHERE` or a cast of text, since the error would tell of it. It counts rows, not
    /// persons; and who asks about a group with somebody in it and without can subtract: no noise is added.
    #[must_use]
    pub fn groups_of(mut self, rows: u64) -> Self {
        self.group_rows_min = rows;
        self
    }
}

/// What is seen in place of a column's values.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Mask {
    /// Nothing: there is no such column.
    Hidden,
    /// Null.
    Null,
    /// Always this; of columns of text.
    Text(String),
    /// The next multiple of this below, of numbers: a latitude at `Coarse(0.01)` is within 1.1 km.
    Coarse(f64),
}
