//! Answers from rollups against those from rows, and answers about rows that are gone.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::chance::seed;
use super::summaries::{Filled, Special, cases, check, drawn, regular};
use super::*;
use crate::Accelerations;

const HOUR: Duration = Duration::from_secs(3_600);

/// All that the questions of [`Filled`] may ask a rollup for.
fn hours() -> Rollup {
    let of_level = Rollup::new("water_1h").of("water").every(HOUR).mean("level").min("level").max("level");
    let of_number = of_level.first("level").last("level").sum("number").min("number").max("number").first("number");
    of_number.sum("total").max("total").last("open").count("note")
}

#[test]
fn an_answer_from_rollups_is_that_of_the_rows() {
    let (seed, cases) = (seed(), cases());
    let mut used = 0;
    for case in 0..cases {
        let (mut chance, dedup) = drawn(seed, case);
        let mut filled = Filled::new(&mut chance, dedup);
        // Of others the engine's extremes depend on the order of rows.
        filled.special = Special::None;
        filled.store.rollup(hours()).unwrap();
        for step in 0..5 {
            let place = format!("seed {seed}, case {case}, step {step}");
            let seconds = 5_000 + chance.below(9_000) as i64;
            filled.grow(&mut chance, seconds);
            match step {
                0 => drop(filled.store.maintain().unwrap()),
                1 => filled.add_field(),
                2 => {
                    let quarters = Rollup::new("water_15m").of("water").every(HOUR / 4).mean("level").last("open");
                    filled.store.rollup(quarters).unwrap();
                    let _ = filled.store.maintain().unwrap();
                    filled.reopen();
                }
                3 => drop(filled.store.seal().unwrap()),
                _ => drop(filled.store.maintain().unwrap()),
            }
            for _ in 0..8 {
                let mut question = filled.question(&mut chance);
                // Mostly what the rollup keeps.
                if chance.below(4) > 0 {
                    question
                        .aggregates
                        .retain(|it| !["(time)", "later", "_time("].iter().any(|part| it.contains(part)));
                    question.aggregates.push("count(*)".into());
                }
                // With summaries those may be taken instead, or beside.
                let with = Accelerations::all().summaries(chance.below(3) == 0);
                used += usize::from(check(&filled, &question, with, &place).contains("DenyutRollup"));
            }
        }
    }
    println!("of {} questions {used} were answered from rollups", 40 * cases);
    // How many is a matter of chance, but with none this shows nothing.
    assert!(used > 0, "seed {seed}: no question was answered from rollups");
}

/// A store whose clock the test sets, with a day of rows of two gates that are rolled up by the hour.
struct City {
    store: Store,
    clock: Arc<AtomicI64>,
    dir: tempfile::TempDir,
}

const DAYS: &str = "SELECT gate, date_bin(INTERVAL '1 day', time) AS day, count(*) AS n, sum(level_cm) AS sum, \
                    max(level_cm) AS most, last(level_cm, time) AS latest FROM water GROUP BY gate, day ORDER BY gate, day";

impl City {
    fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(START_NS + 24 * HOUR_NS)));
        // Of so few rows summaries may have less to read.
        let options = Store::options().query_threads(2).clock(clock.clone()).without_background();
        let options = options.accelerations(Accelerations::all().summaries(false));
        let store = options.open(dir.path().join("kota")).unwrap();
        let schema = Schema::new("water").tag("gate").f64("level_cm", "cm").utf8("note", "");
        let schema = schema.partition(Duration::from_secs(6 * 3_600)).retention(Duration::from_secs(86_400));
        let table = store.table(schema).unwrap();
        let hours = Rollup::new("water_1h").of("water").every(HOUR).mean("level_cm").max("level_cm").last("level_cm");
        store.rollup(hours.percentiles("level_cm").distinct("note")).unwrap();
        let mut writer = table.writer().unwrap();
        for minute in 0..24 * 60 {
            let at = Time::from_nanos(START_NS + minute * 60_000_000_000);
            let note = format!("note {}", minute % 50);
            for gate in 0..2 {
                let level = (minute % 100 + 100 * gate) as f64;
                let name = GATES[gate as usize];
                let _ = writer.append_at(at, row! { gate: name, level_cm: level, note: note.as_str() }).unwrap();
            }
        }
        drop(writer);
        store.seal().unwrap();
        Self { store, clock, dir }
    }

    /// Three days later.
    fn forget(&self) {
        // Relaxed: nothing else runs.
        self.clock.store(START_NS + 4 * 24 * HOUR_NS, Ordering::Relaxed);
        assert!(self.store.maintain().unwrap().retired_segments > 0);
        assert_eq!(self.store.query("SELECT * FROM water").unwrap().num_rows(), 0);
    }

    fn append(&self, at: Time, level: f64) {
        let mut writer = self.store.existing("water").unwrap().writer().unwrap();
        let _ = writer.append_at(at, row! { gate: GATES[0], level_cm: level }).unwrap();
    }
}

