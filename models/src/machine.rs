//! The machines that the models of the protocols run on.
//!
//! [`Loom`] tries all orders of memory accesses that the memory model allows, up to a number of preemptions
//! (`DENYUT_PREEMPTIONS`, 2 unless said), and fails on plain memory that races. [`Shuttle`] tries random schedules
//! (`DENYUT_SCHEDULES`, 10,000 unless said; `DENYUT_SEED`) of larger scenarios, with memory in the order of the schedule.
//!
//! The barrier on all threads has no counterpart in either. P1202 ("Asymmetric fences", Goldblatt, 2022) defines its two
//! halves as full fences towards one another, and so they are here.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use crate::sync::{Fences, Memory, Ordering, Word};

/// A machine that a scenario runs on.
pub(crate) trait Model: Fences + Sized + Send + Sync + 'static {
    type Word: Word + Send + Sync;
    type Plain: Plain;
    type Mutex<T: Send + 'static>: Send + Sync;
    type Guard<'a, T: Send + 'static>: DerefMut<Target = T>;
    type Arc<T: Send + Sync + 'static>: Deref<Target = T> + Clone + Send + Sync;
    type Thread;

    fn word(value: u64) -> Self::Word;
    fn plain(value: u64) -> Self::Plain;
    fn mutex<T: Send + 'static>(value: T) -> Self::Mutex<T>;
    fn lock<T: Send + 'static>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T>;
    fn arc<T: Send + Sync + 'static>(value: T) -> Self::Arc<T>;
    fn spawn(work: impl FnOnce() + Send + 'static) -> Self::Thread;
    fn join(thread: Self::Thread);
    /// Runs a scenario in all its orders, or many of them.
    fn check(scenario: impl Fn() + Send + Sync + 'static);
}

/// Memory without any order, as rows are.
pub(crate) trait Plain: Send + Sync {
    fn get(&self) -> u64;
    fn set(&self, value: u64);
}

/// Words at some offsets, of which a mapping has all.
pub(crate) struct Words<M: Model>(BTreeMap<usize, M::Word>);

impl<M: Model> Words<M> {
    pub(crate) fn new(offsets: impl IntoIterator<Item = usize>) -> Self {
        Self(offsets.into_iter().map(|offset| (offset, M::word(0))).collect())
    }
}

impl<M: Model> Memory for Words<M> {
    type Word = M::Word;
    type Fences = M;

    fn word(&self, offset: usize) -> &M::Word {
        &self.0[&offset]
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

pub(crate) struct Loom;

impl Fences for Loom {
    fn fence(order: Ordering) {
        loom::sync::atomic::fence(order);
    }

    fn here() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }

    fn everywhere() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

impl Word for loom::sync::atomic::AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

pub(crate) struct LoomPlain(loom::cell::UnsafeCell<u64>);

// SAFETY: loom runs one thread at a time, and fails on accesses that race.
#[expect(unsafe_code, reason = "the model of unsafe code")]
unsafe impl Sync for LoomPlain {}

#[expect(unsafe_code, reason = "the model of unsafe code")]
impl Plain for LoomPlain {
    fn get(&self) -> u64 {
        // SAFETY: loom checks that nobody writes it.
        self.0.with(|cell| unsafe { *cell })
    }

    fn set(&self, value: u64) {
        // SAFETY: loom checks that nobody else looks at it.
        self.0.with_mut(|cell| unsafe { *cell = value });
    }
}

impl Model for Loom {
    type Word = loom::sync::atomic::AtomicU64;
    type Plain = LoomPlain;
    type Mutex<T: Send + 'static> = loom::sync::Mutex<T>;
    type Guard<'a, T: Send + 'static> = loom::sync::MutexGuard<'a, T>;
    type Arc<T: Send + Sync + 'static> = loom::sync::Arc<T>;
    type Thread = loom::thread::JoinHandle<()>;

    fn word(value: u64) -> Self::Word {
        Self::Word::new(value)
    }

    fn plain(value: u64) -> Self::Plain {
        LoomPlain(loom::cell::UnsafeCell::new(value))
    }

    fn mutex<T: Send + 'static>(value: T) -> Self::Mutex<T> {
        Self::Mutex::new(value)
    }

    fn lock<T: Send + 'static>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
        mutex.lock().expect("nobody panics")
    }

    fn arc<T: Send + Sync + 'static>(value: T) -> Self::Arc<T> {
        Self::Arc::new(value)
    }

    fn spawn(work: impl FnOnce() + Send + 'static) -> Self::Thread {
        loom::thread::spawn(work)
    }

    fn join(thread: Self::Thread) {
        thread.join().expect("the thread ends well");
    }

    fn check(scenario: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(number("DENYUT_PREEMPTIONS").map_or(2, |bound| bound as usize));
        model.max_branches = 10_000;
        let executions = std::sync::atomic::AtomicU64::new(0);
        let counted = std::sync::Arc::new((executions, scenario));
        let counting = counted.clone();
        model.check(move || {
            counting.0.fetch_add(1, Ordering::Relaxed);
            (counting.1)();
        });
        println!("{} executions, all there are", counted.0.load(Ordering::Relaxed));
    }
}

