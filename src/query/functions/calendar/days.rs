//! Counting working days. A day is its number since 1970-01-01.

use std::sync::LazyLock;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type};
use chrono::NaiveDate;
use datafusion::error::Result;

/// Days without work beside Saturdays and Sundays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::query::functions) struct Calendar {
    /// Holidays from Monday to Friday, ascending, each once.
    holidays: Vec<i32>,
    /// The first and last day it speaks of, if it does not of all.
    covered: Option<(i32, i32)>,
}

impl Calendar {
    pub(super) fn new(mut holidays: Vec<i32>, covered: Option<(i32, i32)>) -> Self {
        holidays.retain(|day| is_weekday(*day));
        holidays.sort_unstable();
        holidays.dedup();
        Self { holidays, covered }
    }

    /// Of a list of dates; nulls in it are none.
    pub(super) fn of_dates(dates: &ArrayRef) -> Result<Self> {
        let dates = cast(dates, &DataType::Date32)?;
        Ok(Self::new(dates.as_primitive::<Date32Type>().iter().flatten().collect(), None))
    }

    pub(in crate::query::functions) fn covers(&self, day: i32) -> bool {
        self.covered.is_none_or(|(first, last)| (first..=last).contains(&day))
    }

    pub(in crate::query::functions) fn is_working(&self, day: i32) -> bool {
        is_weekday(day) && self.holidays.binary_search(&day).is_err()
    }

    /// Working days up to and with `day`, less those of all days before 1970.
    pub(super) fn count(&self, day: i64) -> i64 {
        let holidays = self.holidays.partition_point(|holiday| i64::from(*holiday) <= day);
        weekdays(day) - holidays as i64
    }

    /// The `n`th working day after `day`, or before it if negative; `day` itself for 0.
    pub(super) fn add(&self, day: i32, n: i64) -> Option<i32> {
        if n == 0 {
            return Some(day);
        }
        let day = i64::from(day);
        let wanted = if n > 0 { self.count(day).checked_add(n)? } else { self.count(day - 1).checked_add(n)? + 1 };
        // Each week has five weekdays, of which all holidays may be in these.
        let weeks = n.checked_abs()?.checked_add(self.holidays.len() as i64)? / 5 + 2;
        let reach = weeks.checked_mul(7)?;
        let (mut before, mut at) =
            if n > 0 { (day, day.checked_add(reach)?) } else { (day.checked_sub(reach)?, day - 1) };
        while at - before > 1 {
            let middle = before + (at - before) / 2;
            if self.count(middle) >= wanted { at = middle } else { before = middle }
        }
        i32::try_from(at).ok()
    }
}

/// 1970-01-01 was a Thursday.
fn is_weekday(day: i32) -> bool {
    (i64::from(day) + 3).rem_euclid(7) < 5
}

fn weekdays(day: i64) -> i64 {
    let since_monday = day + 3;
    since_monday.div_euclid(7) * 5 + (since_monday.rem_euclid(7) + 1).min(5)
}

/// One line of a calendar that comes with the crate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holiday {
    pub(super) day: i32,
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    pub(super) source: &'static str,
    pub(super) status: &'static str,
}

/// The calendars that come with the crate.
pub(super) const NAMES: &str = "'ID' (Indonesia) or 'ID+leave' (with collective leave)";

const ID: &str = include_str!("holidays_id.csv");
/// What the file is about.
const ID_YEARS: (i32, i32) = (2013, 2027);

static INDONESIA: LazyLock<Vec<Holiday>> = LazyLock::new(|| ID.lines().skip(1).filter_map(holiday).collect());

fn holiday(line: &'static str) -> Option<Holiday> {
    let mut cells = line.split(',');
    let day = day_of(cells.next()?.parse().ok()?);
    let (kind, name, source, status) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
    Some(Holiday { day, kind, name, source, status })
}

pub(super) fn day_of(date: NaiveDate) -> i32 {
    date.to_epoch_days()
}

