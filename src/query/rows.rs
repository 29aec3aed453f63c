//! The answer to a query.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int64Type, SchemaRef};
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;

use crate::error::{Error, Result};
use crate::model::Time;

/// The rows that [`Store::query`](crate::Store::query) answers: Arrow batches that own their memory.
///
/// For a value here and there the accessors will do; for many, take the [`batches`](Self::batches).
///
/// ```
/// use denyut::prelude::*;
/// # let dir = tempfile::tempdir().unwrap();
/// let city = Store::open(dir.path().join("kota"))?;
/// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
/// let mut writer = water.writer()?;
/// let _ = writer.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
/// let _ = writer.append(row! { gate: "Sei Wie", level_cm: 148.5 })?;
///
/// let rows = city.query("SELECT gate, count(*) AS n, max(level_cm) AS top FROM water GROUP BY gate")?;
/// assert_eq!(rows.num_rows(), 1);
/// assert_eq!(rows.str(0, "gate")?, Some("Sei Wie"));
/// assert_eq!(rows.i64(0, "n")?, Some(2));
/// assert_eq!(rows.f64(0, "top")?, Some(148.5));
/// rows.print()?;
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an answer is for reading"]
pub struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rollups: Vec<FromRollup>,
}

/// A part of an answer that a rollup gave, and not the rows of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FromRollup {
    /// The rollup.
    pub rollup: String,
    /// The table that the statement named.
    pub table: String,
    /// How long the rollup's buckets are.
    pub every: Duration,
    /// The first moment of its first bucket in the answer.
    pub from: Time,
    /// The last moment of its last one. Between the two some buckets may be of rows.
    pub until: Time,
    /// Where the answer begins earlier than this: the table's rows before it are gone, or some are, and the rollup is what
    /// is known of them. A bucket that the statement's bounds cut is then of the rows that are left.
    pub rows_gone_before: Option<Time>,
}

