//! A file of checksummed, numbered frames that only grows at its end: the ground of the manifest and the series log.
//!
//! File: a 64-byte head (magic, version, number of the file, checksum), then frames of {length u32, checksum u32, sequence
//! u64, payload}. The checksum covers length, sequence and payload.
//!
//! **Invariant:** a log is its longest prefix of frames that hold and are numbered without a gap. Opening cuts off what is
//! behind, and makes that durable before the next frame is written: an old frame can never follow a new one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem};

use super::codec::{Decoder, Encoder};

/// Bytes before the first frame.
pub(crate) const HEAD_BYTES: u64 = 64;
/// Bytes of a frame before its payload.
pub(crate) const FRAME_HEAD_BYTES: usize = 16;
/// Largest payload of one frame.
pub(crate) const FRAME_BYTES_MAX: usize = 256 << 20;

/// What kind of log a file is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    pub(crate) what: &'static str,
    /// Whether each frame is synced before the next is written, so that a whole frame behind a broken one means damage.
    pub(crate) synced_one_by_one: bool,
}

/// An open log.
#[derive(Debug)]
pub(crate) struct FrameLog {
    file: Arc<dyn File>,
    end: u64,
    sequence: u64,
    synced_end: u64,
}

/// What opening found.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) log: FrameLog,
    pub(crate) payloads: Vec<Vec<u8>>,
    /// Bytes of a torn tail that was cut off.
    pub(crate) cut_bytes: u64,
}

/// What the bytes of a log say.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) payloads: Vec<Vec<u8>>,
    /// Where the last frame that holds ends.
    pub(crate) end: u64,
    /// Bytes of a torn tail behind it.
    pub(crate) torn_bytes: u64,
}

/// Reads the frames of a log out of its `bytes`, and changes nothing. `durable_end` is where another record says that it
/// reached at least.
pub(crate) fn scan(path: &Path, kind: Kind, bytes: &[u8], durable_end: u64) -> Result<Frames> {
    let Some((found, frames)) = bytes.split_at_checked(HEAD_BYTES as usize) else {
        return Err(Error::corrupted(path, bytes.len() as u64, format!("{} is cut short", kind.what)));
    };
    check_head(path, kind, found)?;
    let (payloads, at) = prefix(frames);
    let sequence = payloads.len() as u64;
    let end = HEAD_BYTES + at as u64;
    let rest = frames.get(at..).unwrap_or_default();
    if end < durable_end {
        return Err(Error::corrupted(path, end, format!("{} was whole up to {durable_end}", kind.what)));
    }
    if kind.synced_one_by_one && later_frame(rest, sequence) {
        return Err(Error::corrupted(path, end, format!("{} has a broken frame before whole ones", kind.what)));
    }
    let torn_bytes = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    Ok(Frames { payloads, end, torn_bytes })
}

/// The frames at the start of `frames` that hold and are numbered without a gap, and where they end.
fn prefix(frames: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let (mut at, mut sequence, mut payloads) = (0, 0, Vec::new());
    while let Some((found, payload)) = frames.get(at..).and_then(parse).filter(|(found, _)| *found == sequence + 1) {
        payloads.push(payload.to_vec());
        sequence = found;
        at += FRAME_HEAD_BYTES + payload.len();
    }
    (payloads, at)
}

/// The frames of a damaged log that hold, up to the first that does not, whatever its head says.
pub(crate) fn salvage_prefix(bytes: &[u8]) -> Vec<Vec<u8>> {
    prefix(bytes.get(HEAD_BYTES as usize..).unwrap_or_default()).0
}

