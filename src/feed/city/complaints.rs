//! Public complaints: the life of a ticket as events, its deadlines in working days, and whose time it took.
//!
//! A ticket is open from `received`, and again from each `reopened`, until `closed`: each such time is a round with a deadline
//! of its own. From `paused` until `resumed` its clock stands. From each event on the event's agency is in charge.
//!
//! **Invariant:** nothing here reads who reported. The reporter is in the table of events alone.

pub(super) mod reference;

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

use super::super::text::{text, time};
use super::{calendar, has, zoned};
use crate::model::{Schema, Time};
use crate::query::extension::Call;

const EVENTS: &str = "complaint_events";
const DEADLINES: &str = "complaint_deadline";

/// Working days until a ticket shall be closed, by kind; of other kinds the dimension `complaint_deadline` tells, or nobody.
const CLOSE_DAYS: [(&str, i64); 4] =
    [("information", 5), ("complaint", 5), ("without_field_check", 14), ("with_field_check", 60)];
/// Working days until its first answer.
const FIRST_ANSWER_DAYS: i64 = 3;

/// The table `complaint_events`: what happened to a ticket at its `time`. `event` is `received`, `verified`, `passed_on`,
/// `answered`, `paused`, `resumed`, `closed` or `reopened`; `agency` is who is in charge from then on; `kind` is
/// `information`, `complaint`, `without_field_check`, `with_field_check`, or a key of the dimension
/// [`complaint_deadline`](crate::feed::dimension::complaint_deadline). `reporter` is for those who work on the ticket:
/// `complaints`, `complaint_time` and `complaint_league` have no such column.
///
/// ```
/// use denyut::prelude::*;
/// # let dir = tempfile::tempdir().unwrap();
/// let city = Store::options().zone("Asia/Pontianak").calendar("ID").open(dir.path().join("kota"))?;
/// let mut events = city.table(denyut::feed::complaint_events())?.writer()?;
/// // Friday at four, with Independence Day on the Monday after.
/// events.append_at("2026-08-14T16:00:00+07:00".parse()?, row! {
///     agency: "PUPR", kind: "complaint", event: "received", ticket: "A-1", reporter: "Siti"
/// })?;
/// let rows = city.query("SELECT CAST(close_due AS VARCHAR) AS due FROM complaints('2026-08-15')")?;
/// assert_eq!(rows.str(0, "due")?, Some("2026-08-24T16:00:00+07:00"));
/// # Ok::<(), denyut::Error>(())
/// ```
pub fn complaint_events() -> Schema {
    Schema::new(EVENTS)
        .tag("agency")
        .tag("kind")
        .tag("event")
        .utf8("ticket", "")
        .utf8("reporter", "")
        .utf8("district", "")
        .utf8("note", "")
        .required("ticket")
}

/// The moment asked about, and what its statements are made of.
struct Asked<'a> {
    call: &'a Call<'a>,
    at: Time,
    calendar: String,
}

impl<'a> Asked<'a> {
    fn new(call: &'a Call<'a>) -> Result<Self> {
        call.check_count(0..=1)?;
        let at = call.time(0)?.unwrap_or_else(|| call.began());
        Ok(Self { call, at, calendar: calendar(call, at)? })
    }

    /// A time without a zone, as the clocks of the city show it.
    fn local(&self, time: &str) -> String {
        format!("to_local_time({})", zoned(self.call, time))
    }

    /// Working days after the day of `from`, until the day of `until` with it: one second of office hours a day is counted.
    fn days_between(&self, from: &str, until: &str) -> String {
        let next = |time: &str| format!("date_trunc('day', {}) + INTERVAL '1 day'", self.local(time));
        let calendar = &self.calendar;
        let (from, until) = (next(from), next(until));
        format!("CAST(working_seconds_between({from}, {until}, '00:00:00', '00:00:01', {calendar}) AS BIGINT)")
    }

    /// Seconds of office hours.
    fn seconds_between(&self, from: &str, until: &str) -> String {
        let (opens, closes) = &self.call.options().office_hours;
        let (opens, closes, calendar) = (text(opens), text(closes), &self.calendar);
        format!("working_seconds_between({}, {}, {opens}, {closes}, {calendar})", self.local(from), self.local(until))
    }

    /// `steps`: each event until the next of its ticket, as a common table expression. `is_running` is whether the clock
    /// runs from it on, `round` how often the ticket was opened by then, `rounds` how often in all.
    fn steps(&self) -> String {
        let at = time(self.at);
        let from = match has(self.call, EVENTS) {
            true => {
                format!("SELECT DISTINCT ticket, kind, event, agency, time FROM public.{EVENTS} WHERE time <= {at}")
            }
            false => format!("SELECT '' AS ticket, '' AS kind, '' AS event, '' AS agency, {at} AS time WHERE false"),
        };
        // Of one moment, in the order in which they can have happened.
        let order = "CASE event WHEN 'received' THEN 0 WHEN 'reopened' THEN 1 WHEN 'verified' THEN 2 WHEN 'passed_on' THEN 3 \
                     WHEN 'resumed' THEN 4 WHEN 'paused' THEN 5 WHEN 'answered' THEN 6 WHEN 'closed' THEN 8 ELSE 7 END";
        let so_far = "(PARTITION BY ticket ORDER BY time, step ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)";
        format!(
            "events AS (SELECT *, {order} AS step FROM ({from})), \
             opened AS (SELECT *, coalesce(lead(time) OVER (PARTITION BY ticket ORDER BY time, step), {at}) AS until, \
             sum(CASE WHEN event IN ('received', 'reopened') THEN 1 ELSE 0 END) OVER {so_far} AS round, \
             last_value(CASE WHEN event IN ('received', 'resumed', 'reopened') THEN 1 \
             WHEN event IN ('paused', 'closed') THEN 0 END) IGNORE NULLS OVER {so_far} AS is_running, \
             last_value(CASE WHEN event IN ('received', 'reopened') THEN 1 WHEN event = 'closed' THEN 0 END) \
             IGNORE NULLS OVER {so_far} AS is_open, \
             min(CASE WHEN event = 'answered' THEN time END) OVER (PARTITION BY ticket) AS first_answered_at FROM events), \
             steps AS (SELECT *, max(round) OVER (PARTITION BY ticket) AS rounds FROM opened)"
        )
    }

