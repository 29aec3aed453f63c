//! The store's own threads: sealers, the syncer, the one that compacts, and the one that keeps house.
//!
//! Each waits for work and takes no time without it. The house keeper wakes once a second while a block is filled, for
//! ingest-time marks, and otherwise when the oldest unsealed block comes of age or retention is due.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, select, unbounded};
use hashbrown::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::ingest::live_block::Released;
use crate::model::time::nanos_of;
use crate::options::Durability;
use crate::snapshot::view::Stage;
use crate::storage::segment::Retired;

use super::compact::Outcome;
use super::core::Core;
use super::cuts::cut_loop;
use super::pacing::Caller;

/// What the threads are told.
#[derive(Debug)]
pub(crate) enum Work {
    /// Seal this block.
    Seal(u64),
    /// Files wait for their last reader.
    FilesReleased,
    /// A writer has its first block: there is a house to keep.
    Filling,
}

/// How often marks are made and ages are looked at while writers are open.
const TICK: Duration = Duration::from_secs(1);
/// How long a failed seal waits before it is tried again, so that a full disk is not asked all the time.
const SEAL_RETRY: Duration = Duration::from_secs(1);
/// How long compaction waits after a failure.
const COMPACT_RETRY: Duration = Duration::from_secs(60);
/// How long retention waits after a failure.
const RETAIN_RETRY: Duration = Duration::from_secs(60);
/// Shortest time between two syncs of [`Durability::Interval`].
const SYNC_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The running threads.
pub(crate) struct Background {
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Dropped to tell all threads to end.
    stop: Mutex<Option<Sender<()>>>,
}

impl Background {
    /// Starts the threads of `core`. They hold it weakly between two pieces of work, so that the last handle closes it.
    pub(crate) fn start(core: &Arc<Core>, work: Receiver<Work>, opened: Receiver<()>) -> Result<Self> {
        let (stop, stopped) = unbounded::<()>();
        let background = Self { threads: Mutex::default(), stop: Mutex::new(Some(stop)) };
        if !core.options.background {
            return Ok(background);
        }
        let (seals, to_seal) = unbounded();
        for number in 0..core.options.seal_threads {
            let (core, to_seal, stopped) = (Arc::downgrade(core), to_seal.clone(), stopped.clone());
            background.spawn(format!("denyut-seal-{number}"), move || seal_loop(&core, &to_seal, &stopped))?;
        }
        let (weak, stopped_too) = (Arc::downgrade(core), stopped.clone());
        background.spawn("denyut-cut".into(), move || cut_loop(&weak, &opened, &stopped_too))?;
        let (weak, stopped_too) = (Arc::downgrade(core), stopped.clone());
        background.spawn("denyut-keep".into(), move || keep_loop(&weak, &work, &seals, &stopped_too))?;
        let (weak, stopped_too) = (Arc::downgrade(core), stopped.clone());
        let (released, retired) = (core.pool.released().clone(), core.upkeep.retired.1.clone());
        background.spawn("denyut-recycle".into(), move || recycle_loop(&weak, &released, &retired, &stopped_too))?;
        let (weak, stopped_too) = (Arc::downgrade(core), stopped.clone());
        let wake = core.upkeep.wake.1.clone();
        background.spawn("denyut-compact".into(), move || compact_loop(&weak, &wake, &stopped_too))?;
        if let Durability::Interval(interval) = core.options.durability {
            let weak = Arc::downgrade(core);
            let interval = interval.max(SYNC_INTERVAL_MIN);
            background.spawn("denyut-sync".into(), move || sync_loop(&weak, interval, &stopped))?;
        }
        Ok(background)
    }

    fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let spawned = std::thread::Builder::new().name(name).spawn(run);
        let thread = spawned.map_err(|error| Error::Background { reason: error.to_string() })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// How many run.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends all threads after the work they are at. Bounded by one seal.
    pub(crate) fn stop(&self) -> Result<()> {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let me = std::thread::current().id();
        // A thread of ours that drops the last handle cannot wait for itself; it ends by itself.
        let died = threads.into_iter().filter(|thread| thread.thread().id() != me).map(JoinHandle::join);
        match died.filter(std::result::Result::is_err).count() {
            0 => Ok(()),
            count => Err(Error::Background { reason: format!("{count} threads of the store panicked") }),
        }
    }
}

