//! Where bins of time begin: by the clock on a wall, or by UTC, in fixed steps or in months.
//!
//! A wall clock is not continuous: it is set forward and back. Bins are, so these are the rules, and `start` is the
//! last moment at or before a time at which a bin begins:
//!
//! - A bin of a day or longer begins when the wall clock first shows its boundary, or jumps over it.
//! - A shorter bin begins whenever the clock shows a boundary, or jumps forward over it: the hour that a clock set back
//!   shows twice is two bins of an hour.
//!
//! All times are nanoseconds since 1970, of UTC unless called local. None is a time that i64 cannot hold. At most one
//! change of the clock is expected within a bin shorter than a day.

use arrow::array::timezone::Tz;
use chrono::{DateTime, Datelike, Months, NaiveDateTime, Offset, TimeZone};

pub(super) const DAY_NS: i64 = 86_400_000_000_000;
/// Further than the clocks of two zones are apart.
const ZONES_APART_NS: i64 = 26 * 3_600_000_000_000;
const MONTHS_OF_YEAR: i64 = 12;

/// From one boundary to the next, by the wall clock. Positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub(super) enum Stride {
    Nanoseconds(i64),
    Months(i32),
}

impl Stride {
    fn is_short(self) -> bool {
        matches!(self, Self::Nanoseconds(ns) if ns < DAY_NS)
    }

    /// The shortest that a bin can be expected to be.
    pub(super) fn min_ns(self) -> i64 {
        match self {
            Self::Nanoseconds(ns) => ns,
            Self::Months(months) => DAY_NS.saturating_mul(28).saturating_mul(i64::from(months)),
        }
    }
}

/// Bins of one stride, counted from an origin.
#[derive(Clone, Debug)]
pub(super) struct Bins {
    stride: Stride,
    origin_local: i64,
    /// None is UTC, and whoever has local times already.
    zone: Option<Tz>,
}

impl Bins {
    pub(super) fn new(stride: Stride, origin_local: i64, zone: Option<Tz>) -> Self {
        Self { stride, origin_local, zone }
    }

    /// The beginning of the bin that `time` is in.
    pub(super) fn start(&self, time: i64) -> Option<i64> {
        let Some(zone) = &self.zone else { return self.boundary(self.number(time)?) };
        if self.stride.is_short() { self.short_start(zone, time) } else { self.long_start(zone, time) }
    }

    /// The beginning of the bin after the one that begins at `start`.
    pub(super) fn next(&self, start: i64) -> Option<i64> {
        let Some(zone) = &self.zone else { return self.boundary(self.number(start)?.checked_add(1)?) };
        if self.stride.is_short() { self.short_next(zone, start) } else { self.long_next(zone, start) }
    }

    /// The length of every bin, if all have one.
    pub(super) fn even_step(&self) -> Option<i64> {
        match self.stride {
            Stride::Nanoseconds(ns) if self.zone.is_none() => Some(ns),
            _ => None,
        }
    }

    /// Which bin of the wall clock a local time is in. Bin 0 begins at the origin.
    fn number(&self, local: i64) -> Option<i64> {
        match self.stride {
            Stride::Nanoseconds(ns) => {
                if let Some(since) = local.checked_sub(self.origin_local) {
                    return Some(since.div_euclid(ns));
                }
                let number = (i128::from(local) - i128::from(self.origin_local)).div_euclid(i128::from(ns));
                i64::try_from(number).ok()
            }
            Stride::Months(months) => {
                let month = |date: NaiveDateTime| i64::from(date.year()) * MONTHS_OF_YEAR + i64::from(date.month0());
                let apart = month(civil(local)) - month(civil(self.origin_local));
                let number = apart.div_euclid(i64::from(months));
                // The month has begun, but perhaps not the origin's day of it.
                let is_before = self.boundary(number).is_none_or(|begin| begin > local);
                Some(if is_before { number - 1 } else { number })
            }
        }
    }

    /// The local time at which a bin begins.
    fn boundary(&self, number: i64) -> Option<i64> {
        match self.stride {
            Stride::Nanoseconds(ns) => number.checked_mul(ns)?.checked_add(self.origin_local),
            Stride::Months(months) => {
                let months = number.checked_mul(i64::from(months))?;
                let by = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
                let origin = civil(self.origin_local);
                // A day that a month does not have is its last.
                let date = if months < 0 { origin.checked_sub_months(by)? } else { origin.checked_add_months(by)? };
                date.and_utc().timestamp_nanos_opt()
            }
        }
    }

    fn short_start(&self, zone: &Tz, time: i64) -> Option<i64> {
        let mut time = time;
        loop {
            let offset = offset(zone, time);
            let boundary = self.boundary(self.number(time.checked_add(offset)?)?)?;
            let start = boundary.checked_sub(offset)?;
            if self::offset(zone, start) == offset {
                return Some(start);
            }
            let change = last_change(zone, start, time);
            if boundary >= change.checked_add(self::offset(zone, change.checked_sub(1)?))? {
                // The clock jumped from before the boundary to behind it.
                return Some(change);
            }
            // Either the boundary was shown before the change, or the clock was set back to before a later one.
            time = change - 1;
        }
    }

