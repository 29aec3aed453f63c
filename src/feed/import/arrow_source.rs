//! Parquet, and Arrow's files and streams, as content. Their readers believe what lengths a file spells; so what is not
//! there is found out before room is made for it, and a panic of theirs is an error of the import.

use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamDecoder, read_footer_length};
use arrow::ipc::root_as_footer;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};

use super::Import;
use super::input::{FileRead, failed};
use super::options::Format;
use super::rows::Coded;
use crate::error::{Error, Result};
use crate::fs::File;

/// Rows of a batch of Parquet at a time.
const BATCH_ROWS: usize = 8_192;
/// Bytes of a stream read at a time.
const STREAM_READ_BYTES: u64 = 256 << 10;
/// The footer's length and the magic word, at the end of a file.
const TAIL_BYTES: usize = 10;
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// A file's content, and its columns if it says them.
pub(super) fn arrow_file<'a>(
    name: &str,
    import: &Import,
    file: Arc<dyn File>,
) -> Result<(Box<dyn Read + 'a>, Option<SchemaRef>)> {
    let wrong = |message: String| Error::import(name, 0, message);
    let is_ipc_file = || -> Result<bool> {
        let mut magic = [0; 6];
        Ok(file.len()? >= 12 && file.read_at(&mut magic, 0).map(|()| magic == *b"ARROW1")?)
    };
    match import.format {
        Format::Parquet => {
            let chunks = Chunks(file);
            let options = ArrowReaderOptions::new();
            let builder = || ParquetRecordBatchReaderBuilder::try_new_with_options(chunks, options);
            let builder = caught(name, || builder().map_err(|error| wrong(error.to_string())))?;
            let metadata = builder.metadata();
            let content: i64 = metadata.row_groups().iter().map(|group| group.total_byte_size().max(0)).sum();
            let limit = import.limits.content_bytes_max;
            if content.unsigned_abs() > limit {
                return Err(Error::LimitExceeded {
                    limit: "content_bytes_max",
                    max: limit,
                    found: content.unsigned_abs(),
                    place: format!("{name:?}"),
                });
            }
            let schema = builder.schema().clone();
            let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| wrong(error.to_string()))?;
            Ok(coded(name, schema, batches))
        }
        Format::ArrowIpc if is_ipc_file()? => {
            check_blocks(name, &*file)?;
            let read = Seeking { read: FileRead::new(file.clone(), 0)?, file };
            let reader = caught(name, || FileReader::try_new(read, None).map_err(|error| wrong(error.to_string())))?;
            Ok(coded(name, reader.schema(), reader))
        }
        _ => arrow_reader(name, import, Box::new(FileRead::new(file, 0)?)),
    }
}

/// A reader's content, and its columns if it says them.
pub(super) fn arrow_reader<'a>(
    name: &str,
    import: &Import,
    reader: Box<dyn Read + 'a>,
) -> Result<(Box<dyn Read + 'a>, Option<SchemaRef>)> {
    let wrong = |message: String| Error::import(name, 0, message);
    match import.format {
        Format::Parquet => Err(wrong("Parquet is read from its end: give the file".into())),
        Format::ArrowIpc => {
            let mut stream = Stream::new(name, reader)?;
            let schema = caught(name, || stream.schema())?;
            Ok(coded(name, schema, stream))
        }
        _ => Ok((reader, None)),
    }
}

/// Batches of a file or a stream, as content.
fn coded<'a, E: std::fmt::Display>(
    name: &str,
    schema: SchemaRef,
    batches: impl Iterator<Item = std::result::Result<RecordBatch, E>> + 'a,
) -> (Box<dyn Read + 'a>, Option<SchemaRef>) {
    let (source, mut batches) = (name.to_string(), Some(batches));
    let next = move || {
        let read = || match batches.as_mut().and_then(Iterator::next) {
            None => Ok(None),
            Some(batch) => batch.map(Some).map_err(|error| Error::import(&source, 0, error.to_string())),
        };
        let next = caught(&source, read).transpose()?;
        if next.is_err() {
            batches = None;
        }
        Some(next)
    };
    (Box::new(Coded::new(name.into(), schema.clone(), Box::new(std::iter::from_fn(next)))), Some(schema))
}

/// What `read` gives. The readers of Parquet and of Arrow believe what they read to the point of a panic.
fn caught<T>(name: &str, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(Error::import(name, 0, "it cannot be decoded"));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(panicked)
}

