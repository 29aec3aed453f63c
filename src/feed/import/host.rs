//! What an import needs of the store around it.

use std::sync::Arc;

use super::ledger::Ledger;
use crate::error::Result;
use crate::maintain::core::Core;
use crate::model::quarantine::Broken;
use crate::model::{Schema, TableId};

/// The store, seen from this floor.
pub(crate) trait Host: Send + Sync {
    /// Its parts.
    fn core(&self) -> &Arc<Core>;
    /// Makes a table, or adds the fields that it lacks.
    fn declare(&self, schema: &Schema) -> Result<()>;
    /// Puts a row into quarantine, and gives the number of that table.
    fn quarantine(&self, row: &Broken<'_>) -> Result<TableId>;
    /// What was imported.
    fn ledger(&self) -> &Ledger;
}
