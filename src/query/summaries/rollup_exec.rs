//! The node that gives rows of a rollup as partial states.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimestampNanosecondType, UInt64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt};

use super::keys::batch_like;
use super::rollup::Rolled;
use super::shape::{Key, Shape, Source, What};
use crate::model::Time;
use crate::model::names::TIME;
use crate::query::functions::sketch_bytes;
use crate::query::prune::{TimeRange, truths};
use crate::query::rows::FromRollup;

/// Rows of a rollup as those of the partial aggregate beside it.
pub(super) struct RollupExec {
    input: Arc<dyn ExecutionPlan>,
    shared: Arc<Shared>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What all partitions share.
struct Shared {
    schema: SchemaRef,
    /// The columns that predicates and keys are over: those of the scan of the table.
    of_scan: SchemaRef,
    of_tags: Vec<Arc<dyn PhysicalExpr>>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// What each aggregate takes, and in which columns of the input.
    states: Vec<(Source, Vec<usize>)>,
    times: Vec<TimeRange>,
    used: FromRollup,
    rows: usize,
}

impl RollupExec {
    pub(super) fn new(schema: SchemaRef, shape: &Shape<'_>, rolled: &Rolled) -> Result<Self> {
        let columns = rolled.view.schema.arrow();
        let place = |column: &usize| rolled.buckets.columns().index_of(columns.field(*column).name());
        let mut states = Vec::new();
        for (aggregate, of) in shape.aggregates.iter().zip(&rolled.states) {
            states.push((aggregate.source, of.iter().map(place).collect::<std::result::Result<_, _>>()?));
        }
        let expr = |key: &Key| match key {
            Key::Tags(key) | Key::Time(key) => key.clone(),
        };
        let (first, last) = (rolled.times.first(), rolled.times.last());
        let used = FromRollup {
            rollup: rolled.view.schema.name().into(),
            table: shape.scan.view().schema.name().into(),
            every: Duration::from_nanos(rolled.definition.every_ns.unsigned_abs()),
            from: Time::from_nanos(first.map_or(0, |time| time.lo)),
            until: Time::from_nanos(last.map_or(0, |time| time.hi)),
            rows_gone_before: rolled.knows_more().then_some(Time::from_nanos(rolled.gone_before)),
        };
        let shared = Shared {
            schema,
            of_scan: shape.scan.columns().clone(),
            of_tags: shape.of_tags.clone(),
            keys: shape.keys.iter().map(expr).collect(),
            states,
            times: rolled.times.clone(),
            used,
            rows: rolled.buckets.rows(),
        };
        Ok(Self::over(Arc::new(shared), rolled.buckets.clone()))
    }

