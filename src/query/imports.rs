//! The imports that have ended, as SQL shows them: `system.imports`, a view of the store's own ledger.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};

use super::provider::{StoreTable, without_rows};
use crate::model::imports::{
    BYTES, CLOSED, DUPLICATES, EVENT, LINES, QUARANTINED, ROWS, SOURCE, TABLE, TABLE_NAME, schema,
};
use crate::model::names::TIME;
use crate::snapshot::Snapshot;

/// The view at a moment, a row an import; empty in a store that nothing was imported into.
pub(super) fn table(snapshot: &Arc<Snapshot>) -> Result<Arc<dyn TableProvider>> {
    let view = snapshot.table(TABLE).cloned().unwrap_or_else(|| without_rows(&schema()));
    let stored = Arc::new(StoreTable::new(view, snapshot.clone(), None));
    let plain = |name: &str| Expr::Column(Column::new_unqualified(name));
    let columns = [TIME, TABLE_NAME, SOURCE, BYTES, LINES, ROWS, DUPLICATES, QUARANTINED];
    let plan = LogicalPlanBuilder::scan(TABLE, provider_as_source(stored), None)?
        .filter(plain(EVENT).eq(lit(CLOSED)))?
        .project(columns.map(plain))?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
