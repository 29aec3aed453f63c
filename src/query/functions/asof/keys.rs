//! Keys as bytes and times as numbers, so that comparing costs the same whatever their types.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::{SortOptions, cast, filter_record_batch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::type_coercion::binary::{BinaryTypeCoercer, comparison_coercion};
use datafusion::physical_expr::PhysicalExpr;

/// How far apart two times may be: the literal, and whether it is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    pub(super) limit: ScalarValue,
    pub(super) inclusive: bool,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.inclusive { "<=" } else { "<" }, self.limit)
    }
}

/// Which right time belongs to a left one.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    /// Both times are cast to this.
    pub(super) time_type: DataType,
    /// The latest not after it, or else the earliest not before it.
    pub(super) backward: bool,
    /// An equal time does not match.
    pub(super) strict: bool,
    reach: Option<Reach>,
}

/// The tolerance, in numbers of the times.
#[derive(Clone, Copy, Debug)]
enum Reach {
    Ticks(i128),
    Float { limit: f64, inclusive: bool },
}

impl Matching {
    pub(super) fn try_new(
        operator: Operator,
        bound: Option<&Bound>,
        left: &DataType,
        right: &DataType,
    ) -> Result<Self> {
        let time_type = common_time(operator, left, right)?;
        let reach = bound.map(|bound| reach(bound, &time_type)).transpose()?;
        Ok(Self {
            time_type,
            backward: matches!(operator, Operator::GtEq | Operator::Gt),
            strict: matches!(operator, Operator::Gt | Operator::Lt),
            reach,
        })
    }

    /// Whether times that are in order are near enough.
    pub(super) fn reaches(&self, left: i64, right: i64) -> bool {
        match self.reach {
            None => true,
            Some(Reach::Ticks(ticks)) => (i128::from(left) - i128::from(right)).abs() <= ticks,
            Some(Reach::Float { limit, inclusive }) => {
                let apart = (float_of(left) - float_of(right)).abs();
                if inclusive { apart <= limit } else { apart < limit }
            }
        }
    }

    /// Whether a right time lies on the near side of where the match is: for `>=`, whether it is not after the left one.
    pub(super) fn is_before(&self, right: i64, left: i64) -> bool {
        if self.backward != self.strict { right <= left } else { right < left }
    }

    /// The row of `times`, which ascend without equals, that belongs to `left`. `near` is where to look first.
    pub(super) fn find(&self, times: &[i64], left: i64, near: usize) -> Option<usize> {
        let before = |at: usize| times.get(at).is_some_and(|right| self.is_before(*right, left));
        let is_point = near <= times.len() && (near == 0 || before(near - 1)) && !before(near);
        let point = if is_point { near } else { times.partition_point(|right| self.is_before(*right, left)) };
        let at = if self.backward { point.checked_sub(1)? } else { point };
        times.get(at).filter(|right| self.reaches(left, **right)).map(|_| at)
    }
}

/// The type that times of two types are compared in, one that [`Side`] makes numbers of.
fn common_time(operator: Operator, left: &DataType, right: &DataType) -> Result<DataType> {
    let common = match BinaryTypeCoercer::new(left, &operator, right).get_input_types() {
        Ok((left, right)) if left == right => Some(left),
        // Two zones are one instant all the same.
        Ok((DataType::Timestamp(unit, zone), DataType::Timestamp(_, _))) => Some(DataType::Timestamp(unit, zone)),
        _ => None,
    };
    match common {
        Some(
            common @ (DataType::Timestamp(..)
            | DataType::Date32
            | DataType::Date64
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Duration(_)
            | DataType::UInt64),
        ) => Ok(common),
        Some(common) if common.is_integer() => Ok(DataType::Int64),
        Some(common) if common.is_floating() => Ok(DataType::Float64),
        _ => plan_err!(
            "ASOF JOIN: MATCH_CONDITION compares {left} with {right}; it takes timestamps, dates, or numbers: CAST the \
             one that is none, as in CAST(b.time AS TIMESTAMP)"
        ),
    }
}

/// The type that keys of two types are compared in.
pub(super) fn common_key(left: &DataType, right: &DataType) -> Result<DataType> {
    let common = if left == right { Some(left.clone()) } else { comparison_coercion(left, right) };
    let common = common.map(|common| match common {
        // Equal texts have equal bytes, encoded or not.
        DataType::Dictionary(_, values) => *values,
        other => other,
    });
    match common {
        Some(common) if RowConverter::supports_fields(&[SortField::new(common.clone())]) => Ok(common),
        _ => plan_err!("ASOF JOIN: ON compares {left} with {right}, which cannot be equal; CAST one of them"),
    }
}

