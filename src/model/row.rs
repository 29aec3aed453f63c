//! A row by name, and the macro that writes one.

use super::Value;

/// Names and values of one row, tags and fields together in any order. Made by [`row!`](crate::row) or by [`Row::new`].
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    cells: &'a [(&'a str, Value<'a>)],
}

impl<'a> Row<'a> {
    /// A row of `cells`. A field that is left out is null; a tag may not be.
    ///
    /// ```
    /// use denyut::{Row, Value};
    /// let row = Row::new(&[("gate", Value::Utf8("Sei Wie")), ("level_cm", Value::F64(142.0))]);
    /// assert_eq!(row.cells().len(), 2);
    /// ```
    pub fn new(cells: &'a [(&'a str, Value<'a>)]) -> Self {
        Self { cells }
    }

    /// The cells as given.
    #[inline]
    pub fn cells(&self) -> &'a [(&'a str, Value<'a>)] {
        self.cells
    }
}

/// A [`Row`] from `name: value` pairs, for the call it stands in. Values are anything that converts into a [`Value`].
///
/// ```
/// use denyut::row;
/// assert_eq!(row! { gate: "Sei Wie", agency: "PUPR", level_cm: 142.0 }.cells()[0].0, "gate");
/// ```
#[macro_export]
macro_rules! row {
    ($($name:ident: $value:expr),* $(,)?) => {
        $crate::Row::new(&[$((stringify!($name), $crate::Value::from($value))),*])
    };
}
