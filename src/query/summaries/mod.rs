//! Aggregates over time and tags, answered from the summaries of segments.
//!
//! The rule looks for an aggregate over one of the store's tables with nothing in between but projections and predicates.
//! `shape` says whether summaries can answer it, `split` what of the table they answer and what is read as rows, `exec`
//! reads them. Both sides give partial states, and the engine's own final aggregate takes them together:
//!
//! ```text
//! AggregateExec: mode=FinalPartitioned
//!   UnionExec
//!     DenyutSummaries                  whole cells of segments whose rows nobody overwrites
//!     AggregateExec: mode=Partial      cells that the bounds of time cut, other segments, live rows
//!       FilterExec
//!         DenyutScan
//! ```
//!
//! **Invariant:** each row that the predicates leave is in one of the two sides, and in one cell or piece of it. Where
//! anything is in doubt the rows are read.
//!
//! **Invariant:** a cell is used for a group only if all times in it are of that group: the functions of time that are
//! accepted never fall while time rises, so it is enough that begin and end of the cell give the same.

mod exec;
mod keys;
mod shape;
mod split;
mod states;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

use self::exec::SummaryExec;
pub(super) use self::exec::cells_read;
use self::shape::Shape;
use super::accelerations::accelerations;

/// Answers aggregates from summaries where it can.
#[derive(Debug)]
pub(super) struct SummariesRule;

impl PhysicalOptimizerRule for SummariesRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !accelerations(config).uses_summaries() {
            return Ok(plan);
        }
        let parts = config.execution.target_partitions;
        plan.transform_down(|node| {
            Ok(match rewritten(&node, parts)? {
                Some(node) => Transformed::yes(node),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "denyut_summaries"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A final aggregate with summaries below it, if `node` is one that they can answer in part.
fn rewritten(node: &Arc<dyn ExecutionPlan>, parts: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let is_final =
        |plan: &&AggregateExec| matches!(plan.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned);
    let Some(last) = node.downcast_ref::<AggregateExec>().filter(is_final) else { return Ok(None) };
    let below = last.input();
    let is_partial = |plan: &&AggregateExec| *plan.mode() == AggregateMode::Partial && plan.limit_options().is_none();
    let Some(partial) = below.downcast_ref::<AggregateExec>().filter(is_partial) else { return Ok(None) };
    let Some(shape) = Shape::of(partial)? else { return Ok(None) };
    let Some(split) = split::split(&shape, parts)? else { return Ok(None) };
    let rows = with_scan(partial.input(), &split.rows)?;
    let rows = over(below, rows)?;
    let summaries = Arc::new(SummaryExec::new(below.schema(), &shape, split, parts)?);
    let union = UnionExec::try_new(vec![summaries, rows])?;
    Ok(Some(over(node, union)?))
}

/// `plan` with another input.
fn over(plan: &Arc<dyn ExecutionPlan>, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.clone().replace_children(vec![input], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// `plan`, a chain, over another leaf.
fn with_scan(plan: &Arc<dyn ExecutionPlan>, leaf: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match plan.children().as_slice() {
        [] => Ok(leaf.clone()),
        [input] => over(plan, with_scan(input, leaf)?),
        _ => datafusion::common::internal_err!("a chain that branches"),
    }
}
