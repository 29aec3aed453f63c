//! An Arrow batch on its way in: columns found by name, types checked, rows without a tag or a time set aside.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt64Type,
};

use crate::error::{Error, Result};
use crate::model::quarantine::Reason;
use crate::model::{Appended, FieldType, TableSchema, Value, names};

use super::live_block::Source;

/// A batch whose columns are the table's, in the table's order.
pub(crate) struct Columns {
    pub(crate) rows: usize,
    time: Int64Array,
    tags: Vec<StringViewArray>,
    /// `None` for a field that the batch does not have.
    fields: Vec<Option<ArrayRef>>,
}

impl Columns {
    /// Finds the columns of `batch` by name. Without `with_tags` it must have none of the tags: they are given apart.
    pub(crate) fn find(schema: &TableSchema, batch: &RecordBatch, with_tags: bool) -> Result<Self> {
        let table = &schema.name;
        let found = batch.schema();
        for (index, field) in found.fields().iter().enumerate() {
            let name = field.name();
            let is_tag = schema.tags.contains(name);
            if found.fields().iter().skip(index + 1).any(|other| other.name() == name) {
                return Err(Error::Duplicate { table: table.clone(), name: name.clone() });
            }
            if (is_tag && !with_tags)
                || (!is_tag && name != names::TIME && !schema.fields.iter().any(|field| field.name == *name))
            {
                return Err(schema.unknown(name));
            }
        }
        let time =
            batch.column_by_name(names::TIME).ok_or_else(|| Error::batch(table, "the batch has no column time"))?;
        let time = nanos(schema, time)?;
        let mut tags = Vec::new();
        for tag in schema.tags.iter().filter(|_| with_tags) {
            let column = batch.column_by_name(tag).ok_or_else(|| Error::MissingTag {
                table: table.clone(),
                tag: tag.clone(),
                row: 0,
            })?;
            let is_text =
                |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
            match column.data_type() {
                DataType::Dictionary(_, value) if is_text(value) => {}
                other if is_text(other) => {}
                other => return Err(conflict(schema, tag, "utf8", other)),
            }
            tags.push(cast_to(schema, tag, column, &DataType::Utf8View)?.as_string_view().clone());
        }
        let mut fields = Vec::new();
        for field in &schema.fields {
            let Some(column) = batch.column_by_name(&field.name) else {
                if field.required && batch.num_rows() > 0 {
                    return Err(Error::MissingField { table: table.clone(), field: field.name.clone(), row: 0 });
                }
                fields.push(None);
                continue;
            };
            let wanted = field.field_type.arrow();
            let is_text = matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8);
            if *column.data_type() != wanted && !(is_text && field.field_type == FieldType::Utf8) {
                return Err(conflict(schema, &field.name, &field.field_type.to_string(), column.data_type()));
            }
            fields.push(Some(cast_to(schema, &field.name, column, &wanted)?));
        }
        Ok(Self { rows: batch.num_rows(), time, tags, fields })
    }

    /// Times, row by row. Those of rows that [`refused`](Self::refused) names for it are null and say nothing.
    pub(crate) fn times(&self) -> &[i64] {
        self.time.values()
    }

    /// Tag columns in the table's order, row by row.
    pub(crate) fn tags(&self) -> &[StringViewArray] {
        &self.tags
    }

    /// Why row `row` cannot be taken, if it cannot.
    pub(crate) fn refused(&self, schema: &TableSchema, row: usize, value_bytes_max: usize) -> Option<Error> {
        let table = || schema.name.clone();
        if self.time.is_null(row) {
            return Some(Error::InvalidTime { given: format!("null in row {row} of table {:?}", schema.name) });
        }
        for (tag, column) in schema.tags.iter().zip(&self.tags) {
            if column.is_null(row) {
                return Some(Error::MissingTag { table: table(), tag: tag.clone(), row });
            }
        }
        for (field, column) in schema.fields.iter().zip(&self.fields) {
            let Some(column) = column else { continue };
            if column.is_null(row) {
                if field.required {
                    return Some(Error::MissingField { table: table(), field: field.name.clone(), row });
                }
            } else if field.field_type == FieldType::Utf8 {
                let found = column.as_string_view().value(row).len();
                if found > value_bytes_max {
                    return Some(Error::LimitExceeded {
                        limit: "value_bytes_max",
                        max: value_bytes_max as u64,
                        found: found as u64,
                        place: format!("table {:?}, field {:?}, row {row}", schema.name, field.name),
                    });
                }
            }
        }
        None
    }

    /// Whether [`refused`](Self::refused) can name any row at all, so that the usual batch is not looked at row by row.
    pub(crate) fn may_refuse(&self, schema: &TableSchema) -> bool {
        let nulls = |array: &dyn Array| array.null_count() > 0;
        nulls(&self.time)
            || self.tags.iter().any(|tag| nulls(tag))
            || schema.fields.iter().zip(&self.fields).any(|(field, column)| {
                let Some(column) = column else { return false };
                field.field_type == FieldType::Utf8 || (field.required && nulls(column))
            })
    }

    /// The fields of one row.
    pub(crate) fn values(&self, row: usize) -> Vec<Value<'_>> {
        fn value(column: &Option<ArrayRef>, row: usize) -> Value<'_> {
            let Some(column) = column.as_ref().filter(|column| column.is_valid(row)) else { return Value::Null };
            match column.data_type() {
                DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
                DataType::Utf8View => Value::Utf8(column.as_string_view().value(row)),
                DataType::Float64 => Value::F64(column.as_primitive::<Float64Type>().value(row)),
                DataType::Int64 => Value::I64(column.as_primitive::<Int64Type>().value(row)),
                DataType::UInt64 => Value::U64(column.as_primitive::<UInt64Type>().value(row)),
                DataType::Decimal128(_, _) => Value::Decimal(column.as_primitive::<Decimal128Type>().value(row)),
                // `find` lets no other type in.
                _ => Value::Null,
            }
        }
        self.fields.iter().map(|column| value(column, row)).collect()
    }

    /// What a cursor copies from.
    pub(crate) fn sources(&self) -> Vec<(Source<'_>, Option<&NullBuffer>)> {
        fn source(column: &Option<ArrayRef>) -> (Source<'_>, Option<&NullBuffer>) {
            let Some(column) = column else { return (Source::Null, None) };
            let source = match column.data_type() {
                DataType::Boolean => Source::Bool(column.as_boolean()),
                DataType::Utf8View => Source::Utf8(column.as_string_view()),
                DataType::Float64 => Source::Fixed(column.as_primitive::<Float64Type>().values().inner()),
                DataType::Int64 => Source::Fixed(column.as_primitive::<Int64Type>().values().inner()),
                DataType::UInt64 => Source::Fixed(column.as_primitive::<UInt64Type>().values().inner()),
                DataType::Decimal128(_, _) => Source::Fixed(column.as_primitive::<Decimal128Type>().values().inner()),
                // `find` lets no other type in.
                _ => Source::Null,
            };
            (source, column.nulls())
        }
        self.fields.iter().map(source).collect()
    }
}

