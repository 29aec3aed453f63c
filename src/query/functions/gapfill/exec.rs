//! The physical node, and how it is planned from the logical one.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
    PhysicalSortRequirement,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties, ReplaceChildrenOptions,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::BIN;
use super::arrange::{Arrangement, Measures, arranged};
use super::bounds::Bound;
use super::grid::{Grid, MaxGap};
use super::node::{Fill, GapFill};
use super::stream::GapFillStream;
use crate::query::functions::arguments::{constant, tick_ns, wrong};
use crate::query::functions::bins::Bins;
use crate::query::functions::wallclock;

/// How a column is filled, all constants known.
#[derive(Debug)]
pub(super) enum Rule {
    Key,
    Time,
    Constant(ScalarValue),
    Locf(Option<MaxGap>),
    Interpolate(Option<MaxGap>),
}

#[derive(Debug)]
pub(super) struct FilledColumn {
    pub(super) source: usize,
    pub(super) rule: Rule,
}

/// What a node does.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) function: &'static str,
    pub(super) columns: Vec<FilledColumn>,
    /// The bins among the input's columns, and nanoseconds of one tick of their type.
    pub(super) time: usize,
    pub(super) tick_ns: i64,
    bins: Bins,
    /// The first and the last moment of the range.
    first_ns: i64,
    last_ns: i64,
}

impl Spec {
    /// Places of the group keys but the bins.
    pub(super) fn keys(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().filter(|column| matches!(column.rule, Rule::Key)).map(|column| column.source)
    }

    /// The columns that are filled from others of their rows, in order.
    pub(super) fn filled(&self) -> impl Iterator<Item = (usize, &Rule)> {
        let filled = self.columns.iter().filter(|column| matches!(column.rule, Rule::Locf(_) | Rule::Interpolate(_)));
        filled.map(|column| (column.source, &column.rule))
    }
}

/// Plans [`GapFill`].
pub(in crate::query::functions) struct GapFillPlanner;

impl ExtensionPlanner for GapFillPlanner {
    fn plan_extension<'s, 'p, 'n, 'l, 'i, 'x, 'e, 'c, 'f>(
        &'s self,
        planner: &'p dyn PhysicalPlanner,
        node: &'n dyn UserDefinedLogicalNode,
        _: &'l [&'i LogicalPlan],
        inputs: &'x [Arc<dyn ExecutionPlan>],
        session: &'e dyn Session,
        context: &'c PhysicalPlanningContext,
    ) -> BoxFuture<'f, Result<Option<Arc<dyn ExecutionPlan>>>>
    where
        's: 'f,
        'p: 'f,
        'n: 'f,
        'l: 'f,
        'i: 'f,
        'x: 'f,
        'e: 'f,
        'c: 'f,
    {
        let planned = || -> Result<Option<Arc<dyn ExecutionPlan>>> {
            let Some(node) = node.as_any().downcast_ref::<GapFill>() else { return Ok(None) };
            let Some(input) = inputs.first() else { return internal_err!("GapFill has no input") };
            let nothing = DFSchema::empty();
            let value = |expression: &Expr| -> Result<Option<ScalarValue>> {
                Ok(constant(&planner.create_physical_expr(expression, &nothing, session, context)?))
            };
            let spec = spec(node, &input.schema(), &value)?;
            let schema = node.schema.inner().clone();
            Ok(Some(Arc::new(GapFillExec::new(input.clone(), schema, Arc::new(spec))?)))
        };
        std::future::ready(planned()).boxed()
    }
}

type Constants<'a> = &'a dyn Fn(&Expr) -> Result<Option<ScalarValue>>;

