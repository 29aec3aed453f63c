//! Checking what functions are called with, and saying what is wrong in one form.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Int64Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// The error of one argument: what is wrong with it, and what to write instead.
pub(super) fn wrong(function: &str, argument: &str, what: impl std::fmt::Display, remedy: &str) -> DataFusionError {
    DataFusionError::Plan(format!("{function}: argument `{argument}` {what}; {remedy}"))
}

/// Checks the number of arguments against a signature such as `first(value, time)`.
pub(super) fn check_count(signature: &str, found: usize, allowed: std::ops::RangeInclusive<usize>) -> Result<()> {
    if allowed.contains(&found) {
        return Ok(());
    }
    let s = if found == 1 { "" } else { "s" };
    let name = signature.split('(').next().unwrap_or(signature);
    Err(DataFusionError::Plan(format!("{name}: {found} argument{s} given; write {signature}")))
}

/// Checks that an argument is a timestamp.
pub(super) fn check_time(function: &str, argument: &str, found: &DataType) -> Result<()> {
    if matches!(found, DataType::Timestamp(..)) {
        return Ok(());
    }
    let remedy = "give a timestamp, such as the column `time`, or cast it: CAST(x AS TIMESTAMP)";
    Err(wrong(function, argument, format_args!("is {found}"), remedy))
}

/// Checks that an argument is a number.
pub(super) fn check_number(function: &str, argument: &str, found: &DataType) -> Result<()> {
    // An untyped NULL is nobody's mistake.
    if found.is_numeric() || found.is_null() {
        return Ok(());
    }
    let remedy = "give a number, or cast it: CAST(x AS DOUBLE)";
    Err(wrong(function, argument, format_args!("is {found}"), remedy))
}

/// The argument of that place, which the engine has checked to be there.
pub(super) fn nth<T>(arguments: &[T], place: usize) -> Result<&T> {
    match arguments.get(place) {
        Some(argument) => Ok(argument),
        None => internal_err!("argument {place} of {} is missing", arguments.len()),
    }
}

/// The integers of a column of timestamps, in their own unit.
pub(super) fn ticks(column: &ArrayRef) -> Result<Int64Array> {
    Ok(match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            column.as_primitive::<TimestampSecondType>().reinterpret_cast::<Int64Type>()
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            column.as_primitive::<TimestampMillisecondType>().reinterpret_cast::<Int64Type>()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().reinterpret_cast::<Int64Type>()
        }
        _ => cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
    })
}

/// Timestamps of type `to` from integers in its unit.
pub(super) fn timestamps(ticks: &Int64Array, to: &DataType) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, zone) = to else { return internal_err!("{to} is not a timestamp") };
    Ok(match unit {
        TimeUnit::Second => {
            Arc::new(ticks.reinterpret_cast::<TimestampSecondType>().with_timezone_opt(zone.clone())) as ArrayRef
        }
        TimeUnit::Millisecond => {
            Arc::new(ticks.reinterpret_cast::<TimestampMillisecondType>().with_timezone_opt(zone.clone()))
        }
        TimeUnit::Microsecond => {
            Arc::new(ticks.reinterpret_cast::<TimestampMicrosecondType>().with_timezone_opt(zone.clone()))
        }
        TimeUnit::Nanosecond => {
            Arc::new(ticks.reinterpret_cast::<TimestampNanosecondType>().with_timezone_opt(zone.clone()))
        }
    })
}

/// Nanoseconds of one tick of a timestamp type.
pub(super) fn tick_ns(time: &DataType) -> i64 {
    match time {
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    }
}

/// What an expression is, whatever the row; none if it depends on one.
pub(super) fn constant(expression: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match expression.evaluate(&nothing) {
        Ok(ColumnarValue::Scalar(value)) => Some(value),
        _ => None,
    }
}
