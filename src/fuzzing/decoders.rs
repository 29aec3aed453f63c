//! The decoders alone, without a store around them: bytes in, and a value, nothing or a typed error out.
//!
//! The targets that damage a store run a thousand decoders' worth of other code for each input; this one runs little else,
//! so that it can be given millions of inputs in minutes. **What is held:** a decoder ends, and what it accepts is written
//! as the bytes it came from, or as bytes that are read as the same value.

use std::path::Path;

use super::{Input, store_le};
use crate::fs::SECTOR_BYTES;
use crate::ingest::commit::{CommitEntry, Slot};
use crate::ingest::header::{Header, decode_descriptors, encode_descriptors};
use crate::ingest::layout::Layout;
use crate::storage::codec::{Decoder, Encoder};
use crate::storage::edit::Edit;
use crate::storage::series_log::{Record, SeriesLog};
use crate::storage::{manifest, series_index};

/// Each decoder, chosen by the first byte. The second says whether checksums are made to hold.
pub fn decoders(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (which, how) = (input.u8(), input.u8());
    let (bytes, holds) = (input.0.to_vec(), how & 1 == 0);
    match which % 7 {
        0 => header(bytes, holds),
        1 => commit_entry(bytes, holds, usize::from(how >> 1)),
        2 => descriptors(&bytes, holds),
        3 => logs(bytes, holds, u64::from(how >> 1)),
        4 => edits(&bytes),
        5 => series_record(&bytes),
        _ => index(bytes, holds),
    }
}

/// The header of a live block.
fn header(mut bytes: Vec<u8>, holds: bool) {
    bytes.resize(SECTOR_BYTES, 0);
    if holds {
        let sum = crc32fast::hash(bytes.split_at(SECTOR_BYTES - 4).0);
        store_le(&mut bytes, SECTOR_BYTES - 4, sum);
    }
    let sector = bytes.first_chunk().expect("it has the size of a sector");
    if let Ok(header) = Header::decode(Path::new("block"), sector) {
        let again = Header::decode(Path::new("block"), &header.encode()).expect("what was encoded is decoded");
        assert_eq!(again, header);
    }
}

/// A commit entry of up to three sectors.
fn commit_entry(mut bytes: Vec<u8>, holds: bool, regions: usize) {
    let regions = 1 + regions * 2;
    bytes.resize(regions.div_ceil(crate::ingest::commit::SECTOR_CHECKSUMS) * SECTOR_BYTES, 0);
    if holds {
        for sector in bytes.chunks_exact_mut(SECTOR_BYTES).filter(|sector| sector.iter().any(|byte| *byte != 0)) {
            let sum = crc32fast::hash(sector.split_at(4).1);
            store_le(sector, 0, sum);
        }
    }
    if let Slot::Entry(entry) = CommitEntry::decode(&bytes, regions) {
        assert_eq!(entry.checksums.len(), regions);
        assert_eq!(CommitEntry::decode(&entry.encode(), regions), Slot::Entry(entry));
    }
}

/// Column descriptors, and the layout that follows from them.
fn descriptors(bytes: &[u8], has_clock: bool) {
    let mut input = Input(bytes);
    let (file_bytes, capacity) = (usize::from(input.u16()) * 64, usize::from(input.u16()));
    let Some(columns) = decode_descriptors(input.0, has_clock) else { return };
    assert_eq!(decode_descriptors(&encode_descriptors(&columns), has_clock).as_ref(), Some(&columns));
    let fits = columns.capacity(file_bytes, 16);
    assert!(fits == 0 || Layout::new(file_bytes, fits, &columns).is_some(), "{fits} rows in {file_bytes} bytes");
    if let Some(layout) = Layout::new(file_bytes, capacity, &columns) {
        for region in layout.regions() {
            assert!(region.offset + region.row_bytes * capacity <= file_bytes, "{region:?} of {layout:?}");
        }
    }
}

/// A whole manifest and a whole series log.
fn logs(mut bytes: Vec<u8>, holds: bool, durable_end: u64) {
    if holds {
        // The head's, and the first frame's.
        if let Some((head, _)) = bytes.split_at_checked(60) {
            let sum = crc32fast::hash(head);
            store_le(&mut bytes, 60, sum);
        }
        let frame = bytes.get(64..).unwrap_or_default();
        let len = frame.first_chunk().map_or(0, |len| u32::from_le_bytes(*len)) as usize;
        let summed = [frame.get(..4), frame.get(8..16), len.checked_add(16).and_then(|end| frame.get(16..end))];
        let sum = crc32fast::hash(&summed.map(Option::unwrap_or_default).concat());
        store_le(&mut bytes, 68, sum);
    }
    let path = Path::new("log");
    let _ = manifest::check(path, &bytes, durable_end);
    for payload in SeriesLog::check(path, &bytes, durable_end).into_iter().flatten() {
        series_record(&payload);
    }
}

/// The edits of a manifest's frame.
fn edits(bytes: &[u8]) {
    let mut from = Decoder::new(bytes);
    while let Some(edit) = Edit::decode(&mut from) {
        let (mut once, mut twice) = (Encoder::default(), Encoder::default());
        edit.encode(&mut once);
        let once = once.into_bytes();
        Edit::decode(&mut Decoder::new(&once)).expect("what was encoded is decoded").encode(&mut twice);
        assert_eq!(once, twice.into_bytes());
    }
}

/// A record of the series log.
fn series_record(bytes: &[u8]) {
    if let Some(mut record) = Record::decode(bytes) {
        let values = std::iter::from_fn(|| record.value()).map(str::len).sum::<usize>();
        assert!(values <= bytes.len());
    }
}

/// A series index, up to a summary's sections.
fn index(mut bytes: Vec<u8>, holds: bool) {
    // With a summary the head has the length of its directory too.
    let head_bytes = if bytes.get(8) == Some(&2) { 36 } else { 32 };
    if holds && let Some((head, rest)) = bytes.split_at_checked(head_bytes) {
        let sum = crc32fast::hash(&[head.split_at(head_bytes - 4).0, rest].concat());
        store_le(&mut bytes, head_bytes - 4, sum);
    }
    let id = bytes.get(12..20).and_then(|id| id.first_chunk()).map_or(0, |id| u64::from_le_bytes(*id));
    if let Ok(index) = series_index::decode(Path::new("index"), id, &bytes)
        && index.summary.is_none()
    {
        assert_eq!(series_index::encode(id, &index.ranges, &index.sums, None), bytes);
    }
}
