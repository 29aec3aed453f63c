//! When the files of segments leave the disk.
//!
//! **Invariant:** the manifest has forgotten a segment before its files go, and nobody in this process looks at it: the
//! last handle sends them home when it is dropped. A crash in between leaves files that the next open removes.

use std::sync::Arc;

use crate::storage::segment::{Retired, Segment};

use super::core::Core;

impl Core {
    /// Has the files of segments removed that the manifest no longer names, as soon as nobody looks at them.
    pub(crate) fn release_segments(&self, segments: Vec<Arc<Segment>>) {
        segments.iter().for_each(|segment| segment.retire(self.upkeep.retired.0.clone()));
        drop(segments);
        if !self.options.background {
            self.remove_all_retired();
        }
    }

    /// Removes the files of a segment that nobody looks at any more.
    pub(crate) fn remove_retired(&self, retired: &Retired) {
        self.cache.remove(retired.id);
        match retired.paths.iter().try_for_each(|path| self.fs.remove(path)) {
            Ok(()) => self.counters.segments_removed.add(1),
            // The next open does it.
            Err(error) => tracing::warn!(%error, segment = retired.id, "a segment's files were not removed"),
        }
    }

    /// Removes those of all that came home so far.
    pub(crate) fn remove_all_retired(&self) {
        while let Ok(retired) = self.upkeep.retired.1.try_recv() {
            self.remove_retired(&retired);
        }
    }
}
