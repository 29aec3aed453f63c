//! `maturity([as_of])` and `blockers([as_of])`: the stages of the road map, and what holds each agency back.
//!
//! **Invariant:** an agency is at the highest stage all of whose conditions hold, and those of the stages below. So each
//! condition that does not hold is a blocker of its stage, and the next stage's list is empty only when it is reached.
//!
//! A figure that cannot be had, since there is nothing to count, does not hold; except that where no alert fired, none was
//! missed. `feeds` is read once, whatever is asked.

use std::collections::BTreeSet;

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

use super::super::alerts::{ACKNOWLEDGEMENTS, FIRINGS, RULES};
use super::super::dimension;
use super::super::text::{before, number, text, time};
use super::{as_of, in_force};
use crate::model::Time;
use crate::query::extension::{Call, external};

/// The stages, from the first.
const STAGES: [&str; 5] = ["ad hoc", "initiative", "scattered", "integrative", "smart"];

/// The plan of `maturity([as_of])`.
pub(super) fn plan(call: &Call) -> Result<LogicalPlan> {
    call.check_count(0..=1)?;
    let judged = judged(call, as_of(call, 0)?.time)?;
    let blocked = |stage: usize| {
        format!(
            "string_agg(said, '; ' ORDER BY stage, condition) FILTER (WHERE NOT holds AND stage <= {stage}) AS b{stage}"
        )
    };
    let carried = CARRIED.iter().map(|name| format!("max({name}) AS {name}")).collect::<Vec<_>>().join(", ");
    let sums = CARRIED.iter().map(|name| format!("sum({name}) AS {name}")).collect::<Vec<_>>().join(", ");
    let share = number(call.options().scorecard.city_share);
    let reached: String = (1..=4)
        .rev()
        .map(|stage| format!(" WHEN avg(CASE WHEN level >= {stage} THEN 1.0 ELSE 0.0 END) >= {share} THEN {stage}"))
        .collect();
    let behind = |stage: usize| {
        format!(
            "CASE WHEN grouping(agency) = 0 THEN max(b{stage}) ELSE string_agg(agency || ': ' || b{stage}, ' | ' \
             ORDER BY agency) END AS a{stage}"
        )
    };
    let four = |of: &dyn Fn(usize) -> String| (1..=4).map(of).collect::<Vec<_>>().join(", ");
    let ratio = |part: &str, of: &str| format!("CASE WHEN {of} > 0 THEN CAST({part} AS DOUBLE) / {of} END");
    call.sql(&format!(
        "{judged}, levels AS (SELECT agency, coalesce(min(stage) FILTER (WHERE NOT holds) - 1, 4) AS level, {}, {carried} \
         FROM judged GROUP BY agency), \
         scopes AS (SELECT CASE WHEN grouping(agency) = 0 THEN 'agency' ELSE 'city' END AS scope, agency, \
         CASE WHEN grouping(agency) = 0 THEN max(level){reached} ELSE 0 END AS level, {}, {sums} FROM levels \
         GROUP BY GROUPING SETS ((agency), ())) \
         SELECT scope, agency, {} AS stage, level, feeds, automatic_feeds, {} AS automatic_share, {} AS in_cadence_share, \
         {} AS conform_share, {} AS keys_share, {} AS alert_rules_share, {} AS acknowledged_share, baselines, \
         CASE WHEN level < 4 THEN {} END AS next_stage, coalesce({}, '') AS blockers FROM scopes",
        four(&blocked),
        four(&behind),
        stage_name("level"),
        ratio("automatic_feeds", "feeds"),
        ratio("in_cadence", "feeds"),
        ratio("conforming", "all_rows"),
        ratio("keys_resolved", "keys_checked"),
        ratio("ruled", "feeds"),
        ratio("acknowledged", "fired"),
        stage_name("level + 1"),
        "CASE level WHEN 0 THEN a1 WHEN 1 THEN a2 WHEN 2 THEN a3 WHEN 3 THEN a4 END",
    ))
}

/// The plan of `blockers([as_of])`.
pub(super) fn blockers(call: &Call) -> Result<LogicalPlan> {
    call.check_count(0..=1)?;
    let judged = judged(call, as_of(call, 0)?.time)?;
    call.sql(&format!(
        "{judged} SELECT agency, {} AS stage, condition, figure, needed, held_back AS feeds, first_stage = stage_number AS \
         is_next FROM (SELECT *, stage AS stage_number, min(CASE WHEN NOT holds THEN stage END) OVER (PARTITION BY agency) \
         AS first_stage FROM judged) WHERE NOT holds",
        stage_name("stage_number")
    ))
}

