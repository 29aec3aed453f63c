//! A table of the store as DataFusion sees it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;

use super::failure::external;
use super::latest;
use super::prune::{narrows, narrows_series, prune};
use super::scan::ScanExec;
use super::work;
use crate::snapshot::{Snapshot, TableView};

/// One table of one snapshot.
pub(super) struct StoreTable {
    view: Arc<TableView>,
    snapshot: Arc<Snapshot>,
    /// Of each series the latest row alone.
    latest_only: bool,
}

impl StoreTable {
    pub(super) fn new(view: Arc<TableView>, snapshot: Arc<Snapshot>) -> Self {
        Self { view, snapshot, latest_only: false }
    }

    pub(super) fn latest(view: Arc<TableView>, snapshot: Arc<Snapshot>) -> Self {
        Self { view, snapshot, latest_only: true }
    }

    fn plan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let pruned = prune(&self.view, filters, session)?;
        // With a predicate above, nobody knows how many rows its first `limit` rows are.
        let limit = limit.filter(|_| filters.is_empty());
        let parts = session.config().target_partitions();
        let work = match self.latest_only {
            true => latest::plan(&self.view, &pruned, parts),
            false => work::plan(&self.view, &pruned, limit, parts),
        };
        let work = work.map_err(external)?;
        let projection = projection.cloned().unwrap_or_else(|| (0..self.view.schema.arrow().fields().len()).collect());
        let all = filters.is_empty() && limit.is_none() && !self.latest_only;
        let scan = ScanExec::new(self.view.clone(), self.snapshot.clone(), projection, pruned, work, all)?;
        Ok(Arc::new(if limit.is_none() && !self.latest_only { scan.of_all_rows() } else { scan }))
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
            let narrows = if self.latest_only { narrows_series } else { narrows };
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
