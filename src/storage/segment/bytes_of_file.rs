//! A segment's file as the Parquet reader wants it.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::fs::File;

/// An open segment file.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    file: Arc<dyn File>,
    len: u64,
}

impl SegmentFile {
    pub(crate) fn new(file: Arc<dyn File>, len: u64) -> Self {
        Self { file, len }
    }
}

impl Length for SegmentFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for SegmentFile {
    type T = Chunk;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(Chunk { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of {}", self.len)));
        }
        let mut bytes = vec![0; length];
        self.file.read_at(&mut bytes, start).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(bytes.into())
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
        let target = buffer.split_at_mut(len).0;
        self.file.file.read_at(target, self.at).map_err(io::Error::other)?;
        self.at += len as u64;
        Ok(len)
    }
}