fn spec(node: &GapFill, input: &SchemaRef, value: Constants) -> Result<Spec> {
    let function = node.function;
    let Some(field) = input.fields().get(node.time) else { return internal_err!("{function}: the bins are missing") };
    let time = field.data_type();
    let interval = value(&node.interval)?;
    let interval = wallclock::scalar(function, "interval", interval.as_ref())?;
    let origin = match &node.origin {
        Some(origin) => Some(wallclock::scalar(function, "origin", value(origin)?.as_ref())?.clone()),
        None => None,
    };
    let bins = if function == BIN {
        let stride = wallclock::stride(function, interval)?;
        let origin = origin.map_or(Ok(Some(0)), |origin| moment(&origin, time.clone()))?;
        let remedy = "give a constant timestamp";
        Bins::new(stride, origin.ok_or_else(|| wrong(function, "origin", "is null", remedy))?, None)
    } else {
        wallclock::bins(function, interval, time, origin.as_ref())?
    };
    let tick_ns = tick_ns(time);
    let (first_ns, last_ns) = range(node, time, tick_ns, value)?.unwrap_or((0, -1));
    let zone = if function == BIN { None } else { wallclock::zone(function, time)? };
    let gap = |name: &str, gap: &Option<Expr>| -> Result<Option<MaxGap>> {
        let Some(expression) = gap else { return Ok(None) };
        let remedy = "give a constant and positive interval, such as INTERVAL '1 hour', or leave it out";
        let is = |what: String| wrong(name, "max_gap", what, remedy);
        let value = value(expression)?.ok_or_else(|| is("is not constant".into()))?;
        let kind = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        match value.cast_to(&kind) {
            Ok(ScalarValue::IntervalMonthDayNano(Some(interval)))
                if interval.months >= 0
                    && interval.days >= 0
                    && interval.nanoseconds >= 0
                    && interval != Default::default() =>
            {
                Ok(Some(MaxGap { interval, zone }))
            }
            Ok(ScalarValue::IntervalMonthDayNano(Some(_))) => Err(is(format!("is {value}, which is not positive"))),
            _ => Err(is(format!("is {value}, which is no interval"))),
        }
    };
    let rule = |fill: &Fill| -> Result<Rule> {
        Ok(match fill {
            Fill::Key => Rule::Key,
            Fill::Time => Rule::Time,
            Fill::Constant(value) => Rule::Constant(value.clone()),
            Fill::Locf { max_gap } => Rule::Locf(gap(super::LOCF, max_gap)?),
            Fill::Interpolate { max_gap } => Rule::Interpolate(gap(super::INTERPOLATE, max_gap)?),
        })
    };
    let column = |column: &super::node::Filled| Ok(FilledColumn { source: column.source, rule: rule(&column.fill)? });
    let columns = node.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(Spec { function, columns, time: node.time, tick_ns, bins, first_ns, last_ns })
}

/// A constant as nanoseconds: of UTC if the bins are moments, local if they are local. None is null.
fn moment(value: &ScalarValue, like: DataType) -> Result<Option<i64>> {
    let zone = match like {
        DataType::Timestamp(_, Some(_)) => Some("+00:00".into()),
        _ => None,
    };
    match value.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, zone))? {
        ScalarValue::TimestampNanosecond(moment, _) => Ok(moment),
        other => internal_err!("{other} is no timestamp"),
    }
}

/// The first and the last moment that all bounds leave; none if one of them is null and so no row is there.
fn range(node: &GapFill, time: &DataType, tick_ns: i64, value: Constants) -> Result<Option<(i64, i64)>> {
    let ends = |bounds: &[Bound]| -> Result<Option<Vec<(i64, bool)>>> {
        let end = |bound: &Bound| -> Result<Option<(i64, bool)>> {
            let wrong = |what: String| {
                let remedy = "give constants between the years 1677 and 2262";
                DataFusionError::Plan(format!(
                    "{}: the bound {} of the time {what}; {remedy}",
                    node.function, bound.end
                ))
            };
            let found = value(&bound.end)?.ok_or_else(|| wrong("is not constant".into()))?;
            let found = moment(&found, time.clone())
                .map_err(|error| wrong(format!("is no time: {}", error.strip_backtrace())))?;
            Ok(found.map(|end| (end, bound.is_inclusive)))
        };
        bounds.iter().map(end).collect()
    };
    let (Some(lower), Some(upper)) = (ends(&node.bounds.lower)?, ends(&node.bounds.upper)?) else { return Ok(None) };
    let down = |ns: i64| ns.div_euclid(tick_ns).saturating_mul(tick_ns);
    let up = |ns: i64| if ns.rem_euclid(tick_ns) == 0 { ns } else { down(ns).saturating_add(tick_ns) };
    let first = |(ns, is_inclusive)| if is_inclusive { up(ns) } else { down(ns).saturating_add(tick_ns) };
    let last = |(ns, is_inclusive)| if is_inclusive { down(ns) } else { up(ns).saturating_sub(tick_ns) };
    Ok(lower.into_iter().map(first).max().zip(upper.into_iter().map(last).min()))
}

#[derive(Debug)]
struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<Spec>,
    /// How rows of a group are brought together, unless they are in the input.
    arrangement: Option<Arrangement>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GapFillExec {
    fn new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef, spec: Arc<Spec>) -> Result<Self> {
        let is_arranged = match requirement(&input, &spec)? {
            Some(needed) => input.equivalence_properties().ordering_satisfy_requirement(needed)?,
            None => false,
        };
        let arrangement = if is_arranged { None } else { Some(arrangement(&input, &spec)?) };
        let order = match &arrangement {
            Some(arrangement) => Some(&arrangement.order),
            None => input.output_ordering(),
        };
        let mut equivalences = EquivalenceProperties::new(schema.clone());
        if let Some(ordering) = order.and_then(|order| ordering(order, &schema, &spec)) {
            equivalences.add_ordering(ordering);
        }
        // Group keys keep their places, so what the input is partitioned by, the output is too.
        let partitioning = match input.output_partitioning() {
            hashed @ datafusion::physical_plan::Partitioning::Hash(..) => hashed.clone(),
            other => datafusion::physical_plan::Partitioning::UnknownPartitioning(other.partition_count()),
        };
        let below = input.properties();
        let properties = PlanProperties::new(equivalences, partitioning, below.emission_type, below.boundedness);
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Ok(Self { input, spec, arrangement, properties, metrics })
    }
}