/// What becomes of one row of a batch.
pub(crate) enum Fate {
    /// It goes into its table.
    Accepted,
    /// It is in quarantine already.
    Quarantined(Reason),
    /// It is nowhere.
    Rejected(Error),
}

/// Runs of rows that are to be taken, having noted in `appended` what became of the others.
pub(crate) fn accepted_runs(
    rows: usize,
    appended: &mut Appended,
    mut fate: impl FnMut(usize) -> Result<Fate>,
) -> Result<Vec<std::ops::Range<usize>>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for row in 0..rows {
        match (fate(row)?, runs.last_mut()) {
            (Fate::Rejected(error), _) => appended.reject(row, error),
            (Fate::Quarantined(reason), _) => appended.quarantine(reason),
            (Fate::Accepted, Some(run)) if run.end == row => run.end = row + 1,
            (Fate::Accepted, _) => runs.push(row..row + 1),
        }
    }
    Ok(runs)
}

fn conflict(schema: &TableSchema, column: &str, expected: &str, found: &DataType) -> Error {
    Error::TypeConflict {
        table: schema.name.clone(),
        field: column.into(),
        expected: expected.into(),
        found: found.to_string(),
    }
}

/// A cast between spellings of one type: text to views of it.
fn cast_to(schema: &TableSchema, column: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    cast(array, to).map_err(|error| Error::batch(&schema.name, format!("column {column:?}: {error}")))
}

/// Nanoseconds from timestamps of any unit. A time with a zone is UTC already, one without is taken as UTC.
fn nanos(schema: &TableSchema, times: &ArrayRef) -> Result<Int64Array> {
    let scaled = |times: Int64Array, nanos_each: i64| {
        let scale = |time: i64| {
            let given = || format!("{time} units of {nanos_each} ns in table {:?}", schema.name);
            time.checked_mul(nanos_each).ok_or_else(|| Error::InvalidTime { given: given() })
        };
        times.try_unary::<_, Int64Type, Error>(scale)
    };
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Ok(times.as_primitive::<TimestampNanosecondType>().reinterpret_cast())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            scaled(times.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(), 1_000)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            scaled(times.as_primitive::<TimestampMillisecondType>().reinterpret_cast(), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            scaled(times.as_primitive::<TimestampSecondType>().reinterpret_cast(), 1_000_000_000)
        }
        other => Err(conflict(schema, names::TIME, "timestamp", other)),
    }
}
