//! The columns of the rows that come out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray, UInt32Array, downcast_integer,
};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type};
use datafusion::common::{ScalarValue, exec_datafusion_err, internal_err};
use datafusion::error::Result;

use super::grid::MaxGap;
use super::work::{NONE, Nearest, Slots};
use crate::query::functions::arguments::timestamps;

/// Whether values of a type have a straight line between them.
pub(super) fn can_interpolate(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64 | DataType::Decimal128(..)) || data_type.is_integer()
}

/// The bins that came out, as a column of type `to`, whose ticks are `tick_ns` long.
pub(super) fn times(slots: &Slots, to: &DataType, tick_ns: i64) -> Result<ArrayRef> {
    timestamps(&slots.start.iter().map(|start| start.div_euclid(tick_ns)).collect::<Int64Array>(), to)
}

/// A group key: that of the input row, also where the row is new.
pub(super) fn keys(slots: &Slots, values: &ArrayRef) -> Result<ArrayRef> {
    if let Some(rows) = slots.as_range() {
        return Ok(values.slice(rows.start, rows.len()));
    }
    Ok(take(values, &UInt32Array::from(slots.row.clone()), None)?)
}

/// The input's values, and `constant` in new rows.
pub(super) fn constant(slots: &Slots, values: &ArrayRef, constant: &ScalarValue) -> Result<ArrayRef> {
    if let Some(rows) = slots.as_range() {
        return Ok(values.slice(rows.start, rows.len()));
    }
    let old = slots.row.iter().zip(&slots.is_new);
    if constant.is_null() {
        let rows = old.map(|(row, is_new)| (!is_new).then_some(*row)).collect::<UInt32Array>();
        return Ok(take(values, &rows, None)?);
    }
    let constant = constant.to_array()?;
    let picks: Vec<_> = old.map(|(row, is_new)| if *is_new { (1, 0) } else { (0, *row as usize) }).collect();
    Ok(interleave(&[values.as_ref(), constant.as_ref()], &picks)?)
}

/// A column to be filled, and what is known of its input.
pub(super) struct Filling<'a> {
    pub(super) values: &'a ArrayRef,
    /// Where there is a value around each input row.
    pub(super) nearest: &'a Nearest,
    /// The begins of the bins of the input rows, and of the value that row 0 has from earlier batches.
    pub(super) starts: &'a [i64],
    pub(super) carried_start: Option<i64>,
    pub(super) max_gap: Option<&'a MaxGap>,
}

impl Filling<'_> {
    /// The begin of the bin whose value an input row has.
    fn start(&self, row: u32) -> i64 {
        match (row, self.carried_start) {
            (0, Some(start)) => start,
            _ => self.starts.get(row as usize).copied().unwrap_or(i64::MAX),
        }
    }

    /// The nearest row with a value at or before a slot.
    fn before(&self, slots: &Slots, at: usize) -> u32 {
        let row = slots.before.get(at).copied().unwrap_or(NONE);
        self.nearest.before.get(row as usize).copied().unwrap_or(NONE)
    }

    /// The nearest row with a value at or after a slot.
    fn after(&self, slots: &Slots, at: usize) -> u32 {
        let (row, before) = (slots.row.get(at).copied(), slots.before.get(at).copied());
        // A new row behind the last of its group names that one twice.
        let is_behind = slots.is_new.get(at) == Some(&true) && row == before;
        let row = if is_behind { None } else { row };
        row.and_then(|row| self.nearest.after.get(row as usize)).copied().unwrap_or(NONE)
    }

    /// The last value observed.
    pub(super) fn locf(&self, slots: &Slots) -> Result<ArrayRef> {
        if let Some(rows) = slots.as_range() {
            let values = self.values.slice(rows.start, rows.len());
            if values.logical_null_count() == 0 {
                return Ok(values);
            }
        }
        let (mut last, mut reach) = (NONE, i64::MAX);
        let pick = |(at, start): (usize, &i64)| {
            let before = self.before(slots, at);
            if before != last {
                last = before;
                reach = self.max_gap.map_or(i64::MAX, |gap| gap.reach(self.start(before)));
            }
            (before != NONE && *start <= reach).then_some(before)
        };
        let rows = slots.start.iter().enumerate().map(pick).collect::<UInt32Array>();
        Ok(take(self.values, &rows, None)?)
    }

    /// The value on the line between the observations around.
    pub(super) fn interpolate(&self, slots: &Slots) -> Result<ArrayRef> {
        if let Some(rows) = slots.as_range() {
            let values = self.values.slice(rows.start, rows.len());
            if values.null_count() == 0 {
                return Ok(values);
            }
        }
        let (mut last, mut reach) = (NONE, i64::MAX);
        let pick = |(at, start): (usize, &i64)| {
            let (before, after) = (self.before(slots, at), self.after(slots, at));
            if before == after || before == NONE || after == NONE {
                return if before == after && before != NONE { Pick::Value(before) } else { Pick::Null };
            }
            if before != last {
                last = before;
                reach = self.max_gap.map_or(i64::MAX, |gap| gap.reach(self.start(before)));
            }
            let (from, to) = (self.start(before), self.start(after));
            if to > reach {
                return Pick::Null;
            }
            Pick::Between { before, after, passed: start.wrapping_sub(from), length: to.wrapping_sub(from) }
        };
        line(self.values, slots.start.iter().enumerate().map(pick))
    }
}

