//! The series index beside a segment: which rows are whose, what the segment's bytes sum to, and its summary.
//!
//! File: a head (magic, version, segment id, number of entries, number of sums, in version 2 the length of the summary's
//! directory, checksum of all but the summary's sections), then an entry a series in the order of rows: {series u32, rows
//! u32, min time i64, max time i64}, then a CRC-32 of each 16 KiB of the Parquet file, then the directory and the sections
//! of the summary. A series' rows follow those of the entry before it. An index without a summary is of version 1.
//!
//! **Invariant:** the checksum of the head vouches for the directory, and that for each section. So all but the sections is
//! read and proven at once, and a section when it is asked for.

use std::path::Path;

use crate::error::{Error, Result};

use super::codec::{Decoder, Encoder};
use super::summary::{Directory, Encoded};

const MAGIC: [u8; 8] = *b"dnytsidx";
/// Without a summary.
const PLAIN: u32 = 1;
const SUMMED_UP: u32 = 2;
/// What tells how long a head is.
pub(crate) const HEAD_BYTES_MIN: usize = 32;
const ENTRY_BYTES: usize = 24;
/// Bytes of a segment under one checksum: what is read and summed at least.
pub(crate) const SUM_BYTES: usize = 16 << 10;

/// The rows of one series in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeriesRange {
    pub(crate) series: u32,
    pub(crate) row_start: u64,
    pub(crate) rows: u64,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
}

impl SeriesRange {
    /// Its rows in the segment.
    pub(crate) fn range(&self) -> std::ops::Range<u64> {
        self.row_start..self.row_start + self.rows
    }
}

/// The ranges of rows sorted by series and time.
#[cfg(test)]
pub(crate) fn ranges(series: &[u32], times: &[i64]) -> Vec<SeriesRange> {
    let mut ranges = Vec::new();
    extend(&mut ranges, series, times);
    ranges
}

/// Adds rows that come after those of `ranges`.
pub(crate) fn extend(ranges: &mut Vec<SeriesRange>, series: &[u32], times: &[i64]) {
    let first_row = ranges.last().map_or(0, |last| last.row_start + last.rows);
    for (row, (&series, &time)) in (first_row..).zip(series.iter().zip(times)) {
        match ranges.last_mut() {
            Some(last) if last.series == series => {
                last.rows += 1;
                last.min_time = last.min_time.min(time);
                last.max_time = last.max_time.max(time);
            }
            _ => ranges.push(SeriesRange { series, row_start: row, rows: 1, min_time: time, max_time: time }),
        }
    }
}

/// The bytes of an index.
pub(crate) fn encode(segment: u64, ranges: &[SeriesRange], sums: &[u32], summary: Option<&Encoded>) -> Vec<u8> {
    let mut entries = Encoder::default();
    for range in ranges {
        // A block has fewer rows than 2^32, and what would have more is not compacted.
        let rows = u32::try_from(range.rows).unwrap_or(u32::MAX);
        entries.u32(range.series).u32(rows).i64(range.min_time).i64(range.max_time);
    }
    assemble(segment, &entries.into_bytes(), sums, summary)
}

