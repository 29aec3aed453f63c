//! Mending what can be mended, and setting aside what cannot.
//!
//! A segment goes aside by one edit of the manifest, and its files move to `aside/` after that. It comes back the other way
//! round: the files first, then the edit. So a crash in between leaves a segment that is aside, with its files on either side
//! of the move, and the next open finishes it.
//!
//! **Invariant:** only a segment that the manifest's own checksum proves whole is ever read again.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::error::Result;
use crate::fs::{self, FileSystem};
use crate::maintain::core::Core;
use crate::model::Time;
use crate::snapshot::{Segment, TableState};
use crate::storage::edit::Edit;
use crate::storage::places::{aside_dir, segments_dir};
use crate::storage::segment_writer::{index_path, parquet_path};

use super::progress::Report;
use super::verify::{Damage, Verification};

/// What [`Store::repair`](crate::Store::repair) found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// What verifying found before.
    pub found: Verification,
    /// What was done.
    pub mended: Vec<Mended>,
    /// What it can do nothing about: restore these from a backup.
    pub left: Vec<Damage>,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mended {
    /// What.
    pub how: Mending,
    /// The table.
    pub table: String,
    /// Its segment.
    pub segment: u64,
    /// Rows in it.
    pub rows: u64,
    /// Their earliest and latest time.
    pub time: (Time, Time),
}

/// What can be done for a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mending {
    /// Its series index was made again from its rows, and proved to be the one that was lost.
    IndexRebuilt,
    /// It cannot be read; queries over its range say so.
    SetAside,
    /// It was aside, its files are whole again, and it is read again.
    TakenBack,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mended.is_empty() && self.left.is_empty() {
            return write!(f, "nothing to mend");
        }
        write!(f, "{} mended, {} left", self.mended.len(), self.left.len())?;
        self.mended.iter().try_for_each(|mended| write!(f, "\n{mended}"))?;
        self.left.iter().try_for_each(|damage| write!(f, "\nleft: {damage}"))
    }
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { how, table, segment, rows, time: (first, last) } = self;
        let how = match how {
            Mending::IndexRebuilt => "series index made again",
            Mending::SetAside => "set aside",
            Mending::TakenBack => "taken back",
        };
        write!(f, "segment {segment} of table {table:?}, {rows} rows between {first} and {last}: {how}")
    }
}

/// A segment and its table.
type Of = (Arc<TableState>, Arc<Segment>);