fn column(input: &Arc<dyn ExecutionPlan>, source: usize) -> Result<Arc<dyn PhysicalExpr>> {
    match input.schema().fields().get(source) {
        Some(field) => Ok(Arc::new(Column::new(field.name(), source))),
        None => internal_err!("gap filling: column {source} is missing"),
    }
}

/// What an input is if it need not be arranged.
fn requirement(input: &Arc<dyn ExecutionPlan>, spec: &Spec) -> Result<Option<LexRequirement>> {
    let ascending = arrow::compute::SortOptions { descending: false, nulls_first: true };
    let needed = |source: usize| {
        // Groups come in any order, the bins of one in that of time.
        let options = (source == spec.time).then_some(ascending);
        Ok(PhysicalSortRequirement::new(column(input, source)?, options))
    };
    let needed = spec.keys().chain([spec.time]).map(needed).collect::<Result<Vec<_>>>()?;
    Ok(LexRequirement::new(needed))
}

/// As ORDER BY has it unless it says otherwise, so that `ORDER BY key, bin` costs nothing more.
fn arrangement(input: &Arc<dyn ExecutionPlan>, spec: &Spec) -> Result<Arrangement> {
    let ascending = arrow::compute::SortOptions { descending: false, nulls_first: false };
    let keys: Vec<usize> = spec.keys().collect();
    let sort = |source: &usize| Ok(PhysicalSortExpr::new(column(input, *source)?, ascending));
    match LexOrdering::new(keys.iter().chain([&spec.time]).map(sort).collect::<Result<Vec<_>>>()?) {
        Some(order) => Ok(Arrangement { keys, time: spec.time, order }),
        None => internal_err!("{}: nothing to order by", spec.function),
    }
}

/// Group and time among the columns of the output, as far as rows of the input are in that order.
fn ordering(order: &LexOrdering, schema: &SchemaRef, spec: &Spec) -> Option<LexOrdering> {
    let ordered = order.iter().take(spec.keys().count() + 1);
    let expressions = ordered.map(|sort| {
        let source = sort.expr.downcast_ref::<Column>()?.index();
        let place = spec
            .columns
            .iter()
            .position(|column| column.source == source && matches!(column.rule, Rule::Key | Rule::Time));
        let column = Column::new(schema.fields().get(place?)?.name(), place?);
        Some(PhysicalSortExpr::new(Arc::new(column), sort.options))
    });
    LexOrdering::new(expressions.map_while(|sort| sort))
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |ns: i64| crate::model::Time::from_nanos(ns);
        let (first, last) = (time(self.spec.first_ns), time(self.spec.last_ns));
        write!(f, "GapFillExec: {}, from {first} to {last}", self.spec.function)?;
        let schema = self.schema();
        for (column, field) in self.spec.columns.iter().zip(schema.fields()) {
            if matches!(column.rule, Rule::Locf(_) | Rule::Interpolate(_)) {
                write!(f, ", {}", field.name())?;
            }
        }
        if self.arrangement.is_some() {
            write!(f, ", groups gathered")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &'static str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let keys: Result<Vec<_>> = self.spec.keys().map(|source| column(&self.input, source)).collect();
        match keys {
            Ok(keys) if !keys.is_empty() => vec![Distribution::KeyPartitioned(keys)],
            _ => vec![Distribution::SinglePartition],
        }
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        // An order that is there is to stay; one that is not costs more than arranging.
        let needed = match self.arrangement {
            None => requirement(&self.input, &self.spec).ok().flatten(),
            Some(_) => None,
        };
        vec![needed.map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.arrangement.is_none()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
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
        Ok(Arc::new(Self::new(input, self.schema(), self.spec.clone())?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context.clone())?;
        let spec = self.spec.clone();
        let reservation = MemoryConsumer::new(format!("GapFill[{partition}]")).register(context.memory_pool());
        let grid = Grid::new(&spec.bins, spec.first_ns, spec.last_ns, |bytes| reservation.try_grow(bytes))?;
        let Some(grid) = grid else {
            let remedy = "give bounds between the years 1677 and 2262";
            return Err(DataFusionError::Execution(format!("{}: the range is too wide; {remedy}", spec.function)));
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batch_rows = context.session_config().batch_size();
        let input = match &self.arrangement {
            None => input,
            Some(arrangement) => {
                let measures = Measures::new(&self.metrics, partition, metrics.elapsed_compute().clone());
                arranged(input, arrangement.clone(), context, partition, measures)?
            }
        };
        Ok(Box::pin(GapFillStream::new(input, self.schema(), spec, grid, reservation, metrics, batch_rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
