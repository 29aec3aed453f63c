//! What is promised of ingest and freshness and measured by no other bench: rows that come late, a million series, and
//! how soon a row is seen.
//!
//! ```sh
//! cargo bench --bench goals                                  # all three, small, to see that they work
//! cargo bench --bench goals -- --rows 40000000 --only late
//! cargo bench --bench goals -- --rows 40000000 --series 1000000 --only series
//! cargo bench --bench goals -- --looks 20000 --only freshness
//! ```
//!
//! Rows have ten whole numbers in 0..100 as `f64`, by handle, one writer. Each measure ends with a line of `name=value`
//! pairs. Ratios are of runs that took turns: the machine may be doing other things.
#![allow(clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use denyut::prelude::*;

const START_NS: i64 = 1_704_067_200_000_000_000;
const STEP_NS: i64 = 10_000_000_000;
/// How late a late row is at most: within what `lateness` of a feed would be.
const LATE_STEPS_MAX: u64 = 360;
const TURNS: usize = 3;

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().expect("a number"))
}

fn wanted(name: &str) -> bool {
    std::env::args().skip_while(|argument| argument != "--only").nth(1).is_none_or(|only| only == name)
}

/// Resident memory of this process without the pages of mapped files.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn open(dir: &tempfile::TempDir) -> Store {
    let options = Store::options().overload(Overload::Wait(Duration::from_secs(60)));
    options.open(dir.path().join("store")).expect("a store")
}

fn cpu(store: &Store) -> Table {
    let schema = (0..10).fold(Schema::new("cpu").tag("hostname"), |schema, n| {
        let name = format!("usage_{n}");
        schema.f64(&name, "%").required(&name)
    });
    store.table(schema).expect("a table")
}

fn series(table: &Table, count: u64) -> Vec<SeriesId> {
    (0..count).map(|host| table.series([format!("host_{host}").as_str()]).expect("a series")).collect()
}

/// The ten numbers of a row, cheap to make and not all alike.
fn values(row: u64) -> [Value<'static>; 10] {
    let seed = row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    std::array::from_fn(|field| Value::F64(((seed >> (field * 6)) & 63) as f64))
}

/// Appends `rows` rows to all series in turn, each tenth one up to an hour late if `late`, seals, and gives rows a second
/// until all is in segments.
fn fill(store: &Store, all: &[SeriesId], rows: u64, late: bool) -> f64 {
    let table = cpu(store);
    let mut writer = table.writer().expect("a writer");
    let began = Instant::now();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for row in 0..rows {
        let mut step = row / all.len() as u64 + LATE_STEPS_MAX;
        if late && row % 10 == 7 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            step -= 1 + random % LATE_STEPS_MAX;
        }
        let time = Time::from_nanos(START_NS + step as i64 * STEP_NS);
        writer.append_to(all[row as usize % all.len()], time, &values(row)).map(drop).expect("room");
    }
    drop(writer);
    store.seal().map(drop).expect("a seal");
    rows as f64 / began.elapsed().as_secs_f64()
}

fn counter(store: &Store, name: &str) -> u64 {
    store.counters().into_iter().find(|(found, _)| *found == name).map_or(0, |(_, value)| value)
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn late(rows: u64) {
    let mut rates = [Vec::new(), Vec::new()];
    let (mut amplification, mut segments) = (0.0, 0);
    for _ in 0..TURNS {
        for late in [false, true] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let store = open(&dir);
            let all = series(&cpu(&store), 4_000);
            rates[usize::from(late)].push(fill(&store, &all, rows, late));
            if late {
                // All bytes that went to files, until nothing is left to merge, by what the rows take then.
                store.maintain().map(drop).expect("a merge");
                let sizes =
                    store.query("SELECT sum(bytes) AS bytes, count(*) AS n FROM system.segments").expect("sizes");
                let bytes = sizes.i64(0, "bytes").expect("a number").unwrap_or(1);
                segments = sizes.i64(0, "n").expect("a number").unwrap_or(0);
                amplification = counter(&store, "file_bytes_written") as f64 / bytes as f64;
            }
        }
    }
    let [in_order, late] = rates.map(middle);
    println!(
        "late rows={rows} in_order_rows_per_s={in_order:.0} late_rows_per_s={late:.0} ratio={:.2} \
         write_amplification={amplification:.2} segments={segments}",
        late / in_order
    );
}

