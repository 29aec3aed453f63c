//! A store with one damaged file: opening it, and whatever is then done with it, answers or is a typed error.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::{Input, STORE, append, numbered, open, store_le};
use crate::fs::sim::SimFs;
use crate::fs::{FileSystem, SECTOR_BYTES};
use crate::ingest::layout::{DESCRIPTOR_BYTES, SLOT_COUNT, SLOTS};
use crate::prelude::*;

/// Bytes before the first frame of a log.
const HEAD_BYTES: usize = 64;
/// Rows of the store that is damaged: in a segment, synced, and only appended.
const ROWS: [i64; 3] = [300, 200, 100];

/// A machine with a store of [`ROWS`], made once; each call is another copy. After a power loss if `seed` is there.
fn made(seed: Option<u64>) -> Arc<SimFs> {
    static MADE: OnceLock<Arc<SimFs>> = OnceLock::new();
    let make = || {
        let fs = SimFs::new(7);
        let work = || {
            let store = open(&fs)?;
            let mut writer = store.table(numbered())?.writer()?;
            let mut number = 0;
            for (phase, rows) in ROWS.iter().enumerate() {
                for _ in 0..*rows {
                    append(&mut writer, if number % 2 == 0 { "a" } else { "b" }, number)?;
                    number += 1;
                }
                match phase {
                    0 => store.seal().map(drop)?,
                    1 => store.sync()?,
                    _ => {}
                }
            }
            // Before the store is dropped, so that its last rows are not synced.
            Ok::<_, Error>(fs.kill())
        };
        work().expect("a whole machine makes a store")
    };
    let fs = MADE.get_or_init(make);
    seed.map_or_else(|| fs.kill(), |seed| fs.crash(seed))
}

/// The first file in `folder` whose name ends so.
fn file(fs: &SimFs, folder: &str, ending: &str) -> PathBuf {
    let folder = Path::new(STORE).join(folder);
    let entries = fs.read_dir(&folder).ok().flatten().unwrap_or_default();
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    let name = names.into_iter().find(|name| name.contains(ending)).expect("the store has such a file");
    folder.join(name)
}

/// Passes a file's bytes through `change`.
fn change(fs: &SimFs, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let file = fs.open(path).ok().flatten().expect("the file is there");
    let mut bytes = crate::fs::read_all(&*file).expect("it can be read");
    change(&mut bytes);
    let written = file.set_len(bytes.len() as u64).and_then(|()| file.write_at(&bytes, 0));
    written.and_then(|()| file.sync_data()).expect("it can be written");
}

/// Makes the control page say nothing of how long the logs were.
fn forget_ends(fs: &SimFs) {
    change(fs, &file(fs, "", "control"), |bytes| bytes.iter_mut().skip(SECTOR_BYTES).for_each(|byte| *byte = 0));
}

/// Opens, reads all there is, writes on, closes, opens again. What closed well has to open.
fn exercise(fs: &Arc<SimFs>) {
    let Ok(store) = open(fs) else { return };
    for schema in store.tables() {
        let Ok(table) = store.existing(schema.name()) else { continue };
        // Up to the first error, as a caller reads.
        let _ = table.scan().and_then(|mut scan| scan.try_for_each(|batch| batch.map(drop)));
    }
    if let Ok(mut writer) = store.table(numbered()).and_then(|table| table.writer()) {
        let _ = append(&mut writer, "c", 1);
    }
    let _ = store.seal();
    let closed = store.close();
    drop(store);
    if closed.is_ok() {
        open(fs).expect("a store that closed well opens");
    }
}

/// Damages a log: other frames behind its first, a patched first frame, or any bytes, as the first byte says.
fn damage_log(fs: &SimFs, path: &Path, input: &mut Input<'_>) {
    let how = input.u8();
    if how & 4 == 0 {
        forget_ends(fs);
    }
    change(fs, path, |bytes| match how & 3 {
        0 | 1 => {
            let mut payloads = payloads(bytes);
            match (how & 3, payloads.last_mut()) {
                (0, Some(last)) => input.patch(last, false),
                _ => payloads.extend(input.pieces()),
            }
            bytes.truncate(HEAD_BYTES);
            for (sequence, payload) in (1u64..).zip(&payloads) {
                let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
                let sequence = sequence.to_le_bytes();
                let sum = crc32fast::hash(&[len.as_slice(), &sequence, payload.as_slice()].concat()).to_le_bytes();
                bytes.extend([len.as_slice(), &sum, &sequence, payload.as_slice()].concat());
            }
        }
        2 => input.patch(bytes, true),
        _ => {
            bytes.truncate(if how & 8 == 0 { HEAD_BYTES } else { 0 });
            bytes.extend(input.0);
        }
    });
}