fn seal_loop(core: &Weak<Core>, blocks: &Receiver<u64>, stopped: &Receiver<()>) {
    loop {
        let id = select! {
            recv(stopped) -> _ => return,
            recv(blocks) -> id => match id { Ok(id) => id, Err(_) => return },
        };
        loop {
            let Some(core) = core.upgrade() else { return };
            match core.seal(id) {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Storage => {
                    tracing::warn!(block = id, %error, "seal failed, trying again");
                }
                // Poisoned or damaged: the rows stay in their block, and trying again would not help.
                Err(error) => {
                    tracing::error!(block = id, %error, "seal failed");
                    break;
                }
            }
            drop(core);
            if !matches!(stopped.recv_timeout(SEAL_RETRY), Err(RecvTimeoutError::Timeout)) {
                return;
            }
        }
    }
}

fn recycle_loop(core: &Weak<Core>, released: &Receiver<Released>, retired: &Receiver<Retired>, stopped: &Receiver<()>) {
    loop {
        select! {
            recv(stopped) -> _ => return,
            recv(released) -> block => match (block, core.upgrade()) {
                (Ok(block), Some(core)) => core.recycle(block),
                _ => return,
            },
            recv(retired) -> segment => match (segment, core.upgrade()) {
                (Ok(segment), Some(core)) => core.remove_retired(&segment),
                _ => return,
            },
        }
    }
}

/// Rolls up and compacts what is due, and waits until something may be.
fn compact_loop(core: &Weak<Core>, wake: &Receiver<()>, stopped: &Receiver<()>) {
    loop {
        let next = loop {
            let Some(core) = core.upgrade() else { return };
            // Returns at once if the store is closed or poisoned, and waits while it is paused.
            if !core.upkeep.pace.wait(Instant::now()) || core.check_sound().is_err() {
                return;
            }
            // In turns, so that neither waits for the other to have nothing to do.
            let worked = core.roll_up_one(Caller::Background).and_then(|rolled| {
                let compacted = core.compact_one(Caller::Background)?;
                Ok(if rolled { Outcome::Done } else { compacted })
            });
            match worked {
                Ok(Outcome::Done) => {}
                Ok(Outcome::Nothing(next)) => break next,
                Err(Error::Closed) => return,
                // Those segments are left alone from now on; others may be due.
                Err(error) if error.kind() == ErrorKind::Corrupted => {
                    tracing::error!(%error, "a compaction or rollup failed")
                }
                Err(error) => {
                    tracing::warn!(%error, "a compaction or rollup failed, trying again later");
                    drop(core);
                    // Not when the next seal wakes it: a full disk must not be filled and emptied all the time.
                    if !matches!(stopped.recv_timeout(COMPACT_RETRY), Err(RecvTimeoutError::Timeout)) {
                        return;
                    }
                }
            }
        };
        let timer = next.map_or_else(crossbeam::channel::never, crossbeam::channel::at);
        select! {
            recv(stopped) -> _ => return,
            recv(wake) -> _ => {}
            recv(timer) -> _ => {}
        }
    }
}

fn sync_loop(core: &Weak<Core>, interval: Duration, stopped: &Receiver<()>) {
    let mut next = Instant::now() + interval;
    while matches!(stopped.recv_deadline(next), Err(RecvTimeoutError::Timeout)) {
        let Some(core) = core.upgrade() else { return };
        next = Instant::now() + interval;
        if let Err(error) = core.sync(None) {
            // Poisoned: whoever appends next is told.
            tracing::error!(%error, "background sync failed");
            return;
        }
    }
}

/// Blocks that were queued for their age, each with the time it was last sealed at.
pub(crate) type Asked = HashMap<u64, Instant>;

