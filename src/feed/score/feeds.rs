//! `feeds([as_of])`: each feed against its contract, in one statement of SQL a feed.
//!
//! A feed's rows of the window are read once. The window is the scorecard's, or one cadence if that is longer, and begins no
//! sooner than the feed. It is cut into slots of one cadence, back from the moment asked about: a series is expected once in
//! each, so that a burst of rows does not hide a gap.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::logical_expr::{LogicalPlan, Union};

use super::super::contract::Feed;
use super::super::dimension;
use super::super::registry::Version;
use super::super::text::{before, name, number, text, time};
use super::{AsOf, as_of, in_force};
use crate::error::Error;
use crate::model::time::nanos_of;
use crate::model::{FieldType, Time, json, quarantine};
use crate::query::extension::{Call, external};
use crate::snapshot::TableView;

/// The plan of `feeds([as_of])`.
pub(super) fn plan(call: &Call) -> Result<LogicalPlan> {
    call.check_count(0..=1)?;
    let as_of = as_of(call, 0)?;
    let mut plans = Vec::new();
    for (version, since) in in_force(call.snapshot(), as_of.time)? {
        let feed = Judged::new(call, &version, since, as_of)?;
        plans.push(Arc::new(call.sql(&feed.statement())?));
    }
    match plans.len() {
        0 => call.sql(&nothing()),
        1 => Ok(Arc::unwrap_or_clone(plans.swap_remove(0))),
        // Flat, so that many feeds are not a deep plan.
        _ => Ok(LogicalPlan::Union(Union::try_new(plans)?)),
    }
}

/// The plan of `silent_feeds([as_of])`.
pub(super) fn silent(call: &Call) -> Result<LogicalPlan> {
    call.check_count(0..=1)?;
    let as_of = as_of(call, 0)?.time;
    call.sql(&format!(
        "SELECT feed, agency, owner, table_name, arrives, last_row, age_s, cadence_s, lateness_s, \
         age_s - cadence_s - lateness_s AS overdue_s FROM feeds({}) WHERE NOT in_cadence",
        time(as_of)
    ))
}

/// The plan of `feed_contracts()`.
pub(super) fn contracts(call: &Call) -> Result<LogicalPlan> {
    call.check_count(0..=0)?;
    let versions = super::registry::versions(call.snapshot()).map_err(external)?;
    let row = |version: &Version| {
        format!(
            "({}, {}, {}, {}, {}, {}, {}, {})",
            text(&version.feed.name),
            version.number,
            time(version.from),
            time(version.declared),
            version.retired,
            text(&version.feed.agency),
            text(&version.feed.schema.name),
            text(&version.text)
        )
    };
    let rows: Vec<String> = versions.values().flatten().map(row).collect();
    let columns = "feed, version, valid_from, declared, retired, agency, table_name, contract";
    if rows.is_empty() {
        let none = format!("('', CAST(0 AS BIGINT), {0}, {0}, false, '', '', '')", time(Time::from_nanos(0)));
        return call.sql(&format!("SELECT * FROM (VALUES {none}) AS v({columns}) WHERE false"));
    }
    call.sql(&format!("SELECT * FROM (VALUES {}) AS v({columns})", rows.join(", ")))
}

/// The columns of `feeds`, by a name and what stands for it where there is no feed.
const COLUMNS: &[(&str, &str)] = &[
    ("feed", "VARCHAR"),
    ("agency", "VARCHAR"),
    ("owner", "VARCHAR"),
    ("table_name", "VARCHAR"),
    ("version", "BIGINT"),
    ("arrives", "VARCHAR"),
    ("cadence_s", "DOUBLE"),
    ("lateness_s", "DOUBLE"),
    ("last_row", "TIMESTAMP"),
    ("age_s", "DOUBLE"),
    ("in_cadence", "BOOLEAN"),
    ("series", "BIGINT"),
    ("expected", "BIGINT"),
    ("present", "BIGINT"),
    ("present_share", "DOUBLE"),
    ("received", "BIGINT"),
    ("late", "BIGINT"),
    ("duplicate", "BIGINT"),
    ("quarantined", "BIGINT"),
    ("conforming", "BIGINT"),
    ("conform_share", "DOUBLE"),
    ("keys_checked", "BIGINT"),
    ("keys_resolved", "BIGINT"),
    ("keys_share", "DOUBLE"),
    ("baseline", "VARCHAR"),
];

