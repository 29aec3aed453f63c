//! The series index beside a segment: which rows are whose, and what the segment's bytes sum to.
//!
//! File: a 32-byte head (magic, version, segment id, number of entries, number of sums, checksum of all), then an entry a
//! series in the order of rows: {series u32, rows u32, min time i64, max time i64}, then a CRC-32 of each 16 KiB of the
//! Parquet file. A series' rows follow those of the entry before it.

use std::path::Path;

use crate::error::{Error, Result};

use super::codec::{Decoder, Encoder};

const MAGIC: [u8; 8] = *b"dnytsidx";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 32;
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
    #[cfg(feature = "sql")]
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

pub(crate) fn encode(segment: u64, ranges: &[SeriesRange], sums: &[u32]) -> Vec<u8> {
    let mut entries = Encoder::default();
    for range in ranges {
        // A block has fewer rows than 2^32, and what would have more is not compacted.
        let rows = u32::try_from(range.rows).unwrap_or(u32::MAX);
        entries.u32(range.series).u32(rows).i64(range.min_time).i64(range.max_time);
    }
    assemble(segment, &entries.into_bytes(), sums)
}

/// The bytes of an index whose entries are there already.
pub(crate) fn assemble(segment: u64, entries: &[u8], sums: &[u32]) -> Vec<u8> {
    let mut body = Encoder::default();
    sums.iter().for_each(|sum| {
        body.u32(*sum);
    });
    let body = [entries, &body.into_bytes()].concat();
    let mut head = Encoder::default();
    MAGIC.iter().for_each(|byte| {
        head.u8(*byte);
    });
    head.u32(VERSION).u64(segment).u32(count(entries.len() / ENTRY_BYTES)).u32(count(sums.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&checksum(&bytes, &body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The checksum that an index carries, which the manifest repeats.
pub(crate) fn checksum_of(index: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*index.get(HEAD_BYTES - 4..)?.first_chunk()?))
}

/// The entries of `series` series in the bytes of an index that does not hold, if it is long enough.
pub(crate) fn entries_of(index: &[u8], series: u32) -> Option<&[u8]> {
    index.get(HEAD_BYTES..)?.get(..(series as usize).checked_mul(ENTRY_BYTES)?)
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

/// The ranges, and the sums of the segment's bytes.
pub(crate) fn decode(path: &Path, segment: u64, bytes: &[u8]) -> Result<(Vec<SeriesRange>, Vec<u32>)> {
    let damaged = |reason: &str| Error::corrupted(path, 0, reason);
    let (head, entries) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(|| damaged("the series index is cut short"))?;
    let (body, stored) = head.split_at(HEAD_BYTES - 4);
    if !body.starts_with(&MAGIC) {
        return Err(damaged("this is not a series index"));
    }
    if stored != checksum(body, entries).to_le_bytes() {
        return Err(damaged("the series index fails its checksum"));
    }
    let mut fields = Decoder::new(body.split_at(8).1);
    let (version, id, count, sums) = (fields.u32(), fields.u64(), fields.u32(), fields.u32());
    match version {
        Some(VERSION) => {}
        Some(found) => return Err(Error::NewerVersion { path: path.into(), found, supported: VERSION }),
        None => return Err(damaged("the series index is cut short")),
    }
    let other = || damaged("the series index is of another segment");
    let size = |count: Option<u32>| count.map(|count| count as usize).ok_or_else(other);
    let (entry_bytes, sum_bytes) = (size(count)? * ENTRY_BYTES, size(sums)? * 4);
    if id != Some(segment) || entries.len() != entry_bytes + sum_bytes {
        return Err(other());
    }
    let (entries, sums) = entries.split_at(entry_bytes);
    let mut row_start = 0;
    let entry = |bytes: &[u8]| {
        let mut entry = Decoder::new(bytes);
        let (series, rows) = (entry.u32()?, u64::from(entry.u32()?));
        let range = SeriesRange { series, row_start, rows, min_time: entry.i64()?, max_time: entry.i64()? };
        row_start += rows;
        Some(range)
    };
    let short = || damaged("a short entry");
    let ranges = entries.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<_>>().ok_or_else(short)?;
    let sums = sums.chunks_exact(4).map(|sum| Decoder::new(sum).u32()).collect::<Option<_>>().ok_or_else(short)?;
    Ok((ranges, sums))
}
