//! Files that the store has taken out, until nobody reads them.
//!
//! **Invariant:** a file of a segment leaves the disk only when no snapshot of this process has the segment, and no other
//! process holds a pin under which the store had it. See [`storage::pin`](crate::storage::pin). Save beyond
//! `pinned_bytes_max`: then the oldest go, and whoever reads them is told.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::error::Result;
use crate::fs::FileSystem;
use crate::storage::pin::Pin;
use crate::storage::segment::{Retired, Segment};

use super::background::Work;
use super::core::Core;

/// The pins of a store, and what they keep.
#[derive(Debug)]
pub(crate) struct Pins {
    fs: Arc<dyn FileSystem>,
    store: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Pin,
    /// The pin that the control page names: readers may still take it.
    published: u64,
    /// Pins of the past that were held when they were looked at last, and since when each is past.
    past: VecDeque<(Pin, Instant)>,
    released: VecDeque<Released>,
}

/// Files that were taken out of the store.
#[derive(Debug)]
struct Released {
    /// The last pin under which the store had them.
    pin: u64,
    segment: Weak<Segment>,
    files: Vec<PathBuf>,
    bytes: u64,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swept {
    /// Segments, or files of former lives, that were removed.
    pub(crate) segments: u64,
    /// Whether anything is left to come back for.
    pub(crate) left: bool,
}

/// A pin that keeps files, for `system.pins`.
#[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "only SQL lists them"))]
#[derive(Clone, Debug)]
pub(crate) struct PinView {
    pub(crate) pin: u64,
    /// How long ago the store moved on from it; none for the current pin.
    pub(crate) age: Option<std::time::Duration>,
    pub(crate) held: bool,
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
}

impl Pins {
    /// Makes the pin of a new life of the store. `last` is the one that the control page names still: until it names the
    /// new one, readers may take that, and nothing is removed.
    pub(crate) fn open(fs: Arc<dyn FileSystem>, store: &Path, last: u64, bytes_max: u64) -> Result<Self> {
        fs.create_dir(&crate::storage::places::pins_dir(store))?;
        let left = Pin::left(&*fs, store)?;
        let number = left.last().map_or(last, |pin| pin.number.max(last)) + 1;
        let current = Pin::make(&*fs, store, number)?;
        let past = left.into_iter().map(|pin| (pin, Instant::now())).collect();
        let state = Mutex::new(State { current, published: last, past, released: VecDeque::new() });
        Ok(Self { fs, store: store.into(), bytes_max, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number to put into the control page.
    pub(crate) fn current(&self) -> u64 {
        self.state().current.number
    }

    /// The control page names pin `number` now.
    pub(crate) fn published(&self, number: u64) {
        let mut state = self.state();
        state.published = state.published.max(number);
    }

    /// Whether a reader in another process holds the current pin.
    pub(crate) fn is_read(&self) -> Result<bool> {
        self.state().current.is_held()
    }

    /// Keeps files that no state of the store names any more until nobody reads them, and moves on to the next pin. The
    /// caller has the control page name it.
    fn release(&self, segments: &[Arc<Segment>]) -> Result<()> {
        let mut state = self.state();
        let pin = state.current.number;
        state.released.extend(segments.iter().map(|segment| Released {
            pin,
            segment: Arc::downgrade(segment),
            files: segment.files().into_iter().map(Path::to_path_buf).collect(),
            bytes: segment.meta.bytes + segment.meta.index_bytes,
        }));
        // Without a next pin, on a full disk, they are kept until one is made.
        let next = Pin::make(&*self.fs, &self.store, pin + 1)?;
        let old = std::mem::replace(&mut state.current, next);
        state.past.push_back((old, Instant::now()));
        Ok(())
    }

    /// Keeps files that a former life left behind until no reader of that time is left.
    pub(crate) fn keep(&self, files: Vec<PathBuf>) -> Result<()> {
        let mut state = self.state();
        let pin = state.current.number - 1;
        let bytes = |file: &PathBuf| self.fs.open_read(file)?.map_or(Ok(0), |file| file.len());
        for file in files {
            let bytes = bytes(&file)?;
            state.released.push_back(Released { pin, segment: Weak::new(), files: vec![file], bytes });
        }
        Ok(())
    }

    /// Removes what nobody reads any more.
    pub(crate) fn sweep(&self) -> Result<Swept> {
        let mut state = self.state();
        let mut segments = 0;
        while let Some((pin, _)) = state.past.front()
            && pin.number < state.published
            && pin.remove_if_free(&*self.fs)?
        {
            state.past.pop_front();
        }
        let oldest = state.past.front().map_or(state.current.number, |(pin, _)| pin.number);
        let oldest = oldest.min(state.published);
        let may_go = |released: &Released| released.pin < oldest && released.segment.strong_count() == 0;
        let mut kept: u64 = state.released.iter().filter(|released| !may_go(released)).map(|kept| kept.bytes).sum();
        // The oldest come first, and an entry goes only when its files have: what fails is tried again.
        let mut at = 0;
        while let Some(released) = state.released.get(at) {
            if !may_go(released) {
                if kept <= self.bytes_max {
                    at += 1;
                    continue;
                }
                if let Some(segment) = released.segment.upgrade() {
                    segment.lease().end();
                }
                tracing::warn!(pin = released.pin, bytes = released.bytes, "files beyond pinned_bytes_max removed");
                kept -= released.bytes;
            }
            released.files.iter().try_for_each(|file| self.fs.remove(file))?;
            state.released.remove(at);
            segments += 1;
        }
        Ok(Swept { segments, left: !state.released.is_empty() || !state.past.is_empty() })
    }

    /// Pins and what they keep, the oldest first.
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "only SQL lists them"))]
    pub(crate) fn list(&self) -> Vec<PinView> {
        let state = self.state();
        let view = |pin: &Pin, since: Option<Instant>| {
            let kept = state.released.iter().filter(|released| released.pin == pin.number);
            PinView {
                pin: pin.number,
                age: since.map(|since| since.elapsed()),
                // What cannot be asked may be held.
                held: pin.is_held().unwrap_or(true),
                segments: kept.clone().count() as u64,
                bytes: kept.map(|released| released.bytes).sum(),
            }
        };
        let past = state.past.iter().map(|(pin, since)| view(pin, Some(*since)));
        past.chain([view(&state.current, None)]).collect()
    }