    /// `tickets`: one row each, over `steps`.
    fn tickets(&self) -> String {
        let at = time(self.at);
        let paused =
            format!("CASE WHEN is_running = 0 AND is_open = 1 THEN {} ELSE 0 END", self.days_between("time", "until"));
        let whens: String = CLOSE_DAYS.iter().map(|(kind, days)| format!(" WHEN '{kind}' THEN {days}")).collect();
        let (join, close, first) = match has(self.call, DEADLINES) {
            true => (
                format!("LEFT JOIN dimension('{DEADLINES}', {at}) d ON g.kind = d.key"),
                format!("coalesce(d.close_days, CASE g.kind{whens} END)"),
                format!("coalesce(d.first_answer_days, {FIRST_ANSWER_DAYS})"),
            ),
            false => (String::new(), format!("CASE g.kind{whens} END"), FIRST_ANSWER_DAYS.to_string()),
        };
        let due = |from: &str, days: &str, paused: &str| {
            format!(
                "add_working_days({}, CAST({days} + {paused} AS BIGINT), {})",
                zoned(self.call, from),
                self.calendar
            )
        };
        format!(
            "paused AS (SELECT *, {paused} AS paused_days FROM steps), \
             grouped AS (SELECT ticket, last_value(kind ORDER BY time, step) AS kind, \
             last_value(agency ORDER BY time, step) AS agency, last_value(event ORDER BY time, step) AS status, \
             last_value(is_open ORDER BY time, step) AS is_open, max(rounds) AS rounds, \
             min(time) FILTER (WHERE event = 'received') AS received_at, min(first_answered_at) AS first_answered_at, \
             max(time) FILTER (WHERE event IN ('received', 'reopened')) AS opened_at, \
             max(time) FILTER (WHERE event = 'closed' AND round = rounds) AS closed_at, \
             coalesce(sum(paused_days) FILTER (WHERE round = rounds), 0) AS paused_days, \
             coalesce(sum(paused_days) FILTER (WHERE round = 1 AND time < coalesce(first_answered_at, {at})), 0) \
             AS first_paused_days FROM paused GROUP BY ticket), \
             tickets AS (SELECT g.*, {} AS first_answer_due, {} AS close_due FROM grouped g {join})",
            due("g.received_at", &first, "g.first_paused_days"),
            due("g.opened_at", &close, "g.paused_days"),
        )
    }

    /// `judged`: tickets, whether they are overdue, and who was in charge when they fell due.
    fn judged(&self) -> String {
        let at = time(self.at);
        format!(
            "WITH {}, {}, due AS (SELECT t.ticket, last_value(s.agency ORDER BY s.time, s.step) AS due_agency FROM tickets t \
             JOIN steps s ON t.ticket = s.ticket WHERE s.time <= t.close_due AND t.close_due < {at} GROUP BY t.ticket), \
             judged AS (SELECT t.*, coalesce(t.first_answered_at, {at}) > t.first_answer_due AS is_first_answer_late, \
             coalesce(t.closed_at, {at}) > t.close_due AS is_overdue, d.due_agency FROM tickets t \
             LEFT JOIN due d ON t.ticket = d.ticket)",
            self.steps(),
            self.tickets()
        )
    }
}

fn tickets(call: &Call) -> Result<LogicalPlan> {
    let asked = Asked::new(call)?;
    call.sql(&format!(
        "{} SELECT ticket, kind, agency, status, rounds, received_at, first_answer_due, first_answered_at, \
         is_first_answer_late, opened_at, paused_days, close_due, closed_at, is_overdue, \
         CASE WHEN is_overdue THEN due_agency END AS overdue_agency FROM judged",
        asked.judged()
    ))
}

fn time_charged(call: &Call) -> Result<LogicalPlan> {
    let asked = Asked::new(call)?;
    call.sql(&format!(
        "WITH {} SELECT ticket, agency, sum(CAST({} AS DOUBLE)) AS working_s FROM steps WHERE is_running = 1 \
         GROUP BY ticket, agency",
        asked.steps(),
        asked.seconds_between("time", "until"),
    ))
}

fn league(call: &Call) -> Result<LogicalPlan> {
    let asked = Asked::new(call)?;
    let until = format!("coalesce(closed_at, {})", time(asked.at));
    call.sql(&format!(
        "{} SELECT rank() OVER (ORDER BY overdue DESC, overdue_share DESC) AS rank, * FROM (SELECT asked AS agency, \
         count(*) AS tickets, sum(is_open) AS open, sum(overdue) AS overdue, sum(overdue * is_open) AS overdue_open, \
         CAST(sum(overdue) AS DOUBLE) / count(*) AS overdue_share, max(overdue * {}) AS overdue_days_max FROM \
         (SELECT *, coalesce(due_agency, agency) AS asked, CASE WHEN is_overdue THEN 1 ELSE 0 END AS overdue \
         FROM judged) GROUP BY asked)",
        asked.judged(),
        asked.days_between("close_due", &until)
    ))
}
