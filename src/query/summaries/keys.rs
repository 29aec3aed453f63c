//! Groups by number: those of series, by tags, and those of cells, by time.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampNanosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use hashbrown::HashMap;

use super::shape::{Key, Shape};
use crate::model::names::TIME;
use crate::query::failure::external;
use crate::query::prune::{BATCH_SERIES, SeriesSet, truths};
use crate::snapshot::TableView;

/// Of a series that the predicates leave out.
pub(super) const NONE: u32 = u32::MAX;
/// Cells of one segment and series up to which their groups are looked up one by one.
pub(super) const NUMBERS_MAX: i64 = 100_000;

/// The groups by tags.
pub(super) struct TagKeys {
    /// The group of each series, or [`NONE`].
    pub(super) of_series: Vec<u32>,
    /// The keys of each group, in columns.
    pub(super) columns: Vec<ArrayRef>,
}

/// A row for each of `ids`, series of `view`, as the scan would give it, of which only tags are not null.
fn rows(shape: &Shape<'_>, view: &TableView, ids: &[u32]) -> Result<RecordBatch> {
    batch(shape, ids.len(), |name| {
        let Some(tag) = view.schema.tags().iter().position(|tag| tag == name) else { return Ok(None) };
        Ok(Some(Arc::new(view.series.tag_column(tag, ids).map_err(external)?)))
    })
}

fn batch(shape: &Shape<'_>, rows: usize, column: impl Fn(&str) -> Result<Option<ArrayRef>>) -> Result<RecordBatch> {
    batch_like(shape.scan.columns(), rows, column)
}

