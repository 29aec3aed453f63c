//! Everything sent twice, by two writers in different order, with kills in between: one winner a key, for good.
//!
//! `DENYUT_ROWS=10000000 cargo test --release --test store -- --nocapture twice` is the full size.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use denyut::arrow::array::{Array, AsArray};
use denyut::arrow::datatypes::{Int64Type, TimestampNanosecondType};
use denyut::prelude::*;

use crate::chance::{Chance, seed, setting};
use crate::child;

const STATIONS: u64 = 50;
const START_NS: i64 = 1_700_000_000_000_000_000;
/// Rows between two lines that a child says.
const SAID_EACH: u64 = 1_000;
const KEYS: &str = "DENYUT_TWICE_KEYS";
const FROM: &str = "DENYUT_TWICE_FROM";
const ATTEMPT: &str = "DENYUT_TWICE_ATTEMPT";

/// The key that is number `at` of what a writer sends: one goes up, the other down.
fn key(writer: usize, at: u64, keys: u64) -> u64 {
    if writer == 0 { at } else { keys - 1 - at }
}

fn options(keys: u64) -> Options {
    let options = Store::options();
    if keys < 1_000_000 {
        options.block_bytes_min(64 << 10).block_bytes_max(128 << 10).compact_fan_in(3)
    } else {
        options
    }
}

fn schema() -> Schema {
    let schema =
        Schema::new("twice").tag("station").i64("key", "").i64("writer", "").i64("attempt", "").utf8("text", "");
    schema.dedup(Dedup::LastWrite)
}

/// Keys are seconds apart in every station.
fn time(key: u64) -> Time {
    Time::from_nanos(START_NS + (key / STATIONS) as i64 * 1_000_000_000)
}

fn text(key: u64, writer: usize, attempt: u64) -> Option<String> {
    (!key.is_multiple_of(3)).then(|| format!("key {key} of writer {writer}, attempt {attempt}"))
}

#[test]
#[ignore = "the child of the test of everything twice"]
fn child_sends() {
    let Some((path, _)) = child::work() else { return };
    let number = |name: &str| setting(name).unwrap();
    let (keys, attempt) = (number(KEYS), number(ATTEMPT));
    let from: Vec<u64> = std::env::var(FROM).unwrap().split(',').map(|from| from.parse().unwrap()).collect();
    let store = options(keys).open(path).unwrap();
    let table = store.table(schema()).unwrap();
    let series: Vec<SeriesId> = (0..STATIONS).map(|id| table.series([&*format!("station {id}")]).unwrap()).collect();
    let progress = [AtomicU64::new(from[0]), AtomicU64::new(from[1])];
    std::thread::scope(|scope| {
        for (number, from) in from.into_iter().enumerate() {
            let (table, series, progress) = (&table, &series, &progress);
            scope.spawn(move || {
                let mut writer = table.writer().unwrap();
                for at in from..keys {
                    let key = key(number, at, keys);
                    let text = text(key, number, attempt);
                    let values =
                        [(key as i64).into(), (number as i64).into(), (attempt as i64).into(), text.as_deref().into()];
                    let series = series[(key % STATIONS) as usize];
                    assert_eq!(writer.append_to(series, time(key), &values).unwrap().accepted(), 1);
                    if (at + 1).is_multiple_of(SAID_EACH) || at + 1 == keys {
                        child::say(&format!("done {number} {}", at + 1));
                        progress[number].store(at + 1, Ordering::Relaxed);
                        // Side by side, so that each wins the keys that it sends later than the other.
                        while progress[1 - number].load(Ordering::Relaxed) + 4 * SAID_EACH < at {
                            std::thread::yield_now();
                        }
                    }
                }
            });
        }
    });
    store.close().unwrap();
    child::say("all");
}

