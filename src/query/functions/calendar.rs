//! Working days and office hours, by a table of holidays.

mod days;

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Int64Type, Schema, Time64NanosecondType, TimeUnit};
use chrono::{DateTime, LocalResult, Offset, TimeDelta, TimeZone};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{ScalarValue, exec_err, internal_err, plan_err};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::Entry;
use super::arguments::{check_count, nth, tick_ns, ticks, timestamps, wrong};
pub(super) use days::Calendar;

const IS_WORKING_DAY: &str = "is_working_day";
const ADD_WORKING_DAYS: &str = "add_working_days";
const WORKING_SECONDS: &str = "working_seconds_between";
pub(super) const HOLIDAYS: &str = "holidays";

const DAY_NS: i64 = 86_400_000_000_000;
/// Days that may be added; the largest number that makes sense by far.
const DAYS_MAX: i64 = 10_000_000;

pub(super) const REFERENCE: &[Entry] = &[
    Entry {
        name: IS_WORKING_DAY,
        signature: "is_working_day(date [, calendar])",
        summary: "Whether a date, or a time where its clock hangs, is on a working day.",
        details: "The time is a date or a timestamp; one with a zone counts in it: time AT TIME ZONE 'Asia/Pontianak'. \
                  Saturdays and Sundays are free, and so are the days of the calendar: a list of dates, such as a table \
                  that you fill gives, (SELECT array_agg(day) FROM my_holidays), where null is no holiday at all; or the \
                  name of one that is known: 'ID', Indonesia's national holidays of 2013 to 2027, or 'ID+leave', those \
                  and the days of collective leave. holidays('ID') shows the days with their sources; of 2027 only those \
                  are known that the law fixes or Easter determines. Outside the years of a named calendar the answer is \
                  null, and so for a null date. Errors: another type, an unknown name. Cost: a binary search a row.",
        example: "SELECT is_working_day(DATE '2026-08-17', 'ID') AS w\n-- false",
    },
    Entry {
        name: ADD_WORKING_DAYS,
        signature: "add_working_days(time, n [, calendar])",
        summary: "The same time of day, n working days later, or earlier if n is negative.",
        details: "Counts working days after the time's own day, whether that is one or not; 0 gives the time itself. The \
                  answer has the time's type and shows the same time on its clock: the earlier of two where a clock set \
                  back shows it twice, and the later one that it jumps to where it does not show it. The calendar is that \
                  of is_working_day. The answer is null if an argument other than the calendar is, or outside the years of a named \
                  calendar. Errors: another type, an unknown name, n over ten million, an answer that the type cannot \
                  hold. Cost: a binary search a row, however many days.",
        example: "SELECT add_working_days(TIMESTAMP '2026-08-14T16:00:00', 5, 'ID') AS t\n-- 2026-08-24T16:00:00",
    },
    Entry {
        name: WORKING_SECONDS,
        signature: "working_seconds_between(from, to, opens, closes [, calendar])",
        summary: "Seconds of office hours between two times.",
        details: "The office is open on working days from the time of day opens until closes, which is later: TIME \
                  '08:00:00', or '08:00'. Both times are of one zone, or of none, and hours are those of its wall clock. \
                  Negative if to is before from. The calendar is that of is_working_day. The answer is null if an argument other than \
                  the calendar is, or outside the years of a named calendar. Errors: other types, two zones, closes not \
                  after opens, an unknown name. Cost: a binary search a row, however far the times are apart.",
        example: "SELECT working_seconds_between(TIMESTAMP '2026-08-14T15:00:00', TIMESTAMP '2026-08-18T09:30:00', \
                  '08:00', '16:00', 'ID') AS s\n-- 9000.0",
    },
    Entry {
        name: HOLIDAYS,
        signature: "holidays(calendar)",
        summary: "A table of the days of a calendar that is known, and where they are from.",
        details: "Columns: date, kind ('holiday', or 'leave' for collective leave), name, source (the decree), and status: \
                  'decreed', or 'computed' for days that follow from Easter and whose decree was not at hand. None is \
                  null. Missing of 2027: the days that depend on the moon, which a decree has to fix, and collective \
                  leave. Errors: an unknown name, an argument that is no text.",
        example: "SELECT date, name FROM holidays('ID') WHERE date BETWEEN DATE '2026-03-01' AND DATE '2026-03-31'\n\
                  -- 2026-03-19,Nyepi\n-- 2026-03-21,Eid al-Fitr\n-- 2026-03-22,Eid al-Fitr",
    },
];

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    let function = |name, signature_text, what| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Working { name, signature_text, what, signature }))
    };
    let signature_of =
        |name: &str| REFERENCE.iter().find(|entry| entry.name == name).map_or("", |entry| entry.signature);
    vec![
        function(IS_WORKING_DAY, signature_of(IS_WORKING_DAY), What::IsWorking),
        function(ADD_WORKING_DAYS, signature_of(ADD_WORKING_DAYS), What::Add),
        function(WORKING_SECONDS, signature_of(WORKING_SECONDS), What::Seconds),
    ]
}

