//! Footers and series indexes of segments, kept in memory up to a number of bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::series_index::SeriesRange;
use super::summary::Directory;

/// What is read of a segment before its rows.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    pub(crate) footer: ArrowReaderMetadata,
    pub(crate) ranges: Arc<[SeriesRange]>,
    /// Checksums of the segment's bytes, piece by piece.
    pub(crate) sums: Arc<[u32]>,
    /// Where its summary is, if it has one.
    pub(crate) summary: Option<Arc<Directory>>,
}

impl SegmentIndex {
    fn bytes(&self) -> usize {
        self.footer.metadata().memory_size()
            + self.ranges.len() * size_of::<SeriesRange>()
            + self.sums.len() * 4
            + self.summary.as_ref().map_or(0, |summary| summary.bytes())
    }
}

/// Indexes by segment. The oldest make room: queries come in sweeps over neighbouring segments, where nothing that looks
/// at single uses does better for its cost.
#[derive(Debug)]
pub(crate) struct MetadataCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<u64, Arc<SegmentIndex>>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl MetadataCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    pub(crate) fn get(&self, segment: u64) -> Option<Arc<SegmentIndex>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).entries.get(&segment).cloned()
    }

    /// Forgets a segment that is gone.
    pub(crate) fn remove(&self, segment: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = state.entries.remove(&segment) {
            state.bytes -= index.bytes();
            state.order.retain(|other| *other != segment);
        }
    }

    pub(crate) fn insert(&self, segment: u64, index: &Arc<SegmentIndex>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.entries.insert(segment, index.clone()).is_none() {
            state.order.push_back(segment);
            state.bytes += index.bytes();
        }
        while state.bytes > self.bytes_max
            && let Some(oldest) = state.order.pop_front()
        {
            state.bytes -= state.entries.remove(&oldest).map_or(0, |index| index.bytes());
        }
    }
}
