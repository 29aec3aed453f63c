//! Additive exponential smoothing with a season, after Holt and Winters.
//!
//! The recursions are those of ETS(A,A,A) in Hyndman and Athanasopoulos, Forecasting: Principles and Practice, and so is
//! the variance of the forecast. Steps without a value move on along the forecast and teach nothing.

/// A forecast of one step: the value, and how far off it may be, as a standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Forecast {
    pub(super) value: f64,
    pub(super) deviation: f64,
}

/// How fast level, trend and season follow the values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    level: f64,
    trend: f64,
    season: f64,
}

#[derive(Clone, Debug)]
struct State {
    level: f64,
    trend: f64,
    /// By step modulo the season.
    season: Vec<f64>,
}

/// Rates that are tried first.
const LEVELS: [f64; 4] = [0.05, 0.2, 0.5, 0.8];
const TRENDS: [f64; 3] = [0.0, 0.02, 0.2];
const SEASONS: [f64; 3] = [0.05, 0.2, 0.5];
/// Steps by which the best are moved, each as long as that helps.
const MOVES: [f64; 4] = [0.1, 0.03, 0.01, 0.003];
/// Often enough; each try goes over all steps.
const TRIES_MAX: usize = 200;

/// Forecasts the `horizon` steps after `values`; none with too little history: less than two seasons, one of them without
/// values in half of its steps, or no value left to measure errors by.
pub(super) fn forecast(values: &[Option<f64>], season: usize, horizon: usize) -> Option<Vec<Forecast>> {
    let start = start(values, season)?;
    let rates = best(values, &start);
    let (state, errors, count) = run(values, &start, rates);
    // Three rates were fitted to them.
    let freedom = count.checked_sub(3).filter(|freedom| *freedom > 0)?;
    let variance = errors / freedom as f64;
    let season_rate = if season > 1 { rates.season * (1.0 - rates.level) } else { 0.0 };
    let mut spread = 1.0;
    let mut forecasts = Vec::with_capacity(horizon);
    for ahead in 1..=horizon {
        let phase = (values.len() + ahead - 1) % season;
        let value = state.level + ahead as f64 * state.trend + state.season.get(phase).copied().unwrap_or_default();
        forecasts.push(Forecast { value, deviation: (variance * spread).sqrt() });
        let returns = if ahead % season == 0 { season_rate } else { 0.0 };
        let weight = rates.level * (1.0 + ahead as f64 * rates.trend) + returns;
        spread += weight * weight;
    }
    Some(forecasts)
}