fn stage_name(level: &str) -> String {
    let whens: String = STAGES.iter().enumerate().map(|(n, name)| format!(" WHEN {n} THEN '{name}'")).collect();
    format!("CASE {level}{whens} END")
}

/// Counts of an agency that add up to the city's.
const CARRIED: [&str; 11] = [
    "feeds",
    "automatic_feeds",
    "in_cadence",
    "conforming",
    "all_rows",
    "keys_checked",
    "keys_resolved",
    "ruled",
    "fired",
    "acknowledged",
    "baselines",
];

/// Common table expressions, the last of which, `judged`, has a row for each agency and condition.
fn judged(call: &Call, at: Time) -> Result<String> {
    let score = &call.options().scorecard;
    let feeds = in_force(call.snapshot(), at)?;
    let mut agencies: BTreeSet<String> = feeds.iter().map(|(version, _)| version.feed.agency.clone()).collect();
    let members = dimension::members(call.snapshot(), "agency", at).map_err(external)?;
    agencies.extend(members.into_iter().filter(|(_, member)| member.is_some()).map(|(key, _)| key));
    let agencies = match agencies.is_empty() {
        true => "SELECT '' AS agency WHERE false".to_string(),
        false => {
            let rows: Vec<String> = agencies.iter().map(|agency| format!("({})", text(agency))).collect();
            format!("SELECT * FROM (VALUES {}) AS v(agency)", rows.join(", "))
        }
    };
    let list = |of: &str| format!("string_agg(feed, ', ' ORDER BY feed) FILTER (WHERE {of})");
    let count = |of: &str| format!("coalesce(sum(CASE WHEN {of} THEN 1 ELSE 0 END), 0)");
    let punctual = "arrives = 'by itself' AND in_cadence";
    Ok(format!(
        "WITH {rules}, {acknowledged}, agencies AS ({agencies}), \
         all_feeds AS (SELECT a.agency, f.feed, f.arrives, f.in_cadence, f.conforming, f.received + f.quarantined AS all_rows, \
         f.conform_share, f.keys_checked, f.keys_resolved, f.keys_share, f.baseline, coalesce(r.n, 0) AS rules, \
         coalesce(k.fired, 0) AS fired, coalesce(k.acknowledged, 0) AS acknowledged \
         FROM agencies a LEFT JOIN feeds({at}) f ON a.agency = f.agency LEFT JOIN rules r ON f.feed = r.feed \
         LEFT JOIN acknowledged k ON f.feed = k.feed), \
         counted AS (SELECT agency, count(feed) AS feeds, {automatic} AS automatic_feeds, {in_cadence} AS in_cadence, \
         coalesce(sum(conforming), 0) AS conforming, coalesce(sum(all_rows), 0) AS all_rows, \
         coalesce(sum(keys_checked), 0) AS keys_checked, coalesce(sum(keys_resolved), 0) AS keys_resolved, \
         {ruled} AS ruled, sum(fired) AS fired, sum(acknowledged) AS acknowledged, count(baseline) AS baselines, \
         {l_hand} AS l_hand, {l_cadence} AS l_cadence, {l_conform} AS l_conform, {l_keys} AS l_keys, {l_rules} AS l_rules, \
         {l_fired} AS l_fired, {l_baseline} AS l_baseline FROM all_feeds GROUP BY agency), \
         {figures}",
        rules = rules(call, at),
        acknowledged = acknowledged(call, at),
        at = time(at),
        automatic = count("arrives = 'by itself'"),
        in_cadence = count(punctual),
        ruled = count("rules > 0"),
        l_hand = list("arrives <> 'by itself'"),
        l_cadence = list(&format!("NOT ({punctual})")),
        l_conform = list(&format!("coalesce(conform_share, 0) < {}", number(score.integrative_conform_share))),
        l_keys = list(&format!("coalesce(keys_share, 0) < {}", number(score.integrative_keys_share))),
        l_rules = list("rules = 0"),
        l_fired = list("acknowledged < fired"),
        l_baseline = list("baseline IS NULL"),
        figures = figures(call),
    ))
}

/// Of which stage it is, its name, what is needed, its figure, and the list of feeds that hold it back.
type Condition = (usize, &'static str, f64, String, &'static str);

