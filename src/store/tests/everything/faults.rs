//! The same workload on a disk that fails in any call, once or from then on. Every failure is a typed error; what was
//! done stays readable; when the disk is well again the store goes on without being opened anew, unless a sync failed:
//! then it says so, changes nothing more, and the next open keeps what was synced.
//!
//! `DENYUT_FAULTS=n` fails that many calls, `DENYUT_SEED=s` begins at a seed, `DENYUT_THREADS=n` uses that many threads.

use std::sync::atomic::AtomicU64;

use super::ledger::After;
use super::listed::SCRIPTS;
use super::*;
use crate::ErrorKind;
use crate::fs::sim::{Fault, FaultKind};

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// A call that changes something.
    Change(u64, Fault),
    /// A call that reads; and whether it is the only one.
    Look(u64, bool),
}

const KINDS: [FaultKind; 4] = [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite, FaultKind::FailedSync];

impl Plan {
    fn once(self) -> bool {
        match self {
            Self::Change(_, fault) => fault.once,
            Self::Look(_, once) => once,
        }
    }

    fn arm(self, fs: &SimFs) {
        match self {
            Self::Change(after, fault) => fs.fail_after(after, fault),
            Self::Look(after, once) => fs.blind_after(after, once),
        }
    }

    fn by_chance(chance: &mut Chance, (operations, looks): (u64, u64)) -> Self {
        let once = chance.next(2) == 0;
        match chance.next(5) as usize {
            4 => Self::Look(chance.next(looks), once),
            kind => Self::Change(chance.next(operations), Fault { kind: KINDS[kind], once }),
        }
    }
}

/// Failures after which a disk that fails for ever is well again.
const PATIENCE: u64 = 3;

struct Failing {
    world: World,
    plan: Option<Plan>,
    place: String,
    failures: u64,
    /// Nothing may fail any more.
    healed: bool,
}

impl Failing {
    fn new(seed: u64, plan: Option<Plan>, place: String) -> Self {
        let durability = if seed % 6 == 5 { Durability::EverySync } else { Durability::Process };
        let world = World::new(SimFs::new(seed), durability, Box::new(|_, _, _| {}));
        plan.iter().for_each(|plan| plan.arm(&world.fs));
        Self { world, plan, place, failures: 0, healed: plan.is_none() }
    }

    fn take(&mut self, step: Step) {
        let Err(error) = self.world.take(step) else { return };
        let place = format!("{}, {step:?}: {error}", self.place);
        assert!(matches!(error.kind(), ErrorKind::Storage | ErrorKind::Poisoned), "{place}");
        assert!(!self.healed, "{place}: the disk is well again");
        self.failures += 1;
        if step == Step::Reopen && self.world.store.is_some() {
            // Whether it closed well or not, it is closed.
            self.world.leave();
            if error.kind() == ErrorKind::Poisoned {
                return self.open_after_poison(&place);
            }
        }
        match self.world.store.clone() {
            Some(store) if error.kind() == ErrorKind::Poisoned => self.poisoned(store, &place),
            Some(store) => self.goes_on(&store, step, &place),
            None => self.heal(false),
        }
    }

    fn heal(&mut self, now: bool) {
        if now || self.failures >= PATIENCE || self.plan.is_some_and(Plan::once) {
            self.world.fs.repair();
            self.healed = true;
        }
    }

    /// What is done is there, and what failed is not.
    fn goes_on(&mut self, store: &Store, step: Step, place: &str) {
        let content = match Content::of(store, place) {
            Err(error) => {
                let blind = matches!(self.plan, Some(Plan::Look(_, false)));
                assert!(blind && error.kind() == ErrorKind::Storage, "{place}, reading: {error}");
                self.world.fs.repair();
                self.healed = true;
                Content::of(store, place).unwrap()
            }
            Ok(content) => content,
        };
        let ledger = &mut self.world.ledger;
        let kept = ledger.check(&content, After::Process, place);
        if !matches!(step, Step::Batch(..)) {
            let done = ledger.plain.iter().map(|stream| stream.done);
            assert!(done.eq(kept.plain), "{place}: {:?}, {kept:?}: a row with an error is there", ledger.plain);
            let timed = kept.short.iter().skip(ledger.short.done as usize);
            assert!(timed.flatten().next().is_none(), "{place}: a row with an error is there");
        }
        ledger.settle(&kept);
        self.heal(false);
    }

    /// It says so to every call that would change anything, also when the disk is well again, and goes on reading.
    fn poisoned(&mut self, store: Store, place: &str) {
        let ledger = &self.world.ledger;
        for _ in 0..2 {
            let is_poisoned = |result: Result<()>| assert!(matches!(result, Err(Error::Poisoned { .. })), "{place}");
            is_poisoned(store.sync());
            is_poisoned(store.seal().map(drop));
            is_poisoned(store.maintain().map(drop));
            is_poisoned(store.table(Schema::new("another").tag("t").f64("x", "")).map(drop));
            for writer in self.world.writers.iter_mut().take(3).flatten() {
                is_poisoned(append(writer, "late", 0..1));
            }
            let content = Content::of(&store, place);
            match content {
                Ok(content) => drop(ledger.check(&content, After::Process, place)),
                Err(error) => assert!(matches!(self.plan, Some(Plan::Look(..))), "{place}, reading: {error}"),
            }
            self.world.fs.repair();
        }
        self.world.leave();
        assert!(matches!(store.close(), Err(Error::Poisoned { .. })), "{place}");
        drop(store);
        self.open_after_poison(place);
    }

