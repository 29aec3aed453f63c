//! Which tables are rollups, and which segments of their sources are not in them yet.
//!
//! **Invariant:** a segment that a seal adds is *pending* for each rollup of its table from the frame that adds it to the
//! frame that adds what it did to the rollup. What a compaction adds is not: it takes no pending segment. So a row of a
//! segment is in a rollup exactly if its segment is not pending for it.
//!
//! **Invariant:** a segment that is pending stays: neither retention nor compaction takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::TableId;
use crate::model::rollup::Definition;

use super::edit::{Edit, SegmentMeta, Tier};

/// A rollup, by its own table.
#[derive(Clone, Debug)]
pub(crate) struct RollupState {
    pub(crate) definition: Arc<Definition>,
    /// Segments of the source that are not in it.
    pub(crate) pending: BTreeSet<u64>,
}

/// All rollups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rollups {
    by_table: BTreeMap<TableId, RollupState>,
    /// Of sources, the time before which retention may have dropped rows.
    rows_gone: BTreeMap<TableId, i64>,
}

impl Rollups {
    pub(crate) fn len(&self) -> usize {
        self.by_table.len()
    }

    /// The rollup that is this table.
    pub(crate) fn get(&self, table: TableId) -> Option<&RollupState> {
        self.by_table.get(&table)
    }

    /// All, with their tables.
    pub(crate) fn all(&self) -> impl Iterator<Item = (TableId, &RollupState)> {
        self.by_table.iter().map(|(table, state)| (*table, state))
    }

    /// Those of `source`.
    pub(crate) fn of(&self, source: TableId) -> impl Iterator<Item = (TableId, &RollupState)> {
        self.all().filter(move |(_, state)| state.definition.source == source)
    }

    /// Segments of `source` that some rollup lacks.
    pub(crate) fn pending_of(&self, source: TableId) -> impl Iterator<Item = u64> + '_ {
        self.of(source).flat_map(|(_, state)| state.pending.iter().copied())
    }

    /// The time before which rows of `source` may be gone.
    pub(crate) fn rows_gone_before(&self, source: TableId) -> i64 {
        self.rows_gone.get(&source).copied().unwrap_or(i64::MIN)
    }

    /// Whether a change of the source's segments is one of these.
    pub(super) fn concerns(&self, source: TableId) -> bool {
        self.of(source).next().is_some()
    }

    /// A new one, whose source has these segments. False for a table that is one, or whose source is.
    pub(super) fn add(&mut self, table: TableId, definition: Definition, segments: BTreeSet<u64>) -> bool {
        let is_new = self.get(table).is_none() && self.get(definition.source).is_none() && table != definition.source;
        if is_new {
            self.by_table.insert(table, RollupState { definition: Arc::new(definition), pending: segments });
        }
        is_new
    }

    pub(super) fn segment_added(&mut self, meta: &SegmentMeta) {
        for state in self.by_table.values_mut() {
            if state.definition.source == meta.table && meta.tier == Tier::Sealed {
                state.pending.insert(meta.id);
            }
        }
    }

    pub(super) fn segment_removed(&mut self, id: u64) {
        for state in self.by_table.values_mut() {
            state.pending.remove(&id);
        }
    }

    /// False if the table is no rollup.
    pub(super) fn rolled(&mut self, table: TableId, segment: u64) -> bool {
        self.by_table.get_mut(&table).map(|state| state.pending.remove(&segment)).is_some()
    }

    pub(super) fn rows_gone(&mut self, source: TableId, before_ns: i64) {
        let known = self.rows_gone.entry(source).or_insert(before_ns);
        *known = before_ns.max(*known);
    }

    /// Edits that make this state from nothing, behind those of all tables and `segments`.
    pub(super) fn edits<'a>(&'a self, segments: &'a BTreeMap<u64, SegmentMeta>) -> impl Iterator<Item = Edit> + 'a {
        let gone =
            self.rows_gone.iter().map(|(table, before_ns)| Edit::RowsGone { table: *table, before_ns: *before_ns });
        let rollups = self.by_table.iter().flat_map(move |(table, state)| {
            let source = state.definition.source;
            let is_rolled = move |meta: &&SegmentMeta| meta.table == source && !state.pending.contains(&meta.id);
            let rolled = segments.values().filter(is_rolled);
            let rolled = rolled.map(|meta| Edit::Rolled { table: *table, segment: meta.id });
            std::iter::once(Edit::AddRollup { table: *table, definition: (*state.definition).clone() }).chain(rolled)
        });
        rollups.chain(gone)
    }
}
