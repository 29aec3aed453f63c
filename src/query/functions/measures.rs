//! What samples in the order of time come to: counters, and the area under a curve.

use super::samples::Sample;

/// How a value goes on between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Method {
    /// The last observation is carried forward.
    Locf,
    /// On the straight line to the next.
    Linear,
}

/// What is asked of the samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Measure {
    Increase,
    Rate,
    Delta,
    Irate,
    Average(Method),
    Integral { method: Method, unit_ns: f64 },
}

impl Measure {
    /// Whether a NaN is no value. A counter never is one, and in a sum one would hide all others.
    pub(super) fn skips_nan(self) -> bool {
        matches!(self, Self::Increase | Self::Rate | Self::Delta | Self::Irate)
    }

    /// Whether few samples at the ends are all that counts.
    pub(super) fn needs_ends_only(self) -> bool {
        matches!(self, Self::Delta | Self::Irate)
    }

    /// Drops samples without which the answer is the same, whatever others come.
    pub(super) fn thin(self, samples: &mut Vec<Sample<f64>>) {
        match self {
            Self::Delta if samples.len() > 2 => drop(samples.drain(1..samples.len() - 1)),
            Self::Irate => {
                if let Some([before, last]) = last_two(samples) {
                    samples.clear();
                    samples.extend([before, last]);
                }
            }
            _ => {}
        }
    }

    /// What the pairs of neighbours among `samples`, which are in order, add up to.
    pub(super) fn sum(self, samples: &[Sample<f64>]) -> f64 {
        let pairs = samples.iter().zip(samples.iter().skip(1));
        // From 0: the sum of nothing is -0 otherwise.
        match self {
            // What a counter had before each reset.
            Self::Increase | Self::Rate => {
                pairs.filter(|(a, b)| b.value < a.value).fold(0.0, |sum, (before, _)| sum + before.value)
            }
            Self::Average(method) | Self::Integral { method, .. } => {
                // Samples of one time are no width apart, and an infinity times nothing is no number.
                let wide = pairs.filter(|(a, b)| a.time < b.time);
                wide.fold(0.0, |sum, (a, b)| sum + method.height(a, b) * ticks_between(a, b))
            }
            Self::Delta | Self::Irate => 0.0,
        }
    }

    /// The answer for the samples of one group, which are in order and add up to `sum`.
    pub(super) fn of(self, samples: &[Sample<f64>], sum: f64, tick_ns: i64) -> Option<f64> {
        let tick_ns = tick_ns as f64;
        let (first, last) = (samples.first()?, samples.last()?);
        let grown = || if samples.len() > 1 { Some(last.value - first.value) } else { None };
        match self {
            Self::Delta => grown(),
            Self::Increase => Some(grown()? + sum),
            Self::Rate => {
                let seconds = ticks_between(first, last) * tick_ns / 1e9;
                if seconds > 0.0 { Some((grown()? + sum) / seconds) } else { None }
            }
            Self::Irate => {
                let [before, last] = last_two(samples)?;
                // After a reset the counter has counted from nothing.
                let grown = if last.value < before.value { last.value } else { last.value - before.value };
                Some(grown / (ticks_between(&before, &last) * tick_ns / 1e9))
            }
            Self::Average(_) => {
                let ticks = ticks_between(first, last);
                Some(if ticks > 0.0 { sum / ticks } else { last.value })
            }
            Self::Integral { unit_ns, .. } => Some(sum * tick_ns / unit_ns),
        }
    }
}

impl Method {
    /// How high the curve is, on average, between two neighbours.
    fn height(self, from: &Sample<f64>, to: &Sample<f64>) -> f64 {
        match self {
            Self::Locf => from.value,
            Self::Linear => from.value / 2.0 + to.value / 2.0,
        }
    }
}

fn ticks_between(from: &Sample<f64>, to: &Sample<f64>) -> f64 {
    (i128::from(to.time) - i128::from(from.time)) as f64
}

/// The samples of the last two times; of one time the greatest value.
fn last_two(samples: &[Sample<f64>]) -> Option<[Sample<f64>; 2]> {
    let last = samples.last()?;
    let before = samples.iter().rev().find(|sample| sample.time < last.time)?;
    Some([*before, *last])
}
