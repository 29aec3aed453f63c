//! Segments of a table that are damaged and were set aside: an answer that would need one says so instead of lacking rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::model::{TableSchema, Time};
use crate::storage::segment::Segment;

/// Whether answers may lack the rows of segments that were set aside, and how many did.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    pub(crate) allowed: bool,
    answers: AtomicU64,
}

impl Partial {
    pub(crate) fn new(allowed: bool) -> Self {
        Self { allowed, answers: AtomicU64::new(0) }
    }

    /// Scans that left out rows so far.
    pub(crate) fn answers(&self) -> u64 {
        // Relaxed: it is looked at, and orders nothing.
        self.answers.load(Ordering::Relaxed)
    }
}

/// One table's segments that are not read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aside {
    pub(crate) segments: Arc<Vec<Arc<Segment>>>,
    partial: Arc<Partial>,
}

impl Aside {
    pub(crate) fn new(partial: Arc<Partial>) -> Self {
        Self { segments: Arc::default(), partial }
    }

    /// Those of them that `keep` holds for.
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "only SQL takes parts of tables"))]
    pub(crate) fn only(&self, keep: impl Fn(&Segment) -> bool) -> Self {
        let segments = self.segments.iter().filter(|segment| keep(segment)).cloned().collect();
        Self { segments: Arc::new(segments), partial: self.partial.clone() }
    }

    /// An error that names the first segment with rows in the closed range `time`, or anywhere, unless partial answers are
    /// allowed; those are counted.
    ///
    /// Which series the rows are of is not asked: the index that would say so is not believed.
    pub(crate) fn check(&self, schema: &TableSchema, time: Option<(i64, i64)>) -> Result<()> {
        let meets = |segment: &&Arc<Segment>| {
            time.is_none_or(|(low, high)| segment.meta.min_time <= high && low <= segment.meta.max_time)
        };
        let Some(segment) = self.segments.iter().find(meets) else { return Ok(()) };
        if self.partial.allowed {
            // Relaxed: it is looked at, and orders nothing.
            self.partial.answers.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        Err(Error::SegmentAside {
            table: schema.name.clone(),
            segment: segment.meta.id,
            path: segment.path().into(),
            rows: segment.meta.rows,
            min_time: Time::from_nanos(segment.meta.min_time),
            max_time: Time::from_nanos(segment.meta.max_time),
        })
    }
}
