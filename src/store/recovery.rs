//! What opening a store found.

/// How the last life of a store ended, and what opening it found and left out.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// let store = denyut::Store::open(dir.path().join("kota"))?;
/// assert!(store.recovery().is_whole());
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Live blocks with rows that no segment has.
    pub live_blocks: usize,
    /// Those rows.
    pub live_rows: u64,
    /// Segments in the manifest.
    pub segments: usize,
    /// Those of them that are damaged and were set aside by a repair.
    pub segments_aside: usize,
    /// Series of all tables.
    pub series: u64,
    /// Rows that had been appended but not synced when the power failed, as far as the disk knows of them. They are not
    /// in the store.
    pub rows_cut: u64,
    /// Bytes of a torn tail that were cut off the manifest and the series log. No sync had answered for them.
    pub bytes_cut: u64,
    /// Whether a failed sync ended the last life.
    pub was_poisoned: bool,
}

impl Recovery {
    /// Whether nothing was left out.
    pub fn is_whole(&self) -> bool {
        self.rows_cut == 0 && self.bytes_cut == 0 && !self.was_poisoned
    }
}
