//! The physical node, and the choice between its two ways.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinType, Statistics, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::equivalence::join_equivalence_properties;
use datafusion::physical_expr::expressions::cast;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, EmissionType, SchedulingType, apply_expression_roots, reset_plan_states,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::index::{Collected, Index, collect};
use super::keys::{Matching, Side, common_key};
use super::merge::Merge;
use super::node::AsofNode;

/// The right side is merged, and not put in memory, if it is expected to take more than this part of the session's.
const MEMORY_PART: usize = 4;
/// Of a session without a limit.
const INDEX_BYTES_MAX: usize = 4 << 30;
/// Taken for a column whose width is not known.
const COLUMN_BYTES: usize = 32;

/// Plans [`AsofNode`]s.
#[derive(Debug)]
pub(in crate::query::functions) struct AsofPlanner;

impl ExtensionPlanner for AsofPlanner {
    fn plan_extension<'a, 'b, 'c, 'd, 'e, 'f, 'g, 'h, 'r>(
        &'a self,
        planner: &'b dyn PhysicalPlanner,
        node: &'c dyn UserDefinedLogicalNode,
        _: &'d [&'e LogicalPlan],
        inputs: &'f [Arc<dyn ExecutionPlan>],
        session: &'g dyn Session,
        planning: &'h PhysicalPlanningContext,
    ) -> BoxFuture<'r, Result<Option<Arc<dyn ExecutionPlan>>>>
    where
        'a: 'r,
        'b: 'r,
        'c: 'r,
        'd: 'r,
        'e: 'r,
        'f: 'r,
        'g: 'r,
        'h: 'r,
    {
        let planned =
            node.as_any().downcast_ref::<AsofNode>().map(|node| plan(planner, node, inputs, session, planning));
        Box::pin(std::future::ready(planned.transpose()))
    }
}

fn plan(
    planner: &dyn PhysicalPlanner,
    node: &AsofNode,
    inputs: &[Arc<dyn ExecutionPlan>],
    session: &dyn Session,
    planning: &PhysicalPlanningContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let [left, right] = inputs else { return internal_err!("an ASOF join has two inputs") };
    let (left_schema, right_schema) = (left.schema(), right.schema());
    let expr = |expr, schema| planner.create_physical_expr(expr, schema, session, planning);
    let on_left = |left_expr| expr(left_expr, node.left.schema());
    let on_right = |right_expr| expr(right_expr, node.right.schema());
    let times = (on_left(&node.times.0)?, on_right(&node.times.1)?);
    let types = (times.0.data_type(&left_schema)?, times.1.data_type(&right_schema)?);
    let matching = Matching::try_new(node.operator, node.bound.as_ref(), &types.0, &types.1)?;
    let mut join = Join {
        keys: Vec::with_capacity(node.keys.len()),
        times: (
            cast(times.0, &left_schema, matching.time_type.clone())?,
            cast(times.1, &right_schema, matching.time_type.clone())?,
        ),
        nulls_first: (true, true),
        matching,
        shown: format!("{} {} {}", node.times.0, node.operator, node.times.1),
        bound: node.bound.as_ref().map(|bound| format!(", tolerance={bound}")).unwrap_or_default(),
    };
    for (left_key, right_key) in &node.keys {
        let (left_key, right_key) = (on_left(left_key)?, on_right(right_key)?);
        let common = common_key(&left_key.data_type(&left_schema)?, &right_key.data_type(&right_schema)?)?;
        join.keys.push(Key {
            left: cast(left_key, &left_schema, common.clone())?,
            right: cast(right_key, &right_schema, common.clone())?,
            common,
            descending: false,
            nulls_first: (true, true),
        });
    }
    join.take_order_of(left, right);
    let ordered = |plan: &Arc<dyn ExecutionPlan>, ordering| plan.equivalence_properties().ordering_satisfy(ordering);
    let both_ordered = ordered(left, join.left_ordering())? && ordered(right, join.right_ordering())?;
    let mode = match both_ordered {
        true => Mode::Ordered,
        false if is_large(right, session)? => Mode::Merge,
        false => Mode::Index,
    };
    let schema: SchemaRef = Arc::new(UserDefinedLogicalNodeCore::schema(node).as_arrow().clone());
    Ok(Arc::new(AsofJoinExec::try_new(left.clone(), right.clone(), Arc::new(join), mode, schema)?))
}

