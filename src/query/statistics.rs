//! What is known of a table without reading it.
//!
//! Counts and times are exact: the manifest and the live blocks keep them. The extremes of a field are never given:
//! Parquet's ignore NaN and the sign of zero, and SQL's do not.

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use crate::snapshot::TableView;

/// Statistics of the columns `projection` of `view`, of which `rows` rows are read. Exact if those are `all` there are.
pub(super) fn of_scan(view: &TableView, projection: &[usize], rows: usize, all: bool) -> Statistics {
    let tags = view.schema.tags().len();
    let bounds = time_bounds(view);
    let time =
        |nanoseconds: i64| Precision::Exact(ScalarValue::TimestampNanosecond(Some(nanoseconds), Some("UTC".into())));
    let column = |index: &usize| {
        let mut column = ColumnStatistics::new_unknown();
        if *index <= tags {
            column.null_count = Precision::Exact(0);
        }
        match bounds {
            Some((min, max)) if *index == 0 => {
                column.min_value = time(min);
                column.max_value = time(max);
            }
            _ if (1..=tags).contains(index) => column.distinct_count = Precision::Inexact(view.series.len().min(rows)),
            _ => {}
        }
        column
    };
    let statistics = Statistics {
        num_rows: Precision::Exact(rows),
        total_byte_size: Precision::Absent,
        column_statistics: projection.iter().map(column).collect(),
    };
    if all { statistics } else { statistics.to_inexact() }
}

/// The earliest and the latest time; `None` of a table without rows.
pub(super) fn time_bounds(view: &TableView) -> Option<(i64, i64)> {
    let segments = view.segments.iter().filter(|segment| segment.meta.rows > 0);
    let segments = segments.map(|segment| (segment.meta.min_time, segment.meta.max_time));
    let live = view.live.iter().filter_map(|range| range.time_bounds());
    segments.chain(live).reduce(|(min, max), (other_min, other_max)| (min.min(other_min), max.max(other_max)))
}
