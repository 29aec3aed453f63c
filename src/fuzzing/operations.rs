//! Sequences of what a user does and what a machine does to it, with the oracle of the power-loss test.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::{Input, append, numbered, open};
use crate::fs::sim::{Fault, FaultKind, SimFs};
use crate::prelude::*;
use crate::{Result, Table};

/// What is known of a writer's rows, which are numbered from 0.
#[derive(Clone, Copy, Default)]
struct Account {
    /// At most so many are there.
    issued: i64,
    /// Their append returned: they survive the process.
    appended: i64,
    /// They survive the machine.
    synced: i64,
}

const WRITERS: [&str; 2] = ["a", "b"];

/// Compares what is there with what is known: no row twice, each writer's a prefix. Gives the length of each.
fn kept(store: &Store, accounts: &[Account; 2], lost_power: bool) -> [i64; 2] {
    let mut found = BTreeMap::new();
    let batches = store.existing("numbered").into_iter().filter_map(|table: Table| table.scan().ok()).flatten();
    for batch in batches.map(|batch| batch.expect("it is whole")) {
        let column = |name| batch.column_by_name(name).expect("the table has it");
        let numbers = column("number").as_primitive::<Int64Type>();
        for (writer, number) in column("writer").as_string_view().iter().zip(numbers) {
            *found.entry((writer.map(str::to_string), number)).or_insert(0) += 1;
        }
    }
    assert!(found.values().all(|times| *times == 1), "a row is there twice: {found:?}");
    let mut kept = [0; 2];
    for ((name, account), kept) in WRITERS.iter().zip(accounts).zip(&mut kept) {
        let rows = found.keys().filter(|(writer, _)| writer.as_deref() == Some(*name));
        rows.for_each(|(_, number)| {
            assert_eq!(*number, Some(*kept), "rows of {name} are no prefix");
            *kept += 1;
        });
        let least = if lost_power { account.synced } else { account.appended };
        assert!((least..=account.issued).contains(kept), "{kept} of {name}, {least} to {} expected", account.issued);
    }
    kept
}

/// A life of the store; it ends with an error, or with a byte that says so.
fn live(fs: &SimFs, store: &Store, input: &mut Input<'_>, accounts: &mut [Account; 2]) -> Result<()> {
    let table = store.table(numbered())?;
    let mut writers = [table.writer()?, table.writer()?];
    while !input.0.is_empty() {
        let (op, argument) = (input.u8() % 16, input.u8());
        match op {
            0..=6 => {
                let who = usize::from(op % 2);
                let parts = writers.get_mut(who).zip(accounts.get_mut(who)).zip(WRITERS.get(who));
                let ((writer, account), name) = parts.expect("there are two");
                for number in account.issued..account.issued + 1 + i64::from(argument) * 2 {
                    account.issued = number + 1;
                    append(writer, name, number)?;
                    account.appended = number + 1;
                }
            }
            7..=10 => {
                if op < 9 {
                    store.sync()?
                } else if op < 10 {
                    store.seal().map(drop)?
                } else {
                    store.maintain().map(drop)?
                }
                accounts.iter_mut().for_each(|account| account.synced = account.appended);
            }
            11 => store.table(numbered().f64(format!("extra{}", argument % 4), "")).map(drop)?,
            12 => fs.crash_at(fs.operations() + u64::from(argument)),
            13 | 14 => {
                let kinds = [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite, FaultKind::FailedSync];
                let kind = kinds.get(usize::from(argument % 4)).copied().unwrap_or(FaultKind::Eio);
                fs.fail_after(u64::from(argument >> 3), Fault { kind, once: argument & 4 == 0 });
            }
            _ => break,
        }
    }
    Ok(())
}

/// Any sequence of what a user does and what a machine does to it. Synced rows survive the machine, appended ones the
/// process unless a fault was met, and what is there was appended, each row once.
pub fn store_ops(bytes: &[u8]) {
    let (mut fs, mut input) = (SimFs::new(bytes.len() as u64), Input(bytes));
    let (mut accounts, mut lost_power) = ([Account::default(); 2], false);
    loop {
        let store = open(&fs).expect("a whole machine opens");
        let found = kept(&store, &accounts, lost_power);
        if input.0.is_empty() {
            return;
        }
        store.sync().expect("a whole machine syncs");
        accounts = found.map(|rows| Account { issued: rows, appended: rows, synced: rows });
        let lived = live(&fs, &store, &mut input, &mut accounts);
        let how = input.u8();
        lost_power = lived.is_err() || how & 1 == 0;
        // Before the store is dropped, which would sync.
        let next = if how & 1 == 0 { fs.crash(u64::from(how)) } else { fs.kill() };
        drop(store);
        next.repair();
        fs = next;
    }
}
