//! Summaries against the rows that they are of.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringViewArray, UInt64Array};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use proptest::prelude::*;

use super::packed::{Unpacker, encode_floats, encode_ints};
use super::read::FieldCells;
use super::*;
use crate::error::Error;
use crate::fs::FileSystem;
use crate::fs::sim::SimFs;

const KINDS: [Kind; 5] = [Kind::Float, Kind::Int, Kind::Unsigned, Kind::Bool, Kind::Counted];

fn floats() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-500i32..500).prop_map(|n| f64::from(n) / 10.0),
        any::<f64>(),
        Just(f64::NAN),
        Just(-f64::NAN),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
    ]
}

proptest! {
    #[test]
    fn numbers_come_out_as_they_went_in(
        ints in prop::collection::vec(any::<i64>(), 0..300),
        small in prop::collection::vec(-70i64..1_000, 0..300),
        words in prop::collection::vec(floats().prop_map(f64::to_bits), 0..300),
        decimals in prop::collection::vec((-10_000i32..10_000).prop_map(|n| (f64::from(n) / 100.0).to_bits()), 0..300),
    ) {
        let mut bytes = Vec::new();
        [&ints, &small].into_iter().for_each(|ints| encode_ints(ints, &mut bytes));
        [&words, &decimals].into_iter().for_each(|words| encode_floats(words, &mut bytes));
        let (mut read, mut passed) = (Unpacker::new(&bytes), Unpacker::new(&bytes));
        for ints in [&ints, &small] {
            prop_assert_eq!(&read.ints(ints.len()).unwrap(), ints);
            passed.skip(ints.len(), false).unwrap();
        }
        for words in [&words, &decimals] {
            prop_assert_eq!(&read.floats(words.len()).unwrap(), words);
            passed.skip(words.len(), true).unwrap();
        }
        prop_assert!(read.is_empty() && passed.is_empty());
    }

    #[test]
    fn bytes_of_any_kind_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0usize..300) {
        let _ = Unpacker::new(&bytes).ints(count);
        let _ = Unpacker::new(&bytes).floats(count);
        let _ = Unpacker::new(&bytes).skip(count, true);
        let _ = Directory::decode(&bytes, count);
    }
}

#[test]
fn small_numbers_take_few_bits() {
    let mut bytes = Vec::new();
    encode_floats(&(0..1_280).map(|n| f64::from(n % 32).to_bits()).collect::<Vec<_>>(), &mut bytes);
    assert!(bytes.len() <= 1_280 * 5 / 8 + 10 * 3 + 2, "{}", bytes.len());
}

/// Rows in a segment's order.
#[derive(Clone, Debug)]
struct Rows {
    series: Vec<u32>,
    times: Vec<i64>,
    fields: Vec<ArrayRef>,
}

type Row = (u8, i64, Option<f64>, Option<i64>, Option<u64>, Option<bool>, Option<u8>);

fn rows_of(mut rows: Vec<Row>) -> Rows {
    rows.sort_by_key(|row| (row.0, row.1));
    Rows {
        series: rows.iter().map(|row| u32::from(row.0)).collect(),
        times: rows.iter().map(|row| row.1).collect(),
        fields: vec![
            Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.4).collect::<UInt64Array>()),
            Arc::new(rows.iter().map(|row| row.5).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|row| row.6.map(|n| n.to_string())).collect::<StringViewArray>()),
        ],
    }
}

fn random_rows() -> impl Strategy<Value = Rows> {
    // Times often meet each other and the bounds of cells.
    let time = prop_oneof![
        -200i64..200,
        (-3i64..3).prop_map(|n| n * 60_000_000_000),
        (-3_000i64..3_000).prop_map(|n| n * 10_000_000_000),
        any::<i64>(),
    ];
    let row = (
        0u8..4,
        time,
        prop::option::weighted(0.8, floats()),
        prop::option::weighted(0.9, any::<i64>()),
        prop::option::weighted(0.5, any::<u64>()),
        prop::option::weighted(0.9, any::<bool>()),
        prop::option::weighted(0.5, any::<u8>()),
    );
    (prop::collection::vec(row, 0..400), any::<bool>()).prop_map(|(mut rows, edge)| {
        if !edge {
            // A day from the first time that there is, there is no summary.
            rows.retain(|row| row.1 > i64::MIN + 86_400_000_000_000);
        }
        rows_of(rows)
    })
}

