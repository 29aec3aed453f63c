//! Statements that are planned once and answered often.
//!
//! What is kept is the optimized logical plan, with the parameters still in it and `now()` as one more of them. An
//! execution takes a snapshot, gives the plan's scans that moment of their tables, puts in the values, and makes the
//! physical plan. Whatever depends on rows (statistics, what is pruned, where the latest rows are) is decided there, so an
//! answer is what the statement would give if it were sent anew.
//!
//! **Invariant:** nothing of one moment is in what is kept: no row, no count, no time, nor a share in a snapshot. Of schemas
//! there is, and a plan whose tables have other columns by now is made again.
//!
//! Where that cannot be promised (system tables, functions of floors above, nodes of this crate's own, `EXPLAIN`,
//! `current_date`, parameters whose type nobody knows) the statement is planned anew each time.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, ParamValues, ScalarValue, plan_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, TableScan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::ExecutionPlan;

use super::catalog::Moment;
use super::engine::{Engine, at, logical};
use super::limits::{gather, limited};
use super::provider::StoreTable;
use super::rows::Rows;
use super::scan::rows_read;
use super::stop::Stop;
use super::summaries::rollups_used;
use crate::error::{Error, Result};
use crate::model::table::time_type;
use crate::model::{Time, Value, now};
use crate::snapshot::Snapshot;

/// Rows up to which a statement is run by one thread.
const ONE_THREAD_ROWS_MAX: usize = 64 << 10;

/// The parameter that stands for `now()`.
const NOW: &str = "denyut_now";

/// A statement that is planned once. Made by [`Store::prepare`](crate::Store::prepare); cheap to clone.
///
/// Each answer is of the moment of its call, as if the statement were sent anew.
#[derive(Clone)]
pub struct Prepared {
    engine: Engine,
    statement: Arc<Statement>,
}

struct Statement {
    text: String,
    opening: String,
    /// `None` until it was planned, and if it is planned each time.
    kept: ArcSwapOption<Kept>,
    each_time: OnceLock<()>,
}

/// A plan that any moment can be put in.
struct Kept {
    plan: LogicalPlan,
    /// Parameters by name, with their types.
    parameters: Vec<(String, DataType)>,
}

/// A value for a statement's parameter: whatever a [`Value`] is made of, or a [`Time`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Parameter<'a> {
    /// A value as rows have them.
    Value(Value<'a>),
    /// A time.
    Time(Time),
}

impl<'a, T: Into<Value<'a>>> From<T> for Parameter<'a> {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

impl From<Time> for Parameter<'_> {
    fn from(time: Time) -> Self {
        Self::Time(time)
    }
}

fn time_value(nanoseconds: i64) -> ScalarValue {
    ScalarValue::TimestampNanosecond(Some(nanoseconds), Some("UTC".into()))
}

impl Parameter<'_> {
    /// As a scalar of the type, if one is known.
    fn scalar(&self, wanted: Option<&DataType>) -> std::result::Result<ScalarValue, DataFusionError> {
        let value = match *self {
            Self::Time(time) => time_value(time.as_nanos()),
            Self::Value(Value::Null) => ScalarValue::Null,
            Self::Value(Value::F64(value)) => value.into(),
            Self::Value(Value::I64(value)) => value.into(),
            Self::Value(Value::U64(value)) => value.into(),
            Self::Value(Value::Bool(value)) => value.into(),
            Self::Value(Value::Utf8(value)) => ScalarValue::Utf8View(Some(value.into())),
            Self::Value(Value::Decimal(value)) => match wanted {
                Some(DataType::Decimal128(precision, scale)) => {
                    ScalarValue::Decimal128(Some(value), *precision, *scale)
                }
                _ => ScalarValue::Decimal128(Some(value), 38, 0),
            },
        };
        match wanted {
            Some(wanted) if value.data_type() != *wanted => converted(&value, wanted),
            _ => Ok(value),
        }
    }
}

/// `value` as one of another type, if it is the same there. Texts are read as SQL reads them.
fn converted(value: &ScalarValue, wanted: &DataType) -> std::result::Result<ScalarValue, DataFusionError> {
    let found = value.cast_to(wanted)?;
    if value.is_null() || value.data_type().is_string() {
        return Ok(found);
    }
    let is_same = match (value, found.cast_to(&value.data_type())) {
        (ScalarValue::Float64(Some(value)), Ok(ScalarValue::Float64(Some(back)))) => {
            *value == back || value.is_nan() && back.is_nan()
        }
        (value, Ok(back)) => *value == back,
        (_, Err(_)) => false,
    };
    if is_same {
        return Ok(found);
    }
    plan_err!("{value} is no {wanted} and would become {found}; give a value of that type")
}

