//! The machine that the files are on: inodes, locks, faults, and its end.
//!
//! **Invariant:** one mutex guards it all, and nothing in here holds an [`OpenFile`](super::OpenFile), whose drop takes
//! that mutex.
//!
//! **Invariant:** a machine that is gone never changes again. Its mapped files were copied when it went, so that memory
//! which is still written cannot reach an image.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;

use super::chance::{Odds, Random};
use super::contents::Contents;
use super::film::{Film, Shot};
use super::tree::{ROOT, Tree};
use super::{Fault, FaultKind};
use crate::fs::LockKind;

/// What a mutating call does, as far as faults differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// May need space: create, rename, resize, allocate.
    Change,
    Remove,
    Write,
    Sync,
}

/// A file, by whatever names.
#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) contents: Contents,
    /// Every open of it, and the last failed write-back that was reported there.
    pub(super) opens: BTreeMap<u64, u64>,
    pub(super) locks: Vec<(u64, LockKind)>,
    /// Failed write-backs so far.
    failures: u64,
    /// Nobody was told of the last of them. The next open will be.
    unreported: bool,
}

impl Inode {
    fn open(&mut self, owner: u64) {
        self.opens.insert(owner, self.failures - u64::from(self.unreported));
    }

    fn with(contents: Contents) -> Self {
        Self { contents, ..Self::default() }
    }

    /// A write-back failed, in a sync or behind everybody's back.
    pub(super) fn fail_write_back(&mut self) {
        self.failures += 1;
        self.unreported = true;
    }

    /// Tells `owner`, once, of a failed write-back.
    pub(super) fn report(&mut self, owner: u64) -> io::Result<()> {
        let seen = self.opens.insert(owner, self.failures);
        if seen == Some(self.failures) {
            return Ok(());
        }
        self.unreported = false;
        Err(Errno::IO.into())
    }

    /// As Linux does it, a change of kind gives up the old lock first, also where the new one is refused.
    pub(super) fn try_lock(&mut self, owner: u64, kind: LockKind) -> bool {
        if self.locks.contains(&(owner, kind)) {
            return true;
        }
        self.unlock(owner);
        let free = self.locks.iter().all(|(_, held)| kind == LockKind::Shared && *held == LockKind::Shared);
        if free {
            self.locks.push((owner, kind));
        }
        free
    }