/// Looks whether a file has what its footer says, before room is made for it.
fn check_blocks(name: &str, file: &dyn File) -> Result<()> {
    let wrong = |message: &str| Error::import(name, 0, message);
    let mut tail = [0; TAIL_BYTES];
    let end = file.len()?.checked_sub(TAIL_BYTES as u64).ok_or_else(|| wrong("this is no Arrow IPC file"))?;
    file.read_at(&mut tail, end)?;
    let length = read_footer_length(tail).map_err(|error| wrong(&error.to_string()))?;
    let start = end.checked_sub(length as u64).ok_or_else(|| wrong("the footer is longer than the file"))?;
    let mut footer = vec![0; length];
    file.read_at(&mut footer, start)?;
    let footer = root_as_footer(&footer).map_err(|error| wrong(&format!("the footer cannot be read: {error}")))?;
    let blocks = footer.dictionaries().into_iter().chain(footer.recordBatches()).flatten();
    for block in blocks {
        let parts = [block.offset(), block.metaDataLength().into(), block.bodyLength()];
        let mut sum = parts.iter().map(|part| u64::try_from(*part).ok());
        let past = sum.try_fold(0_u64, |sum, part| sum.checked_add(part?));
        // A message has its length before it, which may be two words.
        if past.is_none_or(|past| past > start) || block.metaDataLength() < 8 {
            return Err(wrong("the footer names a batch that is not in the file"));
        }
    }
    Ok(())
}

/// Batches of a stream. It is read as it comes, so no more room is made than there are bytes, whatever lengths they spell.
struct Stream<'a> {
    name: String,
    reader: Box<dyn Read + 'a>,
    decoder: StreamDecoder,
    /// What was read and not decoded.
    buffer: Buffer,
    ended: bool,
}

impl<'a> Stream<'a> {
    /// A stream that was seen to begin as one.
    fn new(name: &str, mut reader: Box<dyn Read + 'a>) -> Result<Self> {
        const SCHEMA_BYTES_MAX: u32 = 64 << 20;
        let mut head = Vec::new();
        reader.by_ref().take(8).read_to_end(&mut head).map_err(|error| failed(name, error))?;
        let mut words =
            head.chunks_exact(4).filter_map(|word| word.first_chunk()).map(|word| u32::from_le_bytes(*word));
        // The length of the schema is behind a marker, or first in streams of old.
        let length = words.find(|word| *word != u32::MAX);
        if length.is_none_or(|length| length > SCHEMA_BYTES_MAX) {
            return Err(Error::import(name, 0, "this is no Arrow IPC stream"));
        }
        Ok(Self { name: name.into(), reader, decoder: StreamDecoder::new(), buffer: head.into(), ended: false })
    }

    /// Reads up to the first batch, which is left, and gives what columns there are.
    fn schema(&mut self) -> Result<SchemaRef> {
        loop {
            if let Some(schema) = self.decoder.schema() {
                return Ok(schema);
            }
            if self.buffer.is_empty() && !self.fill()? {
                return Err(Error::import(&self.name, 0, "the stream ends before its schema does"));
            }
            // One byte at a time, so that the decoder stops where the schema ends.
            let mut next = self.buffer.slice_with_length(0, 1);
            self.buffer.advance(1);
            self.decoder.decode(&mut next).map_err(|error| self.wrong(&error))?;
        }
    }

    /// Reads more; whether there was any.
    fn fill(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let mut more = Vec::new();
        let read = self.reader.by_ref().take(STREAM_READ_BYTES).read_to_end(&mut more);
        read.map_err(|error| failed(&self.name, error))?;
        if more.is_empty() {
            self.ended = true;
            if self.decoder.schema().is_some() {
                return Ok(false);
            }
            // A schema is seen once something follows, and the mark at the end may be left out.
            more.extend_from_slice(&END_OF_STREAM);
        }
        self.buffer = more.into();
        Ok(true)
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.buffer.is_empty() && !self.fill()? {
                return self.decoder.finish().map(|()| None).map_err(|error| self.wrong(&error));
            }
            if let Some(batch) = self.decoder.decode(&mut self.buffer).map_err(|error| self.wrong(&error))? {
                return Ok(Some(batch));
            }
        }
    }

    fn wrong(&self, error: &ArrowError) -> Error {
        Error::import(&self.name, 0, error.to_string())
    }
}

impl Iterator for Stream<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

/// A file as the Parquet reader wants it.
struct Chunks(Arc<dyn File>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.len().unwrap_or(0)
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<FileRead>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let external = |error: Error| parquet::errors::ParquetError::External(Box::new(error));
        Ok(BufReader::new(FileRead::new(self.0.clone(), start).map_err(external)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let past = || parquet::errors::ParquetError::EOF("a piece that the file says it has is not there".into());
        // Before room is made for what a hostile file claims.
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(past());
        }
        let mut bytes = vec![0; length];
        let external = |error: Error| parquet::errors::ParquetError::External(Box::new(error));
        self.0.read_at(&mut bytes, start).map_err(external)?;
        Ok(bytes.into())
    }
}

/// A file as Arrow's reader wants it.
struct Seeking {
    file: Arc<dyn File>,
    read: FileRead,
}

impl Read for Seeking {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.read.read(out)
    }
}

impl std::io::Seek for Seeking {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        let (from, by) = match to {
            std::io::SeekFrom::Start(at) => (at, 0),
            std::io::SeekFrom::End(by) => (self.read.end(), by),
            std::io::SeekFrom::Current(by) => (self.read.at(), by),
        };
        let at = from.checked_add_signed(by).ok_or(std::io::ErrorKind::InvalidInput)?;
        self.read = FileRead::new(self.file.clone(), at).map_err(std::io::Error::other)?;
        Ok(at)
    }
}
