//! Rollups on the simulator: what they have is what the rows did, whatever came in between.

use std::time::Duration;

use super::*;
use arrow::array::RecordBatch;
use arrow::datatypes::UInt64Type;

const MINUTE_NS: i64 = 60_000_000_000;
const HOUR_NS: i64 = 60 * MINUTE_NS;
const START_NS: i64 = 1_700_000_000_000_000_000 / HOUR_NS * HOUR_NS;

/// Seeds that failed once, kept for good.
const FAILED_ONCE: &[u64] = &[];

fn source(dedup: Dedup) -> Schema {
    let schema = Schema::new("cpu").tag("host").f64("load", "%").i64("jobs", "").dedup(dedup);
    schema.partition(Duration::from_secs(4 * 3_600))
}

fn hours() -> Rollup {
    Rollup::new("cpu_1h").of("cpu").mean("load").min("load").max("load").first("load").last("load").sum("jobs")
}

fn float(batch: &RecordBatch, name: &str, row: usize) -> Option<f64> {
    let column = batch.column_by_name(name).unwrap().as_primitive::<Float64Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn int(batch: &RecordBatch, name: &str, row: usize) -> Option<i64> {
    let column = batch.column_by_name(name).unwrap().as_primitive::<Int64Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn count(batch: &RecordBatch, name: &str, row: usize) -> u64 {
    batch.column_by_name(name).unwrap().as_primitive::<UInt64Type>().value(row)
}

/// What of a host and hour is known.
#[derive(Clone, Debug, Default, PartialEq)]
struct Hour {
    rows: u64,
    loads: u64,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    first: Option<(i64, f64)>,
    last: Option<(i64, f64)>,
    jobs: Option<i64>,
}

type Hours = BTreeMap<(String, i64), Hour>;

fn keys(batch: &RecordBatch, row: usize) -> (String, i64) {
    let host = batch.column_by_name("host").unwrap().as_string_view().value(row).to_string();
    (host, batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>().value(row))
}

/// What the rollup has.
fn rolled(store: &Store) -> Hours {
    let mut hours = Hours::new();
    for batch in store.existing("cpu_1h").unwrap().scan().unwrap() {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let end = |name: &str, time: &str| Some((int(&batch, time, row)?, float(&batch, name, row)?));
            let hour = Hour {
                rows: count(&batch, "rows", row),
                loads: count(&batch, "load_count", row),
                sum: float(&batch, "load_sum", row),
                min: float(&batch, "load_min", row),
                max: float(&batch, "load_max", row),
                first: end("load_first", "load_first_time"),
                last: end("load_last", "load_last_time"),
                jobs: int(&batch, "jobs_sum", row),
            };
            assert!(hours.insert(keys(&batch, row), hour).is_none(), "a row each: {:?}", keys(&batch, row));
        }
    }
    hours
}

/// What the rows of the table did.
fn from_rows(store: &Store) -> Hours {
    let mut hours = Hours::new();
    for batch in store.existing("cpu").unwrap().scan().unwrap() {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let (host, at) = keys(&batch, row);
            let hour = hours.entry((host, at.div_euclid(HOUR_NS) * HOUR_NS)).or_default();
            hour.rows += 1;
            if let Some(load) = float(&batch, "load", row) {
                hour.loads += 1;
                hour.sum = Some(hour.sum.unwrap_or_default() + load);
                hour.min = Some(hour.min.map_or(load, |min| min.min(load)));
                hour.max = Some(hour.max.map_or(load, |max| max.max(load)));
                let by_time = |a: &(i64, f64), b: &(i64, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
                let ends = |end: Option<(i64, f64)>| end.into_iter().chain([(at, load)]);
                hour.first = ends(hour.first).min_by(by_time);
                hour.last = ends(hour.last).max_by(by_time);
            }
            if let Some(jobs) = int(&batch, "jobs", row) {
                hour.jobs = Some(hour.jobs.unwrap_or_default() + jobs);
            }
        }
    }
    hours
}

/// Appends rows of three hosts to ten hours, in any order. Sums of such numbers are exact.
fn scatter(store: &Store, chance: &mut Chance, rows: u64) -> Result<()> {
    let mut writer = store.existing("cpu")?.writer()?;
    for _ in 0..rows {
        let host = ["a", "b", "a host of a long name"][chance.next(3) as usize];
        let at = Time::from_nanos(START_NS + chance.next(600) as i64 * MINUTE_NS);
        let load = (chance.next(7) > 0).then(|| chance.next(1_000) as f64 / 2.0 - 100.0);
        let jobs = (chance.next(5) > 0).then(|| chance.next(1_000) as i64 - 500);
        let _ = writer.append_at(at, row! { host: host, load: load, jobs: jobs })?;
    }
    Ok(())
}

#[test]
fn late_rows_correct_what_they_touch() {
    for dedup in [Dedup::KeepAll, Dedup::LastWrite] {
        let fs = SimFs::new(1);
        let store = open_sim(&fs).unwrap();
        store.table(source(dedup)).unwrap();
        let mut chance = Chance(7);
        scatter(&store, &mut chance, 500).unwrap();
        store.seal().unwrap();
        store.rollup(hours()).unwrap();
        assert!(rolled(&store).is_empty());
        for _ in 0..6 {
            store.maintain().unwrap();
            assert!(!rolled(&store).is_empty());
            assert_eq!(rolled(&store), from_rows(&store), "{dedup:?}");
            scatter(&store, &mut chance, 100).unwrap();
        }
        drop(store);
        let store = open_sim(&fs).unwrap();
        store.rollup(hours()).unwrap();
        store.maintain().unwrap();
        assert_eq!(rolled(&store), from_rows(&store), "{dedup:?}");
    }
}

#[test]
fn a_late_row_rewrites_one_bucket_of_one_series() {
    let fs = SimFs::new(2);
    let store = open_sim(&fs).unwrap();
    store.table(source(Dedup::KeepAll)).unwrap();
    store.rollup(hours()).unwrap();
    scatter(&store, &mut Chance(3), 1_000).unwrap();
    store.maintain().unwrap();
    let buckets = || store.inner.core.counters.rolled_buckets.get();
    let before = buckets();
    let mut writer = store.existing("cpu").unwrap().writer().unwrap();
    let late = Time::from_nanos(START_NS + 3 * MINUTE_NS);
    let _ = writer.append_at(late, row! { host: "a", load: 1.0, jobs: 1_i64 }).unwrap();
    store.maintain().unwrap();
    assert_eq!(buckets() - before, 1);
    assert_eq!(rolled(&store), from_rows(&store));
}

#[test]
fn a_rollup_outlives_its_rows() {
    let fs = SimFs::new(3);
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(START_NS + 10 * HOUR_NS));
    let open = || {
        let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
        Store::open_on(fs.clone(), options.without_background().clock(clock.clone()), Path::new("/store")).unwrap()
    };
    let store = open();
    store.table(source(Dedup::KeepAll).retention(Duration::from_secs(86_400))).unwrap();
    store.rollup(hours().retention(Duration::from_secs(30 * 86_400))).unwrap();
    let mut chance = Chance(5);
    scatter(&store, &mut chance, 500).unwrap();
    store.seal().unwrap();
    let before = from_rows(&store);
    // Relaxed: nothing else runs.
    let set = |hours: i64| clock.store(START_NS + hours * HOUR_NS, std::sync::atomic::Ordering::Relaxed);
    set(100);
    assert_eq!(store.inner.core.retain().unwrap(), 0, "not before it is rolled up");
    let done = store.maintain().unwrap();
    assert!(done.retired_segments > 0);
    assert!(from_rows(&store).is_empty());
    assert_eq!(rolled(&store), before);
    // A row that comes after all is added, once, also to what a later life has.
    drop(store);
    let store = open();
    let mut writer = store.existing("cpu").unwrap().writer().unwrap();
    for (host, load) in [("a", 900.0), ("b", -900.0), ("new", 1.0)] {
        let _ = writer.append_at(Time::from_nanos(START_NS), row! { host: host, load: load, jobs: 1_i64 }).unwrap();
    }
    let mut expected = before;
    for (host, load) in [("a", 900.0), ("b", -900.0), ("new", 1.0)] {
        let hour = expected.entry((host.into(), START_NS)).or_default();
        *hour = Hour {
            rows: hour.rows + 1,
            loads: hour.loads + 1,
            sum: Some(hour.sum.unwrap_or_default() + load),
            min: Some(hour.min.map_or(load, |min| min.min(load))),
            max: Some(hour.max.map_or(load, |max| max.max(load))),
            jobs: Some(hour.jobs.unwrap_or_default() + 1),
            ..hour.clone()
        };
        let by_time = |a: &(i64, f64), b: &(i64, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
        hour.first = hour.first.into_iter().chain([(START_NS, load)]).min_by(by_time);
        hour.last = hour.last.into_iter().chain([(START_NS, load)]).max_by(by_time);
    }
    store.maintain().unwrap();
    store.maintain().unwrap();
    assert_eq!(rolled(&store), expected);
    // Its own retention drops it.
    set(24 * 60);
    store.maintain().unwrap();
    assert!(rolled(&store).is_empty());
}

#[test]
fn a_backup_knows_what_is_not_rolled_up() {
    let fs = SimFs::new(12);
    let store = open_sim(&fs).unwrap();
    store.table(source(Dedup::LastWrite)).unwrap();
    store.rollup(hours()).unwrap();
    let mut chance = Chance(23);
    scatter(&store, &mut chance, 200).unwrap();
    store.maintain().unwrap();
    scatter(&store, &mut chance, 50).unwrap();
    store.seal().unwrap();
    scatter(&store, &mut chance, 50).unwrap();
    let before = rolled(&store);
    store.backup(Path::new("/copy")).unwrap();
    let copy = Store::open_on(fs, Store::options().without_background(), Path::new("/copy")).unwrap();
    let pending = |store: &Store| {
        let view = store.inner.core.view.load();
        view.rollups.all().map(|(_, state)| state.pending.clone()).collect::<Vec<_>>()
    };
    assert_eq!(pending(&copy), pending(&store));
    assert!(!pending(&copy)[0].is_empty());
    assert_eq!(rolled(&copy), before);
    copy.maintain().unwrap();
    assert_eq!(rolled(&copy), from_rows(&copy));
    assert_eq!(from_rows(&copy), from_rows(&store));
}

#[test]
fn what_is_no_rollup_is_refused() {
    let fs = SimFs::new(4);
    let store = open_sim(&fs).unwrap();
    store.table(source(Dedup::KeepAll)).unwrap();
    let refused = |rollup: Rollup| matches!(store.rollup(rollup).unwrap_err(), Error::InvalidRollup { .. });
    store.rollup(hours()).unwrap();
    let again = store.rollup(hours()).unwrap();
    assert!(refused(hours().max("jobs")) && refused(hours().every(Duration::from_secs(60))));
    assert!(refused(Rollup::new("cpu").of("cpu")) && refused(Rollup::new("twice").of("cpu_1h")));
    assert!(matches!(store.rollup(Rollup::new("x").of("y")).unwrap_err(), Error::UnknownTable { .. }));
    assert!(matches!(store.rollup(Rollup::new("__x").of("cpu")).unwrap_err(), Error::InvalidName { .. }));
    assert!(matches!(store.table(Schema::new("cpu_1h")).unwrap_err(), Error::InvalidRollup { .. }));
    let mut writer = again.writer().unwrap();
    let error = writer.append(row! { host: "a", rows: 1_u64, load_count: 0_u64, jobs_count: 0_u64 }).unwrap_err();
    assert!(matches!(error, Error::InvalidRollup { .. }) && error.kind() == ErrorKind::Invalid, "{error}");
    drop((writer, again, store));
    let options = Store::options().rollups_max(1).without_background();
    let store = Store::open_on(fs, options, Path::new("/store")).unwrap();
    let error = store.rollup(Rollup::new("more").of("cpu")).unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { limit: "rollups_max", .. }), "{error}");
}

