//! Where the latest row of each series is: a table beside each table that is caught up when somebody asks.
//!
//! An append knows nothing of it. For live blocks it keeps how many rows of each it has seen, and looks at those since.
//! For segments it keeps what their series indexes say, and which segments those were. Values of rows in segments, once
//! they were read, stay; those of live rows are read where they are.
//!
//! **Invariant:** it holds no handle of a block or of a segment, only their numbers, so that it keeps no file.
//!
//! **Invariant:** what it answers is of the moment of the view it is given. It may have been caught up with a later one
//! before: what it has of a block or of segments that is not this view's, it makes again.
//!
//! All tables together hold `last_bytes_max`; one that alone needs more is not kept, and its queries read their rows. So do
//! those whose values need more: reading values ends where there is no room for them. While values that were read are put
//! beside those that were there, a column is there twice.

pub(crate) mod sealed;

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use self::sealed::Sealed;
use super::{LiveRange, TableView};
use crate::error::{Error, Result};
use crate::model::TableId;

/// The option that bounds all of it.
const LIMIT: &str = "last_bytes_max";

/// The last-value tables of a store.
#[derive(Debug)]
pub(crate) struct LastTables {
    bytes_max: usize,
    tables: Mutex<HashMap<TableId, Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    table: Arc<Mutex<LastTable>>,
    bytes: usize,
}

/// Where a row is, by numbers of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Segment { number: usize, row: u64 },
    Live { number: usize, row: u32 },
}

/// A series' latest row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) time: i64,
    pub(crate) place: Place,
    /// Whether it was seen that other rows of the series have the same time.
    pub(crate) tied: bool,
}

impl LastTables {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, tables: Mutex::default() }
    }

    /// What `look` finds in the table that was caught up with `view`; `None` if that would hold too much.
    pub(crate) fn with<T>(
        &self,
        view: &TableView,
        look: impl FnOnce(&mut LastTable, &TableView) -> Result<T>,
    ) -> Result<Option<T>> {
        let id = view.schema.id;
        let table = {
            let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.entry(id).or_default().table.clone()
        };
        let (looked, bytes) = {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            let looked = if LastTable::bytes_of(view) > self.bytes_max {
                *table = LastTable::default();
                Ok(None)
            } else {
                table.bytes_max = self.bytes_max;
                table.catch_up(view)?;
                look(&mut table, view).map(Some)
            };
            if table.bytes() > self.bytes_max {
                table.sealed.forget_values();
            }
            (looked, table.bytes())
        };
        self.make_room(id, bytes);
        match looked {
            Err(Error::LimitExceeded { limit: LIMIT, .. }) => Ok(None),
            looked => looked,
        }
    }

    /// Notes how much the table of `id` holds, and lets go of others until all fit.
    fn make_room(&self, id: TableId, bytes: usize) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = tables.get_mut(&id) {
            kept.bytes = bytes;
        }
        let mut all: usize = tables.values().map(|kept| kept.bytes).sum();
        while all > self.bytes_max
            && let Some((other, held)) = tables
                .iter()
                .filter(|(other, _)| **other != id)
                .map(|(other, kept)| (*other, kept.bytes))
                .max_by_key(|kept| kept.1)
        {
            tables.remove(&other);
            all -= held;
        }
    }
}

/// The latest rows of one table.
#[derive(Debug, Default)]
pub(crate) struct LastTable {
    sealed: Sealed,
    live: Vec<Block>,
    bytes_max: usize,
}

/// The latest rows of the live range of one block.
#[derive(Debug)]
struct Block {
    /// Number, life, and first row of the range.
    key: (u64, u64, usize),
    /// Rows of the range that were looked at.
    seen: usize,
    /// By series.
    rows: Vec<LiveRow>,
}

#[derive(Clone, Copy, Debug)]
struct LiveRow {
    time: i64,
    clock: u64,
    /// [`NO_ROW`] if there is none.
    row: u32,
    tied: bool,
}

const NO_ROW: u32 = u32::MAX;

impl LastTable {
    /// About what it needs for `view`, values apart.
    pub(crate) fn bytes_of(view: &TableView) -> usize {
        view.series.len().saturating_mul(sealed::ENTRY_BYTES + view.live.len() * size_of::<LiveRow>())
    }

