//! Compaction: segments of one table are merged into fewer, or split by partition, and replaced by what came of them.
//!
//! **Invariant:** the new segments are durable before the manifest names them, and one manifest frame adds them and
//! removes the old ones. Before it rows are in the old ones, after it in the new; a crash at any moment leaves one of the
//! two, and what it leaves of files that nobody names the next open removes. So nothing needs to be resumed: what was
//! not committed is due again.
//!
//! **Invariant (rollups):** what a rollup lacks is not compacted: then it would not be known any more which rows it lacks.
//!
//! **Invariant:** one compaction at a time. What is removed meanwhile, by retention, is found out under the view's lock,
//! and then nothing is committed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::TimestampNanosecondType;

use crate::error::{Error, ErrorKind, Result};
use crate::model::TableId;
use crate::snapshot::TableState;
use crate::snapshot::inputs::{Merged, Merging};
use crate::storage::edit::{Edit, SegmentMeta};
use crate::storage::segment_writer::{Content, Partition, SegmentWriter, Sorted};

use super::core::Core;
use super::pacing::{Caller, Paced};
use super::partition::start;
use super::running::Kind;
use super::tiers::{self, Job, Moment};
use super::unnamed::Unnamed;

/// Partitions that one pass of a split writes: each holds a file open and a row group in memory.
const SPLIT_PARTITIONS_MAX: usize = 64;

/// What came of a look for something to compact.
pub(crate) enum Outcome {
    /// A job was done, or became moot. There may be more.
    Done,
    /// There is nothing before that moment, if no segment comes.
    Nothing(Option<Instant>),
}

impl Core {
    /// Does one compaction, if one is due.
    pub(crate) fn compact_one(&self, caller: Caller) -> Result<Outcome> {
        let _alone = self.upkeep.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        // Closing waits for this lock: after it nothing is committed, since another process may be writing.
        if self.upkeep.pace.is_stopped() {
            return Err(Error::Closed);
        }
        let moment =
            Moment { now_ns: self.clock.now().as_nanos(), at: Instant::now(), eager: caller == Caller::Waiting };
        let view = self.view.load();
        let mut next: Option<Instant> = None;
        for table in view.tables.values() {
            let mut unfit = self.upkeep.unfit.lock().unwrap_or_else(PoisonError::into_inner).clone();
            unfit.extend(view.rollups.pending_of(table.schema.id));
            match tiers::due(table, &unfit, &self.options, moment) {
                Ok(job) => {
                    let done = self.compact(table, &job, caller);
                    return done.map(|()| Outcome::Done).inspect_err(|error| self.note_failure(&job, error));
                }
                Err(at) => next = [next, at].into_iter().flatten().min(),
            }
        }
        Ok(Outcome::Nothing(next))
    }

    fn note_failure(&self, job: &Job, error: &Error) {
        if matches!(error, Error::Closed) {
            return;
        }
        self.counters.compaction_failures.add(1);
        if error.kind() == ErrorKind::Corrupted {
            // Reading them again would not help, and would keep others from their turn.
            let mut unfit = self.upkeep.unfit.lock().unwrap_or_else(PoisonError::into_inner);
            unfit.extend(job.inputs.iter().map(|segment| segment.meta.id));
        }
    }

    fn compact(&self, table: &TableState, job: &Job, caller: Caller) -> Result<()> {
        let rows: u64 = job.inputs.iter().map(|segment| segment.meta.rows).sum();
        let bytes: u64 = job.inputs.iter().map(|segment| segment.meta.bytes).sum();
        let paced = Paced::begin(self, caller, job.kind, (&table.schema, job.partition_ns), (rows, bytes));
        let work = Work { core: self, table, job, paced };
        let unnamed = match (job.kind, job.partition_ns, table.partition_ns) {
            (Kind::Split, _, Some(width_ns)) => work.split(width_ns)?,
            (_, Some(start_ns), Some(width_ns)) => work.merge(Partition { start_ns, width_ns })?,
            _ => return Ok(()),
        };
        let written: u64 = unnamed.metas().iter().map(|meta| meta.rows).sum();
        let Some(metas) = self.commit_compaction(table.schema.id, job, unnamed)? else { return Ok(()) };
        let counters = &self.counters;
        counters.compactions.add(1);
        counters.compacted_rows.add(rows);
        counters.overwritten_rows.add(rows - written);
        counters.compacted_segments.add(job.inputs.len() as u64);
        counters.compaction_bytes_read.add(bytes);
        counters.compaction_segments_written.add(metas.len() as u64);
        counters.compaction_bytes_written.add(metas.iter().map(|meta| meta.bytes + meta.index_bytes).sum());
        self.upkeep.segments_changed();
        Ok(())
    }

    /// Replaces the inputs by what was written; `None` if one of them is gone, and nothing is replaced.
    fn commit_compaction(&self, table: TableId, job: &Job, unnamed: Unnamed<'_>) -> Result<Option<Vec<SegmentMeta>>> {
        let is_input = |id: u64| job.inputs.iter().any(|input| input.meta.id == id);
        let mut changing = self.view.lock();
        let there = changing
            .view()
            .tables
            .get(&table)
            .map_or(0, |table| table.segments.iter().filter(|segment| is_input(segment.meta.id)).count());
        if there != job.inputs.len() {
            return Ok(None);
        }
        let removals = job.inputs.iter().map(|input| Edit::RemoveSegment { id: input.meta.id });
        let edits = removals.chain(unnamed.metas().iter().cloned().map(Edit::AddSegment)).collect();
        let made: Vec<_> = unnamed.metas().iter().map(|meta| self.segment(meta)).collect();
        let committed = self.commit_in(&mut changing, edits, |view| {
            let Some(table) = view.table_mut(table) else { return };
            let segments = Arc::make_mut(&mut table.segments);
            segments.retain(|segment| !is_input(segment.meta.id));
            segments.extend(made);
        });
        drop(changing);
        let metas = unnamed.settle(committed)?;
        self.release_segments(job.inputs.clone());
        Ok(Some(metas))
    }
}

