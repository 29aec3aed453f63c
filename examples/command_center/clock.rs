//! The replay's clock: how far every writer is, who has to wait, and what "now" is for the panels.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many hours of the replay a writer may be ahead of the slowest.
const LEAD_HOURS: u64 = 24;

/// How far every writer is. Writers wait here for the slowest and for the pace, the room waits here for the writers.
pub(crate) struct Clock {
    /// Hours that each writer has finished, counted from the replay's first lap.
    finished: Vec<AtomicU64>,
    /// Rows acknowledged to each writer.
    acknowledged: Vec<AtomicU64>,
    state: Mutex<State>,
    /// Signalled, with `state` held, when what somebody may wait for has changed.
    moved: Condvar,
    started: Instant,
    hours: Range<u64>,
    /// Real time per hour of the replay; zero is as fast as the store takes it.
    pace: Duration,
}

struct State {
    running: usize,
    stopped: bool,
    /// When the last writer left, from the start.
    lasted: Option<Duration>,
}

impl Clock {
    /// A clock for `writers` writers that spreads `hours` over `lasting`.
    pub(crate) fn new(hours: Range<u64>, writers: usize, lasting: Duration) -> Self {
        let count = u32::try_from(hours.end - hours.start).unwrap_or(u32::MAX);
        Self {
            finished: (0..writers).map(|_| AtomicU64::new(hours.start)).collect(),
            acknowledged: (0..writers).map(|_| AtomicU64::new(0)).collect(),
            state: Mutex::new(State { running: writers, stopped: false, lasted: None }),
            moved: Condvar::new(),
            started: Instant::now(),
            hours,
            pace: lasting / count.max(1),
        }
    }

    pub(crate) fn writers(&self) -> usize {
        self.finished.len()
    }

    /// The hour that begins now: all before it are in.
    pub(crate) fn hour(&self) -> u64 {
        let slowest = self.finished.iter().map(|hours| hours.load(Ordering::Acquire)).min();
        slowest.unwrap_or(0).min(self.hours.end)
    }

    /// Rows of which the store has said that they are in.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.iter().map(|rows| rows.load(Ordering::Acquire)).sum()
    }

    /// Real time from the start until the last writer left, or until now.
    pub(crate) fn lasted(&self) -> Duration {
        self.state().lasted.unwrap_or_else(|| self.started.elapsed())
    }

    /// Says that nobody shall go on.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        self.moved.notify_all();
    }

    /// Waits until `hour` has begun, everybody has left, or `timeout` is over.
    pub(crate) fn wait(&self, hour: u64, timeout: Duration) {
        let waiting = |state: &mut State| state.running > 0 && self.hour() < hour;
        let waited = self.moved.wait_timeout_while(self.state(), timeout, waiting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Writer `writer` has sent `rows` rows in `hour` and with them all of it. Returns false when it shall stop.
    pub(crate) fn finish(&self, writer: usize, hour: u64, rows: u64) -> bool {
        if let (Some(acknowledged), Some(finished)) = (self.acknowledged.get(writer), self.finished.get(writer)) {
            acknowledged.fetch_add(rows, Ordering::Release);
            finished.store(hour + 1, Ordering::Release);
        }
        // Waking others costs a system call, so an unpaced replay looks up once a day.
        if self.pace.is_zero() && !(hour + 1).is_multiple_of(LEAD_HOURS) {
            return true;
        }
        let mut state = self.state();
        self.moved.notify_all();
        loop {
            if state.stopped {
                return false;
            }
            let due = self.pace.saturating_mul(u32::try_from(hour + 1 - self.hours.start).unwrap_or(u32::MAX));
            let early = due.saturating_sub(self.started.elapsed());
            let ahead = hour + 1 > self.hour() + LEAD_HOURS;
            state = match (ahead, early.is_zero()) {
                (true, _) => self.moved.wait(state).unwrap_or_else(PoisonError::into_inner),
                (false, false) => self.moved.wait_timeout(state, early).unwrap_or_else(PoisonError::into_inner).0,
                (false, true) => return true,
            };
        }
    }

    /// To be dropped when writer `writer` ends, however it does, so that nobody waits for it.
    pub(crate) fn leaving(&self, writer: usize) -> Leaving<'_> {
        Leaving { clock: self, writer }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Clock::leaving`].
pub(crate) struct Leaving<'a> {
    clock: &'a Clock,
    writer: usize,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(finished) = self.clock.finished.get(self.writer) {
            finished.store(u64::MAX, Ordering::Release);
        }
        let mut state = self.clock.state();
        state.running -= 1;
        if state.running == 0 {
            state.lasted = Some(self.clock.started.elapsed());
        }
        self.clock.moved.notify_all();
    }
}
