//! The order of a segment: by tags, then time, then arrival.
//!
//! Rows of one series mostly arrive in the order of their times, so a stable counting sort by the series' rank leaves
//! little to do: each series' rows are looked through, and sorted only where they are not in order.

/// Row numbers in sorted order. `ranks` is each series' place in the order of tags.
pub(crate) fn order(series: &[u32], times: &[i64], ranks: &[u32]) -> Vec<u32> {
    let rank = |series: u32| ranks.get(series as usize).copied().unwrap_or(u32::MAX);
    let rows = u32::try_from(series.len()).unwrap_or(u32::MAX);
    let time = |row: u32| times.get(row as usize).copied().unwrap_or_default();
    if ranks.len() > series.len().saturating_mul(8) {
        // Few rows of a table of many series: counting would cost more than comparing.
        let mut order: Vec<u32> = (0..rows).collect();
        order.sort_by_key(|row| (series.get(*row as usize).map_or(u32::MAX, |series| rank(*series)), time(*row)));
        return order;
    }
    let mut ends = vec![0u32; ranks.len() + 1];
    for &series in series {
        if let Some(end) = ends.get_mut(rank(series) as usize + 1) {
            *end += 1;
        }
    }
    let mut sum = 0;
    for end in &mut ends {
        sum += *end;
        *end = sum;
    }
    let starts = ends.clone();
    let mut order = vec![0u32; series.len()];
    for (row, &series) in (0..rows).zip(series) {
        if let Some(place) = ends.get_mut(rank(series) as usize) {
            if let Some(slot) = order.get_mut(*place as usize) {
                *slot = row;
            }
            *place += 1;
        }
    }
    for (start, end) in starts.iter().zip(starts.iter().skip(1)) {
        let Some(run) = order.get_mut(*start as usize..*end as usize) else { continue };
        if !run.is_sorted_by_key(|row| time(*row)) {
            run.sort_by_key(|row| time(*row));
        }
    }
    order
}

/// `order` with rows of equal series and time in the order of their clocks. Those of one block mostly are already, since
/// one writer at a time fills it.
pub(crate) fn by_clock(mut order: Vec<u32>, series: &[u32], times: &[i64], clocks: &[u64]) -> Vec<u32> {
    let point = |row: &u32| (series.get(*row as usize), times.get(*row as usize));
    let clock = |row: &u32| clocks.get(*row as usize);
    for same in order.chunk_by_mut(|a, b| point(a) == point(b)) {
        if same.len() > 1 {
            same.sort_by(|a, b| clock(a).cmp(&clock(b)));
        }
    }
    order
}

/// Of rows in order those that no later write takes the place of: the last of each series and time.
pub(crate) fn last_writes(order: &[u32], series: &[u32], times: &[i64]) -> Vec<u32> {
    let point = |row: &u32| (series.get(*row as usize), times.get(*row as usize));
    order.chunk_by(|a, b| point(a) == point(b)).filter_map(|same| same.last().copied()).collect()
}
