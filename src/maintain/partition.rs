//! Which partition a time belongs to, and how wide partitions are.

use std::collections::BTreeMap;

use crate::storage::segment_writer::Partition;

const HOUR_NS: i64 = 3_600 * 1_000_000_000;
/// Widths to choose from, narrow to wide: an hour, a day, a week, four weeks, fifty-two weeks.
const WIDTHS_NS: [i64; 5] = [HOUR_NS, 24 * HOUR_NS, 7 * 24 * HOUR_NS, 28 * 24 * HOUR_NS, 364 * 24 * HOUR_NS];
/// Rows that a partition should have at least.
const ROWS_MIN: u64 = 5_000_000;
/// Fewer rows than this within an hour are a burst, of which nobody knows how often it comes.
const BURST_ROWS: u64 = 50_000;

/// The narrowest width that gives partitions of enough rows at the rate of these rows.
pub(crate) fn choose_width(rows: u64, min_time: i64, max_time: i64) -> i64 {
    let span = i128::from(max_time) - i128::from(min_time) + 1;
    let is_burst = rows < BURST_ROWS && span < i128::from(HOUR_NS);
    let narrowest = if is_burst { 24 * HOUR_NS } else { HOUR_NS };
    let enough =
        |width: &&i64| **width >= narrowest && i128::from(rows) * i128::from(**width) >= i128::from(ROWS_MIN) * span;
    let [.., widest] = WIDTHS_NS;
    WIDTHS_NS.iter().find(enough).copied().unwrap_or(widest)
}

/// The start of the partition that `time` is in. Partitions are aligned to the epoch.
pub(crate) fn start(time: i64, width_ns: i64) -> i64 {
    // Only at the very beginning of time the start lies before it, where it saturates.
    time.div_euclid(width_ns).saturating_mul(width_ns)
}

/// Splits sorted rows by partition, keeping their order: at most `parts_max` lists, the last of which then has the rows of
/// all partitions that are not among the largest.
pub(crate) fn split(order: Vec<u32>, times: &[i64], width_ns: i64, parts_max: usize) -> Vec<(Partition, Vec<u32>)> {
    let time = |row: u32| times.get(row as usize).copied().unwrap_or_default();
    let bounds = times.iter().min().zip(times.iter().max());
    let bounds = bounds.map(|(min, max)| (start(*min, width_ns), start(*max, width_ns)));
    if let Some((start_ns, last_ns)) = bounds
        && start_ns == last_ns
    {
        // What happens nearly always: rows come as they are measured.
        return vec![(Partition { start_ns, width_ns }, order)];
    }
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for &row in &order {
        *counts.entry(start(time(row), width_ns)).or_default() += 1;
    }
    let mut largest: Vec<(i64, usize)> = counts.into_iter().collect();
    if largest.len() > parts_max {
        largest.sort_unstable_by_key(|(start, rows)| (std::cmp::Reverse(*rows), *start));
        largest.truncate(parts_max.saturating_sub(1));
    }
    let places: BTreeMap<i64, usize> = largest.iter().enumerate().map(|(at, (start, _))| (*start, at)).collect();
    let mut parts: Vec<(Partition, Vec<u32>)> =
        largest.iter().map(|&(start_ns, rows)| (Partition { start_ns, width_ns }, Vec::with_capacity(rows))).collect();
    let mut overlap = Vec::new();
    for row in order {
        let place = places.get(&start(time(row), width_ns));
        match place.and_then(|place| parts.get_mut(*place)) {
            Some((_, rows)) => rows.push(row),
            None => overlap.push(row),
        }
    }
    if !overlap.is_empty() {
        parts.push((Partition { start_ns: 0, width_ns: 0 }, overlap));
    }
    parts
}