fn nothing() -> String {
    let null = |(name, kind): &(&str, &str)| match *kind {
        "TIMESTAMP" => format!("arrow_cast(NULL, 'Timestamp(Nanosecond, Some(\"UTC\"))') AS {name}"),
        kind => format!("CAST(NULL AS {kind}) AS {name}"),
    };
    format!("SELECT {} WHERE false", COLUMNS.iter().map(null).collect::<Vec<_>>().join(", "))
}

/// One feed, to be judged over one window.
pub(super) struct Judged<'a> {
    call: &'a Call<'a>,
    version: &'a Version,
    view: &'a TableView,
    as_of: AsOf,
    /// The window: after `start`, until `as_of`.
    start: Time,
}

impl<'a> Judged<'a> {
    /// `feed`, whose first version is in force `since`, over the scorecard's window.
    pub(super) fn new(call: &'a Call<'a>, version: &'a Version, since: Time, as_of: AsOf) -> Result<Self> {
        let window = call.options().scorecard.window.max(version.feed.cadence());
        Self::over(call, version, before(as_of.time, window).max(since), as_of)
    }

    /// `feed` over the times after `start`.
    pub(super) fn over(call: &'a Call<'a>, version: &'a Version, start: Time, as_of: AsOf) -> Result<Self> {
        let table = &version.feed.schema.name;
        let unknown = || external(Error::UnknownTable { table: table.clone() });
        let view = call.snapshot().table(table).ok_or_else(unknown)?;
        Ok(Self { call, version, view, as_of, start })
    }

    fn feed(&self) -> &Feed {
        &self.version.feed
    }

    /// Which rows are the feed's and were there at the moment.
    fn which(&self) -> String {
        let mut which = String::new();
        for (tag, value) in &self.feed().rows {
            which += &format!(" AND {} = {}", name(tag), text(value));
        }
        if self.knows_arrival() && self.as_of.is_past {
            which += &format!(" AND ingest_time <= {}", time(self.as_of.time));
        }
        which
    }

    fn knows_arrival(&self) -> bool {
        self.view.schema.policies().keep_ingest_time
    }

    /// How many slots of one cadence the window has.
    fn slots(&self) -> i64 {
        self.as_of.time.as_nanos().saturating_sub(self.start.as_nanos()).max(0) / self.cadence_ns()
    }

    fn cadence_ns(&self) -> i64 {
        nanos_of(self.feed().cadence()).max(1)
    }

    /// When the feed's last row is from, as a subquery. Where the store knows by itself, nothing is read; else whole segments
    /// before the moment bound it from below, so that no older row is.
    fn last_row(&self) -> String {
        let at = self.as_of.time.as_nanos();
        let segments = self.view.segments.iter().map(|segment| &segment.meta).filter(|meta| meta.rows > 0);
        let live = self.view.live.iter().filter_map(|range| range.time_bounds()).map(|bounds| bounds.1);
        let newest: Vec<i64> = segments.map(|meta| meta.max_time).chain(live).collect();
        let known = newest.iter().copied().filter(|max| *max <= at).max().filter(|_| self.which().is_empty());
        let known = known.map(|ns| time(Time::from_nanos(ns)));
        if let Some(known) = known.as_ref().filter(|_| newest.iter().all(|max| *max <= at)) {
            return format!("SELECT {known} AS last_row");
        }
        let bound = known.map(|known| format!(" AND time >= {known}")).unwrap_or_default();
        format!(
            "SELECT max(time) AS last_row FROM public.{} WHERE time <= {}{bound}{}",
            name(&self.feed().schema.name),
            time(self.as_of.time),
            self.which()
        )
    }

