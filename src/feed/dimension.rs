//! Dimensions: reference tables whose members change, every version kept, joined as of a time.
//!
//! A dimension is a table of the store with the one tag `key` and the field `removed`. A row is a version of a member, in
//! force from its `time` until the next one's. The last write of a key and time wins, so that a version can be corrected.
//!
//! ```
//! use denyut::prelude::*;
//! use denyut::feed::dimension;
//! # let dir = tempfile::tempdir().unwrap();
//! let city = Store::open(dir.path().join("kota"))?;
//! let from: Time = "2026-01-01T00:00:00Z".parse()?;
//! let loaded = city.load_dimension(&dimension::agency(), from, &[
//!     row! { key: "PUPR", name: "Dinas Pekerjaan Umum" },
//!     row! { key: "DISHUB", name: "Dinas Perhubungan" },
//! ])?;
//! assert_eq!((loaded.added, loaded.changed, loaded.removed), (2, 0, 0));
//! // The same again changes nothing; what a full load does not have any more is removed from then on.
//! let later: Time = "2026-07-01T00:00:00Z".parse()?;
//! let loaded = city.load_dimension(&dimension::agency(), later, &[row! { key: "PUPR", name: "Dinas PUPR" }])?;
//! assert_eq!((loaded.added, loaded.changed, loaded.removed), (0, 1, 1));
//!
//! let rows = city.query("SELECT key, name FROM dimension('agency', '2026-03-01') ORDER BY key")?;
//! assert_eq!((rows.num_rows(), rows.str(1, "name")?), (2, Some("Dinas Pekerjaan Umum")));
//! # Ok::<(), denyut::Error>(())
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};

use crate::error::{Error, Result};
use crate::fs::fork::Origin;
use crate::ingest::batch::Columns;
use crate::model::{Dedup, Row, Schema, TableSchema, Time, Value, json, names};
use crate::snapshot::Snapshot;
use crate::snapshot::scan::Scan;

/// The tag that a member is known by.
pub(crate) const KEY: &str = "key";
/// Whether there is no such member from then on.
pub(crate) const REMOVED: &str = "removed";

/// A reference table as declared: its name and what is known of each member.
#[derive(Clone, Debug)]
#[must_use = "a dimension does nothing until Store::load_dimension takes it"]
pub struct Dimension {
    schema: Schema,
}

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident($($unit:ident)?) => $field:ident,)*) => {$(
        $(#[$doc])*
        pub fn $name(self, name: impl Into<String> $(, $unit: impl Into<String>)?) -> Self {
            let unit = String::new();
            $(let unit: String = { let _ = unit; $unit.into() };)?
            Self { schema: self.schema.$field(name, unit) }
        }
    )*};
}

impl Dimension {
    /// A dimension without attributes: its members have a key and nothing else.
    pub fn new(name: impl Into<String>) -> Self {
        let mut schema = Schema::new(name).tag(KEY).bool(REMOVED, "").required(REMOVED).dedup(Dedup::LastWrite);
        // Changes are planned ahead, and are few.
        schema.policies.future_max = Some(Duration::from_nanos(i64::MAX.cast_unsigned()));
        schema.policies.partition = Some(Duration::from_secs(366 * 86_400));
        Self { schema }
    }

    attributes! {
        /// Adds a text.
        text() => utf8,
        /// Adds a number with its unit, or "".
        number(unit) => f64,
        /// Adds a whole number with its unit, or "".
        count(unit) => i64,
        /// Adds a yes or no.
        flag() => bool,
    }

    /// Adds an exact decimal of `precision` digits, `scale` of them after the point.
    pub fn decimal(self, name: impl Into<String>, precision: u8, scale: u8, unit: impl Into<String>) -> Self {
        Self { schema: self.schema.decimal(name, precision, scale, unit) }
    }

    /// The table.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// `agency`: who has feeds. The scorecard has a row for each, with feeds or without.
pub fn agency() -> Dimension {
    Dimension::new("agency").text("name").text("kind")
}

/// `district`: parts of the city, each with the one it is in.
pub fn district() -> Dimension {
    Dimension::new("district").text("name").text("parent")
}

/// `asset`: gates, stations, pumps, junctions, and where they are.
pub fn asset() -> Dimension {
    let asset = Dimension::new("asset").text("name").text("kind").text("agency").text("district");
    asset.number("latitude_deg", "deg").number("longitude_deg", "deg")
}

/// `holiday`: days off, each with its date as key, `2026-08-17`. Where the store has it, working days are counted by it.
pub fn holiday() -> Dimension {
    Dimension::new("holiday").text("name").text("kind")
}

/// `target`: what an indicator shall be, by a key such as `SPBE/2026`.
pub fn target() -> Dimension {
    Dimension::new("target").number("value", "").text("unit").text("agency")
}

/// `threshold`: from which values on a reading is to be watched, alerted of, or a danger. The key is the table and the field,
/// `water.level_cm`, or one series of it, `water.level_cm/Sei Wie`. Where `below` is true, low values are the bad ones.
pub fn threshold() -> Dimension {
    let threshold = Dimension::new("threshold").number("watch", "").number("alert", "").number("danger", "");
    threshold.flag("below")
}

/// `complaint_deadline`: working days until the first answer and until the ticket is closed, by kind of complaint.
pub fn complaint_deadline() -> Dimension {
    Dimension::new("complaint_deadline").count("first_answer_days", "d").count("close_days", "d")
}

/// What a load of a dimension changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// Members that were not there.
    pub added: u64,
    /// Members with other attributes than before.
    pub changed: u64,
    /// Members that are not there any more.
    pub removed: u64,
    /// Members that are as they were; nothing was written of them.
    pub unchanged: u64,
}

