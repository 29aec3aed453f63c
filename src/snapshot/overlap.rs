//! Where rows of equal series and time may be, in tables where the last write wins.
//!
//! **Invariant:** two rows of equal series and time that are not in one part are in parts of one group. Parts whose times
//! do not meet are in no group together, so a segment alone is read as it is: a seal and a compaction leave one row of a
//! series and time. A live range alone is not, since writes follow one another in it.

use std::collections::BTreeMap;

use super::LiveRange;

/// Live parts of one range at most; rows of more partitions than that are one part.
const LIVE_PARTS_MAX: usize = 32;

/// Something whose rows have times from `min` to `max`.
#[derive(Debug)]
pub(crate) struct Part<T> {
    pub(crate) what: T,
    pub(crate) min: i64,
    pub(crate) max: i64,
}

/// The parts by groups of which each part's times meet another's, in the order of time.
pub(crate) fn groups<T>(mut parts: Vec<Part<T>>) -> Vec<Vec<T>> {
    parts.sort_by_key(|part| part.min);
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut reach: Option<i64> = None;
    for part in parts {
        let meets = reach.is_some_and(|reach| part.min <= reach);
        reach = Some(reach.map_or(part.max, |reach| reach.max(part.max)));
        match groups.last_mut() {
            Some(group) if meets => group.push(part.what),
            _ => groups.push(vec![part.what]),
        }
    }
    groups
}

/// The rows of a live range that are wanted, a part a partition: a row that is a year late is to be merged with what is a
/// year old, and not everything since. `None` for all of them; `wanted` is asked with time and series.
pub(crate) fn live_parts(
    range: &LiveRange,
    partition_ns: Option<i64>,
    wanted: Option<&dyn Fn(i64, u32) -> bool>,
) -> Vec<Part<Option<Vec<u32>>>> {
    let Some((min, max)) = range.time_bounds() else { return Vec::new() };
    let start = |time: i64| partition_ns.filter(|width| *width > 0).map_or(0, |width| time.div_euclid(width));
    if wanted.is_none() && start(min) == start(max) {
        return vec![Part { what: None, min, max }];
    }
    let (times, series) = (range.times(), range.series_ids());
    let mut parts: BTreeMap<i64, Part<Option<Vec<u32>>>> = BTreeMap::new();
    for (row, (time, series)) in (0..).zip(times.iter().zip(series.iter())) {
        if wanted.is_some_and(|wanted| !wanted(*time, *series)) {
            continue;
        }
        let part = || Part { what: Some(Vec::new()), min: *time, max: *time };
        let part = parts.entry(start(*time)).or_insert_with(part);
        part.min = part.min.min(*time);
        part.max = part.max.max(*time);
        part.what.get_or_insert_default().push(row);
    }
    if parts.len() <= LIVE_PARTS_MAX {
        return parts.into_values().collect();
    }
    let together = |mut all: Part<Option<Vec<u32>>>, part: Part<Option<Vec<u32>>>| {
        all.max = all.max.max(part.max);
        all.min = all.min.min(part.min);
        all.what.get_or_insert_default().extend(part.what.unwrap_or_default());
        all
    };
    let mut all = parts.into_values().reduce(together);
    if let Some(rows) = all.as_mut().and_then(|all| all.what.as_mut()) {
        // In the order of their writing, which is what equal keys are sorted by.
        rows.sort_unstable();
    }
    all.into_iter().collect()
}