impl Prepared {
    /// Reads and plans a statement. Runs on the engine's threads, since planning needs their stacks.
    pub(super) async fn new(engine: &Engine, text: &str) -> Result<Self> {
        let opening = engine.check(text)?;
        let (kept, each_time) = (ArcSwapOption::empty(), OnceLock::new());
        let statement = Arc::new(Statement { text: text.into(), opening, kept, each_time });
        let prepared = Self { engine: engine.clone(), statement };
        prepared.keep(&engine.snapshot()?).await?;
        Ok(prepared)
    }

    /// The text that was prepared.
    pub fn text(&self) -> &str {
        &self.statement.text
    }

    /// Runs the statement with values for its parameters `$1`, `$2`, .., and waits for its rows.
    ///
    /// # Errors
    /// As [`Store::query`](crate::Store::query); [`Query`](Error::Query) for a parameter without a value and for a value
    /// that is not of its parameter's type, or would be another value there: 1.5 is no integer, and 2⁵³ + 1 no float.
    pub fn query(&self, parameters: &[Parameter<'_>]) -> Result<Rows> {
        let kept = self.statement.kept.load_full();
        let types = |name: &str| {
            let kept = kept.as_ref()?;
            kept.parameters.iter().find(|(known, _)| known == name).map(|(_, data_type)| data_type)
        };
        let mut values = Vec::with_capacity(parameters.len() + 1);
        for (number, parameter) in (1..).zip(parameters) {
            let name = format!("{number}");
            let value = parameter
                .scalar(types(&name))
                .map_err(|error| Error::Query { message: format!("parameter ${name}: {error}") })?;
            values.push((name, value));
        }
        let (prepared, stop) = (self.clone(), Arc::new(OnceLock::new()));
        let stopped = stop.clone();
        let run = async move { prepared.run(values, &stop).await };
        self.engine.wait(run, || stopped.get().into_iter().for_each(|stop: &Stop| stop.set(true)))
    }

    #[cfg(test)]
    pub(super) fn is_kept(&self) -> bool {
        self.statement.kept.load().is_some()
    }

    #[cfg(test)]
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    async fn run(&self, values: Vec<(String, ScalarValue)>, stop: &OnceLock<Stop>) -> Result<Rows> {
        let plan = self.physical(values).await?;
        let schema = plan.schema();
        let rollups = rollups_used(&plan);
        Ok(Rows::new(schema, gather(&plan, self.engine.context(), stop).await?).with_rollups(rollups))
    }

    /// The plan of this moment.
    async fn physical(&self, mut values: Vec<(String, ScalarValue)>) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = self.engine.snapshot()?;
        values.push((NOW.into(), time_value(now().as_nanos())));
        let mut kept = self.statement.kept.load_full();
        for _ in 0..2 {
            if let Some(known) = &kept {
                match bound(&known.plan, &snapshot)? {
                    Some(plan) => return self.physical_of(plan, values).await,
                    // A table has other fields by now.
                    None => kept = self.keep(&snapshot).await?,
                }
            }
        }
        let (state, plan) = self.logical(&snapshot, true).await?;
        let plan = plan.replace_params_with_values(&ParamValues::from(values))?;
        Ok(limited(state.create_physical_plan(&plan).await?, self.engine.limits()))
    }

    /// The statement's plan at `snapshot`, as it is written; `with_above` it may call functions of floors above.
    async fn logical(&self, snapshot: &Arc<Snapshot>, with_above: bool) -> Result<(SessionState, LogicalPlan)> {
        let moment = Moment::Pinned(snapshot.clone(), self.engine.source());
        let state = at(self.engine.state(usize::MAX), moment, with_above.then(|| self.engine.above()));
        let plan = logical(&state, &self.statement.text, &self.statement.opening).await?;
        Ok((state, plan))
    }

    /// Of an optimized plan with its scans bound. What reads little is planned for one thread: for that, starting others
    /// costs more than they save.
    async fn physical_of(
        &self,
        plan: LogicalPlan,
        values: Vec<(String, ScalarValue)>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = with_values(plan, values, self.engine.state(1))?;
        let one = self.engine.state(1);
        let physical = one.query_planner().create_physical_plan(&plan, one).await?;
        if rows_read(&physical) <= ONE_THREAD_ROWS_MAX {
            return Ok(physical);
        }
        let all = self.engine.state(usize::MAX);
        Ok(all.query_planner().create_physical_plan(&plan, all).await?)
    }