impl Core {
    /// Verifies, then mends.
    pub(crate) fn repair<'a>(&self, report: &'a mut Report<'a>) -> Result<Repair> {
        let found = self.verify(report)?;
        let mut mended = Vec::new();
        for (table, segment) in self.segments_where(|table| &table.aside.segments) {
            if self.take_back(&table, &segment)? {
                mended.push(told(Mending::TakenBack, &table, &segment));
            }
        }
        let segments = |of: fn(&Damage) -> bool| -> BTreeSet<u64> {
            found.damages.iter().filter(|damage| of(damage)).filter_map(|damage| damage.segment).collect()
        };
        let (damaged, unreadable) = (segments(|_| true), segments(|damage| damage.rows > 0));
        let mut unmended = BTreeSet::new();
        // What compaction or retention has replaced since is of no interest any more.
        for (table, segment) in self.segments_where(|table| &table.segments) {
            if !damaged.contains(&segment.meta.id) {
                continue;
            }
            let how = if self.mend_index(&table, &segment)? { Mending::IndexRebuilt } else { Mending::SetAside };
            if how == Mending::SetAside && !unreadable.contains(&segment.meta.id) {
                // Only its summary is damaged: all rows are there, and a compaction makes another.
                unmended.insert(segment.meta.id);
                continue;
            }
            if how == Mending::SetAside {
                self.set_aside(&table, &segment)?;
            }
            mended.push(told(how, &table, &segment));
        }
        if !mended.is_empty() {
            // What could not be merged before may be fit for it now.
            self.upkeep.unfit.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.upkeep.segments_changed();
        }
        let is_left = |damage: &&Damage| damage.segment.is_none_or(|segment| unmended.contains(&segment));
        let left = found.damages.iter().filter(is_left).cloned().collect();
        self.counters
            .segments_set_aside
            .add(mended.iter().filter(|mended| mended.how == Mending::SetAside).count() as u64);
        Ok(Repair { found, mended, left })
    }

    fn segments_where(&self, which: impl Fn(&TableState) -> &Arc<Vec<Arc<Segment>>>) -> Vec<Of> {
        let view = self.view.load();
        let of = |table: &Arc<TableState>| {
            which(table).iter().map(|segment| (table.clone(), segment.clone())).collect::<Vec<_>>()
        };
        view.tables.values().flat_map(of).collect()
    }

    /// Makes the series index again if all that is wrong is that it is damaged. True if the segment is whole after that.
    fn mend_index(&self, table: &TableState, segment: &Segment) -> Result<bool> {
        let Ok(index) = segment.rebuilt_index(&table.schema, &table.series) else { return Ok(false) };
        let path = segment.index_path();
        let damaged = self.fs.open(path)?.map(|file| fs::read_all(&*file)).transpose()?;
        let publish = |bytes: &[u8]| -> Result<()> {
            fs::publish(&*self.fs, path, bytes).map_err(|error| self.poison_if_sync(error))?;
            self.cache.remove(segment.meta.id);
            Ok(())
        };
        publish(&index)?;
        if segment.check(&table.schema, &table.series, &mut |_| Ok(()))?.is_empty() {
            return Ok(true);
        }
        // More is wrong. What is set aside, or was, is kept as it was found.
        damaged.map_or(Ok(()), |damaged| publish(&damaged))?;
        Ok(false)
    }

    fn set_aside(&self, table: &TableState, segment: &Arc<Segment>) -> Result<()> {
        let (id, table) = (segment.meta.id, table.schema.id);
        let aside = aside_dir(&self.path);
        self.fs.create_dir(&aside).map_err(|error| self.poison_if_sync(error))?;
        let moved = Segment::new(segment.meta.clone(), self.fs.clone(), &aside, self.cache.clone());
        let gone = self.commit(
            |view| {
                let here = view.tables.get(&table).is_some_and(|table| has(&table.segments, id));
                if here { vec![Edit::SetAside { segment: id, aside: true }] } else { Vec::new() }
            },
            |view| {
                let Some(table) = view.table_mut(table).filter(|table| has(&table.segments, id)) else { return false };
                Arc::make_mut(&mut table.segments).retain(|segment| segment.meta.id != id);
                Arc::make_mut(&mut table.aside.segments).push(Arc::new(moved));
                true
            },
        )?;
        if gone {
            self.cache.remove(id);
            move_files(&*self.fs, &segments_dir(&self.path), &aside, id).map_err(|error| self.poison_if_sync(error))?;
        }
        Ok(())
    }

    /// Reads a segment again that was aside, if its files prove whole by now: somebody restored them.
    fn take_back(&self, table: &TableState, segment: &Arc<Segment>) -> Result<bool> {
        if !segment.check(&table.schema, &table.series, &mut |_| Ok(()))?.is_empty()
            && !self.mend_index(table, segment)?
        {
            return Ok(false);
        }
        let (id, table) = (segment.meta.id, table.schema.id);
        let segments = segments_dir(&self.path);
        move_files(&*self.fs, &aside_dir(&self.path), &segments, id).map_err(|error| self.poison_if_sync(error))?;
        let moved = Segment::new(segment.meta.clone(), self.fs.clone(), &segments, self.cache.clone());
        let back = self.commit(
            |view| {
                let aside = view.tables.get(&table).is_some_and(|table| has(&table.aside.segments, id));
                if aside { vec![Edit::SetAside { segment: id, aside: false }] } else { Vec::new() }
            },
            |view| {
                let table = view.table_mut(table).filter(|table| has(&table.aside.segments, id));
                let Some(table) = table else { return false };
                Arc::make_mut(&mut table.aside.segments).retain(|segment| segment.meta.id != id);
                Arc::make_mut(&mut table.segments).push(Arc::new(moved));
                true
            },
        )?;
        if !back {
            // The manifest has forgotten it meanwhile, and nobody else knows where its files are now.
            for path in [parquet_path, index_path] {
                self.fs.remove(&path(&segments, id))?;
            }
        }
        Ok(back)
    }
}

fn has(segments: &[Arc<Segment>], id: u64) -> bool {
    segments.iter().any(|segment| segment.meta.id == id)
}

fn told(how: Mending, table: &TableState, segment: &Segment) -> Mended {
    let meta = &segment.meta;
    let time = (Time::from_nanos(meta.min_time), Time::from_nanos(meta.max_time));
    Mended { how, table: table.schema.name.clone(), segment: meta.id, rows: meta.rows, time }
}

/// Moves a segment's files, those that are there, and makes that durable: first where they are now.
pub(crate) fn move_files(fs: &dyn FileSystem, from: &Path, to: &Path, id: u64) -> Result<()> {
    for path in [parquet_path, index_path] {
        if fs.open(&path(from, id))?.is_some() {
            fs.rename(&path(from, id), &path(to, id))?;
        }
    }
    fs.sync_dir(to)?;
    fs.sync_dir(from)
}