/// Whether `plan` is expected to take too much of the session's memory.
fn is_large(plan: &Arc<dyn ExecutionPlan>, session: &dyn Session) -> Result<bool> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
    let width = |field: &arrow::datatypes::FieldRef| field.data_type().primitive_width().unwrap_or(COLUMN_BYTES);
    let row_bytes: usize = plan.schema().fields().iter().map(width).sum();
    let bytes = match (&statistics.total_byte_size, &statistics.num_rows) {
        (Precision::Exact(bytes) | Precision::Inexact(bytes), _) => *bytes,
        (_, Precision::Exact(rows) | Precision::Inexact(rows)) => rows.saturating_mul(row_bytes),
        _ => return Ok(false),
    };
    let max = match session.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(limit) => limit / MEMORY_PART,
        _ => INDEX_BYTES_MAX,
    };
    Ok(bytes > max)
}

/// What is joined on.
#[derive(Debug)]
struct Join {
    keys: Vec<Key>,
    times: (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>),
    /// Where a sort of either side puts times that are null.
    nulls_first: (bool, bool),
    matching: Matching,
    shown: String,
    bound: String,
}

/// One equality. Both sides are of the common type.
#[derive(Debug)]
struct Key {
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    common: DataType,
    /// How it is sorted, if it is. Nulls may be at different ends: they are passed over.
    descending: bool,
    nulls_first: (bool, bool),
}

impl Join {
    /// Sorts by keys in the order that `right` has already, as far as it has one, and with nulls where they are.
    fn take_order_of(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) {
        let options = |plan: &Arc<dyn ExecutionPlan>, expr: &Arc<dyn PhysicalExpr>| {
            let ordering = plan.output_ordering()?;
            let place = ordering.iter().position(|sorted| sorted.expr.eq(expr))?;
            Some((place, ordering.get(place)?.options))
        };
        let place = |key: &Key| options(right, &key.right).map_or(usize::MAX, |(place, _)| place);
        self.keys.sort_by_key(place);
        let nulls_first = |of_left: &Arc<dyn PhysicalExpr>, of_right: &Arc<dyn PhysicalExpr>| {
            let first = |found: Option<(usize, SortOptions)>| found.is_none_or(|(_, options)| options.nulls_first);
            (first(options(left, of_left)), first(options(right, of_right)))
        };
        for key in &mut self.keys {
            key.descending = options(right, &key.right).is_some_and(|(_, options)| options.descending);
            key.nulls_first = nulls_first(&key.left, &key.right);
        }
        self.nulls_first = nulls_first(&self.times.0, &self.times.1);
    }

    fn left_ordering(&self) -> Vec<PhysicalSortExpr> {
        let keys = self.keys.iter().map(|key| sorted(&key.left, key.descending, key.nulls_first.0));
        keys.chain([sorted(&self.times.0, false, self.nulls_first.0)]).collect()
    }

    fn right_ordering(&self) -> Vec<PhysicalSortExpr> {
        let keys = self.keys.iter().map(|key| sorted(&key.right, key.descending, key.nulls_first.1));
        keys.chain([sorted(&self.times.1, false, self.nulls_first.1)]).collect()
    }

    fn left_keys(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.keys.iter().map(|key| key.left.clone()).collect()
    }

    fn right_keys(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.keys.iter().map(|key| key.right.clone()).collect()
    }

    fn side(&self, keys: Vec<Arc<dyn PhysicalExpr>>, time: &Arc<dyn PhysicalExpr>) -> Result<Side> {
        let types: Vec<DataType> = self.keys.iter().map(|key| key.common.clone()).collect();
        let options = self.keys.iter().map(|key| SortOptions { descending: key.descending, nulls_first: true });
        let options: Vec<SortOptions> = options.collect();
        Side::try_new(keys, &types, &options, time.clone())
    }

    fn left_side(&self) -> Result<Side> {
        self.side(self.left_keys(), &self.times.0)
    }

    fn right_side(&self) -> Result<Side> {
        self.side(self.right_keys(), &self.times.1)
    }
}

fn sorted(expr: &Arc<dyn PhysicalExpr>, descending: bool, nulls_first: bool) -> PhysicalSortExpr {
    PhysicalSortExpr { expr: expr.clone(), options: SortOptions { descending, nulls_first } }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The right side in memory; if it turns out not to fit, a merge within.
    Index,
    /// Both sides come partitioned by keys, and sorted by keys and time.
    Merge,
    /// As a merge, of one partition each: they are in order already, and parting them would cost more than it gains.
    Ordered,
}

