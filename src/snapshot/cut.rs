//! One moment of many counts.
//!
//! Counts of several blocks cannot be loaded at once. If two loads of all of them, one after the other, agree, then what
//! they say was so at the moment between: a row in the cut was there then, and so was every row appended before it. Under
//! load they never agree, so the second try holds the writers back for the time of one pass:
//!
//! 1. take the gate's lock, and call every writer aside (its limit becomes 0);
//! 2. a barrier on all of the process's threads: an append that begins after it sees the limit, takes the slow path, and
//!    waits for the lock;
//! 3. load the counts, let the writers go on, release the lock.
//!
//! An append that began before the barrier may still publish during the pass, and be in the cut or not. A row that depends
//! on it was appended after it returned, so its own append began after the barrier and waits. A writer is held back for a
//! few microseconds, by a mutex, and only while it appends and somebody asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::fs::fork::Origin;
use crate::ingest::live_block::LiveBlock;
use crate::sync::Machine;

use super::view::{View, ViewCell};
use moment::{Counted, Current, Holding};

mod moment;

pub(crate) use moment::look;

/// Where writers that are called aside learn why.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// The process whose writers these are. In a child that was forked from it nobody may wait for the lock.
    pub(crate) origin: Origin,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why no append may go on, if so.
    shut: Option<Shut>,
}

#[derive(Clone, Debug)]
pub(crate) enum Shut {
    Closed,
    Poisoned { path: std::path::PathBuf, reason: String },
}

impl Shut {
    pub(crate) fn error(&self) -> Error {
        match self.clone() {
            Self::Closed => Error::Closed,
            Self::Poisoned { path, reason } => Error::Poisoned { path, reason },
        }
    }
}

/// The gate's lock, held.
pub(crate) struct Held<'a>(MutexGuard<'a, State>);

impl Gate {
    /// Waits for a cut under way.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An error if appends may not go on.
    pub(crate) fn check(&self) -> Result<()> {
        self.origin.check()?;
        self.hold().check()
    }
}

impl Held<'_> {
    /// An error if appends may not go on.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.shut.as_ref().map_or(Ok(()), |shut| Err(shut.error()))
    }

    /// Lets the block's writer go on, if appends may.
    pub(crate) fn resume(&self, block: &LiveBlock) -> Result<()> {
        self.check()?;
        block.let_go_on();
        Ok(())
    }

    /// Stops all appends for good; the first reason stays.
    pub(crate) fn shut(&mut self, shut: Shut, view: &View) {
        self.0.shut.get_or_insert(shut);
        view.blocks().for_each(|view| view.block.call_aside());
    }
}

impl Counted for LiveBlock {
    fn rows(&self) -> usize {
        self.rows()
    }

    fn call_aside(&self) {
        self.call_aside();
    }

    fn let_go_on(&self) {
        self.let_go_on();
    }
}

impl Current for ViewCell {
    type View = Arc<View>;
    type Block = LiveBlock;

    fn load(&self) -> Arc<View> {
        self.load()
    }

    fn blocks(view: &Arc<View>) -> impl Iterator<Item = &LiveBlock> {
        view.blocks().map(|view| &*view.block)
    }

    fn same(one: &Arc<View>, other: &Arc<View>) -> bool {
        Arc::ptr_eq(one, other)
    }
}

impl Holding for Gate {
    type Held<'a> = Held<'a>;

    fn hold(&self) -> Held<'_> {
        self.hold()
    }

    fn is_open(held: &Held<'_>) -> bool {
        held.check().is_ok()
    }
}

/// A view and the published rows of each of its blocks, in the order of [`View::blocks`].
pub(crate) fn take(cell: &ViewCell, gate: &Gate) -> (Arc<View>, Vec<usize>) {
    moment::take::<_, _, Machine>(cell, gate)
}
