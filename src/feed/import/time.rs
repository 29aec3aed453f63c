//! Times from text: RFC 3339 and its looser kin, day or month first, wall clocks of a zone, Unix numbers.

use chrono::{NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;

use super::fault::Fault;
use super::number;

/// How times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `2026-11-24`, also with `/`, `.` or nothing between.
    YearFirst,
    /// `24/11/2026`.
    DayFirst,
    /// `11/24/2026`.
    MonthFirst,
    /// A count since 1970-01-01T00:00:00Z, in units of so many nanoseconds.
    Unix(i64),
}

/// What a wall clock means that a zone showed twice, when it was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Twice {
    /// The row goes to quarantine.
    #[default]
    Refuse,
    /// The first of the two.
    Earlier,
    /// The second of the two.
    Later,
}

/// The way from text to nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct TimeReader {
    pub(crate) order: Order,
    /// The zone of wall clocks; UTC if none is said. A text with an offset of its own does not need it.
    pub(crate) zone: Option<Tz>,
    pub(crate) twice: Twice,
    /// A quarter of an hour of the wall clock, by number, and what it is ahead of UTC. Zones change at quarters.
    known: Option<(i64, i64)>,
}

const SECOND: i64 = 1_000_000_000;
const QUARTER_S: i64 = 900;

impl TimeReader {
    pub(crate) fn new(order: Order, zone: Option<Tz>, twice: Twice) -> Self {
        Self { order, zone, twice, known: None }
    }

    /// Unix nanoseconds.
    pub(crate) fn read(&mut self, text: &[u8]) -> Result<i64, Fault> {
        if let Order::Unix(unit) = self.order {
            return unix(text, unit);
        }
        let Stamp { day, second, nanos, offset_s } = stamp(text, self.order).ok_or(Fault::BadTime)?;
        self.utc(day * 86_400 + second, nanos, offset_s)
    }

    /// Unix nanoseconds of a wall clock's.
    pub(crate) fn wall(&mut self, nanos: i64) -> Result<i64, Fault> {
        self.utc(nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND), None)
    }

    /// Unix nanoseconds of a clock that says its offset, or else is the zone's.
    fn utc(&mut self, wall_s: i64, nanos: i64, offset_s: Option<i64>) -> Result<i64, Fault> {
        let offset_s = match (offset_s, self.zone) {
            (Some(offset_s), _) => offset_s,
            (None, None) => 0,
            (None, Some(zone)) => self.offset(zone, wall_s)?,
        };
        let seconds = wall_s - offset_s;
        // The first second of all begins before the first nanosecond.
        let of = i128::from(seconds) * i128::from(SECOND) + i128::from(nanos);
        i64::try_from(of).map_err(|_| Fault::BadTime)
    }

    /// What a zone's wall clock is ahead of UTC.
    fn offset(&mut self, zone: Tz, wall_s: i64) -> Result<i64, Fault> {
        let quarter = wall_s.div_euclid(QUARTER_S);
        if let Some((known, offset_s)) = self.known
            && known == quarter
        {
            return Ok(offset_s);
        }
        let wall = |wall_s: i64| -> Result<NaiveDateTime, Fault> {
            Ok(chrono::DateTime::from_timestamp(wall_s, 0).ok_or(Fault::BadTime)?.naive_utc())
        };
        let utc = match zone.from_local_datetime(&wall(wall_s)?) {
            chrono::LocalResult::Single(time) => time.timestamp(),
            chrono::LocalResult::None => return Err(Fault::SkippedTime),
            chrono::LocalResult::Ambiguous(earlier, later) => match self.twice {
                Twice::Refuse => return Err(Fault::AmbiguousTime),
                Twice::Earlier => earlier.timestamp(),
                Twice::Later => later.timestamp(),
            },
        };
        // Old zones changed at odd seconds: known for the quarter only if both its ends say the same.
        let ends = [quarter * QUARTER_S, quarter * QUARTER_S + QUARTER_S - 1];
        let same = |end: i64| {
            let local = wall(end).map(|wall| zone.from_local_datetime(&wall));
            matches!(local, Ok(chrono::LocalResult::Single(time)) if end - time.timestamp() == wall_s - utc)
        };
        if ends.into_iter().all(same) {
            self.known = Some((quarter, wall_s - utc));
        }
        Ok(wall_s - utc)
    }
}

fn unix(text: &[u8], unit: i64) -> Result<i64, Fault> {
    let (whole, part) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, &[][..]),
    };
    let count = number::i64(whole).map_err(|_| Fault::BadTime)?;
    let mut nanos = count.checked_mul(unit).ok_or(Fault::BadTime)?;
    let mut digit_ns = unit;
    for byte in part {
        digit_ns /= 10;
        let digit = byte.wrapping_sub(b'0');
        // Digits beyond a nanosecond must be zeros: a time is exact, as a number is.
        if digit > 9 || digit_ns == 0 && digit > 0 {
            return Err(Fault::BadTime);
        }
        let more = i64::from(digit) * digit_ns;
        nanos = if whole.starts_with(b"-") { nanos.checked_sub(more) } else { nanos.checked_add(more) }
            .ok_or(Fault::BadTime)?;
    }
    Ok(nanos)
}

