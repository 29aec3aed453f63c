//! Reading everything that has a checksum, and saying what does not hold.
//!
//! What is looked at is fixed in one look at view and manifest; then bytes are read as they are committed: the logs up to
//! their ends, live blocks up to their last commit entry, segments whole. None of these bytes change while the store goes on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::fs::File;
use crate::ingest::check::Checked;
use crate::ingest::live_block::LiveBlock;
use crate::maintain::core::Core;
use crate::model::{TableSchema, Time};
use crate::snapshot::Segment;
use crate::storage::manifest;
use crate::storage::segment::check::Flaw;
use crate::storage::series_log::{Record, SeriesLog};
use crate::storage::series_table::SeriesTable;

use super::progress::{Meter, Report};
use super::units::{Bytes, Count};

/// What [`Store::verify`](crate::Store::verify) read, and what of it is not what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Files that were read.
    pub files: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Segments that were read whole and decoded.
    pub segments: u64,
    /// Segments that were set aside before, and are not looked at.
    pub segments_aside: u64,
    /// Rows in segments and under commit entries of live blocks.
    pub rows: u64,
    /// Rows in live blocks that no sync has covered yet, so that nothing vouches for them.
    pub uncommitted_rows: u64,
    /// What is wrong, in the order it was found.
    pub damages: Vec<Damage>,
}

/// A place in a file that is not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
    /// The table whose rows are affected; `None` if it is all of the store.
    pub table: Option<String>,
    /// The segment, if it is one.
    pub segment: Option<u64>,
    /// Rows that cannot be read right; 0 if nobody knows how many.
    pub rows: u64,
    /// The earliest and latest time of the rows around it, if known.
    pub time: Option<(Time, Time)>,
}

impl Verification {
    /// Whether nothing is damaged.
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, segments, segments_aside, rows, uncommitted_rows, damages } = self;
        write!(f, "{files} files, {}, {segments} segments, {} rows", Bytes(*bytes), Count(*rows))?;
        if *uncommitted_rows > 0 {
            write!(f, ", {uncommitted_rows} rows not synced yet")?;
        }
        if *segments_aside > 0 {
            write!(f, ", {segments_aside} set aside before")?;
        }
        match damages.len() {
            0 => write!(f, ": whole"),
            count => {
                write!(f, ": {count} damaged")?;
                damages.iter().try_for_each(|damage| write!(f, "\n{damage}"))
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, reason, table, rows, time, .. } = self;
        write!(f, "{} at byte {offset}: {reason}", path.display())?;
        if let Some(table) = table {
            write!(f, "; table {table:?}")?;
        }
        if *rows > 0 {
            write!(f, ", {rows} rows")?;
        }
        match time {
            Some((first, last)) => write!(f, " between {first} and {last}"),
            None => Ok(()),
        }
    }
}

/// A log's file, and how far it is to be read.
pub(super) struct Log {
    pub(super) file: Arc<dyn File>,
    pub(super) end: u64,
}

impl Log {
    /// Its bytes; an error if it ends early.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.end).unwrap_or(usize::MAX)];
        self.file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// A segment with what its rows are held against.
pub(super) struct SegmentOf {
    pub(super) schema: Arc<TableSchema>,
    pub(super) series: Arc<SeriesTable>,
    pub(super) segment: Arc<Segment>,
}

/// What there is to look at in an open store.
struct Subject {
    manifest: Log,
    series: Log,
    /// With the rows of each that are in segments.
    blocks: Vec<(Arc<LiveBlock>, u64)>,
    segments: Vec<SegmentOf>,
    segments_aside: usize,
}

impl Core {
    /// Verifies what is committed at this moment.
    pub(crate) fn verify<'a>(&self, report: &'a mut Report<'a>) -> Result<Verification> {
        let Subject { manifest, series, blocks, segments, segments_aside } = self.subject();
        let blocks_bytes = blocks.iter().map(|(block, _)| block.layout.file_bytes as u64).sum::<u64>();
        let total = manifest.end + series.end + blocks_bytes + bytes_of(&segments);
        let mut verifier = Verifier::new(total, report);
        verifier.aside(segments_aside);
        verifier.note(&self.control.check(), self.control.path(), None);
        verifier.manifest(&manifest)?;
        verifier.series(&series)?;
        // Before the segments, and each let go at once: a block that is held cannot be recycled.
        for (block, sealed_rows) in blocks {
            verifier.block(block.check().map(Some), block.file.path(), Some(block.schema.name.clone()), sealed_rows);
            verifier.meter.advance(block.file.path(), block.layout.file_bytes as u64)?;
        }
        segments.iter().try_for_each(|segment| verifier.segment(segment))?;
        Ok(verifier.finish())
    }

