//! The atomics of the publish protocol, and the barrier that lets its fast side go without one.
//!
//! What several threads or processes do to one memory is written over the traits here: over [`Word`]s and [`Memory`], with
//! the [`Fences`] of the machine. In the store the words are atomics in a mapping; in the models of the protocols they are a
//! model checker's, which tries every order that the memory model allows. So what is proved is the code that runs.

use std::sync::atomic::{AtomicU32, AtomicU64, fence};

pub(crate) use std::sync::atomic::{self, Ordering};

/// A word that several threads share.
pub(crate) trait Word {
    /// Reads it.
    fn load(&self, order: Ordering) -> u64;
    /// Writes it.
    fn store(&self, value: u64, order: Ordering);
}

impl Word for AtomicU64 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        // The caller's ordering, argued there.
        Self::load(self, order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        // The caller's ordering, argued there.
        Self::store(self, value, order);
    }
}

impl Word for AtomicU32 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        // The caller's ordering, argued there.
        u64::from(Self::load(self, order))
    }

    /// Numbers that are too large become the largest there is.
    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        // The caller's ordering, argued there.
        Self::store(self, u32::try_from(value).unwrap_or(u32::MAX), order);
    }
}

/// Fences of a machine, or of a model of one.
pub(crate) trait Fences {
    /// An ordinary fence.
    fn fence(order: Ordering);
    /// The cheap half of an asymmetric barrier: to [`everywhere`](Self::everywhere) of another thread it is as a full fence
    /// at this place, and costs no instruction.
    fn here();
    /// The dear half: a full fence in this thread, and in each other at some moment during the call, which no
    /// [`here`](Self::here) of it is reordered with.
    fn everywhere();
}

/// Words by their offset.
pub(crate) trait Memory {
    /// A word of it.
    type Word: Word;
    /// The fences that order accesses to it.
    type Fences: Fences;

    /// The word at `offset`, which is in bounds and aligned.
    fn word(&self, offset: usize) -> &Self::Word;

    /// The word at `offset`, with all that was written before it was stored with release. Also in memory that may only be
    /// read, where Rust has relaxed loads and no others, so that the order comes from a fence.
    #[inline]
    fn load_acquire(&self, offset: usize) -> u64 {
        load_acquire::<Self::Fences>(self.word(offset))
    }
}

/// As [`Memory::load_acquire`], of a word.
#[inline]
pub(crate) fn load_acquire<F: Fences>(word: &impl Word) -> u64 {
    if cfg!(denyut_sanitized) {
        // ThreadSanitizer does not know fences; in its runs nothing is mapped without the right to write.
        return word.load(Ordering::Acquire);
    }
    // Relaxed, and the fence after it makes it an acquire: it synchronizes with the release store that was read.
    let value = word.load(Ordering::Relaxed);
    F::fence(Ordering::Acquire);
    value
}

/// The machine that runs this.
#[derive(Debug)]
pub(crate) enum Machine {}

impl Fences for Machine {
    #[inline(always)]
    fn fence(order: Ordering) {
        // The caller's ordering, argued there.
        fence(order);
    }

    #[inline(always)]
    fn here() {
        // The processor is ordered by `everywhere`; this keeps the compiler from moving a load of the limit above the
        // publication of the row before.
        atomic::compiler_fence(Ordering::SeqCst);
    }

    fn everywhere() {
        barrier_on_all_threads();
    }
}

/// Orders the memory accesses of every thread of this process around this call, as if each had run a full fence at some
/// moment during it. The fast side, an append, then needs none.
///
/// Linux has this as `membarrier`; where it is missing, a fence of our own has to do, which leaves open the few nanoseconds
/// that a store may wait in a processor's buffer.
fn barrier_on_all_threads() {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        use std::sync::OnceLock;
        static EXPEDITED: OnceLock<bool> = OnceLock::new();
        let register = || membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok();
        let barrier = || membarrier(MembarrierCommand::PrivateExpedited).is_ok();
        // A forked child has the parent's memory of having registered, and may have to do it itself.
        if *EXPEDITED.get_or_init(register) && (barrier() || register() && barrier()) {
            return;
        }
    }
    // Sequentially consistent: the stores of limits before it come before the loads of counts after it.
    fence(Ordering::SeqCst);
}