/// What the partitions of an indexed join share.
enum Built {
    Index(Box<Index>),
    Merge(Arc<dyn ExecutionPlan>),
}

type Building = Shared<BoxFuture<'static, std::result::Result<Arc<Built>, Arc<DataFusionError>>>>;

/// `left ASOF JOIN right`.
pub(super) struct AsofJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    join: Arc<Join>,
    mode: Mode,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    building: Mutex<Option<Building>>,
}

impl AsofJoinExec {
    fn try_new(
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        join: Arc<Join>,
        mode: Mode,
        schema: SchemaRef,
    ) -> Result<Self> {
        let equivalences = join_equivalence_properties(
            left.equivalence_properties().clone(),
            EquivalenceProperties::new(right.schema()),
            &JoinType::Left,
            schema,
            &[true, false],
            None,
            &[],
        )?;
        let partitioning = match mode {
            Mode::Merge | Mode::Ordered => left.output_partitioning().clone(),
            // If it has to merge after all, rows are in other partitions than on the left.
            Mode::Index => Partitioning::UnknownPartitioning(left.output_partitioning().partition_count()),
        };
        let properties = PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, left.boundedness())
            .with_scheduling_type(SchedulingType::Cooperative);
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Ok(Self { left, right, join, mode, properties, metrics, building: Mutex::new(None) })
    }

    /// Whether a merge goes over all rows at once.
    fn is_single(&self) -> bool {
        self.mode == Mode::Ordered || self.join.keys.is_empty()
    }

    fn execute_merge(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let memory = MemoryConsumer::new("AsofJoinMerge").register(context.memory_pool());
        let merge = Merge::try_new(
            (self.left.execute(partition, context.clone())?, self.join.left_side()?),
            (self.right.execute(partition, context)?, self.join.right_side()?),
            self.join.matching.clone(),
            self.schema(),
            memory,
        )?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batches = stream::try_unfold((merge, metrics), |(mut merge, metrics)| async move {
            let batch = merge.next().await?;
            Ok(batch.map(|batch| (batch.record_output(&metrics), (merge, metrics))))
        });
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(self.schema(), batches.boxed()))))
    }

    fn execute_index(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let building = self.building(&context)?;
        let left = self.left.clone();
        let (side, join, schema) = (self.join.left_side()?, self.join.clone(), self.schema());
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let answers = async move {
            let built = building.await.map_err(DataFusionError::Shared)?;
            if let Built::Merge(merge) = &*built {
                return Result::<_>::Ok(match merge.output_partitioning().partition_count() {
                    partitions if partition < partitions => merge.execute(partition, context)?.boxed(),
                    _ => stream::empty().boxed(),
                });
            }
            let left = left.execute(partition, context)?;
            let answers = left.map(move |batch| match &*built {
                Built::Index(index) => {
                    let _timer = metrics.elapsed_compute().timer();
                    Ok(index.probe(batch?, &side, &join.matching, &schema)?.record_output(&metrics))
                }
                Built::Merge(_) => internal_err!("an index became a merge"),
            });
            Ok(answers.boxed())
        };
        let answers = stream::once(answers).try_flatten();
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(self.schema(), answers.boxed()))))
    }

    /// The build of the right side, which the first partition starts and whichever is polled drives.
    fn building(&self, context: &Arc<TaskContext>) -> Result<Building> {
        let mut building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(building) = &*building {
            return Ok(building.clone());
        }
        let memory = MemoryConsumer::new("AsofJoinIndex").register(context.memory_pool());
        let (left, right, join, schema) = (self.left.clone(), self.right.clone(), self.join.clone(), self.schema());
        let context = context.clone();
        let build = async move {
            let side = join.right_side()?;
            match collect(right.execute(0, context)?, &side, memory).await? {
                Collected::Index(index) => Ok(Arc::new(Built::Index(index))),
                Collected::TooLarge => Ok(Arc::new(Built::Merge(merged(left, right, join, schema)?))),
            }
        };
        let shared = build.map(|built: Result<Arc<Built>>| built.map_err(Arc::new)).boxed().shared();
        *building = Some(shared.clone());
        Ok(shared)
    }
}

