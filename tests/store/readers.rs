//! Readers in processes of their own, beside a process that writes, seals, and is killed.
//!
//! Each thread of the writing process puts row n into one table and then into another, and says in a file how far it is
//! once the appends have returned. A reader looks into that file before a query begins, so it knows what the query must
//! see; and as the second table is never ahead of the first nor behind it by more than one row, it knows what no moment of
//! the store can be.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout};
use std::time::{Duration, Instant};

use denyut::prelude::*;

use crate::chance::{Chance, seed, setting};
use crate::child;

/// Threads of the writing process; each has a pair of tables.
const PAIRS: usize = 2;
/// Rows between two words about how far a thread is.
const SAID_EVERY: u64 = 16;
/// How long a test waits for the writing process's first rows before it fails.
const FIRST_ROW_WAIT: Duration = Duration::from_secs(120);

/// The file in which the writing process says how far it is.
fn said_path(store: &Path) -> PathBuf {
    store.with_extension("said")
}

/// The file that tells readers to end.
fn stop_path(store: &Path) -> PathBuf {
    store.with_extension("stop")
}

fn said(file: &File) -> [u64; PAIRS] {
    let mut bytes = [0; 8 * PAIRS];
    file.read_exact_at(&mut bytes, 0).unwrap();
    std::array::from_fn(|pair| u64::from_le_bytes(bytes[8 * pair..8 * pair + 8].try_into().unwrap()))
}

fn names(pair: usize) -> [String; 2] {
    ["first", "second"].map(|place| format!("{place}_{pair}"))
}

fn options() -> Options {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(1 << 20).live_bytes_max(32 << 20);
    options.compact_fan_in(2)
}

#[test]
#[ignore = "the writing child of the tests with readers"]
fn child_writer() {
    let Some((path, seed)) = child::work() else { return };
    let file = File::options().write(true).read(true).open(said_path(&path)).unwrap();
    let store = options().open(&path).unwrap();
    child::say("open");
    std::thread::scope(|scope| {
        for pair in 0..PAIRS {
            let (store, file) = (&store, &file);
            scope.spawn(move || write_pair(store, pair, file));
        }
        let mut chance = Chance::new(seed);
        // Of 1970 and not kept: its partitions leave as soon as they are sealed.
        let passing = Schema::new("passing").tag("k").i64("n", "").retention(Duration::from_secs(1));
        let mut passing = store.table(passing).unwrap().writer().unwrap();
        for n in 0_i64.. {
            passing.append_at(Time::from_nanos(n), row! { k: "a", n: n }).unwrap();
            std::thread::sleep(Duration::from_millis(chance.within(1..200)));
            match chance.within(0..8) {
                0 => store.sync().unwrap(),
                1 => drop(store.seal().unwrap()),
                2 if chance.once_in(8) => {
                    let name = format!("extra_{}", chance.within(0..20));
                    let table = store.table(Schema::new(&name).tag("k").f64("v", "")).unwrap();
                    table.writer().unwrap().append(row! { k: name.as_str(), v: 1.0 }).unwrap();
                }
                3 if chance.once_in(4) => {
                    let [name, _] = names(0);
                    let wider = format!("v{}", chance.within(0..5));
                    store.table(Schema::new(name).tag("w").i64("n", "").f64(wider, "")).unwrap();
                }
                _ => {}
            }
        }
    });
}

/// Appends to both tables of a pair, row by row, for ever.
fn write_pair(store: &Store, pair: usize, file: &File) {
    let [first, second] = names(pair).map(|name| store.table(Schema::new(name).tag("w").i64("n", "")).unwrap());
    let count = |table: &Table| -> u64 { table.scan().unwrap().map(|batch| batch.unwrap().num_rows() as u64).sum() };
    let rows = count(&first);
    let mut writers = [&first, &second].map(|table| table.writer().unwrap());
    let mut append = |place: usize, n: u64| {
        // A hundred series, so that new ones come as rows do.
        let tag = format!("w{}", n / 1000 % 100 + n / 1_000_000);
        let time = Time::from_nanos(n as i64 * 1_000_000);
        let appended = writers[place].append_at(time, row! { w: tag.as_str(), n: n as i64 }).unwrap();
        assert_eq!(appended.accepted(), 1);
    };
    // A kill between the two appends of a pair leaves the second table one row behind.
    (count(&second)..rows).for_each(|n| append(1, n));
    for n in rows.. {
        append(0, n);
        append(1, n);
        if n % SAID_EVERY == 0 {
            file.write_all_at(&(n + 1).to_le_bytes(), 8 * pair as u64).unwrap();
        }
    }
}