/// Where a value comes from.
enum Pick {
    Null,
    Value(u32),
    /// On the line between two rows, `passed` of `length` along.
    Between {
        before: u32,
        after: u32,
        passed: i64,
        length: i64,
    },
}

fn line(values: &ArrayRef, picks: impl Iterator<Item = Pick>) -> Result<ArrayRef> {
    macro_rules! integers {
        ($type:ty) => {
            between::<$type>(values, picks, |from, to, passed, length| {
                let between = whole_line(from.into(), to.into(), passed, length);
                between.and_then(|value| value.try_into().ok())
            })
        };
    }
    let share = |passed: i64, length: i64| passed as f64 / length as f64;
    downcast_integer! {
        values.data_type() => (integers),
        DataType::Float64 => between::<Float64Type>(values, picks, |from, to, passed, length| {
            Some(from + (to - from) * share(passed, length))
        }),
        DataType::Float32 => between::<Float32Type>(values, picks, |from, to, passed, length| {
            let (from, to) = (f64::from(from), f64::from(to));
            Some((from + (to - from) * share(passed, length)) as f32)
        }),
        DataType::Decimal128(..) => between::<Decimal128Type>(values, picks, whole_line),
        other => internal_err!("interpolate was planned for {other}"),
    }
}

fn between<T: ArrowPrimitiveType>(
    values: &ArrayRef,
    picks: impl Iterator<Item = Pick>,
    on_line: impl Fn(T::Native, T::Native, i64, i64) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let column = values.as_primitive::<T>();
    let value = |pick| {
        Ok(match pick {
            Pick::Null => None,
            Pick::Value(row) => Some(column.value(row as usize)),
            Pick::Between { before, after, passed, length } => {
                let (from, to) = (column.value(before as usize), column.value(after as usize));
                let found = on_line(from, to, passed, length);
                Some(found.ok_or_else(|| {
                    exec_datafusion_err!(
                        "interpolate: argument `aggregate` goes from {from:?} to {to:?}, further apart than can be \
                         computed; cast it to DOUBLE"
                    )
                })?)
            }
        })
    };
    let filled = picks.map(value).collect::<Result<PrimitiveArray<T>>>()?;
    Ok(Arc::new(filled.with_data_type(values.data_type().clone())))
}

/// The whole number nearest to the line, halves away from zero. `passed` is in `0..=length`.
fn whole_line(from: i128, to: i128, passed: i64, length: i64) -> Option<i128> {
    let rise = to.checked_sub(from)?;
    let (passed, length) = (i128::from(passed), i128::from(length));
    // In two parts, of which neither overflows.
    let (whole, rest) = (rise / length, rise % length);
    let rest = rest * passed;
    let (part, left) = (rest / length, rest % length);
    let value = from.checked_add(whole.checked_mul(passed)?)?.checked_add(part)?;
    let distance = left.unsigned_abs() * 2;
    let length = length.unsigned_abs();
    // Halfway, the sign of the value decides which way is away from zero.
    let is_outward = value == 0 || left.is_negative() == value.is_negative();
    let is_away = if is_outward { distance >= length } else { distance > length };
    Some(if left != 0 && is_away { value + left.signum() } else { value })
}