/// A time as it is written.
struct Stamp {
    /// Days since 1970-01-01.
    day: i64,
    /// Of the day.
    second: i64,
    nanos: i64,
    offset_s: Option<i64>,
}

fn stamp(text: &[u8], order: Order) -> Option<Stamp> {
    let mut text = Text(text.trim_ascii());
    let day = text.date(order)?;
    let mut stamp = Stamp { day, second: 0, nanos: 0, offset_s: None };
    if text.0.is_empty() {
        return Some(stamp);
    }
    if !(text.eat(b'T') || text.eat(b't')) {
        text.eat(b' ').then_some(())?;
        text.0 = text.0.trim_ascii_start();
    }
    (stamp.second, stamp.nanos) = text.clock()?;
    text.0 = text.0.trim_ascii_start();
    if text.0.is_empty() {
        return Some(stamp);
    }
    stamp.offset_s = Some(text.offset()?);
    text.0.is_empty().then_some(stamp)
}

/// Text that is taken off from its front.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// A number of `least` to `most` digits.
    fn digits(&mut self, least: usize, most: usize) -> Option<i64> {
        let len = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(len).filter(|_| len >= least)?;
        self.0 = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    fn date(&mut self, order: Order) -> Option<i64> {
        let (year, month, day);
        if order == Order::YearFirst {
            year = self.digits(4, 4)?;
            let separator = self.separator();
            (month, day) = match separator {
                Some(separator) => {
                    let month = self.digits(1, 2)?;
                    self.eat(separator).then_some(())?;
                    (month, self.digits(1, 2)?)
                }
                None => (self.digits(2, 2)?, self.digits(2, 2)?),
            };
        } else {
            let first = self.digits(1, 2)?;
            let separator = self.separator()?;
            let second = self.digits(1, 2)?;
            self.eat(separator).then_some(())?;
            year = self.digits(4, 4)?;
            (day, month) = if order == Order::DayFirst { (first, second) } else { (second, first) };
        }
        let (year, month, day) = (i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        days(year, month, day)
    }

    fn separator(&mut self) -> Option<u8> {
        [b'-', b'/', b'.'].into_iter().find(|separator| self.eat(*separator))
    }

    /// Second of the day, and nanosecond of that.
    fn clock(&mut self) -> Option<(i64, i64)> {
        let mut hour = self.digits(1, 2)?;
        let separator = [b':', b'.'].into_iter().find(|separator| self.eat(*separator));
        let minute = self.digits(2, 2)?;
        let (mut second, mut nanos) = (0, 0);
        let more = match separator {
            Some(separator) => self.eat(separator),
            // ISO's basic form has nothing between.
            None => self.0.first().is_some_and(u8::is_ascii_digit),
        };
        if more {
            second = self.digits(2, 2)?;
            if self.eat(b'.') || self.eat(b',') {
                let before = self.0.len();
                nanos = self.digits(1, 9)?;
                (before - self.0.len()..9).for_each(|_| nanos *= 10);
                // Digits beyond nanoseconds must be zeros.
                while self.eat(b'0') {}
                if self.0.first().is_some_and(u8::is_ascii_digit) {
                    return None;
                }
            }
        }
        if let Some(afternoon) = self.half()? {
            if !(1..=12).contains(&hour) {
                return None;
            }
            hour = hour % 12 + if afternoon { 12 } else { 0 };
        }
        (hour < 24 && minute < 60 && second < 60).then_some((hour * 3_600 + minute * 60 + second, nanos))
    }

    /// Whether `AM` or `PM` follows, and which.
    #[expect(clippy::option_option, reason = "no time, or no half of the day in it, or which")]
    fn half(&mut self) -> Option<Option<bool>> {
        let rest = self.0.trim_ascii_start();
        let Some((word, after)) = rest.split_at_checked(2) else { return Some(None) };
        let afternoon = match word.to_ascii_uppercase().as_slice() {
            b"AM" => false,
            b"PM" => true,
            _ => return Some(None),
        };
        self.0 = after;
        Some(Some(afternoon))
    }

    /// Seconds that the written clock is ahead of UTC.
    fn offset(&mut self) -> Option<i64> {
        if self.eat(b'Z') || self.eat(b'z') {
            return Some(0);
        }
        if self.0.eq_ignore_ascii_case(b"UTC") || self.0.eq_ignore_ascii_case(b"GMT") {
            self.0 = &[];
            return Some(0);
        }
        let sign = if self.eat(b'+') { 1 } else { self.eat(b'-').then_some(-1)? };
        let hours = self.digits(2, 2)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            self.eat(b':');
            self.digits(2, 2)?
        };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i32, month: u32, day: u32) -> Option<i64> {
    const EPOCH: i32 = 719_163;
    // Days of the common era, which chrono looks up in a table of years.
    use chrono::Datelike;
    Some(i64::from(NaiveDate::from_ymd_opt(year, month, day)?.num_days_from_ce() - EPOCH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::Time;

    fn read(order: Order, text: &str) -> Result<Time, Fault> {
        TimeReader::new(order, None, Twice::Refuse).read(text.as_bytes()).map(Time::from_nanos)
    }

    #[test]
    fn one_moment_in_many_spellings() {
        let noon: Time = "2026-11-24T05:07:09Z".parse().unwrap();
        for text in [
            "2026-11-24T05:07:09Z",
            "2026-11-24 05:07:09",
            "2026-11-24 12:07:09+07:00",
            "2026/11/24 12.07.09 +0700",
            "20261124T120709+07",
            "2026-11-24 05:07:09.000 UTC",
            " 2026.11.24  5:07:09 AM ",
        ] {
            assert_eq!(read(Order::YearFirst, text), Ok(noon), "{text}");
        }
        assert_eq!(read(Order::DayFirst, "24/11/2026 05.07.09"), Ok(noon));
        assert_eq!(read(Order::DayFirst, "24-11-2026 5:07:09 am"), Ok(noon));
        assert_eq!(read(Order::MonthFirst, "11/24/2026 05:07:09"), Ok(noon));
        assert_eq!(read(Order::Unix(SECOND), "1795496829"), Ok(noon));
        assert_eq!(read(Order::Unix(1_000_000), "1795496829000"), Ok(noon));
        assert_eq!(read(Order::Unix(SECOND), "-1.5"), Ok(Time::from_nanos(-1_500_000_000)));
        assert_eq!(read(Order::YearFirst, "2026-11-24"), read(Order::YearFirst, "2026-11-24T00:00:00Z"));
    }

    #[test]
    fn what_is_not_a_time_is_a_fault() {
        for text in [
            "",
            "now",
            "2026-13-01",
            "2026-02-29",
            "2026-11-24T24:00:00",
            "2026-11-24T12:60:00",
            "2026-11-24T12:00:60",
            "2026-11-24T12",
            "2026-11-24X12:00:00",
            "2026-11/24",
            "26-11-24",
            "2026-11-24T12:00:00+7",
            "2026-11-24T12:00:00Zz",
            "2026-11-24 13:00:00 PM",
            "2026-11-24T12:00:00.0000000001",
            "9999-01-01T00:00:00Z",
            "24/11/2026",
        ] {
            assert_eq!(read(Order::YearFirst, text), Err(Fault::BadTime), "{text:?}");
        }
        assert_eq!(read(Order::DayFirst, "11/24/2026"), Err(Fault::BadTime));
        for text in ["", "1.0000000001", "9223372037", "1e9", "0x1"] {
            assert_eq!(read(Order::Unix(SECOND), text), Err(Fault::BadTime), "{text:?}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_back_says_so() {
        let read = |twice, text: &str| {
            let mut reader = TimeReader::new(Order::YearFirst, Some(chrono_tz::Europe::Berlin), twice);
            // A neighbour in the same quarter first, so that what is known of it is put to the test.
            let _ = reader.read(b"2026-10-25 01:59:59");
            reader.read(text.as_bytes()).map(Time::from_nanos)
        };
        let utc = |text: &str| Ok(text.parse::<Time>().unwrap());
        assert_eq!(read(Twice::Refuse, "2026-10-25 02:30:00"), Err(Fault::AmbiguousTime));
        assert_eq!(read(Twice::Earlier, "2026-10-25 02:30:00"), utc("2026-10-25T00:30:00Z"));
        assert_eq!(read(Twice::Later, "2026-10-25 02:30:00"), utc("2026-10-25T01:30:00Z"));
        assert_eq!(read(Twice::Refuse, "2026-03-29 02:30:00"), Err(Fault::SkippedTime));
        assert_eq!(read(Twice::Refuse, "2026-03-29 03:00:00"), utc("2026-03-29T01:00:00Z"));
        assert_eq!(read(Twice::Refuse, "2026-10-25 02:30:00+02:00"), utc("2026-10-25T00:30:00Z"));
    }

    #[test]
    fn every_quarter_of_years_is_what_the_zone_says() {
        // Zones with odd offsets and changes, read in order and so through what is known of a quarter.
        for zone in [chrono_tz::Asia::Pontianak, chrono_tz::Australia::Lord_Howe, chrono_tz::Africa::Monrovia] {
            let mut reader = TimeReader::new(Order::YearFirst, Some(zone), Twice::Earlier);
            let from = NaiveDate::from_ymd_opt(1971, 12, 1).unwrap().and_hms_opt(0, 0, 0).unwrap();
            for step in 0..9_000 {
                let wall = from + chrono::TimeDelta::seconds(step * 1_937);
                let expected = match zone.from_local_datetime(&wall) {
                    chrono::LocalResult::Single(time) | chrono::LocalResult::Ambiguous(time, _) => Ok(time.timestamp()),
                    chrono::LocalResult::None => Err(Fault::SkippedTime),
                };
                let text = wall.format("%Y-%m-%d %H:%M:%S").to_string();
                let found = reader.read(text.as_bytes()).map(|nanos| nanos / SECOND);
                assert_eq!(found, expected, "{zone} {text}");
            }
        }
    }
}
