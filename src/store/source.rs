//! Where queries get their snapshots.

use std::sync::{Arc, Weak};

use crate::error::{Error, Result};
use crate::maintain::core::Core;
use crate::maintain::running::Progress;
use crate::query::Source;
use crate::snapshot::Snapshot;

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

    fn background(&self) -> Vec<Arc<Progress>> {
        self.0.upgrade().map(|core| core.upkeep.running.list()).unwrap_or_default()
    }
}