fn encoded(rows: &Rows, cuts: &[usize], bytes: u64) -> Option<Encoded> {
    let mut builder = Builder::new(KINDS.to_vec());
    let mut start = 0;
    for end in cuts.iter().copied().chain([rows.times.len()]) {
        let end = end.clamp(start, rows.times.len());
        let fields: Vec<ArrayRef> = rows.fields.iter().map(|field| field.slice(start, end - start)).collect();
        builder.take(&rows.series[start..end], &rows.times[start..end], &fields);
        start = end;
    }
    builder.finish(bytes)
}

fn reader(encoded: &Encoded, entries: usize) -> (Arc<Directory>, SummaryReader) {
    let fs = SimFs::new(0);
    fs.create_dir(Path::new("/s")).unwrap();
    let file = fs.create(Path::new("/s/x")).unwrap();
    file.write_at(&encoded.body, 0).unwrap();
    let directory = Arc::new(Directory::decode(&encoded.directory, entries).unwrap());
    assert!(directory.holds(&encoded.body));
    (directory.clone(), SummaryReader::new(file, directory, 0))
}

/// The value of a row as a word, and as what orders it.
fn word(array: &ArrayRef, kind: Kind, row: usize) -> Option<(u64, i128)> {
    array.is_valid(row).then(|| match kind {
        Kind::Float => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let bits = value.to_bits().cast_signed();
            (value.to_bits(), i128::from(bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()))
        }
        Kind::Int => {
            let value = array.as_primitive::<Int64Type>().value(row);
            (value.cast_unsigned(), value.into())
        }
        Kind::Unsigned => {
            let value = array.as_primitive::<UInt64Type>().value(row);
            (value, value.into())
        }
        Kind::Bool => (array.as_boolean().value(row).into(), array.as_boolean().value(row).into()),
        Kind::Counted => (0, 0),
    })
}

/// `first` and `last` have NaN behind all numbers, whatever its sign.
fn end_order(kind: Kind, (word, order): (u64, i128)) -> (bool, i128) {
    (kind == Kind::Float && f64::from_bits(word).is_nan(), order)
}

fn check_cell(rows: &Rows, of_cell: &[usize], field: usize, found: &FieldCells, cell: usize, is_finest: bool) {
    let (kind, array) = (KINDS[field], &rows.fields[field]);
    let values: Vec<(i64, (u64, i128))> =
        of_cell.iter().filter_map(|row| Some((rows.times[*row], word(array, kind, *row)?))).collect();
    assert_eq!(found.counts[cell] as usize, values.len());
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return };
    if kind == Kind::Counted {
        return;
    }
    let least = values.iter().map(|(_, value)| *value).min_by_key(|value| value.1).unwrap();
    let greatest = values.iter().map(|(_, value)| *value).max_by_key(|value| value.1).unwrap();
    assert_eq!((found.mins[cell], found.maxs[cell]), (least.0, greatest.0), "{kind:?}");
    assert_eq!((found.first_at[cell], found.last_at[cell]), (first.0, last.0));
    let ends = |at: i64| values.iter().filter(move |value| value.0 == at).map(|value| value.1);
    let first = ends(first.0).min_by_key(|value| end_order(kind, *value)).unwrap();
    let last = ends(last.0).max_by_key(|value| end_order(kind, *value)).unwrap();
    assert_eq!((found.firsts[cell], found.lasts[cell]), (first.0, last.0));
    let words = values.iter().map(|(_, value)| value.0);
    match kind {
        Kind::Float => {
            let sum = words.map(f64::from_bits).fold(0.0, |sum, value| sum + value);
            let found = f64::from_bits(found.sums[cell]);
            // Cells that were joined add in another order.
            let same = found.to_bits() == sum.to_bits() || (found.is_nan() && sum.is_nan());
            assert!(same || !is_finest, "{found} {sum}");
        }
        Kind::Int | Kind::Unsigned => assert_eq!(found.sums[cell], words.fold(0, u64::wrapping_add)),
        Kind::Bool | Kind::Counted => {}
    }
}

