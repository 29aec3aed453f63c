//! A SQL prompt for a store: `sql STORE [-c SQL | -f FILE] [--format table|csv|json]`.
//!
//! With `-c` or `-f`, or when standard input is not a terminal, it runs the statements and ends, with exit code 1 at the
//! first that fails. `-f` takes a folder too, and runs its `.sql` files by name: `-f examples/sql` is a tour of questions
//! over the store that `command_center` makes. Else it asks: with history, completion and statements over several lines. Answers go to standard
//! output, timing and row counts to standard error.
//!
//! ```text
//! cargo run --release --example sql -- kota -c 'SELECT gate, max(level_cm) FROM water GROUP BY gate'
//! ```
//!
//! `statements` cuts text at semicolons, `shell` runs a statement or a command, `script` runs files, `output` prints rows,
//! `prompt` asks.

mod output;
mod prompt;
mod script;
mod shell;
mod statements;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use denyut::prelude::*;

use crate::output::Format;
use crate::script::Script;
use crate::shell::{HELP, Shell};

/// What a step of an example comes to. The error is for people: there is nothing to branch on.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Arguments {
    store: PathBuf,
    source: Source,
    format: Format,
}

enum Source {
    Command(String),
    File(PathBuf),
    StandardInput,
    /// Or standard input, if nobody sits there.
    Prompt,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ended(output::line(HELP)),
        Err(wrong) => {
            eprintln!(
                "sql: {wrong}\nusage: sql STORE [-c SQL | -f FILE] [--format table|csv|json]   (--help says more)"
            );
            return ExitCode::from(2);
        }
    };
    ended(run(arguments))
}

fn ended(outcome: Outcome<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the answer has had enough of it.
        Err(error) if output::is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sql: {error}");
            ExitCode::FAILURE
        }
    }
}

/// None is a call for help.
fn parse(mut given: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let (mut store, mut source, mut format) = (None, None, Format::Table);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
        let named = match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "-c" => Source::Command(value()?),
            "-f" => match value()?.as_str() {
                "-" => Source::StandardInput,
                file => Source::File(file.into()),
            },
            "--format" => {
                format = value()?.parse()?;
                continue;
            }
            option if option.starts_with('-') => return Err(format!("what is {option:?}?")),
            _ => match store.replace(PathBuf::from(&argument)) {
                None => continue,
                Some(first) => return Err(format!("two stores, {} and {argument}", first.display())),
            },
        };
        if source.replace(named).is_some() {
            return Err("only one of -c and -f, once".into());
        }
    }
    let store = store.ok_or("which store?")?;
    Ok(Some(Arguments { store, source: source.unwrap_or(Source::Prompt), format }))
}

fn run(arguments: Arguments) -> Outcome<()> {
    let path = arguments.store;
    // Opening makes a store where there is none, which is not what somebody who asks wants.
    if !path.join("control").is_file() {
        let what = if path.is_dir() { "is not a store" } else { "does not exist" };
        return Err(format!("{} {what}; name the directory of a store that a program has made", path.display()).into());
    }
    let scripts = match arguments.source {
        Source::Command(text) => Some(vec![Script { name: None, text }]),
        Source::File(path) => Some(script::read(&path)?),
        Source::Prompt if io::stdin().is_terminal() => None,
        Source::Prompt | Source::StandardInput => {
            Some(vec![Script { name: None, text: io::read_to_string(io::stdin().lock())? }])
        }
    };
    // It only reads, so it may look at a store that a service is writing.
    let mut shell = Shell::new(Store::open_read_only(&path)?, arguments.format);
    match scripts {
        Some(scripts) => {
            shell.width = prompt::terminal_width();
            script::run(&mut shell, &scripts)?;
        }
        None => prompt::ask(&mut shell)?,
    }
    Ok(())
}