/// From the first two seasons: the level before the first step, the trend between the two, the mean of what is left.
fn start(values: &[Option<f64>], season: usize) -> Option<State> {
    let (first, rest) = values.split_at_checked(season)?;
    let second = rest.get(..season)?;
    let mean = |part: &[Option<f64>]| {
        let known: Vec<f64> = part.iter().flatten().copied().collect();
        (2 * known.len() >= part.len() && !known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let (one, two) = (mean(first)?, mean(second)?);
    let trend = (two - one) / season as f64;
    let middle = (season as f64 - 1.0) / 2.0;
    let off = |phase: usize| {
        let line = |mean: f64| mean + (phase as f64 - middle) * trend;
        let of = |part: &[Option<f64>], mean| part.get(phase).copied().flatten().map(|value| value - line(mean));
        match (of(first, one), of(second, two)) {
            (Some(a), Some(b)) => f64::midpoint(a, b),
            (one, two) => one.or(two).unwrap_or(0.0),
        }
    };
    let season_off = if season > 1 { (0..season).map(off).collect() } else { vec![0.0] };
    Some(State { level: one - (middle + 1.0) * trend, trend, season: season_off })
}

/// The state after all values, the sum of squared errors of one step ahead, and how many there were. The first season
/// made the state it began with, and does not count.
fn run(values: &[Option<f64>], start: &State, rates: Rates) -> (State, f64, usize) {
    let mut state = start.clone();
    let seasons = state.season.len();
    let (mut errors, mut count) = (0.0, 0);
    for (step, value) in values.iter().enumerate() {
        let Some(season) = state.season.get_mut(step % seasons) else { break };
        let ahead = state.level + state.trend;
        state.level = ahead;
        let Some(value) = value else { continue };
        let error = value - ahead - *season;
        state.level += rates.level * error;
        state.trend += rates.level * rates.trend * error;
        if seasons > 1 {
            *season += rates.season * (1.0 - rates.level) * error;
        }
        if step >= seasons {
            errors += error * error;
            count += 1;
        }
    }
    (state, errors, count)
}

/// The rates with the least errors: the best of a few, then moved while that helps.
fn best(values: &[Option<f64>], start: &State) -> Rates {
    let errors = |rates: Rates| run(values, start, rates).1;
    let mut best = (f64::INFINITY, Rates { level: 0.2, trend: 0.02, season: 0.2 });
    let mut tries = 0;
    let mut attempt = |best: &mut (f64, Rates), rates: Rates| {
        tries += 1;
        let found = errors(rates);
        let better = found < best.0;
        if better {
            *best = (found, rates);
        }
        (better, tries >= TRIES_MAX)
    };
    for level in LEVELS {
        for trend in TRENDS {
            for season in SEASONS {
                attempt(&mut best, Rates { level, trend, season });
            }
        }
    }
    for by in MOVES {
        loop {
            let mut moved = false;
            for (level, trend, season) in [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)] {
                let at = |rate: f64, way: i32| (rate + f64::from(way) * by).clamp(0.0, 1.0);
                let Rates { level: l, trend: t, season: s } = best.1;
                let (better, enough) =
                    attempt(&mut best, Rates { level: at(l, level), trend: at(t, trend), season: at(s, season) });
                moved |= better;
                if enough {
                    return best.1;
                }
            }
            if !moved {
                break;
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use proptest::prelude::*;

    fn wave(step: usize) -> f64 {
        [3.0, -1.0, -4.0, 2.0][step % 4]
    }

    /// Numbers that look like noise, the same for a seed: splitmix64, twelve of which make one that is nearly normal.
    fn noise(seed: u64, step: usize) -> f64 {
        let uniform = |number: u64| {
            let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
        };
        (0..12).map(|part| uniform(step as u64 * 12 + part)).sum::<f64>() - 6.0
    }

    proptest! {
        #[test]
        fn a_line_and_a_season_go_on(level in -50.0..50.0_f64, trend in -2.0..2.0_f64, gaps in prop::collection::vec(0..60_usize, 0..4)) {
            let truth = |step: usize| level + trend * step as f64 + wave(step);
            let mut values: Vec<Option<f64>> = (0..60).map(|step| Some(truth(step))).collect();
            for gap in gaps.into_iter().filter(|gap| *gap >= 8) {
                values[gap] = None;
            }
            for (ahead, forecast) in forecast(&values, 4, 12).unwrap().into_iter().enumerate() {
                prop_assert!((forecast.value - truth(60 + ahead)).abs() < 1e-6, "{forecast:?} {}", truth(60 + ahead));
                prop_assert!(forecast.deviation < 1e-6);
            }
        }

        #[test]
        fn forecasts_move_with_their_values(seed in any::<u64>(), by in -1e3..1e3_f64) {
            let values: Vec<Option<f64>> = (0..40).map(|step| Some(wave(step) + noise(seed, step))).collect();
            let moved: Vec<Option<f64>> = values.iter().map(|value| value.map(|value| value + by)).collect();
            let both = forecast(&values, 4, 5).unwrap().into_iter().zip(forecast(&moved, 4, 5).unwrap());
            for (one, other) in both {
                prop_assert!((one.value + by - other.value).abs() < 0.2, "{one:?} {other:?} {by}");
            }
        }
    }

    #[test]
    fn the_bounds_hold_what_they_promise() {
        let (mut inside, mut all) = (0, 0);
        for seed in 0..400 {
            let value = |step: usize| 10.0 + 0.1 * step as f64 + wave(step) + noise(seed, step);
            let values: Vec<Option<f64>> = (0..120).map(|step| Some(value(step))).collect();
            for (ahead, forecast) in forecast(&values, 4, 8).unwrap().into_iter().enumerate() {
                inside += usize::from((forecast.value - value(120 + ahead)).abs() <= 1.96 * forecast.deviation);
                all += 1;
            }
        }
        let part = inside as f64 / all as f64;
        assert!((0.92..0.98).contains(&part), "{part} of forecasts are inside of what 95 percent should be");
    }

    #[test]
    fn bounds_widen_and_too_little_is_nothing() {
        let values: Vec<Option<f64>> = (0..60).map(|step| Some(wave(step) + noise(7, step))).collect();
        let forecasts = forecast(&values, 4, 20).unwrap();
        assert!(forecasts.is_sorted_by_key(|forecast| forecast.deviation));
        assert_eq!(forecast(&values[..7], 4, 1), None);
        assert_eq!(forecast(&values[..11], 4, 1).map(|forecasts| forecasts.len()), Some(1));
        assert_eq!(forecast(&[], 1, 1), None);
        let mut gaps = values.clone();
        gaps[..3].fill(None);
        assert_eq!(forecast(&gaps, 4, 1), None);
        assert_eq!(forecast(&[Some(1.0), Some(1.0), Some(1.0)], 1, 1), None);
    }

    #[test]
    fn without_a_season_it_is_holts_line() {
        let values: Vec<Option<f64>> = (0..20).map(|step| Some(2.0 + 0.5 * f64::from(step))).collect();
        let forecasts = forecast(&values, 1, 3).unwrap();
        assert!((forecasts[2].value - (2.0 + 0.5 * 22.0)).abs() < 1e-9, "{forecasts:?}");
    }
}