/// Whether a table has the form of a dimension.
#[cfg(feature = "sql")]
pub(crate) fn is_dimension(schema: &TableSchema) -> bool {
    let removed = schema.fields().iter().find(|field| field.name == REMOVED);
    schema.tags() == [KEY] && removed.is_some_and(|field| field.field_type == crate::model::FieldType::Bool)
}

/// A member: its attributes as text, to be compared, or `None` if it is removed.
type Attributes = Option<String>;

/// The members in force at `at`, by key, also those that are removed.
pub(crate) fn members(snapshot: &Snapshot, table: &str, at: Time) -> Result<BTreeMap<String, Attributes>> {
    let mut found: BTreeMap<String, (i64, Attributes)> = BTreeMap::new();
    let Some(view) = snapshot.table(table).cloned() else { return Ok(BTreeMap::new()) };
    view.aside.check(&view.schema, None)?;
    let schema = view.schema.clone();
    for batch in Scan::new(view, Origin::default()) {
        let batch = batch?;
        let time =
            batch.column_by_name(names::TIME).and_then(|time| time.as_primitive_opt::<TimestampNanosecondType>());
        let key = batch.column_by_name(KEY).and_then(|key| key.as_string_view_opt());
        let (Some(times), Some(keys)) = (time, key) else { continue };
        for row in 0..batch.num_rows() {
            let (time, key) = (times.value(row), keys.value(row));
            if time > at.as_nanos() || found.get(key).is_some_and(|(newest, _)| *newest > time) {
                continue;
            }
            let cells = cells(&batch, row);
            found.insert(key.to_string(), (time, attributes(&schema, &cells)));
        }
    }
    Ok(found.into_iter().map(|(key, (_, attributes))| (key, attributes)).collect())
}

/// The attributes of a member as a text that is the same for equal ones.
pub(crate) fn attributes(schema: &TableSchema, cells: &[(&str, Value<'_>)]) -> Attributes {
    let value = |name: &str| cells.iter().find(|(given, _)| *given == name).map_or(Value::Null, |(_, value)| *value);
    if value(REMOVED) == Value::Bool(true) {
        return None;
    }
    let values: Vec<Value<'_>> = schema
        .fields()
        .iter()
        .map(|field| if field.name == REMOVED { Value::Bool(false) } else { value(&field.name) })
        .collect();
    Some(json::row(schema, &[], &values))
}

/// A batch of members as one of versions: each in force from `from`, and there unless it says that it is not.
pub(crate) fn versions(batch: &RecordBatch, from: Time) -> Result<RecordBatch> {
    let wrong = |error: arrow::error::ArrowError| Error::batch(KEY, error.to_string());
    let rows = batch.num_rows();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if field.name() != names::TIME {
            fields.push(field.clone());
            columns.push(column.clone());
        }
    }
    let mut add = |name: &str, column: ArrayRef| {
        fields.push(Arc::new(arrow::datatypes::Field::new(name, column.data_type().clone(), false)));
        columns.push(column);
    };
    add(names::TIME, Arc::new(TimestampNanosecondArray::from_value(from.as_nanos(), rows)));
    if batch.column_by_name(REMOVED).is_none() {
        add(REMOVED, Arc::new(BooleanArray::from(vec![false; rows])));
    }
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).map_err(wrong)
}

/// The cells of one member of a batch.
pub(crate) fn member<'a>(schema: &'a TableSchema, columns: &'a Columns, row: usize) -> Vec<(&'a str, Value<'a>)> {
    let keys = columns.tags().iter().map(|keys| (KEY, Value::Utf8(keys.value(row))));
    let attributes = schema.fields().iter().map(|field| field.name.as_str()).zip(columns.values(row));
    keys.chain(attributes).collect()
}

/// The cells of one row of the table, without its time.
fn cells(batch: &RecordBatch, row: usize) -> Vec<(&str, Value<'_>)> {
    let mut found = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let value = if column.is_null(row) {
            Some(Value::Null)
        } else if let Some(texts) = column.as_string_view_opt() {
            Some(Value::Utf8(texts.value(row)))
        } else if let Some(flags) = column.as_boolean_opt() {
            Some(Value::Bool(flags.value(row)))
        } else if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
            Some(Value::F64(numbers.value(row)))
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            Some(Value::I64(numbers.value(row)))
        } else if let Some(numbers) = column.as_primitive_opt::<UInt64Type>() {
            Some(Value::U64(numbers.value(row)))
        } else {
            column.as_primitive_opt::<Decimal128Type>().map(|numbers| Value::Decimal(numbers.value(row)))
        };
        if let Some(value) = value.filter(|_| field.name() != names::TIME) {
            found.push((field.name().as_str(), value));
        }
    }
    found
}

/// The key of a member.
pub(crate) fn key_of<'a>(table: &str, number: usize, row: Row<'a>) -> Result<&'a str> {
    let key = row.cells().iter().find(|(name, _)| *name == KEY);
    match key {
        Some((_, Value::Utf8(key))) if !key.is_empty() => Ok(key),
        _ => Err(Error::MissingTag { table: table.into(), tag: KEY.into(), row: number }),
    }
}
