//! Rolling up: what sealed segments did goes into the tables of rollups.
//!
//! A rollup's table has a row for each series and bucket, and the last write wins. One step takes some of the segments that
//! the rollup lacks, finds the series and buckets that their rows are of, and writes the rows of those anew:
//!
//! - of a bucket whose rows are all there, from all rows of it in segments that the rollup has, these included. So a late
//!   row, one that overwrites another, and a step that is repeated give what rolling up everything at once would;
//! - of a bucket of which retention may have dropped rows, from what the rollup had of it and the rows that it lacked.
//!   Each row is added once, since the frame that adds it says that its segment is not lacking any more. Where the last
//!   write wins, a row that overwrites one there counts beside it.
//!
//! **Invariant:** one manifest frame adds what was rolled up and says of which segments that is. A crash leaves both or
//! neither, and what was not committed is due again.
//!
//! **Invariant:** one step or compaction at a time, so that no segment is replaced while it is rolled up. Retention may drop
//! segments meanwhile; what a step has of them it keeps, and they are in the rollup already.

mod buckets;
mod sketches;
mod touched;

use std::iter::Peekable;
use std::sync::{Arc, PoisonError};

use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;
use hashbrown::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::model::TableId;
use crate::model::rollup::Definition;
use crate::snapshot::inputs::{Merged, Merging};
use crate::snapshot::{Segment, SeriesView, TableState, View};
use crate::storage::edit::{Edit, Tier};
use crate::storage::segment_writer::{Content, Partition, SegmentWriter, Sorted};

use super::core::Core;
use super::pacing::{Caller, Paced};
use super::running::Kind;
use super::unnamed::Unnamed;
use buckets::{Bucket, Writing};
pub(crate) use sketches::MakeSketch;
#[cfg(feature = "sql")]
pub(crate) use sketches::Sketch;
use touched::{Key, Reach};

/// Most segments that one step rolls up, and rows from which on it takes no more.
const INPUTS_MAX: usize = 64;
const ROWS_ENOUGH: u64 = 8 << 20;

/// A step for one rollup.
struct Step<'a> {
    core: &'a Core,
    rollup: TableId,
    definition: Arc<Definition>,
    source: Arc<TableState>,
    target: Arc<TableState>,
    /// The segments that are rolled up.
    inputs: Vec<Arc<Segment>>,
    /// They and all that the rollup has. Not what it goes on to lack: the rows of that may be added to what this step
    /// makes, once retention has dropped others.
    held: Vec<Arc<Segment>>,
    /// Rows of the source that are earlier may be gone.
    gone_before: i64,
    series: SeriesView,
    /// The rollup's series of each of the source's, as far as they were asked for.
    numbers: HashMap<u32, u32>,
    clock: u64,
    paced: Paced<'a>,
    /// Rows read so far.
    read: u64,
}

impl Core {
    /// Takes one step of rolling up, if a rollup lacks anything that can be rolled up. Says whether it did.
    pub(crate) fn roll_up_one(&self, caller: Caller) -> Result<bool> {
        let _alone = self.upkeep.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        // Closing waits for this lock.
        if self.upkeep.pace.is_stopped() {
            return Err(Error::Closed);
        }
        let view = self.view.load();
        let Some((rollup, inputs)) = view.rollups.all().find_map(|(id, _)| Some((id, self.lacking(&view, id)?))) else {
            return Ok(false);
        };
        let Some(step) = self.step(&view, rollup, inputs.clone(), caller) else { return Ok(false) };
        match step.take() {
            Ok(()) => Ok(true),
            Err(error) => {
                self.note_unrolled(&inputs, &error);
                Err(error)
            }
        }
    }

