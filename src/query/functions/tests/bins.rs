//! Bins of the wall clock against a clock that is watched minute by minute.

use arrow::array::timezone::Tz;

use crate::query::functions::bins::{Bins, DAY_NS, Stride, later, offset};

const MINUTE_NS: i64 = 60_000_000_000;

/// Zones, and a moment near which their clocks are set, in seconds.
const CHANGES: [(&str, i64); 14] = [
    ("Asia/Pontianak", 1_767_225_600),
    // Forward and back, at two in the morning.
    ("America/New_York", 1_710_054_000),
    ("America/New_York", 1_730_613_600),
    // By half an hour.
    ("Australia/Lord_Howe", 1_712_415_600),
    ("Australia/Lord_Howe", 1_728_142_200),
    // At midnight: a day that begins at one, and one whose last hour comes twice.
    ("America/Sao_Paulo", 1_508_036_400),
    ("America/Sao_Paulo", 1_518_919_200),
    // At one minute past midnight, back to the day before.
    ("America/St_Johns", 1_162_088_460),
    ("America/St_Johns", 1_143_948_660),
    // From one to midnight, so that midnight comes twice.
    ("America/Havana", 1_730_610_000),
    // A day that was left out.
    ("Pacific/Apia", 1_325_239_200),
    ("Pacific/Kwajalein", 745_934_400),
    ("+05:45", 0),
    ("Asia/Jakarta", -86_400 * 365),
];

/// Whether a bin begins at `time`: the clock shows a boundary or has jumped over one, and for long bins first.
fn begins(bins: &dyn Fn(i64) -> i64, zone: &Tz, time: i64, highest: i64, is_short: bool) -> bool {
    let shown = time + offset(zone, time);
    let boundary = bins(shown);
    if !is_short {
        return boundary > highest;
    }
    let expected = time - MINUTE_NS + offset(zone, time - MINUTE_NS) + MINUTE_NS;
    if shown > expected { boundary >= expected } else { boundary == shown }
}

#[test]
fn bins_begin_when_the_clock_says_so() {
    let minutes = [1, 5, 7, 15, 20, 30, 45, 60, 90, 120, 180, 360, 720, 1_000];
    let short = minutes.map(|minutes| Stride::Nanoseconds(minutes * MINUTE_NS));
    let long = [1, 2, 3, 7].map(|days| Stride::Nanoseconds(days * DAY_NS));
    let strides = short.into_iter().chain(long).chain([Stride::Nanoseconds(DAY_NS * 3 / 2), Stride::Months(1)]);
    for stride in strides {
        for (name, near) in CHANGES {
            let zone: Tz = name.parse().unwrap();
            let bins = Bins::new(stride, 30 * MINUTE_NS, Some(zone));
            let local = Bins::new(stride, 30 * MINUTE_NS, None);
            let floor = |time| local.start(time).unwrap();
            let is_short = stride.min_ns() < DAY_NS;
            let days = if is_short {
                2
            } else if stride == Stride::Months(1) {
                65
            } else {
                16
            };
            let from = near * 1_000_000_000 - days * DAY_NS;
            let mut starts: Vec<i64> = Vec::new();
            let mut highest = i64::MIN;
            let mut highest_boundary = floor(from + offset(&zone, from));
            for minute in 0..(days + 3) * 1_440 {
                let time = from + minute * MINUTE_NS;
                if begins(&floor, &zone, time, highest_boundary, is_short) {
                    if let Some(before) = starts.last() {
                        assert_eq!(bins.next(*before), Some(time), "after {before}, {name}, {stride:?}");
                    }
                    starts.push(time);
                }
                highest = highest.max(time + offset(&zone, time));
                highest_boundary = highest_boundary.max(floor(highest));
                // Near a begin each minute, and now and then elsewhere.
                if let Some(start) = starts.last()
                    && (time - start < 3 * MINUTE_NS || minute % 11 == 0)
                {
                    assert_eq!(bins.start(time), Some(*start), "{time}, {name}, {stride:?}");
                    assert_eq!(bins.start(time + MINUTE_NS - 1), Some(*start), "{time} and more, {name}, {stride:?}");
                }
            }
            assert!(starts.len() > 1, "{name}, {stride:?}");
        }
    }
}

#[test]
fn months_of_any_origin_go_both_ways() {
    // From the 31st: the last day of months that are shorter.
    let bins = Bins::new(Stride::Months(1), 30 * DAY_NS, None);
    let day = |days: i64| days * DAY_NS;
    assert_eq!(bins.start(day(58)), Some(day(58)));
    assert_eq!(bins.start(day(58) - 1), Some(day(30)));
    assert_eq!(bins.next(day(30)), Some(day(58)));
    assert_eq!(bins.start(day(30) - 1), Some(day(-1)));
    assert_eq!(bins.start(day(-2)), Some(day(-32)));
}

#[test]
fn times_that_cannot_be_held_are_none() {
    let zone: Tz = "Asia/Pontianak".parse().unwrap();
    for zone in [None, Some(zone)] {
        for stride in
            [Stride::Nanoseconds(1), Stride::Nanoseconds(i64::MAX), Stride::Months(1), Stride::Months(i32::MAX)]
        {
            let bins = Bins::new(stride, 0, zone);
            for time in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
                let start = bins.start(time);
                assert!(start.is_none_or(|start| start <= time), "{stride:?} {time} {start:?}");
                let next = start.and_then(|start| bins.next(start));
                assert!(next.is_none_or(|next| next > time), "{stride:?} {time} {next:?}");
            }
        }
    }
}

#[test]
fn later_is_by_the_calendar() {
    let zone: Tz = "America/New_York".parse().unwrap();
    let midnight = 1_730_520_000_000_000_000 + DAY_NS;
    // The day on which the clock is set back has 25 hours.
    assert_eq!(later(Some(&zone), midnight, 0, 1, 0), Some(midnight + DAY_NS + 60 * MINUTE_NS));
    assert_eq!(later(Some(&zone), midnight, 0, 0, DAY_NS), Some(midnight + DAY_NS));
    assert_eq!(later(None, 30 * DAY_NS, 1, 0, 5), Some(58 * DAY_NS + 5));
}