#[test]
fn a_call_that_fails_leaves_it_to_be_done_again() {
    use crate::fs::sim::{Fault, FaultKind};
    for kind in [FaultKind::Enospc, FaultKind::Eio, FaultKind::FailedSync] {
        let fs = SimFs::new(6);
        let mut store = open_sim(&fs).unwrap();
        let mut chance = Chance(11);
        store.table(source(Dedup::KeepAll)).unwrap();
        store.rollup(hours()).unwrap();
        let mut failed = 0;
        for after in 0..40 {
            scatter(&store, &mut chance, 20).unwrap();
            store.seal().unwrap();
            fs.fail_after(after, Fault { kind, once: true });
            let error = store.inner.core.roll_up_one(crate::maintain::pacing::Caller::Waiting).err();
            fs.repair();
            failed += usize::from(error.is_some());
            if matches!(error, Some(Error::Poisoned { .. })) {
                let _ = store.close();
                drop(store);
                store = open_sim(&fs).unwrap();
            }
            store.maintain().unwrap();
            assert_eq!(rolled(&store), from_rows(&store), "{kind:?} after {after}: {error:?}");
        }
        assert!(failed > 0, "{kind:?}");
    }
}

/// More segments than one step takes, of which retention drops those that it took.
#[test]
fn what_a_step_leaves_is_not_counted_twice() {
    let fs = SimFs::new(9);
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(START_NS + 10 * HOUR_NS));
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    let options = options.without_background().clock(clock.clone());
    let store = Store::open_on(fs, options, Path::new("/store")).unwrap();
    store.table(source(Dedup::KeepAll).retention(Duration::from_secs(86_400))).unwrap();
    let mut chance = Chance(17);
    for _ in 0..40 {
        scatter(&store, &mut chance, 20).unwrap();
        store.seal().unwrap();
    }
    store.rollup(hours()).unwrap();
    let expected = from_rows(&store);
    // Relaxed: nothing else runs.
    clock.store(START_NS + 100 * HOUR_NS, std::sync::atomic::Ordering::Relaxed);
    let mut steps = 0;
    while store.inner.core.roll_up_one(crate::maintain::pacing::Caller::Waiting).unwrap() {
        assert!(store.inner.core.retain().unwrap() > 0);
        steps += 1;
    }
    assert!(steps > 1);
    assert!(from_rows(&store).is_empty());
    assert_eq!(rolled(&store), expected);
}

