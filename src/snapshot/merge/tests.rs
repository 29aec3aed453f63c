//! Merges against a sort of everything.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, UInt64Array};
use arrow::datatypes::UInt64Type;
use proptest::prelude::*;

use super::{Input, Keyed, Merge};
use crate::Error;

/// A row: series (which is its rank too), time, clock, and its number.
type Row = (u32, i64, u64, u64);

fn text(number: u64) -> Option<String> {
    (!number.is_multiple_of(3)).then(|| format!("the text of row {number}, too long for a view"))
}

fn keyed(rows: &[Row], has_clock: bool) -> Keyed {
    let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.3)));
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter(rows.iter().map(|row| text(row.3))));
    Keyed {
        // Ranks are the other way round than series, so that a mix-up shows.
        ranks: rows.iter().map(|row| row.0).collect(),
        series: rows.iter().map(|row| 1_000 - row.0).collect(),
        times: rows.iter().map(|row| row.1).collect::<Vec<_>>().into(),
        clocks: has_clock.then(|| rows.iter().map(|row| row.2).collect::<Vec<_>>().into()),
        columns: vec![numbers, texts],
    }
}

/// `rows`, sorted, as an input of batches of `batch_rows`, some of them empty.
fn input(mut rows: Vec<Row>, has_clock: bool, batch_rows: usize) -> Input {
    rows.sort_by_key(|row| (row.0, row.1, if has_clock { row.2 } else { 0 }));
    let mut batches: Vec<_> = rows.chunks(batch_rows).map(|rows| Ok(keyed(rows, has_clock))).collect();
    batches.insert(batches.len() / 2, Ok(keyed(&[], has_clock)));
    Box::new(batches.into_iter())
}

/// The numbers of the rows that leave a merge, after checking that all columns and the series agree.
fn merged(merge: &mut Merge, series_of: impl Fn(u64) -> u32, rows_max: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for batch in merge {
        let batch = batch.unwrap();
        assert!(!batch.series.is_empty() && batch.series.len() <= rows_max, "{} rows", batch.series.len());
        let (found, texts) = (batch.columns[0].as_primitive::<UInt64Type>(), batch.columns[1].as_string_view());
        assert_eq!((found.len(), texts.len()), (batch.series.len(), batch.series.len()));
        for row in 0..found.len() {
            let number = found.value(row);
            assert_eq!(batch.series[row], 1_000 - series_of(number));
            assert_eq!(texts.is_valid(row).then(|| texts.value(row).to_string()), text(number));
            numbers.push(number);
        }
    }
    numbers
}

fn check(keys: Vec<Vec<(u32, i64)>>, last_write: bool, clock_seed: u64, batch_rows: usize, out_rows: usize) {
    // Clocks are unique over all inputs, and in no relation to their order.
    let count = keys.iter().map(Vec::len).sum::<usize>() as u64;
    let clock = |number: u64| (number ^ clock_seed) % count.next_power_of_two().max(1);
    let mut number = 0;
    let inputs: Vec<Vec<Row>> = keys
        .into_iter()
        .map(|keys| {
            keys.into_iter()
                .map(|(series, time)| {
                    number += 1;
                    (series, time, clock(number - 1), number - 1)
                })
                .collect()
        })
        .collect();
    let mut naive: Vec<(usize, Row)> =
        inputs.iter().enumerate().flat_map(|(input, rows)| rows.iter().map(move |row| (input, *row))).collect();
    let by_number: Vec<Row> = naive.iter().map(|(_, row)| *row).collect();
    if last_write {
        naive.sort_by_key(|(_, row)| (row.0, row.1, row.2));
        let last = |pair: &[(usize, Row)]| (pair[0].1.0, pair[0].1.1) != (pair[1].1.0, pair[1].1.1);
        naive = (0..naive.len())
            .filter(|at| *at + 1 == naive.len() || last(&naive[*at..*at + 2]))
            .map(|at| naive[at])
            .collect();
    } else {
        naive.sort_by_key(|(input, row)| (row.0, row.1, *input));
    }
    let expected: Vec<u64> = naive.iter().map(|(_, row)| row.3).collect();
    let all = inputs.iter().map(Vec::len).sum::<usize>() as u64;
    let inputs = inputs.into_iter().map(|rows| input(rows, last_write, batch_rows)).collect();
    let mut merge = Merge::new(inputs, last_write, out_rows);
    assert_eq!(merged(&mut merge, |number| by_number[number as usize].0, out_rows), expected);
    assert_eq!(merge.consumed(), all);
}

proptest! {
    #[test]
    fn a_merge_is_a_stable_sort(
        keys in proptest::collection::vec(proptest::collection::vec((0..5_u32, 0..40_i64), 0..120), 0..7),
        last_write in any::<bool>(),
        clock_seed in any::<u64>(),
        batch_rows in 1..50_usize,
        out_rows in 1..70_usize,
    ) {
        check(keys, last_write, clock_seed, batch_rows, out_rows);
    }

    #[test]
    fn inputs_that_hardly_overlap_are_merged_too(
        lens in proptest::collection::vec(0..300_i64, 1..6),
        overlap in 0..4_i64,
        last_write in any::<bool>(),
        batch_rows in 1..100_usize,
    ) {
        let mut from = 0;
        let keys = lens.into_iter().map(|len| {
            let keys = (0..2).flat_map(|series| (from..from + len).map(move |time| (series, time))).collect();
            from += len - overlap.min(len);
            keys
        });
        check(keys.collect(), last_write, 5, batch_rows, 64);
    }
}

#[test]
fn what_is_overwritten_many_times_leaves_once() {
    let rows: Vec<Row> = (0..10_000).map(|number| (1, 7, number, number)).collect();
    let inputs = vec![input(rows.clone(), true, 16), input(vec![(1, 7, 20_000, 0)], true, 16)];
    assert_eq!(merged(&mut Merge::new(inputs, true, 100), |_| 1, 100), [0]);
    let inputs = vec![input(rows, true, 16), input(vec![(0, 7, 20_000, 0), (2, 7, 0, 3)], true, 16)];
    let series_of = |number| match number {
        0 => 0,
        3 => 2,
        _ => 1,
    };
    assert_eq!(merged(&mut Merge::new(inputs, true, 100), series_of, 100), [0, 9_999, 3]);
}

#[test]
fn a_merge_ends_at_an_input_that_fails() {
    let batches = vec![Ok(keyed(&[(0, 1, 0, 0)], false)), Err(Error::Closed), Ok(keyed(&[(0, 2, 0, 1)], false))];
    let inputs: Vec<Input> = vec![Box::new(batches.into_iter()), input(vec![(0, 5, 0, 9)], false, 4)];
    let found: Vec<bool> = Merge::new(inputs, false, 1).map(|batch| batch.is_ok()).collect();
    assert_eq!(found.last(), Some(&false), "{found:?}");
    assert!(found.len() <= 2);
}
