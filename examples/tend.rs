//! Tending a store: `tend STORE verify|repair|stat|backup DIR|compact|salvage`.
//!
//! ```text
//! cargo run --release --example tend -- kota verify           # read everything, change nothing
//! cargo run --release --example tend -- kota backup /mnt/b    # a copy that opens as a store
//! ```
//!
//! Answers go to standard output, progress to standard error if that is a terminal. Exit codes: 0 for a store that is whole, 1
//! for damage that was found, left or set aside and for whatever failed, 2 for a call that is wrong, 130 for Ctrl-C, after
//! which the store is as it was.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use denyut::prelude::*;
use denyut::{Mending, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

const USAGE: &str = "\
usage: tend STORE COMMAND
  verify        read every checksum and every row, and say what is damaged; changes nothing
  repair        mend what can be mended, set damaged segments aside, take restored ones back
  stat          rows, series, segments and bytes by table
  backup DIR    copy the store to an empty or absent directory
  compact       seal, merge and drop what is due
  salvage       open a store that is too damaged to open, keep the rest, and say what is left out";

/// What a step of an example comes to. The error is for people: there is nothing to branch on.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Verify,
    Repair,
    Stat,
    Backup(PathBuf),
    Compact,
    Salvage,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "-h" || argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (store, command) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(wrong) => {
            eprintln!("tend: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, stop.clone()) {
            eprintln!("tend: {error}");
            return ExitCode::FAILURE;
        }
    }
    match run(&store, &command, &stop) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) if stop.load(Ordering::Relaxed) => {
            eprintln!("tend: stopped; the store is as it was");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("tend: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<(PathBuf, Command), String> {
    let (store, rest) = arguments.split_first().ok_or("which store?")?;
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let command = match rest[..] {
        ["verify"] => Command::Verify,
        ["repair"] => Command::Repair,
        ["stat"] => Command::Stat,
        ["compact"] => Command::Compact,
        ["salvage"] => Command::Salvage,
        ["backup", dir] => Command::Backup(dir.into()),
        ["backup"] => return Err("backup to which directory?".into()),
        [] => return Err("what is to be done with it?".into()),
        _ => return Err(format!("what is {:?}?", rest.join(" "))),
    };
    Ok((store.into(), command))
}

/// Whether the store is whole after it.
fn run(path: &Path, command: &Command, stop: &AtomicBool) -> Outcome<bool> {
    // Opening makes a store where there is none, which is not what somebody who tends one wants.
    if !path.is_dir() {
        return Err(format!("{} does not exist", path.display()).into());
    }
    if *command == Command::Verify {
        let bar = Bar::new("verifying", stop);
        let found = Store::options().verify(path, |progress| bar.show(progress))?;
        bar.end();
        say(&found)?;
        return Ok(found.is_whole() && found.segments_aside == 0);
    }
    let salvages = *command == Command::Salvage;
    if !salvages && !path.join("control").is_file() {
        return Err(format!("{} is not a store, or its control page is lost", path.display()).into());
    }
    // Nothing is sealed behind the back of whoever only looks.
    let threads = if *command == Command::Compact { 1 } else { 0 };
    let store = Store::options().seal_threads(threads).salvage(salvages).open(path)?;
    tell_recovery(&store);
    let whole = tend(&store, command, stop);
    // Also after an error: then the next process finds a store that was closed.
    let closed = store.close();
    let whole = whole?;
    closed?;
    Ok(whole)
}

fn tend(store: &Store, command: &Command, stop: &AtomicBool) -> Outcome<bool> {
    match command {
        Command::Verify => unreachable!("verified without opening"),
        Command::Salvage => {
            let left_out = &store.recovery().left_out;
            left_out.iter().try_for_each(|left_out| say(left_out))?;
            let rows: u64 = left_out.iter().map(|left_out| left_out.rows).sum();
            say(&format!("{} files with damage, {rows} rows left out\n\n{}", left_out.len(), store.stat()?))?;
            Ok(left_out.is_empty())
        }
        Command::Repair => {
            let bar = Bar::new("verifying", stop);
            let done = store.repair_with(|progress| bar.show(progress))?;
            bar.end();
            say(&done)?;
            Ok(done.left.is_empty() && done.mended.iter().all(|mended| mended.how != Mending::SetAside))
        }
        Command::Stat => {
            let stat = store.stat()?;
            say(&stat)?;
            Ok(stat.total.segments_aside == 0)
        }
        Command::Backup(dir) => {
            let bar = Bar::new("copying", stop);
            let made = store.backup_with(dir, |progress| bar.show(progress));
            if made.as_ref().is_err_and(|error| !matches!(error, Error::NotEmpty { .. })) {
                // It was empty or absent before, and half a backup is of no use.
                // The error that matters is the first.
                let _ = std::fs::remove_dir_all(dir);
            }
            let made = made?;
            bar.end();
            say(&made)?;
            Ok(true)
        }
        Command::Compact => {
            let done = store.maintain()?;
            let (sealed, merged) = (done.sealed_rows, done.compacted_segments);
            say(&format!(
                "{sealed} rows sealed, {merged} segments merged into {}, {} dropped by retention\n\n{}",
                done.compaction_segments_written,
                done.retired_segments,
                store.stat()?
            ))?;
            Ok(true)
        }
    }
}

fn tell_recovery(store: &Store) {
    let recovery = store.recovery();
    if recovery.rows_cut + recovery.bytes_cut > 0 || recovery.was_poisoned {
        eprintln!(
            "tend: {} rows were not synced when the last process ended, and are gone; {} bytes of torn logs cut{}",
            recovery.rows_cut,
            recovery.bytes_cut,
            if recovery.was_poisoned { "; a sync had failed" } else { "" }
        );
    }
}

/// Prints to standard output; a reader that has had enough is fine.
fn say(what: &dyn std::fmt::Display) -> Outcome<()> {
    match writeln!(io::stdout().lock(), "{what}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A bar on a terminal, nothing in a pipe; and the caller's wish to stop.
struct Bar<'a> {
    bar: ProgressBar,
    stop: &'a AtomicBool,
}

impl<'a> Bar<'a> {
    fn new(what: &'static str, stop: &'a AtomicBool) -> Self {
        let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let template = "{prefix} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar: bar.with_prefix(what), stop }
    }

    fn show(&self, progress: Progress<'_>) -> ControlFlow<()> {
        self.bar.set_length(progress.total_bytes);
        self.bar.set_position(progress.done_bytes);
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
