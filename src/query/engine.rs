//! What the store calls: text in, rows out.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement;

use super::catalog::{Moment, catalogs};
use super::extension::{self, Function};
use super::functions::asof::with_brackets;
use super::guard;
use super::latest::{self, Latest};
use super::limits::Limits;
use super::planning::elsewhere;
use super::policy::{Policy, Rules};
use super::prepared::Prepared;
use super::rows::Rows;
use super::session::base;
use super::summaries::rollups_used;
use super::threads::Threads;
use crate::error::{Error, Result};
use crate::maintain::pins::PinView;
use crate::maintain::running::Progress;
use crate::model::now;
use crate::options::Options;
use crate::snapshot::Snapshot;
use crate::snapshot::last::LastTables;

/// Where snapshots come from.
pub(crate) trait Source: Send + Sync + 'static {
    /// This moment of the whole store.
    fn snapshot(&self) -> Result<Arc<Snapshot>>;
    /// Numbers for `system.counters`.
    fn counters(&self) -> Vec<(&'static str, u64)>;
    /// Rows for `system.pins`.
    fn pins(&self) -> Vec<PinView>;
    /// Its last-value tables.
    fn last(&self) -> Option<Arc<LastTables>> {
        None
    }
    /// Work that runs, for `system.background`.
    fn background(&self) -> Vec<Arc<Progress>> {
        Vec::new()
    }
}

/// Plans and runs statements. Its threads start at the first one. Cheap to clone; drops anywhere.
#[derive(Clone)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<dyn Source>,
    options: Options,
    limits: Arc<Limits>,
    /// What trusted sessions plan with, on their own threads; and functions of floors above.
    above: Arc<extension::Shared>,
    /// As the state of trusted sessions, for plans that one thread runs.
    single: SessionState,
    /// What prepared statements run in.
    context: Arc<TaskContext>,
    /// What is handed out with a frame.
    elsewhere: SessionState,
}

/// Past any deadline, and short enough to be added to a moment.
const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

impl Engine {
    /// An engine over `source`. Queries that outgrow their memory spill to `spill_dir`, which is made by the first that
    /// does; files that a killed process left there are the caller's to remove. `functions` are SQL's beside those of this
    /// floor.
    pub(crate) fn new(
        source: Arc<dyn Source>,
        options: Options,
        spill_dir: PathBuf,
        functions: &'static [Function],
    ) -> Result<Self> {
        let limits = Arc::new(Limits {
            timeout: options.query_timeout.min(TIMEOUT_MAX),
            rows_max: options.query_rows_max,
            threads: Arc::new(Threads::new(options.query_threads)),
        });
        let full = base(&options, limits.clone(), spill_dir)?;
        let elsewhere = elsewhere(&full, limits.clone());
        let mut single = full.clone();
        *single.config_mut() = single.config().clone().with_target_partitions(1);
        let context = full.task_ctx();
        let above = Arc::new(extension::Shared { functions, options: options.clone(), full });
        Ok(Self { shared: Arc::new(Shared { source, options, limits, above, single, context, elsewhere }) })
    }

    /// Plans a statement over one snapshot of the whole store: read-only, one statement, within the limits on text.
    ///
    /// The limits on memory, rows and time hold for whoever executes it, on any runtime or on none; time counts from
    /// the execution's begin.
    pub(crate) async fn sql(&self, text: &str) -> Result<DataFrame> {
        self.sql_under(text, None).await
    }

    /// The same, of what a policy shows.
    pub(super) async fn sql_under(&self, text: &str, rules: Option<&Arc<Rules>>) -> Result<DataFrame> {
        let opening = guard::check(text, &self.shared.options)?;
        let snapshot = self.shared.source.snapshot()?;
        self.sql_at(text, opening, snapshot, rules, None).await
    }

