//! Images of every operation of a run, without running it again for each.
//!
//! **Invariant:** an image is taken before a mutating call does anything, so it shows what the calls before it left, and
//! the machine goes on as if nobody had looked.

use super::chance::Random;
use super::machine::State;

/// What is taken of each operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// An image by chance, of one operation in so many: of a power loss, and once in eight of the process's death.
    OneIn(u64),
    /// Every image of a power loss, and one of the process's death; if there were more than that many, so many by chance.
    All(u64),
}

/// One image.
#[derive(Debug)]
pub(super) struct Shot {
    pub(super) operation: u64,
    /// Whether the process alone died.
    pub(super) killed: bool,
    pub(super) machine: State,
}

#[derive(Debug)]
pub(super) struct Film {
    take: Take,
    random: Random,
    pub(super) shots: Vec<Shot>,
    /// Operations of which there were too many images to take them all.
    pub(super) sampled: u64,
}

impl Film {
    pub(super) fn new(seed: u64, take: Take) -> Self {
        Self { take, random: Random::new(seed), shots: Vec::new(), sampled: 0 }
    }

    pub(super) fn shoot(&mut self, state: &State) {
        match self.take {
            Take::OneIn(many) => {
                if self.random.next().is_multiple_of(many) {
                    self.one(state);
                }
            }
            Take::All(most) => {
                let mut listing = Random::listing(self.random.next());
                let (before, mut images) = (self.shots.len(), 0);
                // How many there are is known when all were made: what was new in one decides what another chooses of.
                loop {
                    let image = state.image(&mut listing);
                    self.keep(state, false, image);
                    images += 1;
                    if !listing.advance() {
                        break;
                    }
                    if images == most {
                        self.shots.truncate(before);
                        self.sampled += 1;
                        (0..most).for_each(|_| self.one(state));
                        return;
                    }
                }
                self.keep(state, true, state.left());
            }
        }
    }

    fn one(&mut self, state: &State) {
        let killed = self.random.below(8) == 0;
        let seed = self.random.next();
        let image = if killed { state.left() } else { state.image(&mut Random::new(seed)) };
        self.keep(state, killed, image);
    }

    fn keep(&mut self, state: &State, killed: bool, machine: State) {
        self.shots.push(Shot { operation: state.operations, killed, machine });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::Arc;

    use super::super::SimFs;
    use super::Take;
    use crate::fs::{FileSystem, SECTOR_BYTES, read_all};

    const PATH: &str = "/d/file";

    /// A file of three sectors that nothing covers, under a name that is durable.
    fn written(fs: &Arc<SimFs>) {
        fs.create_dir(Path::new("/d")).unwrap();
        let file = fs.create(Path::new(PATH)).unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        file.write_at(&[1; 3 * SECTOR_BYTES], 0).unwrap();
    }

    fn bytes(fs: &SimFs) -> Vec<u8> {
        read_all(&*fs.open(Path::new(PATH)).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn every_subset_of_what_is_not_synced_is_listed() {
        let fs = SimFs::new(1);
        written(&fs);
        fs.film(1, Take::All(100));
        fs.shoot();
        let images = fs.develop();
        let (killed, lost): (Vec<_>, Vec<_>) = images.iter().partition(|(_, killed, _)| *killed);
        assert_eq!((killed.len(), lost.len(), fs.sampled()), (1, 16, 0));
        let found: BTreeSet<Vec<u8>> = lost.iter().map(|(_, _, image)| bytes(image)).collect();
        let subsets = (0..8_u8).map(|subset| {
            let sector = |sector: u8| vec![subset >> sector & 1; SECTOR_BYTES];
            (0..3).flat_map(sector).collect::<Vec<u8>>()
        });
        // Without its length it is empty, whatever sectors there are.
        assert_eq!(found, subsets.chain([Vec::new()]).collect());
        assert_eq!(bytes(&killed.first().unwrap().2), vec![1; 3 * SECTOR_BYTES]);
        fs.film(1, Take::All(15));
        fs.shoot();
        assert_eq!((fs.develop().len(), fs.sampled()), (15, 1));
    }

    #[test]
    fn who_is_filmed_does_the_same() {
        let crash = |filmed: bool| {
            let fs = SimFs::new(2);
            if filmed {
                fs.film(3, Take::OneIn(1));
            }
            written(&fs);
            assert_eq!(fs.develop().len(), if filmed { 4 } else { 0 });
            (0..20).map(|seed| bytes(&fs.crash(seed))).collect::<Vec<_>>()
        };
        assert_eq!(crash(true), crash(false));
    }

    #[test]
    fn a_bad_sector_is_met_by_whoever_looks() {
        let fs = SimFs::new(4);
        written(&fs);
        let file = fs.open(Path::new(PATH)).unwrap().unwrap();
        fs.blind_after(1, true);
        assert!(file.len().is_ok() && file.len().is_err() && file.len().is_ok());
        fs.blind_after(0, false);
        assert!(fs.open(Path::new(PATH)).is_err() && fs.read_dir(Path::new("/d")).is_err());
        assert!(file.write_at(&[2], 0).is_ok());
        fs.repair();
        assert_eq!(bytes(&fs).first(), Some(&2));
    }
}