    /// Segments that the rollup lacks, some of them; `None` if there are none that can be rolled up now.
    fn lacking(&self, view: &View, rollup: TableId) -> Option<Vec<Arc<Segment>>> {
        let state = view.rollups.get(rollup)?;
        let (definition, target) = (&state.definition, view.tables.get(&rollup)?);
        let has_sketches = definition.measures.iter().any(|(_, measure)| measure.is_sketch());
        if state.pending.is_empty() || (has_sketches && self.sketches.is_none()) {
            return None;
        }
        let source = view.tables.get(&definition.source)?;
        let unrolled = self.upkeep.unrolled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What is aside may come back, and without it a bucket would say less than its rows.
        let aside = || source.aside.segments.iter().chain(target.aside.segments.iter());
        let is_whole = |segment: &Segment| {
            let first = definition.begin(definition.bucket(segment.meta.min_time));
            let last = definition.end(definition.bucket(segment.meta.max_time));
            !aside().any(|aside| {
                aside.meta.min_time <= last && first <= definition.end(definition.bucket(aside.meta.max_time))
            })
        };
        let (mut inputs, mut rows) = (Vec::new(), 0);
        for segment in source.segments.iter().filter(|segment| state.pending.contains(&segment.meta.id)) {
            if inputs.len() == INPUTS_MAX || rows >= ROWS_ENOUGH {
                break;
            }
            if segment.meta.rows == 0 || (!unrolled.contains(&segment.meta.id) && is_whole(segment)) {
                rows += segment.meta.rows;
                inputs.push(segment.clone());
            }
        }
        (!inputs.is_empty()).then_some(inputs)
    }

    fn step(&self, view: &View, rollup: TableId, inputs: Vec<Arc<Segment>>, caller: Caller) -> Option<Step<'_>> {
        let definition = view.rollups.get(rollup)?.definition.clone();
        let (source, target) = (view.tables.get(&definition.source)?.clone(), view.tables.get(&rollup)?.clone());
        let rows: u64 = inputs.iter().map(|segment| segment.meta.rows).sum();
        let bytes: u64 = inputs.iter().map(|segment| segment.meta.bytes).sum();
        let pending = &view.rollups.get(rollup)?.pending;
        let is_input = |segment: &Segment| inputs.iter().any(|input| input.meta.id == segment.meta.id);
        let is_held = |segment: &&Arc<Segment>| !pending.contains(&segment.meta.id) || is_input(segment);
        let held = source.segments.iter().filter(is_held).cloned().collect();
        let paced = Paced::begin(self, caller, Kind::RollUp, (&target.schema, None), (rows, bytes));
        Some(Step {
            core: self,
            rollup,
            gone_before: view.rollups.rows_gone_before(definition.source),
            definition,
            // Taken after the segments were, so it has every series of theirs.
            series: source.series.view(),
            source,
            target,
            inputs,
            held,
            numbers: HashMap::new(),
            clock: self.clock.read(1),
            paced,
            read: 0,
        })
    }

    fn note_unrolled(&self, inputs: &[Arc<Segment>], error: &Error) {
        if matches!(error, Error::Closed) {
            return;
        }
        self.counters.rollup_failures.add(1);
        if error.kind() == ErrorKind::Corrupted {
            // Reading them again would not help, and would keep others from their turn.
            let mut unrolled = self.upkeep.unrolled.lock().unwrap_or_else(PoisonError::into_inner);
            unrolled.extend(inputs.iter().map(|segment| segment.meta.id));
        }
    }
}