    /// What is true of a row whose values are as the contract says.
    fn conforms(&self) -> String {
        let mut all = vec!["true".to_string()];
        for range in &self.feed().ranges {
            let field = self.view.schema.fields().iter().find(|field| field.name == range.field);
            let Some(field) = field else { continue };
            let value = format!("CAST({} AS DOUBLE)", name(&range.field));
            let mut holds = vec!["true".to_string()];
            holds.extend(range.min.map(|min| format!("{value} >= {}", number(min))));
            holds.extend(range.max.map(|max| format!("{value} <= {}", number(max))));
            if field.field_type == FieldType::F64 {
                holds.push(format!("NOT isnan({value})"));
            }
            all.push(format!("({} IS NULL OR ({}))", name(&range.field), holds.join(" AND ")));
        }
        all.join(" AND ")
    }

    /// The rows of the window, as the common table expression `own`, with what is asked of each.
    fn own(&self) -> String {
        let late = match self.knows_arrival() {
            true => format!(
                "CASE WHEN CAST(ingest_time AS BIGINT) - CAST(time AS BIGINT) > {} THEN 1 ELSE 0 END",
                nanos_of(self.feed().lateness())
            ),
            false => "0".into(),
        };
        let keys: String =
            (0..).zip(&self.feed().keys).map(|(n, key)| format!(", {} AS c{n}", name(&key.column))).collect();
        let mut select = format!(
            "own AS (SELECT time, {} AS by_series, {} AS conforms, {late} AS late{keys} FROM public.{} \
             WHERE time > {} AND time <= {}{})",
            self.series(),
            self.conforms(),
            name(&self.feed().schema.name),
            time(self.start),
            time(self.as_of.time),
            self.which()
        );
        let mut last = "own".to_string();
        for (n, key) in (0..).zip(&self.feed().keys) {
            let view = self.call.snapshot().table(&key.dimension);
            let next = format!("keyed{n}");
            select += &match view.is_some_and(|view| dimension::is_dimension(&view.schema)) {
                true => format!(
                    ", {next} AS (SELECT l.*, d.key IS NOT NULL AND NOT d.removed AS h{n} FROM {last} l ASOF JOIN \
                     (SELECT time AS from_time, key, removed FROM public.{}) d \
                     MATCH_CONDITION (l.time >= d.from_time) ON l.c{n} = d.key)",
                    name(&key.dimension)
                ),
                false => format!(", {next} AS (SELECT l.*, false AS h{n} FROM {last} l)"),
            };
            last = next;
        }
        let sum = |of: &dyn Fn(usize) -> String| {
            let terms: Vec<String> = (0..self.feed().keys.len()).map(of).collect();
            if terms.is_empty() { "0".to_string() } else { terms.join(" + ") }
        };
        let checked = sum(&|n| format!("CASE WHEN c{n} IS NOT NULL THEN 1 ELSE 0 END"));
        let resolved = sum(&|n| format!("CASE WHEN c{n} IS NOT NULL AND h{n} THEN 1 ELSE 0 END"));
        select
            + &format!(
                ", moments AS (SELECT by_series, time, count(*) AS n, sum(CASE WHEN conforms THEN 1 ELSE 0 END) AS \
                 conforming, sum(late) AS late, sum({checked}) AS checked, sum({resolved}) AS resolved FROM {last} \
                 GROUP BY by_series, time)"
            )
    }

    /// What tells series apart, as one text: of several tags with the lengths of those before the last.
    fn series(&self) -> String {
        match self.view.schema.tags() {
            [] => "''".into(),
            [before @ .., last] => {
                let before = before.iter().map(|tag| format!("character_length({0}), ':', {0}, ", name(tag)));
                let before: String = before.collect();
                if before.is_empty() { name(last) } else { format!("concat({before}{})", name(last)) }
            }
        }
    }

