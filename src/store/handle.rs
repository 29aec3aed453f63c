//! How public handles hold their store.

use std::ops::Deref;
use std::sync::Arc;

use super::Inner;

/// A share in an open store, which closes with the last of them.
///
/// **Invariant:** in a forked child the store is never closed nor freed. Its threads are not there to be waited for, locks
/// and channels are as they were in the middle of something, and all its files are the parent's.
#[derive(Clone)]
pub(super) struct Handle(Arc<Inner>);

impl Handle {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl Deref for Handle {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.0.core.gate.origin.is_here() {
            return;
        }
        // One share more than there are handles: what is left of the store goes with the process.
        std::mem::forget(self.0.clone());
        // The lock belongs to the open file, which the child has too. It gives up its part, so that the store can be
        // opened when the parent has ended, unless a thread of the parent was just closing it.
        if let Ok(mut lock) = self.0.lock.try_lock() {
            drop(lock.take());
        }
    }
}
