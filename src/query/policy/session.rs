//! The handle.

use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::catalog::{PolicyLatest, catalogs};
use super::groups::grouped;
use super::{Policy, Rules};
use crate::error::{Error, Result};
use crate::query::catalog::Moment;
use crate::query::latest::{self, Latest};
use crate::query::{Engine, Rows};

/// Reads a store as a [`Policy`] allows. Cheap to clone; `Send` and `Sync`.
#[derive(Clone)]
pub struct PolicySession {
    engine: Engine,
    rules: Arc<Rules>,
}

impl PolicySession {
    pub(crate) fn new(engine: Engine, policy: &Policy) -> Result<Self> {
        let rules = Arc::new(engine.rules(policy)?);
        Ok(Self { engine, rules })
    }

    /// Plans a statement, as [`Store::sql`](crate::Store::sql).
    ///
    /// The frame itself is for trusted code: from its plan the tables below can be reached.
    ///
    /// # Errors
    /// As [`Store::sql`](crate::Store::sql), and [`PolicyRefuses`](Error::PolicyRefuses).
    pub async fn sql(&self, text: &str) -> Result<DataFrame> {
        self.engine.sql_under(text, Some(&self.rules)).await
    }

    /// Runs a statement and waits for its rows, as [`Store::query`](crate::Store::query).
    ///
    /// # Errors
    /// As [`Store::query`](crate::Store::query), and [`PolicyRefuses`](Error::PolicyRefuses).
    pub fn query(&self, text: &str) -> Result<Rows> {
        self.engine.query_under(text, Some(self.rules.clone()))
    }
}

impl std::fmt::Debug for PolicySession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicySession").field("policy", &self.rules.policy).finish_non_exhaustive()
    }
}

impl Rules {
    /// Gives a state the names of the policy instead of the store's.
    pub(in crate::query) fn rename(self: &Arc<Self>, state: &mut SessionState, moment: &Moment) {
        let latest = PolicyLatest { below: Latest(moment.clone()), rules: self.clone() };
        state.register_udtf(latest::NAME, Arc::new(latest));
        state.register_catalog_list(catalogs(moment.clone(), self.clone()));
    }

    /// The plan that is run for a statement's.
    pub(in crate::query) fn enforce(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if matches!(plan, LogicalPlan::Analyze(_)) {
            return Err(Error::PolicyRefuses {
                policy: self.policy.clone(),
                what: "EXPLAIN ANALYZE, which counts rows".into(),
                remedy: "use EXPLAIN",
            });
        }
        if self.has_groups() { Ok(grouped(plan)?) } else { Ok(plan) }
    }
}
