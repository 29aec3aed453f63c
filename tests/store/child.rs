//! Children: this test binary again, in a process that runs one ignored test and can be killed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const STORE: &str = "DENYUT_CHILD_STORE";
const SEED: &str = "DENYUT_CHILD_SEED";

/// Starts the ignored test `name` over `store`, its standard output and input piped.
pub(crate) fn start(name: &str, store: &Path, seed: u64) -> (Child, BufReader<ChildStdout>) {
    start_with(name, store, seed, &[])
}

/// As [`start`], with more settings in its environment.
pub(crate) fn start_with(
    name: &str,
    store: &Path,
    seed: u64,
    settings: &[(&str, String)],
) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(STORE, store)
        .env(SEED, seed.to_string())
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    (child, said)
}

/// The store that a child is to work on, and its seed. `None` in a process that nobody started as a child.
pub(crate) fn work() -> Option<(PathBuf, u64)> {
    let Ok(store) = std::env::var(STORE) else {
        println!("nothing to do: this is the body of a child process");
        return None;
    };
    // A thread that panics must not leave a child that only seems to live.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        std::process::abort();
    }));
    // The harness has begun a line of its own.
    say("");
    Some((store.into(), std::env::var(SEED).unwrap().parse().unwrap()))
}

/// Says a line to the parent, whole and at once.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A line this short goes through a pipe in one piece or not at all.
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// Whole lines that a child said: what its death cut off is left out.
pub(crate) fn whole_lines(mut said: impl BufRead) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        line.pop().filter(|end| *end == '\n').map(|_| line)
    })
}
