//! What compaction, retention and their threads share: pause and stop, what is due, what runs, what came home.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use hashbrown::HashSet;

use crate::storage::segment::Retired;

use super::running::RunningList;

/// Shared by the store's own threads and those of callers.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) pace: Pace,
    pub(crate) running: RunningList,
    /// Segments whose last handle was dropped after they were retired.
    pub(crate) retired: (Sender<Retired>, Receiver<Retired>),
    /// Has a message while there may be something to compact.
    pub(crate) wake: (Sender<()>, Receiver<()>),
    /// Held by whoever compacts or rolls up: one at a time, one core at most.
    pub(crate) compacting: Mutex<()>,
    /// Segments that could not be read, by number: they stay as they are until the store is opened again.
    pub(crate) unfit: Mutex<HashSet<u64>>,
    /// Segments that could not be rolled up, because some could not be read: they wait until the store is opened again.
    pub(crate) unrolled: Mutex<HashSet<u64>>,
    retention_due: Mutex<Due>,
}

/// When retention is to look again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    /// Unix ns from which on there may be something to drop.
    pub(crate) at_ns: i64,
    /// How often segments had changed by then.
    changes: u64,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            running: RunningList::default(),
            retired: unbounded(),
            wake: bounded(1),
            compacting: Mutex::default(),
            unfit: Mutex::default(),
            unrolled: Mutex::default(),
            retention_due: Mutex::new(Due { at_ns: i64::MIN, changes: 0 }),
        }
    }
}

impl Upkeep {
    /// There are other segments than before.
    pub(crate) fn segments_changed(&self) {
        let mut due = self.due();
        *due = Due { at_ns: i64::MIN, changes: due.changes + 1 };
        drop(due);
        // If it is full, somebody is about to look anyway.
        let _ = self.wake.0.try_send(());
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.retention_due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When retention is to look again.
    pub(crate) fn retention_due(&self) -> Due {
        *self.due()
    }

    /// Says when to look again, unless segments changed since `seen` was read: then somebody has to look again at once. That
    /// is counted, since whoever looks for the first time finds the same moment before a change and after it.
    pub(crate) fn set_retention_due(&self, seen: Due, at_ns: i64) {
        let mut due = self.due();
        if due.changes == seen.changes {
            due.at_ns = at_ns;
        }
    }
}

/// Holds background work back: while it is paused, and to a rate.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pauses: usize,
    /// Callers that wait for what the background is at.
    hurries: usize,
    stopped: bool,
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses once more.
    pub(crate) fn pause(&self) {
        self.state().pauses += 1;
    }

    /// Takes back one pause.
    pub(crate) fn resume(&self) {
        self.state().pauses -= 1;
        self.changed.notify_all();
    }

    /// Lets background work that is under way go on at full speed, pause or not, until the guard is dropped: somebody
    /// waits for it to end.
    pub(crate) fn hurry(&self) -> Hurry<'_> {
        self.state().hurries += 1;
        self.changed.notify_all();
        Hurry(self)
    }

    /// Lets nobody go on: the store closes.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.state().pauses > 0
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Waits until `until` and while it is paused. False if the store closes.
    pub(crate) fn wait(&self, until: Instant) -> bool {
        let mut state = self.state();
        loop {
            if state.stopped {
                return false;
            }
            if state.hurries > 0 {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            state = if state.pauses > 0 {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if left > Duration::ZERO {
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            } else {
                return true;
            };
        }
    }
}

/// Made by [`Pace::hurry`].
pub(crate) struct Hurry<'a>(&'a Pace);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.state().hurries -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_while_retention_looks_has_it_look_again() {
        let upkeep = Upkeep::default();
        let seen = upkeep.retention_due();
        upkeep.segments_changed();
        upkeep.set_retention_due(seen, 7);
        assert_eq!(upkeep.retention_due().at_ns, i64::MIN);
        upkeep.set_retention_due(upkeep.retention_due(), 7);
        assert_eq!(upkeep.retention_due().at_ns, 7);
    }
}
