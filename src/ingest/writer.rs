//! One thread's way into one table.
//!
//! **Invariant:** a row in a table's blocks was, when it was appended, at most `lateness` older than the newest row that
//! its writer had appended to them, and at most `future_max` later than the clock. Rows beyond are for the quarantine; they
//! do not move the newest row on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::model::quarantine::Reason;
use crate::model::time::nanos_of;
use crate::model::{Appended, FieldType, TableSchema, Value};
use crate::options::Options;

use super::clock::Clock;
use super::live_block::{Cursor, LiveBlock, Refusal, Run};
use super::pool::Wanted;

/// What a writer needs of the store around it.
pub(crate) trait Home: Send + Sync {
    /// Takes a full block to be sealed, if there is one, and gives the next, which every snapshot from now on sees.
    fn rotate(
        &self,
        schema: &Arc<TableSchema>,
        full: Option<&Arc<LiveBlock>>,
        wanted: Wanted,
    ) -> Result<Arc<LiveBlock>>;
    /// Where a writer that was called aside learns why: an error if the store is closed or poisoned, else it may go on.
    fn resume(&self, block: &LiveBlock) -> Result<()>;
    /// Takes back the block of a writer that ends, for the next writer of the table to go on with.
    fn give_back(&self, block: &Arc<LiveBlock>);
    /// Series of the table so far.
    fn series_count(&self, table: &TableSchema) -> u32;
}

/// Fills live blocks of one table, one after the other, from its first row on: a writer that appends nothing holds nothing.
pub(crate) struct BlockWriter {
    home: Arc<dyn Home>,
    schema: Arc<TableSchema>,
    clock: Arc<Clock>,
    cursor: Cursor,
    limits: Limits,
    /// Ids below this are known to exist.
    series_known: u32,
    newest_ns: i64,
    pace: Pace,
}

struct Limits {
    value_bytes_max: usize,
    future_max: Duration,
    /// Times up to this are certainly not in the far future; moved on when one is not.
    certain_until_ns: i64,
    /// More than any two times are apart if the table has no such policy.
    lateness_ns: u64,
}

/// How far `time_ns` is behind `newest_ns`, which is not earlier: exact, also where 64 bits with a sign are too few.
#[inline(always)]
fn behind(newest_ns: i64, time_ns: i64) -> u64 {
    newest_ns.wrapping_sub(time_ns).cast_unsigned()
}

/// Chooses the next block's size: doubled while blocks fill within a second, halved when they last a minute.
struct Pace {
    file_bytes: u64,
    since: Instant,
    bytes_max: u64,
    heap_row_bytes: usize,
}

/// Heap bytes a row that a table's first block has room for.
const HEAP_ROW_BYTES: usize = 32;

impl Pace {
    /// From the first block on, which another writer may have left.
    fn begin(&mut self, block: &LiveBlock) {
        (self.file_bytes, self.since) = (block.mapping.len() as u64, Instant::now());
    }

    fn same(&self) -> Wanted {
        Wanted { file_bytes: self.file_bytes, heap_row_bytes: self.heap_row_bytes, heap_bytes_min: 0 }
    }

    fn next(&mut self, full: &LiveBlock, refused: Refusal) -> Wanted {
        let lasted = self.since.elapsed();
        if lasted < Duration::from_secs(1) {
            self.file_bytes = (self.file_bytes * 2).min(self.bytes_max);
        } else if lasted > Duration::from_secs(60) {
            self.file_bytes /= 2;
        }
        let mut heap_bytes_min = 0;
        if let Refusal::HeapFull(bytes) = refused {
            // Room for what a row used on average and a quarter more, and for the row that did not fit.
            self.heap_row_bytes = (full.heap_bytes() + bytes) / full.rows().max(1) * 5 / 4 + 1;
            heap_bytes_min = bytes;
        }
        self.since = Instant::now();
        Wanted { file_bytes: self.file_bytes, heap_row_bytes: self.heap_row_bytes, heap_bytes_min }
    }
}

