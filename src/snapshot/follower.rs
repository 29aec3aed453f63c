//! The read view of a process that does not write: it follows the one that does through the files they share.
//!
//! A snapshot takes these steps, and starts over where it finds that the store has moved on:
//!
//! 1. read the state of the control page;
//! 2. lock its pin, and see that the state is still current: from here on every file of it stays;
//! 3. read the manifest up to the state's end; lock and map the listed blocks that are new;
//! 4. load the counts of all blocks as one moment: twice the same, or a cut that the store made after step 0;
//! 5. read the series log's tail.
//!
//! Steps 1 to 3 are skipped while the state is the one of the snapshot before.
//!
//! **Invariant:** a snapshot begun after an append returned, in whatever process, has its row. A block is in a state before
//! its first row is published, and counts are loaded after the state; a cut counts if it was begun after the snapshot was.
//!
//! **Invariant:** nobody waits for anybody. The store never waits for a reader. A reader waits for a cut only while counts
//! change under its eyes, so a store that is stopped or dead keeps nobody waiting.

mod following;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::fs::fork::{Origin, Words};
use crate::options::Options;
use crate::storage::control::Control;
use crate::storage::metadata_cache::MetadataCache;
use crate::storage::pin::HeldPin;

use super::aside::Partial;
use super::cut::look;
use super::last::LastTables;
use super::{Snapshot, View, ViewCell};
use following::Following;

/// How long blocks and pin are held after the last snapshot, so that the next one finds them. Short: a block that is held
/// when it is sealed cannot be recycled, and a new file costs the writing process several times as much.
const IDLE: Duration = Duration::from_millis(100);
/// Looks at counts before a cut is waited for.
const LOOKS: u32 = 16;
/// Pause between two looks for a cut.
const PAUSE: Duration = Duration::from_micros(100);

/// Where a store's files are, and how they are read.
#[derive(Debug)]
struct Place {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    control: Arc<Control>,
    cache: Arc<MetadataCache>,
    limits: Arc<Words>,
    partial: Arc<Partial>,
}

/// A store that another process writes, or may write later.
#[derive(Debug)]
pub(crate) struct Follower {
    place: Place,
    snapshot_timeout: Duration,
    pub(crate) last: Arc<LastTables>,
    pub(crate) origin: Origin,
    following: Mutex<Following>,
    idle: Idle,
    snapshots: AtomicU64,
    retries: AtomicU64,
}

/// Tells the thread that lets go of blocks that they are in use again.
#[derive(Debug)]
struct Idle {
    last: Mutex<Instant>,
    awake: AtomicBool,
    wake: Sender<()>,
}

/// What one try came to.
enum Try<T> {
    Done(T),
    /// The store moved on meanwhile; this is what was seen to change.
    Changed(&'static str),
}

impl Follower {
    /// Follows the store at `path`. `control_file` and the like are where they are in every store.
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        path: &Path,
        options: &Options,
        control: Control,
    ) -> (Arc<Self>, Receiver<()>) {
        let cache = Arc::new(MetadataCache::new(options.metadata_cache_bytes_max));
        let place = Place {
            fs,
            path: path.into(),
            control: Arc::new(control),
            cache,
            limits: Arc::default(),
            partial: Arc::new(Partial::new(options.allow_partial)),
        };
        let (wake, woken) = bounded(1);
        let idle = Idle { last: Mutex::new(Instant::now()), awake: AtomicBool::new(false), wake };
        let following = Mutex::new(Following::default());
        let follower = Self {
            place,
            snapshot_timeout: options.snapshot_timeout,
            last: Arc::new(LastTables::new(options.last_bytes_max)),
            origin: Origin::default(),
            following,
            idle,
            snapshots: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        };
        (Arc::new(follower), woken)
    }

