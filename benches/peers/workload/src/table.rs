//! Tables of any shape, and where their rows come from.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Doubles.
    F64,
    /// Whole numbers, of less than 2^53.
    I64,
}

impl Kind {
    /// As descriptions of tables spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::I64 => "i64",
        }
    }
}

/// A table: `time`, then tags, which name a series, then fields, any of which may be null.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Tags.
    pub tags: &'static [&'static str],
    /// Fields.
    pub fields: &'static [(&'static str, Kind)],
    /// The tags that those peers sort or index by which want to be told, ahead of time.
    pub order: &'static [&'static str],
}

/// Takes a row: the number of its series, its time in nanoseconds, and a number a field, NaN for null.
pub type Take<'a> = dyn FnMut(u32, i64, &[f64]) + 'a;

/// The rows of a table.
pub trait Source {
    /// What they are rows of.
    fn table(&self) -> Table;
    /// The tags of each series that a row may have, by its number.
    fn series(&self) -> Vec<Vec<String>>;
    /// Gives all rows in the order in which they arrive: the same ones each time.
    fn rows(&self, take: &mut Take<'_>);
}
