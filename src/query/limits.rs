//! The root of every plan: deadline, rows, and copying out.
//!
//! The plan below runs as a task on the engine's own threads and hands batches over a channel; the caller's side waits
//! for a batch or for the alarm, whichever is first. So the error of a deadline does not depend on the operators, which
//! may be busy for longer, nor on the caller's runtime, which may have no timer. Dropping the caller's side ends the
//! task, and with it every task below.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{exec_datafusion_err, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions, Statistics,
};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::failure::external;
use super::stop::{Stop, stoppable};
use super::threads::Threads;
use crate::error::Error;
use crate::snapshot::copying::owned;

/// Batches that wait for a caller who is slower than the query.
const BATCHES_WAITING_MAX: usize = 2;

/// What a query may take, and where it runs.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    pub(super) rows_max: usize,
    pub(super) threads: Arc<Threads>,
}

/// Puts [`LimitsExec`] above every plan. The last rule: nothing may move below or above it afterwards.
#[derive(Debug)]
pub(super) struct LimitsRule(pub(super) Arc<Limits>);

impl PhysicalOptimizerRule for LimitsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let stop = Stop::default();
        Ok(rooted(stoppable(plan, &stop)?, &self.0, stop))
    }

    fn name(&self) -> &str {
        "limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `plan` below the root node, if it is not yet: the rules leave out what explains a plan.
pub(super) fn limited(plan: Arc<dyn ExecutionPlan>, limits: &Arc<Limits>) -> Arc<dyn ExecutionPlan> {
    if plan.is::<LimitsExec>() { plan } else { rooted(plan, limits, Stop::default()) }
}

fn rooted(mut input: Arc<dyn ExecutionPlan>, limits: &Arc<Limits>, stop: Stop) -> Arc<dyn ExecutionPlan> {
    if input.output_partitioning().partition_count() != 1 {
        input = match input.output_ordering().cloned() {
            Some(ordering) => Arc::new(SortPreservingMergeExec::new(ordering, input)),
            None => Arc::new(CoalescePartitionsExec::new(input)),
        };
    }
    Arc::new(LimitsExec::new(input, limits.clone(), stop))
}

#[derive(Debug)]
struct LimitsExec {
    input: Arc<dyn ExecutionPlan>,
    limits: Arc<Limits>,
    stop: Stop,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LimitsExec {
    fn new(input: Arc<dyn ExecutionPlan>, limits: Arc<Limits>, stop: Stop) -> Self {
        let below = input.properties();
        let mut equivalences = EquivalenceProperties::new(input.schema());
        if let Some(ordering) = input.output_ordering() {
            equivalences.add_ordering(ordering.clone());
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            below.emission_type,
            below.boundedness,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { input, limits, stop, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for LimitsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitsExec: query_timeout={:?}, query_rows_max={}", self.limits.timeout, self.limits.rows_max)
    }
}

impl ExecutionPlan for LimitsExec {
    fn name(&self) -> &'static str {
        "LimitsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        let input = children.into_iter().next().unwrap_or_else(|| self.input.clone());
        Ok(Arc::new(Self::new(input, self.limits.clone(), self.stop.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let deadline = Instant::now() + self.limits.timeout;
        let (batches, received) = mpsc::channel(BATCHES_WAITING_MAX);
        let query = Query {
            input: self.input.clone(),
            limits: self.limits.clone(),
            deadline,
            batches,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        self.stop.set(false);
        let stop = self.stop.clone();
        // Set on the clock's thread: the task that waits may itself wait for a worker.
        let alarm = self.limits.threads.alarm(deadline, move || stop.set(true)).map_err(external)?;
        let task = self.limits.threads.spawn(query.run(context)).map_err(external)?;
        let (limits, stop) = (self.limits.clone(), self.stop.clone());
        Ok(Box::pin(Answer { schema: self.schema(), received, task, alarm, limits, stop, done: false }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, _: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let unknown = || Arc::new(Statistics::new_unknown(&self.schema()));
        Ok(inputs.first().cloned().unwrap_or_else(unknown))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

fn timed_out(limits: &Limits) -> datafusion::error::DataFusionError {
    external(Error::QueryTimeout { query_timeout: limits.timeout })
}

/// The side that works.
struct Query {
    input: Arc<dyn ExecutionPlan>,
    limits: Arc<Limits>,
    deadline: Instant,
    batches: mpsc::Sender<Result<RecordBatch>>,
    metrics: BaselineMetrics,
}

impl Query {
    async fn run(self, context: Arc<TaskContext>) {
        if let Err(error) = self.send_all(context).await {
            // A caller who has left wants no error either.
            let _ = self.batches.send(Err(error)).await;
        }
    }

    async fn send_all(&self, context: Arc<TaskContext>) -> Result<()> {
        let mut stream = self.input.execute(0, context)?;
        let mut admitted = Admitted { limits: &self.limits, deadline: self.deadline, metrics: &self.metrics, rows: 0 };
        while let Some(batch) = stream.next().await {
            let copy = admitted.copy(&batch?)?;
            if self.batches.send(Ok(copy)).await.is_err() {
                break;
            }
        }
        self.metrics.done();
        Ok(())
    }
}

/// What is let out of a plan.
struct Admitted<'a> {
    limits: &'a Limits,
    deadline: Instant,
    metrics: &'a BaselineMetrics,
    rows: usize,
}

impl Admitted<'_> {
    /// A copy of `batch`, if the limits allow it.
    fn copy(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        if Instant::now() >= self.deadline {
            return Err(timed_out(self.limits));
        }
        self.rows += batch.num_rows();
        if self.rows > self.limits.rows_max {
            return Err(external(Error::LimitExceeded {
                limit: "query_rows_max",
                max: self.limits.rows_max as u64,
                found: self.rows as u64,
                place: "rows of an answer".into(),
            }));
        }
        let _timer = self.metrics.elapsed_compute().timer();
        Ok(owned(batch)?.record_output(self.metrics))
    }
}

/// The rows of a plan with its root, gathered by the task that asks, which is one of the engine's and watched by a caller
/// who waits no longer than the timeout and then sets `stop`.
pub(super) async fn gather(
    plan: &Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    stop: &OnceLock<Stop>,
) -> Result<Vec<RecordBatch>> {
    let Some(root) = plan.downcast_ref::<LimitsExec>() else {
        return internal_err!("a plan without its limits");
    };
    stop.get_or_init(|| root.stop.clone());
    let metrics = BaselineMetrics::new(&root.metrics, 0);
    let deadline = Instant::now() + root.limits.timeout;
    let mut admitted = Admitted { limits: &root.limits, deadline, metrics: &metrics, rows: 0 };
    let mut stream = root.input.execute(0, context)?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(admitted.copy(&batch?)?);
    }
    Ok(batches)
}

/// The side that waits.
struct Answer {
    schema: SchemaRef,
    received: mpsc::Receiver<Result<RecordBatch>>,
    task: JoinHandle<()>,
    alarm: JoinHandle<()>,
    limits: Arc<Limits>,
    stop: Stop,
    done: bool,
}

impl Answer {
    fn end(&mut self) {
        self.done = true;
        self.stop.set(true);
        self.task.abort();
        self.alarm.abort();
        self.received.close();
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        if let Err(forked) = this.limits.threads.check() {
            this.done = true;
            return Poll::Ready(Some(Err(external(forked))));
        }
        let item = match this.received.poll_recv(context) {
            // What an operator says when it finds itself stopped is no more than an echo of the alarm.
            Poll::Ready(Some(Err(_))) if this.stop.is_set() => Some(Err(timed_out(&this.limits))),
            Poll::Ready(Some(item)) => Some(item),
            // The task has ended, and if not of itself then of a panic.
            Poll::Ready(None) => match Pin::new(&mut this.task).poll(context) {
                Poll::Ready(ended) => {
                    ended.err().map(|error| Err(exec_datafusion_err!("the query broke off: {error}")))
                }
                Poll::Pending => return Poll::Pending,
            },
            Poll::Pending => match Pin::new(&mut this.alarm).poll(context) {
                Poll::Ready(_) => Some(Err(timed_out(&this.limits))),
                Poll::Pending => return Poll::Pending,
            },
        };
        if !matches!(item, Some(Ok(_))) {
            this.end();
        }
        Poll::Ready(item)
    }
}

impl RecordBatchStream for Answer {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.limits.threads.check().is_ok() {
            self.end();
        } else {
            // In a forked child there is nothing to end, and the channel to its threads may be locked for ever.
            let (_, closed) = mpsc::channel(1);
            std::mem::forget(std::mem::replace(&mut self.received, closed));
        }
    }
}