    fn subject(&self) -> Subject {
        let changing = self.view.lock();
        let view = changing.view();
        let (file, end) = self.manifest.lock().unwrap_or_else(PoisonError::into_inner).file();
        let manifest = Log { file, end };
        let (file, end) = self.series_log.position();
        let of_table = |table: &Arc<crate::snapshot::TableState>| {
            let (schema, series) = (table.schema.clone(), table.series.clone());
            let with = move |segment: &Arc<Segment>| SegmentOf {
                schema: schema.clone(),
                series: series.clone(),
                segment: segment.clone(),
            };
            table.segments.iter().map(with).collect::<Vec<_>>()
        };
        Subject {
            manifest,
            series: Log { file, end },
            blocks: view.blocks().map(|view| (view.block.clone(), view.sealed_rows as u64)).collect(),
            segments: view.tables.values().flat_map(of_table).collect(),
            segments_aside: view.tables.values().map(|table| table.aside.segments.len()).sum(),
        }
    }
}

pub(super) fn bytes_of(segments: &[SegmentOf]) -> u64 {
    segments.iter().map(|of| of.segment.meta.bytes + of.segment.meta.index_bytes).sum()
}

/// Collects what is found.
pub(super) struct Verifier<'a> {
    pub(super) meter: Meter<'a>,
    found: Verification,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(total_bytes: u64, report: &'a mut Report<'a>) -> Self {
        Self { meter: Meter::new("verify", total_bytes, report), found: Verification::default() }
    }

    pub(super) fn finish(mut self) -> Verification {
        self.found.bytes = self.meter.done_bytes();
        self.found
    }

    /// Notes a file that concerns all of the store, or `table`.
    pub(super) fn note<T>(&mut self, checked: &Result<T>, path: &Path, table: Option<String>) {
        self.found.files += 1;
        self.failed(checked, path, table);
    }

    /// Notes a file that is counted elsewhere, if it is not what it should be.
    pub(super) fn failed<T>(&mut self, checked: &Result<T>, path: &Path, table: Option<String>) {
        if let Err(error) = checked {
            let (path, offset, reason) = place(error, path);
            self.damage(Damage { path, offset, reason, table, segment: None, rows: 0, time: None });
        }
    }

    /// Notes how many segments are not looked at.
    pub(super) fn aside(&mut self, segments: usize) {
        self.found.segments_aside = segments as u64;
    }

    pub(super) fn damage(&mut self, damage: Damage) {
        self.found.damages.push(damage);
    }

    pub(super) fn manifest(&mut self, log: &Log) -> Result<()> {
        let checked = log.read().and_then(|bytes| manifest::check(log.file.path(), &bytes, log.end));
        self.note(&checked, log.file.path(), None);
        self.meter.advance(log.file.path(), log.end)
    }

    pub(super) fn series(&mut self, log: &Log) -> Result<()> {
        let path = log.file.path();
        let checked = log.read().and_then(|bytes| SeriesLog::check(path, &bytes, log.end)).and_then(|records| {
            let damaged = || SeriesLog::damaged(path, "a record that cannot be read");
            records.iter().try_for_each(|record| Record::decode(record).map(drop).ok_or_else(damaged))
        });
        self.note(&checked, path, None);
        self.meter.advance(path, log.end)
    }

    /// Notes what was found of a block's file, of which segments have the first `sealed_rows`.
    pub(super) fn block(
        &mut self,
        checked: Result<Option<Checked>>,
        path: &Path,
        table: Option<String>,
        sealed_rows: u64,
    ) {
        self.found.files += 1;
        match checked {
            Ok(Some(Checked { committed_rows, published_rows, .. })) => {
                self.found.rows += committed_rows.saturating_sub(sealed_rows);
                self.found.uncommitted_rows += published_rows.saturating_sub(committed_rows.max(sealed_rows));
            }
            Ok(None) => {}
            Err(error) => {
                let (path, offset, reason) = place(&error, path);
                self.damage(Damage { path, offset, reason, table, segment: None, rows: 0, time: None });
            }
        }
    }

    pub(super) fn segment(&mut self, of: &SegmentOf) -> Result<()> {
        let SegmentOf { schema, series, segment } = of;
        let meter = &mut self.meter;
        let flaws = segment.check(schema, series, &mut |bytes| meter.advance(segment.path(), bytes))?;
        self.found.files += 2;
        self.found.segments += 1;
        self.found.rows += segment.meta.rows;
        for Flaw { path, offset, reason, rows } in flaws {
            let time = (Time::from_nanos(segment.meta.min_time), Time::from_nanos(segment.meta.max_time));
            let (table, segment) = (Some(schema.name.clone()), Some(segment.meta.id));
            self.damage(Damage { path, offset, reason, table, segment, rows, time: Some(time) });
        }
        Ok(())
    }
}

/// Where an error was met, and what it says.
fn place(error: &Error, path: &Path) -> (PathBuf, u64, String) {
    match error {
        Error::Corrupted { path, offset, reason } => (path.clone(), *offset, reason.clone()),
        other => (path.into(), 0, other.to_string()),
    }
}