/// The payloads of a whole log's frames.
fn payloads(log: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut payloads) = (log.get(HEAD_BYTES..).unwrap_or_default(), Vec::new());
    while let Some(len) = rest.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize) {
        let Some(payload) = rest.get(16..16 + len) else { break };
        payloads.push(payload.to_vec());
        rest = rest.get(16 + len..).unwrap_or_default();
    }
    payloads
}

/// A damaged manifest.
pub fn manifest(bytes: &[u8]) {
    let (fs, mut input) = (made(None), Input(bytes));
    damage_log(&fs, &file(&fs, "", "manifest-"), &mut input);
    exercise(&fs);
}

/// A damaged series log.
pub fn series_log(bytes: &[u8]) {
    let (fs, mut input) = (made(None), Input(bytes));
    damage_log(&fs, &file(&fs, "", "series.log"), &mut input);
    exercise(&fs);
}

/// A damaged control page: patched anywhere, its head's checksum made to hold or not, perhaps cut.
pub fn control_page(bytes: &[u8]) {
    let (fs, mut input) = (made(None), Input(bytes));
    let how = input.u8();
    change(&fs, &file(&fs, "", "control"), |page| {
        if how & 1 != 0 {
            page.truncate(usize::from(input.u16()) * 2);
        }
        let places = page.len().min(if how & 2 == 0 { SECTOR_BYTES * 3 } else { usize::MAX });
        input.patch(page.split_at_mut(places).0, false);
        let sum = crc32fast::hash(page.get(..SECTOR_BYTES - 4).unwrap_or_default());
        if how & 4 == 0 {
            store_le(page, SECTOR_BYTES - 4, sum);
        }
    });
    exercise(&fs);
}

/// A damaged live block, after the death of the process or of the machine, its checksums made to hold or not.
pub fn live_block_recovery(bytes: &[u8]) {
    let mut input = Input(bytes);
    let how = input.u8();
    let fs = made((how & 1 != 0).then(|| u64::from(how >> 4)));
    change(&fs, &file(&fs, "live", ".block"), |block| {
        if how & 2 != 0 {
            block.truncate(usize::from(input.u16()));
        }
        input.patch(block, false);
        if how & 4 != 0 {
            return;
        }
        // One sector a commit entry is what few columns need.
        let descriptors = SLOTS + SLOT_COUNT * SECTOR_BYTES;
        let fields = block.get(44..48).and_then(|word| word.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word));
        let end = descriptors.saturating_add((fields as usize).saturating_mul(DESCRIPTOR_BYTES));
        let sum = block.get(descriptors..end).map_or(0, crc32fast::hash);
        store_le(block, 52, sum);
        let sum = crc32fast::hash(block.get(..SECTOR_BYTES - 4).unwrap_or_default());
        store_le(block, SECTOR_BYTES - 4, sum);
        for slot in (0..SLOT_COUNT).map(|slot| SLOTS + slot * SECTOR_BYTES) {
            let sector = block.get(slot..slot + SECTOR_BYTES).unwrap_or_default();
            if sector.iter().any(|byte| *byte != 0) {
                let sum = crc32fast::hash(sector.get(4..).unwrap_or_default());
                store_le(block, slot, sum);
            }
        }
    });
    exercise(&fs);
}

/// A damaged segment: its Parquet file or its series index.
pub fn segment_open(bytes: &[u8]) {
    let (fs, mut input) = (made(None), Input(bytes));
    let how = input.u8();
    if how & 1 == 0 {
        change(&fs, &file(&fs, "segments", ".parquet"), |segment| input.patch(segment, how & 2 == 0));
    } else {
        change(&fs, &file(&fs, "segments", ".series"), |index| input.patch(index, false));
    }
    exercise(&fs);
}
