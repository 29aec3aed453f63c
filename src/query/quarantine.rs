//! The quarantine as SQL shows it: `system.quarantine`, a view of the store's own table.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, lit};

use super::provider::{StoreTable, without_rows};
use crate::model::names::TIME;
use crate::model::quarantine::{
    COLUMN, FILE, LINE, MESSAGE, NO_TIME, REASON, ROW, ROW_TIME_NS, TABLE, TABLE_NAME, VALUE, schema,
};
use crate::model::table::time_type;
use crate::options::Options;
use crate::snapshot::Snapshot;

/// The view at a moment; without rows in a store that never put one there. Predicates on `time`, `table_name` and `reason`
/// narrow it as they narrow any table.
pub(super) fn table(snapshot: &Arc<Snapshot>) -> Result<Arc<dyn TableProvider>> {
    let empty = without_rows(&schema(&Options::default()));
    let view = snapshot.table(TABLE).unwrap_or(&empty).clone();
    let known = view.schema.arrow().clone();
    let stored = Arc::new(StoreTable::new(view, snapshot.clone(), None));
    let plain = |name: &str| Expr::Column(Column::new_unqualified(name));
    let row_time = cast(nullif(plain(ROW_TIME_NS), lit(NO_TIME)), time_type()).alias("row_time");
    // A store that an earlier version wrote has fewer fields until a row comes.
    let given = |name: &str| {
        let declared = empty.schema.arrow().field_with_name(name).map(|field| field.data_type().clone());
        match (known.field_with_name(name), declared) {
            (Err(_), Ok(data_type)) => cast(lit(ScalarValue::Null), data_type).alias(name),
            _ => plain(name),
        }
    };
    let origin = [FILE, LINE, COLUMN, VALUE, MESSAGE].map(given);
    let plan = LogicalPlanBuilder::scan(TABLE, provider_as_source(stored), None)?
        .project([plain(TIME), plain(TABLE_NAME), plain(REASON), row_time, plain(ROW)].into_iter().chain(origin))?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
