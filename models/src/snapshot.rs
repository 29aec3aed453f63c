//! Publishing, cutting, rotating, sealing and recycling.
//!
//! The words of a block and the steps of a cut are the store's code. What stands around them is made small here: the view's
//! pointer is an index that is stored with release and loaded with acquire, which is all that is relied on; queues are lists
//! under a lock; a row is one number.

mod moments;
mod recycling;

use std::sync::Arc;

use crate::machine::{Model, Plain};
use crate::moment::{Counted, Current, Holding};
use crate::sync::{Ordering, Word};
use crate::turn;

/// A block of a file: its count, its limit, and a number a row.
struct Block<M: Model> {
    count: M::Word,
    limit: M::Word,
    rows: Vec<M::Plain>,
}

impl<M: Model> Block<M> {
    fn new(capacity: usize) -> Self {
        let rows = (0..capacity).map(|_| M::plain(0)).collect();
        Self { count: M::word(0), limit: M::word(capacity as u64), rows }
    }

    /// Reads the first rows, which have to be whole: they race with nobody.
    fn read(&self, rows: usize) -> Vec<u64> {
        self.rows[..rows].iter().map(Plain::get).collect()
    }
}

impl<M: Model> Counted for Block<M> {
    fn rows(&self) -> usize {
        turn::published::<M>(&self.count) as usize
    }

    fn call_aside(&self) {
        turn::call_aside(&self.limit);
    }

    fn let_go_on(&self) {
        turn::let_go_on(&self.limit, self.rows.len() as u64);
    }
}

/// One block in a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    block: usize,
    sealed_rows: usize,
    full: bool,
}

/// A view, as whoever loaded it has it.
struct View<M: Model> {
    version: usize,
    seen: Vec<Seen>,
    blocks: Vec<Arc<Block<M>>>,
    /// Rows in segments, a bit each.
    segments: u64,
}

/// The store around the blocks. Versions of the view lie in plain memory, each written once, before its number is.
struct Store<M: Model> {
    blocks: Vec<Arc<Block<M>>>,
    versions: Vec<(M::Plain, M::Plain)>,
    current: M::Word,
    changing: M::Mutex<()>,
    /// Whether appends may go on.
    gate: M::Mutex<bool>,
    /// Rows whose append has returned, for those who depend on it.
    told: M::Word,
}

/// A block in a view is six bits: whether it is there, whether it is full, four for the rows that are sealed.
fn pack(seen: &[Seen]) -> u64 {
    let bits = |seen: &Seen| (1 | u64::from(seen.full) << 1 | (seen.sealed_rows as u64) << 2) << (6 * seen.block);
    seen.iter().map(bits).sum()
}

fn unpack(word: u64, blocks: usize) -> Vec<Seen> {
    let seen = |block: usize| {
        let bits = word >> (6 * block) & 63;
        (bits & 1 == 1).then_some(Seen { block, full: bits & 2 != 0, sealed_rows: (bits >> 2) as usize })
    };
    (0..blocks).filter_map(seen).collect()
}

impl<M: Model> Store<M> {
    /// A store with blocks of these capacities, of which the first `shown` are in its view.
    fn new(capacities: &[usize], shown: usize, changes: usize) -> Arc<Self> {
        let first: Vec<Seen> = (0..shown).map(|block| Seen { block, sealed_rows: 0, full: false }).collect();
        let mut versions = vec![(M::plain(pack(&first)), M::plain(0))];
        versions.extend((0..changes).map(|_| (M::plain(0), M::plain(0))));
        Arc::new(Self {
            blocks: capacities.iter().map(|capacity| Arc::new(Block::new(*capacity))).collect(),
            versions,
            current: M::word(0),
            changing: M::mutex(()),
            gate: M::mutex(true),
            told: M::word(0),
        })
    }

    /// Replaces the view, as `Changing::change` does, while nobody else changes it.
    fn change(&self, change: impl FnOnce(&mut Vec<Seen>, &mut u64)) {
        let view = Current::load(self);
        let (mut seen, mut segments) = (view.seen, view.segments);
        change(&mut seen, &mut segments);
        let version = view.version + 1;
        self.versions[version].0.set(pack(&seen));
        self.versions[version].1.set(segments);
        // Release, as the store's pointer: whoever sees the version sees what it says.
        self.current.store(version as u64, Ordering::Release);
    }

    /// As `Core::show`: under the gate's lock, so that a cut has all blocks that anybody appends to.
    fn show(&self, change: impl FnOnce(&mut Vec<Seen>, &mut u64)) {
        let _changing = M::lock(&self.changing);
        let gate = M::lock(&self.gate);
        assert!(*gate, "nobody shuts it here");
        self.change(change);
    }

    /// Says that a row's append has returned.
    fn tell(&self, rows: u64) {
        // Release: whoever is told is told after the append.
        self.told.store(rows, Ordering::Release);
    }

    fn heard(&self) -> u64 {
        crate::sync::load_acquire::<M>(&self.told)
    }
}

impl<M: Model> Current for Store<M> {
    type View = View<M>;
    type Block = Block<M>;

    fn load(&self) -> View<M> {
        let version = crate::sync::load_acquire::<M>(&self.current) as usize;
        let seen = unpack(self.versions[version].0.get(), self.blocks.len());
        let blocks = seen.iter().map(|seen| self.blocks[seen.block].clone()).collect();
        View { version, seen, blocks, segments: self.versions[version].1.get() }
    }

    fn blocks(view: &View<M>) -> impl Iterator<Item = &Block<M>> {
        view.blocks.iter().map(|block| &**block)
    }

    fn same(one: &View<M>, other: &View<M>) -> bool {
        one.version == other.version
    }
}

impl<M: Model> Holding for Store<M> {
    type Held<'a> = M::Guard<'a, bool>;

    fn hold(&self) -> Self::Held<'_> {
        M::lock(&self.gate)
    }

    fn is_open(held: &Self::Held<'_>) -> bool {
        **held
    }
}

/// A writer at a block, with the blocks that it goes on to when that is full.
struct Writer<M: Model> {
    store: Arc<Store<M>>,
    block: usize,
    row: usize,
    next: std::vec::IntoIter<usize>,
}

impl<M: Model> Writer<M> {
    fn new(store: &Arc<Store<M>>, block: usize, next: Vec<usize>) -> Self {
        Self { store: store.clone(), block, row: 0, next: next.into_iter() }
    }

    /// As `Cursor::append` and `BlockWriter::make_way`.
    fn append(&mut self, number: u64) {
        loop {
            let block = &self.store.blocks[self.block];
            if (self.row as u64) < turn::limit::<M>(&block.limit) {
                block.rows[self.row].set(number);
                self.row += 1;
                turn::publish(&block.count, self.row as u64);
                return;
            }
            if self.row < block.rows.len() {
                let held = self.store.hold();
                assert!(Store::<M>::is_open(&held), "nobody shuts it here");
                block.let_go_on();
                continue;
            }
            let next = self.next.next().expect("the scenario has blocks enough");
            let full = self.block;
            self.store.show(|seen, _| {
                seen.iter_mut().filter(|seen| seen.block == full).for_each(|seen| seen.full = true);
                seen.push(Seen { block: next, sealed_rows: 0, full: false });
            });
            (self.block, self.row) = (next, 0);
        }
    }
}