/// A compaction under way.
struct Work<'a> {
    core: &'a Core,
    table: &'a TableState,
    job: &'a Job,
    paced: Paced<'a>,
}

impl<'a> Work<'a> {
    /// All rows of the inputs in order, with the columns `projection` of a segment.
    fn merged(&self, projection: &[usize]) -> Result<Merged> {
        // Taken after the segments were, so it has every series of theirs.
        let series = self.table.series.view();
        let merging = Merging::new(&self.table.schema, &series, projection, self.job.inputs.len());
        let inputs = self.job.inputs.iter().map(|segment| merging.segment(segment, None, None));
        let inputs = inputs.collect::<Result<_>>()?;
        Ok(merging.merge(inputs))
    }

    fn all_columns(&self) -> Vec<usize> {
        (0..self.table.schema.segment_arrow().fields().len()).collect()
    }

    fn writer(&self, partition: Partition) -> Result<SegmentWriter> {
        let core = self.core;
        let (id, schema, tier) = (core.next_segment(), self.table.schema.clone(), self.job.tier);
        SegmentWriter::create(core.fs.clone(), &core.segments_dir(), Content { id, schema, partition, tier })
    }

    /// A sync that failed is as bad here as in a seal.
    fn finish(&self, writer: SegmentWriter) -> Result<SegmentMeta> {
        writer.finish().map_err(|error| self.core.poison_if_sync(error))
    }

    fn merge(&self, partition: Partition) -> Result<Unnamed<'a>> {
        let mut merged = self.merged(&self.all_columns())?;
        let mut writer = self.writer(partition)?;
        while let Some(batch) = merged.next() {
            writer.write(batch?)?;
            self.paced.reach(merged.consumed())?;
        }
        let mut unnamed = Unnamed::new(self.core);
        unnamed.push(self.finish(writer)?);
        Ok(unnamed)
    }

    /// Writes a segment a partition, some partitions a pass over the inputs.
    fn split(&self, width_ns: i64) -> Result<Unnamed<'a>> {
        let starts: Vec<i64> = self.starts(width_ns)?.into_iter().collect();
        let passes = starts.len().div_ceil(SPLIT_PARTITIONS_MAX) as u64;
        let mut unnamed = Unnamed::new(self.core);
        for (pass, starts) in (0..).zip(starts.chunks(SPLIT_PARTITIONS_MAX)) {
            let mut merged = self.merged(&self.all_columns())?;
            let mut writers: BTreeMap<i64, SegmentWriter> = BTreeMap::new();
            while let Some(batch) = merged.next() {
                for (start_ns, rows) in by_partition(&batch?, width_ns, starts)? {
                    let writer = match writers.entry(start_ns) {
                        std::collections::btree_map::Entry::Occupied(writer) => writer.into_mut(),
                        std::collections::btree_map::Entry::Vacant(place) => {
                            place.insert(self.writer(Partition { start_ns, width_ns })?)
                        }
                    };
                    writer.write(rows)?;
                }
                let rows: u64 = self.job.inputs.iter().map(|segment| segment.meta.rows).sum();
                // Of all passes together.
                self.paced.reach((rows * pass + merged.consumed()) / passes)?;
            }
            for writer in writers.into_values() {
                unnamed.push(self.finish(writer)?);
            }
        }
        Ok(unnamed)
    }

    /// The starts of all partitions that the inputs have rows of.
    fn starts(&self, width_ns: i64) -> Result<std::collections::BTreeSet<i64>> {
        let mut starts = std::collections::BTreeSet::new();
        for segment in &self.job.inputs {
            for batch in segment.read(&self.table.schema, &[0], None, None, 64 << 10)? {
                let batch = batch?;
                let times = batch.columns().first().and_then(|time| time.as_primitive_opt::<TimestampNanosecondType>());
                let times = times.ok_or_else(|| segment.damaged("its column time is none of times"))?;
                let mut last = None;
                for time in times.values() {
                    let start_ns = start(*time, width_ns);
                    if last.replace(start_ns) != Some(start_ns) {
                        starts.insert(start_ns);
                    }
                }
            }
            if self.core.upkeep.pace.is_stopped() {
                return Err(Error::Closed);
            }
        }
        Ok(starts)
    }
}

/// The rows of a batch that are in the partitions `starts`, by partition, in the order of the batch.
fn by_partition(batch: &Sorted, width_ns: i64, starts: &[i64]) -> Result<Vec<(i64, Sorted)>> {
    let times = batch.columns.first().and_then(|time| time.as_primitive_opt::<TimestampNanosecondType>());
    let times = times.ok_or_else(|| Error::batch("", "rows without a time"))?;
    let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, time) in (0..).zip(times.values()) {
        rows.entry(start(*time, width_ns)).or_default().push(row);
    }
    rows.retain(|start_ns, _| starts.binary_search(start_ns).is_ok());
    let gather = |(start_ns, rows): (i64, Vec<u32>)| {
        let series = rows.iter().filter_map(|row| batch.series.get(*row as usize).copied()).collect();
        let rows = UInt32Array::from(rows);
        let column = |column: &ArrayRef| take(column, &rows, None).map_err(|error| Error::batch("", error));
        Ok((start_ns, Sorted { series, columns: batch.columns.iter().map(column).collect::<Result<_>>()? }))
    };
    rows.into_iter().map(gather).collect()
}
