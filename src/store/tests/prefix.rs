//! What a power loss leaves of a writer is a prefix of its rows, whatever was sealed or synced before what.

use super::*;
use crate::snapshot::BlockView;

/// How many rows of `name` are there, which are the first ones.
fn prefix(store: &Store, name: &str, place: &str) -> i64 {
    let Ok(table) = store.existing("numbered") else { return 0 };
    let rows = rows_of(&table);
    let numbers: Vec<i64> = rows.keys().filter(|(writer, _)| writer == name).map(|(_, number)| *number).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as i64), "{place}: {numbers:?} of {name} are no prefix");
    numbers.len() as i64
}

fn block_of(store: &Store, which: impl Fn(&BlockView) -> bool) -> u64 {
    store.inner.core.view.load().blocks().find(|view| which(view)).unwrap().block.id
}

/// Two writers that follow one another leave rows in two blocks; between them another went on in the first.
fn two_after_one_another(fs: &Arc<SimFs>) -> Result<Store> {
    let store = open_sim(fs)?;
    let table = store.table(numbered())?;
    append(&mut table.writer()?, "a", 0..13)?;
    let mut between = table.writer()?;
    append(&mut between, "b", 0..2)?;
    let mut second = table.writer()?;
    append(&mut second, "a", 13..20)?;
    append(&mut between, "b", 2..4)?;
    Ok(store)
}

#[test]
fn a_seal_comes_after_what_an_earlier_writer_left() {
    let fs = SimFs::new(1);
    let store = two_after_one_another(&fs).unwrap();
    let second = block_of(&store, |view| view.block.rows() == 7);
    assert_eq!(store.inner.core.seal(second).unwrap(), 7);
    for seed in 0..20 {
        let left = open_sim(&fs.crash(seed)).unwrap();
        let place = format!("seed {seed}");
        assert_eq!((prefix(&left, "a", &place), prefix(&left, "b", &place)), (20, 0), "{place}");
    }
}

#[test]
fn a_sync_that_is_cut_short_keeps_the_order() {
    let fs = SimFs::new(1);
    let store = two_after_one_another(&fs).unwrap();
    let (before, mut kept) = (fs.operations(), Vec::new());
    store.sync().unwrap();
    let operations = fs.operations() - before;
    drop(store);
    for operation in 0..=operations {
        let fs = SimFs::new(1);
        let store = two_after_one_another(&fs).unwrap();
        fs.crash_at(fs.operations() + operation);
        let synced = store.sync();
        assert_eq!(synced.is_ok(), operation == operations, "operation {operation}: {synced:?}");
        let left = open_sim(&fs.crash(operation)).unwrap();
        let place = format!("operation {operation}");
        kept.push((prefix(&left, "a", &place), prefix(&left, "b", &place)));
    }
    // The first block is synced twice: what the second writer follows on comes before what it does not.
    assert!(kept.contains(&(13, 4)) && kept.last() == Some(&(20, 4)), "{kept:?}");
}

#[test]
fn sealers_of_several_threads_keep_the_order() {
    let first = setting("DENYUT_SEED").unwrap_or(0);
    for seed in first..first + 20 {
        let fs = SimFs::new(seed);
        let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(2 << 20);
        let store = Store::open_on(fs.clone(), options.seal_threads(3), Path::new("/store")).unwrap();
        let table = store.table(numbered()).unwrap();
        fs.crash_at(fs.operations() + 20 + Chance(seed).next(150));
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                let table = &table;
                scope.spawn(move || {
                    let Ok(mut writer) = table.writer() else { return };
                    // Until the machine is gone, which the writer may not notice before it needs a block.
                    let _ = append(&mut writer, name, 0..4_000);
                });
            }
        });
        let left = open_sim(&fs.crash(seed)).unwrap();
        let place = format!("again with DENYUT_SEED={seed}");
        let _ = (prefix(&left, "a", &place), prefix(&left, "b", &place));
    }
}
