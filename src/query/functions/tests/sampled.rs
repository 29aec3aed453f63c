//! Counters, integrals and states against sums that are written out.

use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use proptest::prelude::*;

use super::{column, lines, session};

type Row = (i64, Option<i64>, Option<i64>);

fn real(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:?}"))
}

/// What each aggregate is of samples in order. Whole numbers, so that all sums are exact.
fn wanted(samples: &[(i64, i64)]) -> Vec<String> {
    let pairs = || samples.windows(2).map(|pair| (pair[0], pair[1]));
    let has_two = samples.len() > 1;
    let span = samples.last().map_or(0, |last| last.0 - samples[0].0);
    let increase: i64 = pairs().map(|(a, b)| if b.1 < a.1 { b.1 } else { b.1 - a.1 }).sum();
    let delta = samples.last().map_or(0, |last| last.1 - samples[0].1);
    let held: i64 = pairs().map(|(a, b)| a.1 * (b.0 - a.0)).sum();
    let sloped: i64 = pairs().map(|(a, b)| (a.1 + b.1) * (b.0 - a.0)).sum();
    let is_positive: i64 = pairs().map(|(a, b)| i64::from(a.1 > 0) * (b.0 - a.0)).sum();
    let changes = pairs().filter(|(a, b)| a.1 != b.1).count();
    let before_last = samples.iter().rev().find(|sample| Some(sample.0) < samples.last().map(|last| last.0));
    let irate = before_last.map(|before| {
        let last = samples.last().unwrap();
        let grown = if last.1 < before.1 { last.1 } else { last.1 - before.1 };
        grown as f64 / ((last.0 - before.0) as f64 * 1e6 / 1e9)
    });
    let average = |area: f64| samples.last().map(|last| if span > 0 { area / span as f64 } else { last.1 as f64 });
    let any = |value: f64| (!samples.is_empty()).then_some(value);
    vec![
        real(has_two.then_some(increase as f64)),
        real((span > 0).then(|| increase as f64 / (span as f64 * 1e6 / 1e9))),
        real(has_two.then_some(delta as f64)),
        real(irate),
        real(average(held as f64)),
        real(average(sloped as f64 / 2.0)),
        real(any(sloped as f64 / 2.0)),
        if samples.is_empty() { String::new() } else { changes.to_string() },
        real(any(is_positive as f64)),
    ]
}

const ASKED: &str = "increase(v, time) AS i, rate(v, time) AS r, delta(v, time) AS d, irate(v, time) AS ir, \
    time_weighted_avg(v, time, 'locf') AS al, time_weighted_avg(v, time, 'linear') AS aa, \
    integral(v, time, 'linear', INTERVAL '1 millisecond') AS it, state_changes(v, time) AS c, \
    state_duration(v > 0, time, INTERVAL '1 millisecond') AS sd";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn aggregates_of_samples_are_their_sums(
        rows in prop::collection::vec(
            (0..3_i64, prop::option::weighted(0.9, -40..40_i64), prop::option::weighted(0.9, 0..6_i64)), 0..220),
        cuts in prop::collection::vec(0..1_000_usize, 0..12),
    ) {
        let rows: Vec<Row> = rows;
        let context = session(vec![
            ("k", column::<Int64Array, _>(rows.iter().map(|row| row.0))),
            ("time", column::<TimestampMillisecondArray, _>(rows.iter().map(|row| row.1))),
            ("v", column::<Int64Array, _>(rows.iter().map(|row| row.2))),
        ], &cuts);
        let of = |key: Option<i64>| {
            let own = rows.iter().filter(|row| key.is_none_or(|key| row.0 == key));
            let mut samples: Vec<(i64, i64)> = own.filter_map(|row| Some((row.1?, row.2?))).collect();
            samples.sort_unstable();
            wanted(&samples)
        };
        let mut keys: Vec<i64> = rows.iter().map(|row| row.0).collect();
        keys.sort_unstable();
        keys.dedup();
        let grouped: Vec<String> = keys.iter().map(|key| format!("{key},{}", of(Some(*key)).join(","))).collect();
        prop_assert_eq!(lines(&context, &format!("SELECT k, {ASKED} FROM t GROUP BY k ORDER BY k")), grouped);
        prop_assert_eq!(lines(&context, &format!("SELECT {ASKED} FROM t")), vec![of(None).join(",")]);
    }

    #[test]
    fn windows_of_time_hold_the_rows_of_that_time(
        rows in prop::collection::vec((0..60_i64, prop::option::weighted(0.9, 0..9_i64)), 1..40),
    ) {
        let mut rows = rows;
        rows.sort_unstable();
        let context = session(vec![
            ("time", column::<TimestampMillisecondArray, _>(rows.iter().map(|row| Some(row.0)))),
            ("v", column::<Int64Array, _>(rows.iter().map(|row| row.1))),
        ], &[]);
        let over = "OVER (ORDER BY time RANGE BETWEEN INTERVAL '10 milliseconds' PRECEDING AND CURRENT ROW)";
        let text = format!("SELECT increase(v, time) {over}, time_weighted_avg(v, time, 'locf') {over}, avg(v) {over}, \
            state_changes(v, time) {over}, session_start(time, INTERVAL '4 milliseconds') OVER (ORDER BY time) FROM t");
        let mut began = rows[0].0;
        let wanted: Vec<String> = rows.iter().enumerate().map(|(at, row)| {
            if at > 0 && row.0 - rows[at - 1].0 > 4 {
                began = row.0;
            }
            let inside = rows.iter().filter(|other| (row.0 - 10..=row.0).contains(&other.0));
            let mut samples: Vec<(i64, i64)> = inside.filter_map(|row| Some((row.0, row.1?))).collect();
            samples.sort_unstable();
            let all = wanted(&samples);
            let sum: i64 = samples.iter().map(|sample| sample.1).sum();
            let average = (!samples.is_empty()).then(|| sum as f64 / samples.len() as f64);
            let began = format!("1970-01-01T00:00:00.{began:03}").replace(".000", "");
            [all[0].clone(), all[4].clone(), real(average), all[7].clone(), began].join(",")
        }).collect();
        prop_assert_eq!(lines(&context, &text), wanted);
    }
}

#[test]
fn a_reset_and_a_nan_are_what_they_are() {
    let values = [Some(5.0), Some(f64::NAN), Some(9.0), None, Some(3.0), Some(3.0)];
    let context = session(
        vec![
            ("time", column::<TimestampMillisecondArray, _>((0..6).map(|n| Some(n * 1_000)))),
            ("v", column::<Float64Array, _>(values)),
            ("is_open", column::<BooleanArray, _>([Some(true), None, Some(false), Some(true), None, Some(false)])),
            ("s", column::<StringArray, _>(["a", "a", "b", "a", "a", "c"].map(Some))),
        ],
        &[],
    );
    let text = "SELECT increase(v, time), delta(v, time), integral(v, time), state_duration(is_open, time), \
        state_changes(s, time), state_changes(is_open, time) FROM t";
    assert_eq!(lines(&context, text), ["7.0,-2.0,NaN,4.0,3,3"]);
}