/// All frames of a damaged log that hold, in the order of their numbers, and the bytes that are in none.
pub(crate) fn salvage_all(bytes: &[u8]) -> (Vec<Vec<u8>>, u64) {
    let frames = bytes.get(HEAD_BYTES as usize..).unwrap_or_default();
    let (mut payloads, mut at) = (BTreeMap::new(), 0);
    let mut used = (bytes.len() - frames.len()) as u64;
    while at < frames.len() {
        match frames.get(at..).and_then(parse) {
            Some((sequence, payload)) => {
                let len = FRAME_HEAD_BYTES + payload.len();
                payloads.entry(sequence).or_insert_with(|| payload.to_vec());
                at += len;
                used += len as u64;
            }
            None => at += 1,
        }
    }
    (payloads.into_values().collect(), bytes.len() as u64 - used)
}

fn check_head(path: &Path, kind: Kind, found: &[u8]) -> Result<()> {
    let (body, stored) = found.split_at(HEAD_BYTES as usize - 4);
    if !body.starts_with(&kind.magic) {
        return Err(Error::corrupted(path, 0, format!("this is not a {}", kind.what)));
    }
    if stored != crc32fast::hash(body).to_le_bytes() {
        return Err(Error::corrupted(path, 0, format!("the head of the {} fails its checksum", kind.what)));
    }
    let version = Decoder::new(body.split_at(8).1).u32().unwrap_or(u32::MAX);
    if version > kind.version {
        return Err(Error::NewerVersion { path: path.into(), found: version, supported: kind.version });
    }
    Ok(())
}

fn head(kind: Kind, number: u64) -> Vec<u8> {
    let mut head = Encoder::default();
    kind.magic.iter().for_each(|byte| {
        head.u8(*byte);
    });
    head.u32(kind.version).u64(number);
    let mut bytes = head.into_bytes();
    bytes.resize(HEAD_BYTES as usize - 4, 0);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The bytes of a log of these payloads.
pub(crate) fn whole<'a>(kind: Kind, number: u64, payloads: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = head(kind, number);
    (1..).zip(payloads).for_each(|(sequence, payload)| bytes.extend_from_slice(&frame(sequence, payload)));
    bytes
}

fn frame(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Encoder::default();
    frame.u32(len).u32(checksum(len, sequence, payload)).u64(sequence);
    let mut bytes = frame.into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn checksum(len: u32, sequence: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The frame at the start of `bytes`, if it holds: its sequence and payload.
fn parse(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut decoder = Decoder::new(bytes);
    let (len, stored, sequence) = (decoder.u32()?, decoder.u32()?, decoder.u64()?);
    let payload = bytes.get(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES.checked_add(len as usize)?)?;
    (sequence > 0 && stored == checksum(len, sequence, payload)).then_some((sequence, payload))
}

impl FrameLog {
    /// Makes a log with one first frame under its final name, durable as a whole.
    pub(crate) fn create(fs: &dyn FileSystem, path: &Path, kind: Kind, number: u64, first: &[u8]) -> Result<Self> {
        let bytes = whole(kind, number, std::iter::once(first));
        fs::publish(fs, path, &bytes)?;
        let file = fs.open(path)?.ok_or_else(|| Error::corrupted(path, 0, "the file is gone"))?;
        let end = bytes.len() as u64;
        Ok(Self { file, end, sequence: 1, synced_end: end })
    }

    /// Reads a log. `durable_end` is where another record says that it reached at least.
    ///
    /// What is read may be in the page cache only: the process may have died between an append and its sync. So it is synced
    /// before anybody counts on it; and after a failed sync, which leaves pages that no later sync writes, it is `rewritten`
    /// first.
    ///
    /// What `check` refuses stays as it is: only then is it known that what is cut was not needed.
    pub(crate) fn open(
        file: Arc<dyn File>,
        kind: Kind,
        durable_end: u64,
        rewritten: bool,
        check: impl FnOnce(&[Vec<u8>]) -> Result<()>,
    ) -> Result<Opened> {
        let bytes = fs::read_all(&*file)?;
        let Frames { payloads, end, torn_bytes } = scan(file.path(), kind, &bytes, durable_end)?;
        check(&payloads)?;
        let log = Self { file, end, sequence: payloads.len() as u64, synced_end: end };
        if end < bytes.len() as u64 {
            log.file.set_len(end)?;
        }
        if rewritten {
            let whole = usize::try_from(end).ok().and_then(|end| bytes.get(..end));
            log.file.write_at(whole.unwrap_or_default(), 0)?;
        }
        log.file.sync_data()?;
        Ok(Opened { log, payloads, cut_bytes: torn_bytes })
    }

    /// Writes a frame at the end; it is not durable until [`sync`](Self::sync). After an error the log is as it was.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<()> {
        if payload.len() > FRAME_BYTES_MAX {
            return Err(Error::LimitExceeded {
                limit: "frame_bytes_max",
                max: FRAME_BYTES_MAX as u64,
                found: payload.len() as u64,
                place: self.file.path().display().to_string(),
            });
        }
        let bytes = frame(self.sequence + 1, payload);
        self.file.write_at(&bytes, self.end)?;
        self.end += bytes.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    /// Makes all frames durable. An error here must poison the store.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.synced_end < self.end {
            self.file.sync_data()?;
            self.synced_end = self.end;
        }
        Ok(())
    }

    /// Where the next frame goes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The file, and where its last frame ends.
    pub(crate) fn position(&self) -> (Arc<dyn File>, u64) {
        (self.file.clone(), self.end)
    }

    /// Up to where it is known to be durable.
    pub(crate) fn synced_end(&self) -> u64 {
        self.synced_end
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }
}