    pub(super) fn unlock(&mut self, owner: u64) {
        self.locks.retain(|(holder, _)| *holder != owner);
    }
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    /// The first operation that it may hit.
    from: u64,
    fault: Fault,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) device: u64,
    pub(super) boot: [u8; 16],
    pub(super) tree: Tree,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) operations: u64,
    pub(super) bytes_written: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) copy_on_write: Option<&'static str>,
    /// Whether files may have two names.
    pub(super) links: bool,
    pub(super) gone: bool,
    /// Calls so far that change nothing.
    pub(super) looks: u64,
    /// The first of those that fails, and whether it is the only one.
    pub(super) blind: Option<(u64, bool)>,
    pub(super) film: Option<Film>,
    faults: Vec<Armed>,
    random: Random,
    /// The last number of an inode or an open file; none comes twice.
    pub(super) last: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            device: random.next(),
            boot: boot(&mut random),
            tree: Tree::new(),
            inodes: BTreeMap::new(),
            operations: 0,
            bytes_written: 0,
            crash_at: None,
            copy_on_write: None,
            links: true,
            gone: false,
            looks: 0,
            blind: None,
            film: None,
            faults: Vec::new(),
            random,
            last: ROOT,
        }
    }

    /// The same device in another life of the process: no opens, no locks, no faults.
    fn successor(&self, random: Random, tree: Tree, contents: impl Iterator<Item = (u64, Inode)>) -> Self {
        let (boot, inodes) = (self.boot, contents.collect());
        let (device, copy_on_write, links, last) = (self.device, self.copy_on_write, self.links, self.last);
        Self { device, boot, tree, inodes, copy_on_write, links, last, random, ..Self::new(0) }
    }

    pub(super) fn crash(&mut self, seed: u64) -> Self {
        self.end();
        self.image(&mut Random::new(seed))
    }

    /// What the next boot finds if power is lost now; the machine goes on.
    pub(super) fn image(&self, random: &mut Random) -> Self {
        let odds = Odds::toss(random);
        let names = odds.part(random);
        let tree = self.tree.image(names, random);
        let mut inodes = Vec::new();
        for inode in tree.referenced() {
            if let Some(file) = self.inodes.get(&inode) {
                let part = odds.part(random);
                inodes.push((inode, Inode::with(file.contents.image(part, random))));
            }
        }
        let next = boot(random);
        // Seeds that are alike would give both machines the same.
        let boot = if next == self.boot { next.map(|byte| !byte) } else { next };
        let seed = Random::new(random.next());
        Self { boot, ..self.successor(seed, tree, inodes.into_iter()) }
    }

    pub(super) fn kill(&mut self) -> Self {
        self.end();
        self.left()
    }

    /// What the next process finds if this one dies now; the machine goes on.
    pub(super) fn left(&self) -> Self {
        let named = self.tree.referenced();
        let inodes = self.inodes.iter().filter(|(inode, _)| named.contains(inode)).map(|(inode, file)| {
            let (failures, unreported) = (file.failures, file.unreported);
            (*inode, Inode { failures, unreported, ..Inode::with(file.contents.copy()) })
        });
        self.successor(self.random.clone(), self.tree.clone(), inodes)
    }

    /// The machine stops here.
    fn end(&mut self) {
        if !self.gone {
            self.gone = true;
            self.inodes.values_mut().for_each(|inode| inode.contents.detach());
        }
    }

    /// For calls that change nothing and cannot fail.
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.gone { Err(io::Error::other("the simulated machine is gone")) } else { Ok(()) }
    }

    /// For calls that change nothing: counts one, and says whether it is to go wrong.
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.alive()?;
        let call = self.looks;
        self.looks += 1;
        match self.blind {
            Some((from, once)) if from <= call => {
                if once {
                    self.blind = None;
                }
                Err(Errno::IO.into())
            }
            _ => Ok(()),
        }
    }

    /// Takes the images of this moment, if there is a film.
    pub(super) fn shoot(&mut self) {
        let Some(mut film) = self.film.take() else { return };
        film.shoot(self);
        self.film = Some(film);
    }

    /// The images since the last call.
    pub(super) fn develop(&mut self) -> Vec<Shot> {
        self.film.as_mut().map(|film| std::mem::take(&mut film.shots)).unwrap_or_default()
    }

    /// Counts a mutating call, and says what is to go wrong with it.
    pub(super) fn mutate(&mut self, call: Call) -> io::Result<Option<FaultKind>> {
        if self.crash_at.is_some_and(|last| self.operations >= last) {
            self.end();
        }
        self.alive()?;
        self.shoot();
        let operation = self.operations;
        self.operations += 1;
        let hit = self.faults.iter().position(|armed| armed.from <= operation && armed.fault.kind.fits(call));
        let Some((hit, armed)) = hit.and_then(|hit| Some((hit, *self.faults.get(hit)?))) else { return Ok(None) };
        if armed.fault.once {
            self.faults.remove(hit);
        }
        Ok(Some(armed.fault.kind))
    }

    /// Counts a mutating call for which every fault is a plain refusal.
    pub(super) fn permit(&mut self, call: Call) -> io::Result<()> {
        self.mutate(call)?.map_or(Ok(()), |kind| Err(kind.error()))
    }

    pub(super) fn arm(&mut self, operations: u64, fault: Fault) {
        self.faults.push(Armed { from: self.operations.saturating_add(operations), fault });
    }

    pub(super) fn disarm(&mut self) {
        self.faults.clear();
        self.blind = None;
    }

    /// How much of a short write gets through: never all.
    pub(super) fn short(&mut self, len: usize) -> usize {
        self.random.below(len)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::Error::other("the simulator lost an inode"))
    }

    /// A new open of `inode`: the number that its locks belong to.
    pub(super) fn open(&mut self, inode: u64) -> io::Result<u64> {
        let owner = self.number();
        self.inode(inode)?.open(owner);
        Ok(owner)
    }

    pub(super) fn close(&mut self, inode: u64, owner: u64) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.opens.remove(&owner);
            file.unlock(owner);
        }
    }

    /// Forgets files that no name, no image and no open can reach any more.
    pub(super) fn sweep(&mut self) {
        let named = self.tree.referenced();
        self.inodes.retain(|inode, file| !file.opens.is_empty() || named.contains(inode));
    }
}

impl FaultKind {
    fn fits(self, call: Call) -> bool {
        match self {
            Self::Eio => true,
            Self::Enospc => matches!(call, Call::Change | Call::Write),
            Self::ShortWrite => call == Call::Write,
            Self::FailedSync => call == Call::Sync,
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Eio | Self::FailedSync => Errno::IO.into(),
            Self::Enospc | Self::ShortWrite => Errno::NOSPC.into(),
        }
    }
}

fn boot(random: &mut Random) -> [u8; 16] {
    (u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes()
}
