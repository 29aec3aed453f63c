//! `date_bin_wallclock`: bins by the calendar and the clock of the time's zone.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, FieldRef, IntervalDayTime, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{ScalarValue, exec_datafusion_err};
use datafusion::error::Result;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::Entry;
use super::arguments::{check_count, check_time, nth, tick_ns, ticks, timestamps, wrong};
use super::bins::{Binner, Bins, DAY_NS, Stride, offset};

pub(super) const NAME: &str = "date_bin_wallclock";
pub(super) const SIGNATURE: &str = "date_bin_wallclock(interval, time [, origin])";

pub(super) const REFERENCE: &[Entry] = &[Entry {
    name: NAME,
    signature: SIGNATURE,
    summary: "The begin of the bin that a time is in, by the clock and calendar of the time's zone.",
    details: "Give the time a zone with AT TIME ZONE: `time AT TIME ZONE 'Asia/Pontianak'`, or \
              arrow_cast(time, 'Timestamp(Nanosecond, Some(\"Asia/Pontianak\"))'); the answer has it too. (A time without zone is taken to be that zone's own.) Days are from \
              midnight to midnight there, of 23 or 25 hours when the clock is set; weeks begin on Monday; months and \
              years are the calendar's. The interval is constant and positive: months and years, or days and less, not \
              both. Bins are counted from the origin: a constant timestamp, local if it has no zone; else 1970-01-01 \
              00:00 local, and 1970-01-05, a Monday, for whole weeks. A bin of a day or longer begins when the clock first \
              shows its boundary or jumps over it; a shorter one whenever it does, so that the hour a clock set back \
              shows twice is two bins. A time without zone is its own clock; date_bin is for UTC. A null time gives null. \
              Errors: an interval that is zero, negative, null, mixed or not constant; an unknown zone; a time outside \
              1677 to 2262. Cost: that of date_bin for times of few bins, else a look into the zone's table a bin.",
    example: "SELECT date_bin_wallclock(INTERVAL '1 day', t AT TIME ZONE 'Asia/Pontianak') AS day FROM (VALUES \
              (arrow_cast('2026-01-02T18:30:00Z', 'Timestamp(Nanosecond, Some(\"UTC\"))'))) AS x(t)\n\
              -- 2026-01-03T00:00:00+07:00",
}];

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    vec![date_bin()]
}

/// The function.
pub(super) fn date_bin() -> Arc<ScalarUDF> {
    let signature = Signature::variadic_any(Volatility::Immutable);
    Arc::new(ScalarUDF::from(Wallclock { signature }))
}

/// The interval that an argument gives.
pub(super) fn stride(function: &str, value: &ScalarValue) -> Result<Stride> {
    let remedy = "give a constant and positive one, such as INTERVAL '15 minutes'";
    let is = |what: &str| wrong(function, "interval", what, remedy);
    let (months, days, ns) = match value {
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds })) => {
            (*months, *days, *nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(IntervalDayTime { days, milliseconds })) => {
            (0, *days, i64::from(*milliseconds) * 1_000_000)
        }
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0, 0),
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
            let parsed = value.cast_to(&DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano));
            return match parsed {
                Ok(interval) => stride(function, &interval),
                Err(_) => Err(is(&format!("is {text:?}, which is no interval"))),
            };
        }
        value if value.is_null() => return Err(is("is null")),
        value => return Err(is(&format!("is {}", value.data_type()))),
    };
    let short = i64::from(days).checked_mul(DAY_NS).and_then(|days| days.checked_add(ns));
    let Some(short) = short else { return Err(is("is longer than 292 years of days")) };
    match (months, short) {
        (0, 0) => Err(is("is zero")),
        (0, 1..) => Ok(Stride::Nanoseconds(short)),
        (1.., 0) if days == 0 => Ok(Stride::Months(months)),
        (..0, _) | (_, ..0) => Err(is("is negative")),
        _ => Err(is("mixes months with days or less, so that it has no fixed calendar")),
    }
}

/// The zone of a timestamp type, if it has one.
pub(super) fn zone(function: &str, time: &DataType) -> Result<Option<Tz>> {
    let DataType::Timestamp(_, Some(name)) = time else { return Ok(None) };
    match name.parse() {
        Ok(zone) => Ok(Some(zone)),
        Err(_) => {
            let remedy = "name one of the IANA database, such as 'Asia/Pontianak', or an offset, such as '+07:00'";
            Err(wrong(function, "time", format_args!("has the unknown zone {name:?}"), remedy))
        }
    }
}