/// `judged`: each condition's figure, what is needed, and which feeds hold it back.
fn figures(call: &Call) -> String {
    let score = &call.options().scorecard;
    let ratio = |part: &str, of: &str| format!("CASE WHEN {of} > 0 THEN CAST({part} AS DOUBLE) / {of} END");
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let conditions: [Condition; 9] = [
        (1, "automatic_feeds", 1.0, "CAST(automatic_feeds AS DOUBLE)".into(), "l_hand"),
        (1, "automatic_share", score.initiative_automatic_share, ratio("automatic_feeds", "feeds"), "l_hand"),
        (2, "in_cadence_share", score.scattered_in_cadence_share, ratio("in_cadence", "feeds"), "l_cadence"),
        (3, "in_cadence_share", score.integrative_in_cadence_share, ratio("in_cadence", "feeds"), "l_cadence"),
        (3, "conform_share", score.integrative_conform_share, ratio("conforming", "all_rows"), "l_conform"),
        (3, "keys_share", score.integrative_keys_share, ratio("keys_resolved", "keys_checked"), "l_keys"),
        (4, "alert_rules_share", score.smart_alert_rules_share, ratio("ruled", "feeds"), "l_rules"),
        (4, "acknowledged_share", score.smart_acknowledged_share, ratio("acknowledged", "fired"), "l_fired"),
        (4, "baselines", score.smart_baselines as f64, "CAST(baselines AS DOUBLE)".into(), "l_baseline"),
    ];
    let rows: Vec<String> = conditions
        .iter()
        .map(|(stage, name, needed, ..)| format!("({stage}, '{name}', {})", number(*needed)))
        .collect();
    let case = |of: &dyn Fn(&Condition) -> String| {
        let whens: String = conditions.iter().map(|row| format!(" WHEN '{}' THEN {}", row.1, of(row))).collect();
        format!("CASE c.condition{whens} END")
    };
    // Where a condition has two stages, its figure and its list are the same.
    format!(
        "met AS (SELECT counted.*, c.stage, c.condition, c.needed, {} AS figure, {} AS held_back FROM counted CROSS JOIN \
         (VALUES {}) AS c(stage, condition, needed)), \
         judged AS (SELECT *, coalesce(figure >= needed, condition = 'acknowledged_share') AS holds, \
         condition || ' ' || coalesce(CAST(round(figure, 3) AS VARCHAR), 'none') || ' of ' || \
         CAST(round(needed, 3) AS VARCHAR) || coalesce(' (' || held_back || ')', '') AS said FROM met)",
        case(&|row| row.3.clone()),
        case(&|row| row.4.into()),
        rows.join(", "),
    )
}

/// `rules`: how many alert rules each feed has.
fn rules(call: &Call, at: Time) -> String {
    if call.snapshot().table(RULES).is_none() {
        return "rules AS (SELECT '' AS feed, 0 AS n WHERE false)".into();
    }
    format!(
        "rules AS (SELECT feed, count(*) AS n FROM (SELECT feed, enabled, row_number() OVER (PARTITION BY rule ORDER BY time \
         DESC) AS nth FROM public.{RULES} WHERE time <= {}) WHERE nth = 1 AND enabled GROUP BY feed)",
        time(at)
    )
}

/// `acknowledged`: of each feed, the firings that somebody acknowledged or should have, and those acknowledged in time.
fn acknowledged(call: &Call, at: Time) -> String {
    let has = |table: &str| call.snapshot().table(table).is_some();
    if !has(RULES) || !has(FIRINGS) {
        return "acknowledged AS (SELECT '' AS feed, 0 AS fired, 0 AS acknowledged WHERE false)".into();
    }
    let answers = match has(ACKNOWLEDGEMENTS) {
        true => format!(
            "SELECT rule, firing, min(CAST(time AS BIGINT)) AS acknowledged_ns FROM public.{ACKNOWLEDGEMENTS} \
             WHERE time <= {} GROUP BY rule, firing",
            time(at)
        ),
        false => "SELECT '' AS rule, '' AS firing, CAST(0 AS BIGINT) AS acknowledged_ns WHERE false".into(),
    };
    format!(
        "acknowledged AS (SELECT f.feed, count(*) AS fired, \
         sum(CASE WHEN coalesce(k.acknowledged_ns <= f.due_ns, false) THEN 1 ELSE 0 END) AS acknowledged FROM \
         (SELECT x.rule, x.firing, r.feed, CAST(x.time AS BIGINT) + least(greatest(r.ack_within_s, 0), 3153600000) * 1000000000 AS due_ns FROM \
         (SELECT * FROM public.{FIRINGS} WHERE time > {} AND time <= {}) x ASOF JOIN \
         (SELECT time AS from_time, rule, feed, ack_within_s FROM public.{RULES}) r \
         MATCH_CONDITION (x.time >= r.from_time) ON x.rule = r.rule) f \
         LEFT JOIN ({answers}) k ON f.rule = k.rule AND f.firing = k.firing \
         WHERE k.acknowledged_ns IS NOT NULL OR f.due_ns <= {} GROUP BY f.feed)",
        time(before(at, call.options().scorecard.alert_window)),
        time(at),
        at.as_nanos(),
    )
}
