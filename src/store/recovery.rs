//! What opening a store found.

use std::fmt;
use std::path::PathBuf;

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
    /// What an opening with [`salvage`](crate::Options::salvage) had to leave out, file by file.
    pub left_out: Vec<LeftOut>,
}

/// Something that a damaged file had, and the store has no more.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("kota");
/// # denyut::Store::open(&path)?.close()?;
/// let store = denyut::Store::options().salvage(true).open(&path)?;
/// for left_out in &store.recovery().left_out {
///     eprintln!("{left_out}");
/// }
/// # assert!(store.recovery().is_whole());
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// The file, where it was.
    pub path: PathBuf,
    /// Where it, or a copy of it, is kept now; `None` if there was none.
    pub kept: Option<PathBuf>,
    /// The table whose rows are affected; `None` if it is unknown, or all of the store.
    pub table: Option<String>,
    /// Rows that are left out, as far as anything says how many.
    pub rows: u64,
    /// Bytes of the file that are not used any more.
    pub bytes: u64,
    /// What was wrong.
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, kept, table, rows, bytes, reason } = self;
        write!(f, "{}: {reason}", path.display())?;
        if let Some(table) = table {
            write!(f, "; table {table:?}")?;
        }
        write!(f, "; {rows} rows, {bytes} bytes left out")?;
        match kept {
            Some(kept) => write!(f, ", kept in {}", kept.display()),
            None => Ok(()),
        }
    }
}

impl Recovery {
    /// Whether nothing was left out.
    pub fn is_whole(&self) -> bool {
        self.rows_cut == 0 && self.bytes_cut == 0 && !self.was_poisoned && self.left_out.is_empty()
    }
}
