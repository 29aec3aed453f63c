//! Power loss: a seeded workload on the simulator, the machine cut at a random operation, the image opened.
//!
//! Oracle: rows that were synced are there, what is there was appended, none twice, and each writer's rows are a prefix of
//! what it appended. `DENYUT_IMAGES=n` runs more images, `DENYUT_SEED=s` runs one seed.

use super::*;

/// Seeds that failed once, kept for good.
const FAILED_ONCE: &[u64] = &[];

/// What is known of one writer's rows.
#[derive(Clone, Default)]
struct Account {
    issued: i64,
    synced: i64,
}

/// Runs until the machine dies or the steps are done. Errors end it, as they would end a process.
fn work(store: &Store, chance: &mut Chance, accounts: &mut [Account; 2]) -> Result<()> {
    let table = store.table(numbered())?;
    let mut writers = [table.writer()?, table.writer()?];
    for _ in 0..12 {
        match chance.next(10) {
            0..=5 => {
                let who = chance.next(2) as usize;
                let rows = 1 + chance.next(400) as i64;
                for number in accounts[who].issued..accounts[who].issued + rows {
                    // Issued before the call: an append that fails in the middle may or may not have happened.
                    accounts[who].issued = number + 1;
                    append(&mut writers[who], ["a", "b"][who], number..number + 1)?;
                }
            }
            6..=7 => {
                let before = accounts.clone();
                store.sync()?;
                accounts.iter_mut().zip(before).for_each(|(account, before)| account.synced = before.issued);
            }
            8 => {
                let before = accounts.clone();
                if chance.next(2) == 0 {
                    store.seal()?;
                } else {
                    let _ = store.maintain()?;
                }
                accounts.iter_mut().zip(before).for_each(|(account, before)| account.synced = before.issued);
            }
            _ => {
                let wider = numbered().f64(format!("extra{}", chance.next(3)), "");
                let _ = store.table(wider)?;
            }
        }
    }
    Ok(())
}

fn check(store: &Store, accounts: &[Account; 2], seed: u64) -> [i64; 2] {
    let Ok(table) = store.existing("numbered") else {
        assert!(accounts.iter().all(|account| account.synced == 0), "seed {seed}: the table is gone");
        return [0, 0];
    };
    let found = rows_of(&table);
    let mut kept = [0, 0];
    for ((name, number), times) in &found {
        let who = usize::from(name == "b");
        assert_eq!(*times, 1, "seed {seed}: row {number} of {name} is there {times} times");
        assert_eq!(*number, kept[who], "seed {seed}: rows of {name} are not a prefix");
        kept[who] += 1;
    }
    for (who, account) in accounts.iter().enumerate() {
        assert!(kept[who] >= account.synced, "seed {seed}: {} synced, {} kept", account.synced, kept[who]);
        assert!(kept[who] <= account.issued, "seed {seed}: {} issued, {} kept", account.issued, kept[who]);
    }
    kept
}

fn image(seed: u64) {
    let mut chance = Chance(seed ^ 0x5EED);
    let fs = SimFs::new(seed);
    let mut accounts = [Account::default(), Account::default()];
    // Found first on a machine that lives: how many operations there are to be cut at.
    let cut_at = chance.next(160);
    fs.crash_at(cut_at);
    let mut fs = fs;
    for life in 0..3 {
        if let Ok(store) = open_sim(&fs) {
            if life > 0 {
                let kept = check(&store, &accounts, seed);
                accounts = kept.map(|kept| Account { issued: kept, synced: kept });
                // What a recovery keeps it has to keep: only if a sync follows is that promised, so ask for one.
                if store.sync().is_err() {
                    accounts.iter_mut().for_each(|account| account.synced = 0);
                }
            }
            let result = work(&store, &mut chance, &mut accounts);
            assert!(result.is_ok() || fs.is_gone(), "seed {seed}: {result:?}");
        } else {
            assert!(fs.is_gone(), "seed {seed}: a whole machine does not open: {:?}", open_sim(&fs).err());
        }
        fs = fs.crash(seed + life);
        fs.crash_at(chance.next(400));
    }
    fs.repair();
    // Of a seed of its own: after as many draws as the first crash took, the same one gives the same boot id, and the counts
    // of that boot would be believed.
    let fs = fs.crash(seed + 3);
    let store = open_sim(&fs).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    check(&store, &accounts, seed);
}

#[test]
fn power_loss_at_any_operation_keeps_what_was_synced() {
    if let Some(seed) = setting("DENYUT_SEED") {
        return image(seed);
    }
    let images = setting("DENYUT_IMAGES").unwrap_or(500);
    println!("{images} images from seed 0 on; one again with DENYUT_SEED");
    FAILED_ONCE.iter().copied().chain(0..images).for_each(image);
}
