//! How many ten-field rows a second go in, are sealed into Parquet, and are done: sustained, until all is drained.
//!
//! ```sh
//! cargo bench --bench sustained -- --seconds 300
//! cargo bench --bench sustained -- --seconds 300 --interval-ms 1000
//! ```
//!
//! Rows are TSBS-like: ten floored, clamped random walks with steps of N(0, 1) over 4,000 hosts, ten seconds apart.
//! Segments are deleted when the run ends. Without arguments it runs for five seconds, to see that it works.
#![allow(clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::time::{Duration, Instant};

use denyut::prelude::*;

const HOSTS: usize = 4_000;

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().expect("a number"))
}

/// Resident memory of this process without the pages of mapped files, in MiB.
fn anonymous_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Walks of all hosts, made once: a generator in the loop would be what is measured.
fn walks() -> Vec<[f64; 10]> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut host = [50.0_f64; 10];
    let mut row = || {
        for value in &mut host {
            // The sum of twelve uniforms is close enough to N(6, 1).
            let step: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
            *value = (*value + step).clamp(0.0, 100.0);
        }
        host.map(f64::floor)
    };
    (0..1 << 16).map(|_| row()).collect()
}

fn main() -> denyut::Result<()> {
    let seconds = argument("--seconds", 5);
    let interval_ms = argument("--interval-ms", 0);
    let durability = match interval_ms {
        0 => Durability::Process,
        ms => Durability::Interval(Duration::from_millis(ms)),
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let threads = argument("--seal-threads", 2) as usize;
    let store = Store::options()
        .durability(durability)
        .seal_threads(threads)
        .overload(Overload::Wait(Duration::from_secs(60)))
        .open(dir.path().join("store"))?;
    let schema = (0..10).fold(Schema::new("cpu").tag("hostname"), |schema, n| {
        let name = format!("usage_{n}");
        schema.f64(&name, "%").required(&name)
    });
    let cpu = store.table(schema)?;
    let hosts: Vec<SeriesId> =
        (0..HOSTS).map(|host| cpu.series([format!("host_{host}").as_str()])).collect::<denyut::Result<_>>()?;
    let walks = walks();
    let mut writer = cpu.writer()?;
    let (began, mut rows, mut memory, mut next_look) = (Instant::now(), 0_u64, 0, Duration::from_secs(1));
    let start = 1_700_000_000_000_000_000_i64;
    while began.elapsed() < Duration::from_secs(seconds) {
        for (host, series) in hosts.iter().enumerate() {
            let walk = &walks[(rows as usize + host * 7) & 0xFFFF];
            let time = Time::from_nanos(start + (rows / HOSTS as u64) as i64 * 10_000_000_000);
            writer.append_to(*series, time, &walk.map(Value::F64))?;
            rows += 1;
        }
        if began.elapsed() > next_look {
            memory = memory.max(anonymous_mib());
            next_look += Duration::from_secs(1);
        }
    }
    let appended = began.elapsed();
    drop(writer);
    store.seal()?;
    let drained = began.elapsed();
    memory = memory.max(anonymous_mib());
    let counters: std::collections::HashMap<_, _> = store.counters().into_iter().collect();
    assert_eq!(counters["sealed_rows"], rows, "every row is in a segment");
    println!(
        "sustained durability={durability:?} seconds={:.1} rows={rows} rows_per_s={:.0} appended_in_s={:.1} segments={} \
         bytes_per_row={:.2} live_mib={} anonymous_mib_max={memory}",
        drained.as_secs_f64(),
        rows as f64 / drained.as_secs_f64(),
        appended.as_secs_f64(),
        counters["segments"],
        counters["segment_bytes_written"] as f64 / rows as f64,
        counters["live_block_bytes"] >> 20,
    );
    store.close()
}