    /// Bytes of files that are kept for readers alone.
    pub(crate) fn bytes(&self) -> u64 {
        self.state().released.iter().map(|released| released.bytes).sum()
    }
}

impl Core {
    /// Takes segments that a commit has removed out of reach of new readers, and removes their files when the last of the
    /// old ones has gone. The commit has been shown.
    pub(crate) fn release_segments(&self, segments: Vec<Arc<Segment>>) {
        segments.iter().for_each(|segment| segment.retire(self.upkeep.retired.0.clone()));
        // So that readers take the next pin. A store that is closed keeps the files for the next open to remove.
        let moved_on = self.pins.release(&segments).and_then(|()| self.show(|_| ()));
        if let Err(error) = moved_on {
            tracing::warn!(%error, "the files of replaced segments wait for the next open");
        }
        drop(segments);
        self.remove_released();
    }

    /// Forgets a segment that nobody of this process looks at any more, and removes its files if nobody else does.
    pub(crate) fn remove_retired(&self, retired: &Retired) {
        self.cache.remove(retired.id);
        self.remove_released();
    }

    /// Removes the files of segments whose last reader has gone, and has the keeper come back for the others.
    pub(crate) fn remove_released(&self) {
        if self.sweep_released() {
            // The keeper ends only at close.
            let _ = self.work.send(Work::FilesReleased);
        }
    }

    /// As [`remove_released`](Self::remove_released), by the keeper itself. Says whether any are left.
    pub(super) fn sweep_released(&self) -> bool {
        // What is left is removed at the next open, if not before.
        self.try_sweep().unwrap_or_else(|error| {
            tracing::warn!(%error, "files that nobody reads were not removed");
            true
        })
    }

    /// Removes what former lives left, at the end of opening: now the control page names this life's pin.
    pub(crate) fn remove_left(&self) -> Result<()> {
        if self.try_sweep()? {
            // The keeper ends only at close.
            let _ = self.work.send(Work::FilesReleased);
        }
        Ok(())
    }

    fn try_sweep(&self) -> Result<bool> {
        if !self.options.background {
            self.upkeep.retired.1.try_iter().for_each(|retired| self.cache.remove(retired.id));
        }
        let Swept { segments, left } = self.pins.sweep()?;
        self.counters.segments_removed.add(segments);
        Ok(left)
    }
}
