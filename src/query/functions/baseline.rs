//! Now against normal: what a value usually is at this hour of the week, and how far off it is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, TypeSignature, Volatility, WindowUDF, WindowUDFImpl};

use super::Entry;
use super::arguments::{check_count, check_number, check_time, nth, tick_ns, ticks, wrong};
use super::calendar::{Calendar, calendar_of, check_calendar, offset_seconds};

/// Earlier days that make a normal, at most and at least.
const DAYS_MAX: usize = 8;
const DAYS_MIN: usize = 3;
const HOURS: usize = 24;
/// Each hour of the week, and each of a holiday.
const SLOTS: usize = (7 + 1) * HOURS;
/// What makes a median absolute deviation, and a mean one, a standard deviation of normal numbers.
const MAD_SCALE: f64 = 1.482_602_218_505_602;
const MEAN_SCALE: f64 = 1.253_314_137_315_500_3;

pub(super) const REFERENCE: &[Entry] = &[
    Entry {
        name: "baseline",
        signature: "baseline(value, time [, zone [, calendar]]) OVER (PARTITION BY series ORDER BY time)",
        summary: "What the value usually is at this hour of the week: the median of earlier weeks.",
        details: "A window function: for each row, the median of the values that earlier rows of its partition have in the \
                  same hour of the same weekday, of the last 8 such days with values, the row's own day not counted. A \
                  weekday that is a holiday in the calendar is compared with the same hour of such holidays, not with \
                  working days. The answer is null with fewer than 3 such days, for a null time, and outside the years of a \
                  named calendar. Null and NaN values are not counted, but get their baseline. Hours and days are those of \
                  the zone, a name such as 'Asia/Pontianak'; without it, of the time's own. The calendar is that of \
                  is_working_day; zone and calendar are taken from a partition's first row. Errors: types, unknown names, \
                  rows that are not in order of time. Cost: a median a day and hour; memory, which no limit counts: the values of 8 days for \
                  each hour of the week.",
        example: "SELECT v, baseline(v, t) OVER (ORDER BY t) AS b FROM (VALUES (1.0, TIMESTAMP '2026-01-05T09:00:00'), (2.0, \
                  TIMESTAMP '2026-01-12T09:10:00'), (6.0, TIMESTAMP '2026-01-19T09:20:00'), (9.0, TIMESTAMP \
                  '2026-01-26T09:30:00')) AS x(v, t)\n-- 1.0,\n-- 2.0,\n-- 6.0,\n-- 9.0,2.0",
    },
    Entry {
        name: "deviation",
        signature: "deviation(value, time [, zone [, calendar]]) OVER (PARTITION BY series ORDER BY time)",
        summary: "The value less its baseline.",
        details: "As baseline, and also null for a null value.",
        example: "SELECT v, deviation(v, t) OVER (ORDER BY t) AS d FROM (VALUES (1.0, TIMESTAMP '2026-01-05T09:00:00'), (2.0, \
                  TIMESTAMP '2026-01-12T09:10:00'), (6.0, TIMESTAMP '2026-01-19T09:20:00'), (9.0, TIMESTAMP \
                  '2026-01-26T09:30:00')) AS x(v, t)\n-- 1.0,\n-- 2.0,\n-- 6.0,\n-- 9.0,7.0",
    },
    Entry {
        name: "mad_zscore",
        signature: "mad_zscore(value, time [, zone [, calendar]]) OVER (PARTITION BY series ORDER BY time)",
        summary: "How many robust standard deviations the value is off its baseline; beyond 3.5 is unusual.",
        details: "The deviation over 1.4826 times the median absolute deviation of the values that made the baseline; where \
                  that is 0, over 1.2533 times their mean absolute deviation; where that is 0 too, 0 if the value is what \
                  all of them were, else infinite. As baseline otherwise, and also null for a null value. Source: Iglewicz \
                  and Hoaglin, How to Detect and Handle Outliers (1993).",
        example: "SELECT v, round(mad_zscore(v, t) OVER (ORDER BY t), 3) AS z FROM (VALUES (1.0, TIMESTAMP \
                  '2026-01-05T09:00:00'), (2.0, TIMESTAMP '2026-01-12T09:10:00'), (6.0, TIMESTAMP '2026-01-19T09:20:00'), \
                  (9.0, TIMESTAMP '2026-01-26T09:30:00')) AS x(v, t)\n-- 1.0,\n-- 2.0,\n-- 6.0,\n-- 9.0,4.721",
    },
];