    fn short_next(&self, zone: &Tz, start: i64) -> Option<i64> {
        let offset = offset(zone, start);
        let boundary = self.boundary(self.number(start.checked_add(offset)?)?.checked_add(1)?)?;
        let next = boundary.checked_sub(offset)?;
        if self::offset(zone, next) == offset {
            return Some(next);
        }
        let change = first_change(zone, start, next);
        let after = self::offset(zone, change);
        let shown = change.checked_add(after)?;
        if after > offset {
            return if boundary <= shown { Some(change) } else { boundary.checked_sub(after) };
        }
        let number = self.number(shown)?;
        if self.boundary(number)? == shown {
            return Some(change);
        }
        self.boundary(number.checked_add(1)?)?.checked_sub(after)
    }

    fn long_start(&self, zone: &Tz, time: i64) -> Option<i64> {
        // The clock may have been set back from a later bin, which then has begun.
        let mut number = self.number(time.checked_add(offset(zone, time))?)?.checked_add(1)?;
        loop {
            match reached(zone, self.boundary(number)) {
                Some(start) if start <= time => return Some(start),
                _ => number = number.checked_sub(1)?,
            }
            // A boundary before all times.
            self.boundary(number)?;
        }
    }

    fn long_next(&self, zone: &Tz, start: i64) -> Option<i64> {
        let mut number = self.number(start.checked_add(offset(zone, start))?)?;
        loop {
            let next = reached(zone, self.boundary(number))?;
            if next > start {
                return Some(next);
            }
            // The boundary of `start` itself, or of a day that was left out.
            number = number.checked_add(1)?;
        }
    }
}

fn civil(local: i64) -> NaiveDateTime {
    DateTime::from_timestamp_nanos(local).naive_utc()
}

/// What is added to a time for the wall clock's.
pub(super) fn offset(zone: &Tz, time: i64) -> i64 {
    i64::from(zone.offset_from_utc_datetime(&civil(time)).fix().local_minus_utc()) * 1_000_000_000
}

/// The last moment in `from..=to` at which the offset became what it is at `to`.
fn last_change(zone: &Tz, from: i64, to: i64) -> i64 {
    let after = offset(zone, to);
    partition(from, to, |time| offset(zone, time) == after)
}

/// The first moment in `from..=to` at which the offset is no longer what it is at `from`.
fn first_change(zone: &Tz, from: i64, to: i64) -> i64 {
    let before = offset(zone, from);
    partition(from, to, |time| offset(zone, time) != before)
}

/// The first moment for which `is_after`, which holds at `to` and not at `from`.
fn partition(from: i64, to: i64, is_after: impl Fn(i64) -> bool) -> i64 {
    let (mut before, mut after) = (from, to);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if is_after(middle) {
            after = middle;
        } else {
            before = middle;
        }
    }
    after
}

/// The first moment at which the wall clock shows a local time, or one behind it.
fn reached(zone: &Tz, local: Option<i64>) -> Option<i64> {
    let local = local?;
    let offset_ns = |offset: <Tz as TimeZone>::Offset| i64::from(offset.fix().local_minus_utc()) * 1_000_000_000;
    match zone.offset_from_local_datetime(&civil(local)) {
        chrono::LocalResult::Single(offset) => local.checked_sub(offset_ns(offset)),
        chrono::LocalResult::Ambiguous(one, other) => local.checked_sub(offset_ns(one).max(offset_ns(other))),
        chrono::LocalResult::None => {
            let (from, to) = (local.checked_sub(ZONES_APART_NS)?, local.checked_add(ZONES_APART_NS)?);
            Some(partition(from, to, |time| time.saturating_add(offset(zone, time)) >= local))
        }
    }
}

/// The moment that is an interval later: months and days by the wall clock, the rest by time that passes.
pub(super) fn later(zone: Option<&Tz>, time: i64, months: i32, days: i32, ns: i64) -> Option<i64> {
    if months == 0 && days == 0 {
        return time.checked_add(ns);
    }
    let local = time.checked_add(zone.map_or(0, |zone| offset(zone, time)))?;
    let origin = Bins::new(Stride::Months(1), local, None);
    let local = origin.boundary(i64::from(months))?.checked_add(i64::from(days).checked_mul(DAY_NS)?)?;
    let moment = match zone {
        Some(zone) => reached(zone, Some(local))?,
        None => local,
    };
    moment.checked_add(ns)
}

/// Bins for many times: remembers those it met.
pub(super) struct Binner<'a> {
    bins: &'a Bins,
    /// Begin and end of bins, each at the place that its times hash to.
    known: Vec<(i64, i64)>,
    step_ns: i64,
}

/// A power of two. A day of quarter hours and more.
const KNOWN_BINS: usize = 128;

impl<'a> Binner<'a> {
    pub(super) fn new(bins: &'a Bins) -> Self {
        Self { bins, known: vec![(0, 0); KNOWN_BINS], step_ns: bins.stride.min_ns() }
    }

    /// As [`Bins::start`].
    pub(super) fn start(&mut self, time: i64) -> Option<i64> {
        if self.bins.zone.is_none() {
            return self.bins.start(time);
        }
        let place = time.div_euclid(self.step_ns) as usize & (KNOWN_BINS - 1);
        let known = self.known.get_mut(place)?;
        if known.0 <= time && time < known.1 {
            return Some(known.0);
        }
        let start = self.bins.start(time)?;
        *known = (start, self.bins.next(start).unwrap_or(i64::MAX));
        Some(start)
    }
}