fn many_series(rows: u64, count: u64) {
    let mut rates = [Vec::new(), Vec::new()];
    let (mut bytes_each, mut made_per_s) = (0.0, 0.0);
    for _ in 0..TURNS {
        for (place, count) in [10_000, count].into_iter().enumerate() {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let store = open(&dir);
            let table = cpu(&store);
            // Whatever the first rows need is there before series are counted.
            drop(table.writer().expect("a writer"));
            let mut all = Vec::with_capacity(count as usize);
            all.resize(count as usize, table.series(["host_0"]).expect("a series"));
            let (before, began) = (anonymous_bytes(), Instant::now());
            for (host, id) in all.iter_mut().enumerate() {
                *id = table.series([format!("host_{host}").as_str()]).expect("a series");
            }
            made_per_s = count as f64 / began.elapsed().as_secs_f64();
            bytes_each = anonymous_bytes().saturating_sub(before) as f64 / count as f64;
            rates[place].push(fill(&store, &all, rows, false));
        }
    }
    let [few, many] = rates.map(middle);
    println!(
        "series count={count} rows={rows} bytes_each={bytes_each:.0} made_per_s={made_per_s:.0} \
         rows_per_s_of_10000={few:.0} rows_per_s={many:.0} ratio={:.2}",
        many / few
    );
}

/// The share `permille` of sorted values, in milliseconds.
fn at(sorted: &[Duration], permille: usize) -> f64 {
    sorted[(sorted.len() * permille / 1_000).min(sorted.len() - 1)].as_secs_f64() * 1e3
}

/// Beside a day of 400 hosts and a writer of 100,000 rows a second: a row is appended, then asked for.
fn freshness(looks: u64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(&dir);
    let (table, day) = (cpu(&store), 24 * 360 * 400);
    let all = series(&table, 400);
    fill(&store, &all, day, false);
    let (stop, given) = (AtomicBool::new(false), AtomicU64::new(0));
    let first = START_NS + (day / 400 + LATE_STEPS_MAX) as i64 * STEP_NS;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = table.writer().expect("a writer");
            let began = Instant::now();
            // Relaxed: a flag and a count, which order nothing.
            while !stop.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * 100_000.0) as u64;
                for row in given.load(Ordering::Relaxed)..due {
                    let time = Time::from_nanos(first + (row / 400) as i64 * 40_000_000);
                    writer.append_to(all[row as usize % 400], time, &values(row)).map(drop).expect("room");
                }
                given.store(due, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let seen = store.table(Schema::new("seen").tag("k").i64("n", "")).expect("a table");
        let mut writer = seen.writer().expect("a writer");
        let panel = "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(usage_0) AS m FROM cpu \
                     WHERE hostname = $1 AND time >= $2 AND time < $3 GROUP BY t ORDER BY t";
        let panel = store.prepare(panel).expect("a plan");
        let newest = "SELECT max(n) AS n FROM seen WHERE k = 'a'";
        let prepared = store.prepare(newest).expect("a plan");
        let mut times: [Vec<Duration>; 3] = Default::default();
        for n in 0..looks as i64 {
            let time = Time::from_nanos(START_NS + n * 1_000_000_000);
            for (place, taken) in times.iter_mut().enumerate() {
                let number = n * 3 + place as i64;
                writer.append_at(time, row! { k: "a", n: number }).map(drop).expect("room");
                let began = Instant::now();
                if place == 2 {
                    let host = format!("host_{}", n % 400);
                    let from = START_NS + (LATE_STEPS_MAX as i64 + n % 8_000) * STEP_NS;
                    let until = Time::from_nanos(from + 3_600_000_000_000);
                    let values = [host.as_str().into(), Time::from_nanos(from).into(), until.into()];
                    assert!(panel.query(&values).expect("an answer").num_rows() > 0);
                } else {
                    let found = if place == 0 { store.query(newest) } else { prepared.query(&[]) };
                    assert_eq!(found.expect("an answer").i64(0, "n").expect("a number"), Some(number));
                }
                taken.push(began.elapsed());
            }
        }
        stop.store(true, Ordering::Relaxed);
        for (name, mut times) in ["sql", "prepared", "single-groupby-1-1-1-prepared"].iter().zip(times) {
            times.sort_unstable();
            println!(
                "freshness of={name} looks={looks} p50_ms={:.3} p99_ms={:.3} p999_ms={:.3}",
                at(&times, 500),
                at(&times, 990),
                at(&times, 999)
            );
        }
    });
    let rows = given.load(Ordering::Relaxed);
    println!("freshness beside_rows={rows}");
}

fn main() {
    let (rows, count) = (argument("--rows", 400_000), argument("--series", 100_000));
    if wanted("late") {
        late(rows);
    }
    if wanted("series") {
        many_series(rows, count);
    }
    if wanted("freshness") {
        freshness(argument("--looks", 200));
    }
}
