//! How long a store takes to open after its process was killed with rows unsealed.
//!
//! ```sh
//! cargo bench --bench recovery                       # 20 million rows of one field, five times
//! cargo bench --bench recovery -- --rows 1000000
//! ```
#![allow(clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use denyut::prelude::*;

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn open(path: &str) -> denyut::Result<Store> {
    Store::options().seal_threads(0).live_bytes_max(4 << 30).seal_after(Duration::from_secs(86_400)).open(path)
}

/// Appends, says so, and waits to be killed.
fn child(path: &str, rows: i64) -> denyut::Result<()> {
    let store = open(path)?;
    let table = store.table(Schema::new("t").tag("host").f64("value", ""))?;
    let series = table.series(["a"])?;
    let mut writer = table.writer()?;
    for row in 0..rows {
        writer.append_to(series, Time::from_nanos(row), &[(row as f64).into()])?;
    }
    println!("appended");
    loop {
        std::thread::park();
    }
}

fn main() -> denyut::Result<()> {
    let rows = argument("--rows").map_or(20_000_000, |rows| rows.parse().expect("a number"));
    if let Some(path) = argument("--child") {
        return child(&path, rows);
    }
    let mut times = Vec::new();
    for _ in 0..5 {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("store").display().to_string();
        let me = std::env::current_exe().expect("this program");
        let mut child = Command::new(me)
            .args(["--child", &path, "--rows", &rows.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        assert_eq!(line, "appended\n");
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        let began = Instant::now();
        let store = open(&path)?;
        times.push(began.elapsed());
        assert_eq!(store.recovery().live_rows, rows as u64, "every row is there");
        assert!(store.recovery().is_whole());
        println!("reopened with {rows} unsealed rows in {:.1} ms", times[times.len() - 1].as_secs_f64() * 1e3);
    }
    times.sort();
    println!("recovery rows={rows} median_ms={:.1}", times[times.len() / 2].as_secs_f64() * 1e3);
    Ok(())
}
