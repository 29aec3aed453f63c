//! One thread's way into one table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::model::time::nanos_of;
use crate::model::{Appended, TableSchema, Value, now};
use crate::options::Options;

use super::clock::HybridClock;
use super::live_block::{Cursor, LiveBlock, Refusal, Run};
use super::pool::Wanted;

/// What a writer needs of the store around it.
pub(crate) trait Home: Send + Sync {
    /// Takes a full block to be sealed and gives the next one, which every snapshot from now on sees.
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

/// Fills live blocks of one table, one after the other.
pub(crate) struct BlockWriter {
    home: Arc<dyn Home>,
    schema: Arc<TableSchema>,
    clock: Arc<HybridClock>,
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
    lateness_ns: i64,
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
    pub(crate) fn new(
        home: Arc<dyn Home>,
        schema: Arc<TableSchema>,
        clock: Arc<HybridClock>,
        options: &Options,
    ) -> Result<Self> {
        let mut pace = Pace {
            file_bytes: options.block_bytes_min,
            since: Instant::now(),
            // Eight blocks in the budget at least, so that one is filled while others are sealed.
            bytes_max: options.block_bytes_max.min(options.live_bytes_max / 8),
            heap_row_bytes: HEAP_ROW_BYTES * schema.field_types().filter(|field| field.width() == 16).count().max(1),
        };
        let wanted = Wanted { file_bytes: pace.file_bytes, heap_row_bytes: pace.heap_row_bytes, heap_bytes_min: 0 };
        let block = home.rotate(&schema, None, wanted)?;
        pace.file_bytes = block.mapping.len() as u64;
        let limits = Limits {
            value_bytes_max: options.value_bytes_max,
            future_max: schema.policies.future_max.unwrap_or(options.future_max),
            certain_until_ns: i64::MIN,
            lateness_ns: schema.policies.lateness.map_or(i64::MAX, nanos_of),
        };
        let cursor = Cursor::new(block, limits.value_bytes_max);
        Ok(Self { home, schema, clock, cursor, limits, series_known: 0, newest_ns: i64::MIN, pace })
    }

    pub(crate) fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Goes on with the table's newer version, which has more fields.
    pub(crate) fn upgrade(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        let wanted =
            Wanted { file_bytes: self.pace.file_bytes, heap_row_bytes: self.pace.heap_row_bytes, heap_bytes_min: 0 };
        let block = self.home.rotate(&schema, Some(self.cursor.block()), wanted)?;
        self.cursor = Cursor::new(block, self.limits.value_bytes_max);
        self.schema = schema;
        Ok(())
    }

    /// Appends a row of plain words to a series and at a time that were seen to be fine before, and says whether it is
    /// late: the usual row, in a few instructions that the caller's loop takes in. `None` if anything is unusual; then
    /// [`append`](Self::append) does the whole of it.
    #[inline(always)]
    pub(crate) fn append_words(&mut self, series: u32, time_ns: i64, values: &[Value<'_>]) -> Option<bool> {
        let usual = series < self.series_known && time_ns <= self.limits.certain_until_ns;
        if usual && self.cursor.append_words(series, time_ns, values) { Some(self.note(time_ns)) } else { None }
    }

    /// Appends one row of `values`, one a field, and says whether it is late.
    pub(crate) fn append(&mut self, series: u32, time_ns: i64, values: &[Value<'_>]) -> Result<bool> {
        if series >= self.series_known {
            self.check_series(series)?;
        }
        if values.len() != self.cursor.fields() {
            return Err(self.wrong_arity(values.len()));
        }
        if time_ns > self.limits.certain_until_ns {
            self.check_future(time_ns)?;
        }
        let clock = if self.cursor.has_clock() { self.clock.read(1) } else { 0 };
        loop {
            match self.cursor.append(series, time_ns, clock, values) {
                Ok(()) => return Ok(self.note(time_ns)),
                Err(refusal) => self.make_way(refusal)?,
            }
        }
    }

    /// Appends the rows of `run` from `start` on. Times and series were checked by the caller.
    pub(crate) fn append_run(&mut self, run: &Run<'_>, start: usize, appended: &mut Appended) -> Result<()> {
        let mut from = start;
        while from < run.times.len() {
            match self.cursor.append_run(run, from) {
                Ok(rows) => {
                    let times = run.times.iter().skip(from).take(rows);
                    let late = times.map(|time| u64::from(self.note(*time))).sum();
                    appended.accept(rows as u64, late);
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

    /// Whether a row of this time is late, having noted it.
    #[inline(always)]
    fn note(&mut self, time_ns: i64) -> bool {
        if time_ns >= self.newest_ns {
            self.newest_ns = time_ns;
            return false;
        }
        self.newest_ns.saturating_sub(time_ns) > self.limits.lateness_ns
    }

    #[cold]
    pub(crate) fn check_series(&mut self, series: u32) -> Result<()> {
        self.series_known = self.home.series_count(&self.schema);
        if series < self.series_known {
            return Ok(());
        }
        Err(Error::UnknownSeries { table: self.schema.name.clone(), series })
    }

    #[cold]
    pub(crate) fn check_future(&mut self, time_ns: i64) -> Result<()> {
        if time_ns <= self.limits.certain_until_ns {
            return Ok(());
        }
        self.limits.certain_until_ns = now().saturating_add(self.limits.future_max).as_nanos();
        if time_ns <= self.limits.certain_until_ns {
            return Ok(());
        }
        let future_max = self.limits.future_max;
        Err(Error::FarFuture { table: self.schema.name.clone(), time_ns, future_max })
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
            Refusal::Full if self.cursor.block().rows() < self.cursor.block().layout.capacity => {
                self.home.resume(self.cursor.block())
            }
            Refusal::Full | Refusal::HeapFull(_) => {
                let full = self.cursor.block().clone();
                let wanted = self.pace.next(&full, refusal);
                let block = self.home.rotate(&self.schema, Some(&full), wanted)?;
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
        self.home.give_back(self.cursor.block());
    }
}
