//! A table of the store as DataFusion sees it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;

use super::accelerations::accelerations;
use super::failure::external;
use super::latest::{self, Need};
use super::newest::Newest;
use super::prune::{is_of_tags_or_range, narrows, narrows_series, prune};
use super::scan::ScanExec;
use super::work;
use crate::model::{Schema, TableId, TableSchema};
use crate::snapshot::last::LastTables;
use crate::snapshot::{Snapshot, TableView};

/// One table of one snapshot.
#[derive(Clone)]
pub(super) struct StoreTable {
    pub(super) view: Arc<TableView>,
    snapshot: Arc<Snapshot>,
    last: Option<Arc<LastTables>>,
    pub(super) rows: RowsOf,
}

/// A table of the store's own before its first row.
pub(super) fn without_rows(schema: &Schema) -> Arc<TableView> {
    const NONE: TableId = TableId::MAX;
    Arc::new(TableView::empty(Arc::new(TableSchema::declared(NONE, schema))))
}

/// Which rows of its table a [`StoreTable`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowsOf {
    /// All.
    Table,
    /// Of each series the latest one.
    Latest,
    /// At least what aggregates of the latest rows need.
    Ends(Need),
    /// At least those of the newest buckets.
    Newest(Newest),
}

impl StoreTable {
    pub(super) fn new(view: Arc<TableView>, snapshot: Arc<Snapshot>, last: Option<Arc<LastTables>>) -> Self {
        Self { view, snapshot, last, rows: RowsOf::Table }
    }

    /// With other rows of the same table.
    pub(super) fn with(self, rows: RowsOf) -> Self {
        Self { rows, ..self }
    }

    /// The same of another moment, if the table has the same columns then.
    pub(super) fn at(&self, snapshot: &Arc<Snapshot>) -> Option<Self> {
        let view = snapshot
            .table(self.view.schema.name())
            .filter(|view| view.schema.id == self.view.schema.id && view.schema.arrow() == self.view.schema.arrow())?;
        Some(Self { view: view.clone(), snapshot: snapshot.clone(), ..self.clone() })
    }

    /// The same without a row, and without a share in a snapshot.
    pub(super) fn without_rows(&self) -> Self {
        let view = Arc::new(TableView::empty(self.view.schema.clone()));
        Self { view, snapshot: Arc::new(Snapshot::none()), ..self.clone() }
    }

    /// The table as it is read.
    pub(super) fn view(&self) -> &TableView {
        &self.view
    }

    fn plan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut pruned = prune(&self.view, filters, session)?;
        // With a predicate above, nobody knows how many rows its first `limit` rows are.
        let limit = limit.filter(|_| filters.is_empty());
        let parts = session.config().target_partitions();
        let projection = projection.cloned().unwrap_or_else(|| (0..self.view.schema.arrow().fields().len()).collect());
        let on = accelerations(session.config_options()).uses_last();
        let last = self.last.as_deref().filter(|_| on);
        // Else nobody knows which rows are left.
        let exact = pruned.exact_series && filters.iter().all(|filter| is_of_tags_or_range(&self.view, filter, false));
        let mut newest = false;
        if let RowsOf::Newest(of) = &self.rows
            && exact
            && let Some(range) = of.range(&self.view, &pruned, session)?
            // Of those buckets a rollup may know rows that are gone.
            && self.snapshot.rollups().rows_gone_before(self.view.schema.id) <= range.lo
        {
            pruned.time = Some(range);
            newest = true;
        }
        let work = match &self.rows {
            RowsOf::Newest(_) => work::plan(&self.view, &pruned, None, parts),
            RowsOf::Ends(_) if !exact => work::plan(&self.view, &pruned, None, parts),
            RowsOf::Table => work::plan(&self.view, &pruned, limit, parts),
            RowsOf::Latest => latest::plan(&self.view, &pruned, &projection, last, parts),
            RowsOf::Ends(need) => latest::plan_ends(&self.view, &pruned, &projection, need, last, parts),
        };
        let mut work = work.map_err(external)?;
        work.newest = newest;
        if let Some(series) = work.narrowed.take() {
            pruned.series = Some(series);
        }
        // Where looking for others saved nothing it is a scan like any other.
        let of_all = match &self.rows {
            RowsOf::Table => true,
            RowsOf::Latest => false,
            RowsOf::Ends(_) => work.latest.is_none_or(|(latest, scanned)| latest == 0 && scanned > 0),
            RowsOf::Newest(_) => !newest,
        };
        let whole = limit.is_none() && of_all;
        let all = whole && filters.is_empty();
        let scan = ScanExec::new(self.view.clone(), self.snapshot.clone(), projection, pruned, work, all)?;
        Ok(Arc::new(if whole { scan.of_all_rows() } else { scan }))
    }
}

impl fmt::Debug for StoreTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreTable").field("name", &self.view.schema.name()).finish_non_exhaustive()
    }
}

impl TableProvider for StoreTable {
    fn schema(&self) -> SchemaRef {
        self.view.schema.arrow().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            // A row may be the latest of its series and not match: a time, unlike a tag, is not all rows' alike.
            let narrows = if self.rows == RowsOf::Latest { narrows_series } else { narrows };
            if narrows(&self.view, filter) {
                TableProviderFilterPushDown::Inexact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    fn scan<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        session: &'b dyn Session,
        projection: Option<&'c Vec<usize>>,
        filters: &'d [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
    {
        Box::pin(std::future::ready(self.plan(session, projection, filters, limit)))
    }
}
