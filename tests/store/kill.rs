//! Children that append are killed at any moment, over and over on one store.
//!
//! Each says of every batch that it tries it, and that its append returned. What returned must be there after the kill,
//! and what was not tried must not. Kills fall into opening and recovery too.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use denyut::prelude::*;

use crate::chance::{Chance, seed, setting};
use crate::child;
use crate::numbered::{self, Way};

/// Writers, each with the table and the way that it writes.
const WRITERS: [(&str, &str, Way); 5] = [
    ("named", "plain", Way::Named),
    ("handle", "plain", Way::Handle),
    ("batch", "plain", Way::Batch),
    ("clocked", "stamped", Way::Handle),
    ("bulk", "stamped", Way::Batch),
];

/// Blocks of a few hundred rows and room for ten of them: writers rotate, wait for seals and get recycled blocks all the
/// time.
fn options(chance: &mut Chance) -> Options {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(10 * (64 << 10));
    match chance.within(0..4) {
        0 => options.durability(Durability::Interval(Duration::from_millis(10))),
        1 => options.seal_after(Duration::ZERO),
        _ => options,
    }
}

fn tables(store: &Store, extra: Option<u64>) -> BTreeMap<&'static str, Table> {
    let wider = |schema: Schema| match extra {
        Some(extra) => schema.f64(format!("extra{extra}"), ""),
        None => schema,
    };
    let plain = store.table(wider(numbered::schema("plain"))).unwrap();
    let stamped = store.table(numbered::schema("stamped").dedup(Dedup::LastWrite)).unwrap();
    [("plain", plain), ("stamped", stamped)].into()
}

#[test]
#[ignore = "the child of the kill test"]
fn child_writer() {
    let Some((path, seed)) = child::work() else { return };
    let mut chance = Chance::new(seed);
    let store = options(&mut chance).open(path).unwrap();
    let tables = tables(&store, None);
    // After a kill that the parent did not look at, this child does.
    let found: Vec<_> = tables.values().map(|table| numbered::check(table, &format!("child {seed}"))).collect();
    std::thread::scope(|scope| {
        for (number, (name, table, way)) in WRITERS.into_iter().enumerate() {
            let table = &tables[table];
            let first = found.iter().find_map(|found| found.get(name)).copied().unwrap_or_default();
            let chance = Chance::new(seed ^ (number as u64 + 1) << 32);
            scope.spawn(move || write(table, name, way, first, chance));
        }
        loop {
            match chance.within(0..4) {
                0 => store.sync().unwrap(),
                1 => drop(store.seal().unwrap()),
                2 if chance.once_in(20) => drop(self::tables(&store, Some(chance.within(0..3)))),
                _ => std::thread::sleep(Duration::from_millis(chance.within(1..20))),
            }
        }
    });
}

fn write(table: &Table, name: &str, way: Way, first: i64, mut chance: Chance) {
    let mut from = first;
    loop {
        // A writer that ends leaves its block to the next, or to nobody if a field was added.
        let mut writer = table.writer().unwrap();
        for _ in 0..chance.within(1..60) {
            let to = from + chance.within(1..60) as i64;
            child::say(&format!("try {name} {to}"));
            numbered::append(way, table, &mut writer, name, from..to).unwrap();
            child::say(&format!("done {name} {to}"));
            from = to;
            if chance.once_in(16) {
                writer.sync().unwrap();
            }
        }
    }
}

/// Rows of a writer, by what its children said.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    tried: i64,
    done: i64,
}

#[test]
fn killed_children_lose_nothing_they_were_told_is_there() {
    let kills = setting("DENYUT_KILLS").unwrap_or(50);
    let seed = seed();
    let mut chance = Chance::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    let (mut looked, mut silent) = (0, 0);
    for kill in 0..kills {
        let place = format!("seed {seed}, kill {kill}");
        let lines = run_and_kill(&path, &mut chance, &place);
        silent += u64::from(!lines.iter().any(|line| line.starts_with("done")));
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let &[what @ ("try" | "done"), writer, to] = &*words else { continue };
            let (account, to) = (accounts.entry(writer.into()).or_default(), to.parse().unwrap());
            if what == "try" {
                account.tried = to;
            } else {
                assert!(to > account.done, "{place}: {writer} began before row {}", account.done);
                account.done = to;
            }
        }
        // Left to the next child now and then, so that a kill also follows a kill.
        if kill + 1 == kills || !chance.once_in(3) {
            looked += 1;
            look(&path, &mut chance, &mut accounts, &place);
        }
    }
    let rows: i64 = accounts.values().map(|account| account.done).sum();
    println!("{rows} rows are there after {kills} kills and {looked} looks; {silent} children appended nothing");
    assert!(silent < kills.max(2) && accounts.len() == WRITERS.len(), "too little was written: {accounts:?}");
}

/// Kills a child a moment after its start or after its first row, and gives what it said.
fn run_and_kill(path: &Path, chance: &mut Chance, place: &str) -> Vec<String> {
    let (mut child, said) = child::start("kill::child_writer", path, chance.next());
    let (first_row, had_row) = sync_channel(1);
    let listening = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in child::whole_lines(said) {
            if line.starts_with("done") {
                // Only the first one is waited for.
                let _ = first_row.try_send(());
            }
            lines.push(line);
        }
        lines
    });
    if chance.once_in(4) {
        std::thread::sleep(Duration::from_millis(chance.within(0..100)));
    } else {
        let waited = had_row.recv_timeout(Duration::from_secs(60));
        assert_ne!(waited, Err(RecvTimeoutError::Timeout), "{place}: the child appends nothing");
        std::thread::sleep(Duration::from_micros(chance.within(0..200_000)));
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "{place}: the child ended by itself, {status}");
    listening.join().unwrap()
}

/// Opens what a killed child left behind, and holds it against what was said.
fn look(path: &Path, chance: &mut Chance, accounts: &mut BTreeMap<String, Account>, place: &str) {
    let store = options(chance).open(path).unwrap_or_else(|error| panic!("{place}: {error}"));
    let recovery = store.recovery().clone();
    assert!(recovery.rows_cut == 0 && !recovery.was_poisoned, "{place}: {recovery:?}");
    let tables = store.tables();
    let tables = tables.iter().map(|table| store.existing(table.name()).unwrap());
    let found: BTreeMap<String, i64> = tables.flat_map(|table| numbered::check(&table, place)).collect();
    for (writer, account) in accounts.iter_mut() {
        let rows = found.get(writer).copied().unwrap_or_default();
        let said = account.done..=account.tried.max(account.done);
        assert!(said.contains(&rows), "{place}: {rows} rows of {writer}, and it said {account:?}; {recovery:?}");
        *account = Account { tried: rows, done: rows };
    }
    assert!(found.keys().all(|writer| accounts.contains_key(writer)), "{place}: rows that nobody tried");
    if chance.once_in(4) {
        store.seal().unwrap();
    }
    store.close().unwrap_or_else(|error| panic!("{place}: {error}"));
}
