//! A segment's file as the Parquet reader wants it, and no byte of it unchecked.
//!
//! **Invariant:** what the reader gets has the checksums that were made when the segment was written. The reader believes
//! what it reads, to the point of a panic on a footer that lies.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::error::Error;
use crate::fs::{File, FileSystem};
use crate::storage::series_index::SUM_BYTES;

use super::Lease;

/// A segment file.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    source: Source,
    len: u64,
    sums: Arc<[u32]>,
    met: Met,
}

/// The first error that the reads of a file met. Readers make text of errors on their way up, and a disk that refuses a
/// read would look like bytes that are damaged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met(Arc<Mutex<Option<Error>>>);

impl Met {
    fn keep(&self, error: Error) -> String {
        let text = error.to_string();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        text
    }

    /// What was met, or else that `path` is damaged as the reader says.
    pub(crate) fn or_damaged(&self, path: &Path, error: impl std::fmt::Display) -> Error {
        let met = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        met.unwrap_or_else(|| Error::corrupted(path, 0, error.to_string()))
    }
}

/// Where its bytes come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// An open file.
    Open(Arc<dyn File>),
    /// A file that is opened for each read, so that a merge of a thousand segments needs one descriptor.
    Named(Arc<dyn FileSystem>, Arc<Path>, Arc<Lease>),
}

impl SegmentFile {
    /// `sums` has one checksum for each [`SUM_BYTES`] of the `len` bytes.
    pub(crate) fn new(source: Source, len: u64, sums: Arc<[u32]>) -> Self {
        Self { source, len, sums, met: Met::default() }
    }

    /// What its reads will have met.
    pub(crate) fn met(&self) -> Met {
        self.met.clone()
    }

    fn file(&self) -> crate::Result<Arc<dyn File>> {
        match &self.source {
            Source::Open(file) => Ok(file.clone()),
            Source::Named(fs, path, lease) => fs.open_read(path)?.ok_or_else(|| lease.gone(path)),
        }
    }

    /// Reads the pieces that `length` bytes at `start` touch, checks them, and gives those bytes.
    fn read(&self, start: u64, length: usize) -> crate::Result<Bytes> {
        let piece = SUM_BYTES as u64;
        let first = start / piece * piece;
        let end = (start + length as u64).div_ceil(piece).saturating_mul(piece).min(self.len);
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut bytes = vec![0; size(end - first)];
        let file = self.file()?;
        file.read_at(&mut bytes, first)?;
        let sums = self.sums.iter().skip(size(first / piece));
        for (number, (found, sum)) in bytes.chunks(SUM_BYTES).zip(sums).enumerate() {
            if crc32fast::hash(found) != *sum {
                let at = first + (number * SUM_BYTES) as u64;
                return Err(Error::corrupted(file.path(), at, "these bytes of the segment fail their checksum"));
            }
        }
        let from = size(start - first);
        Ok(Bytes::from(bytes).slice(from..from + length))
    }
}

impl Length for SegmentFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for SegmentFile {
    type T = BufReader<Chunk>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::with_capacity(SUM_BYTES, Chunk { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of {}", self.len)));
        }
        self.read(start, length).map_err(|error| ParquetError::General(self.met.keep(error)))
    }
}

/// A segment file from some offset on.
#[derive(Debug)]
pub(crate) struct Chunk {
    file: SegmentFile,
    at: u64,
}

impl Read for Chunk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let bytes = self.file.read(self.at, len).map_err(|error| io::Error::other(self.file.met.keep(error)))?;
        buffer.split_at_mut(len).0.copy_from_slice(&bytes);
        self.at += len as u64;
        Ok(len)
    }
}