impl BlockWriter {
    pub(crate) fn new(home: Arc<dyn Home>, schema: Arc<TableSchema>, clock: Arc<Clock>, options: &Options) -> Self {
        let pace = Pace {
            file_bytes: options.block_bytes_min,
            since: Instant::now(),
            // Eight blocks in the budget at least, so that one is filled while others are sealed.
            bytes_max: options.block_bytes_max.min(options.live_bytes_max / 8),
            heap_row_bytes: HEAP_ROW_BYTES * schema.field_types().filter(|field| field.width() == 16).count().max(1),
        };
        let limits = Limits {
            value_bytes_max: options.value_bytes_max,
            future_max: schema.policies.future_max.unwrap_or(options.future_max),
            certain_until_ns: i64::MIN,
            lateness_ns: schema.policies.lateness.map_or(u64::MAX, |lateness| nanos_of(lateness).cast_unsigned()),
        };
        let cursor = Cursor::nowhere(limits.value_bytes_max);
        Self { home, schema, clock, cursor, limits, series_known: 0, newest_ns: i64::MIN, pace }
    }

    pub(crate) fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Goes on with the table's newer version, which has more fields.
    pub(crate) fn upgrade(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        if let Some(full) = self.cursor.block() {
            let block = self.home.rotate(&schema, Some(full), self.pace.same())?;
            self.cursor = Cursor::new(block, self.limits.value_bytes_max);
        }
        self.schema = schema;
        Ok(())
    }

