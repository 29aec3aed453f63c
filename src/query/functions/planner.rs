//! Plans statements that have nodes of this crate's own.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::asof::{AsofPlanner, is_asof};
use super::gapfill::{GapFill, GapFillPlanner};

fn planners() -> Vec<Arc<dyn ExtensionPlanner + Send + Sync>> {
    vec![Arc::new(AsofPlanner), Arc::new(GapFillPlanner)]
}

fn is_own(node: &LogicalPlan) -> bool {
    let LogicalPlan::Extension(extension) = node else { return false };
    extension.node.as_any().is::<GapFill>() || is_asof(extension.node.as_ref())
}

/// DataFusion's planner with ours for statements that need it; the one of before for all others.
pub(super) struct FunctionPlanner {
    pub(super) before: Arc<dyn QueryPlanner + Send + Sync>,
}

impl fmt::Debug for FunctionPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionPlanner").finish_non_exhaustive()
    }
}

impl QueryPlanner for FunctionPlanner {
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
        let mut has_own = false;
        let looked = plan.apply_with_subqueries(|node| {
            has_own |= is_own(node);
            Ok(if has_own { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        async move {
            looked?;
            if !has_own {
                return self.before.create_physical_plan(plan, session).await;
            }
            DefaultPhysicalPlanner::with_extension_planners(planners()).create_physical_plan(plan, session).await
        }
        .boxed()
    }
}
