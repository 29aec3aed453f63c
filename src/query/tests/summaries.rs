//! Answers from summaries against those from rows, over random stores and questions.

use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::ScalarValue;

use super::chance::{Chance, seed};
use super::*;
use crate::{Accelerations, Table};

/// Floats that compare in their own way.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Special {
    None,
    /// These are extremes, or are none.
    Infinities,
    /// And NaN and zeros of both signs: there the engine's least and greatest depend on the order.
    All,
}

/// A table of ten hours of 2026-01-01.
pub(super) struct Filled {
    pub(super) store: Store,
    table: Table,
    writers: Vec<Writer>,
    dedup: Dedup,
    pub(super) special: Special,
    fields: usize,
    /// How far the rows are, in seconds.
    head: i64,
    _dir: tempfile::TempDir,
}

fn schema(dedup: Dedup, later: bool) -> Schema {
    let schema = Schema::new("water").tag("gate").tag("agency").f64("level", "cm").i64("number", "").u64("total", "");
    let schema = schema.bool("open", "").utf8("note", "").dedup(dedup).partition(Duration::from_secs(4 * 3_600));
    if later { schema.f64("later", "") } else { schema }
}

impl Filled {
    pub(super) fn new(chance: &mut Chance, dedup: Dedup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Self::open(&dir);
        let table = store.table(schema(dedup, false)).unwrap();
        let writers = (0..2).map(|_| table.writer().unwrap()).collect();
        Self {
            store,
            table,
            writers,
            dedup,
            special: *chance.one_of(&[Special::None, Special::Infinities, Special::All]),
            fields: 5,
            head: 0,
            _dir: dir,
        }
    }

    fn open(dir: &tempfile::TempDir) -> Store {
        let options = Store::options().query_threads(3).block_bytes_min(1 << 20).block_bytes_max(4 << 20);
        options.compact_fan_in(2).open(dir.path().join("kota")).unwrap()
    }

    /// Closes the store and opens it again.
    pub(super) fn reopen(&mut self) {
        self.writers.clear();
        self.store.close().unwrap();
        self.store = Self::open(&self._dir);
        self.table = self.store.existing("water").unwrap();
        self.writers = (0..2).map(|_| self.table.writer().unwrap()).collect();
    }

    fn level(&self, chance: &mut Chance) -> Option<f64> {
        match (chance.below(40), self.special) {
            (0, Special::All) => Some(f64::NAN),
            (1, Special::All) => Some(-f64::NAN),
            (2, Special::All) => Some(-0.0),
            (3, Special::All) => Some(0.0),
            (4, Special::All | Special::Infinities) => Some(f64::INFINITY),
            (5, Special::All | Special::Infinities) => Some(f64::NEG_INFINITY),
            (6..10, _) => None,
            _ => Some((chance.below(100_000) as f64 - 20_000.5) / 8.0),
        }
    }

    /// Goes `seconds` on, with rows of eight series, some late.
    pub(super) fn grow(&mut self, chance: &mut Chance, seconds: i64) {
        let series: Vec<SeriesId> =
            (0..8).map(|id| self.table.series([GATES[id % 4], AGENCIES[id / 4]]).unwrap()).collect();
        let among = 4 + chance.below(5);
        for second in (self.head..self.head + seconds).step_by(5) {
            let id = series[chance.below(among) as usize];
            let late = if chance.below(200) == 0 { chance.below(second as u64 + 1) as i64 } else { 0 };
            // Some at equal times.
            let at = (second - late) / 10 * 10;
            let number = chance.below(1 << 30) as i64 - (1 << 29);
            let note = (number % 3 != 0).then(|| format!("note {number}"));
            let values = [
                self.level(chance).into(),
                (number % 7 != 0).then_some(number).into(),
                number.unsigned_abs().into(),
                (number % 5 != 0).then_some(number % 2 == 0).into(),
                note.as_deref().into(),
                (number % 4 != 0).then_some(number as f64).into(),
            ];
            let writer = &mut self.writers[chance.below(2) as usize];
            let time = Time::from_nanos(START_NS + at * 1_000_000_000 + chance.below(2) as i64);
            assert_eq!(writer.append_to(id, time, &values[..self.fields]).unwrap().accepted(), 1);
        }
        self.head += seconds;
    }

    pub(super) fn add_field(&mut self) {
        self.table = self.store.table(schema(self.dedup, true)).unwrap();
        self.writers = (0..2).map(|_| self.table.writer().unwrap()).collect();
        self.fields = 6;
    }