    /// Appends a row of plain words to a series and at a time that were seen to be fine before: the usual row, in a few
    /// instructions that the caller's loop takes in. False if anything is unusual, and nothing is appended; then
    /// [`append`](Self::append) does the whole of it.
    #[inline(always)]
    pub(crate) fn append_words(&mut self, series: u32, time_ns: i64, values: &[Value<'_>]) -> bool {
        let newest_ns = self.newest_ns.max(time_ns);
        let usual = series < self.series_known
            && time_ns <= self.limits.certain_until_ns
            && behind(newest_ns, time_ns) <= self.limits.lateness_ns;
        if !usual || !self.cursor.append_words(series, time_ns, values) {
            return false;
        }
        self.newest_ns = newest_ns;
        true
    }

    /// Appends one row of `values`, one a field, unless its time sends it to quarantine. Then the reason is given, the row
    /// is fine in all else, and it is nowhere yet.
    pub(crate) fn append(&mut self, series: u32, time_ns: i64, values: &[Value<'_>]) -> Result<Option<Reason>> {
        if series >= self.series_known {
            self.check_series(series)?;
        }
        if let Some(reason) = self.judge(time_ns, self.newest_ns) {
            return self.check_values(values).map(|()| Some(reason));
        }
        if values.len() != self.schema.fields.len() {
            return Err(self.wrong_arity(values.len()));
        }
        let clock = if self.schema.has_clock() { self.clock.read(1) } else { 0 };
        loop {
            match self.cursor.append(series, time_ns, clock, values) {
                Ok(()) => {
                    self.newest_ns = self.newest_ns.max(time_ns);
                    return Ok(None);
                }
                Err(refusal) => self.make_way(refusal)?,
            }
        }
    }

    /// Whether a row of this time belongs into quarantine, after rows up to `newest_ns`.
    #[inline]
    pub(crate) fn judge(&mut self, time_ns: i64, newest_ns: i64) -> Option<Reason> {
        if time_ns > self.limits.certain_until_ns && self.is_far_future(time_ns) {
            return Some(Reason::FarFuture);
        }
        (time_ns < newest_ns && behind(newest_ns, time_ns) > self.limits.lateness_ns).then_some(Reason::Late)
    }

    /// The latest time appended so far; the earliest there is if none was.
    pub(crate) fn newest_ns(&self) -> i64 {
        self.newest_ns
    }

    /// Rows are late as if a row of this time had been appended.
    #[cfg(feature = "feed")]
    pub(crate) fn not_older_than(&mut self, newest_ns: i64) {
        self.newest_ns = self.newest_ns.max(newest_ns);
    }

    /// The error that a row of these values deserves whatever its time is.
    #[cold]
    pub(crate) fn check_values(&mut self, values: &[Value<'_>]) -> Result<()> {
        if values.len() != self.schema.fields.len() {
            return Err(self.wrong_arity(values.len()));
        }
        let refusal =
            |(index, (field, value)): (usize, (&crate::model::Field, &Value<'_>))| match (value, field.field_type) {
                (Value::Null, _) => field.required.then_some(Refusal::Null(index)),
                (Value::Utf8(text), FieldType::Utf8) => {
                    (text.len() > self.limits.value_bytes_max).then_some(Refusal::TooLong(index))
                }
                (Value::F64(_), FieldType::F64)
                | (Value::I64(_), FieldType::I64)
                | (Value::U64(_), FieldType::U64)
                | (Value::Bool(_), FieldType::Bool)
                | (Value::Decimal(_), FieldType::Decimal { .. }) => None,
                _ => Some(Refusal::Type(index)),
            };
        let refused = self.schema.fields.iter().zip(values).enumerate().find_map(refusal);
        refused.map_or(Ok(()), |refusal| self.make_way(refusal))
    }

    /// Appends the rows of `run` from `start` on. Times and series were checked by the caller.
    pub(crate) fn append_run(&mut self, run: &Run<'_>, start: usize, appended: &mut Appended) -> Result<()> {
        let mut from = start;
        while from < run.times.len() {
            match self.cursor.append_run(run, from) {
                Ok(rows) => {
                    let newest = run.times.iter().skip(from).take(rows).max();
                    self.newest_ns = newest.map_or(self.newest_ns, |newest| self.newest_ns.max(*newest));
                    appended.accept(rows as u64);
                    from += rows;
                }
                Err(refusal) => self.make_way(refusal)?,
            }
        }
        Ok(())
    }

    /// The first of `rows` clock readings, for a run.
    pub(crate) fn clocks(&self, rows: usize) -> Vec<u64> {
        if !self.schema.has_clock() || rows == 0 {
            return Vec::new();
        }
        let first = self.clock.read(rows as u64);
        (first..first + rows as u64).collect()
    }

    #[cold]
    pub(crate) fn check_series(&mut self, series: u32) -> Result<()> {
        self.series_known = self.home.series_count(&self.schema);
        if series < self.series_known {
            return Ok(());
        }
        Err(Error::UnknownSeries { table: self.schema.name.clone(), series })
    }

    /// Whether a time that was not certain before is in the far future as the clock says now.
    #[cold]
    fn is_far_future(&mut self, time_ns: i64) -> bool {
        self.limits.certain_until_ns = self.clock.now().saturating_add(self.limits.future_max).as_nanos();
        time_ns > self.limits.certain_until_ns
    }

    #[cold]
    fn wrong_arity(&self, found: usize) -> Error {
        let expected = self.schema.fields.len();
        Error::WrongArity { table: self.schema.name.clone(), what: "fields", expected, found }
    }

    /// After a refusal: a new block, or permission to go on, or the error that the row deserves.
    #[cold]
    fn make_way(&mut self, refusal: Refusal) -> Result<()> {
        let field = |index: usize| self.schema.fields.get(index);
        let table = || self.schema.name.clone();
        match refusal {
            Refusal::Full | Refusal::HeapFull(_) => {
                let full = self.cursor.block();
                let wanted = match full {
                    Some(block) if refusal == Refusal::Full && self.cursor.is_called_aside() => {
                        return self.home.resume(block);
                    }
                    Some(full) => self.pace.next(full, refusal),
                    None => self.pace.same(),
                };
                let block = self.home.rotate(&self.schema, full, wanted)?;
                if full.is_none() {
                    self.pace.begin(&block);
                }
                self.cursor = Cursor::new(block, self.limits.value_bytes_max);
                Ok(())
            }
            Refusal::Type(index) => Err(match field(index) {
                Some(field) => self.schema.type_conflict(field, "a value of another type"),
                None => Error::batch(&table(), "a value without a field"),
            }),
            Refusal::TooLong(index) => Err(Error::LimitExceeded {
                limit: "value_bytes_max",
                max: self.limits.value_bytes_max as u64,
                found: self.limits.value_bytes_max as u64 + 1,
                place: format!(
                    "table {:?}, field {:?}",
                    self.schema.name,
                    field(index).map_or("", |field| &field.name)
                ),
            }),
            Refusal::Null(index) => Err(Error::MissingField {
                table: table(),
                field: field(index).map_or_else(String::new, |field| field.name.clone()),
                row: 0,
            }),
        }
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        self.cursor.block().into_iter().for_each(|block| self.home.give_back(block));
    }
}