pub(super) fn udtfs() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    vec![(HOLIDAYS, Arc::new(Holidays))]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    IsWorking,
    Add,
    Seconds,
}

/// The three scalar functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Working {
    name: &'static str,
    signature_text: &'static str,
    what: What,
    signature: Signature,
}

impl Working {
    /// Where the calendar is in the arguments, if it is given.
    fn calendar_place(&self) -> usize {
        match self.what {
            What::IsWorking => 1,
            What::Add => 2,
            What::Seconds => 4,
        }
    }

    fn check(&self, types: &[&DataType]) -> Result<()> {
        check_count(self.signature_text, types.len(), self.calendar_place()..=self.calendar_place() + 1)?;
        let check_date = |place: usize, argument: &str| match nth(types, place)? {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Ok(()),
            found => {
                let remedy = "give a date or a timestamp, or cast it: CAST(x AS DATE)";
                Err(wrong(self.name, argument, format_args!("is {found}"), remedy))
            }
        };
        match self.what {
            What::IsWorking => check_date(0, "date")?,
            What::Add => {
                check_date(0, "time")?;
                let n = nth(types, 1)?;
                if !n.is_integer() && !n.is_null() {
                    return Err(wrong(self.name, "n", format_args!("is {n}"), "give a whole number of days"));
                }
            }
            What::Seconds => {
                check_date(0, "from")?;
                check_date(1, "to")?;
                self.check_hours(nth(types, 2)?, "opens")?;
                self.check_hours(nth(types, 3)?, "closes")?;
                let (from, to) = (zone_of(nth(types, 0)?), zone_of(nth(types, 1)?));
                if from != to {
                    let found = format!("is of the zone {to:?}, and `from` of {from:?}");
                    return Err(wrong(self.name, "to", found, "give both the office's: AT TIME ZONE 'Asia/Jakarta'"));
                }
            }
        }
        check_calendar(self.name, types.get(self.calendar_place()).copied())
    }

    fn check_hours(&self, found: &DataType, argument: &str) -> Result<()> {
        match found {
            DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Utf8
            | DataType::Utf8View
            | DataType::LargeUtf8
            | DataType::Null => Ok(()),
            _ => Err(wrong(
                self.name,
                argument,
                format_args!("is {found}"),
                "give a time of day, such as TIME '08:00:00'",
            )),
        }
    }

    fn calendars(&self, argument: Option<&ColumnarValue>) -> Result<Calendars> {
        let Some(argument) = argument else { return Ok(Calendars::One(Calendar::default())) };
        match argument {
            ColumnarValue::Scalar(value) => Ok(Calendars::One(calendar_of(self.name, value)?)),
            ColumnarValue::Array(array) => {
                let mut known: Option<(ScalarValue, usize)> = None;
                let (mut calendars, mut rows) = (Vec::new(), Vec::with_capacity(array.len()));
                for row in 0..array.len() {
                    let value = ScalarValue::try_from_array(array, row)?;
                    // Rows mostly have the same, above all if it is a subquery's.
                    if !known.as_ref().is_some_and(|(known, _)| *known == value) {
                        calendars.push(calendar_of(self.name, &value)?);
                        known = Some((value, calendars.len() - 1));
                    }
                    rows.push(known.as_ref().map_or(0, |(_, place)| *place));
                }
                Ok(Calendars::Many { calendars, rows })
            }
        }
    }