pub(super) fn udwfs() -> Vec<Arc<WindowUDF>> {
    let signature = Signature::one_of(vec![TypeSignature::UserDefined], Volatility::Immutable);
    let function = |name, what| Arc::new(WindowUDF::from(Normal { name, what, signature: signature.clone() }));
    vec![
        function("baseline", What::Baseline),
        function("deviation", What::Deviation),
        function("mad_zscore", What::Score),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Baseline,
    Deviation,
    Score,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Normal {
    name: &'static str,
    what: What,
    signature: Signature,
}

impl WindowUDFImpl for Normal {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check_count(&format!("{}(value, time [, zone [, calendar]])", self.name), types.len(), 2..=4)?;
        check_number(self.name, "value", nth(types, 0)?)?;
        check_time(self.name, "time", nth(types, 1)?)?;
        let mut coerced = vec![DataType::Float64, nth(types, 1)?.clone()];
        if let Some(zone) = types.get(2) {
            if !zone.is_string() && !zone.is_null() {
                let remedy = "give the name of a zone, such as 'Asia/Pontianak', or NULL";
                return Err(wrong(self.name, "zone", format_args!("is {zone}"), remedy));
            }
            coerced.push(DataType::Utf8);
        }
        if let Some(calendar) = types.get(3) {
            check_calendar(self.name, Some(calendar))?;
            coerced.push(calendar.clone());
        }
        Ok(coerced)
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator { name: self.name, what: self.what, settings: None, slots: Vec::new(), last: None }))
    }

    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(arguments.name(), DataType::Float64, true)))
    }
}

/// What the arguments after the time say, for one partition.
struct Settings {
    tick_ns: i64,
    zone: Option<Tz>,
    calendar: Calendar,
}

#[derive(Debug)]
struct Evaluator {
    name: &'static str,
    what: What,
    settings: Option<Settings>,
    /// By hour; made with the first row.
    slots: Vec<Slot>,
    last: Option<i64>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("zone", &self.zone).finish_non_exhaustive()
    }
}

/// One hour of the week.
#[derive(Debug, Default)]
struct Slot {
    /// Of earlier days, one list a day.
    days: VecDeque<Vec<f64>>,
    /// The day under way and its values, which make no normal for themselves.
    day: Option<i32>,
    values: Vec<f64>,
    normal: Option<Spread>,
}

/// Where the values of earlier days are.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    /// Median and mean of the absolute deviations from it.
    mad: f64,
    mean: f64,
}

impl Slot {
    /// Goes on to `day`.
    fn open(&mut self, day: i32) {
        if self.day == Some(day) {
            return;
        }
        self.day = Some(day);
        if self.values.is_empty() {
            return;
        }
        if self.days.len() == DAYS_MAX {
            self.days.pop_front();
        }
        self.days.push_back(std::mem::take(&mut self.values));
        let values = || self.days.iter().flatten().copied();
        self.normal = (self.days.len() >= DAYS_MIN).then(|| spread(values().collect())).flatten();
    }
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    let middle = median(&mut values)?;
    let mut apart: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let mean = apart.iter().sum::<f64>() / apart.len() as f64;
    Some(Spread { median: middle, mad: median(&mut apart)?, mean })
}

/// The middle one, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> Option<f64> {
    let half = values.len() / 2;
    if half >= values.len() {
        return None;
    }
    let even = values.len().is_multiple_of(2);
    let (below, middle, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let middle = *middle;
    if !even {
        return Some(middle);
    }
    below.iter().copied().max_by(f64::total_cmp).map(|before| f64::midpoint(before, middle))
}

impl Spread {
    fn score(self, value: f64) -> f64 {
        let off = value - self.median;
        let scale = if self.mad > 0.0 { MAD_SCALE * self.mad } else { MEAN_SCALE * self.mean };
        if off == 0.0 { 0.0 } else { off / scale }
    }
}

