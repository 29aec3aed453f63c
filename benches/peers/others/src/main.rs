//! Peers that only take rows: tsink, a time-series store without SQL, and fjall, a key-value store. As the other workers
//! (`bench/src/worker.rs`) they obey lines of JSON; they know one order, `load`.
//!
//! ```sh
//! others tsink HOSTS DAYS DIR
//! ```
//!
//! Rows are made as they are taken, and only their taking is timed. Whoever needs more than a minute is stopped and judged
//! by what it took until then.

use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use serde_json::{Value, json};
use tsink::{DataPoint, Label, Row, StorageBuilder, TimestampPrecision, WalSyncMode};
use workload::devops::{FIELDS, START_NS, STEP_NS, Scale, TAGS, Walks, tags};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(60);

/// Threads that give rows, each those of its own hosts.
const THREADS: usize = 2;

/// About how many rows are given in one call.
const CALL_ROWS: usize = 8_192;

/// A row's host, time and values.
type Given = (usize, i64, [f64; 10]);

/// Gives all rows in turn, in calls of each thread's hosts, and says how many were taken in what time.
fn drive(scale: Scale, take: impl Fn(&[Given]) -> Outcome<()> + Sync) -> Outcome<(usize, Duration)> {
    let steps_a_call = (CALL_ROWS * THREADS / scale.hosts).max(1);
    let (mut walks, mut rows, mut spent) = (Walks::new(scale.hosts), 0, Duration::ZERO);
    for first in (0..scale.steps()).step_by(steps_a_call) {
        let mut given: [Vec<Given>; THREADS] = std::array::from_fn(|_| Vec::new());
        for step in first..(first + steps_a_call).min(scale.steps()) {
            let time = START_NS + step as i64 * STEP_NS;
            for (host, values) in walks.step().iter().enumerate() {
                given[host % THREADS].push((host, time, *values));
            }
        }
        rows += given.iter().map(Vec::len).sum::<usize>();
        spent += take_all(&given, &take)?;
        if spent > LIMIT {
            break;
        }
    }
    Ok((rows, spent))
}

fn take_all(given: &[Vec<Given>], take: &(impl Fn(&[Given]) -> Outcome<()> + Sync)) -> Outcome<Duration> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = given
            .iter()
            .map(|rows| {
                scope.spawn(move || {
                    let began = Instant::now();
                    take(rows).map(|()| began.elapsed())
                })
            })
            .collect();
        let mut slowest = Duration::ZERO;
        for thread in threads {
            slowest = slowest.max(thread.join().map_err(|_| "a thread panicked")??);
        }
        Ok(slowest)
    })
}

/// A metric each usage, with the ten tags as labels.
fn tsink(scale: Scale, dir: &Path) -> Outcome<(usize, Duration)> {
    let path = dir.join("tsink");
    let storage = StorageBuilder::new()
        .with_data_path(&path)
        .with_timestamp_precision(TimestampPrecision::Nanoseconds)
        .with_retention_enforced(false)
        // As with the others, rows have to be durable at the end, and not with each call.
        .with_wal_sync_mode(WalSyncMode::Periodic(Duration::from_secs(1)))
        .build()?;
    let labels =
        |host| -> Vec<Label> { TAGS.iter().zip(tags(host)).map(|(tag, value)| Label::new(*tag, value)).collect() };
    let labels: Vec<Vec<Label>> = (0..scale.hosts).map(labels).collect();
    // What a row needs is made here, too, since its interface wants it so with each.
    let (rows, mut spent) = drive(scale, |given| {
        let points = given.iter().flat_map(|(host, time, values)| {
            let labels = &labels[*host];
            FIELDS
                .iter()
                .zip(values)
                .map(move |(field, value)| Row::with_labels(*field, labels.clone(), DataPoint::new(*time, *value)))
        });
        Ok(storage.insert_rows(&points.collect::<Vec<_>>())?)
    })?;
    let began = Instant::now();
    storage.close()?;
    spent += began.elapsed();
    Ok((rows, spent))
}

/// A key of host and time, and ten doubles for a value.
fn fjall(scale: Scale, dir: &Path) -> Outcome<(usize, Duration)> {
    let database = Database::builder(dir.join("fjall")).worker_threads(THREADS).open()?;
    let rows = database.keyspace("cpu", KeyspaceCreateOptions::default)?;
    let (count, mut spent) = drive(scale, |given| {
        let mut batch = database.batch();
        for (host, time, values) in given {
            let mut key = [0; 12];
            key[..4].copy_from_slice(&(*host as u32).to_be_bytes());
            key[4..].copy_from_slice(&time.to_be_bytes());
            let value: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            batch.insert(&rows, key, value);
        }
        Ok(batch.commit()?)
    })?;
    let began = Instant::now();
    database.persist(PersistMode::SyncAll)?;
    spent += began.elapsed();
    Ok((count, spent))
}

fn bytes_below(path: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        bytes += if entry.metadata()?.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

fn load(name: &str, scale: Scale, dir: &Path) -> Outcome<Value> {
    let (rows, spent) = if name == "tsink" { tsink(scale, dir)? } else { fjall(scale, dir)? };
    Ok(json!({ "rows": rows, "seconds": spent.as_secs_f64(), "bytes": bytes_below(&dir.join(name))? }))
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, hosts, days, dir] = arguments.as_slice() else {
        return Err("usage: others tsink|fjall HOSTS DAYS DIR".into());
    };
    let version = match name.as_str() {
        "tsink" => "0.10.2",
        "fjall" => "3.1.13",
        other => return Err(format!("{other} is not one of tsink, fjall").into()),
    };
    let scale = Scale { hosts: hosts.parse()?, days: days.parse()? };
    println!("{}", json!({ "version": version }));
    for line in std::io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let answer = match command["do"].as_str() {
            Some("load") => load(name, scale, Path::new(dir)),
            _ => Err(format!("unknown command {command}").into()),
        };
        println!("{}", answer.unwrap_or_else(|error| json!({ "error": error.to_string() })));
    }
    Ok(())
}