    fn add(&self, times: &ArrayRef, numbers: &ArrayRef, calendars: &Calendars) -> Result<ArrayRef> {
        let kind = times.data_type();
        let numbers = cast(numbers, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let clock = Clock::of(kind)?;
        let (whole, parts) = clock.split(times)?;
        let mut sums: Vec<Option<i64>> = Vec::with_capacity(whole.len());
        for (row, ((day, part), n)) in whole.iter().zip(&parts).zip(numbers).enumerate() {
            let (Some(day), Some(n)) = (day, n) else {
                sums.push(None);
                continue;
            };
            if n.abs() > DAYS_MAX || n == i64::MIN {
                return Err(wrong(self.name, "n", format_args!("is {n}"), &format!("give at most {DAYS_MAX} days")));
            }
            let calendar = calendars.at(row)?;
            let sum = calendar.add(*day, n).filter(|sum| calendar.covers(*day) && calendar.covers(*sum));
            match sum.map(|sum| clock.join(sum, *part)) {
                Some(None) => {
                    return exec_err!(
                        "{}: {n} working days after row {row} is a time that {kind} cannot hold",
                        self.name
                    );
                }
                other => sums.push(other.flatten()),
            }
        }
        clock.array(sums, kind)
    }

    fn seconds(&self, arguments: &[ArrayRef], calendars: &Calendars) -> Result<ArrayRef> {
        let from = self.split(nth(arguments, 0)?)?;
        let to = self.split(nth(arguments, 1)?)?;
        let (opens, closes) = (self.hours(nth(arguments, 2)?, "opens")?, self.hours(nth(arguments, 3)?, "closes")?);
        let mut seconds = Vec::with_capacity(opens.len());
        for (row, (((from, to), opens), closes)) in from.iter().zip(&to).zip(&opens).zip(&closes).enumerate() {
            let (Some(from), Some(to), Some(opens), Some(closes)) = (from, to, opens, closes) else {
                seconds.push(None);
                continue;
            };
            if closes <= opens {
                let remedy = "the office opens first; of a night shift add the two parts, before and after midnight";
                return Err(wrong(self.name, "closes", "is not after `opens`", remedy));
            }
            let calendar = calendars.at(row)?;
            let until = |(day, part): (i32, i64)| {
                let today = if calendar.is_working(day) { (part - opens).clamp(0, closes - opens) } else { 0 };
                i128::from(calendar.count(i64::from(day) - 1)) * i128::from(closes - opens) + i128::from(today)
            };
            let covered = calendar.covers(from.0) && calendar.covers(to.0);
            seconds.push(covered.then(|| (until(*to) - until(*from)) as f64 / 1e9));
        }
        Ok(Arc::new(Float64Array::from(seconds)))
    }

    /// Local days and nanoseconds within them.
    fn split(&self, times: &ArrayRef) -> Result<Vec<Option<(i32, i64)>>> {
        let (days, parts) = Clock::of(times.data_type())?.split(times)?;
        Ok(days.into_iter().zip(parts).map(|(day, part)| day.map(|day| (day, part))).collect())
    }

    /// Nanoseconds since midnight.
    fn hours(&self, times: &ArrayRef, argument: &str) -> Result<Vec<Option<i64>>> {
        let safe = CastOptions { safe: true, ..CastOptions::default() };
        let cast = cast_with_options(times, &DataType::Time64(TimeUnit::Nanosecond), &safe)?;
        if cast.null_count() > times.logical_null_count() {
            return Err(wrong(self.name, argument, "is no time of day", "write it as '08:00' or TIME '08:00:00'"));
        }
        Ok(cast.as_primitive::<Time64NanosecondType>().iter().collect())
    }
}

impl ScalarUDFImpl for Working {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("{} has a return field", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<&DataType> = args.arg_fields.iter().map(|field| field.data_type()).collect();
        self.check(&types)?;
        let returned = match self.what {
            What::IsWorking => DataType::Boolean,
            What::Add => (*nth(&types, 0)?).clone(),
            What::Seconds => DataType::Float64,
        };
        Ok(Arc::new(Field::new(self.name, returned, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let calendars = self.calendars(args.args.get(self.calendar_place()))?;
        let scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let values = args.args.iter().take(self.calendar_place()).map(|argument| argument.to_array(rows));
        let values = values.collect::<Result<Vec<_>>>()?;
        let answer: ArrayRef = match self.what {
            What::IsWorking => {
                let days = self.split(nth(&values, 0)?)?;
                let mut working = Vec::with_capacity(days.len());
                for (row, day) in days.into_iter().enumerate() {
                    let calendar = calendars.at(row)?;
                    let day = day.map(|(day, _)| day).filter(|day| calendar.covers(*day));
                    working.push(day.map(|day| calendar.is_working(day)));
                }
                Arc::new(BooleanArray::from(working))
            }
            What::Add => self.add(nth(&values, 0)?, nth(&values, 1)?, &calendars)?,
            What::Seconds => self.seconds(&values, &calendars)?,
        };
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?));
        }
        Ok(ColumnarValue::Array(answer))
    }
}

/// The calendars of a batch.
enum Calendars {
    One(Calendar),
    Many { calendars: Vec<Calendar>, rows: Vec<usize> },
}

impl Calendars {
    fn at(&self, row: usize) -> Result<&Calendar> {
        match self {
            Self::One(calendar) => Ok(calendar),
            Self::Many { calendars, rows } => nth(calendars, *nth(rows, row)?),
        }
    }
}

/// Checks that an argument, if it is there, is a calendar.
pub(super) fn check_calendar(function: &str, found: Option<&DataType>) -> Result<()> {
    match found {
        None | Some(DataType::Null | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => Ok(()),
        Some(DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _))
            if matches!(
                item.data_type(),
                DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Null
            ) =>
        {
            Ok(())
        }
        Some(found) => {
            let remedy =
                "give a list of dates, as (SELECT array_agg(day) FROM my_holidays), or a calendar's name, 'ID'";
            Err(wrong(function, "calendar", format_args!("is {found}"), remedy))
        }
    }
}

/// What an argument `calendar` is.
pub(super) fn calendar_of(function: &str, value: &ScalarValue) -> Result<Calendar> {
    match value {
        ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)) | ScalarValue::LargeUtf8(Some(name)) => {
            let remedy = format!("known are {}; or give a list of dates", days::NAMES);
            days::named(name).ok_or_else(|| wrong(function, "calendar", format_args!("is {name:?}"), &remedy))
        }
        _ if value.is_null() => Ok(Calendar::default()),
        ScalarValue::List(list) => Calendar::of_dates(&list.value(0)),
        ScalarValue::LargeList(list) => Calendar::of_dates(&list.value(0)),
        ScalarValue::FixedSizeList(list) => Calendar::of_dates(&list.value(0)),
        other => internal_err!("{} is no calendar", other.data_type()),
    }
}

