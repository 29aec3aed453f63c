//! E-government services: who waits how long, and what gets done.

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

use super::super::text::time;
use super::has;
use crate::model::Schema;
use crate::query::Entry;
use crate::query::extension::{Call, Function};

const VISITS: &str = "service_visits";

/// The table `service_visits`: at its `time` a visit or a transaction ended. `waiting_s` is from its begin until somebody took
/// it on, `serving_s` from then to its end; `outcome` is `completed`, or what became of it else, such as `abandoned`.
pub fn service_visits() -> Schema {
    Schema::new(VISITS)
        .tag("agency")
        .tag("service")
        .tag("counter")
        .utf8("visit", "")
        .f64("waiting_s", "s")
        .f64("serving_s", "s")
        .utf8("outcome", "")
        .required("outcome")
}

pub(in crate::feed) const PERFORMANCE: Function = Function {
    entry: Entry {
        name: "service_performance",
        signature: "service_performance(after, until)",
        summary: "Waiting, throughput and completion of each service, by counter and over all counters.",
        details: "Of the visits in service_visits that ended after `after` and not after `until`: a row an agency, service \
                  and counter, and one of each service with a null counter, which is over all of them. visits; completed; \
                  completion_share; waiting_p50_s, waiting_p95_s and serving_p50_s, on the straight line between ranks to a \
                  millionth of it, of all visits that have the figure, also those that were not completed; per_hour, completed visits \
                  by hours of the clock in which any ended there. Cost: the rows of the range, and a sort of each group's \
                  times in memory, which no limit counts.",
        example: "SELECT service, counter, waiting_p95_s, per_hour, completion_share \
                  FROM service_performance(now() - INTERVAL '1 day', now()) ORDER BY service, counter",
    },
    plan: performance,
};

fn performance(call: &Call) -> Result<LogicalPlan> {
    call.check_count(2..=2)?;
    let began = call.began();
    let (after, until) = (call.time(0)?.unwrap_or(began), call.time(1)?.unwrap_or(began));
    let from = match has(call, VISITS) {
        true => format!("public.{VISITS} WHERE time > {} AND time <= {}", time(after), time(until)),
        false => format!(
            "(SELECT {} AS time, '' AS agency, '' AS service, '' AS counter, 0.0 AS waiting_s, 0.0 AS serving_s, \
             '' AS outcome) WHERE false",
            time(after)
        ),
    };
    let quantile = |q: &str, of: &str| format!("percentile_cont({q}) WITHIN GROUP (ORDER BY {of})");
    call.sql(&format!(
        "SELECT agency, service, counter, visits, completed, CAST(completed AS DOUBLE) / visits AS completion_share, \
         waiting_p50_s, waiting_p95_s, serving_p50_s, CAST(completed AS DOUBLE) / hours AS per_hour FROM \
         (SELECT agency, service, counter, count(*) AS visits, \
         sum(CASE WHEN outcome = 'completed' THEN 1 ELSE 0 END) AS completed, {} AS waiting_p50_s, {} AS waiting_p95_s, \
         {} AS serving_p50_s, count(DISTINCT date_trunc('hour', time)) AS hours FROM {from} \
         GROUP BY GROUPING SETS ((agency, service, counter), (agency, service)))",
        quantile("0.5", "waiting_s"),
        quantile("0.95", "waiting_s"),
        quantile("0.5", "serving_s"),
    ))
}