    /// After a failed sync only what was synced before is promised.
    fn open_after_poison(&mut self, place: &str) {
        self.heal(true);
        let next = match self.failures.wrapping_add(self.world.fs.operations()) % 3 {
            0 => self.world.fs.crash(self.failures),
            1 => self.world.fs.kill(),
            _ => self.world.fs.clone(),
        };
        self.world.leave();
        self.world.fs = next;
        let store = self.world.store().unwrap_or_else(|error| panic!("{place}, opening: {error}"));
        if self.plan.is_some_and(Plan::once) {
            assert!(store.recovery().was_poisoned, "{place}: {:?}", store.recovery());
        }
        let content = Content::of(&store, place).unwrap();
        let kept = self.world.ledger.check(&content, After::Machine, place);
        self.world.ledger.settle(&kept);
        store.sync().unwrap_or_else(|error| panic!("{place}, the first sync after: {error}"));
        self.world.ledger.sync();
    }

    /// Takes the disk's failures away, and looks at all there is: now, after another life, and after a power loss.
    fn end(mut self) -> (u64, u64, bool) {
        let counts = (self.world.fs.operations(), self.world.fs.looks(), self.failures > 0);
        self.world.fs.repair();
        // A failure that no call told of may have poisoned it.
        self.take(Step::Sync);
        self.healed = true;
        for step in [Step::Rows(0, 3), Step::Batch(1, 3), Step::Overwrite(0, 3), Step::Timed(3), Step::Maintain] {
            self.take(step);
        }
        self.take(Step::Reopen);
        let place = &self.place;
        let store = self.world.store().unwrap();
        let found = store.verify().unwrap();
        assert!(found.is_whole(), "{place}: {found}");
        let content = Content::of(&store, place).unwrap();
        drop(self.world.ledger.check(&content, After::Process, place));
        drop(store);
        let crashed = self.world.fs.crash(7);
        let store = open_at(&crashed, "/store", Durability::Process, &self.world.clock);
        let store = store.unwrap_or_else(|error| panic!("{place}, after a power loss: {error}"));
        assert_eq!(Content::of(&store, place).unwrap(), content, "{place}: after a power loss");
        counts
    }
}

fn run(seed: u64, steps: &[Step], plan: Option<Plan>, name: &str) -> (u64, u64, bool) {
    let place = format!("{name}, seed {seed}, {plan:?}");
    let mut failing = Failing::new(seed, plan, place);
    steps.iter().for_each(|step| failing.take(*step));
    failing.end()
}

fn steps_of(seed: u64) -> Vec<Step> {
    let mut chance = Chance(seed ^ 0xFA17);
    (0..10 + chance.next(12)).map(|_| Step::by_chance(&mut chance)).collect()
}

/// Faults of one seed's workload.
const OF_A_SEED: u64 = 40;

#[test]
fn a_call_that_fails_is_a_typed_error_and_costs_nothing_that_was_done() {
    let threads = setting("DENYUT_THREADS").unwrap_or(1);
    let first = setting("DENYUT_SEED").unwrap_or(0);
    let faults = setting("DENYUT_FAULTS").unwrap_or(120);
    let seeds = faults.div_ceil(OF_A_SEED);
    let (next, met) = (AtomicU64::new(first), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < first + seeds) {
                    let steps = steps_of(seed);
                    let (operations, looks, _) = run(seed, &steps, None, "chance");
                    let mut chance = Chance(seed);
                    for _ in 0..OF_A_SEED {
                        let plan = Plan::by_chance(&mut chance, (operations, looks));
                        met.fetch_add(run(seed, &steps, Some(plan), "chance").2.into(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let met = met.into_inner();
    println!("{} faults in {seeds} workloads from seed {first} on, {met} were met", seeds * OF_A_SEED);
    assert!(met * 2 > seeds * OF_A_SEED, "{met}");
}

/// A sync that fails, and all after it.
const fn syncs_from(at: u64) -> Plan {
    Plan::Change(at, Fault { kind: FaultKind::FailedSync, once: false })
}

/// What failed once, kept for good, by name of the workload and seed: files whose bytes a failed sync had dropped were
/// filled again, and some of them were taken for written. The second one's sync failed while a store was opened.
const FAILED_ONCE: &[(&str, u64, Plan)] = &[("lives", 1, syncs_from(41)), ("chance", 1_700, syncs_from(158))];

#[test]
fn what_failed_once_does_not_again() {
    for (name, seed, plan) in FAILED_ONCE {
        let script = SCRIPTS.into_iter().find(|(of, _)| of == name);
        let steps = script.map_or_else(|| steps_of(*seed), |(_, steps)| steps.to_vec());
        assert!(run(*seed, &steps, Some(*plan), name).2, "{name}, seed {seed}: the fault was not met");
    }
}

/// Every call of the small workloads, in each way, once and for ever; one in `DENYUT_STRIDE` of them.
#[test]
fn every_call_of_small_workloads_may_fail() {
    let stride = setting("DENYUT_STRIDE").unwrap_or(199);
    let (mut faults, mut met, mut number) = (0_u64, 0_u64, 0_u64);
    for (name, steps) in SCRIPTS {
        let (operations, looks, _) = run(1, steps, None, name);
        let changes = KINDS.iter().flat_map(|kind| {
            let plan = move |at, once| Plan::Change(at, Fault { kind: *kind, once });
            (0..operations).flat_map(move |at| [plan(at, true), plan(at, false)])
        });
        let looks = (0..looks).flat_map(|at| [Plan::Look(at, true), Plan::Look(at, false)]);
        for plan in changes.chain(looks) {
            number += 1;
            if number % stride == 0 {
                met += u64::from(run(1, steps, Some(plan), name).2);
                faults += 1;
            }
        }
    }
    println!("{faults} of {number} faults, {met} were met");
    assert!(met > 0);
}
