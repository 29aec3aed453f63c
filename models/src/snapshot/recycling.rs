//! A block's file is used again when nobody of this process looks at it any more.

use std::sync::Arc;

use super::Block;
use crate::machine::{Model, Plain, on_each_machine};
use crate::moment::Counted;
use crate::sync::{Ordering, Word};
use crate::turn;

on_each_machine!(a_file_is_used_again_when_its_last_reader_has_gone);

/// One life of a file, as `LiveBlock`: it goes home when its last handle is dropped.
struct Life<M: Model> {
    file: Arc<Block<M>>,
    sealed: M::Word,
    home: Home<M>,
}

/// As the channel to the recycler.
type Home<M> = Arc<<M as Model>::Mutex<Vec<(Arc<Block<M>>, bool)>>>;

impl<M: Model> Drop for Life<M> {
    fn drop(&mut self) {
        let sealed = crate::sync::load_acquire::<M>(&self.sealed) == 1;
        M::lock(&self.home).push((self.file.clone(), sealed));
    }
}

/// As `BlockPool::recycle`, and handing out.
fn recycle<M: Model>(file: &Arc<Block<M>>) {
    file.count.store(0, Ordering::Relaxed);
    file.rows.iter().for_each(|row| row.set(0));
    turn::let_go_on(&file.limit, file.rows.len() as u64);
}

fn a_file_is_used_again_when_its_last_reader_has_gone<M: Model>(large: bool) {
    let lives = if large { 4 } else { 1 };
    M::check(move || {
        let home: Home<M> = Arc::new(M::mutex(Vec::new()));
        let life =
            |file: Arc<Block<M>>, home: &Home<M>| M::arc(Life::<M> { file, sealed: M::word(0), home: home.clone() });
        let first = life(Arc::new(Block::new(1)), &home);
        first.file.rows[0].set(1);
        turn::publish(&first.file.count, 1);
        let view = Arc::new(M::mutex(Some((first, 1_u64))));
        // Seals what the view has, and takes it out.
        let (sealing, from) = (view.clone(), home.clone());
        let sealer = M::spawn(move || {
            for number in 2..2 + lives {
                if let Some((life, _)) = M::lock(&sealing).take() {
                    // Release, as `LiveBlock::set_sealed`: who takes the file home sees it.
                    life.sealed.store(1, Ordering::Release);
                }
                // Whoever writes next takes a file that came home, if one has.
                let Some((file, sealed)) = M::lock(&from).pop() else { continue };
                assert!(sealed, "a file came home whose rows are nowhere else");
                recycle(&file);
                file.rows[0].set(number);
                turn::publish(&file.count, 1);
                let next = M::arc(Life::<M> { file, sealed: M::word(0), home: from.clone() });
                *M::lock(&sealing) = Some((next, number));
            }
        });
        for _ in 0..if large { 3 } else { 2 } {
            let seen = M::lock(&view).as_ref().map(|(life, number)| (life.clone(), *number));
            let Some((life, number)) = seen else { continue };
            let found = life.file.read(life.file.rows());
            assert_eq!(found, [number], "the rows of another life");
        }
        M::join(sealer);
        // What is left goes home unsealed, as at the end of a process.
        drop(M::lock(&view).take());
    });
}