#[test]
fn what_is_damaged_is_not_kept_for_a_rollup() {
    use crate::fs::FileSystem;
    let fs = SimFs::new(10);
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(START_NS + 10 * HOUR_NS));
    let options = Store::options().without_background().clock(clock.clone());
    let store = Store::open_on(fs.clone(), options, Path::new("/store")).unwrap();
    store.table(source(Dedup::KeepAll).retention(Duration::from_secs(86_400))).unwrap();
    store.rollup(hours()).unwrap();
    scatter(&store, &mut Chance(19), 100).unwrap();
    store.seal().unwrap();
    let victim = store.inner.core.view.load().table("cpu").unwrap().segments[0].clone();
    fs.open(victim.path()).unwrap().unwrap().write_at(&[0xFF; 64], 100).unwrap();
    drop(victim);
    store.repair().unwrap();
    assert_eq!(store.inner.core.view.load().segments_aside(), 1);
    // Relaxed: nothing else runs.
    clock.store(START_NS + 100 * HOUR_NS, std::sync::atomic::Ordering::Relaxed);
    store.maintain().unwrap();
    let view = store.inner.core.view.load();
    assert_eq!((view.segments_aside(), view.table("cpu").unwrap().segments.len()), (0, 0));
    assert!(view.rollups.all().all(|(_, state)| state.pending.is_empty()));
}

