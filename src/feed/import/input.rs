//! Where content comes from: a file of any file system the store can be on, or a reader; decompressed on its way, within
//! limits, and buffered in one piece of bounded size.

use std::cell::Cell;
use std::io::{BufReader, Read};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::Limits;
use crate::care::progress::Meter;
use crate::error::{Error, Result};
use crate::fs::File;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// Content up to this is not held against the ratio: small files compress well.
const RATIO_FROM_BYTES: u64 = 64 << 20;
/// Largest window of zstd, as a power of two: what a decoder allocates before it has read anything.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Reads a file from a place on.
pub(crate) struct FileRead {
    file: Arc<dyn File>,
    at: u64,
    end: u64,
}

impl FileRead {
    pub(crate) fn new(file: Arc<dyn File>, at: u64) -> Result<Self> {
        let end = file.len()?;
        Ok(Self { file, at, end })
    }

    /// Where the next byte is read.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The end as it was when the reading began.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

impl Read for FileRead {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(out.len());
        if let Some(out) = out.get_mut(..len).filter(|out| !out.is_empty()) {
            self.file.read_at(out, self.at).map_err(std::io::Error::other)?;
        }
        self.at += len as u64;
        Ok(len)
    }
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = self.inner.read(out)?;
        self.count.set(self.count.get() + len as u64);
        Ok(len)
    }
}

/// Content, and what was read of it and not yet used.
pub(crate) struct Input<'a> {
    /// For errors and for people.
    pub(crate) name: String,
    reader: Box<dyn Read + 'a>,
    compressed: bool,
    /// Bytes that came out of the source, before they were decompressed.
    raw: Rc<Cell<u64>>,
    raw_told: u64,
    bytes: Vec<u8>,
    from: usize,
    content: u64,
    ended: bool,
    limits: Limits,
}

impl<'a> Input<'a> {
    /// Reads from `reader`, decompressing gzip and zstd, which their first bytes tell, if `decompress`.
    pub(crate) fn new(name: String, reader: Box<dyn Read + 'a>, decompress: bool, limits: &Limits) -> Result<Self> {
        let raw = Rc::new(Cell::new(0));
        let mut counted: Box<dyn Read + 'a> = Box::new(Counted { inner: reader, count: raw.clone() });
        let mut compressed = false;
        if decompress {
            let mut magic = Vec::new();
            (&mut counted).take(4).read_to_end(&mut magic).map_err(|error| failed(&name, error))?;
            let whole = std::io::Cursor::new(magic.clone()).chain(counted);
            (counted, compressed) = match &*magic {
                [0x1f, 0x8b, ..] => (Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole))) as _, true),
                [0x28, 0xb5, 0x2f, 0xfd] => {
                    let mut decoder = zstd::Decoder::new(whole).map_err(|error| failed(&name, error))?;
                    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| failed(&name, error))?;
                    (Box::new(decoder) as _, true)
                }
                _ => (Box::new(whole) as _, false),
            };
        }
        Ok(Self {
            name,
            reader: counted,
            compressed,
            raw,
            raw_told: 0,
            bytes: Vec::new(),
            from: 0,
            content: 0,
            ended: false,
            limits: limits.clone(),
        })
    }

    /// What was read and not used.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }

    /// How many bytes were read and not used, of content that is read to its end.
    pub(crate) fn unread_bytes(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// Whether nothing follows on [`bytes`](Self::bytes).
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// The first `len` bytes are used.
    pub(crate) fn consume(&mut self, len: usize) {
        self.from = (self.from + len).min(self.bytes.len());
    }

    /// Reads until there are `len` bytes, or all.
    pub(crate) fn fill(&mut self, len: usize, meter: &mut Meter<'_>) -> Result<()> {
        if self.ended || self.bytes().len() >= len {
            return Ok(());
        }
        self.bytes.drain(..self.from);
        self.from = 0;
        while self.bytes.len() < len && !self.ended {
            let before = self.bytes.len();
            let more = READ_BYTES.min(len - before).max(1 << 12) as u64;
            let read = self.reader.by_ref().take(more).read_to_end(&mut self.bytes);
            let read = read.map_err(|error| failed(&self.name, error))?;
            self.ended = (read as u64) < more;
            self.content += read as u64;
            self.check()?;
            let raw = self.raw.get();
            meter.advance(Path::new(&self.name), raw - self.raw_told)?;
            self.raw_told = raw;
        }
        Ok(())
    }

    /// The limits against content that is far larger than its source.
    fn check(&self) -> Result<()> {
        let place = || format!("{:?}", self.name);
        if self.content > self.limits.content_bytes_max {
            return Err(Error::LimitExceeded {
                limit: "content_bytes_max",
                max: self.limits.content_bytes_max,
                found: self.content,
                place: place(),
            });
        }
        let ratio = self.content / self.raw.get().max(1);
        if self.compressed && self.content > RATIO_FROM_BYTES && ratio > self.limits.expansion_max {
            return Err(Error::LimitExceeded {
                limit: "expansion_max",
                max: self.limits.expansion_max,
                found: ratio,
                place: place(),
            });
        }
        Ok(())
    }
}

/// What reading a source met: this crate's own error where it was one.
pub(crate) fn failed(name: &str, error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(source) => Error::io("reading", Path::new(name), source),
    }
}
