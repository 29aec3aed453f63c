//! Optimizing and physical planning, on the engine's threads instead of the caller's.
//!
//! The rules recurse through expressions, and where they print one, to compare or to name it, nothing protects the stack:
//! on 2 MiB, a thousand operators of a debug build end the process. So a session that is handed out has no rules of its
//! own, and a planner that gives the plan as it is to one that has.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::failure::external;
use super::limits::{Limits, limited};

/// A state that plans as `full` does, but on the threads of `limits`.
pub(super) fn elsewhere(full: &SessionState, limits: Arc<Limits>) -> SessionState {
    SessionStateBuilder::new_from_existing(full.clone())
        .with_analyzer_rules(Vec::new())
        .with_optimizer_rules(Vec::new())
        .with_query_planner(Arc::new(Elsewhere { full: full.clone(), limits }))
        .build()
}

struct Elsewhere {
    full: SessionState,
    limits: Arc<Limits>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").finish_non_exhaustive()
    }
}

impl QueryPlanner for Elsewhere {
    fn create_physical_plan<'a, 'b, 'c, 'f>(
        &'a self,
        plan: &'b LogicalPlan,
        session: &'c dyn Session,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
    {
        let mut state = self.full.clone();
        *state.config_mut() = session.config().clone();
        *state.execution_props_mut() = session.execution_props().clone();
        state.register_catalog_list(session.catalog_list());
        let plan = plan.clone();
        let limits = self.limits.clone();
        let planning = async move { Ok(limited(state.create_physical_plan(&plan).await?, &limits)) };
        let planned = async move { self.limits.threads.run(self.limits.timeout, planning).await.map_err(external) };
        planned.boxed()
    }
}
