//! Segments that are written and not yet named by the manifest.
//!
//! **Invariant:** their files go when what wrote them fails before its commit, so that a full disk is not filled further
//! by trying again; and stay when it is not known whether the commit took place.

use crate::error::{Error, Result};
use crate::storage::edit::SegmentMeta;
use crate::storage::segment_writer;

use super::core::Core;

/// Segments on their way. Dropped unsettled, their files are removed.
pub(crate) struct Unnamed<'a> {
    core: &'a Core,
    metas: Vec<SegmentMeta>,
}

impl<'a> Unnamed<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self { core, metas: Vec::new() }
    }

    pub(crate) fn push(&mut self, meta: SegmentMeta) {
        self.metas.push(meta);
    }

    pub(crate) fn metas(&self) -> &[SegmentMeta] {
        &self.metas
    }

    /// What became of them: committed, refused, or nobody knows.
    pub(crate) fn settle(mut self, committed: Result<()>) -> Result<Vec<SegmentMeta>> {
        match committed {
            Ok(()) => Ok(std::mem::take(&mut self.metas)),
            Err(error) => {
                if matches!(error, Error::Poisoned { .. }) {
                    self.metas.clear();
                }
                Err(error)
            }
        }
    }
}

impl Drop for Unnamed<'_> {
    fn drop(&mut self) {
        for meta in &self.metas {
            // What cannot be removed now is removed at the next open.
            let _ = segment_writer::remove(&*self.core.fs, &self.core.segments_dir(), meta.id);
        }
    }
}