impl Rows {
    pub(crate) fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches, rollups: Vec::new() }
    }

    /// Says what the answer is from.
    pub(super) fn with_rollups(self, rollups: Vec<FromRollup>) -> Self {
        Self { rollups, ..self }
    }

    /// The rollups that gave a part of the answer; none if it is of rows alone. What is older than its table's `retention`
    /// is only known from them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// city.rollup(Rollup::new("water_1h").of("water").every(Duration::from_secs(3_600)).max("level_cm"))?;
    /// water.writer()?.append_at(Time::from_secs(1_767_225_600)?, row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// city.maintain()?;
    /// let days = "SELECT date_bin(INTERVAL '1 day', time) AS day, max(level_cm) AS top FROM water GROUP BY day";
    /// let rows = city.query(days)?;
    /// assert_eq!(rows.f64(0, "top")?, Some(142.0));
    /// assert_eq!(rows.answered_from()[0].rollup, "water_1h");
    /// assert_eq!(rows.answered_from()[0].rows_gone_before, None);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn answered_from(&self) -> &[FromRollup] {
        &self.rollups
    }

    /// The columns, in the order the statement names them. There even if there are no rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows, in order, some thousands a batch. Empty if there are none.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// The rows, as [`batches`](Self::batches) has them.
    pub fn into_batches(self) -> Vec<RecordBatch> {
        self.batches
    }

    /// How many rows there are.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = denyut::Store::open(dir.path().join("kota"))?;
    /// assert_eq!(city.query("SELECT 1 AS one WHERE false")?.num_rows(), 0);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// A value as an integer; `None` is null. Times are nanoseconds since 1970.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = denyut::Store::open(dir.path().join("kota"))?;
    /// let rows = city.query("SELECT 7 AS seven, NULL AS nothing")?;
    /// assert_eq!(rows.i64(0, "seven")?, Some(7));
    /// assert_eq!(rows.i64(0, "nothing")?, None);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`UnknownField`](Error::UnknownField) if there is no such column, [`Batch`](Error::Batch) if there is no such row
    /// or the value is no integer of 64 bits.
    pub fn i64(&self, row: usize, column: &str) -> Result<Option<i64>> {
        self.primitive::<Int64Type>(row, column)
    }

    /// A value as a float; `None` is null. Decimals and large integers are rounded.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = denyut::Store::open(dir.path().join("kota"))?;
    /// assert_eq!(city.query("SELECT 1.5 AS x")?.f64(0, "x")?, Some(1.5));
    /// # Ok::<(), denyut::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`i64`](Self::i64), for a value that is no number.
    pub fn f64(&self, row: usize, column: &str) -> Result<Option<f64>> {
        self.primitive::<Float64Type>(row, column)
    }

    /// A text; `None` is null.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = denyut::Store::open(dir.path().join("kota"))?;
    /// let rows = city.query("SELECT 'Pontianak' AS city")?;
    /// assert_eq!(rows.str(0, "city")?, Some("Pontianak"));
    /// assert!(rows.str(0, "town").is_err());
    /// assert!(rows.str(1, "city").is_err());
    /// # Ok::<(), denyut::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`i64`](Self::i64), for a value that is no text.
    pub fn str(&self, row: usize, column: &str) -> Result<Option<&str>> {
        let (values, index) = self.locate(row, column)?;
        if values.is_null(index) || *values.data_type() == DataType::Null {
            return Ok(None);
        }
        match values.data_type() {
            DataType::Utf8View => Ok(Some(values.as_string_view().value(index))),
            DataType::Utf8 => Ok(Some(values.as_string::<i32>().value(index))),
            DataType::LargeUtf8 => Ok(Some(values.as_string::<i64>().value(index))),
            other => Err(wrong(format!("column {column:?} is {other}, not text"))),
        }
    }

    fn primitive<T: ArrowPrimitiveType>(&self, row: usize, column: &str) -> Result<Option<T::Native>> {
        let (values, index) = self.locate(row, column)?;
        let strictly = CastOptions { safe: false, ..CastOptions::default() };
        let one = values.slice(index, 1);
        if one.data_type().is_string() {
            return Err(wrong(format!("column {column:?} is text")));
        }
        let cast = cast_with_options(&one, &T::DATA_TYPE, &strictly)
            .map_err(|error| wrong(format!("column {column:?}, row {row}: {error}")))?;
        Ok(cast.as_primitive::<T>().iter().next().flatten())
    }

    /// The array that holds a value, and where in it.
    fn locate(&self, row: usize, column: &str) -> Result<(&ArrayRef, usize)> {
        let Ok(position) = self.schema.index_of(column) else {
            let known: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).take(20).collect();
            let name = column.chars().take(80).collect();
            return Err(Error::UnknownField { table: ANSWER.into(), name, known: known.join(", ") });
        };
        let mut index = row;
        for batch in &self.batches {
            match batch.columns().get(position) {
                Some(values) if index < batch.num_rows() => return Ok((values, index)),
                _ => index -= batch.num_rows(),
            }
        }
        Err(wrong(format!("row {row} of {}", self.num_rows())))
    }

    /// Prints the rows as a table. What [`Display`](fmt::Display) writes, on standard output.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = denyut::Store::open(dir.path().join("kota"))?;
    /// city.query("SELECT 'Pontianak' AS city, 658685 AS people")?.print()?;
    /// // +-----------+--------+
    /// // | city      | people |
    /// // +-----------+--------+
    /// // | Pontianak | 658685 |
    /// // +-----------+--------+
    /// # Ok::<(), denyut::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](Error::Io) if it cannot be written. A pipe whose reader has left is none: it has read what it wanted.
    pub fn print(&self) -> Result<()> {
        self.write_to(&mut std::io::stdout().lock())
    }

    fn write_to(&self, out: &mut impl Write) -> Result<()> {
        let table = self.table().map_err(|error| wrong(error.to_string()))?;
        match writeln!(out, "{table}").and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::io("writing to", Path::new("standard output"), error))
            }
            _ => Ok(()),
        }
    }

    fn table(&self) -> std::result::Result<impl fmt::Display, arrow::error::ArrowError> {
        // Batches bring their schema; without any, the names of the columns are still worth showing.
        let none = [RecordBatch::new_empty(self.schema.clone())];
        let batches = if self.batches.is_empty() { &none } else { &*self.batches };
        pretty_format_batches_with_options(batches, &FormatOptions::new().with_null("NULL"))
    }
}

/// A table of all rows, with the columns' names above.
impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table().map_err(|_| fmt::Error)?.fmt(f)
    }
}

/// What errors call an answer where they name a table.
const ANSWER: &str = "(answer)";

fn wrong(message: String) -> Error {
    Error::batch(ANSWER, message)
}