pub(crate) struct Shuttle;

impl Fences for Shuttle {
    fn fence(_: Ordering) {}

    fn here() {}

    fn everywhere() {}
}

impl Word for shuttle::sync::atomic::AtomicU64 {
    fn load(&self, _: Ordering) -> u64 {
        self.load(Ordering::SeqCst)
    }

    fn store(&self, value: u64, _: Ordering) {
        self.store(value, Ordering::SeqCst);
    }
}

impl Plain for shuttle::sync::atomic::AtomicU64 {
    fn get(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }

    fn set(&self, value: u64) {
        self.store(value, Ordering::SeqCst);
    }
}

impl Model for Shuttle {
    type Word = shuttle::sync::atomic::AtomicU64;
    type Plain = shuttle::sync::atomic::AtomicU64;
    type Mutex<T: Send + 'static> = shuttle::sync::Mutex<T>;
    type Guard<'a, T: Send + 'static> = shuttle::sync::MutexGuard<'a, T>;
    type Arc<T: Send + Sync + 'static> = shuttle::sync::Arc<T>;
    type Thread = shuttle::thread::JoinHandle<()>;

    fn word(value: u64) -> Self::Word {
        Self::Word::new(value)
    }

    fn plain(value: u64) -> Self::Plain {
        Self::Plain::new(value)
    }

    fn mutex<T: Send + 'static>(value: T) -> Self::Mutex<T> {
        Self::Mutex::new(value)
    }

    fn lock<T: Send + 'static>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T> {
        mutex.lock().expect("nobody panics")
    }

    fn arc<T: Send + Sync + 'static>(value: T) -> Self::Arc<T> {
        Self::Arc::new(value)
    }

    fn spawn(work: impl FnOnce() + Send + 'static) -> Self::Thread {
        shuttle::thread::spawn(work)
    }

    fn join(thread: Self::Thread) {
        thread.join().expect("the thread ends well");
    }

    fn check(scenario: impl Fn() + Send + Sync + 'static) {
        let schedules = number("DENYUT_SCHEDULES").unwrap_or(10_000) as usize;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = number("DENYUT_SEED").unwrap_or(now.as_nanos() as u64);
        println!("{schedules} schedules, DENYUT_SEED={seed}");
        let scheduler = shuttle::scheduler::RandomScheduler::new_from_seed(seed, schedules);
        shuttle::Runner::new(scheduler, shuttle::Config::default()).run(scenario);
    }
}

/// A scenario as a test for each machine, on which it is a little larger or smaller.
macro_rules! on_each_machine {
    ($($name:ident),* $(,)?) => {
        mod loom_bounded {$(
            #[test]
            fn $name() {
                super::$name::<$crate::machine::Loom>(false);
            }
        )*}
        mod shuttle_random {$(
            #[test]
            fn $name() {
                super::$name::<$crate::machine::Shuttle>(true);
            }
        )*}
    };
}
pub(crate) use on_each_machine;