    fn following(&self) -> MutexGuard<'_, Following> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This moment of the whole store.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>> {
        self.origin.check()?;
        let began = Instant::now();
        let cuts_before = self.place.control.cuts_begun();
        self.idle.used();
        let mut following = self.following();
        let mut damage = None;
        loop {
            let reason = match self.try_snapshot(&mut following, cuts_before) {
                Ok(Try::Done(snapshot)) => {
                    // Relaxed: it is looked at, and orders nothing.
                    self.snapshots.fetch_add(1, Ordering::Relaxed);
                    return Ok(snapshot);
                }
                Ok(Try::Changed(reason)) => reason,
                // What looks damaged may have been looked at while it changed. What still does is.
                Err(error @ Error::Corrupted { .. }) => {
                    following.forget();
                    if damage.replace(error.to_string()).is_some_and(|before| before == error.to_string()) {
                        return Err(error);
                    }
                    "it looked damaged once"
                }
                Err(error) => return Err(error),
            };
            if began.elapsed() >= self.snapshot_timeout {
                let (path, snapshot_timeout) = (self.place.path.clone(), self.snapshot_timeout);
                return Err(Error::NoSnapshot { path, snapshot_timeout, reason: reason.into() });
            }
            // Relaxed, as above.
            self.retries.fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
        }
    }

    fn try_snapshot(&self, following: &mut Following, cuts_before: u64) -> Result<Try<Arc<Snapshot>>> {
        if let Try::Changed(reason) = following.catch_up(&self.place)? {
            return Ok(Try::Changed(reason));
        }
        let view = following.view().clone();
        let rows = match self.counts(following, &view, cuts_before) {
            Try::Done(rows) => rows,
            Try::Changed(reason) => return Ok(Try::Changed(reason)),
        };
        following.read_series()?;
        Ok(Try::Done(Snapshot::of(&view, rows, following.pin().cloned())))
    }

    /// The rows of each block of `view` at one moment.
    fn counts(&self, following: &Following, view: &Arc<View>, cuts_before: u64) -> Try<Vec<usize>> {
        let control = &self.place.control;
        let Some(epoch) = following.epoch() else {
            // Nobody writes, so what is looked at twice agrees.
            return look::<ViewCell>(view).map_or(Try::Changed("rows come though nobody writes"), Try::Done);
        };
        let is_current = || control.epoch() == epoch;
        let began = Instant::now();
        let mut looks = 0;
        loop {
            if let Some(rows) = look::<ViewCell>(view) {
                return if is_current() { Try::Done(rows) } else { Try::Changed("blocks come and go") };
            }
            if let Some(cut) = control.cut_after(cuts_before)
                && cut.epoch == epoch
                && let Some(rows) = following.in_order(view, &cut.rows)
            {
                return Try::Done(rows);
            }
            if !is_current() {
                return Try::Changed("blocks come and go");
            }
            looks += 1;
            if looks > LOOKS {
                std::thread::sleep(PAUSE);
            }
            if began.elapsed() >= self.snapshot_timeout {
                return Try::Changed("rows come all the time, and the writing process makes no cut");
            }
        }
    }

    /// Lets go of blocks and pin a while after the last snapshot, so that the store can recycle its files while nobody
    /// asks. For a thread of its own, which ends with the follower.
    pub(crate) fn let_go_when_idle(follower: &std::sync::Weak<Self>, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            loop {
                let Some(this) = follower.upgrade() else { return };
                let left = IDLE.saturating_sub(this.idle.since());
                if left.is_zero() {
                    // Sequentially consistent, since each side stores and then looks: a snapshot sets its time and looks
                    // at the flag, this thread sets the flag and looks at the time. One of them sees the other.
                    this.idle.awake.store(false, Ordering::SeqCst);
                    // A snapshot that began since has said so, and is waited for again.
                    if this.idle.since() >= IDLE {
                        this.following().let_go();
                        break;
                    }
                    this.idle.awake.store(true, Ordering::SeqCst);
                    continue;
                }
                drop(this);
                match woken.recv_timeout(left) {
                    Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    /// Numbers for `system.counters`.
    pub(crate) fn count(&self) -> Vec<(&'static str, u64)> {
        // Relaxed: numbers to look at.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![("snapshots", count(&self.snapshots)), ("snapshot_retries", count(&self.retries))]
    }

    /// The pin that is held between snapshots.
    pub(crate) fn pin(&self) -> Option<Arc<HeldPin>> {
        self.following().pin().cloned()
    }
}

impl Idle {
    fn used(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // Sequentially consistent: the time is set, then the flag looked at. See `let_go_when_idle`.
        if !self.awake.swap(true, Ordering::SeqCst) {
            // Full means that it was told already.
            let _ = self.wake.try_send(());
        }
    }

    fn since(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}