impl Step<'_> {
    fn take(mut self) -> Result<()> {
        let width_ns = self.target.partition_ns.filter(|width| *width > 0).unwrap_or(i64::MAX);
        let mut unnamed = Unnamed::new(self.core);
        let keys = touched::by_partition(self.keys()?, &self.definition, width_ns);
        let mut buckets = 0;
        for (start_ns, keys) in keys {
            let partition = Partition { start_ns, width_ns };
            let is_known = |key: &Key| self.definition.begin(key.bucket) < self.gone_before;
            let (known, whole): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(is_known);
            buckets += (known.len() + whole.len()) as u64;
            if !whole.is_empty() {
                let held = self.held.clone();
                self.write(partition, &whole, &held, HashMap::new(), &mut unnamed)?;
            }
            if !known.is_empty() {
                let (lacking, before) = (self.inputs.clone(), self.known(&known)?);
                self.write(partition, &known, &lacking, before, &mut unnamed)?;
            }
        }
        self.commit(unnamed, buckets)
    }

    /// The series and buckets that the inputs have rows of, in the order of segments.
    fn keys(&mut self) -> Result<Vec<Key>> {
        let merging = Merging::new(&self.source.schema, &self.series, &[0], self.inputs.len());
        let inputs = self.inputs.iter().map(|segment| merging.segment(segment, None, None)).collect::<Result<_>>()?;
        let mut keys: Vec<Key> = Vec::new();
        for sorted in merging.merge(inputs) {
            let sorted = sorted?;
            let times = times_of(sorted.columns.first(), &self.source)?;
            for (series, time) in sorted.series.iter().zip(times) {
                let key = Key { series: *series, bucket: self.definition.bucket(*time) };
                if keys.last() != Some(&key) {
                    keys.push(key);
                }
            }
            self.pace(0)?;
        }
        Ok(keys)
    }

    /// Writes the buckets `keys` of one partition: those of `before` with the rows of `segments` added.
    fn write(
        &mut self,
        partition: Partition,
        keys: &[Key],
        segments: &[Arc<Segment>],
        mut before: HashMap<Key, Bucket>,
        unnamed: &mut Unnamed<'_>,
    ) -> Result<()> {
        let (core, definition, source) = (self.core, self.definition.clone(), self.source.clone());
        let tags = source.schema.tags.len();
        let fields = definition.fields().into_iter().map(|field| 1 + tags + field);
        let projection: Vec<usize> = std::iter::once(0).chain(fields).collect();
        let merged = self.merged(&source, segments, &projection, &Reach::of(keys, &definition))?;
        let (id, schema) = (core.next_segment(), self.target.schema.clone());
        let content = Content { id, schema, partition, tier: Tier::Sealed };
        let mut writer = SegmentWriter::create(core.fs.clone(), &core.segments_dir(), content)?;
        let mut writing = Writing::new(&definition, &self.target.schema);
        let mut rest = Rest { keys: keys.iter().copied().peekable(), ranks: self.series.ranks() };
        let mut current: Option<(Key, Bucket)> = None;
        for sorted in merged {
            let Sorted { series, columns } = sorted?;
            let (times, fields) = (times_of(columns.first(), &source)?, columns.get(1..).unwrap_or_default());
            let prepared = buckets::columns(fields);
            for (key, rows) in touched::runs(&series, times, &definition) {
                let goes_on = current.as_ref().is_some_and(|(current, _)| *current == key);
                if !goes_on && rest.is_wanted(key) {
                    if let Some((done, bucket)) = current.take() {
                        writing.push(self.number(done.series)?, done, bucket)?;
                    }
                    let empty = || Bucket::new(&definition, &source.schema, core.sketches);
                    current = Some((key, before.remove(&key).map_or_else(empty, Ok)?));
                }
                if let Some((_, bucket)) = current.as_mut().filter(|(current, _)| *current == key) {
                    bucket.take(rows, times, &prepared, fields)?;
                }
            }
            if writing.is_full() {
                writer.write(writing.finish(&self.series, self.clock, tags)?)?;
            }
            self.pace(series.len() as u64)?;
        }
        if let Some((done, bucket)) = current {
            writing.push(self.number(done.series)?, done, bucket)?;
        }
        writer.write(writing.finish(&self.series, self.clock, tags)?)?;
        unnamed.push(writer.finish().map_err(|error| core.poison_if_sync(error))?);
        Ok(())
    }

    /// The rows of `segments`, which are of `table`, within `reach` and perhaps more, in order.
    fn merged(
        &self,
        table: &TableState,
        segments: &[Arc<Segment>],
        projection: &[usize],
        reach: &Reach,
    ) -> Result<Merged> {
        let within: Vec<&Arc<Segment>> = segments.iter().filter(|segment| reach.meets(segment)).collect();
        let merging = Merging::new(&table.schema, &table.series.view(), projection, within.len());
        let mut inputs = Vec::with_capacity(within.len());
        for segment in within {
            let rows = reach.rows(segment, &table.schema)?;
            if !rows.is_empty() {
                inputs.push(merging.segment(segment, Some(rows), Some(reach.window))?);
            }
        }
        Ok(merging.merge(inputs))
    }

    /// What the rollup has of `keys`.
    fn known(&mut self, keys: &[Key]) -> Result<HashMap<Key, Bucket>> {
        let mut by_number: HashMap<Key, Key> = HashMap::new();
        for key in keys {
            by_number.insert(Key { series: self.number(key.series)?, ..*key }, *key);
        }
        let (target, definition) = (self.target.clone(), self.definition.clone());
        let numbered: Vec<Key> = by_number.keys().copied().collect();
        let tags = target.schema.tags.len();
        let fields = 1 + tags..1 + tags + target.schema.fields.len();
        let projection: Vec<usize> = std::iter::once(0).chain(fields).collect();
        let merged = self.merged(&target, &target.segments, &projection, &Reach::of(&numbered, &definition))?;
        let mut known = HashMap::new();
        for sorted in merged {
            let Sorted { series, columns } = sorted?;
            let (times, fields) = (times_of(columns.first(), &target)?, columns.get(1..).unwrap_or_default());
            for (row, (series, time)) in series.iter().zip(times).enumerate() {
                let key = Key { series: *series, bucket: definition.bucket(*time) };
                if let Some(of_source) = by_number.get(&key) {
                    let mut bucket = Bucket::new(&definition, &self.source.schema, self.core.sketches)?;
                    bucket.take_known(&definition, fields, row)?;
                    known.insert(*of_source, bucket);
                }
            }
            self.pace(0)?;
        }
        Ok(known)
    }

    /// The rollup's number for a series of its source.
    fn number(&mut self, series: u32) -> Result<u32> {
        if let Some(number) = self.numbers.get(&series) {
            return Ok(*number);
        }
        let tags: Vec<&str> = (0..self.source.schema.tags.len()).map(|tag| self.series.value(tag, series)).collect();
        // What its source has, it may have.
        let options = self.core.options.clone().series_max(u32::MAX).tag_bytes_max(usize::MAX);
        let number = self.target.series.resolve(&self.target.schema, &self.core.series_log, &options, &tags)?;
        self.numbers.insert(series, number);
        Ok(number)
    }

    fn pace(&mut self, rows: u64) -> Result<()> {
        self.read += rows;
        self.paced.reach(self.read)
    }

    fn commit(self, unnamed: Unnamed<'_>, buckets: u64) -> Result<()> {
        let core = self.core;
        let mut edits = vec![Edit::Series { table: self.rollup, count: self.target.series.count() }];
        edits.extend(unnamed.metas().iter().cloned().map(Edit::AddSegment));
        let rolled = |segment: &Arc<Segment>| Edit::Rolled { table: self.rollup, segment: segment.meta.id };
        edits.extend(self.inputs.iter().map(rolled));
        edits.push(Edit::Marks { next_segment: 0, last_generation: 0, clock: core.clock.last() });
        let made: Vec<_> = unnamed.metas().iter().map(|meta| core.segment(meta)).collect();
        let committed = core.commit(
            |_| edits,
            |view| {
                if let Some(table) = view.table_mut(self.rollup) {
                    Arc::make_mut(&mut table.segments).extend(made);
                }
            },
        );
        unnamed.settle(committed)?;
        core.counters.rollups.add(1);
        core.counters.rolled_segments.add(self.inputs.len() as u64);
        core.counters.rolled_buckets.add(buckets);
        // Retention may have waited for it, and the rollup's own segments may be many.
        core.upkeep.segments_changed();
        Ok(())
    }
}

/// The keys that are still to come, in the order of segments.
struct Rest<I: Iterator<Item = Key>> {
    keys: Peekable<I>,
    ranks: Arc<[u32]>,
}

impl<I: Iterator<Item = Key>> Rest<I> {
    /// Whether `key` is one of them. Keys are asked for in the same order.
    fn is_wanted(&mut self, key: Key) -> bool {
        let ranks = &self.ranks;
        let place = |key: &Key| (ranks.get(key.series as usize).copied(), key.bucket);
        while self.keys.next_if(|next| place(next) < place(&key)).is_some() {}
        self.keys.next_if_eq(&key).is_some()
    }
}

fn times_of<'a>(column: Option<&'a arrow::array::ArrayRef>, table: &TableState) -> Result<&'a [i64]> {
    let times = column.and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
    times.map(|times| &**times.values()).ok_or_else(|| Error::batch(&table.schema.name, "rows without a time"))
}