/// A log that another process writes, read from its start on, frame by frame.
#[derive(Debug)]
pub(crate) struct FrameTail {
    file: Arc<dyn File>,
    at: u64,
    sequence: u64,
}

impl FrameTail {
    pub(crate) fn open(file: Arc<dyn File>, kind: Kind) -> Result<Self> {
        let mut head = vec![0; HEAD_BYTES as usize];
        file.read_at(&mut head, 0)?;
        check_head(file.path(), kind, &head)?;
        Ok(Self { file, at: HEAD_BYTES, sequence: 0 })
    }

    /// The payloads of the frames that have come since the last call. A frame that is being written is left for the next
    /// call; up to `durable_end`, if one is given, all must be whole, and none is read beyond.
    pub(crate) fn read(&mut self, durable_end: Option<u64>) -> Result<Vec<Vec<u8>>> {
        let end = match durable_end {
            Some(end) => end,
            None => self.file.len()?,
        };
        if end <= self.at {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; usize::try_from(end - self.at).unwrap_or(usize::MAX)];
        self.file.read_at(&mut bytes, self.at)?;
        let (mut from, mut payloads) = (0, Vec::new());
        while let Some((sequence, payload)) =
            bytes.get(from..).and_then(parse).filter(|(found, _)| *found == self.sequence + 1)
        {
            payloads.push(payload.to_vec());
            self.sequence = sequence;
            from += FRAME_HEAD_BYTES + payload.len();
        }
        self.at += from as u64;
        self.check_reached(durable_end.unwrap_or(0))?;
        Ok(payloads)
    }

    /// An error if what was read so far does not reach `durable_end`, where another record says that the log was whole.
    pub(crate) fn check_reached(&self, durable_end: u64) -> Result<()> {
        if self.at >= durable_end {
            return Ok(());
        }
        Err(Error::corrupted(self.file.path(), self.at, format!("the log was whole up to {durable_end}")))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Whether a whole frame with a later number lies anywhere in `bytes`.
fn later_frame(bytes: &[u8], sequence: u64) -> bool {
    let plausible = sequence + 1..sequence + (1 << 20);
    (1..bytes.len()).any(|at| {
        let Some(candidate) = bytes.get(at..) else { return false };
        let found = candidate.get(8..FRAME_HEAD_BYTES).and_then(|bytes| Decoder::new(bytes).u64());
        found.is_some_and(|found| plausible.contains(&found)) && parse(candidate).is_some()
    })
}