#[test]
#[ignore = "the reading child of the tests with readers"]
fn child_reader() {
    let Some((path, seed)) = child::work() else { return };
    let file = File::open(said_path(&path)).unwrap();
    let reader = options().query_threads(1).open_read_only(&path).unwrap();
    let mut chance = Chance::new(seed);
    let (mut queries, mut last) = (0_u64, [[0_u64; 2]; PAIRS]);
    while !stop_path(&path).exists() {
        let before = said(&file);
        // From what the store knows of its rows, and from the rows themselves, in one statement both.
        let counted = if queries % 16 == 0 { "count(n) AS c, sum(n) AS s" } else { "count(*) AS c, 0 AS s" };
        let parts: Vec<String> =
            (0..PAIRS).flat_map(names).map(|name| format!("SELECT '{name}' AS name, {counted} FROM {name}")).collect();
        let text = format!("SELECT * FROM ({}) ORDER BY name", parts.join(" UNION ALL "));
        let rows = reader.query(&text).unwrap_or_else(|error| panic!("query {queries}: {error:?}"));
        for pair in 0..PAIRS {
            let counts: [u64; 2] = [pair, PAIRS + pair].map(|row| rows.i64(row, "c").unwrap().unwrap() as u64);
            let place = format!("seed {seed}, query {queries}, pair {pair}: {counts:?} after {:?}", last[pair]);
            assert!(counts[0] >= before[pair] && counts[1] >= before[pair], "{place}, {before:?} were said");
            assert!(counts[0] == counts[1] || counts[0] == counts[1] + 1, "{place}: two moments in one");
            assert!(counts[0] >= last[pair][0] && counts[1] >= last[pair][1], "{place}: a count fell");
            for (place_of, count) in counts.iter().enumerate().filter(|_| queries % 16 == 0) {
                let sum = rows.i64(pair + place_of * PAIRS, "s").unwrap().unwrap_or_default() as u64;
                assert_eq!(sum, count * count.saturating_sub(1) / 2, "{place}: rows that are not those appended");
            }
            last[pair] = counts;
        }
        queries += 1;
        if chance.once_in(64) {
            // Long enough for it to let go of everything now and then.
            std::thread::sleep(Duration::from_millis(chance.within(0..1_500)));
        }
    }
    let rows: u64 = last.iter().flatten().sum();
    child::say(&format!("ok queries={queries} rows={rows}"));
}

/// Children of a test that end with it.
struct Children(Vec<(Child, Option<BufReader<ChildStdout>>)>);

impl Drop for Children {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            // Those that ended are gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Children {
    fn alive(&mut self, place: &str) {
        for (child, _) in &mut self.0 {
            assert!(child.try_wait().unwrap().is_none(), "{place}: a reader has ended");
        }
    }

    /// Waits for them to end well, and gives the number of their queries.
    fn join(mut self) -> u64 {
        let mut queries = 0;
        for (mut child, out) in std::mem::take(&mut self.0) {
            let lines: Vec<String> = out.into_iter().flat_map(child::whole_lines).collect();
            assert!(child.wait().unwrap().success(), "a reader failed: {lines:?}");
            let ok = lines.iter().find_map(|line| line.strip_prefix("ok queries=")).expect("a reader ends with ok");
            queries += ok.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
        queries
    }
}

fn of((child, out): (Child, BufReader<ChildStdout>)) -> (Child, Option<BufReader<ChildStdout>>) {
    (child, Some(out))
}

/// A store with its tables, and the files around it.
fn prepare(dir: &Path) -> PathBuf {
    let path = dir.join("kota");
    let store = options().open(&path).unwrap();
    for name in (0..PAIRS).flat_map(names) {
        store.table(Schema::new(name).tag("w").i64("n", "")).unwrap();
    }
    store.close().unwrap();
    std::fs::write(said_path(&path), [0; 8 * PAIRS]).unwrap();
    path
}

fn readers(path: &Path, count: u64, chance: &mut Chance) -> Children {
    Children((0..count).map(|_| of(child::start("readers::child_reader", path, chance.next()))).collect())
}

#[test]
fn readers_go_on_while_writers_are_killed() {
    let kills = setting("DENYUT_READER_KILLS").unwrap_or(20);
    let seed = seed();
    let mut chance = Chance::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = prepare(dir.path());
    let mut readers = readers(&path, 2, &mut chance);
    for kill in 0..kills {
        let (mut child, out) = child::start("readers::child_writer", &path, chance.next());
        if !chance.once_in(4) {
            assert!(child::whole_lines(out).any(|line| line == "open"), "seed {seed}: writer {kill} does not open");
        }
        std::thread::sleep(Duration::from_millis(chance.within(0..300)));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "seed {seed}: writer {kill} ended by itself");
        readers.alive(&format!("seed {seed}, kill {kill}"));
    }
    std::fs::write(stop_path(&path), "").unwrap();
    let queries = readers.join();
    let rows = said(&File::open(said_path(&path)).unwrap());
    println!("{queries} queries beside {kills} writers that were killed, {rows:?} rows");
    assert!(queries > 2 * kills && rows.iter().all(|rows| *rows > 0), "too little was looked at");
}