/// A segment that cannot be read is not rolled up, and is not lost for it.
#[test]
fn what_cannot_be_read_waits() {
    use crate::fs::FileSystem;
    let fs = SimFs::new(8);
    let store = open_sim(&fs).unwrap();
    let table = store.table(source(Dedup::KeepAll)).unwrap();
    scatter(&store, &mut Chance(13), 100).unwrap();
    store.seal().unwrap();
    let victim = store.inner.core.view.load().table("cpu").unwrap().segments[0].clone();
    let file = fs.open(victim.path()).unwrap().unwrap();
    let mut good = vec![0; 64];
    file.read_at(&mut good, 100).unwrap();
    file.write_at(&[0xFF; 64], 100).unwrap();
    store.rollup(hours()).unwrap();
    let error = store.maintain().unwrap_err();
    assert!(matches!(error, Error::Corrupted { .. }), "{error}");
    assert!(rolled(&store).is_empty());
    file.write_at(&good, 100).unwrap();
    store.maintain().unwrap();
    assert!(rolled(&store).is_empty(), "not again in this life");
    drop((table, victim, store));
    let store = open_sim(&fs).unwrap();
    store.maintain().unwrap();
    assert_eq!(rolled(&store), from_rows(&store));
}

/// Appends, seals, rolls up and compacts at random until the machine dies or the steps are done.
fn work(store: &Store, chance: &mut Chance, dedup: Dedup) -> Result<()> {
    store.table(source(dedup))?;
    if chance.next(2) == 0 {
        store.rollup(hours())?;
    }
    for _ in 0..10 {
        match chance.next(6) {
            0..=2 => {
                let rows = 1 + chance.next(200);
                scatter(store, chance, rows)?;
            }
            3 => drop(store.seal()?),
            4 => drop(store.maintain()?),
            _ => {
                store.rollup(hours())?;
                let _ = store.inner.core.roll_up_one(crate::maintain::pacing::Caller::Waiting)?;
            }
        }
    }
    Ok(())
}