impl Evaluator {
    fn settings(&self, values: &[ArrayRef], row: usize) -> Result<Settings> {
        let kind = nth(values, 1)?.data_type();
        let named = values.get(2).filter(|zones| zones.is_valid(row)).map(|zones| zones.as_string::<i32>().value(row));
        let own = if let DataType::Timestamp(_, zone) = kind { zone.as_deref() } else { None };
        let zone = named.or(own).map(|name| {
            let remedy = "give a name of the IANA time zone database, such as 'Asia/Pontianak'";
            name.parse::<Tz>().map_err(|_| wrong(self.name, "zone", format_args!("is {name:?}"), remedy))
        });
        let calendar = match values.get(3) {
            None => Calendar::default(),
            Some(calendars) => calendar_of(self.name, &ScalarValue::try_from_array(calendars, row)?)?,
        };
        Ok(Settings { tick_ns: tick_ns(kind), zone: zone.transpose()?, calendar })
    }

    /// The slot of a time and the local day it is on; none if nobody knows whether that is a holiday.
    fn slot(settings: &Settings, tick: i64) -> Option<(usize, i32)> {
        let a_second = 1_000_000_000 / settings.tick_ns;
        let seconds = tick.div_euclid(a_second);
        let local = seconds + settings.zone.as_ref().map_or(0, |zone| offset_seconds(zone, seconds));
        let day = i32::try_from(local.div_euclid(86_400)).ok().filter(|day| settings.calendar.covers(*day))?;
        let hour = (local.rem_euclid(86_400) / 3_600) as usize;
        let weekday = (i64::from(day) + 3).rem_euclid(7) as usize;
        let is_holiday = weekday < 5 && !settings.calendar.is_working(day);
        Some((if is_holiday { 7 } else { weekday } * HOURS + hour, day))
    }
}

impl PartitionEvaluator for Evaluator {
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let (row, null) = (range.start, ScalarValue::Float64(None));
        let times = nth(values, 1)?;
        if row >= times.len() || times.is_null(row) {
            return Ok(null);
        }
        let tick = ticks(&times.slice(row, 1))?.value(0);
        if self.last.replace(tick).is_some_and(|last| last > tick) {
            return Err(wrong(
                self.name,
                "time",
                "goes back from one row to the next",
                "write OVER (.. ORDER BY time)",
            ));
        }
        let settings = match self.settings.take() {
            Some(settings) => settings,
            None => self.settings(values, row)?,
        };
        let slot = Self::slot(&settings, tick);
        self.settings = Some(settings);
        let Some((slot, day)) = slot else { return Ok(null) };
        self.slots.resize_with(SLOTS, Slot::default);
        let Some(slot) = self.slots.get_mut(slot) else { return internal_err!("no hour {slot} of a week") };
        slot.open(day);
        let column = nth(values, 0)?.as_primitive::<Float64Type>();
        let value = column.is_valid(row).then(|| column.value(row)).filter(|value| !value.is_nan());
        slot.values.extend(value);
        let Some(normal) = slot.normal else { return Ok(null) };
        Ok(ScalarValue::Float64(match self.what {
            What::Baseline => Some(normal.median),
            What::Deviation => value.map(|value| value - normal.median),
            What::Score => value.map(|value| normal.score(value)),
        }))
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }

    fn is_causal(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_middle_is_that_of_a_sorted_list(mut values in prop::collection::vec(-50.0..50.0_f64, 0..30)) {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let half = sorted.len() / 2;
            let expected = match sorted.len() {
                0 => None,
                odd if odd % 2 == 1 => Some(sorted[half]),
                _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
            };
            prop_assert_eq!(median(&mut values), expected);
        }
    }

    #[test]
    fn without_spread_the_score_is_zero_or_endless() {
        let constant = spread(vec![2.0; 5]).unwrap();
        assert_eq!([1.0, 2.0, 3.0].map(|value| constant.score(value)), [f64::NEG_INFINITY, 0.0, f64::INFINITY]);
        // Most are equal, one is not: the mean deviation is a fifth.
        let nearly = spread(vec![2.0, 2.0, 2.0, 2.0, 3.0]).unwrap();
        assert!((nearly.score(3.0) - 1.0 / (MEAN_SCALE * 0.2)).abs() < 1e-12);
    }
}