/// The bytes of an index whose entries are there already.
pub(crate) fn assemble(segment: u64, entries: &[u8], sums: &[u32], summary: Option<&Encoded>) -> Vec<u8> {
    let mut head = Encoder::default();
    MAGIC.iter().for_each(|byte| {
        head.u8(*byte);
    });
    let version = if summary.is_some() { SUMMED_UP } else { PLAIN };
    head.u32(version).u64(segment).u32(count(entries.len() / ENTRY_BYTES)).u32(count(sums.len()));
    if let Some(summary) = summary {
        head.u32(count(summary.directory.len()));
    }
    let mut of_sums = Encoder::default();
    sums.iter().for_each(|sum| {
        of_sums.u32(*sum);
    });
    let directory = summary.map_or(&[][..], |summary| &summary.directory);
    let body = [entries, &of_sums.into_bytes(), directory].concat();
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&checksum(&bytes, &body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(summary.map_or(&[][..], |summary| &summary.body));
    bytes
}

/// Where things are in an index, by its head alone: nothing is proven.
struct Shape {
    version: u32,
    segment: u64,
    head_bytes: usize,
    entry_bytes: usize,
    sum_bytes: usize,
    directory_bytes: usize,
}

impl Shape {
    fn of(index: &[u8]) -> Option<Self> {
        let mut fields = Decoder::new(index.strip_prefix(&MAGIC)?);
        let (version, segment) = (fields.u32()?, fields.u64()?);
        let mut size = |each: usize| (fields.u32()? as usize).checked_mul(each);
        let (entry_bytes, sum_bytes) = (size(ENTRY_BYTES)?, size(4)?);
        let (head_bytes, directory_bytes) =
            if version == PLAIN { (HEAD_BYTES_MIN, 0) } else { (HEAD_BYTES_MIN + 4, size(1)?) };
        Some(Self { version, segment, head_bytes, entry_bytes, sum_bytes, directory_bytes })
    }

    /// Bytes under the head's checksum, and that.
    fn proven_bytes(&self) -> usize {
        [self.entry_bytes, self.sum_bytes, self.directory_bytes]
            .into_iter()
            .fold(self.head_bytes, usize::saturating_add)
    }
}

/// How many bytes of an index its head's checksum vouches for, by its first [`HEAD_BYTES_MIN`]; nothing is proven.
pub(crate) fn proven_bytes(path: &Path, head: &[u8]) -> Result<usize> {
    match Shape::of(head) {
        Some(shape) => Ok(shape.proven_bytes()),
        None => Err(Error::corrupted(path, 0, "this is not a series index")),
    }
}

/// The checksum that an index carries, which the manifest repeats.
pub(crate) fn checksum_of(index: &[u8]) -> Option<u32> {
    let head = index.get(..Shape::of(index)?.head_bytes)?;
    Some(u32::from_le_bytes(*head.last_chunk()?))
}

/// What is left of an index that does not hold: the entries of `series` series and, if it had a summary, the directory and
/// the sections of that, as `version` has them. Nothing is proven.
pub(crate) fn remains(index: &[u8], series: u32, sums: usize, with_summary: bool) -> Option<(&[u8], Option<Encoded>)> {
    let head_bytes = if with_summary { HEAD_BYTES_MIN + 4 } else { HEAD_BYTES_MIN };
    let (head, rest) = index.split_at_checked(head_bytes)?;
    let (entries, rest) = rest.split_at_checked((series as usize).checked_mul(ENTRY_BYTES)?)?;
    if !with_summary {
        return Some((entries, None));
    }
    let directory_bytes = u32::from_le_bytes(*head.get(HEAD_BYTES_MIN - 4..)?.first_chunk()?);
    let (directory, body) = rest.get(sums.checked_mul(4)?..)?.split_at_checked(directory_bytes as usize)?;
    Some((entries, Some(Encoded { directory: directory.to_vec(), body: body.to_vec() })))
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn checksum(head: &[u8], entries: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(entries);
    hasher.finalize()
}

/// What an index says.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) ranges: Vec<SeriesRange>,
    /// Of the segment's bytes.
    pub(crate) sums: Vec<u32>,
    pub(crate) summary: Option<Directory>,
}

/// Reads the bytes of an index that its checksum is over.
pub(crate) fn decode(path: &Path, segment: u64, bytes: &[u8]) -> Result<Index> {
    let damaged = |reason: &str| Error::corrupted(path, 0, reason);
    let short = || damaged("the series index is cut short");
    let shape = Shape::of(bytes).ok_or_else(|| damaged("this is not a series index"))?;
    let (head, body) = bytes.split_at_checked(shape.head_bytes).ok_or_else(short)?;
    let (head, stored) = head.split_last_chunk().ok_or_else(short)?;
    if *stored != checksum(head, body).to_le_bytes() {
        return Err(damaged("the series index fails its checksum"));
    }
    if !matches!(shape.version, PLAIN | SUMMED_UP) {
        return Err(Error::NewerVersion { path: path.into(), found: shape.version, supported: SUMMED_UP });
    }
    let other = || damaged("the series index is of another segment");
    if shape.segment != segment || bytes.len() != shape.proven_bytes() {
        return Err(other());
    }
    let (entries, rest) = body.split_at_checked(shape.entry_bytes).ok_or_else(other)?;
    let (sums, directory) = rest.split_at_checked(shape.sum_bytes).ok_or_else(other)?;
    let mut row_start = 0;
    let entry = |bytes: &[u8]| {
        let mut entry = Decoder::new(bytes);
        let (series, rows) = (entry.u32()?, u64::from(entry.u32()?));
        let range = SeriesRange { series, row_start, rows, min_time: entry.i64()?, max_time: entry.i64()? };
        row_start += rows;
        Some(range)
    };
    let short = || damaged("a short entry");
    let ranges: Vec<SeriesRange> =
        entries.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<_>>().ok_or_else(short)?;
    let sums = sums.chunks_exact(4).map(|sum| Decoder::new(sum).u32()).collect::<Option<_>>().ok_or_else(short)?;
    let summary = match shape.version {
        PLAIN => None,
        _ => {
            let unreadable = || damaged("the summary's directory cannot be read");
            Some(Directory::decode(directory, ranges.len()).ok_or_else(unreadable)?)
        }
    };
    Ok(Index { ranges, sums, summary })
}