#[test]
fn an_answer_goes_on_after_its_rows_are_gone_and_says_so() {
    let city = City::new();
    let before = city.store.query(DAYS).unwrap();
    assert_eq!((before.num_rows(), before.answered_from().len()), (2, 0), "it is not rolled up yet");
    city.store.maintain().unwrap();
    let rolled = city.store.query(DAYS).unwrap();
    assert_eq!(rolled.to_string(), before.to_string());
    assert_eq!(rolled.answered_from()[0].rollup, "water_1h");
    assert_eq!(rolled.answered_from()[0].rows_gone_before, None);
    city.forget();
    let after = city.store.query(DAYS).unwrap();
    assert_eq!(after.to_string(), before.to_string());
    let from = &after.answered_from()[0];
    assert_eq!((from.table.as_str(), from.every, from.from), ("water", HOUR, Time::from_nanos(START_NS)));
    assert_eq!(from.rows_gone_before, Some(Time::from_nanos(START_NS + 24 * HOUR_NS)));
    let plan = explain(&city.store, DAYS);
    assert!(plan.contains("rows_gone_before=2026-01-02T00:00:00Z"), "{plan}");
    // Without rollups it is of the rows that are left, and so is what names no bucket.
    super::on_off::check(&city.store, "SELECT count(*) FROM water", "");
    #[cfg(feature = "feed")]
    assert_eq!(city.store.query_with_trust(DAYS).unwrap().1.rollups, after.answered_from());
    // Statements that are kept say so too, and so does a reader in another process.
    let kept = city.store.prepare(DAYS).unwrap();
    assert_eq!(kept.query(&[]).unwrap().answered_from(), after.answered_from());
    city.store.sync().unwrap();
    let reader = Store::open_read_only(city.dir.path().join("kota")).unwrap();
    let read = reader.query(DAYS).unwrap();
    assert_eq!((read.to_string(), read.answered_from()), (before.to_string(), after.answered_from()));
}

#[test]
fn rows_that_come_after_all_are_added_once() {
    let city = City::new();
    city.store.maintain().unwrap();
    city.forget();
    let late = |minute: i64| Time::from_nanos(START_NS + minute * 60_000_000_000);
    let count = |n: i64, most: f64| {
        let rows = city.store.query(DAYS).unwrap();
        let row = (0..rows.num_rows()).find(|row| rows.str(*row, "gate").unwrap() == Some(GATES[0])).unwrap();
        assert_eq!(rows.i64(row, "n").unwrap(), Some(n), "{}", explain(&city.store, DAYS));
        assert_eq!(rows.f64(row, "most").unwrap(), Some(most));
    };
    count(1_440, 99.0);
    city.append(late(7), 500.0);
    count(1_441, 500.0);
    city.store.seal().unwrap();
    count(1_441, 500.0);
    city.append(late(700), 600.0);
    count(1_442, 600.0);
    // Its partition is past its retention, so it goes as soon as it is rolled up.
    city.store.maintain().unwrap();
    count(1_442, 600.0);
    city.store.maintain().unwrap();
    count(1_442, 600.0);
}

#[test]
fn a_bucket_that_a_bound_cuts_is_of_the_rows_that_are_left() {
    let city = City::new();
    city.store.maintain().unwrap();
    city.forget();
    let of = |bound: &str| {
        let text = format!(
            "SELECT date_bin(INTERVAL '1 hour', time) AS hour, count(*) AS n FROM water WHERE time >= '{bound}' GROUP BY hour"
        );
        city.store.query(&text).unwrap().num_rows()
    };
    assert_eq!(of("2026-01-01T20:00:00Z"), 4);
    assert_eq!(of("2026-01-01T20:00:01Z"), 3);
    // Finer buckets than the rollup's nobody knows any more.
    let finer = "SELECT date_bin(INTERVAL '20 minutes', time) AS t, count(*) FROM water GROUP BY t";
    assert_eq!(city.store.query(finer).unwrap().num_rows(), 0);
    // The newest buckets are known from rollups too.
    let newest =
        "SELECT date_bin(INTERVAL '1 day', time) AS t, count(*) AS n FROM water GROUP BY t ORDER BY t DESC LIMIT 2";
    city.append(Time::from_nanos(START_NS + 80 * HOUR_NS), 1.0);
    let rows = city.store.query(newest).unwrap();
    assert_eq!((rows.num_rows(), rows.i64(1, "n").unwrap()), (2, Some(2_880)));
}