    /// Rows of the window that are in quarantine instead, as a subquery.
    fn quarantined(&self) -> String {
        if self.call.snapshot().table(quarantine::TABLE).is_none() {
            return "SELECT 0 AS quarantined, 0 AS too_late".into();
        }
        let mut which = String::new();
        for (tag, value) in &self.feed().rows {
            // Rows that could be read are there as this crate's JSON, with quotes within values escaped, so that only a tag
            // and its value can look like this. A record that an import could not read is there as it stood in its source:
            // whose it is nobody knows, and it counts for no feed of some rows.
            let mut pair = String::new();
            json::quote(tag, &mut pair);
            pair.push(':');
            json::quote(value, &mut pair);
            which += &format!(" AND strpos(row, {}) > 0", text(&pair));
        }
        format!(
            "SELECT count(*) AS quarantined, coalesce(sum(CASE WHEN reason = 'late' THEN 1 ELSE 0 END), 0) AS too_late \
             FROM system.quarantine WHERE table_name = {} AND time > {} AND time <= {}{which}",
            text(&self.feed().schema.name),
            time(self.start),
            time(self.as_of.time)
        )
    }

    /// The feed's row of `feeds`.
    pub(super) fn statement(&self) -> String {
        let feed = self.feed();
        let constant = |value: &str| format!("CAST({} AS VARCHAR)", text(value));
        let seconds = |duration: std::time::Duration| number(duration.as_secs_f64());
        let at = self.as_of.time.as_nanos();
        let age = format!("(CAST({at} AS BIGINT) - CAST(last_row AS BIGINT))");
        let allowed = nanos_of(feed.cadence()).saturating_add(nanos_of(feed.lateness()));
        let expected = format!("greatest(series, {}) * {}", feed.series_expected.unwrap_or(0), self.slots());
        let share =
            |part: &str, of: &str| format!("CASE WHEN {of} > 0 THEN CAST({part} AS DOUBLE) / CAST({of} AS DOUBLE) END");
        let values = [
            constant(&feed.name),
            constant(&feed.agency),
            constant(&feed.owner),
            constant(&feed.schema.name),
            format!("CAST({} AS BIGINT)", self.version.number),
            constant(feed.arrives.as_str()),
            seconds(feed.cadence()),
            seconds(feed.lateness()),
            "last_row".into(),
            format!("CAST({age} AS DOUBLE) / 1e9"),
            format!("coalesce({age} <= {allowed}, false)"),
            "CAST(series AS BIGINT)".into(),
            format!("CAST({expected} AS BIGINT)"),
            "CAST(present AS BIGINT)".into(),
            share("present", &format!("({expected})")),
            "CAST(received AS BIGINT)".into(),
            "CAST(late + too_late AS BIGINT)".into(),
            "CAST(duplicate AS BIGINT)".into(),
            "CAST(quarantined AS BIGINT)".into(),
            "CAST(conforming AS BIGINT)".into(),
            share("conforming", "(received + quarantined)"),
            "CAST(checked AS BIGINT)".into(),
            "CAST(resolved AS BIGINT)".into(),
            share("resolved", "checked"),
            feed.baseline.as_deref().map_or_else(|| "CAST(NULL AS VARCHAR)".into(), constant),
        ];
        let columns: Vec<String> =
            values.iter().zip(COLUMNS).map(|(value, (name, _))| format!("{value} AS {name}")).collect();
        format!(
            "WITH {}, slots AS (SELECT by_series, (CAST({at} AS BIGINT) - CAST(time AS BIGINT)) / {} AS slot, \
             sum(n) AS n, count(*) AS times, sum(conforming) AS conforming, sum(late) AS late, sum(checked) AS checked, \
             sum(resolved) AS resolved FROM moments GROUP BY by_series, slot), \
             whole AS (SELECT count(DISTINCT by_series) AS series, coalesce(sum(n), 0) AS received, \
             coalesce(sum(n) - sum(times), 0) AS duplicate, coalesce(sum(CASE WHEN slot < {} THEN 1 ELSE 0 END), 0) AS \
             present, coalesce(sum(conforming), 0) AS conforming, coalesce(sum(late), 0) AS late, \
             coalesce(sum(checked), 0) AS checked, coalesce(sum(resolved), 0) AS resolved FROM slots) \
             SELECT {} FROM whole CROSS JOIN ({}) CROSS JOIN ({})",
            self.own(),
            self.cadence_ns(),
            self.slots(),
            columns.join(", "),
            self.last_row(),
            self.quarantined(),
        )
    }
}