/// Nanoseconds of one step of a time type.
fn tick_nanos(time: &DataType) -> Option<i128> {
    let of_unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    match time {
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) | DataType::Duration(unit) => {
            Some(of_unit(unit))
        }
        DataType::Date32 => Some(DAY_NANOS),
        DataType::Date64 => Some(1_000_000),
        _ => None,
    }
}

const DAY_NANOS: i128 = 86_400_000_000_000;

fn reach(bound: &Bound, time: &DataType) -> Result<Reach> {
    let limit = &bound.limit;
    let refused = |what: &str| plan_err!("ASOF JOIN: the tolerance {limit} {what}");
    if let Some(tick) = tick_nanos(time) {
        let nanos = match limit {
            ScalarValue::IntervalMonthDayNano(Some(value)) if value.months == 0 => {
                i128::from(value.days) * DAY_NANOS + i128::from(value.nanoseconds)
            }
            ScalarValue::IntervalDayTime(Some(value)) => {
                i128::from(value.days) * DAY_NANOS + i128::from(value.milliseconds) * 1_000_000
            }
            ScalarValue::DurationSecond(Some(value)) => i128::from(*value) * 1_000_000_000,
            ScalarValue::DurationMillisecond(Some(value)) => i128::from(*value) * 1_000_000,
            ScalarValue::DurationMicrosecond(Some(value)) => i128::from(*value) * 1_000,
            ScalarValue::DurationNanosecond(Some(value)) => i128::from(*value),
            ScalarValue::IntervalMonthDayNano(Some(_)) | ScalarValue::IntervalYearMonth(Some(_)) => {
                return refused("is counted in months, which differ in length; use days or smaller units");
            }
            _ => return refused("is not an interval; between times write one, as in INTERVAL '30 minutes'"),
        };
        if nanos < 0 {
            return refused("is negative; the difference is bounded in the order that makes it positive");
        }
        // In whole steps: 90 minutes reach one day step, not two.
        let ticks = if bound.inclusive { nanos / tick } else { (nanos + tick - 1) / tick - 1 };
        return Ok(Reach::Ticks(ticks));
    }
    let number = match limit.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(number))) if limit.data_type().is_numeric() && !number.is_nan() => number,
        _ => return refused("is not a number, as the compared columns are"),
    };
    if number < 0.0 {
        return refused("is negative; the difference is bounded in the order that makes it positive");
    }
    if *time == DataType::Float64 {
        return Ok(Reach::Float { limit: number, inclusive: bound.inclusive });
    }
    let ticks = match limit.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(whole))) if limit.data_type().is_integer() => {
            i128::from(whole) - i128::from(!bound.inclusive)
        }
        _ if bound.inclusive => number.floor() as i128,
        _ => number.ceil() as i128 - 1,
    };
    Ok(Reach::Ticks(ticks))
}

/// The order of floats that sorting has, as integers: NaN above all, -0.0 below 0.0.
fn bits_of(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn float_of(bits: i64) -> f64 {
    f64::from_bits((bits ^ (((bits >> 63) as u64) >> 1) as i64) as u64)
}

/// How one input's keys and times are computed and compared.
pub(super) struct Side {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    time: Arc<dyn PhysicalExpr>,
    /// None without keys.
    converter: Option<RowConverter>,
}

/// A batch with its keys and times.
pub(super) struct Prepared {
    pub(super) batch: RecordBatch,
    keys: Option<Rows>,
    pub(super) times: ScalarBuffer<i64>,
    /// Rows that can match: neither key nor time is null.
    valid: Option<NullBuffer>,
}

impl Side {
    /// `options` order the keys.
    pub(super) fn try_new(
        keys: Vec<Arc<dyn PhysicalExpr>>,
        types: &[DataType],
        options: &[SortOptions],
        time: Arc<dyn PhysicalExpr>,
    ) -> Result<Self> {
        let fields: Vec<SortField> = types
            .iter()
            .zip(options)
            .map(|(key, options)| SortField::new_with_options(key.clone(), *options))
            .collect();
        if fields.len() != keys.len() {
            return internal_err!("{} keys of {} types", keys.len(), fields.len());
        }
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self { keys, time, converter })
    }

    pub(super) fn prepare(&self, batch: RecordBatch) -> Result<Prepared> {
        let rows = batch.num_rows();
        let time = ticks(&self.time.evaluate(&batch)?.into_array(rows)?)?;
        let times = time.as_primitive::<Int64Type>();
        let mut valid = times.nulls().cloned();
        let mut arrays = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            let array = key.evaluate(&batch)?.into_array(rows)?;
            valid = NullBuffer::union(valid.as_ref(), array.logical_nulls().as_ref());
            arrays.push(array);
        }
        let keys = self.converter.as_ref().map(|converter| converter.convert_columns(&arrays)).transpose()?;
        let valid = valid.filter(|valid| valid.null_count() > 0);
        Ok(Prepared { batch, keys, times: times.values().clone(), valid })
    }

    /// The same without rows that cannot match.
    pub(super) fn prepare_valid(&self, batch: RecordBatch) -> Result<Prepared> {
        let prepared = self.prepare(batch)?;
        let Some(valid) = &prepared.valid else { return Ok(prepared) };
        self.prepare(filter_record_batch(&prepared.batch, &valid.inner().clone().into())?)
    }
}

