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
use crate::snapshot::{BlockView, SeriesView, View, sort};
use crate::storage::edit::{Edit, Sealed, SegmentMeta, Tier};
use crate::storage::segment::Segment;
use crate::storage::segment_writer::{self, Content, Sorted};

use super::core::Core;
use super::partition;
use super::running::{Kind, Running};
use super::unnamed::Unnamed;

/// Rows gathered at a time.
const BATCH_ROWS: usize = 64 << 10;

/// A thread's turn at a block, which ends also with a panic: others wait for it.
struct AtIt<'a> {
    core: &'a Core,
    id: u64,
}

impl Drop for AtIt<'_> {
    fn drop(&mut self) {
        self.core.sealing.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != self.id);
        self.core.sealed.notify_all();
    }
}

impl Core {
    /// Seals what block `id` has now, after another thread that is at it: that one may have begun before the last row, or
    /// before the block was called full, and nobody would ask again. Does nothing if the block is gone. Returns the rows.
    pub(crate) fn seal(&self, id: u64) -> Result<usize> {
        {
            let sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
            let is_at_it = |sealing: &mut Vec<u64>| sealing.contains(&id);
            let mut sealing = self.sealed.wait_while(sealing, is_at_it).unwrap_or_else(PoisonError::into_inner);
            self.check_not_ended()?;
            sealing.push(id);
        }
        let at_it = AtIt { core: self, id };
        let result = self.seal_alone(id);
        drop(at_it);
        if result.is_err() {
            self.counters.seal_failures.add(1);
        }
        result
    }

    fn seal_alone(&self, id: u64) -> Result<usize> {
        let view = self.view.load();
        let Some((table, found)) = view.table_of(id) else { return Ok(0) };
        // The stage was read before the count: if it says full, the count is final.
        let done = found.stage == Stage::Full;
        let (from, to) = (found.sealed_rows, found.block.rows());
        // Looked at after the count, so that no row of a later stint is among them.
        let began = self.view.load().table_of(id).map_or(0, |(_, view)| view.stints.last_began());
        if from == to && !done {
            return Ok(0);
        }
        let mut edits = Vec::new();
        let mut unnamed = Unnamed::new(self);
        if from < to {
            let width_ns = table.partition_ns.unwrap_or_else(|| {
                let (min, max) = found.block.time_bounds(from..to).unwrap_or_default();
                let width_ns = partition::choose_width((to - from) as u64, min, max);
                edits.push(Edit::SetPartition { table: table.schema.id, width_ns });
                width_ns
            });
            let row_bytes = (found.block.layout.file_bytes / found.block.layout.capacity.max(1)) as u64;
            let rows = (to - from) as u64;
            let running = self.upkeep.running.begin(Kind::Seal, &table.schema, None, (rows, rows * row_bytes));
            unnamed = self.write_segments(table, found, to, width_ns, &running)?;
            let count = table.series.count();
            edits.push(Edit::Series { table: table.schema.id, count });
            edits.extend(unnamed.metas().iter().cloned().map(Edit::AddSegment));
            self.settle_before(table.schema.id, began)?;
        }
        let sealed = Sealed { generation: found.block.generation, rows: to as u64, done };
        edits.push(Edit::Seal { block: id, sealed });
        edits.push(Edit::Marks { next_segment: 0, last_generation: 0, clock: self.clock.last() });
        let committed = self.commit_seal(table.schema.id, id, (to, done), edits, unnamed.metas());
        let metas = unnamed.settle(committed)?;
        self.upkeep.segments_changed();
        self.counters.seals.add(1);
        self.counters.sealed_rows.add((to - from) as u64);
        self.counters.segments_written.add(metas.len() as u64);
        self.counters.segment_bytes_written.add(metas.iter().map(|meta| meta.bytes + meta.index_bytes).sum());
        Ok(to - from)
    }

