//! Retention: whole partitions leave when all their rows are older than the table keeps.
//!
//! **Invariant (last write):** a partition is not dropped while rows of its time are elsewhere, in an overlap segment or a
//! live block: one of them may have been overwritten by a row of the partition, and would show again.
//!
//! **Invariant (rollups):** a segment that a rollup lacks is not dropped, unless it is damaged and set aside; and the frame that drops others of its table says
//! before which time rows may be gone: from there on a rollup is all that is known of them.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::error::{Error, Result};
use crate::model::TableId;
use crate::model::time::nanos_of;
use crate::snapshot::{Segment, TableState};
use crate::storage::edit::Edit;
use crate::storage::rollups::Rollups;

use super::core::Core;
use super::partition::start;
use super::tiers::home;

impl Core {
    /// Drops what no table keeps any more, if anything can be due. Gives the number of segments.
    pub(crate) fn retain(&self) -> Result<usize> {
        let now_ns = self.clock.now().as_nanos();
        let due = self.upkeep.retention_due();
        if now_ns < due.at_ns {
            return Ok(0);
        }
        let (mut dropped, mut next) = (0, i64::MAX);
        let tables: Vec<TableId> = self.view.load().tables.keys().copied().collect();
        for table in tables {
            let (segments, at) = self.retain_table(table, now_ns)?;
            dropped += segments;
            next = next.min(at);
        }
        self.upkeep.set_retention_due(due, next);
        Ok(dropped)
    }

    /// As [`retain`](Self::retain), of one table; and when its next partition is due.
    fn retain_table(&self, table: TableId, now_ns: i64) -> Result<(usize, i64)> {
        // Chosen under the lock, so that a seal or a compaction does not add rows of a partition that goes.
        let mut changing = self.view.lock();
        if self.upkeep.pace.is_stopped() {
            return Err(Error::Closed);
        }
        let view = changing.view();
        let Some(state) = view.tables.get(&table) else { return Ok((0, i64::MAX)) };
        let (gone, next) = expired(state, &view.rollups, now_ns);
        let Some(before_ns) = gone.iter().map(|segment| partition_end(segment, state)).max() else {
            return Ok((0, next));
        };
        let mut edits: Vec<Edit> = gone.iter().map(|segment| Edit::RemoveSegment { id: segment.meta.id }).collect();
        if view.rollups.of(table).next().is_some() {
            edits.push(Edit::RowsGone { table, before_ns });
        }
        self.commit_in(&mut changing, edits, |view| {
            let Some(table) = view.table_mut(table) else { return };
            let is_gone = |segment: &Arc<Segment>| gone.iter().any(|gone| Arc::ptr_eq(gone, segment));
            Arc::make_mut(&mut table.segments).retain(|segment| !is_gone(segment));
            Arc::make_mut(&mut table.aside.segments).retain(|segment| !is_gone(segment));
        })?;
        drop((changing, view));
        self.counters.retired_segments.add(gone.len() as u64);
        self.counters.retired_rows.add(gone.iter().map(|segment| segment.meta.rows).sum());
        let count = gone.len();
        self.release_segments(gone);
        Ok((count, next))
    }
}

/// The segments that `table` need not keep at `now_ns`, and when the next ones are due.
fn expired(table: &TableState, rollups: &Rollups, now_ns: i64) -> (Vec<Arc<Segment>>, i64) {
    let retention = table.schema.policies.retention;
    let (Some(retention), Some(width_ns)) = (retention, table.partition_ns.filter(|width| *width > 0)) else {
        return (Vec::new(), i64::MAX);
    };
    let (mut gone, mut next) = (Vec::new(), i64::MAX);
    let pending: HashSet<u64> = rollups.pending_of(table.schema.id).collect();
    // Those that are aside as well: nobody would miss what else would be an error for ever.
    let read = table.segments.iter().map(|segment| (segment, pending.contains(&segment.meta.id)));
    for (segment, is_pending) in read.chain(table.aside.segments.iter().map(|segment| (segment, false))) {
        let end_ns = partition_end(segment, table);
        let due = end_ns.saturating_add(nanos_of(retention));
        if due > now_ns {
            next = next.min(due);
        } else if is_pending || is_awaited(table, segment, width_ns) {
            // A seal, a split or a step of rolling up sets it off again.
        } else {
            gone.push(segment.clone());
        }
    }
    (gone, next)
}

/// The end of the partition that a segment's last row is in.
fn partition_end(segment: &Segment, table: &TableState) -> i64 {
    let width_ns = table.partition_ns.filter(|width| *width > 0).unwrap_or(1);
    start(segment.meta.max_time, width_ns).saturating_add(width_ns)
}

/// Whether a row that `segment` overwrote may be in an overlap segment or a live block.
fn is_awaited(table: &TableState, segment: &Arc<Segment>, width_ns: i64) -> bool {
    if !table.schema.has_clock() {
        return false;
    }
    let (min, max) = (segment.meta.min_time, segment.meta.max_time);
    let meets = |(other_min, other_max): (i64, i64)| other_min <= max && min <= other_max;
    // One that is aside may come back.
    let all = table.segments.iter().chain(table.aside.segments.iter());
    let overlaps = all.filter(|other| home(&other.meta, width_ns).is_none());
    let live = table.blocks.iter().filter_map(|view| view.block.time_bounds(view.sealed_rows..view.block.rows()));
    overlaps.filter(|other| !Arc::ptr_eq(other, segment)).any(|other| meets((other.meta.min_time, other.meta.max_time)))
        || live.into_iter().any(meets)
}
