//! Telling a forked child from the process that opened a store.
//!
//! A child has the handles of its parent, a copy of its memory with locks as they were at that moment, none of its threads,
//! and the very same mapped files. Whatever it did there it would do to its parent's store. So it does nothing.
//!
//! **Invariant:** in a forked child no handle of its parent's store writes to a mapping or a file, takes a lock, or waits.
//! Whoever is called looks at [`Origin`] before anything else; and the usual append, which looks at nothing but its block's
//! limit, finds that to be zero: limits lie in memory that the kernel gives to a child as zeros (`MADV_WIPEONFORK`, Linux
//! 4.14). On kernels without it the process id is compared instead, and an append by handle is not protected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::mapping::WipedPage;
use crate::error::{Error, Result};

/// The word of a page that says that it was not wiped.
const ALIVE: usize = 0;
/// Words from one to the next that are handed out: a cache line, so that writers do not take each other's.
const STRIDE: usize = 16;

/// The process that something was made in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    page: Arc<WipedPage>,
    pid: u32,
}

impl Default for Origin {
    fn default() -> Self {
        Self::of(Arc::new(WipedPage::new()))
    }
}

impl Origin {
    fn of(page: Arc<WipedPage>) -> Self {
        // Relaxed: who gets the page gets it from this thread.
        page.word(ALIVE).store(1, Ordering::Relaxed);
        Self { page, pid: std::process::id() }
    }

    /// Whether this is that process. A load, where the kernel wipes pages.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        // Relaxed: no other thread ever changes the word.
        self.page.word(ALIVE).load(Ordering::Relaxed) == 1 && (self.page.is_wiped() || self.pid == std::process::id())
    }

    /// [`Forked`](Error::Forked) if this is not that process.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_here() { Ok(()) } else { Err(Error::Forked { pid: self.pid }) }
    }
}

/// A word that a forked child finds to be zero.
#[derive(Debug)]
pub(crate) struct Word {
    origin: Origin,
    at: usize,
}

impl Word {
    /// The word itself.
    #[inline]
    pub(crate) fn get(&self) -> &AtomicU32 {
        self.origin.page.word(self.at)
    }

    /// The process that it was made in.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Where words come from. A page is given back to the system when the last of its words is gone.
#[derive(Debug, Default)]
pub(crate) struct Words {
    current: Mutex<Option<(Origin, usize)>>,
}

impl Words {
    /// A word that nobody else has, zero.
    pub(crate) fn take(&self) -> Word {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let page = current.take().filter(|(_, next)| *next < WipedPage::WORDS);
        let (origin, at) = page.unwrap_or_else(|| (Origin::default(), ALIVE + STRIDE));
        *current = Some((origin.clone(), at + STRIDE));
        Word { origin, at }
    }
}
