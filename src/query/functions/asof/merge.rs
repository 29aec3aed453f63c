//! Both sides sorted by keys and time, walked side by side.
//!
//! What is held is the left batch under way, the right one, and those right batches that rows of the next batch of the
//! answer come from.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::StreamExt;

use super::keys::{Matching, Prepared, Side};

/// Right batches that one batch of the answer may draw on.
const SOURCES_MAX: usize = 32;

/// Orders rows whose keys and times are equal, by all their columns.
pub(super) struct TieBreaker {
    columns: Vec<usize>,
    converter: RowConverter,
}

/// None if no column has an order.
pub(super) fn tie_breaker(schema: &SchemaRef) -> Result<Option<TieBreaker>> {
    let field = |column: usize| schema.fields().get(column).map(|field| SortField::new(field.data_type().clone()));
    let columns: Vec<usize> = (0..schema.fields().len())
        .filter(|column| field(*column).is_some_and(|field| RowConverter::supports_fields(&[field])))
        .collect();
    if columns.is_empty() {
        return Ok(None);
    }
    let converter = RowConverter::new(columns.iter().filter_map(|column| field(*column)).collect())?;
    Ok(Some(TieBreaker { columns, converter }))
}

impl TieBreaker {
    pub(super) fn convert(&self, batch: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| batch.column(*column).clone()).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }
}

/// A right batch.
struct Source {
    prepared: Prepared,
    /// Made if there are ties.
    ordered: OnceLock<Rows>,
}

/// A right row.
#[derive(Clone)]
struct Position {
    source: Arc<Source>,
    row: usize,
}

impl Position {
    fn key(&self) -> &[u8] {
        self.source.prepared.key(self.row)
    }

    fn time(&self) -> i64 {
        self.source.prepared.time(self.row)
    }
}

/// The right side, one row a key and time.
struct Right {
    input: SendableRecordBatchStream,
    side: Side,
    breaker: Option<TieBreaker>,
    /// The first row not taken yet.
    next: Option<Position>,
    ended: bool,
}