    /// Plans the statement at `snapshot`, and keeps that if it holds for others.
    async fn keep(&self, snapshot: &Arc<Snapshot>) -> Result<Option<Arc<Kept>>> {
        let kept = match self.logical(snapshot, false).await {
            Ok((state, plan)) if self.statement.each_time.get().is_none() => timeless(plan, &state)?.map(Arc::new),
            Ok(_) => None,
            // It may call a function of a floor above, whose plan is made of one snapshot and of the time.
            Err(_) => {
                self.logical(snapshot, true).await?;
                None
            }
        };
        if kept.is_none() {
            tracing::debug!(statement = self.statement.text, "planned each time");
            self.statement.each_time.get_or_init(|| ());
        }
        self.statement.kept.store(kept.clone());
        Ok(kept)
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("text", &self.statement.text).finish_non_exhaustive()
    }
}

/// `plan` optimized, with nothing of this moment in it; `None` if that cannot be.
fn timeless(plan: LogicalPlan, state: &SessionState) -> Result<Option<Kept>> {
    let mut fits = true;
    let marked = plan.clone().transform_down_with_subqueries(|node| {
        fits &= match &node {
            LogicalPlan::Extension(_) | LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => false,
            LogicalPlan::DescribeTable(_) | LogicalPlan::RecursiveQuery(_) => false,
            LogicalPlan::TableScan(scan) => {
                source_as_provider(&scan.source).is_ok_and(|table| table.is::<StoreTable>())
            }
            _ => true,
        };
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let marked = expr.transform(|expr| Ok(marked_now(expr, &mut fits)))?;
            Ok(if marked.transformed { marked.update_data(|expr| name.restore(expr)) } else { marked })
        })
    })?;
    if !fits {
        return Ok(None);
    }
    let plan = match state.optimize(&marked.data) {
        Ok(plan) => plan,
        // What is not known of a parameter, of which `now()` is one here, may be an error where its value would be none.
        Err(_) => {
            if plan.get_parameter_names()?.is_empty() {
                state.optimize(&plan)?;
            }
            return Ok(None);
        }
    };
    let mut parameters = Vec::new();
    // It fails for one that is of several types.
    let Ok(types) = plan.get_parameter_types() else { return Ok(None) };
    for (name, data_type) in types {
        let Some(data_type) = data_type else { return Ok(None) };
        parameters.push((name.trim_start_matches('$').into(), data_type));
    }
    let mut has_own = false;
    plan.apply_with_subqueries(|node| {
        has_own |= matches!(node, LogicalPlan::Extension(_));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if has_own {
        return Ok(None);
    }
    Ok(unbound(plan)?.map(|plan| Kept { plan, parameters }))
}

/// `now()` as a parameter. What else depends on the time does not fit.
fn marked_now(expr: Expr, fits: &mut bool) -> Transformed<Expr> {
    let Expr::ScalarFunction(function) = &expr else { return Transformed::no(expr) };
    match function.func.name() {
        "now" => {
            let field = Arc::new(Field::new(NOW, time_type(), false));
            let placeholder = Placeholder { id: format!("${NOW}"), field: Some(field) };
            Transformed::yes(Expr::Placeholder(placeholder))
        }
        "current_date" | "current_time" => {
            *fits = false;
            Transformed::no(expr)
        }
        _ => Transformed::no(expr),
    }
}

/// `plan` over the moment of `snapshot`; `None` if a table of it is not as it was.
fn bound(plan: &LogicalPlan, snapshot: &Arc<Snapshot>) -> Result<Option<LogicalPlan>> {
    over(plan.clone(), |table| table.at(snapshot))
}

/// `plan` over no rows, so that what is kept keeps no block and no segment.
fn unbound(plan: LogicalPlan) -> Result<Option<LogicalPlan>> {
    over(plan, |table| Some(table.without_rows()))
}

/// `plan` over other tables of the same schemas; `None` if there is none for one of them.
fn over(plan: LogicalPlan, other: impl Fn(&StoreTable) -> Option<StoreTable>) -> Result<Option<LogicalPlan>> {
    let mut fits = true;
    let over = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
        let table = source_as_provider(&scan.source)?;
        let Some(table) = table.downcast_ref::<StoreTable>().and_then(&other) else {
            fits = false;
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        let source = provider_as_source(Arc::new(table));
        Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
    })?;
    Ok(fits.then_some(over.data))
}