fn zone_of(kind: &DataType) -> Option<&str> {
    match kind {
        DataType::Timestamp(_, zone) => zone.as_deref(),
        _ => None,
    }
}

/// Days and times of day of one type, where its clock hangs.
enum Clock {
    Date32,
    /// Ticks of so many nanoseconds, in a zone or without one.
    Ticks {
        nanos: i64,
        zone: Option<Tz>,
    },
}

impl Clock {
    fn of(kind: &DataType) -> Result<Self> {
        Ok(match kind {
            DataType::Date32 => Self::Date32,
            DataType::Date64 => Self::Ticks { nanos: 1_000_000, zone: None },
            _ => Self::Ticks { nanos: tick_ns(kind), zone: zone_of(kind).map(str::parse).transpose()? },
        })
    }

    /// For each time its local day, none for null, and the nanoseconds since that day's 00:00 on the clock.
    fn split(&self, times: &ArrayRef) -> Result<(Vec<Option<i32>>, Vec<i64>)> {
        let Self::Ticks { nanos, zone } = self else {
            return Ok((times.as_primitive::<Date32Type>().iter().collect(), vec![0; times.len()]));
        };
        let ticks = ticks(times)?;
        let a_day = DAY_NS / nanos;
        let a_second = 1_000_000_000 / nanos;
        let local = |tick: i64| {
            let offset = zone.as_ref().map_or(0, |zone| offset_seconds(zone, tick.div_euclid(a_second)));
            let local = i128::from(tick) + i128::from(offset) * i128::from(a_second);
            let day = local.div_euclid(i128::from(a_day));
            let part = local.rem_euclid(i128::from(a_day)) as i64 * nanos;
            i32::try_from(day).ok().map(|day| (day, part))
        };
        let split = ticks.iter().map(|tick| tick.and_then(local));
        Ok(split.map(|split| split.map_or((None, 0), |(day, part)| (Some(day), part))).unzip())
    }

