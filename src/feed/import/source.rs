//! What is imported.

use std::io::Read;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Error;

/// What is imported: a file, a reader or batches.
pub struct Source<'a> {
    pub(crate) name: String,
    pub(crate) kind: Kind<'a>,
}

pub(crate) enum Kind<'a> {
    File(PathBuf),
    Reader(Box<dyn Read + 'a>),
    Batches(SchemaRef, Box<dyn Iterator<Item = Result<RecordBatch, Error>> + 'a>),
}

impl<'a> Source<'a> {
    /// A plain file, no link and no pipe. Text may be compressed by gzip or zstd, which its first bytes tell.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: path.display().to_string(), kind: Kind::File(path) }
    }

    /// Whatever can be read to its end, as text or an Arrow IPC stream; `name` is for errors and for the quarantine.
    pub fn reader(name: impl Into<String>, reader: impl Read + 'a) -> Self {
        Self { name: name.into(), kind: Kind::Reader(Box::new(reader)) }
    }

    /// Batches of one schema, for [`Import::batches`](super::Import::batches).
    pub fn batches<I>(name: impl Into<String>, schema: SchemaRef, batches: I) -> Self
    where
        I: IntoIterator<Item = RecordBatch>,
        I::IntoIter: 'a,
    {
        Self { name: name.into(), kind: Kind::Batches(schema, Box::new(batches.into_iter().map(Ok))) }
    }
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}