/// `plan` with values for its parameters. Predicates are evaluated as far as they can be, so that scans can read them.
fn with_values(plan: LogicalPlan, values: Vec<(String, ScalarValue)>, state: &SessionState) -> Result<LogicalPlan> {
    let plan = plan.replace_params_with_values(&ParamValues::from(values))?;
    let simplified = plan.transform_down_with_subqueries(|node| {
        let simplify = |expr: Expr, schema: &DFSchemaRef| {
            let options = state.config_options().clone();
            let context = SimplifyContext::builder().with_schema(schema.clone()).with_config_options(options).build();
            ExprSimplifier::new(context).simplify(expr)
        };
        Ok(match node {
            LogicalPlan::TableScan(mut scan) if !scan.filters.is_empty() => {
                let schema =
                    Arc::new(DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
                let filters = std::mem::take(&mut scan.filters).into_iter();
                scan.filters = filters.map(|filter| simplify(filter, &schema)).collect::<Result<_, _>>()?;
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            LogicalPlan::Filter(filter) => {
                let predicate = simplify(filter.predicate, filter.input.schema())?;
                Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(simplified.data)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn what_is_kept_keeps_no_rows() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("kota")).unwrap();
        let table = store.table(Schema::new("t").tag("k").i64("v", "")).unwrap();
        table.writer().unwrap().append(row! { k: "a", v: 1_i64 }).unwrap();
        store.seal().unwrap();
        table.writer().unwrap().append(row! { k: "a", v: 2_i64 }).unwrap();
        let prepared = store.prepare("SELECT max(v) AS v FROM t WHERE v > (SELECT min(v) FROM t)").unwrap();
        for _ in 0..2 {
            let kept = prepared.statement.kept.load_full().unwrap();
            let mut tables = 0;
            let look = |node: &LogicalPlan| {
                if let LogicalPlan::TableScan(scan) = node {
                    let table = source_as_provider(&scan.source)?;
                    let view = &table.downcast_ref::<StoreTable>().unwrap().view;
                    assert!(view.segments.is_empty() && view.live.is_empty());
                    tables += 1;
                }
                Ok(TreeNodeRecursion::Continue)
            };
            kept.plan.apply_with_subqueries(look).unwrap();
            assert_eq!(tables, 2);
            assert_eq!(prepared.query(&[]).unwrap().i64(0, "v").unwrap(), Some(2));
        }
    }

    /// What is kept is accelerated as what is sent anew. And how many threads run it, its cells decide as well as its rows.
    #[test]
    fn what_is_kept_is_accelerated() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::options().block_bytes_min(1 << 20).open(dir.path().join("kota")).unwrap();
        let schema = Schema::new("t").tag("k").f64("v", "").partition(std::time::Duration::from_secs(86_400));
        let table = store.table(schema).unwrap();
        let (mut writer, series) = (table.writer().unwrap(), table.series(["a"]).unwrap());
        for n in 0..8_640_i64 {
            let value = (n * 7_919 % 1_009) as f64 / 7.0;
            let _ = writer.append_to(series, Time::from_nanos(n * 10_000_000_000), &[value.into()]).unwrap();
        }
        store.seal().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let plan = |text: &str, mark: &str| {
            let prepared = store.prepare(text).unwrap();
            let plan = runtime.block_on(prepared.physical(Vec::new())).unwrap();
            let shown = datafusion::physical_plan::displayable(&*plan).indent(false).to_string();
            assert!(prepared.is_kept() && shown.contains(mark), "{text} does not show {mark:?}:\n{shown}");
            rows_read(&plan)
        };
        let cells = plan("SELECT k, max(v) FROM t GROUP BY k", "raw_rows=0");
        assert!(0 < cells && cells < 8_640, "{cells}");
        assert_eq!(plan("SELECT k, last(v, time) FROM t GROUP BY k", "latest=1"), 1);
        let newest =
            "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(v) FROM t GROUP BY t ORDER BY t DESC LIMIT 2";
        assert!(plan(newest, "newest_buckets") <= 8_640);
        assert_eq!(plan("SELECT * FROM t", "DenyutScan"), 8_640);
    }
}