    /// The time at which the clock shows this; none if the type cannot hold it.
    fn join(&self, day: i32, part: i64) -> Option<i64> {
        let Self::Ticks { nanos, zone } = self else { return Some(i64::from(day)) };
        let seconds = i64::from(day) * 86_400 + part / 1_000_000_000;
        let seconds = zone.as_ref().map_or(Some(seconds), |zone| utc_seconds(zone, seconds))?;
        let ticks = i128::from(seconds) * 1_000_000_000 + i128::from(part % 1_000_000_000);
        i64::try_from(ticks / i128::from(*nanos)).ok()
    }

    fn array(&self, times: Vec<Option<i64>>, kind: &DataType) -> Result<ArrayRef> {
        match kind {
            DataType::Date32 => {
                let days = times.into_iter().map(|day| day.and_then(|day| i32::try_from(day).ok()));
                Ok(Arc::new(days.collect::<Date32Array>()))
            }
            DataType::Date64 => Ok(cast(&(Arc::new(Int64Array::from(times)) as ArrayRef), &DataType::Date64)?),
            _ => timestamps(&Int64Array::from(times), kind),
        }
    }
}

/// What the zone's clock is ahead of UTC; nothing where its calendar ends.
pub(super) fn offset_seconds(zone: &Tz, utc_seconds: i64) -> i64 {
    let utc = DateTime::from_timestamp(utc_seconds, 0).map(|utc| utc.naive_utc());
    utc.map_or(0, |utc| i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()))
}

/// When the zone's clock shows a time: the first time if twice, and if never, what it shows instead.
fn utc_seconds(zone: &Tz, local_seconds: i64) -> Option<i64> {
    let local = DateTime::from_timestamp(local_seconds, 0)?.naive_utc();
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => Some(time.timestamp()),
        LocalResult::None => {
            let day_before = local.checked_sub_signed(TimeDelta::days(1))?;
            let before = zone.offset_from_utc_datetime(&day_before).fix().local_minus_utc();
            Some(local_seconds - i64::from(before))
        }
    }
}

/// `holidays('ID')`.
#[derive(Debug)]
struct Holidays;

impl TableFunctionImpl for Holidays {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let name = match args.exprs() {
            [Expr::Literal(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)), _)] => name,
            _ => {
                return plan_err!(
                    "{HOLIDAYS}: write {HOLIDAYS}(calendar) with the name of a calendar: {}",
                    days::NAMES
                );
            }
        };
        let Some(listed) = days::listed(name) else {
            let remedy = format!("known are {}", days::NAMES);
            return Err(wrong(HOLIDAYS, "calendar", format_args!("is {name:?}"), &remedy));
        };
        let text =
            |cell: fn(&days::Holiday) -> &'static str| Arc::new(StringArray::from_iter_values(listed.iter().map(cell)));
        let dates = Arc::new(Date32Array::from_iter_values(listed.iter().map(|holiday| holiday.day)));
        let columns: Vec<ArrayRef> = vec![
            dates,
            text(|holiday| holiday.kind),
            text(|holiday| holiday.name),
            text(|holiday| holiday.source),
            text(|holiday| holiday.status),
        ];
        let names = ["date", "kind", "name", "source", "status"];
        let fields =
            names.iter().zip(&columns).map(|(name, column)| Field::new(*name, column.data_type().clone(), false));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}