fn image(seed: u64) {
    let dedup = if seed.is_multiple_of(2) { Dedup::KeepAll } else { Dedup::LastWrite };
    let run = |fs: &Arc<SimFs>| {
        let mut chance = Chance(seed ^ 0x5EED);
        if let Ok(store) = open_sim(fs) {
            let _ = work(&store, &mut chance, dedup);
        }
    };
    // Found first on a machine that lives: how many operations there are to be cut at.
    let fs = SimFs::new(seed);
    run(&fs);
    let operations = fs.operations();
    let fs = SimFs::new(seed);
    let mut chance = Chance(seed);
    fs.crash_at(chance.next(operations));
    run(&fs);
    let mut fs = fs.crash(seed);
    for life in 0..3 {
        let store = open_sim(&fs).unwrap();
        store.table(source(dedup)).unwrap();
        store.rollup(hours()).unwrap();
        store.maintain().unwrap();
        assert_eq!(rolled(&store), from_rows(&store), "seed {seed}, life {life}");
        scatter(&store, &mut chance, 50).unwrap();
        if life == 1 {
            store.seal().unwrap();
        }
        drop(store);
        fs = if chance.next(2) == 0 { fs.crash(seed + 1) } else { fs.kill() };
    }
}

#[test]
fn what_a_crash_left_out_is_caught_up() {
    FAILED_ONCE.iter().copied().for_each(image);
    match setting("DENYUT_SEED") {
        Some(seed) => image(seed),
        None => (0..setting("DENYUT_IMAGES").unwrap_or(60)).for_each(image),
    }
}