/// Times as numbers that compare as they do.
fn ticks(time: &ArrayRef) -> Result<ArrayRef> {
    Ok(match time.data_type() {
        DataType::Float64 => {
            let floats = time.as_primitive::<Float64Type>();
            Arc::new(floats.unary::<_, Int64Type>(bits_of))
        }
        DataType::UInt64 => {
            let numbers = time.as_primitive::<UInt64Type>();
            Arc::new(numbers.unary::<_, Int64Type>(|number| (number ^ (1 << 63)) as i64))
        }
        DataType::Date32 | DataType::Time32(_) => cast(&cast(time, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(time, &DataType::Int64)?,
    })
}

impl Prepared {
    pub(super) fn rows(&self) -> usize {
        self.times.len()
    }

    pub(super) fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid.is_valid(row))
    }

    /// The key's bytes, which order as the keys do. The caller's `row` is one of the batch.
    pub(super) fn key(&self, row: usize) -> &[u8] {
        self.keys.as_ref().map_or(&[], |keys| keys.row(row).data())
    }

    /// The time at `row`, which is one of the batch.
    pub(super) fn time(&self, row: usize) -> i64 {
        self.times.get(row).copied().unwrap_or_default()
    }

    pub(super) fn size(&self) -> usize {
        self.keys.as_ref().map_or(0, Rows::size) + self.times.inner().capacity()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn floats_order_as_numbers() {
        let floats = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, f64::MIN_POSITIVE, 1.5, f64::INFINITY, f64::NAN];
        assert!(floats.map(bits_of).is_sorted_by(|a, b| a < b));
        assert!(floats.iter().all(|float| float_of(bits_of(*float)).to_bits() == float.to_bits()));
    }

    #[test]
    fn a_match_is_found_from_any_hint() {
        let times = [i64::MIN, -5, 0, 7, i64::MAX];
        let cases = [
            (Operator::GtEq, [Some(0), Some(1), Some(2), Some(2), Some(3), Some(4)]),
            (Operator::Gt, [None, Some(0), Some(1), Some(2), Some(2), Some(3)]),
            (Operator::LtEq, [Some(0), Some(1), Some(2), Some(3), Some(3), Some(4)]),
            (Operator::Lt, [Some(1), Some(2), Some(3), Some(3), Some(4), None]),
        ];
        for (operator, expected) in cases {
            let matching = Matching::try_new(operator, None, &DataType::Int64, &DataType::Int64).unwrap();
            for near in 0..=6 {
                let found = [i64::MIN, -5, 0, 1, 7, i64::MAX].map(|left| matching.find(&times, left, near));
                assert_eq!(found, expected, "{operator} near {near}");
            }
        }
    }

    #[test]
    fn a_tolerance_counts_whole_steps() {
        let minutes =
            |minutes: i64, inclusive| Bound { limit: ScalarValue::DurationSecond(Some(60 * minutes)), inclusive };
        let reaches = |bound: &Bound, time: DataType, apart| {
            Matching::try_new(Operator::GtEq, Some(bound), &time, &time).unwrap().reaches(apart, 0)
        };
        let second = DataType::Timestamp(TimeUnit::Second, None);
        assert!(reaches(&minutes(1, true), second.clone(), 60) && !reaches(&minutes(1, true), second.clone(), 61));
        assert!(reaches(&minutes(1, false), second.clone(), 59) && !reaches(&minutes(1, false), second, 60));
        assert!(
            reaches(&minutes(1_500, true), DataType::Date32, 1) && !reaches(&minutes(1_500, true), DataType::Date32, 2)
        );
        assert!(reaches(&minutes(1_500, false), DataType::Date32, 1));
        assert!(reaches(&minutes(0, true), DataType::Date32, 0) && !reaches(&minutes(0, false), DataType::Date32, 0));
    }
}