#[test]
fn readers_see_every_row_and_one_moment() {
    let seconds = setting("DENYUT_READER_SECONDS").unwrap_or(5);
    let seed = seed();
    let mut chance = Chance::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = prepare(dir.path());
    let writer = Children(vec![of(child::start("readers::child_writer", &path, chance.next()))]);
    let mut readers = readers(&path, 4, &mut chance);
    let (began, file) = (Instant::now(), File::open(said_path(&path)).unwrap());
    // On a machine whose disk is busy with other things the first row may come late.
    let waits = |began: Instant| said(&file).contains(&0) && began.elapsed() < FIRST_ROW_WAIT;
    while began.elapsed() < Duration::from_secs(seconds) || waits(began) {
        std::thread::sleep(Duration::from_millis(100));
        readers.alive(&format!("seed {seed}"));
    }
    std::fs::write(stop_path(&path), "").unwrap();
    let queries = readers.join();
    drop(writer);
    let rows = said(&file);
    println!("{queries} queries by 4 readers in {seconds} s, beside {rows:?} rows twice");
    assert!(queries > 4 && rows.iter().all(|rows| *rows > 0), "too little was looked at");
}

/// Bytes of replaced segments that the churning store keeps for its readers.
const PINNED_BYTES_MAX: u64 = 1 << 20;

#[test]
#[ignore = "the child that appends and compacts beside a reader that is stopped"]
fn child_churner() {
    let Some((path, _)) = child::work() else { return };
    let options = options().pinned_bytes_max(PINNED_BYTES_MAX).compact_fan_in(2).compact_rate_max(u64::MAX);
    let store = options.open(&path).unwrap();
    let table = store.table(Schema::new("churned").tag("w").i64("n", "")).unwrap();
    let mut writer = table.writer().unwrap();
    let series = ["a", "b", "c"].map(|tag| table.series([tag]).unwrap());
    child::say("open");
    for n in 0_i64.. {
        let time = Time::from_nanos(1_700_000_000_000_000_000 + n * 1_000_000);
        writer.append_to(series[n as usize % 3], time, &[n.into()]).unwrap();
        if n % 20_000 == 19_999 {
            store.seal().unwrap();
            store.maintain().unwrap();
            let pinned = store.counters().into_iter().find(|(name, _)| *name == "pinned_bytes").unwrap().1;
            child::say(&format!("rows {} pinned {pinned}", n + 1));
        }
    }
}

#[test]
#[ignore = "the reading child that is stopped"]
fn child_stopped() {
    let Some((path, _)) = child::work() else { return };
    let reader = Store::open_read_only(&path).unwrap();
    let mut scan = reader.scan("churned").unwrap();
    let mut rows = scan.next().unwrap().unwrap().num_rows();
    child::say("reading");
    // The parent stops this process here, and lets it go on when it says so.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    for batch in scan {
        match batch {
            Ok(batch) => rows += batch.num_rows(),
            Err(error @ Error::SnapshotExpired { .. }) => {
                assert!(error.is_retryable());
                child::say("expired");
                rows = 0;
                break;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    // Whatever became of the old moment, the present one is there.
    let now = reader.query("SELECT count(*) AS c FROM churned").unwrap().i64(0, "c").unwrap().unwrap();
    child::say(&format!("done {rows} of {now}"));
}

#[test]
fn a_reader_that_was_stopped_ends_right_or_is_told() {
    use rustix::process::{Pid, Signal, kill_process};
    let stopped_for = Duration::from_secs(setting("DENYUT_STOPPED_SECONDS").unwrap_or(3));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let (churner, said) = child::start("readers::child_churner", &path, 0);
    let mut lines = child::whole_lines(said);
    let rows_of = |line: &str| line.strip_prefix("rows ").and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(lines.by_ref().any(|line| rows_of(&line).is_some()), "the store has rows");
    let mut children = Children(vec![(churner, None)]);
    let (mut stopped, heard) = child::start("readers::child_stopped", &path, 0);
    let mut heard = child::whole_lines(heard);
    assert!(heard.by_ref().any(|line| line == "reading"), "the reader reads");
    let pid = Pid::from_child(&stopped);
    kill_process(pid, Signal::STOP).unwrap();
    let (began, mut pinned_max, mut last_rows, mut maintained) = (Instant::now(), 0, 0, 0);
    for line in lines.by_ref() {
        let words: Vec<&str> = line.split(' ').collect();
        let &["rows", rows, "pinned", pinned] = &*words else { continue };
        pinned_max = pinned_max.max(pinned.parse::<u64>().unwrap());
        last_rows = rows.parse().unwrap();
        maintained += 1;
        if began.elapsed() >= stopped_for && maintained > 20 {
            break;
        }
    }
    assert!(pinned_max <= PINNED_BYTES_MAX, "{pinned_max} bytes were kept for a reader that is stopped");
    kill_process(pid, Signal::CONT).unwrap();
    drop(stopped.stdin.take());
    let heard: Vec<String> = heard.collect();
    assert!(stopped.wait().unwrap().success(), "{heard:?}");
    println!("stopped for {:?}, {last_rows} rows came, {pinned_max} bytes pinned at most: {heard:?}", began.elapsed());
    assert!(heard.iter().any(|line| line.starts_with("done")), "{heard:?}");
    children.alive("the store");
}
