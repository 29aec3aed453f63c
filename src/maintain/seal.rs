//! Sealing: sorts the unsealed prefix of a live block, writes it as segments, and commits them.
//!
//! **Invariant:** segments are durable before the manifest names them, and one manifest frame both adds them and says how
//! many rows of (block, generation) they hold. Before it, the rows are in the block; after it, in the segments; a crash
//! at any moment leaves one of the two.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use arrow::array::{Array, ArrayRef, UInt32Array, UInt64Array};
use arrow::compute::take;

use crate::error::{Error, Result};
use crate::ingest::live_block::LiveBlock;
use crate::model::{TableId, TableSchema};
use crate::snapshot::view::{Stage, TableState};
use crate::snapshot::{BlockView, SeriesView, View};
use crate::storage::edit::{Edit, Sealed, SegmentMeta};
use crate::storage::segment::Segment;
use crate::storage::segment_writer::{self, Content};
use crate::storage::series_index;

use super::core::Core;
use super::{partition, sort};

/// Rows gathered at a time.
const BATCH_ROWS: usize = 64 << 10;

impl Core {
    /// Seals what block `id` has now. Does nothing if the block is gone or another thread is at it. Returns the rows.
    pub(crate) fn seal(&self, id: u64) -> Result<usize> {
        {
            let mut sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
            if sealing.contains(&id) {
                return Ok(0);
            }
            sealing.push(id);
        }
        let result = self.seal_alone(id);
        self.sealing.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != id);
        self.sealed.notify_all();
        if result.is_err() {
            self.counters.seal_failures.add(1);
        }
        result
    }

    /// Waits until no thread is sealing block `id`.
    pub(crate) fn wait_sealed(&self, id: u64) {
        let sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.sealed.wait_while(sealing, |sealing| sealing.contains(&id)));
    }

    fn seal_alone(&self, id: u64) -> Result<usize> {
        let view = self.view.load();
        let found = view
            .tables
            .values()
            .find_map(|table| table.blocks.iter().find(|block| block.block.id == id).map(|block| (table, block)));
        let Some((table, found)) = found else { return Ok(0) };
        // The stage was read before the count: if it says full, the count is final.
        let done = found.stage == Stage::Full;
        let (from, to) = (found.sealed_rows, found.block.rows());
        if from == to && !done {
            return Ok(0);
        }
        let mut edits = Vec::new();
        let mut metas = Vec::new();
        if from < to {
            let width_ns = table.partition_ns.unwrap_or_else(|| {
                let (min, max) = found.block.time_bounds(from..to).unwrap_or_default();
                let width_ns = partition::choose_width((to - from) as u64, min, max);
                edits.push(Edit::SetPartition { table: table.schema.id, width_ns });
                width_ns
            });
            metas = self.write_segments(table, found, to, width_ns)?;
            let count = table.series.count();
            edits.push(Edit::Series { table: table.schema.id, count });
            edits.extend(metas.iter().cloned().map(Edit::AddSegment));
        }
        let sealed = Sealed { generation: found.block.generation, rows: to as u64, done };
        edits.push(Edit::Seal { block: id, sealed });
        edits.push(Edit::Marks { next_segment: 0, last_generation: 0, clock: self.clock.last() });
        self.commit_seal(table.schema.id, id, (to, done), edits, &metas)?;
        self.counters.seals.add(1);
        self.counters.sealed_rows.add((to - from) as u64);
        self.counters.segments_written.add(metas.len() as u64);
        self.counters.segment_bytes_written.add(metas.iter().map(|meta| meta.bytes + meta.index_bytes).sum());
        Ok(to - from)
    }

    fn commit_seal(
        &self,
        table: TableId,
        id: u64,
        (rows, done): (usize, bool),
        edits: Vec<Edit>,
        metas: &[SegmentMeta],
    ) -> Result<()> {
        let width = edits.iter().find_map(|edit| match edit {
            Edit::SetPartition { width_ns, .. } => Some(*width_ns),
            _ => None,
        });
        // Two first seals of a table may each have chosen a width; the first commit's stays.
        let still_open = |view: &View| view.tables.get(&table).is_some_and(|table| table.partition_ns.is_none());
        let edits = |view: &View| {
            let keep = |edit: &Edit| still_open(view) || !matches!(edit, Edit::SetPartition { .. });
            edits.into_iter().filter(keep).collect()
        };
        let segment = |meta: &SegmentMeta| {
            Arc::new(Segment::new(meta.clone(), self.fs.clone(), &self.segments_dir(), self.cache.clone()))
        };
        self.commit(edits, |view| {
            let Some(table) = view.table_mut(table) else { return };
            table.partition_ns = table.partition_ns.or(width);
            Arc::make_mut(&mut table.segments).extend(metas.iter().map(segment));
            if done {
                let sealed = table.blocks.iter().find(|view| view.block.id == id);
                sealed.into_iter().for_each(|view| view.block.set_sealed());
                table.blocks.retain(|view| view.block.id != id);
            } else if let Some(block) = table.block_mut(id) {
                block.sealed_rows = rows;
                block.since = Instant::now();
            }
        })
    }

    fn write_segments(
        &self,
        table: &TableState,
        found: &BlockView,
        to: usize,
        width_ns: i64,
    ) -> Result<Vec<SegmentMeta>> {
        let (block, rows) = (&found.block, found.sealed_rows..to);
        let schema = &block.schema;
        // Taken after the count, so it has every series of those rows.
        let view = table.series.view();
        let (series, times) = (block.series(rows.clone()), block.times(rows.clone()));
        let highest = series.iter().max().map_or(0, |series| *series as usize);
        if highest >= view.len() {
            let reason = format!("a row is of series {highest}, the series log has {}", view.len());
            return Err(Error::corrupted(block.file.path(), block.layout.series as u64, reason));
        }
        let order = sort::order(&series, &times, &view.ranks());
        let source = Source { columns: columns(block, schema, rows)?, series: &series, view: &view, schema };
        let mut metas = Vec::new();
        for (partition, order) in partition::split(order, &times, width_ns, self.options.seal_partitions_max) {
            let sorted = |column: &[u32]| order.iter().filter_map(|row| column.get(*row as usize)).copied().collect();
            let sorted_series: Vec<u32> = sorted(&series);
            let sorted_times: Vec<i64> = order.iter().filter_map(|row| times.get(*row as usize)).copied().collect();
            let ranges = series_index::ranges(&sorted_series, &sorted_times);
            let content = Content { id: self.next_segment(), schema, partition, ranges: &ranges };
            let batches = order.chunks(BATCH_ROWS).map(|rows| source.gather(rows));
            let written = segment_writer::write(&*self.fs, &self.segments_dir(), &content, batches);
            // A name that a failed sync of the directory dropped would be taken for durable by the next sync that succeeds.
            metas.push(written.map_err(|error| self.poison_if_sync(error))?);
        }
        Ok(metas)
    }

    /// A segment number that was never given out in this life; what an earlier life gave and did not commit is not on
    /// disk any more.
    fn next_segment(&self) -> u64 {
        self.segment_ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
}