#[test]
fn sketches_are_kept_and_merged() {
    let city = City::new();
    let text = "SELECT sketch_quantile(percentile_sketch(level_cm), 1) AS most, \
                sketch_quantile(percentile_sketch(level_cm), 0.5) AS middle, \
                sketch_count(distinct_sketch(note)) AS notes, date_bin(INTERVAL '1 day', time) AS day \
                FROM water GROUP BY day";
    city.store.maintain().unwrap();
    let plan = explain(&city.store, text);
    assert!(plan.contains("DenyutRollup") && !plan.contains("DenyutSummaries"), "{plan}");
    city.forget();
    let rows = city.store.query(text).unwrap();
    assert_eq!((rows.f64(0, "most").unwrap(), rows.i64(0, "notes").unwrap()), (Some(199.0), Some(50)));
    let middle = rows.f64(0, "middle").unwrap().unwrap();
    assert!((95.0..105.0).contains(&middle), "{middle}");
    // Those who name the rollup ask its columns.
    let named = "SELECT sketch_count(sketch_merge(note_distinct)) AS notes, sum(rows) AS n, \
                 sketch_quantile(sketch_merge(level_cm_percentiles), 0) AS least FROM water_1h";
    let rows = city.store.query(named).unwrap();
    assert_eq!(rows.i64(0, "notes").unwrap(), Some(50));
    assert_eq!(rows.f64(0, "least").unwrap(), Some(0.0));
    assert_eq!(rows.i64(0, "n").unwrap(), Some(2_880));
}

#[test]
fn one_late_row_leaves_the_other_buckets_to_the_rollup() {
    let city = City::new();
    city.store.maintain().unwrap();
    city.append(Time::from_nanos(START_NS + 5), 1.0);
    city.append(Time::from_nanos(START_NS + 24 * HOUR_NS - 5), 1.0);
    let plan = explain(&city.store, DAYS);
    assert!(plan.contains("DenyutRollup"), "{plan}");
    assert!(plan.contains("2026-01-01T01:00:00Z..2026-01-01T23:00:00Z"), "{plan}");
}

#[test]
fn rollups_are_listed() {
    let city = City::new();
    let listed = || {
        let rows = city.store.query("SELECT * FROM system.rollups").unwrap();
        assert_eq!(rows.num_rows(), 1);
        assert_eq!(rows.str(0, "rollup_name").unwrap(), Some("water_1h"));
        assert_eq!(rows.str(0, "table_name").unwrap(), Some("water"));
        let measures = "sum(level_cm), max(level_cm), last(level_cm), percentiles(level_cm), distinct(note)";
        assert_eq!(rows.str(0, "measures").unwrap(), Some(measures));
        (rows.i64(0, "rows").unwrap(), rows.i64(0, "pending_rows").unwrap())
    };
    assert_eq!(listed(), (Some(0), Some(2_880)));
    city.store.maintain().unwrap();
    assert_eq!(listed(), (Some(48), Some(0)));
}

#[test]
fn rollups_are_switched_off() {
    let city = City::new();
    city.store.maintain().unwrap();
    city.forget();
    let session = city.store.session();
    let off = Accelerations::all().rollups(false);
    session.state_ref().write().config_mut().options_mut().extensions.insert(off);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = runtime.block_on(async { session.sql(DAYS).await.unwrap().count().await }).unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn what_is_damaged_of_a_rollup_the_rows_answer_while_they_are_there() {
    let city = City::new();
    let before = city.store.query(DAYS).unwrap().to_string();
    city.store.maintain().unwrap();
    let files = city.store.query("SELECT file FROM system.segments WHERE table_name = 'water_1h'").unwrap();
    let path = city.dir.path().join("kota").join(files.str(0, "file").unwrap().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let repaired = city.store.repair().unwrap();
    assert_eq!(city.store.query("SELECT * FROM system.segments WHERE aside").unwrap().num_rows(), 1, "{repaired:?}");
    let rows = city.store.query(DAYS).unwrap();
    assert_eq!((rows.to_string(), rows.answered_from().len()), (before, 0));
    city.forget();
    let error = city.store.query(DAYS).unwrap_err();
    assert!(matches!(&error, Error::SegmentAside { table, .. } if table == "water_1h"), "{error}");
}

#[test]
fn a_policy_shows_rows_alone() {
    use crate::query::{Access, Policy};
    let city = City::new();
    let policy = Policy::new("one").table("water", Access::all().rows(format!("gate = '{}'", GATES[1])));
    let shown = city.store.session_for(&policy).unwrap();
    let before = shown.query(DAYS).unwrap().to_string();
    city.store.maintain().unwrap();
    let rolled = shown.query(DAYS).unwrap();
    assert_eq!((rolled.num_rows(), rolled.to_string()), (1, before));
    assert!(rolled.answered_from().is_empty());
    assert!(shown.query("SELECT * FROM water_1h").is_err());
    city.forget();
    assert_eq!(shown.query(DAYS).unwrap().num_rows(), 0);
}

#[test]
fn the_way_that_reads_least_is_taken() {
    let (store, _dir) = regular();
    let text = "SELECT host, date_bin(INTERVAL '1 day', time) AS day, max(usage) FROM cpu GROUP BY host, day";
    for (every, mark) in [(HOUR / 60, "DenyutSummaries"), (24 * HOUR, "DenyutRollup")] {
        let name = format!("cpu_{}s", every.as_secs());
        store.rollup(Rollup::new(name).of("cpu").every(every).max("usage")).unwrap();
        let _ = store.maintain().unwrap();
        super::on_off::check(&store, text, mark);
    }
}
