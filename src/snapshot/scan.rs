//! All rows of one table at one moment, for those who read without SQL.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::fs::fork::Origin;
use crate::storage::segment::Batches;

use super::{TableView, copying};

/// Rows of a batch at most.
const BATCH_ROWS: usize = 8_192;

/// An iterator over the rows of a table as they were when it was made, in batches that own their memory. In no order.
///
/// Made by [`Table::scan`](crate::Table::scan). It keeps the live blocks of its moment from being recycled.
pub struct Scan {
    table: Arc<TableView>,
    projection: Vec<usize>,
    live: usize,
    live_row: usize,
    segment: usize,
    batches: Option<Batches>,
    origin: Origin,
}

impl Scan {
    pub(crate) fn new(table: Arc<TableView>, origin: Origin) -> Self {
        let projection = (0..table.schema.arrow().fields().len()).collect();
        Self { table, projection, live: 0, live_row: 0, segment: 0, batches: None, origin }
    }

    /// The columns: `time`, tags, fields, and `ingest_time` where the table keeps it.
    pub fn schema(&self) -> &SchemaRef {
        self.table.schema.arrow()
    }

    fn next_live(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            let range = self.table.live.get(self.live)?;
            let rows = self.live_row..range.rows().min(self.live_row + BATCH_ROWS);
            if rows.is_empty() {
                self.live += 1;
                self.live_row = 0;
                continue;
            }
            self.live_row = rows.end;
            let batch = range.batch(&self.table.series, &self.table.schema, &self.projection, rows);
            let owned = |batch| copying::owned(&batch).map_err(|error| Error::batch(self.table.schema.name(), error));
            return Some(batch.and_then(owned));
        }
    }

    fn next_sealed(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(batch) = self.batches.as_mut().and_then(Iterator::next) {
                if batch.is_err() {
                    // A reader that failed may fail for ever; the next segment has a reader of its own.
                    self.batches = None;
                }
                return Some(batch);
            }
            let segment = self.table.segments.get(self.segment)?;
            self.segment += 1;
            match segment.read(&self.table.schema, &self.projection, None, None, BATCH_ROWS) {
                Ok(batches) => self.batches = Some(batches),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(forked) = self.origin.check() {
            return Some(Err(forked));
        }
        self.next_live().or_else(|| self.next_sealed())
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("table", &self.table.schema.name()).finish_non_exhaustive()
    }
}
