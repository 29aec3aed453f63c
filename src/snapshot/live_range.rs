//! A range of one live block, as a snapshot sees it.

#![cfg_attr(not(feature = "sql"), allow(dead_code, reason = "only SQL looks so closely"))]

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::ScalarBuffer;

use crate::error::{Error, Result};
use crate::ingest::clock::second_of;
use crate::ingest::live_block::LiveBlock;
use crate::model::{TableSchema, now};

use super::{BlockView, SeriesView};

/// Rows of a live block that no segment has, numbered from 0.
#[derive(Clone, Debug)]
pub(crate) struct LiveRange {
    block: Arc<LiveBlock>,
    from: usize,
    to: usize,
    /// The second of the snapshot, by whose end its rows were there; where the table keeps such times.
    unix_s: u32,
}

impl LiveRange {
    pub(crate) fn new(view: &BlockView, rows: usize) -> Self {
        let unix_s = if view.block.schema.policies.keep_ingest_time { second_of(now()) } else { 0 };
        Self { block: view.block.clone(), from: view.sealed_rows.min(rows), to: rows, unix_s }
    }

    /// Rows in it.
    pub(crate) fn rows(&self) -> usize {
        self.to - self.from
    }

    fn all(&self) -> Range<usize> {
        self.from..self.to
    }

    /// Exact earliest and latest time; each row is looked at once, however often this is asked.
    pub(crate) fn time_bounds(&self) -> Option<(i64, i64)> {
        self.block.time_bounds(self.all())
    }

    /// Times, row by row.
    pub(crate) fn times(&self) -> ScalarBuffer<i64> {
        self.block.times(self.all())
    }

    /// Series, row by row.
    pub(crate) fn series_ids(&self) -> ScalarBuffer<u32> {
        self.block.series(self.all())
    }

    /// Hybrid logical clocks, row by row, where the last write wins.
    pub(crate) fn clocks(&self) -> Option<ScalarBuffer<u64>> {
        self.block.clocks(self.all())
    }

    /// That all `ids`, which are of its rows, are of series that are known.
    pub(crate) fn check_series(&self, ids: &[u32], known: usize) -> Result<()> {
        match ids.iter().max() {
            Some(&series) if series as usize >= known => Err(self.block.unknown_series(series, known)),
            _ => Ok(()),
        }
    }

    /// The values of tag number `tag` for each of `ids`, which are of its rows.
    pub(crate) fn tag_column(&self, series: &SeriesView, tag: usize, ids: &[u32]) -> Result<ArrayRef> {
        match series.tag_column(tag, ids) {
            Ok(column) => Ok(Arc::new(column)),
            Err(error) => Err(self.check_series(ids, series.len()).err().unwrap_or(error)),
        }
    }

    /// Columns by index into `schema.arrow()`. Fixed-width ones are not copied; fields the block lacks are null.
    pub(crate) fn batch(
        &self,
        series: &SeriesView,
        schema: &TableSchema,
        projection: &[usize],
        rows: Range<usize>,
    ) -> Result<RecordBatch> {
        let failed = |error: arrow::error::ArrowError| Error::batch(&schema.name, error);
        let within = self.from + rows.start..self.from + rows.end.min(self.rows());
        let options = RecordBatchOptions::new().with_row_count(Some(within.len()));
        let ids = self.block.series(within.clone());
        let column = |index: &usize| -> Result<ArrayRef> {
            let tags = schema.tags.len();
            match *index {
                0 => Ok(Arc::new(self.block.time_column(within.clone()))),
                last if last == tags + schema.fields.len() + 1 && schema.policies.keep_ingest_time => {
                    Ok(Arc::new(self.block.ingest_times(within.clone(), self.unix_s)))
                }
                tag if tag <= tags => self.tag_column(series, tag - 1, &ids),
                field => {
                    let number = field - 1 - tags;
                    let found = schema.fields.get(number);
                    let field = found.ok_or_else(|| Error::batch(&schema.name, format!("no column {field}")))?;
                    self.block.field(number, field.field_type, within.clone())
                }
            }
        };
        let columns = projection.iter().map(column).collect::<Result<Vec<_>>>()?;
        let projected = Arc::new(schema.arrow().project(projection).map_err(failed)?);
        RecordBatch::try_new_with_options(projected, columns, &options).map_err(failed)
    }

    /// The block's number.
    pub(crate) fn block_id(&self) -> u64 {
        self.block.id
    }

    /// Which life of the block's file.
    pub(crate) fn generation(&self) -> u64 {
        self.block.generation
    }

    /// Size of the block's file.
    pub(crate) fn block_bytes(&self) -> u64 {
        self.block.layout.file_bytes as u64
    }

    /// Rows the block can hold.
    pub(crate) fn capacity_rows(&self) -> usize {
        self.block.layout.capacity
    }

    /// Rows of the block before this range, which are in segments.
    pub(crate) fn sealed_rows(&self) -> usize {
        self.from
    }
}
