//! How far sketches are off, against the numbers themselves.

use arrow::array::{Float64Array, Int64Array};

use super::*;

const ROWS: usize = 20_000;
/// What the reference promises, in ranks.
const RANK_ERROR_MAX: f64 = 0.02;
/// What is measured of many values.
const RANK_ERROR: f64 = 0.01;

/// From 0 to 1, looking random, the same every time.
fn uniform(number: usize) -> f64 {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)) as f64 / u64::MAX as f64
}

fn table(values: &[f64]) -> SessionContext {
    let groups = column::<Int64Array, _>((0..values.len()).map(|row| Some(row as i64 % 50)));
    let values = column::<Float64Array, _>(values.iter().map(|value| Some(*value)));
    let batch = RecordBatch::try_from_iter([("g", groups), ("v", values)]).unwrap();
    let rows = batch.num_rows();
    let parts = (0..3).map(|part| vec![batch.slice(part * rows / 3, (part + 1) * rows / 3 - part * rows / 3)]);
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3));
    register(&context).unwrap();
    context.register_table("t", Arc::new(MemTable::try_new(batch.schema(), parts.collect()).unwrap())).unwrap();
    context
}

fn distributions() -> Vec<(&'static str, Vec<f64>)> {
    let drawn = |of: fn(f64) -> f64| (0..ROWS).map(|row| of(uniform(row))).collect::<Vec<f64>>();
    vec![
        ("uniform", drawn(|part| part)),
        ("skewed", drawn(|part| (8.0 * part).exp())),
        ("heavy tails", drawn(|part| (std::f64::consts::PI * (part - 0.5)).tan())),
        ("ascending", (0..ROWS).map(|row| row as f64).collect()),
        ("descending", (0..ROWS).map(|row| -(row as f64)).collect()),
        ("two heaps", drawn(|part| if part < 0.3 { part } else { 1e6 + part })),
        ("few values", drawn(|part| (part * 5.0).floor())),
    ]
}

/// How far the rank of `value` is from the part `q` of all.
fn rank_error(sorted: &[f64], value: f64, q: f64) -> f64 {
    let below = sorted.partition_point(|other| *other < value) as f64 / sorted.len() as f64;
    let upto = sorted.partition_point(|other| *other <= value) as f64 / sorted.len() as f64;
    (below - q).max(q - upto).max(0.0)
}

#[test]
fn percentiles_are_as_near_as_promised() {
    for (name, values) in distributions() {
        let context = table(&values);
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        let merged =
            "(SELECT sketch_merge(p) AS s FROM (SELECT percentile_sketch(v) AS p FROM t GROUP BY g) AS x) AS y";
        for source in ["(SELECT percentile_sketch(v) AS s FROM t) AS y", merged] {
            for q in [0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0] {
                let answer = lines(&context, &format!("SELECT sketch_quantile(s, {q}) FROM {source}"));
                let error = rank_error(&sorted, answer[0].parse().unwrap(), q);
                // Nearer at the ends, where it matters.
                let max = if (0.05..=0.95).contains(&q) { RANK_ERROR } else { RANK_ERROR / 4.0 };
                assert!(error <= max, "{name}: q = {q} of {source} gives {answer:?}, {error} off");
            }
        }
    }
}

/// A centroid in the middle holds a few values, which of few values is many ranks, and mixes equal ones with others.
#[test]
fn percentiles_of_few_and_equal_values_are_as_near_as_promised() {
    let mut worst = 0.0_f64;
    for draw in 0..60 {
        let values: Vec<f64> = (0..331).map(|row| (uniform(draw * 1_000 + row) * 19.0).floor() - 9.0).collect();
        let context = table(&values);
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        let merged = "SELECT sketch_merge(p) AS s FROM (SELECT percentile_sketch(v) AS p FROM t GROUP BY g % 5) AS x";
        let text = format!(
            "SELECT sketch_quantile(s, 0.25), sketch_quantile(s, 0.5), sketch_quantile(s, 0.9) FROM ({merged}) AS y"
        );
        let answer = lines(&context, &text);
        for (q, found) in [0.25, 0.5, 0.9].into_iter().zip(answer[0].split([' ', ','])) {
            worst = worst.max(rank_error(&sorted, found.parse().unwrap(), q));
        }
    }
    assert!(worst <= RANK_ERROR_MAX, "{worst} off");
}

#[test]
fn distinct_counts_are_as_near_as_promised() {
    for count in [1, 10, 200, 1_000, 5_000, 20_000] {
        let values: Vec<f64> = (0..ROWS).map(|row| uniform(row % count)).collect();
        let context = table(&values);
        let merged =
            "SELECT sketch_count(sketch_merge(d)) FROM (SELECT distinct_sketch(v) AS d FROM t GROUP BY g) AS x";
        for text in ["SELECT sketch_count(distinct_sketch(v)) FROM t", merged] {
            let found: f64 = lines(&context, text)[0].parse().unwrap();
            // Four standard errors; few are counted one by one.
            let max = if count <= 200 { 0.01 } else { 4.0 * 0.016 };
            assert!((found - count as f64).abs() <= max * count as f64, "{found} of {count}: {text}");
        }
    }
}