    async fn sql_at(
        &self,
        text: &str,
        opening: String,
        snapshot: Arc<Snapshot>,
        rules: Option<&Arc<Rules>>,
        began: Option<DateTime<Utc>>,
    ) -> Result<DataFrame> {
        let moment = Moment::Pinned(snapshot, self.shared.source.clone());
        // Functions of floors above read what a policy may hide.
        let above = if rules.is_some() { None } else { Some(&self.shared.above) };
        let mut state = at(&self.shared.elsewhere, moment.clone(), above);
        if began.is_some() {
            state.execution_props_mut().query_execution_start_time = began;
        }
        if let Some(rules) = rules {
            rules.rename(&mut state, &moment);
        }
        let (text, rules) = (text.to_string(), rules.cloned());
        let planned = async move { plan(state, &text, opening, rules.as_deref()).await };
        self.shared.limits.threads.run(self.shared.limits.timeout, planned).await
    }

    /// Checks a policy against the tables there are.
    pub(super) fn rules(&self, policy: &Policy) -> Result<Rules> {
        Rules::new(policy, &*self.shared.source.snapshot()?, &self.shared.above.full)
    }

    /// Runs a statement and waits for its rows, planning included in `query_timeout`. Blocks its thread, and may be
    /// called on a thread of an async runtime all the same.
    pub(crate) fn query(&self, text: &str) -> Result<Rows> {
        self.query_under(text, None)
    }

    /// The same, of what a policy shows.
    pub(super) fn query_under(&self, text: &str, rules: Option<Arc<Rules>>) -> Result<Rows> {
        let rows = self.queries_under(&[text], rules)?.pop();
        rows.ok_or_else(|| Error::Background { reason: "a statement without an answer; this is a bug".into() })
    }

    /// Runs statements one after the other over one snapshot, at one `now()`, and waits for the rows of each, all within `query_timeout`.
    #[cfg(feature = "feed")]
    pub(crate) fn queries(&self, texts: &[&str]) -> Result<Vec<Rows>> {
        self.queries_under(texts, None)
    }

    fn queries_under(&self, texts: &[&str], rules: Option<Arc<Rules>>) -> Result<Vec<Rows>> {
        let (engine, texts): (_, Vec<String>) = (self.clone(), texts.iter().map(ToString::to_string).collect());
        let run = async move {
            let checked = texts.iter().map(|text| guard::check(text, &engine.shared.options));
            let openings = checked.collect::<Result<Vec<_>>>()?;
            let snapshot = engine.shared.source.snapshot()?;
            // Of one moment, `now()` is one too.
            let began = Some(DateTime::from_timestamp_nanos(now().as_nanos()));
            let mut answers = Vec::new();
            for (text, opening) in texts.iter().zip(openings) {
                let frame = engine.sql_at(text, opening, snapshot.clone(), rules.as_ref(), began).await?;
                let schema = Arc::new(frame.schema().as_arrow().clone());
                let context = Arc::new(frame.task_ctx());
                let plan = frame.create_physical_plan().await?;
                // They are of all rows, of which a policy may show some.
                let rollups = if rules.is_none() { rollups_used(&plan) } else { Vec::new() };
                answers.push(Rows::new(schema, collect(plan, context).await?).with_rollups(rollups));
            }
            Ok(answers)
        };
        self.wait(run, || {})
    }

