//! The read view: the manifest's segments plus a range of each live block, at one moment of the whole store.
//!
//! **Invariant:** a row is in exactly one place of a snapshot. The view that says where is replaced as a whole, by one
//! pointer: a seal that adds segments takes their rows out of the block's range in the same step.
//!
//! **Invariant:** a snapshot begun after an append returned has its row. A block is in the view before its first row is
//! published; the view is loaded before the counts.
//!
//! **Invariant (one moment):** if a snapshot has a row, it has every row whose append returned before that row's began. See
//! [`cut`].

#![cfg_attr(not(feature = "sql"), allow(dead_code, reason = "only SQL looks so closely"))]

pub(crate) mod aside;
pub(crate) mod copying;
pub(crate) mod cut;
pub(crate) mod follower;
pub(crate) mod inputs;
pub(crate) mod last;
pub(crate) mod live_range;
pub(crate) mod merge;
pub(crate) mod overlap;
pub(crate) mod scan;
pub(crate) mod sort;
pub(crate) mod stint;
pub(crate) mod view;

use std::sync::Arc;

use crate::model::{TableSchema, names};
use crate::storage::pin::HeldPin;
use crate::storage::rollups::Rollups;
pub(crate) use crate::storage::segment::Segment;
pub(crate) use crate::storage::series_view::SeriesView;

pub(crate) use aside::Aside;
pub(crate) use live_range::LiveRange;
pub(crate) use view::{BlockView, TableState, View, ViewCell};

/// One moment of the whole store.
#[derive(Debug)]
pub(crate) struct Snapshot {
    tables: Vec<Arc<TableView>>,
    rollups: Arc<Rollups>,
    _pin: Option<Arc<HeldPin>>,
}

/// One table in a snapshot.
#[derive(Debug)]
pub(crate) struct TableView {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) series: SeriesView,
    pub(crate) live: Vec<LiveRange>,
    pub(crate) segments: Arc<Vec<Arc<Segment>>>,
    /// Damaged ones, which are not read.
    pub(crate) aside: Aside,
    pub(crate) partition_ns: Option<i64>,
}

impl TableView {
    /// A table without rows.
    pub(crate) fn empty(schema: Arc<TableSchema>) -> Self {
        let (series, segments, aside) = (SeriesView::default(), Arc::default(), Aside::default());
        Self { schema, series, live: Vec::new(), segments, aside, partition_ns: None }
    }
}

impl Snapshot {
    /// Reads the counts of `view` as one moment.
    pub(crate) fn take(view: &ViewCell, gate: &cut::Gate) -> Arc<Self> {
        let (view, rows) = cut::take(view, gate);
        Self::of(&view, rows, None)
    }

    /// As [`take`](Self::take), with the view and the published rows of each of its blocks.
    pub(crate) fn take_with_view(view: &ViewCell, gate: &cut::Gate) -> (Arc<Self>, Arc<View>, Vec<usize>) {
        let (view, rows) = cut::take(view, gate);
        (Self::of(&view, rows.clone(), None), view, rows)
    }

    /// What `view` says, with so many rows of each of its blocks. `pin` keeps its files.
    fn of(view: &View, rows: Vec<usize>, pin: Option<Arc<HeldPin>>) -> Arc<Self> {
        let mut rows = rows.into_iter();
        let table = |state: &Arc<TableState>| {
            let live = state.blocks.iter().zip(&mut rows).map(|(block, rows)| LiveRange::new(block, rows));
            Arc::new(TableView {
                schema: state.schema.clone(),
                live: live.filter(|range| range.rows() > 0).collect(),
                segments: state.segments.clone(),
                aside: state.aside.clone(),
                partition_ns: state.partition_ns,
                // After the counts: every series of a counted row is there.
                series: state.series.view(),
            })
        };
        let mut tables: Vec<_> = view.tables.values().map(table).collect();
        tables.sort_by(|a, b| a.schema.name.cmp(&b.schema.name));
        Arc::new(Self { tables, rollups: view.rollups.clone(), _pin: pin })
    }

    /// Of no tables.
    pub(crate) fn none() -> Self {
        Self { tables: Vec::new(), rollups: Arc::default(), _pin: None }
    }

    /// The tables that users declared, by name.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<TableView>> {
        self.tables.iter().filter(|table| !names::is_hidden(&table.schema.name))
    }

    /// All tables, also the store's own.
    pub(crate) fn all_tables(&self) -> &[Arc<TableView>] {
        &self.tables
    }

    /// Which of the tables are rollups, and how far they are.
    pub(crate) fn rollups(&self) -> &Rollups {
        &self.rollups
    }

    /// The table of that number.
    pub(crate) fn numbered(&self, id: crate::model::TableId) -> Option<&Arc<TableView>> {
        self.tables.iter().find(|table| table.schema.id == id)
    }

    /// The table of that name.
    pub(crate) fn table(&self, name: &str) -> Option<&Arc<TableView>> {
        let at = self.tables.binary_search_by(|table| table.schema.name.as_str().cmp(name)).ok()?;
        self.tables.get(at)
    }
}