    pub(super) fn question(&self, chance: &mut Chance) -> Question {
        let mut keys: Vec<String> = Vec::new();
        match chance.below(5) {
            0 => keys.push("gate".into()),
            1 => keys.extend(["gate", "agency"].map(String::from)),
            2 => keys.push("upper(agency)".into()),
            _ => {}
        }
        if chance.below(5) > 0 {
            keys.push(self.bucket(chance));
        }
        let mut all = vec![
            "count(*)",
            "count(level)",
            "count(note)",
            "sum(level)",
            "avg(level)",
            "sum(number)",
            "min(number)",
            "max(number)",
            "sum(total)",
            "max(total)",
            "first(level, time)",
            "last(level, time)",
            "first(number, time)",
            "last(open, time)",
            "first_time(level, time)",
            "last_time(open, time)",
            "min(time)",
            "max(time)",
        ];
        if self.special != Special::All {
            all.extend(["min(level)", "max(level)"]);
        }
        if self.fields == 6 {
            all.extend(["count(later)", "sum(later)", "last(later, time)", "max(later)", "avg(later)"]);
        }
        let aggregates: Vec<&str> = (0..1 + chance.below(5)).map(|_| *chance.one_of(&all)).collect();
        let mut predicates = Vec::new();
        let bound = |chance: &mut Chance| {
            let at = START_NS + chance.below(self.head as u64 + 1_000) as i64 * 1_000_000_000;
            // Mostly anywhere, sometimes where a bucket begins.
            let at = if chance.below(3) == 0 { at / 900_000_000_000 * 900_000_000_000 } else { at };
            format!("to_timestamp_nanos({at})")
        };
        if chance.below(3) > 0 {
            predicates.push(format!("time {} {}", chance.one_of(&[">=", ">"]), bound(chance)));
        }
        if chance.below(3) > 0 {
            predicates.push(format!("time {} {}", chance.one_of(&["<=", "<"]), bound(chance)));
        }
        let of_tags =
            ["gate = 'Kuala Dua'", "gate IN ('Sei Wie', 'Parit Tokaya')", "agency LIKE 'B%'", "gate <> agency"];
        if chance.below(3) == 0 {
            predicates.push((*chance.one_of(&of_tags)).into());
        }
        Question { keys, aggregates: aggregates.into_iter().map(String::from).collect(), predicates }
    }

    fn bucket(&self, chance: &mut Chance) -> String {
        let widths = ["1 minute", "7 minutes", "15 minutes", "30 minutes", "1 hour", "90 minutes", "3 hours", "1 day"];
        let width = chance.one_of(&widths);
        match chance.below(6) {
            0 => format!("date_trunc('{}', time)", chance.one_of(&["minute", "hour", "day", "month"])),
            1 => format!("date_bin_wallclock(INTERVAL '{width}', time AT TIME ZONE 'Asia/Pontianak')"),
            2 => format!("date_bin_wallclock(INTERVAL '{width}', time AT TIME ZONE 'Asia/Kathmandu')"),
            3 => format!("date_bin(INTERVAL '{width}', time, TIMESTAMP '2026-01-01 00:20:00')"),
            _ => format!("date_bin(INTERVAL '{width}', time)"),
        }
    }
}

pub(super) struct Question {
    keys: Vec<String>,
    pub(super) aggregates: Vec<String>,
    predicates: Vec<String>,
}

impl Question {
    fn text(&self) -> String {
        let mut columns: Vec<String> = Vec::new();
        columns.extend((0..).zip(&self.keys).map(|(n, key)| format!("{key} AS k{n}")));
        columns.extend((0..).zip(&self.aggregates).map(|(n, aggregate)| format!("{aggregate} AS a{n}")));
        let mut text = format!("SELECT {} FROM water", columns.join(", "));
        if !self.predicates.is_empty() {
            text += &format!(" WHERE {}", self.predicates.join(" AND "));
        }
        if !self.keys.is_empty() {
            text += &format!(" GROUP BY {}", self.keys.join(", "));
        }
        text
    }
}

fn answer(store: &Store, accelerations: Accelerations, question: &Question) -> Vec<Vec<ScalarValue>> {
    let session = store.session();
    session.state_ref().write().config_mut().options_mut().extensions.insert(accelerations);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = question.text();
    let frame = async { session.sql(&text).await.unwrap().collect().await };
    let batches = runtime.block_on(frame).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut rows: Vec<Vec<ScalarValue>> = Vec::new();
    for batch in batches {
        let row = |row: usize| {
            batch.columns().iter().map(|it| ScalarValue::try_from_array(it, row).unwrap()).collect::<Vec<_>>()
        };
        rows.extend((0..batch.num_rows()).map(row));
    }
    rows.sort_by_key(|row| row.iter().take(question.keys.len()).map(|key| format!("{key:?}")).collect::<Vec<_>>());
    rows
}

