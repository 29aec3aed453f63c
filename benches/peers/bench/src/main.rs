//! denyut beside what one would pick instead, on the same work, in the same run. `../README.md` says how to run it.

mod answers;
mod data;
mod ours;
mod peer;
mod report;
mod round;
mod sqlite;
mod work;
mod worker;

use std::path::{Path, PathBuf};

use work::Kind;

/// What a step of the bench gives: anything that goes wrong ends it, with words.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Threads of every peer.
pub const THREADS: usize = 2;

/// What to run, from the command line.
pub struct Run {
    /// `smoke`, `standard` or `large`.
    pub scale_name: String,
    /// With what rows.
    pub works: Vec<Kind>,
    /// Where everything is.
    pub dir: PathBuf,
    /// The Python that has the peers' packages.
    pub python: PathBuf,
    /// The program of the peers that only take rows.
    pub others: PathBuf,
    /// `python/worker.py`.
    pub script: PathBuf,
    /// `examples/data`.
    pub examples: PathBuf,
    /// Questions of a type.
    pub count: usize,
    /// Seconds that a peer has for the questions of one type.
    pub budget_s: f64,
    /// Peers to run, if not all.
    pub only: Option<Vec<String>>,
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn path(name: &str, default: &str) -> PathBuf {
    argument(name).map_or_else(|| default.into(), PathBuf::from)
}

fn run() -> Outcome<Run> {
    let scale_name = argument("--scale").unwrap_or_else(|| "smoke".into());
    let script = path("--script", "python/worker.py");
    let number = |name: &str, default: f64| argument(name).map_or(Ok(default), |value| value.parse());
    Ok(Run {
        works: Kind::named(&argument("--work").unwrap_or_else(|| "all".into()), &scale_name)?,
        dir: path("--dir", "peers-work"),
        scale_name,
        python: path("--python", "python3"),
        others: std::env::current_exe()?.with_file_name("others"),
        examples: script.parent().unwrap_or(Path::new(".")).join("../../../examples/data"),
        script,
        count: number("--questions", 20.0)? as usize,
        budget_s: number("--budget", 4.0)?,
        only: argument("--only").map(|names| names.split(',').map(str::to_string).collect()),
    })
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker", "denyut", dir] => worker::serve(ours::Ours::new(Path::new(dir))?),
        ["worker", "sqlite", dir] => worker::serve(sqlite::Sqlite::new(Path::new(dir))?),
        ["worker", other, ..] => Err(format!("no worker is called {other}").into()),
        _ => round::run(&run()?),
    }
}