impl Right {
    /// Sees to it that `next` is there, unless the input is at its end.
    async fn fill(&mut self) -> Result<()> {
        while !self.ended && self.next.is_none() {
            match self.input.next().await {
                None => self.ended = true,
                Some(batch) => {
                    let prepared = self.side.prepare_valid(batch?)?;
                    if prepared.rows() > 0 {
                        let source = Arc::new(Source { prepared, ordered: OnceLock::new() });
                        self.next = Some(Position { source, row: 0 });
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the next row, and of those that tie with it the greatest.
    async fn take(&mut self) -> Result<Option<Position>> {
        self.fill().await?;
        let Some(mut best) = self.advance() else { return Ok(None) };
        loop {
            self.fill().await?;
            let ties = |next: &&Position| next.time() == best.time() && next.key() == best.key();
            if self.next.as_ref().filter(ties).is_none() {
                return Ok(Some(best));
            }
            let Some(other) = self.advance() else { return Ok(Some(best)) };
            if !self.is_greater(&best, &other)? {
                best = other;
            }
        }
    }

    /// `next`, which moves on within its batch.
    fn advance(&mut self) -> Option<Position> {
        let taken = self.next.take()?;
        if taken.row + 1 < taken.source.prepared.rows() {
            self.next = Some(Position { source: taken.source.clone(), row: taken.row + 1 });
        }
        Some(taken)
    }

    fn is_greater(&self, a: &Position, b: &Position) -> Result<bool> {
        let Some(breaker) = &self.breaker else { return Ok(false) };
        for position in [a, b] {
            if position.source.ordered.get().is_none() {
                // Nobody else sets it meanwhile: the join owns both.
                let _ = position.source.ordered.set(breaker.convert(&position.source.prepared.batch)?);
            }
        }
        Ok(match (a.source.ordered.get(), b.source.ordered.get()) {
            (Some(of_a), Some(of_b)) => of_a.row(a.row) > of_b.row(b.row),
            _ => false,
        })
    }
}

/// One partition of a merge.
pub(super) struct Merge {
    left: SendableRecordBatchStream,
    side: Side,
    right: Right,
    matching: Matching,
    schema: SchemaRef,
    memory: MemoryReservation,
    /// The left batch under way, and its first row without an answer.
    current: Option<(Prepared, usize)>,
    /// Backward, the last right row before the left one; forward, the first after it.
    candidate: Option<Position>,
    started: bool,
}

/// Rows of right batches for the rows of a batch of the answer; none is null.
#[derive(Default)]
struct Found {
    sources: Vec<Arc<Source>>,
    rows: Vec<(usize, usize)>,
}

impl Found {
    /// Place 0 is the null row.
    fn push(&mut self, position: Option<&Position>) {
        let Some(Position { source, row }) = position else {
            self.rows.push((0, 0));
            return;
        };
        if !self.sources.last().is_some_and(|last| Arc::ptr_eq(last, source)) {
            self.sources.push(source.clone());
        }
        self.rows.push((self.sources.len(), *row));
    }
}

impl Merge {
    pub(super) fn try_new(
        (left, left_side): (SendableRecordBatchStream, Side),
        (right, right_side): (SendableRecordBatchStream, Side),
        matching: Matching,
        schema: SchemaRef,
        memory: MemoryReservation,
    ) -> Result<Self> {
        let breaker = tie_breaker(&right.schema())?;
        let right = Right { input: right, side: right_side, breaker, next: None, ended: false };
        let (current, candidate) = (None, None);
        Ok(Self { left, side: left_side, right, matching, schema, memory, current, candidate, started: false })
    }

    /// The next batch of the answer.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.current.is_none() {
            let Some(batch) = self.left.next().await else { return Ok(None) };
            self.current = Some((self.side.prepare(batch?)?, 0));
        }
        let Some((prepared, start)) = self.current.take() else { return Ok(None) };
        let mut found = Found::default();
        let mut row = start;
        while row < prepared.rows() && found.sources.len() < SOURCES_MAX {
            if prepared.is_valid(row) {
                let (key, time) = (prepared.key(row), prepared.time(row));
                self.seek(key, time).await?;
                let matches = |right: &&Position| right.key() == key && self.matching.reaches(time, right.time());
                found.push(self.candidate.as_ref().filter(matches));
            } else {
                found.push(None);
            }
            row += 1;
        }
        let answer = self.answer(&prepared.batch.slice(start, row - start), &found)?;
        let sources = found.sources.iter().map(|source| source.prepared.size() + size_of_batch(source)).sum::<usize>();
        // Bounded by SOURCES_MAX, and there already: counted, so that others spill the sooner.
        self.memory.resize(prepared.size() + sources);
        if row < prepared.rows() {
            self.current = Some((prepared, row));
        }
        Ok(Some(answer))
    }

    /// Moves the candidate to where the match of a left row with `key` and `time` would be.
    async fn seek(&mut self, key: &[u8], time: i64) -> Result<()> {
        let matching = self.matching.clone();
        let before = |right: &Position| {
            right.key().cmp(key).then_with(|| {
                if matching.is_before(right.time(), time) {
                    std::cmp::Ordering::Less
                } else {
                    std::cmp::Ordering::Greater
                }
            }) == std::cmp::Ordering::Less
        };
        if matching.backward {
            loop {
                self.right.fill().await?;
                if !self.right.next.as_ref().is_some_and(before) {
                    return Ok(());
                }
                self.candidate = self.right.take().await?;
            }
        }
        while !self.started || self.candidate.as_ref().is_some_and(before) {
            self.started = true;
            self.candidate = self.right.take().await?;
        }
        Ok(())
    }

    fn answer(&self, left: &RecordBatch, found: &Found) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = left.columns().to_vec();
        for (column, field) in self.schema.fields().iter().skip(left.num_columns()).enumerate() {
            let null = new_null_array(field.data_type(), 1);
            let mut arrays: Vec<&dyn Array> = vec![&*null];
            for source in &found.sources {
                match source.prepared.batch.columns().get(column) {
                    Some(array) => arrays.push(&**array),
                    None => return internal_err!("no column {column} of the right side"),
                }
            }
            columns.push(interleave(&arrays, &found.rows)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn size_of_batch(source: &Source) -> usize {
    source.prepared.batch.get_array_memory_size() + source.ordered.get().map_or(0, Rows::size)
}