    /// Sees to it that rows of stints that had ended before `began` are durable. Where a thread is sealing some, it waits
    /// for that one, which is of an earlier stint and never waits for this one; the rest it syncs.
    fn settle_before(&self, table: TableId, began: u64) -> Result<()> {
        let is_at_one = |sealing: &mut Vec<u64>| {
            let view = self.view.load();
            let blocks = view.tables.get(&table).into_iter().flat_map(|table| &table.blocks);
            blocks.filter(|view| view.had_ended(began)).any(|view| sealing.contains(&view.block.id))
        };
        let sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.sealed.wait_while(sealing, is_at_one).unwrap_or_else(PoisonError::into_inner));
        let due = self.view.load().tables.get(&table).map(|table| table.due_before(began)).unwrap_or_default();
        if due.is_empty() { Ok(()) } else { self.sync_blocks(&due) }
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
        let segment = |meta: &SegmentMeta| self.segment(meta);
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
        running: &Running,
    ) -> Result<Unnamed<'_>> {
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
        let mut order = sort::order(&series, &times, &view.ranks());
        if let Some(clocks) = block.clocks(rows.clone()) {
            // What a later row of the same seal takes the place of need not be written at all.
            order = sort::last_writes(&sort::by_clock(order, &series, &times, &clocks), &series, &times);
            self.counters.overwritten_rows.add((series.len() - order.len()) as u64);
        }
        // A row that has no mark yet gets its ingest time now, for good.
        let unix_s = self.clock.second();
        block.mark(unix_s);
        let source = Source { columns: columns(block, schema, rows, unix_s)?, series: &series, view: &view, schema };
        let mut unnamed = Unnamed::new(self);
        for (partition, order) in partition::split(order, &times, width_ns, self.options.seal_partitions_max) {
            let content = Content { id: self.next_segment(), schema: schema.clone(), partition, tier: Tier::Sealed };
            let batches = order.chunks(BATCH_ROWS).map(|rows| {
                running.add_rows(rows.len() as u64);
                source.gather(rows)
            });
            let written = segment_writer::write(&self.fs, &self.segments_dir(), content, batches);
            // A name that a failed sync of the directory dropped would be taken for durable by the next sync that succeeds.
            unnamed.push(written.map_err(|error| self.poison_if_sync(error))?);
        }
        Ok(unnamed)
    }

    /// A handle on a segment that the manifest names.
    pub(super) fn segment(&self, meta: &SegmentMeta) -> Arc<Segment> {
        Arc::new(Segment::new(meta.clone(), self.fs.clone(), &self.segments_dir(), self.cache.clone()))
    }

    /// A segment number that was never given out in this life; what an earlier life gave and did not commit is not on
    /// disk any more.
    pub(super) fn next_segment(&self) -> u64 {
        // Relaxed: the read-modify-write alone makes each number unique.
        self.segment_ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
}

/// The columns of a block in a segment's order, save the tags, which are gathered from the series.
fn columns(
    block: &Arc<LiveBlock>,
    schema: &TableSchema,
    rows: std::ops::Range<usize>,
    unix_s: u32,
) -> Result<Vec<Option<ArrayRef>>> {
    let mut columns: Vec<Option<ArrayRef>> = vec![Some(Arc::new(block.time_column(rows.clone())))];
    columns.extend(schema.tags.iter().map(|_| None));
    for (number, field_type) in schema.field_types().enumerate() {
        columns.push(Some(block.field(number, field_type, rows.clone())?));
    }
    if schema.policies.keep_ingest_time {
        columns.push(Some(Arc::new(block.ingest_times(rows.clone(), unix_s))));
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
    fn gather(&self, rows: &[u32]) -> Result<Sorted> {
        let indices = UInt32Array::from(rows.to_vec());
        let series: Vec<u32> = rows.iter().filter_map(|row| self.series.get(*row as usize)).copied().collect();
        let column = |(number, column): (usize, &Option<ArrayRef>)| -> Result<ArrayRef> {
            match column {
                Some(column) => take(column, &indices, None).map_err(|error| Error::batch(&self.schema.name, error)),
                None => Ok(Arc::new(self.view.tag_column(number - 1, &series)?)),
            }
        };
        let columns: Vec<ArrayRef> = self.columns.iter().enumerate().map(column).collect::<Result<_>>()?;
        debug_assert!(columns.iter().all(|column| column.len() == rows.len()), "columns of equal length");
        Ok(Sorted { series, columns })
    }
}