fn keep_loop(core: &Weak<Core>, work: &Receiver<Work>, seals: &Sender<u64>, stopped: &Receiver<()>) {
    let mut wake = Instant::now() + TICK;
    let mut asked = Asked::new();
    loop {
        select! {
            recv(stopped) -> _ => return,
            recv(work) -> told => match told {
                Ok(Work::Seal(id)) => {
                    // The sealers end only when this thread does.
                    let _ = seals.send(id);
                    continue;
                }
                Ok(Work::Filling | Work::FilesReleased) => {}
                Err(_) => return,
            },
            recv(crossbeam::channel::at(wake)) -> _ => {}
        }
        let Some(core) = core.upgrade() else { return };
        wake = core.keep_house(seals, &mut asked);
    }
}

impl Core {
    /// Makes ingest-time marks and has old blocks sealed. Returns when to come again.
    pub(crate) fn keep_house(&self, seals: &Sender<u64>, asked: &mut Asked) -> Instant {
        let unix_s = self.clock.second();
        let view = self.view.load();
        let age = |since: Instant| since.elapsed();
        let paused = self.upkeep.pace.is_paused();
        let mut next = Instant::now() + if paused { TICK } else { self.retain_in_background() };
        let mut ended = Vec::new();
        for view in view.blocks() {
            view.block.mark(unix_s);
            if view.stage == Stage::Waiting && self.options.seal_threads > 0 {
                if age(view.since) >= self.options.seal_after {
                    ended.push(view.block.id);
                    continue;
                }
                next = next.min(view.since + self.options.seal_after);
            }
            let unsealed = view.block.rows() > view.sealed_rows;
            let of_age = age(view.since) >= self.options.seal_after && view.stage != Stage::Full && !paused;
            if unsealed && of_age && self.options.seal_threads > 0 {
                // Once for each seal: a full disk must not let the queue grow.
                if asked.insert(view.block.id, view.since) != Some(view.since) {
                    // The sealers end only when the keeper does.
                    let _ = seals.send(view.block.id);
                }
            } else if unsealed {
                next = next.min(view.since + self.options.seal_after);
            }
            if view.stage == Stage::Filling {
                next = next.min(Instant::now() + TICK);
            }
        }
        if self.look_after_files() {
            next = next.min(Instant::now() + TICK);
        }
        if !ended.is_empty()
            && let Err(error) = self.end_waiting(|view| ended.contains(&view.block.id))
        {
            tracing::warn!(%error, "blocks that nobody fills were not sealed");
        }
        asked.retain(|id, _| view.blocks().any(|view| view.block.id == *id));
        next.max(Instant::now() + TICK)
    }

    /// Removes and recycles files whose last reader in another process has gone. Says whether some still have one.
    fn look_after_files(&self) -> bool {
        let held = self.pool.retry_held();
        let held = held.map_err(|error| self.poison_if_sync(error)).unwrap_or_else(|error| {
            tracing::warn!(%error, "a live block was not recycled");
            true
        });
        let pinned = self.sweep_released();
        held || pinned
    }

    /// Drops what is due, and says how long there is nothing to drop; an hour at most.
    fn retain_in_background(&self) -> Duration {
        let now_ns = self.clock.now().as_nanos();
        if let Err(error) = self.retain() {
            tracing::warn!(%error, "retention failed");
            let retry = now_ns.saturating_add(nanos_of(RETAIN_RETRY));
            self.upkeep.set_retention_due(self.upkeep.retention_due(), retry);
        }
        let left_ns = self.upkeep.retention_due().at_ns.saturating_sub(now_ns);
        Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0)).min(Duration::from_secs(3_600))
    }

    /// Takes a block nobody looks at any more. A failed sync poisons the store; anything else costs the file only.
    pub(crate) fn recycle(&self, block: Released) {
        match self.pool.recycle(block).map_err(|error| self.poison_if_sync(error)) {
            Ok(true) => self.counters.blocks_recycled.add(1),
            Ok(false) => {
                // The keeper ends only at close.
                let _ = self.work.send(Work::FilesReleased);
            }
            Err(error) => tracing::warn!(%error, "a live block was not recycled"),
        }
    }
}