/// Sums to the rounding of some thousand numbers up to a billion, everything else bit for bit.
fn same(aggregate: Option<&String>, on: &ScalarValue, off: &ScalarValue) -> bool {
    let rounds = aggregate.is_some_and(|it| it.starts_with("sum") || it.starts_with("avg"));
    match (on, off) {
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) if rounds => {
            (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * (1.0 + b.abs()).max(1e6)
        }
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) => a.to_bits() == b.to_bits(),
        _ => on == off,
    }
}

/// The plan of `text` with these accelerations.
fn plan_of(store: &Store, accelerations: Accelerations, text: &str) -> String {
    let session = store.session();
    session.state_ref().write().config_mut().options_mut().extensions.insert(accelerations);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let frame = async { session.sql(&format!("EXPLAIN {text}")).await.unwrap().collect().await };
    arrow::util::pretty::pretty_format_batches(&runtime.block_on(frame).unwrap()).unwrap().to_string()
}

/// That these accelerations give what none gives. The plan with them.
pub(super) fn check(filled: &Filled, question: &Question, with: Accelerations, place: &str) -> String {
    let text = question.text();
    let on = answer(&filled.store, with, question);
    let off = answer(&filled.store, Accelerations::none(), question);
    let plan = plan_of(&filled.store, with, &text);
    assert_eq!(on.len(), off.len(), "{place}: {text}\n{plan}");
    for (on, off) in on.iter().zip(&off) {
        for (column, (a, b)) in on.iter().zip(off).enumerate() {
            let aggregate = column.checked_sub(question.keys.len()).and_then(|at| question.aggregates.get(at));
            assert!(same(aggregate, a, b), "{place}: {text}\n{on:?}\n{off:?}\n{plan}");
        }
    }
    plan
}

/// How many stores are filled, `PROPTEST_CASES` if that is set.
pub(super) fn cases() -> u64 {
    std::env::var("PROPTEST_CASES").map_or(2, |cases| cases.parse().unwrap())
}

/// What one of them is filled by.
pub(super) fn drawn(seed: u64, case: u64) -> (Chance, Dedup) {
    let dedup = if case.is_multiple_of(2) { Dedup::KeepAll } else { Dedup::LastWrite };
    (Chance::new(seed.wrapping_add(case)), dedup)
}

#[test]
fn an_answer_from_summaries_is_that_of_the_rows() {
    let (seed, cases) = (seed(), cases());
    let mut used = 0;
    for case in 0..cases {
        let (mut chance, dedup) = drawn(seed, case);
        let mut filled = Filled::new(&mut chance, dedup);
        for step in 0..4 {
            let place = format!("seed {seed}, case {case}, step {step}");
            let seconds = 7_000 + chance.below(9_000) as i64;
            filled.grow(&mut chance, seconds);
            match step {
                0 | 2 => {
                    let _ = filled.store.seal().unwrap();
                }
                1 => filled.add_field(),
                _ => {
                    let _ = filled.store.seal().unwrap();
                    let _ = filled.store.maintain().unwrap();
                }
            }
            for _ in 0..8 {
                let question = filled.question(&mut chance);
                let plan = check(&filled, &question, Accelerations::all(), &place);
                used += usize::from(plan.contains("DenyutSummaries"));
            }
        }
    }
    println!("of {} questions {used} were answered from summaries", 32 * cases);
    // How many is a matter of chance, but with none this shows nothing.
    assert!(used > 0, "seed {seed}: no question was answered from summaries");
}

/// What row `n` of a host says: nothing that repeats, or segments would be too small for fine cells.
fn usage(host: i64, n: i64) -> f64 {
    Chance::new((host * 100_000 + n) as u64).below(101) as f64
}

/// A store of one series a host, every ten seconds for a day.
pub(super) fn regular() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    // In one block, and so in one segment.
    let options = Store::options().query_threads(2).block_bytes_min(4 << 20).block_bytes_max(8 << 20);
    let store = options.open(dir.path().join("kota")).unwrap();
    let schema = Schema::new("cpu").tag("host").tag("zone").f64("usage", "%").i64("jobs", "");
    let table = store.table(schema.partition(Duration::from_secs(86_400))).unwrap();
    let mut writer = table.writer().unwrap();
    for host in 0..4_i64 {
        let id = table.series([format!("host_{host}").as_str(), if host % 2 == 0 { "a" } else { "b" }]).unwrap();
        for n in 0..8_640_i64 {
            let usage = usage(host, n);
            let time = Time::from_nanos(START_NS + n * 10_000_000_000);
            let _ = writer.append_to(id, time, &[usage.into(), (n % 9).into()]).unwrap();
        }
    }
    store.seal().unwrap();
    (store, dir)
}

