//! The control page: states, cuts, pins, and blocks that are recycled beside a reader in another process.
//!
//! The page is the store's code. A file's lock is what the kernel makes of it: a word under a lock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::machine::{Model, Plain, Words, on_each_machine};
use crate::page::{Ends, Page, State};
use crate::sync::{Machine, Memory, Ordering, Word};
use crate::turn;

on_each_machine!(
    states_are_whole_and_none_follows_a_later_one,
    cuts_are_whole,
    a_cut_begun_later_has_what_was_known,
    a_pin_that_is_held_keeps_its_files,
    a_block_that_is_held_is_not_recycled,
);

type Shared<M> = Arc<Page<Words<M>>>;

/// Memory that remembers which of its words were looked at.
#[derive(Default)]
struct Recorder(RefCell<BTreeMap<usize, &'static AtomicU64>>);

impl Memory for Recorder {
    type Word = AtomicU64;
    type Fences = Machine;

    fn word(&self, offset: usize) -> &AtomicU64 {
        self.0.borrow_mut().entry(offset).or_insert_with(|| Box::leak(Box::default()))
    }
}

/// A page of so many slots, with the words that its steps look at and no others: a model has to know all of them before its
/// threads begin.
fn page<M: Model>(slots: u64) -> Shared<M> {
    static KNOWN: Mutex<BTreeMap<u64, Vec<usize>>> = Mutex::new(BTreeMap::new());
    let offsets = KNOWN.lock().unwrap().entry(slots).or_insert_with(|| offsets(slots)).clone();
    Arc::new(Page(Words::new(offsets)))
}

fn offsets(slots: u64) -> Vec<usize> {
    let recorded = Page(Recorder::default());
    let blocks = || (0..slots).map(|slot| (slot, 1));
    for _ in 0..2 {
        recorded.publish(Ends::default(), 1, blocks());
        let number = recorded.begin_cut();
        recorded.end_cut(number, &blocks().map(|block| (block, 1)).collect::<Vec<_>>());
        assert!(recorded.state().is_some() && recorded.cut_after(0).is_some());
    }
    recorded.0.0.borrow().keys().copied().collect()
}

/// A state of which every word follows from `number`.
fn state_of(number: u64) -> (Ends, u64, Vec<(u64, u64)>) {
    let ends = Ends { manifest_number: number, manifest_end: number * 2, series_end: number * 3, clock: number * 5 };
    (ends, number * 7, vec![(number * 11, number * 13)])
}

fn publish<M: Model>(page: &Page<Words<M>>, number: u64) {
    let (ends, pin, blocks) = state_of(number);
    page.publish(ends, pin, blocks.into_iter());
}

fn states_are_whole_and_none_follows_a_later_one<M: Model>(large: bool) {
    let states = if large { 12 } else { 3 };
    M::check(move || {
        let page = page::<M>(1);
        publish(&page, 1);
        let publishing = page.clone();
        let writer = M::spawn(move || (2..=states).for_each(|number| publish(&publishing, number)));
        let mut last = 0;
        for _ in 0..if large { 6 } else { 1 } {
            let Some(State { epoch, ends, pin, blocks }) = page.state() else { continue };
            assert_eq!((ends, pin, blocks), state_of(epoch), "words of two states");
            assert!(epoch >= last, "{epoch} after {last}");
            last = epoch;
        }
        M::join(writer);
        assert_eq!(page.state().map(|state| state.epoch), Some(states), "the last state stays");
    });
}

fn cuts_are_whole<M: Model>(large: bool) {
    let cuts = if large { 12 } else { 3 };
    M::check(move || {
        let page = page::<M>(2);
        page.publish(Ends::default(), 1, [(1, 1), (2, 1)].into_iter());
        let cutting = page.clone();
        let cutter = M::spawn(move || {
            for _ in 0..cuts {
                let number = cutting.begin_cut();
                cutting.end_cut(number, &[((1, 1), number), ((2, 1), number)]);
            }
        });
        for _ in 0..if large { 6 } else { 1 } {
            let begun = page.cuts_begun();
            let Some(cut) = page.cut_after(0) else { continue };
            assert_eq!(cut.epoch, 1);
            assert_eq!(cut.rows[0], cut.rows[1], "rows of two cuts");
            assert!(cut.rows[0] + 1 >= begun, "{cut:?} after {begun} were begun");
        }
        M::join(cutter);
    });
}

fn a_cut_begun_later_has_what_was_known<M: Model>(large: bool) {
    let rows = if large { 6 } else { 1 };
    M::check(move || {
        let page = page::<M>(1);
        page.publish(Ends::default(), 1, [(1, 1)].into_iter());
        let shared = Arc::new((M::word(0), M::word(0)));
        let writing = shared.clone();
        let writer = M::spawn(move || {
            for row in 1..=rows {
                turn::publish(&writing.0, row);
                // Release: whoever is told is told after the append.
                writing.1.store(row, Ordering::Release);
            }
        });
        let (cutting, counting) = (page.clone(), shared.clone());
        let cutter = M::spawn(move || {
            for _ in 0..rows {
                let number = cutting.begin_cut();
                let rows = turn::published::<M>(&counting.0);
                cutting.end_cut(number, &[((1, 1), rows)]);
            }
        });
        let known = crate::sync::load_acquire::<M>(&shared.1);
        let begun = page.cuts_begun();
        for _ in 0..rows {
            if let Some(cut) = page.cut_after(begun) {
                assert!(cut.rows[0] >= known, "{cut:?}, though {known} rows were known before it was begun");
            }
        }
        [writer, cutter].into_iter().for_each(M::join);
    });
}

/// A file's lock, and whether the file has its name still.
struct File<M: Model> {
    readers: M::Mutex<(u32, bool)>,
    content: M::Plain,
}

impl<M: Model> File<M> {
    fn new(content: u64) -> Self {
        Self { readers: M::mutex((0, true)), content: M::plain(content) }
    }

    /// Opens it and takes the shared lock; false if it is gone.
    fn hold(&self) -> bool {
        let mut readers = M::lock(&self.readers);
        readers.0 += u32::from(readers.1);
        readers.1
    }

    fn let_go(&self) {
        M::lock(&self.readers).0 -= 1;
    }
}

fn a_pin_that_is_held_keeps_its_files<M: Model>(large: bool) {
    let states = if large { 5 } else { 2 };
    M::check(move || {
        let page = page::<M>(1);
        let pins: Arc<Vec<File<M>>> = Arc::new((0..=states).map(|pin| File::new(pin as u64 + 1)).collect());
        page.publish(Ends::default(), 0, std::iter::empty());
        // As `Core::release_segments`: the next state has the next pin; files of the pin before go if nobody holds it.
        let (publishing, sweeping) = (page.clone(), pins.clone());
        let store = M::spawn(move || {
            for pin in 1..states {
                publishing.publish(Ends::default(), pin as u64, std::iter::empty());
                let past = &sweeping[pin - 1];
                let mut readers = M::lock(&past.readers);
                if readers.0 == 0 {
                    readers.1 = false;
                    drop(readers);
                    past.content.set(0);
                }
            }
        });
        // As `Following::take_pin`: lock the pin of the state, then see that the state is still current.
        for _ in 0..if large { 3 } else { 1 } {
            let Some(state) = page.state() else { continue };
            let pin = &pins[state.pin as usize];
            if !pin.hold() {
                continue;
            }
            if page.epoch() == state.epoch {
                assert_eq!(pin.content.get(), state.pin + 1, "the files of a pin that is held are gone");
            }
            pin.let_go();
        }
        M::join(store);
    });
}

/// A live block's file beside a reader of another process: its lock, its header, its words, its rows.
struct BlockFile<M: Model> {
    lock: M::Mutex<u32>,
    generation: M::Plain,
    count: M::Word,
    row: M::Plain,
}

fn a_block_that_is_held_is_not_recycled<M: Model>(large: bool) {
    let lives = if large { 5 } else { 2 };
    M::check(move || {
        let page = page::<M>(1);
        let file = Arc::new(BlockFile::<M> {
            lock: M::mutex(0),
            generation: M::plain(1),
            count: M::word(0),
            row: M::plain(0),
        });
        page.publish(Ends::default(), 1, [(1, 1)].into_iter());
        let (publishing, writing) = (page.clone(), file.clone());
        let store = M::spawn(move || {
            for generation in 1..=lives {
                if generation > 1 {
                    // Sealed: no state names it any more. Then it is recycled, if nobody looks at it.
                    publishing.publish(Ends::default(), 1, std::iter::empty());
                    let readers = M::lock(&writing.lock);
                    if *readers > 0 {
                        return;
                    }
                    writing.count.store(0, Ordering::Relaxed);
                    writing.row.set(0);
                    writing.generation.set(generation);
                    drop(readers);
                    publishing.publish(Ends::default(), 1, [(1, generation)].into_iter());
                }
                writing.row.set(generation * 10);
                turn::publish(&writing.count, 1);
            }
        });
        for _ in 0..if large { 3 } else { 1 } {
            // As `Following::look_at` and `observe`: the lock, then the generation, then what the count says.
            let Some(state) = page.state() else { continue };
            let Some((_, generation)) = state.blocks.first().copied() else { continue };
            *M::lock(&file.lock) += 1;
            if file.generation.get() == generation && turn::published::<M>(&file.count) == 1 {
                assert_eq!(file.row.get(), generation * 10, "a row of another life");
            }
            *M::lock(&file.lock) -= 1;
        }
        M::join(store);
    });
}