/// The columns of a block in a segment's order, save the tags, which are gathered from the series.
fn columns(
    block: &Arc<LiveBlock>,
    schema: &TableSchema,
    rows: std::ops::Range<usize>,
) -> Result<Vec<Option<ArrayRef>>> {
    let mut columns: Vec<Option<ArrayRef>> = vec![Some(Arc::new(block.time_column(rows.clone())))];
    columns.extend(schema.tags.iter().map(|_| None));
    for (number, field_type) in schema.field_types().enumerate() {
        columns.push(Some(block.field(number, field_type, rows.clone())?));
    }
    columns.extend(block.clocks(rows).map(|clocks| Some(Arc::new(UInt64Array::new(clocks, None)) as ArrayRef)));
    Ok(columns)
}

struct Source<'a> {
    columns: Vec<Option<ArrayRef>>,
    series: &'a [u32],
    view: &'a SeriesView,
    schema: &'a TableSchema,
}

impl Source<'_> {
    fn gather(&self, rows: &[u32]) -> Result<Vec<ArrayRef>> {
        let indices = UInt32Array::from(rows.to_vec());
        let ids: Vec<u32> = rows.iter().filter_map(|row| self.series.get(*row as usize)).copied().collect();
        let column = |(number, column): (usize, &Option<ArrayRef>)| -> Result<ArrayRef> {
            match column {
                Some(column) => take(column, &indices, None).map_err(|error| Error::batch(&self.schema.name, error)),
                None => Ok(Arc::new(self.view.tag_column(number - 1, &ids)?)),
            }
        };
        let gathered: Vec<ArrayRef> = self.columns.iter().enumerate().map(column).collect::<Result<_>>()?;
        debug_assert!(gathered.iter().all(|column| column.len() == rows.len()), "columns of equal length");
        Ok(gathered)
    }
}
