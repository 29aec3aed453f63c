//! What readers in other processes cost the process that writes.
//!
//! ```sh
//! cargo bench --bench readers    # -- --seconds 10
//! ```
//!
//! Two writers of two tables append, blocks are sealed and recycled, and by turns nobody reads, four readers are attached
//! and idle, four ask once a second, and four ask all the time, which is more than two cores can give. Prints rows a second
//! and the ratio to none, by median of the turns.
#![allow(clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use denyut::prelude::*;

const TURNS: usize = 5;
const READERS: usize = 4;

/// Asks for the counts of both tables until it is killed, with `pause` between.
fn read(path: &Path, pause: Duration) {
    let reader = Store::options().query_threads(1).open_read_only(path).expect("the store");
    loop {
        let counts = "SELECT (SELECT count(*) FROM one) AS one, (SELECT count(*) FROM two) AS two";
        assert_eq!(reader.query(counts).expect("an answer").num_rows(), 1);
        std::thread::sleep(pause);
    }
}

struct Readers(Vec<Child>);

impl Readers {
    fn start(path: &Path, count: usize, pause_ms: u64) -> Self {
        let start = |_| {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args(["--read", &pause_ms.to_string()]).arg(path).stdout(Stdio::null());
            command.spawn().expect("a reader")
        };
        Self((0..count).map(start).collect())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for reader in &mut self.0 {
            // One that ended by itself had failed, and has said so.
            let _ = reader.kill();
            let _ = reader.wait();
        }
    }
}

fn append(table: &Table, rows: &AtomicU64, stop: &AtomicBool) {
    let mut writer = table.writer().expect("a writer");
    let series: Vec<SeriesId> = (0..100).map(|n| table.series([format!("s{n}").as_str()]).expect("a series")).collect();
    let mut n = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..1_000 {
            let values = [Value::F64(n as f64); 10];
            writer.append_to(series[n % 100], Time::from_nanos(n as i64 * 1_000), &values).expect("an append");
            n += 1;
        }
        rows.fetch_add(1_000, Ordering::Relaxed);
    }
}

fn rate(rows: &AtomicU64, seconds: u64) -> f64 {
    let (before, began) = (rows.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    (rows.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    if let Some(pause) = after("--read") {
        return read(Path::new(&args[args.len() - 1]), Duration::from_millis(pause.parse().expect("milliseconds")));
    }
    let seconds = after("--seconds").map_or(5, |seconds| seconds.parse().expect("seconds"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let retention = Duration::from_secs(1);
    let store = Store::open(&path).expect("a store");
    let tables = ["one", "two"].map(|name| {
        let schema = (0..10).fold(Schema::new(name).tag("s"), |schema, n| schema.f64(format!("f{n}"), ""));
        // Rows are of 1970, so partitions leave as soon as they are sealed, and the disk does not fill.
        store.table(schema.retention(retention)).expect("a table")
    });
    let (rows, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let kinds = [
        ("none", 0, 0),
        ("4 idle", READERS, 3_600_000),
        ("4 that ask once a second", READERS, 1_000),
        ("4 that ask all the time", READERS, 0),
    ];
    let mut rates = [const { Vec::new() }; 4];
    std::thread::scope(|scope| {
        for table in &tables {
            let (rows, stop) = (&rows, &stop);
            scope.spawn(move || append(table, rows, stop));
        }
        std::thread::sleep(Duration::from_secs(2));
        for turn in 0..TURNS {
            for (kind, (name, count, pause_ms)) in kinds.into_iter().enumerate() {
                let readers = Readers::start(&path, count, pause_ms);
                std::thread::sleep(Duration::from_millis(500));
                let rate = rate(&rows, seconds);
                println!("turn {turn}, readers: {name}: {:.2} M rows/s", rate / 1e6);
                rates[kind].push(rate);
                drop(readers);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let rates = rates.map(median);
    for ((name, ..), rate) in kinds.iter().zip(rates) {
        println!("readers: {name}: {:.2} M ten-field rows/s, ratio {:.3}", rate / 1e6, rate / rates[0]);
    }
}