/// The days of a calendar by its name.
pub(super) fn listed(name: &str) -> Option<Vec<Holiday>> {
    let all = INDONESIA.iter().copied();
    match name {
        "ID" => Some(all.filter(|holiday| holiday.kind == "holiday").collect()),
        "ID+leave" => Some(all.collect()),
        _ => None,
    }
}

pub(super) fn named(name: &str) -> Option<Calendar> {
    let holidays = listed(name)?;
    let edge = |year, month, day| NaiveDate::from_ymd_opt(year, month, day).map(day_of);
    let covered = edge(ID_YEARS.0, 1, 1).zip(edge(ID_YEARS.1, 12, 31));
    Some(Calendar::new(holidays.into_iter().map(|holiday| holiday.day).collect(), covered))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use proptest::prelude::*;

    fn naive_add(calendar: &Calendar, day: i32, n: i64) -> i32 {
        let mut at = day;
        for _ in 0..n.abs() {
            at += n.signum() as i32;
            while !calendar.is_working(at) {
                at += n.signum() as i32;
            }
        }
        at
    }

    proptest! {
        #[test]
        fn days_are_added_and_counted_as_on_fingers(
            holidays in prop::collection::vec(-60..60_i32, 0..40),
            day in -70..70_i32,
            n in -40..40_i64,
        ) {
            let calendar = Calendar::new(holidays.clone(), None);
            prop_assert_eq!(calendar.add(day, n), Some(naive_add(&calendar, day, n)));
            let counted = (day + 1..=day + 30).filter(|day| calendar.is_working(*day)).count() as i64;
            prop_assert_eq!(calendar.count(i64::from(day) + 30) - calendar.count(i64::from(day)), counted);
            let weekend = [5, 6].contains(&(day + 3).rem_euclid(7));
            prop_assert_eq!(calendar.is_working(day), !weekend && !holidays.contains(&day));
        }
    }

    #[test]
    fn the_file_of_indonesia_is_whole() {
        let lines = ID.lines().count() - 1;
        assert_eq!(INDONESIA.len(), lines, "every line is read");
        assert!(INDONESIA.is_sorted_by_key(|holiday| holiday.day));
        for year in ID_YEARS.0..=ID_YEARS.1 {
            let days = |month, day| day_of(NaiveDate::from_ymd_opt(year, month, day).unwrap());
            let of_year: Vec<&Holiday> =
                INDONESIA.iter().filter(|holiday| (days(1, 1)..=days(12, 31)).contains(&holiday.day)).collect();
            for (month, day) in [(1, 1), (8, 17), (12, 25)] {
                assert!(of_year.iter().any(|holiday| holiday.day == days(month, day)), "{year}-{month}-{day}");
            }
            let islamic = of_year.iter().filter(|holiday| holiday.name == "Eid al-Fitr" && holiday.kind == "holiday");
            assert_eq!(islamic.count(), if year == 2027 { 0 } else { 2 }, "{year}");
            for holiday in of_year {
                assert!(["holiday", "leave"].contains(&holiday.kind), "{holiday:?}");
                assert!(["decreed", "computed"].contains(&holiday.status), "{holiday:?}");
                assert!(holiday.kind == "holiday" || is_weekday(holiday.day), "leave is from work: {holiday:?}");
                let thursday = holiday.name == "Ascension of Christ" && holiday.kind == "holiday";
                assert!(!thursday || holiday.day.rem_euclid(7) == 0, "{holiday:?}");
                assert!(holiday.name != "Good Friday" || holiday.day.rem_euclid(7) == 1, "{holiday:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_counted_is_none() {
        let calendar = Calendar::default();
        assert_eq!(calendar.add(i32::MAX, 1), None);
        assert_eq!(calendar.add(i32::MIN, -1), None);
        assert_eq!(calendar.add(0, i64::MAX), None);
        assert_eq!(calendar.add(0, i64::MIN), None);
        assert!(calendar.add(i32::MIN, 1).is_some());
    }
}
