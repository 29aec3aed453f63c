//! The bins of a range, numbered, and how far a value reaches.

use arrow::array::timezone::Tz;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::error::Result;

use crate::query::functions::bins::{Bins, later};

/// The bins that every group gets, by number from 0. Times are nanoseconds.
#[derive(Debug)]
pub(super) enum Grid {
    /// All of one length, so that nothing need be held.
    Even { first: i64, step: i64, bins: i64 },
    /// The begins of bins that the calendar or the clock makes.
    Edges(Vec<i64>),
}

/// Edges that memory is asked for at a time.
const EDGES_AT_ONCE: usize = 8_192;

impl Grid {
    /// The bins from that of `first` to that of `last`, both in the range. `reserve` is asked for the bytes held.
    pub(super) fn new(
        bins: &Bins,
        first: i64,
        last: i64,
        mut reserve: impl FnMut(usize) -> Result<()>,
    ) -> Result<Option<Self>> {
        if first > last {
            return Ok(Some(Self::Edges(Vec::new())));
        }
        let (Some(begin), Some(end)) = (bins.start(first), bins.start(last)) else { return Ok(None) };
        if let Some(step) = bins.even_step() {
            let bins = end.checked_sub(begin).map(|length| length / step + 1);
            return Ok(bins.map(|bins| Self::Even { first: begin, step, bins }));
        }
        let mut edges = vec![begin];
        let mut at = begin;
        while at < end {
            if edges.len().is_multiple_of(EDGES_AT_ONCE) {
                reserve(EDGES_AT_ONCE * size_of::<i64>())?;
            }
            let Some(next) = bins.next(at) else { return Ok(None) };
            edges.push(next);
            at = next;
        }
        Ok(Some(Self::Edges(edges)))
    }

    pub(super) fn bins(&self) -> i64 {
        match self {
            Self::Even { bins, .. } => *bins,
            Self::Edges(edges) => edges.len() as i64,
        }
    }

    /// The begin of a bin.
    pub(super) fn start(&self, number: i64) -> i64 {
        match self {
            Self::Even { first, step, .. } => first + number * step,
            Self::Edges(edges) => {
                usize::try_from(number).ok().and_then(|at| edges.get(at)).copied().unwrap_or(i64::MAX)
            }
        }
    }

    /// The number of the bin that begins at `start`; of a time outside of the range, one outside of the numbers.
    pub(super) fn number(&self, start: i64) -> i64 {
        match self {
            Self::Even { first, step, .. } => start.saturating_sub(*first).div_euclid(*step),
            Self::Edges(edges) if edges.first().is_none_or(|first| start < *first) => -1,
            Self::Edges(edges) => edges.partition_point(|edge| *edge < start) as i64,
        }
    }
}

/// The longest distance in time that a value is carried over.
#[derive(Clone, Debug)]
pub(super) struct MaxGap {
    pub(super) interval: IntervalMonthDayNano,
    /// Whose days and months these are; none is UTC.
    pub(super) zone: Option<Tz>,
}

impl MaxGap {
    /// The last moment that a value of `start` reaches.
    pub(super) fn reach(&self, start: i64) -> i64 {
        let IntervalMonthDayNano { months, days, nanoseconds } = self.interval;
        later(self.zone.as_ref(), start, months, days, nanoseconds).unwrap_or(i64::MAX)
    }
}
