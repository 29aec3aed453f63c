//! Ingest-time marks: pairs of (rows, second), each saying that the rows below were there by the end of that second.
//!
//! Kept by the store's clock thread, never by an append. When the page of marks is full the last one moves on, so marks
//! become coarse and never wrong.

use crate::fs::Mapping;

use super::layout::{Layout, MARKS_BYTES};

const MARK_BYTES: usize = 8;
/// Marks that fit.
pub(crate) const MARKS_MAX: usize = MARKS_BYTES / MARK_BYTES;

/// One mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) rows: u32,
    /// Unix seconds, until 2106.
    pub(crate) unix_s: u32,
}

/// The marks written so far, in their order.
pub(crate) fn read(mapping: &Mapping, layout: &Layout) -> Vec<Mark> {
    let mut bytes = vec![0; MARKS_BYTES];
    mapping.read(layout.marks, &mut bytes);
    let mark = |bytes: &[u8]| match bytes {
        &[r0, r1, r2, r3, s0, s1, s2, s3] => {
            Mark { rows: u32::from_le_bytes([r0, r1, r2, r3]), unix_s: u32::from_le_bytes([s0, s1, s2, s3]) }
        }
        _ => Mark { rows: 0, unix_s: 0 },
    };
    bytes.chunks_exact(MARK_BYTES).map(mark).take_while(|mark| mark.rows > 0).collect()
}

/// Writes the mark after `written` others.
pub(crate) fn write(mapping: &Mapping, layout: &Layout, written: usize, mark: Mark) {
    let mut bytes = [0; MARK_BYTES];
    let (rows, unix_s) = bytes.split_at_mut(4);
    rows.copy_from_slice(&mark.rows.to_le_bytes());
    unix_s.copy_from_slice(&mark.unix_s.to_le_bytes());
    mapping.write(layout.marks + written.min(MARKS_MAX - 1) * MARK_BYTES, &bytes);
}
