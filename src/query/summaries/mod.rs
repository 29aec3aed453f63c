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
//!
//! Before that `rollup` looks for a rollup of the table that has what is asked for. Its rows are partial states too
//! (`rollup_exec`), of the buckets that it knows best; what it leaves of the table is cut by time, and each part is answered
//! as above:
//!
//! ```text
//!   UnionExec
//!     DenyutRollup                     buckets that no row has come to since they were rolled up
//!       DenyutScan                     of the rollup's table
//!     DenyutSummaries                  of the buckets that are left
//!     AggregateExec: mode=Partial
//!       FilterExec                     those times alone
//!         DenyutScan
//! ```

mod exec;
mod keys;
mod rollup;
mod rollup_exec;
mod shape;
mod split;
mod states;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

use self::exec::SummaryExec;
pub(super) use self::exec::cells_read;
use self::rollup::{Rest, Rolled};
use self::rollup_exec::RollupExec;
pub(super) use self::rollup_exec::rollups_used;
use self::shape::Shape;
use self::split::Split;
use super::accelerations::accelerations;
use crate::options::Accelerations;

/// Answers aggregates from summaries where it can.
#[derive(Debug)]
pub(super) struct SummariesRule;

impl PhysicalOptimizerRule for SummariesRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let on = accelerations(config);
        if !on.uses_summaries() && !on.uses_rollups() {
            return Ok(plan);
        }
        let parts = config.execution.target_partitions;
        plan.transform_down(|node| {
            Ok(match rewritten(&node, on, parts)? {
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

/// A final aggregate with rollups and summaries below it, if `node` is one that they can answer in part.
fn rewritten(node: &Arc<dyn ExecutionPlan>, on: Accelerations, parts: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let is_final =
        |plan: &&AggregateExec| matches!(plan.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned);
    let Some(last) = node.downcast_ref::<AggregateExec>().filter(is_final) else { return Ok(None) };
    let below = last.input();
    let is_partial = |plan: &&AggregateExec| *plan.mode() == AggregateMode::Partial && plan.limit_options().is_none();
    let Some(partial) = below.downcast_ref::<AggregateExec>().filter(is_partial) else { return Ok(None) };
    let Some(shape) = Shape::of(partial)? else { return Ok(None) };
    let rolled = if on.uses_rollups() { rollup::rolled(&shape, parts)? } else { None };
    let plain = if rolled.as_ref().is_some_and(Rolled::knows_more) { None } else { split_of(&shape, on, parts)? };
    // Of a rollup with short buckets there may be more to read than of summaries.
    let rolled = rolled.filter(|rolled| plain.as_ref().is_none_or(|plain| rolled.buckets.rows() <= plain.reads()));
    let mut sides: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    match rolled {
        Some(rolled) => {
            sides.push(Arc::new(RollupExec::new(below.schema(), &shape, &rolled)?));
            for rest in &rolled.rest {
                of_rest(&shape, rest, (below, partial), on, parts, &mut sides)?;
            }
        }
        None => {
            let Some(split) = plain else { return Ok(None) };
            let rows = over(below, with_scan(partial.input(), &split.rows)?)?;
            sides.push(Arc::new(SummaryExec::new(below.schema(), &shape, split, parts)?));
            sides.push(rows);
        }
    }
    let input = match sides.len() {
        1 => sides.remove(0),
        _ => UnionExec::try_new(sides)?,
    };
    Ok(Some(over(node, input)?))
}

/// What summaries answer of it, if they may and can.
fn split_of(shape: &Shape<'_>, on: Accelerations, parts: usize) -> Result<Option<Split>> {
    if on.uses_summaries() { split::split(shape, parts) } else { Ok(None) }
}

/// Adds what answers for the times that a rollup leaves.
fn of_rest(
    shape: &Shape<'_>,
    rest: &Rest,
    (below, partial): (&Arc<dyn ExecutionPlan>, &AggregateExec),
    on: Accelerations,
    parts: usize,
    sides: &mut Vec<Arc<dyn ExecutionPlan>>,
) -> Result<()> {
    if rest.scan.rows() == 0 {
        return Ok(());
    }
    let of_rest = shape.over(&rest.scan, rest.time);
    let mut leaf: Arc<dyn ExecutionPlan> = rest.scan.clone();
    if let Some(split) = split_of(&of_rest, on, parts)? {
        leaf = split.rows.clone();
        sides.push(Arc::new(SummaryExec::new(below.schema(), &of_rest, split, parts)?));
    }
    // A scan gives a superset of what its bounds leave.
    let leaf = Arc::new(FilterExec::try_new(rollup::within(&rest.scan, rest.time)?, leaf)?);
    let leaf: Arc<dyn ExecutionPlan> = leaf;
    sides.push(over(below, with_scan(partial.input(), &leaf)?)?);
    Ok(())
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
