//! Which series and buckets rows are of, and where other rows of those are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::error::Result;
use crate::maintain::partition::start;
use crate::model::TableSchema;
use crate::model::rollup::Definition;
use crate::snapshot::Segment;

/// A bucket of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) series: u32,
    pub(super) bucket: i64,
}

/// Keys by the partition of the rollup's table that they are in; the order of those of one stays.
pub(super) fn by_partition(keys: Vec<Key>, definition: &Definition, width_ns: i64) -> BTreeMap<i64, Vec<Key>> {
    let mut partitions: BTreeMap<i64, Vec<Key>> = BTreeMap::new();
    for key in keys {
        partitions.entry(start(definition.begin(key.bucket), width_ns)).or_default().push(key);
    }
    partitions
}

/// The runs of rows, sorted by series and time, that are of one key.
pub(super) fn runs<'a>(
    series: &'a [u32],
    times: &'a [i64],
    definition: &'a Definition,
) -> impl Iterator<Item = (Key, Range<usize>)> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let (id, time) = (*series.get(from)?, *times.get(from)?);
        let key = Key { series: id, bucket: definition.bucket(time) };
        let end = definition.end(key.bucket);
        let rest = series.iter().zip(times).skip(from);
        let rows = from..from + rest.take_while(|(other, at)| **other == id && **at <= end).count();
        from = rows.end;
        Some((key, rows))
    })
}

/// Where rows of some keys may be.
pub(super) struct Reach {
    /// All times of all of them.
    pub(super) window: (i64, i64),
    /// Those of each series.
    of_series: HashMap<u32, (i64, i64)>,
}

impl Reach {
    pub(super) fn of(keys: &[Key], definition: &Definition) -> Self {
        let mut reach = Self { window: (i64::MAX, i64::MIN), of_series: HashMap::new() };
        let widen = |span: &mut (i64, i64), key: &Key| {
            *span = (span.0.min(definition.begin(key.bucket)), span.1.max(definition.end(key.bucket)));
        };
        for key in keys {
            widen(&mut reach.window, key);
            widen(reach.of_series.entry(key.series).or_insert((i64::MAX, i64::MIN)), key);
        }
        reach
    }

    pub(super) fn meets(&self, segment: &Segment) -> bool {
        segment.meta.min_time <= self.window.1 && self.window.0 <= segment.meta.max_time
    }

    /// The rows of a segment that may be of one of the keys, in ranges that do not touch.
    pub(super) fn rows(&self, segment: &Segment, schema: &Arc<TableSchema>) -> Result<Vec<Range<u64>>> {
        let mut rows: Vec<Range<u64>> = Vec::new();
        for range in &*segment.series_ranges(schema)? {
            let span = self.of_series.get(&range.series);
            if !span.is_some_and(|(low, high)| range.min_time <= *high && *low <= range.max_time) {
                continue;
            }
            let of_series = range.range();
            match rows.last_mut() {
                Some(last) if last.end == of_series.start => last.end = of_series.end,
                _ => rows.push(of_series),
            }
        }
        Ok(rows)
    }
}