    fn bytes(&self) -> usize {
        self.live_bytes() + self.sealed.bytes()
    }

    fn live_bytes(&self) -> usize {
        self.live.iter().map(|block| block.rows.capacity() * size_of::<LiveRow>()).sum()
    }

    fn catch_up(&mut self, view: &TableView) -> Result<()> {
        self.sealed.catch_up(view)?;
        let mut before = std::mem::take(&mut self.live);
        for range in &view.live {
            let key = (range.block_id(), range.generation(), range.sealed_rows());
            let known = before.iter().position(|block| block.key == key && block.seen <= range.rows());
            let fresh = || Block { key, seen: 0, rows: Vec::new() };
            let mut block = known.map_or_else(fresh, |at| before.swap_remove(at));
            block.catch_up(range, view.series.len());
            self.live.push(block);
        }
        Ok(())
    }

    /// The latest row of a series.
    pub(crate) fn find(&self, view: &TableView, series: u32) -> Result<Option<Found>> {
        let has_clock = view.schema.has_clock();
        let mut found = self.sealed.find(series);
        // Of the row found so far. A sealed one's is read when it is needed, which is for two rows of one time.
        let mut clock: Option<u64> = None;
        for (number, block) in self.live.iter().enumerate() {
            let Some(row) = block.rows.get(series as usize).filter(|row| row.row != NO_ROW) else { continue };
            let place = Place::Live { number, row: row.row };
            let mut here = Found { time: row.time, place, tied: row.tied };
            match &mut found {
                Some(held) if held.time > here.time => continue,
                Some(held) if held.time == here.time => {
                    held.tied = true;
                    here.tied = true;
                    if has_clock {
                        let known = match (clock, held.place) {
                            (Some(clock), _) => clock,
                            (None, Place::Segment { number, row }) => sealed::clock(view, number, row)?,
                            (None, Place::Live { .. }) => 0,
                        };
                        if known > row.clock {
                            clock = Some(known);
                            continue;
                        }
                    }
                }
                _ => {}
            }
            found = Some(here);
            clock = Some(row.clock);
        }
        Ok(found)
    }

    /// Values of the latest rows in segments of `series`, which have one there, for `columns` of a segment, in that order.
    ///
    /// # Errors
    /// [`LimitExceeded`](Error::LimitExceeded) if there is no room for them, which [`LastTables::with`] makes `None` of.
    pub(crate) fn sealed_values(
        &mut self,
        view: &TableView,
        columns: &[usize],
        series: &[u32],
    ) -> Result<Vec<arrow::array::ArrayRef>> {
        let room = self.bytes_max.saturating_sub(self.live_bytes() + self.sealed.bytes_without_values());
        self.sealed.values(view, columns, series, room)
    }

    /// Whether the row before the latest one in its segment has the same time and is of the same series, for each of
    /// `series`, which have one there.
    pub(crate) fn sealed_ties(&mut self, view: &TableView, series: &[u32]) -> Result<Vec<bool>> {
        self.sealed.ties(view, series)
    }
}

impl Block {
    /// Looks at the rows that came since.
    fn catch_up(&mut self, range: &LiveRange, series_count: usize) {
        if self.seen == range.rows() {
            return;
        }
        const NONE: LiveRow = LiveRow { time: i64::MIN, clock: 0, row: NO_ROW, tied: false };
        if self.rows.len() < series_count {
            self.rows.resize(series_count, NONE);
        }
        let (times, series, clocks) = (range.times(), range.series_ids(), range.clocks());
        let rows = times.iter().zip(&series).enumerate().skip(self.seen);
        for (row, (time, series)) in rows {
            let Some(held) = self.rows.get_mut(*series as usize) else { continue };
            if held.row != NO_ROW && held.time > *time {
                continue;
            }
            let clock = clocks.as_ref().and_then(|clocks| clocks.get(row)).copied().unwrap_or_default();
            let tied = held.row != NO_ROW && held.time == *time;
            if tied && clock < held.clock {
                held.tied = true;
                continue;
            }
            *held = LiveRow { time: *time, clock, row: u32::try_from(row).unwrap_or(NO_ROW), tied };
        }
        self.seen = range.rows();
    }
}
