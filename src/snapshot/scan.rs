//! All rows of one table at one moment, for those who read without SQL.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::fs::fork::Origin;
use crate::storage::segment::Batches;

use super::inputs::Merging;
use super::overlap::{self, Part};
use super::{Segment, Snapshot, TableView, copying};

/// Rows of a batch at most.
const BATCH_ROWS: usize = 8_192;

/// An iterator over the rows of a table as they were when it was made, in batches that own their memory. In no order. Where
/// the last write wins, each series and time comes once.
///
/// Made by [`Table::scan`](crate::Table::scan). It keeps the live blocks of its moment from being recycled.
pub struct Scan {
    table: Arc<TableView>,
    projection: Vec<usize>,
    live: usize,
    live_row: usize,
    segment: usize,
    /// Instead of the numbers above, where the last write wins: what is to be read together.
    groups: Option<std::vec::IntoIter<Vec<Place>>>,
    batches: Option<Batches>,
    /// Segments without a time between these are left out.
    window: (i64, i64),
    _snapshot: Option<Arc<Snapshot>>,
    origin: Origin,
}

/// A place of rows.
enum Place {
    Segment(Arc<Segment>),
    /// A live range by number, and some of its rows.
    Live(usize, Option<Vec<u32>>),
}

impl Scan {
    pub(crate) fn new(table: Arc<TableView>, origin: Origin) -> Self {
        let projection = (0..table.schema.arrow().fields().len()).collect();
        let groups = table.schema.has_clock().then(|| places(&table).into_iter());
        let window = (i64::MIN, i64::MAX);
        Self {
            table,
            projection,
            live: 0,
            live_row: 0,
            segment: 0,
            groups,
            batches: None,
            window,
            _snapshot: None,
            origin,
        }
    }

    /// Leaves out what is certain to have no time from the one to the other, as far as that costs nothing.
    #[cfg(feature = "feed")]
    pub(crate) fn within(mut self, window: (i64, i64)) -> Self {
        self.window = window;
        self
    }

    /// Keeps the snapshot, and so the files of its moment.
    pub(crate) fn keeping(mut self, snapshot: Arc<Snapshot>) -> Self {
        self._snapshot = Some(snapshot);
        self
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

    fn next_of_groups(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(batch) = self.batches.as_mut().and_then(Iterator::next) {
                if batch.is_err() {
                    self.batches = None;
                }
                return Some(batch);
            }
            let group = self.groups.as_mut()?.next()?;
            match self.read_group(group) {
                Ok(batches) => self.batches = Some(batches),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn read_group(&self, group: Vec<Place>) -> Result<Batches> {
        let TableView { schema, series, live, .. } = &*self.table;
        if let [Place::Segment(segment)] = &*group {
            return segment.read(schema, &self.projection, None, None, BATCH_ROWS);
        }
        let merging = Merging::new(schema, series, &self.projection, group.len());
        let gone = |number: usize| Error::batch(schema.name(), format!("no live range {number}"));
        let input = |place: Place| match place {
            Place::Segment(segment) => merging.segment(&segment, None, None),
            Place::Live(number, rows) => merging.live(live.get(number).ok_or_else(|| gone(number))?, rows),
        };
        let inputs = group.into_iter().map(input).collect::<Result<_>>()?;
        let table = self.table.clone();
        Ok(Box::new(merging.merge(inputs).map(move |sorted| {
            let batch = RecordBatch::try_new(table.schema.arrow().clone(), sorted?.columns);
            batch.map_err(|error| Error::batch(table.schema.name(), error))
        })))
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
            if segment.meta.min_time > self.window.1 || segment.meta.max_time < self.window.0 {
                continue;
            }
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
        if self.groups.is_some() {
            return self.next_of_groups();
        }
        self.next_live().or_else(|| self.next_sealed())
    }
}

/// All places of `table`'s rows, those together that may have the same series and time.
fn places(table: &TableView) -> Vec<Vec<Place>> {
    let segment = |segment: &Arc<Segment>| Part {
        what: Place::Segment(segment.clone()),
        min: segment.meta.min_time,
        max: segment.meta.max_time,
    };
    let mut parts: Vec<_> = table.segments.iter().filter(|segment| segment.meta.rows > 0).map(segment).collect();
    for (number, range) in table.live.iter().enumerate() {
        let live = overlap::live_parts(range, table.partition_ns, None).into_iter();
        parts.extend(live.map(|Part { what, min, max }| Part { what: Place::Live(number, what), min, max }));
    }
    overlap::groups(parts)
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("table", &self.table.schema.name()).finish_non_exhaustive()
    }
}
