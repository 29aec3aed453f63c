//! Where every row is: the one pointer that a snapshot starts from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::ingest::live_block::LiveBlock;
use crate::model::{TableId, TableSchema};
use crate::storage::rollups::Rollups;
use crate::storage::segment::Segment;
use crate::storage::series_table::SeriesTable;

use super::aside::Aside;
use super::stint::Stints;

/// All tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) tables: BTreeMap<TableId, Arc<TableState>>,
    /// As the manifest has them.
    pub(crate) rollups: Arc<Rollups>,
}

/// One table.
#[derive(Clone, Debug)]
pub(crate) struct TableState {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) series: Arc<SeriesTable>,
    pub(crate) partition_ns: Option<i64>,
    pub(crate) segments: Arc<Vec<Arc<Segment>>>,
    pub(crate) aside: Aside,
    pub(crate) blocks: Vec<BlockView>,
    /// The last number of a beginning or an end of a stint.
    pub(crate) stints: u64,
}

/// One live block of a table.
#[derive(Clone, Debug)]
pub(crate) struct BlockView {
    pub(crate) block: Arc<LiveBlock>,
    /// Rows from its start that are in segments.
    pub(crate) sealed_rows: usize,
    /// Whose turn it is to add rows, or whether none will come.
    pub(crate) stage: Stage,
    /// Whose rows it has that may not be durable.
    pub(crate) stints: Stints,
    /// When it was made or last sealed.
    pub(crate) since: Instant,
}

/// Where a block is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A writer fills it.
    Filling,
    /// Its writer ended; the table's next writer goes on with it.
    Waiting,
    /// No more rows will come.
    Full,
}

/// The current view. Readers load it without waiting; one change is made at a time.
#[derive(Debug, Default)]
pub(crate) struct ViewCell {
    current: ArcSwap<View>,
    changing: Mutex<()>,
}

/// The right to change the view.
pub(crate) struct Changing<'a> {
    cell: &'a ViewCell,
    _lock: MutexGuard<'a, ()>,
}

impl ViewCell {
    pub(crate) fn new(view: View) -> Self {
        Self { current: ArcSwap::from_pointee(view), changing: Mutex::new(()) }
    }

    pub(crate) fn load(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// Looks at it without taking a share in it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Arc<View>) -> T) -> T {
        look(&self.current.load())
    }

    /// Keeps others from changing it until dropped.
    pub(crate) fn lock(&self) -> Changing<'_> {
        Changing { cell: self, _lock: self.changing.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Changing<'_> {
    pub(crate) fn view(&self) -> Arc<View> {
        self.cell.load()
    }

    /// Replaces the view by what `change` makes of a copy of it. Tables that are not touched are shared.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&mut View) -> T) -> T {
        let mut view = (*self.cell.load()).clone();
        let result = change(&mut view);
        self.cell.current.store(Arc::new(view));
        result
    }
}

impl View {
    /// A table to be changed.
    pub(crate) fn table_mut(&mut self, table: TableId) -> Option<&mut TableState> {
        self.tables.get_mut(&table).map(Arc::make_mut)
    }

    /// A table by name.
    pub(crate) fn table(&self, name: &str) -> Option<&Arc<TableState>> {
        self.tables.values().find(|table| table.schema.name == name)
    }

    /// How many segments are damaged and not read.
    pub(crate) fn segments_aside(&self) -> usize {
        self.tables.values().map(|table| table.aside.segments.len()).sum()
    }

    /// A live block, and its table.
    pub(crate) fn table_of(&self, block: u64) -> Option<(&TableState, &BlockView)> {
        let of = |table: &Arc<TableState>| table.blocks.iter().position(|view| view.block.id == block);
        let (table, at) = self.tables.values().find_map(|table| Some((table, of(table)?)))?;
        table.blocks.get(at).map(|view| (&**table, view))
    }

    /// All live blocks.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &BlockView> {
        self.tables.values().flat_map(|table| &table.blocks)
    }
}

impl TableState {
    /// A block to be changed.
    pub(crate) fn block_mut(&mut self, id: u64) -> Option<&mut BlockView> {
        self.blocks.iter_mut().find(|view| view.block.id == id)
    }
}