    /// Runs `task` on one of the engine's threads, and waits for what it gives until `query_timeout` has passed. Then it calls
    /// `late`, and the task ends where it next yields. Blocks its thread, and may be called on a thread of an async runtime
    /// all the same.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
        late: impl FnOnce(),
    ) -> Result<T> {
        let (give, given) = sync_channel(1);
        let run = async move {
            // Nobody waits any more after a timeout.
            let _ = give.send(task.await);
        };
        let running = self.shared.limits.threads.spawn(run)?;
        match given.recv_timeout(self.shared.limits.timeout) {
            Ok(given) => given,
            Err(RecvTimeoutError::Timeout) => {
                late();
                running.abort();
                Err(Error::QueryTimeout { query_timeout: self.shared.limits.timeout })
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::Background { reason: "the query's thread panicked; this is a bug".into() })
            }
        }
    }

    /// A session for code that is trusted: any statement the engine knows, of any complexity, and no snapshot held. Each
    /// table that a statement names shows the moment of its own lookup, so two tables in a join may differ by what was
    /// appended in between. Limits on memory, rows and time hold as for [`sql`](Self::sql).
    pub(crate) fn session(&self) -> SessionContext {
        let moment = Moment::Latest(self.shared.source.clone());
        SessionContext::new_with_state(at(&self.shared.above.full, moment, Some(&self.shared.above)))
    }

    /// A statement to be run often.
    pub(crate) fn prepare(&self, text: &str) -> Result<Prepared> {
        let (engine, text) = (self.clone(), text.to_string());
        self.wait(async move { Prepared::new(&engine, &text).await }, || {})
    }

    /// The first word of a text within the limits.
    pub(super) fn check(&self, text: &str) -> Result<String> {
        guard::check(text, &self.shared.options)
    }

    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>> {
        self.shared.source.snapshot()
    }

    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.shared.limits
    }

    /// Functions of floors above.
    pub(super) fn above(&self) -> &Arc<extension::Shared> {
        &self.shared.above
    }

    pub(super) fn source(&self) -> Arc<dyn Source> {
        self.shared.source.clone()
    }

    /// What plans for so many threads are made with.
    pub(super) fn state(&self, threads: usize) -> &SessionState {
        if threads == 1 { &self.shared.single } else { &self.shared.above.full }
    }

    pub(super) fn context(&self) -> Arc<TaskContext> {
        self.shared.context.clone()
    }

    #[cfg(test)]
    pub(super) fn busy_tasks(&self) -> usize {
        self.shared.limits.threads.busy()
    }
}

/// `base` with the tables of a moment, for a statement that begins now.
pub(super) fn at(base: &SessionState, moment: Moment, above: Option<&Arc<extension::Shared>>) -> SessionState {
    let mut state = base.clone();
    state.register_udtf(latest::NAME, Arc::new(Latest(moment.clone())));
    if let Some(above) = above {
        extension::register(&mut state, above, &moment);
    }
    state.register_catalog_list(catalogs(moment, false));
    state.mark_start_execution();
    state
}

/// Parses and plans a statement whose text was checked and begins with `opening`.
async fn plan(state: SessionState, text: &str, opening: String, rules: Option<&Rules>) -> Result<DataFrame> {
    let plan = logical(&state, text, &opening).await?;
    let plan = match rules {
        Some(rules) => rules.enforce(plan)?,
        None => plan,
    };
    Ok(DataFrame::new(state, plan))
}

/// The plan of a statement, as it is written.
pub(super) async fn logical(state: &SessionState, text: &str, opening: &str) -> Result<LogicalPlan> {
    let dialect = state.config().options().sql_parser.dialect;
    let mut statement = match state.sql_to_statement(text, &dialect) {
        // More than one statement.
        Err(DataFusionError::NotImplemented(message)) => return Err(Error::Query { message }),
        other => other?,
    };
    if !reads(&statement) {
        return Err(Error::ReadOnlySql { statement: opening.into() });
    }
    with_brackets(&mut statement);
    let plan = state.statement_to_plan(statement).await?;
    only_reads(&plan, opening.into())?;
    Ok(plan)
}

/// An error for a plan that does more than read, such as that of `SELECT .. INTO`, which looks like a query.
pub(super) fn only_reads(plan: &LogicalPlan, opening: String) -> Result<()> {
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reads.verify_plan(plan).map_err(|_| Error::ReadOnlySql { statement: opening })
}

/// Whether a statement is a query or explains one.
fn reads(statement: &Parsed) -> bool {
    let mut parsed = statement;
    let mut statement = loop {
        match parsed {
            Parsed::Explain(explain) => parsed = &explain.statement,
            Parsed::Statement(statement) => break &**statement,
            _ => return false,
        }
    };
    loop {
        match statement {
            Statement::Explain { statement: explained, .. } => statement = explained,
            Statement::Query(_)
            | Statement::ExplainTable { .. }
            | Statement::ShowTables { .. }
            | Statement::ShowColumns { .. }
            | Statement::ShowFunctions { .. }
            | Statement::ShowVariable { .. } => return true,
            _ => return false,
        }
    }
}