/// The rows that a plan reads beside summaries; `None` if it uses none.
fn raw_rows(plan: &str) -> Option<usize> {
    let after = plan.split("raw_rows=").nth(1)?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn whole_buckets_read_no_row_and_cut_ones_theirs_alone() {
    let (store, _dir) = regular();
    let of = |bounds: &str, bucket: &str| {
        explain(&store, &format!("SELECT host, {bucket} AS b, max(usage) FROM cpu WHERE {bounds} GROUP BY host, b"))
    };
    let hour = "date_bin(INTERVAL '1 hour', time)";
    let plan = of("time >= '2026-01-01T03:00:00Z' AND time < '2026-01-01T15:00:00Z'", hour);
    assert_eq!(raw_rows(&plan), Some(0), "{plan}");
    assert!(plan.contains("DenyutSummaries: table=cpu, segments=1, series=4, buckets=12"), "{plan}");
    let plan = of("time >= '2026-01-01T03:10:03Z' AND time < '2026-01-01T15:00:00Z' AND host = 'host_1'", hour);
    assert!(raw_rows(&plan).is_some_and(|rows| 0 < rows && rows <= 360), "{plan}");
    let plan = of("time >= '2026-01-01T03:00:00Z' AND usage > 7", hour);
    assert_eq!(raw_rows(&plan), None, "a predicate on a field needs rows: {plan}");
    let plan = of("time >= '2026-01-01T03:00:00Z'", "date_bin(INTERVAL '7 seconds', time)");
    assert_eq!(raw_rows(&plan), None, "buckets that are shorter than cells: {plan}");
    let zones = [("Asia/Pontianak", true), ("+07:00", true)];
    for (zone, is_served) in zones {
        let plan = of(
            "time < '2026-01-01T20:00:00Z'",
            &format!("date_bin_wallclock(INTERVAL '1 day', time AT TIME ZONE '{zone}')"),
        );
        assert_eq!(raw_rows(&plan).is_some(), is_served, "{zone}: {plan}");
    }
}

#[test]
fn gaps_are_filled_over_summaries() {
    let (store, _dir) = regular();
    let text = "SELECT host, date_bin_gapfill(INTERVAL '1 hour', time) AS hour, locf(avg(usage)) AS mean FROM cpu \
                WHERE time >= '2025-12-31T22:00:00Z' AND time < '2026-01-02T02:00:00Z' AND zone = 'a' \
                GROUP BY host, hour ORDER BY host, hour";
    let plan = explain(&store, text);
    assert_eq!(raw_rows(&plan), Some(0), "{plan}");
    let rows = store.query(text).unwrap();
    assert_eq!(rows.num_rows(), 2 * 28);
    let batches: Vec<_> = rows.batches().to_vec();
    let batch = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    assert_eq!(batch.column(2).data_type(), &DataType::Float64);
    let mean = batch.column(2).as_primitive::<Float64Type>();
    let expected = |host: i64, hour: i64| (hour * 360..(hour + 1) * 360).map(|n| usage(host, n)).sum::<f64>() / 360.0;
    assert!((mean.value(2) - expected(0, 0)).abs() < 1e-9);
    assert!((mean.value(28 + 25) - expected(2, 23)).abs() < 1e-9);
}

#[test]
fn rows_beside_summaries_are_counted_once() {
    let (store, _dir) = regular();
    let table = store.existing("cpu").unwrap();
    let mut writer = table.writer().unwrap();
    let time = Time::from_nanos(START_NS + 5);
    let _ = writer.append_at(time, row! { host: "host_0", zone: "a", usage: 1000.0, jobs: 1_i64 }).unwrap();
    let text = "SELECT host, count(*) AS n, max(usage) AS most FROM cpu GROUP BY host ORDER BY host";
    assert!(raw_rows(&explain(&store, text)) == Some(1), "{}", explain(&store, text));
    let rows = store.query(text).unwrap();
    let counts: Vec<_> = (0..4).map(|row| rows.i64(row, "n").unwrap().unwrap()).collect();
    assert_eq!(counts, [8_641, 8_640, 8_640, 8_640]);
    assert_eq!(rows.f64(0, "most").unwrap(), Some(1000.0));
}

#[test]
fn a_damaged_summary_is_an_error_and_no_guess() {
    let (store, dir) = regular();
    let path = dir.path().join("kota/segments/0000000001.series");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let text = "SELECT host, sum(jobs) FROM cpu GROUP BY host";
    let error = store.query(text).unwrap_err();
    assert!(matches!(error, crate::Error::Corrupted { .. }), "{error}");
    let session = store.session();
    session.state_ref().write().config_mut().options_mut().extensions.insert(Accelerations::none());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = runtime.block_on(async { session.sql(text).await.unwrap().count().await }).unwrap();
    assert_eq!(rows, 4, "the rows are all there");
}

/// What another acceleration found nothing to save of is as if that were off.
#[test]
fn what_nothing_else_saves_of_is_answered_from_summaries() {
    let (store, _dir) = regular();
    for text in [
        // There are not so many buckets.
        "SELECT date_bin(INTERVAL '1 hour', time) AS t, max(usage) FROM cpu GROUP BY t ORDER BY t DESC LIMIT 100",
        // No series' latest row is so early.
        "SELECT host, last(usage, time) FROM cpu WHERE time < '2026-01-01T12:00:00Z' GROUP BY host",
    ] {
        let plan = explain(&store, text);
        assert_eq!(raw_rows(&plan), Some(0), "{plan}");
        super::on_off::check(&store, text, "DenyutSummaries");
    }
}

/// Partial groups are as good as whole ones, so what does not fit in memory is given away.
#[test]
fn what_does_not_fit_is_given_away_in_parts() {
    use datafusion::execution::TaskContext;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_plan::{ExecutionPlan, collect};

    fn summaries(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
        if plan.name() == "DenyutSummaries" {
            return Some(plan.clone());
        }
        plan.children().into_iter().find_map(summaries)
    }
    let (store, _dir) = regular();
    let mut writer = store.existing("cpu").unwrap().writer().unwrap();
    for n in 0..8_640_i64 {
        let time = Time::from_nanos(START_NS + n * 10_000_000_000 + 1);
        let _ = writer.append_at(time, row! { host: "host_0", zone: "a", usage: usage(9, n), jobs: 1_i64 }).unwrap();
    }
    store.seal().unwrap();
    let text = "SELECT host, date_bin(INTERVAL '1 hour', time) AS t, count(*), sum(jobs) FROM cpu GROUP BY host, t";
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // Groups, and rows that they are of, within so many bytes.
    let found = |bytes: usize| {
        let limited = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0).build_arc().unwrap();
        let context = Arc::new(TaskContext::default().with_runtime(limited));
        let plan = async { store.session().sql(text).await.unwrap().create_physical_plan().await.unwrap() };
        let plan = summaries(&runtime.block_on(plan)).unwrap();
        let batches = runtime.block_on(collect(plan, context)).unwrap();
        let count = |batch: &RecordBatch| batch.column(2).as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        (batches.iter().map(RecordBatch::num_rows).sum::<usize>(), batches.iter().map(count).sum::<i64>())
    };
    assert_eq!(found(1 << 30), (4 * 24, 5 * 8_640));
    assert_eq!(found(1_000), (5 * 24, 5 * 8_640));
}

