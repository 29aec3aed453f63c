//! Where queries get their snapshots.

use std::sync::{Arc, Weak};

use crate::error::{Error, Result};
use crate::maintain::core::Core;
use crate::maintain::pins::PinView;
use crate::maintain::running::Progress;
use crate::query::Source;
use crate::snapshot::Snapshot;
use crate::snapshot::follower::Follower;
use crate::snapshot::last::LastTables;

/// SQL's functions of the floor below.
#[cfg(feature = "feed")]
pub(super) const FUNCTIONS: &[crate::query::extension::Function] = crate::feed::FUNCTIONS;
#[cfg(not(feature = "feed"))]
pub(super) const FUNCTIONS: &[crate::query::extension::Function] = &[];

/// The open store as the query engine sees it. Weak, so that a session that is kept does not keep the store open.
pub(super) struct CoreSource(pub(super) Weak<Core>);

impl Source for CoreSource {
    fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let core = self.0.upgrade().ok_or(Error::Closed)?;
        core.check_open()?;
        Ok(core.snapshot())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.0.upgrade().map(|core| core.count()).unwrap_or_default()
    }

    fn pins(&self) -> Vec<PinView> {
        self.0.upgrade().map(|core| core.pins.list()).unwrap_or_default()
    }

    fn last(&self) -> Option<Arc<LastTables>> {
        self.0.upgrade().map(|core| core.last.clone())
    }

    fn background(&self) -> Vec<Arc<Progress>> {
        self.0.upgrade().map(|core| core.upkeep.running.list()).unwrap_or_default()
    }
}

/// A store that another process writes.
pub(super) struct FollowerSource(pub(super) Weak<Follower>);

impl Source for FollowerSource {
    fn snapshot(&self) -> Result<Arc<Snapshot>> {
        self.0.upgrade().ok_or(Error::Closed)?.snapshot()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.0.upgrade().map(|follower| follower.count()).unwrap_or_default()
    }

    fn last(&self) -> Option<Arc<LastTables>> {
        self.0.upgrade().map(|follower| follower.last.clone())
    }

    /// The pin that this process holds; what it keeps is known to the process that writes.
    fn pins(&self) -> Vec<PinView> {
        let pin = self.0.upgrade().and_then(|follower| follower.pin());
        let view = |pin: Arc<crate::storage::pin::HeldPin>| PinView {
            pin: pin.number,
            age: None,
            held: true,
            segments: 0,
            bytes: 0,
        };
        pin.map(view).into_iter().collect()
    }
}