/// Every cell against the rows that it is of.
fn check(rows: &Rows, encoded: &Encoded) -> i64 {
    let mut ids = rows.series.clone();
    ids.dedup();
    let (directory, reader) = reader(encoded, ids.len());
    let grid = directory.grid_ns;
    let mut expected: BTreeMap<(u32, i64), Vec<usize>> = BTreeMap::new();
    for (row, (id, at)) in rows.series.iter().zip(&rows.times).enumerate() {
        expected.entry((*id, at.div_euclid(grid))).or_default().push(row);
    }
    let mut expected = expected.into_iter();
    for chunk in &directory.chunks {
        let cells = reader.cells(chunk).unwrap();
        let fields: Vec<FieldCells> =
            (0..KINDS.len()).map(|field| reader.field(chunk, &cells, field, Stats::ALL).unwrap()).collect();
        let of_entries = ids[chunk.first_entry..].iter().zip(&cells.of_entry);
        let ids = of_entries.flat_map(|(id, count)| std::iter::repeat_n(*id, *count));
        for (cell, id) in ids.enumerate() {
            let (key, of_cell) = expected.next().unwrap();
            assert_eq!(key, (id, cells.numbers[cell]));
            assert_eq!(cells.rows[cell] as usize, of_cell.len());
            assert_eq!(cells.first_at[cell], rows.times[of_cell[0]]);
            assert_eq!(cells.last_at[cell], rows.times[*of_cell.last().unwrap()]);
            for (field, found) in fields.iter().enumerate() {
                check_cell(rows, &of_cell, field, found, cell, grid == GRIDS_NS[0]);
            }
        }
        // Asked for alone, each is the same.
        let part = reader.field(chunk, &cells, 0, Stats { max: true, ..Stats::default() }).unwrap();
        assert_eq!((&part.maxs, part.sums.len()), (&fields[0].maxs, 0));
    }
    assert!(expected.next().is_none());
    grid
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn cells_are_what_their_rows_are(rows in random_rows(), cuts in prop::collection::vec(0usize..400, 0..5), tight in any::<bool>()) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let found = encoded(&rows, &cuts, u64::MAX);
        prop_assert_eq!(&found, &encoded(&rows, &[], u64::MAX), "it depends on the batches");
        let Some(found) = found else {
            prop_assert!(rows.times.iter().any(|at| *at <= i64::MIN + 86_400_000_000_000));
            return Ok(());
        };
        prop_assert!(check(&rows, &found) == GRIDS_NS[0] || rows.times.is_empty());
        if tight && let Some(coarser) = encoded(&rows, &cuts, (found.body.len() + found.directory.len() - 1) as u64 * SHARE) {
            check(&rows, &coarser);
        }
    }
}

/// Rows a second apart, of `series` series.
fn regular(series: u8, each: i64) -> Rows {
    let row = |id: u8, n: i64| {
        let value = f64::from(id) + (n % 7) as f64 / 4.0;
        (id, n * 1_000_000_000, Some(value), Some(n), Some(n.cast_unsigned()), Some(n % 3 == 0), Some(id))
    };
    rows_of((0..series).flat_map(|id| (0..each).map(move |n| row(id, n))).collect())
}

#[test]
fn cells_grow_until_their_share_of_bytes_suffices() {
    let rows = regular(5, 40_000);
    let mut grids = Vec::new();
    for bytes in [10_000_000, 1_000_000, 300_000, 100_000, 40_000, 1_000] {
        let Some(found) = encoded(&rows, &[777, 50_000], bytes) else {
            grids.push(0);
            continue;
        };
        assert!((found.body.len() + found.directory.len()) as u64 <= bytes / SHARE);
        grids.push(check(&rows, &found) / GRIDS_NS[0]);
    }
    assert!(grids.windows(2).all(|pair| pair[0] < pair[1] || pair[1] == 0), "{grids:?}");
    assert_eq!((grids[0], *grids.last().unwrap()), (1, 0), "{grids:?}");
}

#[test]
fn many_cells_of_few_rows_are_joined_on_the_way() {
    // A minute apart: a cell of a minute would have one row.
    let row = |n: i64| (0, n * GRIDS_NS[0], Some(n as f64), None, None, None, None);
    let rows = rows_of((0..150_000).map(row).collect());
    let found = encoded(&rows, &[5_000, 5_001], u64::MAX).unwrap();
    assert_eq!(found, encoded(&rows, &[], u64::MAX).unwrap());
    assert_eq!(check(&rows, &found), GRIDS_NS[4], "an hour is the first of which each has enough rows");
}

#[test]
fn every_flipped_bit_of_a_section_is_noticed() {
    let rows = regular(2, 600);
    let found = encoded(&rows, &[], u64::MAX).unwrap();
    for bit in 0..found.body.len() * 8 {
        let mut body = found.body.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        assert!(!Directory::decode(&found.directory, 2).unwrap().holds(&body));
    }
    let broken = Encoded { body: found.body.iter().map(|byte| !byte).collect(), ..found };
    let fs = SimFs::new(0);
    fs.create_dir(Path::new("/s")).unwrap();
    let file = fs.create(Path::new("/s/x")).unwrap();
    file.write_at(&broken.body, 0).unwrap();
    let directory = Arc::new(Directory::decode(&broken.directory, 2).unwrap());
    let reader = SummaryReader::new(file, directory.clone(), 0);
    assert!(matches!(reader.cells(&directory.chunks[0]), Err(Error::Corrupted { .. })));
}
