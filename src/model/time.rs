//! UTC nanoseconds.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::temporal_conversions::timestamp_ns_to_datetime;

use crate::error::{Error, Result};

/// A moment: nanoseconds since 1970-01-01T00:00:00Z, from 1677-09-21 to 2262-04-11.
///
/// Every way in is checked: what 64 bits cannot say is [`InvalidTime`](Error::InvalidTime).
///
/// ```
/// use denyut::Time;
/// let noon: Time = "2026-11-24T12:00:00+07:00".parse()?;
/// assert_eq!(noon, Time::from_secs(1_795_496_400)?);
/// assert!("1600-01-01T00:00:00Z".parse::<Time>().is_err());
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// From Unix nanoseconds.
    #[inline]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From Unix milliseconds.
    ///
    /// # Errors
    /// [`InvalidTime`](Error::InvalidTime) out of range.
    pub fn from_millis(millis: i64) -> Result<Self> {
        Self::scaled(millis, 1_000_000)
    }

    /// From Unix seconds.
    ///
    /// # Errors
    /// [`InvalidTime`](Error::InvalidTime) out of range.
    pub fn from_secs(secs: i64) -> Result<Self> {
        Self::scaled(secs, 1_000_000_000)
    }

    fn scaled(count: i64, nanos_each: i64) -> Result<Self> {
        let invalid = || Error::InvalidTime { given: format!("{count} units of {nanos_each} ns") };
        count.checked_mul(nanos_each).map(Self).ok_or_else(invalid)
    }

    /// Unix nanoseconds.
    #[inline]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// This time later by `by`, or the last time there is.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(by)))
    }
}

/// `duration` in nanoseconds, or the largest that fits.
pub(crate) fn nanos_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A wall clock, which may jump and go back.
#[derive(Clone, Debug, Default)]
pub(crate) enum Wall {
    /// The system's.
    #[default]
    System,
    /// One that a test sets, in Unix nanoseconds.
    #[cfg(any(test, fuzzing))]
    #[cfg_attr(not(test), allow(dead_code, reason = "fuzz targets let time pass by itself"))]
    Set(std::sync::Arc<std::sync::atomic::AtomicI64>),
}

impl Wall {
    /// What it shows.
    #[inline]
    pub(crate) fn now(&self) -> Time {
        match self {
            Self::System => now(),
            #[cfg(any(test, fuzzing))]
            // Relaxed: a clock orders nothing.
            Self::Set(time) => Time(time.load(std::sync::atomic::Ordering::Relaxed)),
        }
    }
}

/// The wall clock's time.
///
/// ```
/// assert!(denyut::now() > denyut::Time::from_secs(1_700_000_000)?);
/// # Ok::<(), denyut::Error>(())
/// ```
#[inline]
pub fn now() -> Time {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Time(nanos_of(since)),
        Err(before) => Time(-nanos_of(before.duration())),
    }
}

impl TryFrom<SystemTime> for Time {
    type Error = Error;

    fn try_from(time: SystemTime) -> Result<Self> {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).ok(),
            Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|nanos| -nanos),
        };
        nanos.map(Self).ok_or_else(|| Error::InvalidTime { given: format!("{time:?}") })
    }
}

impl std::str::FromStr for Time {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |_| Error::InvalidTime { given: text.chars().take(80).collect() };
        string_to_timestamp_nanos(text).map(Self).map_err(invalid)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match timestamp_ns_to_datetime(self.0) {
            Some(time) => write!(f, "{}Z", time.format("%Y-%m-%dT%H:%M:%S%.f")),
            None => write!(f, "{} ns", self.0),
        }
    }
}
