//! Functions in a session of somebody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{lines, register};

/// A planner of the host's, which counts what it is asked for.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl QueryPlanner for Counting {
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
        self.0.fetch_add(1, Ordering::Relaxed);
        async move { DefaultPhysicalPlanner::default().create_physical_plan(plan, session).await }.boxed()
    }
}

#[test]
fn a_host_keeps_its_planner_for_what_it_can_plan() {
    let planner = Arc::new(Counting::default());
    let state = SessionStateBuilder::new_with_default_features().with_query_planner(planner.clone()).build();
    let context = SessionContext::new_with_state(state);
    let id = context.session_id();
    register(&context).unwrap();
    // Twice is once.
    register(&context).unwrap();
    assert_eq!(context.session_id(), id);
    assert_eq!(context.state().analyzer().rules.iter().filter(|rule| rule.name() == "gap_fill").count(), 1);
    assert_eq!(lines(&context, "SELECT last(v, t) FROM (VALUES (1, now())) AS x(v, t)"), ["1"]);
    assert_eq!(planner.0.load(Ordering::Relaxed), 1);
    let text = "SELECT date_bin_gapfill(INTERVAL '1 hour', t) AS h, max(v) FROM (SELECT TIMESTAMP '2026-01-01' AS t, 1 AS v) \
        WHERE t >= TIMESTAMP '2026-01-01' AND t < TIMESTAMP '2026-01-01T02:00:00' GROUP BY h ORDER BY h";
    assert_eq!(lines(&context, text), ["2026-01-01T00:00:00,1", "2026-01-01T01:00:00,"]);
    assert_eq!(planner.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_bound_may_be_a_parameter() {
    let context = SessionContext::new();
    register(&context).unwrap();
    let text = "SELECT date_bin_gapfill(INTERVAL '1 hour', t) AS h, max(v) FROM (SELECT TIMESTAMP '2026-01-01' AS t, 1 AS v) \
        WHERE t >= $from AND t < $to GROUP BY h ORDER BY h";
    let hour = |hours: i64| {
        let ns = 1_767_225_600_000_000_000 + hours * 3_600_000_000_000;
        datafusion::common::ScalarValue::TimestampNanosecond(Some(ns), None)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = runtime.block_on(async {
        let frame = context.sql(text).await?;
        frame.with_param_values(vec![("from", hour(0)), ("to", hour(3))])?.count().await
    });
    assert_eq!(rows.unwrap(), 3);
}
