//! The room: what a city's command center does all day, on real measurements.
//!
//! Road speed, occupancy and travel time, taxi demand, hourly weather and a year's 336,776 flights are replayed as live
//! feeds of several agencies. Parallel writers append them while panels ask SQL across all feeds and redraw: what is
//! happening now, this hour against the same hour last week, the worst five, silent feeds, and one question across
//! agencies. Every refresh also proves that a query sees each row that was acknowledged before it began.
//!
//! At the end every feed is checked against its file, in the store as it is and again after closing and opening it. The
//! last line is `ok feeds=… rows=… lost=0 rows_per_s=…`, or the exit code is 1 and it is said what differs.
//!
//! ```text
//! cargo run --release --example command_center -- --help
//! ```
//!
//! `feeds` says what there is, `city` reads it, `replay` sends it by the `clock`, `panels` asks, `screen` shows, `check`
//! compares.

mod arguments;
mod check;
mod city;
mod clock;
mod feeds;
mod panels;
mod replay;
mod screen;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use denyut::prelude::*;
use indicatif::HumanCount;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::{Arguments, HELP};
use crate::city::City;
use crate::clock::Clock;
use crate::feeds::FEEDS;
use crate::replay::Plan;
use crate::screen::Screen;

/// What a step of an example comes to. The error is for people: there is nothing to branch on.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How often a terminal is redrawn.
const REFRESH: Duration = Duration::from_millis(250);
/// Where standard output is not a terminal, panels are shown so many hours before the end, an afternoon on which every
/// feed is heard; and at the first day's end, half way and the end.
const BEFORE_END_HOURS: u64 = 7 * 24 + 10;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1), screen::is_terminal()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            return say(HELP).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
        }
        Err(wrong) => {
            eprintln!("command_center: {wrong} (--help says more)");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(code) => code,
        // Who closes a pipe knows it.
        Err(error) if error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe) => {
            ExitCode::from(141)
        }
        Err(error) => {
            eprintln!("command_center: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<ExitCode> {
    let started = Instant::now();
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order the first signal sets the flag and the second one ends the process.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let directory = arguments.store.display();
    if arguments.store.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            format!("{directory} is not empty; the room wants a store of its own, so name a new directory").into()
        );
    }
    let plan = Plan::new(City::read(&arguments.data)?, arguments.rows)?;
    let store = Store::options().durability(Durability::Interval(Duration::from_secs(1))).open(&arguments.store)?;
    for feed in &FEEDS {
        store.table(feed.schema())?;
    }
    let rows = plan.rows();
    let (count, writers) = (HumanCount(rows), arguments.writers);
    say(&format!("{} feeds, {count} rows, {writers} writers, into {directory}", FEEDS.len()))?;

    let clock = Clock::new(plan.hours.clone(), arguments.writers, arguments.lasting);
    let mut screen = Screen::new(rows)?;
    let watched = thread::scope(|scope| {
        let writers: Vec<_> = (0..arguments.writers)
            .map(|writer| {
                let (plan, store, clock) = (&plan, &store, &clock);
                scope.spawn(move || plan.send(store, clock, writer))
            })
            .collect();
        let watched = watch(&plan, &store, &clock, &mut screen, &interrupted);
        if watched.is_err() {
            clock.stop();
        }
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        watched
    });
    screen.end()?;
    let first_panel = watched?;

    let replayed = clock.lasted();
    let per_second = (clock.acknowledged() as f64 / replayed.as_secs_f64().max(1e-9)) as u64;
    let look = format!("Ask it yourself: cargo run --release --example sql -- {directory}");
    if interrupted.load(Ordering::SeqCst) {
        let (sent, kept) = (clock.acknowledged(), check::rows(&store)?);
        store.close()?;
        say(&format!("Interrupted. {kept} of {sent} acknowledged rows are kept in {directory}.\n{look}"))?;
        return Ok(ExitCode::from(if kept == sent { 130 } else { 1 }));
    }
    let paced = if arguments.lasting.is_zero() { "" } else { "; spread by --seconds, 0 is as fast as it goes" };
    if let Some(first_panel) = first_panel {
        say(&format!("\nFirst panel {:.2} s after the start.", (first_panel - started).as_secs_f64()))?;
    }
    say(&format!("Replayed {count} rows in {:.2} s{paced}.", replayed.as_secs_f64()))?;

    let expected = check::expected(&plan, &arguments.data)?;
    check::feeds(&store, &expected)?;
    store.close()?;
    // The lock on the directory goes with the last handle.
    drop(store);
    let reopened = Store::open(&arguments.store)?;
    let found = check::feeds(&reopened, &expected).map_err(|error| format!("after closing and opening: {error}"))?;
    reopened.close()?;
    say("Counts and sums of every feed are those of the files, and again after closing and opening the store.")?;
    say(&look)?;
    let lost = rows - found;
    say(&format!("ok feeds={} rows={found} lost={lost} rows_per_s={per_second}", FEEDS.len()))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the panels until the writers are done. Returns when the first were there.
fn watch(
    plan: &Plan,
    store: &Store,
    clock: &Clock,
    screen: &mut Screen,
    interrupted: &AtomicBool,
) -> Outcome<Option<Instant>> {
    let (begin, end) = (plan.hours.start, plan.hours.end);
    let moments = [begin + 24, begin + (end - begin) / 2, end.saturating_sub(BEFORE_END_HOURS), end];
    let mut moments = moments.into_iter().map(|hour| hour.clamp(begin + 1, end)).peekable();
    let mut first_panel = None;
    let mut counted = 0;
    while let Some(moment) = moments.peek().copied() {
        clock.wait(moment, REFRESH);
        if interrupted.load(Ordering::SeqCst) {
            clock.stop();
            break;
        }
        screen.progress(clock.acknowledged());
        let reached = clock.hour();
        if reached < moment && (!screen.is_live() || first_panel.is_none()) {
            continue;
        }
        // A pipe gets the moments in question, a terminal the present one.
        let hour = if screen.is_live() { reached } else { moment };
        while moments.next_if(|next| *next <= hour).is_some() {}
        let asked = Instant::now();
        let acknowledged = clock.acknowledged();
        let seen = check::rows(store)?;
        if seen < acknowledged || seen < counted {
            return Err(format!("{acknowledged} rows acknowledged, {counted} counted before, only {seen} now").into());
        }
        counted = seen;
        let now = plan.moment(hour)?;
        let panels = panels::ask(store, now)?;
        let took_ms = asked.elapsed().as_secs_f64() * 1e3;
        screen.show(&format!("{now}   {} rows in sight   asked in {took_ms:.0} ms", HumanCount(seen)), &panels)?;
        first_panel.get_or_insert_with(Instant::now);
    }
    Ok(first_panel)
}

/// A line on standard output.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}