    fn over(shared: Arc<Shared>, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(shared.schema.clone()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, shared, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

/// The rollups that a plan is answered from.
pub(in crate::query) fn rollups_used(plan: &Arc<dyn ExecutionPlan>) -> Vec<FromRollup> {
    let below = plan.children().into_iter().flat_map(rollups_used);
    plan.downcast_ref::<RollupExec>().map(|exec| exec.shared.used.clone()).into_iter().chain(below).collect()
}

impl fmt::Debug for RollupExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for RollupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { used, times, rows, .. } = &*self.shared;
        let times: Vec<String> = times
            .iter()
            .map(|time| format!("{}..{}", Time::from_nanos(time.lo), Time::from_nanos(time.hi.saturating_add(1))))
            .collect();
        write!(f, "DenyutRollup: rollup={}, of={}, every={:?}", used.rollup, used.table, used.every)?;
        write!(f, ", times=[{}], buckets={rows}", times.join(", "))?;
        match used.rows_gone_before {
            Some(before) => write!(f, ", rows_gone_before={before}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for RollupExec {
    fn name(&self) -> &'static str {
        "DenyutRollup"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.into_iter().next() else { return internal_err!("DenyutRollup has one child") };
        Ok(Arc::new(Self::over(self.shared.clone(), input)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(RollupStream {
            shared: self.shared.clone(),
            input: self.input.execute(partition, context)?,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl Shared {
    /// Buckets as states.
    fn states(&self, buckets: &RecordBatch) -> Result<RecordBatch> {
        let buckets = filter_record_batch(buckets, &self.within(buckets)?)?;
        let like_scan = |buckets: &RecordBatch| {
            batch_like(&self.of_scan, buckets.num_rows(), |name| Ok(buckets.column_by_name(name).cloned()))
        };
        let mut matching = arrow::buffer::BooleanBuffer::new_set(buckets.num_rows());
        for predicate in &self.of_tags {
            matching = &matching & &truths(&**predicate, &like_scan(&buckets)?)?;
        }
        let buckets = filter_record_batch(&buckets, &BooleanArray::new(matching, None))?;
        let (rows, mut columns) = (like_scan(&buckets)?, Vec::with_capacity(self.schema.fields().len()));
        for key in &self.keys {
            columns.push(key.evaluate(&rows)?.into_array(rows.num_rows())?);
        }
        for (source, of) in &self.states {
            let states = of.iter().map(|at| buckets.columns().get(*at).cloned());
            let states = states.collect::<Option<Vec<_>>>().ok_or_else(|| internal_datafusion_err!("no column"))?;
            columns.extend(of_source(*source, states)?);
        }
        let columns = columns.into_iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| cast(&column, field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(buckets.num_rows()));
        let columns = columns.collect::<std::result::Result<_, _>>()?;
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Which buckets are of the times that are wanted: a scan gives perhaps more.
    fn within(&self, buckets: &RecordBatch) -> Result<BooleanArray> {
        let times = buckets.column_by_name(TIME).and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
        let Some(times) = times else { return internal_err!("buckets without a time") };
        let is_wanted = |at: &i64| {
            let before = self.times.partition_point(|time| time.hi < *at);
            self.times.get(before).is_some_and(|time| time.contains(*at))
        };
        Ok(times.values().iter().map(is_wanted).collect::<Vec<bool>>().into())
    }
}

/// Columns of a rollup as the states of an aggregate, in types that can be cast to theirs.
fn of_source(source: Source, mut columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    let times = |column: &ArrayRef| cast(column, &DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None));
    match source {
        Source::Field { what: What::Value(_), .. } => {
            if let Some(at) = columns.get_mut(1) {
                *at = times(at)?;
            }
        }
        Source::Field { what: What::Time(_), .. } => {
            if let Some(at) = columns.get_mut(0) {
                *at = times(at)?;
            }
        }
        Source::Field { what: What::Mean, .. } => {
            // A count of zero is a state for the engine, and the mean of nothing would be no null.
            if let Some(counts) = columns.get_mut(0) {
                let of = counts.as_primitive::<UInt64Type>().values().clone();
                let nulls = of.contains(&0).then(|| NullBuffer::from_iter(of.iter().map(|count| *count > 0)));
                *counts = Arc::new(UInt64Array::new(of, nulls));
            }
        }
        Source::Sketch { .. } => {
            for sketches in &mut columns {
                let texts = sketches.as_string_view();
                let bytes = texts.iter().map(|text| text.map(sketch_bytes).transpose());
                *sketches = Arc::new(BinaryArray::from_iter(bytes.collect::<Result<Vec<_>>>()?));
            }
        }
        Source::Rows | Source::Time(_) | Source::Field { .. } => {}
    }
    Ok(columns)
}

struct RollupStream {
    shared: Arc<Shared>,
    input: SendableRecordBatchStream,
    metrics: BaselineMetrics,
}

impl Stream for RollupStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.input.poll_next_unpin(context);
        let elapsed = self.metrics.elapsed_compute().clone();
        let timer = elapsed.timer();
        let states = polled.map(|batch| batch.map(|batch| batch.and_then(|batch| self.shared.states(&batch))));
        timer.done();
        self.metrics.record_poll(states)
    }
}

impl RecordBatchStream for RollupStream {
    fn schema(&self) -> SchemaRef {
        self.shared.schema.clone()
    }
}