/// Where the engine's answer depends on the order of rows, or on how they are grouped, the rows are read.
#[test]
fn extremes_of_floats_that_compare_in_their_own_way_are_of_the_rows() {
    for (special, is_served) in [(f64::NAN, false), (-0.0, false), (f64::INFINITY, true), (f64::NEG_INFINITY, true)] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::options().block_bytes_min(1 << 20).open(dir.path().join("kota")).unwrap();
        let schema = Schema::new("cpu").tag("host").f64("usage", "%").partition(Duration::from_secs(86_400));
        let table = store.table(schema).unwrap();
        let (mut writer, host) = (table.writer().unwrap(), table.series(["a"]).unwrap());
        for n in 0..8_640_i64 {
            let usage = if n == 5_000 { special } else { usage(0, n) };
            let _ = writer.append_to(host, Time::from_nanos(START_NS + n * 10_000_000_000), &[usage.into()]).unwrap();
        }
        store.seal().unwrap();
        let of = |aggregate: &str| format!("SELECT host, {aggregate}(usage) FROM cpu GROUP BY host");
        for aggregate in ["min", "max"] {
            let plan = explain(&store, &of(aggregate));
            assert_eq!(plan.contains("DenyutSummaries"), is_served, "{aggregate} with {special}: {plan}");
            if is_served {
                super::on_off::check(&store, &of(aggregate), "DenyutSummaries");
            }
        }
        super::on_off::check(&store, &of("count"), "DenyutSummaries");
    }
}
