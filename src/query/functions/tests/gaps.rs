//! Gap filling against loops.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Int64Array, StringArray, TimestampSecondArray};
use proptest::prelude::*;

use super::{answer, column, lines, session};

type Row = (Option<&'static str>, i64, Option<i64>);

const STEP: i64 = 10;

fn shown(value: Option<i64>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

/// The nearest bin with a value, going from `at` by `step`, `at` itself included.
fn nearest(values: &[(i64, Option<i64>)], at: usize, is_back: bool) -> Option<(i64, i64)> {
    let found = |(start, value): &(i64, Option<i64>)| Some((*start, (*value)?));
    if is_back { values[..=at].iter().rev().find_map(found) } else { values[at..].iter().find_map(found) }
}

fn locf(values: &[(i64, Option<i64>)], at: usize, max_gap: i64) -> Option<i64> {
    nearest(values, at, true).filter(|(start, _)| values[at].0 - start <= max_gap).map(|(_, value)| value)
}

fn interpolated(values: &[(i64, Option<i64>)], at: usize, max_gap: i64) -> Option<f64> {
    if let Some(value) = values[at].1 {
        return Some(value as f64);
    }
    let ((from, low), (to, high)) = (nearest(values, at, true)?, nearest(values, at, false)?);
    let share = (values[at].0 - from) as f64 / (to - from) as f64;
    (to - from <= max_gap).then(|| low as f64 + (high - low) as f64 * share)
}

fn real(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn gaps_are_filled_as_by_loops(
        rows in prop::collection::vec(
            (prop::sample::select(vec![None, Some("a"), Some("b"), Some("c")]), -150..150_i64,
                prop::option::weighted(0.7, -9..9_i64)),
            0..50,
        ),
        (from, to) in (-120..120_i64, -120..120_i64),
        (has_from, has_to) in (any::<bool>(), any::<bool>()),
        cuts in prop::collection::vec(0..1_000_usize, 0..8),
    ) {
        let rows: Vec<Row> = rows;
        let context = session(vec![
            ("k", column::<StringArray, _>(rows.iter().map(|row| row.0))),
            ("time", column::<TimestampSecondArray, _>(rows.iter().map(|row| Some(row.1)))),
            ("v", column::<Int64Array, _>(rows.iter().map(|row| row.2))),
        ], &cuts);
        let time = |second: i64| format!("arrow_cast({second}, 'Timestamp(Second, None)')");
        let text = format!(
            "SELECT k, CAST(date_bin_gapfill(INTERVAL '10 seconds', time) AS BIGINT) AS bin, count(v), max(v), \
             locf(max(v)), locf(max(v), INTERVAL '20 seconds'), interpolate(CAST(max(v) AS DOUBLE)) AS real, \
             interpolate(CAST(max(v) AS DOUBLE), INTERVAL '30 seconds'), interpolate(max(v)) AS whole FROM t \
             WHERE time {} {} AND {} {} time GROUP BY k, date_bin_gapfill(INTERVAL '10 seconds', time) \
             ORDER BY k NULLS FIRST, bin", if has_from { ">=" } else { ">" }, time(from), time(to), if has_to { ">=" } else { ">" },
        );
        let (first, last) = (if has_from { from } else { from + 1 }, if has_to { to } else { to - 1 });
        let inside = || rows.iter().filter(|row| (first..=last).contains(&row.1));
        let keys: BTreeSet<_> = inside().map(|row| row.0).collect();
        let mut wanted = Vec::new();
        for key in keys {
            let mut bins: BTreeMap<i64, (i64, Option<i64>)> = BTreeMap::new();
            let mut start = first.div_euclid(STEP) * STEP;
            while start <= last {
                bins.insert(start, (0, None));
                start += STEP;
            }
            for (_, time, value) in inside().filter(|row| row.0 == key) {
                let bin = bins.get_mut(&(time.div_euclid(STEP) * STEP)).unwrap();
                bin.0 += i64::from(value.is_some());
                bin.1 = bin.1.max(*value);
            }
            let values: Vec<(i64, Option<i64>)> = bins.iter().map(|(start, bin)| (*start, bin.1)).collect();
            for (at, (start, (count, max))) in bins.iter().enumerate() {
                wanted.push([
                    key.unwrap_or("").to_string(),
                    start.to_string(),
                    count.to_string(),
                    shown(*max),
                    shown(locf(&values, at, i64::MAX)),
                    shown(locf(&values, at, 20)),
                    real(interpolated(&values, at, i64::MAX)),
                    real(interpolated(&values, at, 30)),
                    // Halves away from zero, as `round` does.
                    shown(interpolated(&values, at, i64::MAX).map(|value| value.round() as i64)),
                ].join(","));
            }
        }
        prop_assert_eq!(lines(&context, &text), wanted, "{}", text);
    }
}

#[test]
fn errors_name_function_argument_and_remedy() {
    let context = session(
        vec![
            ("k", column::<StringArray, _>([Some("a")])),
            ("time", column::<TimestampSecondArray, _>([Some(5)])),
            ("v", column::<Int64Array, _>([Some(1)])),
        ],
        &[],
    );
    let range = "time >= TIMESTAMP '1970-01-01' AND time < TIMESTAMP '1970-01-02'";
    let grouped = |bin: &str, place: &str| format!("SELECT {bin}, max(v) FROM t WHERE {place} GROUP BY 1");
    let bin = "date_bin_gapfill(INTERVAL '1 hour', time)";
    for (text, words) in [
        (
            grouped(bin, "time >= TIMESTAMP '1970-01-01'"),
            "date_bin_gapfill: argument `time` is t.time, which WHERE gives no constant upper bound; add one by AND",
        ),
        (grouped(bin, "time < TIMESTAMP '1970-01-01'"), "no constant lower bound"),
        (grouped(bin, "time < TIMESTAMP '1970-01-01' OR time > TIMESTAMP '1970-01-01'"), "no constant lower bound"),
        (grouped(bin, "v > 0"), "no constant lower bound"),
        (
            grouped(&bin.replace("1 hour", "0 hours"), range),
            "date_bin_gapfill: argument `interval` is zero; give a constant and positive one",
        ),
        (grouped(&bin.replace("1 hour", "-1 hour"), range), "argument `interval` is negative"),
        (grouped("date_bin_gapfill(arrow_cast(v, 'Interval(MonthDayNano)'), time)", range), ""),
        (grouped("date_bin_wallclock_gapfill('soon', time)", range), "is no interval"),
        (grouped("date_bin_wallclock_gapfill(INTERVAL '1 month 1 day', time)", range), "mixes months"),
        (format!("SELECT {bin} FROM t WHERE {range}"), "date_bin_gapfill: works only as an expression of GROUP BY"),
        (format!("SELECT max({bin}) FROM t WHERE {range}"), "works only as an expression of GROUP BY"),
        (
            "SELECT locf(max(v)) FROM t".into(),
            "locf: works only on rows of a gap-filled query; group by date_bin_gapfill",
        ),
        (
            format!("SELECT interpolate(max(k)), {bin} FROM t WHERE {range} GROUP BY 2"),
            "interpolate: argument `aggregate` is Utf8; give a number",
        ),
        (
            format!("SELECT locf(max(v), INTERVAL '0 hours'), {bin} FROM t WHERE {range} GROUP BY 2"),
            "locf: argument `max_gap`",
        ),
        (format!("SELECT locf(max(v), 5), {bin} FROM t WHERE {range} GROUP BY 2"), "locf: argument `max_gap` is 5"),
        (format!("SELECT locf(k), {bin} FROM t WHERE {range} GROUP BY k, 2"), "is a group key"),
        (format!("SELECT {bin}, k, max(v) FROM t WHERE {range} GROUP BY ROLLUP ({bin}, k)"), "ROLLUP"),
        (
            format!(
                "SELECT {bin}, max(v) FROM t WHERE {range} GROUP BY {bin}, date_bin_gapfill(INTERVAL '2 hours', time)"
            ),
            "two of its kind",
        ),
    ] {
        let error = answer(&context, &text).unwrap_err().strip_backtrace();
        assert!(error.contains(words), "{text}\n  {error}\n  has not: {words}");
    }
}

#[test]
fn a_plan_shows_what_fills_it() {
    let columns = || {
        vec![
            ("k", column::<StringArray, _>([Some("a")])),
            ("time", column::<TimestampSecondArray, _>([Some(5)])),
            ("v", column::<Int64Array, _>([Some(1)])),
        ]
    };
    let text = "EXPLAIN SELECT k, date_bin_gapfill(INTERVAL '1 hour', time) AS hour, locf(max(v)) FROM t WHERE \
        time >= TIMESTAMP '1970-01-01' AND time < TIMESTAMP '1970-01-02' GROUP BY k, hour";
    let plan = lines(&session(columns(), &[]), text).join("\n");
    for part in [
        "GapFill: date_bin_gapfill(",
        "time >= TimestampNanosecond(0, None), time < TimestampNanosecond(86400000000000, None), locf(max(t.v))",
        "GapFillExec: date_bin_gapfill, from 1970-01-01T00:00:00Z to 1970-01-01T23:59:59Z, locf(max(t.v))",
        // The predicate is where it was, and the aggregate bins by date_bin.
        "Filter: ",
        "date_bin(IntervalMonthDayNano",
    ] {
        assert!(plan.contains(part), "{part} is not in\n{plan}");
    }
}
