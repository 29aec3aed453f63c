//! `first` and `last` against sorting.

use std::cmp::Ordering;

use arrow::array::{Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
use proptest::prelude::*;

use super::{column, lines, session};

type Row = (Option<i64>, Option<f64>, Option<String>, Option<i64>);

fn value() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![-0.0, 0.0, 1.0, -1.5, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY])
}

fn row() -> impl Strategy<Value = Row> {
    let some = |value| prop::option::weighted(0.8, value);
    (some((0..4_i64).boxed()), prop::option::weighted(0.8, value()), prop::option::weighted(0.8, "[a-z]{1,20}"), {
        prop::option::weighted(0.9, -3..4_i64)
    })
}

/// -0 before +0 and NaN last, whatever its sign.
fn order(a: f64, b: f64) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| if a.is_nan() { Ordering::Equal } else { a.total_cmp(&b) })
}

fn shown(value: f64) -> String {
    if value.is_nan() { "NaN".into() } else { format!("{value:?}") }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn first_and_last_are_the_ends_of_a_sort(
        rows in prop::collection::vec(row(), 0..60),
        cuts in prop::collection::vec(0..1_000_usize, 0..12),
    ) {
        let context = session(vec![
            ("k", column::<Int64Array, _>(rows.iter().map(|row| row.0))),
            ("v", column::<Float64Array, _>(rows.iter().map(|row| row.1))),
            ("s", column::<StringArray, _>(rows.iter().map(|row| row.2.clone()))),
            ("time", column::<TimestampNanosecondArray, _>(rows.iter().map(|row| row.3))),
        ], &cuts);
        let found = lines(&context, "SELECT k, first(v, time), last(v, time), first(arrow_cast(s, 'Utf8View'), time), \
            last(s, time), CAST(first_time(s, time) AS BIGINT), CAST(last_time(v, time) AS BIGINT) \
            FROM t GROUP BY k ORDER BY k NULLS FIRST");
        let mut keys: Vec<Option<i64>> = rows.iter().map(|row| row.0).collect();
        keys.sort();
        keys.dedup();
        let wanted: Vec<String> = keys.into_iter().map(|key| {
            let own = || rows.iter().filter(|row| row.0 == key);
            let mut values: Vec<(i64, f64)> = own().filter_map(|row| Some((row.3?, row.1?))).collect();
            values.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| order(a.1, b.1)));
            let mut texts: Vec<(i64, &str)> = own().filter_map(|row| Some((row.3?, row.2.as_deref()?))).collect();
            texts.sort_unstable();
            let text = |end: Option<&(i64, &str)>| end.map_or(String::new(), |end| end.1.to_string());
            let number = |end: Option<i64>| end.map_or(String::new(), |end| end.to_string());
            [
                number(key),
                values.first().map_or(String::new(), |end| shown(end.1)),
                values.last().map_or(String::new(), |end| shown(end.1)),
                text(texts.first()),
                text(texts.last()),
                number(texts.first().map(|end| end.0)),
                number(values.last().map(|end| end.0)),
            ].join(",")
        }).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn a_sliding_window_answers_as_its_rows_do(
        rows in prop::collection::vec((prop::option::weighted(0.8, -9..9_i64), 0..30_i64), 1..40),
    ) {
        let mut rows = rows;
        rows.sort_by_key(|row| row.1);
        let context = session(vec![
            ("v", column::<Int64Array, _>(rows.iter().map(|row| row.0))),
            ("time", column::<TimestampNanosecondArray, _>(rows.iter().map(|row| Some(row.1)))),
        ], &[]);
        let found = lines(&context, "SELECT last(v, time) OVER (ORDER BY time ROWS BETWEEN 2 PRECEDING AND CURRENT ROW), \
            first(v, time) OVER (ORDER BY time) FROM t");
        let number = |end: Option<i64>| end.map_or(String::new(), |end| end.to_string());
        let wanted: Vec<String> = (0..rows.len()).map(|at| {
            let near = rows[at.saturating_sub(2)..=at].iter().filter_map(|row| Some((row.1, row.0?)));
            let before = rows.iter().filter(|row| row.1 <= rows[at].1).filter_map(|row| Some((row.1, row.0?)));
            format!("{},{}", number(near.max().map(|end| end.1)), number(before.min().map(|end| end.1)))
        }).collect();
        prop_assert_eq!(found, wanted);
    }
}