/// The same join by sorting both sides, for a right side that did not fit. Nothing of the left one was read yet.
fn merged(
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    join: Arc<Join>,
    schema: SchemaRef,
) -> Result<Arc<dyn ExecutionPlan>> {
    // It was read once already, and is read from its begin again.
    let right = reset_plan_states(right)?;
    let order = left.output_ordering().cloned();
    let partitions = left.output_partitioning().partition_count();
    let prepared = |plan: Arc<dyn ExecutionPlan>, keys: Vec<Arc<dyn PhysicalExpr>>, ordering: Vec<PhysicalSortExpr>| {
        let plan: Arc<dyn ExecutionPlan> = if partitions == 1 || keys.is_empty() {
            Arc::new(CoalescePartitionsExec::new(plan))
        } else {
            Arc::new(RepartitionExec::try_new(plan, Partitioning::Hash(keys, partitions))?)
        };
        let Some(ordering) = LexOrdering::new(ordering) else { return internal_err!("an ASOF join sorts by time") };
        let sorted: Arc<dyn ExecutionPlan> = Arc::new(SortExec::new(ordering, plan).with_preserve_partitioning(true));
        Ok(sorted)
    };
    let left = prepared(left, join.left_keys(), join.left_ordering())?;
    let right = prepared(right, join.right_keys(), join.right_ordering())?;
    let merge: Arc<dyn ExecutionPlan> = Arc::new(AsofJoinExec::try_new(left, right, join, Mode::Merge, schema)?);
    // The order that the left side has, and that was promised.
    Ok(match order {
        Some(order) => Arc::new(SortExec::new(order, merge).with_preserve_partitioning(true)),
        None => merge,
    })
}

impl fmt::Debug for AsofJoinExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for AsofJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.mode == Mode::Index { "index" } else { "merge" };
        let keys: Vec<String> = self.join.keys.iter().map(|key| format!("{} = {}", key.left, key.right)).collect();
        let Join { shown, bound, .. } = &*self.join;
        write!(f, "AsofJoinExec: mode={mode}, match=[{shown}], on=[{}]{bound}", keys.join(", "))
    }
}

impl ExecutionPlan for AsofJoinExec {
    fn name(&self) -> &'static str {
        "AsofJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        match self.mode {
            Mode::Index => InputDistributionRequirements::new(vec![
                Distribution::UnspecifiedDistribution,
                Distribution::SinglePartition,
            ]),
            Mode::Merge | Mode::Ordered if self.is_single() => {
                InputDistributionRequirements::new(vec![Distribution::SinglePartition, Distribution::SinglePartition])
            }
            Mode::Merge | Mode::Ordered => InputDistributionRequirements::co_partitioned(vec![
                Distribution::KeyPartitioned(self.join.left_keys()),
                Distribution::KeyPartitioned(self.join.right_keys()),
            ]),
        }
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.input_distribution_requirements().into_per_child()
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        if self.mode == Mode::Index {
            return vec![None, None];
        }
        let required = |ordering| LexOrdering::new(ordering).map(OrderingRequirements::from);
        vec![required(self.join.left_ordering()), required(self.join.right_ordering())]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![self.mode != Mode::Ordered, self.mode == Mode::Merge]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let keys = self.join.keys.iter().flat_map(|key| [&key.left, &key.right]);
        apply_expression_roots(keys.chain([&self.join.times.0, &self.join.times.1]), f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([left, right]) = <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) else {
            return internal_err!("an ASOF join has two inputs");
        };
        Ok(Arc::new(Self::try_new(left, right, self.join.clone(), self.mode, self.schema())?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        match self.mode {
            Mode::Index => self.execute_index(partition, context),
            Mode::Merge | Mode::Ordered => self.execute_merge(partition, context),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        // What an index holds may move between partitions after all, see `merged`.
        let partition =
            if partition.is_some() && self.mode == Mode::Index { ChildStats::Skip } else { ChildStats::At(partition) };
        vec![partition, ChildStats::Skip]
    }

    /// As many rows as the left side has. Its columns are the same values; of the others nothing is known.
    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        if let Some(left) = inputs.first() {
            statistics.num_rows = left.num_rows;
            for (own, of_left) in statistics.column_statistics.iter_mut().zip(&left.column_statistics) {
                *own = of_left.clone();
            }
        }
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
