//! The series log: which tags each series of each table has, in order of first appearance.
//!
//! One log for the store, so that a sync of many tables syncs one file. A payload is {table u32, first id u32, count u32,
//! then tag values}. **Invariant:** a series is in the log, and so survives the process, before any thread can resolve its
//! id; and the log is synced before a commit entry or a manifest frame counts rows of it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::fs::{File, FileSystem};
use crate::model::TableId;

use super::codec::{Decoder, Encoder};
use super::frame_log::{self, FrameLog, FrameTail, Kind};

const KIND: Kind = Kind { magic: *b"dnytsrie", version: 1, what: "series log", synced_one_by_one: false };

/// The open series log.
#[derive(Debug)]
pub(crate) struct SeriesLog {
    log: Mutex<FrameLog>,
}

/// One record: the tags of consecutive series.
pub(crate) struct Record<'a> {
    pub(crate) table: TableId,
    pub(crate) first: u32,
    pub(crate) count: u32,
    values: Decoder<'a>,
}

impl<'a> Record<'a> {
    pub(crate) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut values = Decoder::new(payload);
        Some(Self { table: values.u32()?, first: values.u32()?, count: values.u32()?, values })
    }

    /// The next tag value.
    pub(crate) fn value(&mut self) -> Option<&'a str> {
        self.values.text()
    }
}

impl SeriesLog {
    pub(crate) fn create(fs: &dyn FileSystem, path: &Path) -> Result<Self> {
        // The first frame says nothing; it is there because every log has one.
        let log = FrameLog::create(fs, path, KIND, 1, &[])?;
        Ok(Self { log: Mutex::new(log) })
    }

    /// Opens the log, hands its records' payloads to `take`, and gives the bytes of a torn tail that was cut off. What `take`
    /// refuses stays as it is.
    pub(crate) fn open(
        file: Arc<dyn File>,
        durable_end: u64,
        rewritten: bool,
        take: impl FnOnce(&[Vec<u8>]) -> Result<()>,
    ) -> Result<(Self, u64)> {
        let opened =
            FrameLog::open(file, KIND, durable_end, rewritten, |payloads| take(payloads.get(1..).unwrap_or_default()))?;
        Ok((Self { log: Mutex::new(opened.log) }, opened.cut_bytes))
    }

    /// The log of a store that another process writes. Its first frame is not a record.
    pub(crate) fn tail(file: Arc<dyn File>) -> Result<FrameTail> {
        FrameTail::open(file, KIND)
    }

    /// The payloads of the records in a log's `bytes`; an error if any up to `durable_end` is not what was written.
    pub(crate) fn check(path: &Path, bytes: &[u8], durable_end: u64) -> Result<Vec<Vec<u8>>> {
        Ok(frame_log::scan(path, KIND, bytes, durable_end)?.payloads.into_iter().skip(1).collect())
    }

    fn log(&self) -> MutexGuard<'_, FrameLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the tags of series `id`.
    pub(crate) fn append(&self, table: TableId, id: u32, values: &[&str]) -> Result<()> {
        self.log().append(&record(table, id, values.iter().copied()))
    }

    /// Makes all series written so far durable, and gives the end they reach to. An error must poison the store.
    pub(crate) fn sync(&self) -> Result<u64> {
        let mut log = self.log();
        log.sync()?;
        Ok(log.end())
    }

    /// The file, and where the last record ends that was written.
    pub(crate) fn position(&self) -> (Arc<dyn File>, u64) {
        self.log().position()
    }

    /// The end that is known to be durable.
    pub(crate) fn durable_end(&self) -> u64 {
        self.log().synced_end()
    }

    /// The records of a damaged log that can be read, and the bytes of those that cannot.
    pub(crate) fn remains(bytes: &[u8]) -> (Vec<Vec<u8>>, u64) {
        frame_log::salvage_all(bytes)
    }

    /// Puts a log of these series of each table in the place of the one at `path`.
    pub(crate) fn replace<'a>(
        fs: &dyn FileSystem,
        path: &Path,
        series: impl Iterator<Item = (TableId, u32, &'a [String])>,
    ) -> Result<()> {
        let records = series.map(|(table, id, values)| record(table, id, values.iter().map(String::as_str)));
        let payloads: Vec<Vec<u8>> = std::iter::once(Vec::new()).chain(records).collect();
        crate::fs::publish(fs, path, &frame_log::whole(KIND, 1, payloads.iter().map(Vec::as_slice)))
    }

    /// The error for a record that does not fit.
    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Error {
        Error::corrupted(path, super::frame_log::HEAD_BYTES, reason)
    }
}

fn record<'a>(table: TableId, id: u32, values: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut record = Encoder::default();
    record.u32(table).u32(id).u32(1);
    values.for_each(|value| {
        record.text(value);
    });
    record.into_bytes()
}