/// Who won each key: writer and attempt. Checks that no key is there twice, and that rows are whole.
fn winners(table: &Table, keys: u64, place: &str) -> Vec<Option<(u8, u16)>> {
    let mut winners = vec![None; keys as usize];
    for batch in table.scan().unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let number = |name: &str| column(name).as_primitive::<Int64Type>().clone();
        let (found, writers, attempts) = (number("key"), number("writer"), number("attempt"));
        let (stations, texts) = (column("station").as_string_view(), column("text").as_string_view());
        let times = column("time").as_primitive::<TimestampNanosecondType>();
        for row in 0..batch.num_rows() {
            let (key, writer, attempt) = (found.value(row) as u64, writers.value(row), attempts.value(row));
            assert_eq!(times.value(row), time(key).as_nanos(), "{place}: {key}");
            assert_eq!(stations.value(row).rsplit(' ').next(), Some(&*(key % STATIONS).to_string()), "{place}: {key}");
            let text = text(key, writer as usize, attempt as u64);
            assert_eq!(texts.is_valid(row).then(|| texts.value(row)), text.as_deref(), "{place}: {key}");
            let before = winners[key as usize].replace((writer as u8, attempt as u16));
            assert_eq!(before, None, "{place}: key {key} is there twice");
        }
    }
    winners
}

/// Starts a child, and kills it when it has said `lines` lines, if it is to be killed. Gives how far each writer came.
fn send(path: &Path, keys: u64, from: [u64; 2], attempt: u64, lines: Option<u64>) -> [u64; 2] {
    let settings =
        [(KEYS, keys.to_string()), (FROM, format!("{},{}", from[0], from[1])), (ATTEMPT, attempt.to_string())];
    let (mut child, said) = child::start_with("twice::child_sends", path, attempt, &settings);
    let (mut done, mut count, mut killed, mut all) = (from, 0, false, false);
    for line in child::whole_lines(said) {
        let words: Vec<&str> = line.split(' ').collect();
        if let &["done", writer, at] = &*words {
            done[writer.parse::<usize>().unwrap()] = at.parse().unwrap();
            count += 1;
        }
        all |= line == "all";
        if lines.is_some_and(|lines| count >= lines) && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(all || killed, "the child died by itself");
    done
}

#[test]
fn everything_twice_has_one_winner_a_key() {
    let (keys, kills, seed) = (setting("DENYUT_ROWS").unwrap_or(20_000), setting("DENYUT_KILLS").unwrap_or(4), seed());
    let mut chance = Chance::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let (mut from, mut attempts) = ([0, 0], Vec::new());
    for attempt in 0..=kills {
        let lines = (2 * keys / SAID_EACH / (kills + 1)).max(2);
        let lines = (attempt < kills).then(|| chance.within(1..lines));
        let done = send(&path, keys, from, attempt, lines);
        attempts.push((from, done));
        // Some of what was said to be there is sent again: the new row is to win over the same writer's old one.
        from = done.map(|done| done.saturating_sub(chance.within(0..3 * SAID_EACH)));
        let store = options(keys).open(&path).unwrap();
        let found = winners(&store.existing("twice").unwrap(), keys, &format!("seed {seed}, after attempt {attempt}"));
        for (writer, done) in done.into_iter().enumerate() {
            let there = (0..done).all(|at| found[key(writer, at, keys) as usize].is_some());
            assert!(there, "seed {seed}, after attempt {attempt}: a row of writer {writer} is gone");
        }
    }
    // The last attempt in which each writer's append of a key returned.
    let returned = |writer: usize, key: u64| {
        let at = if writer == 0 { key } else { keys - 1 - key };
        attempts.iter().rposition(|(from, done)| (from[writer]..done[writer]).contains(&at)).unwrap()
    };
    let look = |place: &str, maintain: bool| {
        let store = options(keys).open(&path).unwrap();
        if maintain {
            println!("{:?}", store.maintain().unwrap());
        }
        let table = store.existing("twice").unwrap();
        let found = winners(&table, keys, &format!("seed {seed}, {place}"));
        println!(
            "{place}: {:?}",
            store.counters().into_iter().filter(|(name, _)| *name == "overwritten_rows").collect::<Vec<_>>()
        );
        store.close().unwrap();
        found
    };
    let first = look("in the end", false);
    let mut of_writer = [0_u64; 2];
    for (key, winner) in (0..).zip(&first) {
        let (writer, attempt) = winner.unwrap_or_else(|| panic!("seed {seed}: key {key} is gone"));
        of_writer[writer as usize] += 1;
        let returned = returned(writer as usize, key);
        assert!(usize::from(attempt) >= returned, "seed {seed}: key {key}, attempt {attempt} before {returned}");
    }
    assert!(first == look("after reopening", false), "seed {seed}: other winners after reopening");
    assert!(first == look("after compaction", true), "seed {seed}: other winners after compaction");
    assert!(first == look("after compaction and reopening", false), "seed {seed}: other winners at last");
    println!("{keys} keys, {kills} kills: {of_writer:?} won");
}
