//! The atomics of the publish protocol, and the barrier that lets its fast side go without one.

pub(crate) use std::sync::atomic;

/// Orders the memory accesses of every thread of this process around this call, as if each had run a full fence at some
/// moment during it. The fast side, an append, then needs none.
///
/// Linux has this as `membarrier`; where it is missing, a fence of our own has to do, which leaves open the few nanoseconds
/// that a store may wait in a processor's buffer.
pub(crate) fn barrier_on_all_threads() {
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
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}
