//! What a snapshot has: whole rows, those that it must have, each once, and of one moment.

use std::sync::Arc;

use super::{Block, Seen, Store, View, Writer};
use crate::machine::{Model, on_each_machine};
use crate::moment::{Counted, Current, agree, take};

on_each_machine!(
    published_rows_are_whole,
    two_looks_that_agree_are_one_moment,
    a_cut_that_has_a_row_has_the_row_before_it_of_the_same_thread,
    a_cut_that_has_a_row_has_the_row_that_it_depends_on,
    a_snapshot_has_each_row_whose_append_returned_before_it,
    a_row_is_in_one_place_of_a_snapshot,
);

/// The counts of one moment and the view that they are of.
fn cut<M: Model>(store: &Store<M>) -> (View<M>, Vec<usize>) {
    take::<_, _, M>(store, store)
}

/// All rows of a snapshot: those of segments, and those of blocks from the sealed ones on.
fn numbers<M: Model>(store: &Store<M>) -> Vec<u64> {
    let (view, rows) = cut(store);
    let mut found: Vec<u64> = (0..64).filter(|number| view.segments >> number & 1 == 1).collect();
    for ((seen, block), rows) in view.seen.iter().zip(Store::blocks(&view)).zip(rows) {
        found.extend(block.read(rows).into_iter().skip(seen.sealed_rows));
    }
    found.sort_unstable();
    found
}

fn published_rows_are_whole<M: Model>(large: bool) {
    let rows = if large { 20 } else { 2 };
    M::check(move || {
        let store = Store::<M>::new(&[rows, rows], 2, 0);
        let writer = |block: usize| {
            let mut writer = Writer::new(&store, block, Vec::new());
            M::spawn(move || (0..rows as u64).for_each(|row| writer.append(7 + row)))
        };
        let writers = [writer(0), writer(1)];
        for block in &store.blocks {
            let found = block.read(block.rows());
            assert!(found.iter().zip(7..).all(|(found, number)| *found == number), "{found:?}");
        }
        writers.into_iter().for_each(M::join);
        assert!(store.blocks.iter().all(|block| block.rows() == rows));
    });
}

/// Appends alternately to the one and the other, from one thread.
fn alternate<M: Model>(store: &Arc<Store<M>>, (first, second): (usize, usize), rows: u64) -> M::Thread {
    let (mut first, mut second) = (Writer::new(store, first, Vec::new()), Writer::new(store, second, Vec::new()));
    M::spawn(move || {
        for row in 0..rows {
            first.append(row);
            second.append(row);
        }
    })
}

fn two_looks_that_agree_are_one_moment<M: Model>(large: bool) {
    let rows = if large { 10 } else { 2 };
    // Either order of looking must be safe, so the second writer goes the other way round.
    for (first, second) in [(0, 1), (1, 0)] {
        M::check(move || {
            let store = Store::<M>::new(&[rows, rows], 2, 0);
            let writer = alternate(&store, (first, second), rows as u64);
            let counts = |store: &Store<M>| store.blocks.iter().map(|block| block.rows()).collect::<Vec<_>>();
            if let Some(counts) = agree(|| counts(&store)) {
                assert!(counts[second] <= counts[first], "{counts:?}: a row without the one before it");
            }
            M::join(writer);
        });
    }
}

fn a_cut_that_has_a_row_has_the_row_before_it_of_the_same_thread<M: Model>(large: bool) {
    let rows = if large { 6 } else { 1 };
    for (first, second) in [(0, 1), (1, 0)] {
        M::check(move || {
            let store = Store::<M>::new(&[rows, rows], 2, 0);
            let writer = alternate(&store, (first, second), rows as u64);
            for _ in 0..if large { 3 } else { 1 } {
                let (view, counts) = cut(&store);
                assert!(counts[second] <= counts[first], "{counts:?}: a row without the one before it");
                Store::blocks(&view).zip(counts).for_each(|(block, rows)| drop(block.read(rows)));
            }
            M::join(writer);
        });
    }
}