/// Rows of the columns `of_scan`, of which those are not null that `column` gives.
pub(super) fn batch_like(
    of_scan: &SchemaRef,
    rows: usize,
    column: impl Fn(&str) -> Result<Option<ArrayRef>>,
) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for field in of_scan.fields() {
        let found = column(field.name())?;
        fields.push(Field::new(field.name(), field.data_type().clone(), true));
        columns.push(found.unwrap_or_else(|| new_null_array(field.data_type(), rows)));
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

impl TagKeys {
    /// An error of a predicate or of a key is the rows' to give.
    pub(super) fn of(shape: &Shape<'_>) -> Result<Self> {
        let ids = matching(shape, shape.scan.view(), shape.scan.pruned().series.as_ref())?;
        let keys: Vec<&Arc<dyn PhysicalExpr>> = shape.keys.iter().filter_map(Key::of_tags).collect();
        let mut of_series = vec![NONE; shape.scan.view().series.len()];
        let mut columns = Vec::new();
        let mut groups: Vec<u32> = vec![0; ids.len()];
        if !keys.is_empty() {
            let rows = rows(shape, shape.scan.view(), &ids)?;
            for key in &keys {
                columns.push(key.evaluate(&rows)?.into_array(ids.len())?);
            }
            groups = if are_all_tags(shape.scan.view(), &keys) {
                (0..).take(ids.len()).collect()
            } else {
                let (numbers, firsts) = distinct(&columns, ids.len())?;
                let firsts = UInt32Array::from(firsts);
                columns =
                    columns.iter().map(|column| take(column, &firsts, None)).collect::<std::result::Result<_, _>>()?;
                numbers
            };
        }
        for (id, group) in ids.iter().zip(groups) {
            if let Some(place) = of_series.get_mut(*id as usize) {
                *place = group;
            }
        }
        Ok(Self { of_series, columns })
    }

    pub(super) fn group(&self, series: u32) -> Option<u32> {
        self.of_series.get(series as usize).copied().filter(|group| *group != NONE)
    }
}

/// The series of `view` that the predicates on tags leave, of those in `narrowed`.
pub(super) fn matching(shape: &Shape<'_>, view: &TableView, narrowed: Option<&SeriesSet>) -> Result<Vec<u32>> {
    let count = u32::try_from(view.series.len()).unwrap_or(NONE);
    let ids: Vec<u32> = (0..count).filter(|id| narrowed.is_none_or(|set| set.contains(*id))).collect();
    if shape.of_tags.is_empty() {
        return Ok(ids);
    }
    let mut left = Vec::new();
    for ids in ids.chunks(BATCH_SERIES as usize) {
        let rows = rows(shape, view, ids)?;
        let mut matching = arrow::buffer::BooleanBuffer::new_set(ids.len());
        for predicate in &shape.of_tags {
            matching = &matching & &truths(&**predicate, &rows)?;
        }
        left.extend(matching.set_indices().filter_map(|place| ids.get(place).copied()));
    }
    Ok(left)
}

/// Whether each series is a group of its own.
fn are_all_tags(view: &TableView, keys: &[&Arc<dyn PhysicalExpr>]) -> bool {
    let is_key =
        |tag: &String| keys.iter().any(|key| key.downcast_ref::<Column>().is_some_and(|column| column.name() == tag));
    view.schema.tags().iter().all(is_key)
}

/// A number for each row, equal for equal rows, and the first row of each number.
fn distinct(columns: &[ArrayRef], count: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(columns)?;
    let (mut numbers, mut firsts) = (Vec::with_capacity(count), Vec::new());
    let mut known = HashMap::new();
    for (place, row) in (0..).zip(&rows) {
        numbers.push(*known.entry(row).or_insert_with(|| {
            firsts.push(place);
            u32::try_from(firsts.len() - 1).unwrap_or(NONE)
        }));
    }
    Ok((numbers, firsts))
}

/// The groups by time, found as segments are looked at.
#[derive(Default)]
pub(super) struct TimeKeys {
    known: HashMap<Vec<i64>, u32>,
    /// The keys of each group, in columns of ticks.
    pub(super) columns: Vec<Vec<i64>>,
}

impl TimeKeys {
    pub(super) fn of(shape: &Shape<'_>) -> Self {
        let keys = shape.keys.iter().filter(|key| key.of_tags().is_none()).count();
        Self { known: HashMap::new(), columns: vec![Vec::new(); keys] }
    }

    /// The groups of the cells `first..=last` of a grid; `None` if one of them is of more than one.
    pub(super) fn of_cells(&mut self, shape: &Shape<'_>, grid: i64, first: i64, last: i64) -> Result<Option<Vec<u32>>> {
        let count = usize::try_from(last - first + 1).unwrap_or_default();
        let keys: Vec<_> = shape.keys.iter().filter_map(Key::of_time).collect();
        let at = |offset: i64| -> Result<Option<RecordBatch>> {
            let times = (first..=last).map(|number| number.checked_mul(grid)?.checked_add(offset));
            let Some(times) = times.collect::<Option<Vec<_>>>() else { return Ok(None) };
            let times = TimestampNanosecondArray::from(times).with_timezone("UTC");
            let column = |name: &str| Ok((name == TIME).then(|| Arc::new(times.clone()) as ArrayRef));
            batch(shape, count, column).map(Some)
        };
        let (Some(begins), Some(ends)) = (at(0)?, at(grid - 1)?) else { return Ok(None) };
        let mut ticks = Vec::new();
        for key in keys {
            let (Ok(begin), Ok(end)) = (ticks_of(key, &begins), ticks_of(key, &ends)) else { return Ok(None) };
            if begin != end || begin.null_count() > 0 {
                return Ok(None);
            }
            ticks.push(begin);
        }
        let mut groups = Vec::with_capacity(count);
        let mut held: Option<(Vec<i64>, u32)> = None;
        for place in 0..count {
            let key: Vec<i64> = ticks.iter().map(|ticks| ticks.value(place)).collect();
            if held.as_ref().is_none_or(|(before, _)| *before != key) {
                held = Some((key.clone(), self.number(key)));
            }
            groups.extend(held.as_ref().map(|(_, group)| *group));
        }
        Ok(Some(groups))
    }

    fn number(&mut self, key: Vec<i64>) -> u32 {
        let next = u32::try_from(self.known.len()).unwrap_or(NONE);
        let columns = &mut self.columns;
        *self.known.entry(key).or_insert_with_key(|key| {
            columns.iter_mut().zip(key).for_each(|(column, tick)| column.push(*tick));
            next
        })
    }
}

/// Whether all times of each of the buckets `first..=last`, so long, are of one group.
pub(super) fn splits_no_bucket(shape: &Shape<'_>, every: i64, first: i64, last: i64) -> Result<bool> {
    let mut from = first;
    while from <= last {
        let to = last.min(from.saturating_add(NUMBERS_MAX - 1));
        if TimeKeys::of(shape).of_cells(shape, every, from, to)?.is_none() {
            return Ok(false);
        }
        from = to + 1;
    }
    Ok(true)
}

fn ticks_of(key: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<Int64Array> {
    let times = key.evaluate(rows)?.into_array(rows.num_rows())?;
    Ok(cast(&times, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}