/// The local time that bins are counted from.
fn origin(function: &str, given: Option<&ScalarValue>, stride: Stride, zone: Option<&Tz>) -> Result<i64> {
    /// A Monday.
    const FIRST_WEEK: i64 = 4 * DAY_NS;
    let Some(given) = given else {
        let is_weeks = matches!(stride, Stride::Nanoseconds(ns) if ns % (7 * DAY_NS) == 0);
        return Ok(if is_weeks { FIRST_WEEK } else { 0 });
    };
    let has_zone = matches!(given.data_type(), DataType::Timestamp(_, Some(_)));
    let unit = DataType::Timestamp(TimeUnit::Nanosecond, has_zone.then(|| "+00:00".into()));
    match given.cast_to(&unit) {
        Ok(ScalarValue::TimestampNanosecond(Some(origin), None)) => Ok(origin),
        Ok(ScalarValue::TimestampNanosecond(Some(origin), Some(_))) => {
            Ok(origin.saturating_add(zone.map_or(0, |zone| offset(zone, origin))))
        }
        _ => {
            let remedy =
                "give a constant timestamp, local to the zone of `time`, such as TIMESTAMP '2026-01-01 06:00:00'";
            Err(wrong(function, "origin", format_args!("is {given}"), remedy))
        }
    }
}

/// The bins that arguments describe; `time` is the type of the second.
pub(super) fn bins(
    function: &str,
    interval: &ScalarValue,
    time: &DataType,
    from: Option<&ScalarValue>,
) -> Result<Bins> {
    let stride = stride(function, interval)?;
    let zone = zone(function, time)?;
    let origin = origin(function, from, stride, zone.as_ref())?;
    Ok(Bins::new(stride, origin, zone))
}

/// The constant that an argument has to be.
pub(super) fn scalar<'a>(function: &str, argument: &str, found: Option<&'a ScalarValue>) -> Result<&'a ScalarValue> {
    let remedy = "give a constant: bins whose place depends on the row are none";
    found.ok_or_else(|| wrong(function, argument, "is not constant", remedy))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Wallclock {
    signature: Signature,
}

impl ScalarUDFImpl for Wallclock {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        check_count(SIGNATURE, arguments.len(), 2..=3)?;
        let time = nth(arguments, 1)?;
        check_time(NAME, "time", time)?;
        zone(NAME, time)?;
        Ok(time.clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let answer = self.return_type(&types)?;
        // What is constant is known now; what is computed from constants, when the statement runs.
        if let Some(Some(interval)) = arguments.scalar_arguments.first() {
            stride(NAME, interval)?;
        }
        let is_nullable = nth(arguments.arg_fields, 1)?.is_nullable();
        Ok(Arc::new(arrow::datatypes::Field::new(NAME, answer, is_nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = |place: usize, name| -> Result<Option<&ScalarValue>> {
            match arguments.args.get(place) {
                None => Ok(None),
                Some(ColumnarValue::Scalar(value)) => Ok(Some(value)),
                Some(ColumnarValue::Array(_)) => scalar(NAME, name, None).map(Some),
            }
        };
        let interval = scalar(NAME, "interval", constant(0, "interval")?)?;
        let time_type = arguments.return_field.data_type();
        let bins = bins(NAME, interval, time_type, constant(2, "origin")?)?;
        Ok(match nth(&arguments.args, 1)? {
            ColumnarValue::Array(times) => ColumnarValue::Array(binned(&bins, times, time_type)?),
            ColumnarValue::Scalar(time) => {
                let starts = binned(&bins, &time.to_array()?, time_type)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&starts, 0)?)
            }
        })
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        let is_constant =
            |place: usize| input.get(place).is_none_or(|input| input.sort_properties == SortProperties::Singleton);
        let time = nth(input, 1)?.sort_properties;
        Ok(if is_constant(0) && is_constant(2) { time } else { SortProperties::Unordered })
    }
}

fn binned(bins: &Bins, times: &ArrayRef, time_type: &DataType) -> Result<ArrayRef> {
    let tick = tick_ns(time_type);
    let mut binner = Binner::new(bins);
    let mut start = |time: i64| {
        let start = time.checked_mul(tick).and_then(|time| binner.start(time));
        start.map(|start| start.div_euclid(tick)).ok_or_else(|| {
            exec_datafusion_err!(
                "{NAME}: argument `time` is {time} in units of {tick} ns, whose bin is outside of the years 1677 to 2262; \
                 leave such rows out"
            )
        })
    };
    let starts = ticks(times)?.iter().map(|time| time.map(&mut start).transpose()).collect::<Result<Int64Array>>()?;
    timestamps(&starts, time_type)
}