fn a_cut_that_has_a_row_has_the_row_that_it_depends_on<M: Model>(large: bool) {
    let rows = if large { 4 } else { 1 };
    for (first, second) in [(0, 1), (1, 0)] {
        M::check(move || {
            let store = Store::<M>::new(&[rows, rows], 2, 0);
            let (mut cause, mut effect) =
                (Writer::new(&store, first, Vec::new()), Writer::new(&store, second, Vec::new()));
            let telling = store.clone();
            let causing = M::spawn(move || {
                for row in 1..=rows as u64 {
                    cause.append(row);
                    telling.tell(row);
                }
            });
            let hearing = store.clone();
            let following = M::spawn(move || {
                for _ in 0..rows {
                    if effect.row < hearing.heard() as usize {
                        effect.append(hearing.heard());
                    }
                }
            });
            let (view, counts) = cut(&store);
            let blocks: Vec<&Block<M>> = Store::blocks(&view).collect();
            let effects = blocks[second].read(counts[second]);
            assert!(effects.iter().all(|cause| *cause <= counts[first] as u64), "{effects:?} of {counts:?}");
            [causing, following].into_iter().for_each(M::join);
        });
    }
}

fn a_snapshot_has_each_row_whose_append_returned_before_it<M: Model>(large: bool) {
    // Blocks of one row, so that each row but the first has its writer take the next block.
    let rows: usize = if large { 6 } else { 2 };
    M::check(move || {
        let capacities: Vec<usize> = (0..rows).map(|_| 1).chain([2]).collect();
        // The other writer's block is the last; the first writer's come one after the other.
        let store = Store::<M>::new(&capacities, 1, rows);
        store.show(|seen, _| seen.push(Seen { block: rows, sealed_rows: 0, full: false }));
        let mut writer = Writer::new(&store, 0, (1..rows).collect());
        let telling = store.clone();
        let writing = M::spawn(move || {
            for row in 0..rows as u64 {
                writer.append(row);
                telling.tell(row + 1);
            }
        });
        let (mut other, hearing) = (Writer::new(&store, rows, Vec::new()), store.clone());
        let other = M::spawn(move || {
            if hearing.heard() == rows as u64 {
                other.append(60);
            }
        });
        let heard = store.heard();
        let mut found = numbers(&store);
        if found.last() == Some(&60) {
            found.pop();
            assert_eq!(found.len(), rows, "a row without those that it was appended after: {found:?}");
        }
        assert!(found.len() as u64 >= heard, "{found:?}, though {heard} appends had returned");
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "a row without the one before it");
        [writing, other].into_iter().for_each(M::join);
    });
}

/// As `Core::seal_alone`: what the view says is read before the count, so where it says full the count is final.
fn seal<M: Model>(store: &Store<M>, block: usize) {
    let view = Current::load(store);
    let Some(at) = view.seen.iter().position(|seen| seen.block == block) else { return };
    let done = view.seen[at].full;
    let rows = view.blocks[at].rows();
    let segment = view.blocks[at].read(rows).iter().fold(0, |bits, number| bits | 1 << number);
    let _changing = M::lock(&store.changing);
    store.change(|seen, segments| {
        *segments |= segment;
        if done {
            seen.retain(|seen| seen.block != block);
        } else {
            seen.iter_mut().filter(|seen| seen.block == block).for_each(|seen| seen.sealed_rows = rows);
        }
    });
}

fn a_row_is_in_one_place_of_a_snapshot<M: Model>(large: bool) {
    let (rows, seals) = if large { (6, 6) } else { (2, 1) };
    M::check(move || {
        // A first block of two rows, so that it is sealed full, or while its writer goes on.
        let capacities: Vec<usize> = [2].into_iter().chain((0..rows).map(|_| 1)).collect();
        let store = Store::<M>::new(&capacities, 1, rows + seals + 1);
        let mut writer = Writer::new(&store, 0, (1..=rows).collect());
        writer.append(0);
        store.tell(1);
        let telling = store.clone();
        let writing = M::spawn(move || {
            for row in 1..=rows as u64 {
                writer.append(row);
                telling.tell(row + 1);
            }
        });
        let sealing = store.clone();
        let sealer = M::spawn(move || (0..seals).for_each(|turn| seal(&sealing, turn / 2)));
        let heard = store.heard();
        let found = numbers(&store);
        assert!(found.len() as u64 >= heard, "{found:?}, though {heard} appends had returned");
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "a row is twice there, or not at all");
        [writing, sealer].into_iter().for_each(M::join);
    });
}
