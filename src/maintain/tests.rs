//! The order of segments, and which partition a row goes to, against the naive way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::partition::{choose_width, split, start};
use crate::snapshot::sort::order;

const HOUR_NS: i64 = 3_600_000_000_000;

proptest! {
    #[test]
    fn rows_are_ordered_as_a_stable_sort_would(
        rows in proptest::collection::vec((0..20_u32, -50..50_i64), 0..400),
        more_series in prop_oneof![Just(0_usize), Just(5_000)],
        seed in any::<u64>(),
    ) {
        let (series, times): (Vec<u32>, Vec<i64>) = rows.into_iter().unzip();
        let count = 20 + more_series;
        let mut ranks: Vec<u32> = (0..count as u32).collect();
        // Any permutation will do.
        ranks.sort_by_key(|rank| (u64::from(*rank) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut naive: Vec<u32> = (0..series.len() as u32).collect();
        naive.sort_by_key(|row| (ranks[series[*row as usize] as usize], times[*row as usize]));
        prop_assert_eq!(order(&series, &times, &ranks), naive);
    }

    #[test]
    fn a_split_keeps_every_row_once_and_in_order(
        times in proptest::collection::vec(-200 * HOUR_NS..200 * HOUR_NS, 0..300),
        parts_max in 2..20_usize,
    ) {
        let order: Vec<u32> = (0..times.len() as u32).rev().collect();
        let parts = split(order.clone(), &times, HOUR_NS, parts_max);
        prop_assert!(parts.len() <= parts_max);
        let mut seen: Vec<u32> = Vec::new();
        for (partition, rows) in &parts {
            prop_assert!(rows.windows(2).all(|pair| pair[0] > pair[1]), "the order is kept");
            for row in rows {
                let in_it = start(times[*row as usize], HOUR_NS) == partition.start_ns;
                prop_assert!(partition.width_ns == 0 || in_it);
            }
            seen.extend(rows);
        }
        seen.sort_unstable_by(|a, b| b.cmp(a));
        prop_assert_eq!(seen, order);
    }
}

#[test]
fn partitions_are_aligned_before_the_epoch_and_at_the_ends_of_time() {
    assert_eq!(start(0, HOUR_NS), 0);
    assert_eq!(start(-1, HOUR_NS), -HOUR_NS);
    assert_eq!(start(HOUR_NS, HOUR_NS), HOUR_NS);
    assert!(start(i64::MAX, HOUR_NS) <= i64::MAX - HOUR_NS / 2);
    assert_eq!(start(i64::MIN, HOUR_NS), i64::MIN, "saturates where the start lies before time");
}

#[test]
fn the_width_follows_the_rate() {
    let day = 24 * HOUR_NS;
    // Four million rows an hour are enough for hours no more than for days.
    assert_eq!(choose_width(10_000_000, 0, HOUR_NS), HOUR_NS);
    assert_eq!(choose_width(1_000_000, 0, HOUR_NS), day);
    assert_eq!(choose_width(1, 0, 0), day, "one row says nothing of a rate");
    assert_eq!(choose_width(10, i64::MIN, i64::MAX), 364 * day);
}
