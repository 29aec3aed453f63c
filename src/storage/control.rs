//! The control page: the small mapped file by which the store is known, and by which other processes find its live blocks
//! and the manifest's end.
//!
//! **Invariant:** the epoch is odd while the page changes. A reader that sees an odd epoch, or another one after than
//! before, starts over. The page is a hint that is rebuilt at every open, save for two things: its head says that the
//! directory is a store and of what version; and ends of logs that it names were durable before they were written here, so
//! a log that is shorter is damaged.

use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, Mapping, PAGE_BYTES, SECTOR_BYTES};

use super::codec::{Decoder, Encoder};

const MAGIC: [u8; 8] = *b"dnytctrl";
/// The version of the whole store's format.
pub(crate) const VERSION: u32 = 1;
/// Blocks that the page can name.
const SLOTS_MAX: usize = 4_096;
const SLOT_BYTES: usize = 16;
const FILE_BYTES: usize = PAGE_BYTES + SLOTS_MAX * SLOT_BYTES;

const BOOT_ID: usize = SECTOR_BYTES;
const PID: usize = SECTOR_BYTES + 16;
const EPOCH: usize = 2 * SECTOR_BYTES;
const MANIFEST_NUMBER: usize = EPOCH + 8;
const MANIFEST_END: usize = EPOCH + 16;
const SERIES_END: usize = EPOCH + 24;
const CLOCK: usize = EPOCH + 32;
const SLOTS_USED: usize = EPOCH + 40;

/// What the page says of the rest of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) manifest_number: u64,
    pub(crate) manifest_end: u64,
    pub(crate) series_end: u64,
    pub(crate) clock: u64,
}

/// The open control page.
#[derive(Debug)]
pub(crate) struct Control {
    file: Arc<dyn File>,
    mapping: Mapping,
    changing: Mutex<()>,
}

impl Control {
    /// Makes the page, which makes the directory a store: the last step of creating one.
    pub(crate) fn create(fs: &dyn FileSystem, path: &Path, store_id: [u8; 16]) -> Result<Self> {
        let mut head = Encoder::default();
        MAGIC.iter().for_each(|byte| {
            head.u8(*byte);
        });
        head.u32(VERSION).u32(0);
        store_id.iter().for_each(|byte| {
            head.u8(*byte);
        });
        let mut bytes = head.into_bytes();
        bytes.resize(SECTOR_BYTES - 4, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(FILE_BYTES, 0);
        fs::publish(fs, path, &bytes)?;
        Self::open(fs, path)?.ok_or_else(|| Error::corrupted(path, 0, "the control page is gone")).map(|(page, _)| page)
    }

    /// Opens the page and reads what it says; `None` if there is none. An unfinished change says nothing.
    pub(crate) fn open(fs: &dyn FileSystem, path: &Path) -> Result<Option<(Self, Ends)>> {
        let Some(file) = fs.open(path)? else { return Ok(None) };
        let mut head = [0; SECTOR_BYTES];
        if file.len()? < FILE_BYTES as u64 {
            return Err(Error::corrupted(path, file.len()?, "the control page is cut short"));
        }
        file.read_at(&mut head, 0)?;
        check_head(path, &head)?;
        let mapping = file.map(FILE_BYTES)?;
        let word = |offset| mapping.word(offset).load(Ordering::Acquire);
        let ends = Ends {
            manifest_number: word(MANIFEST_NUMBER),
            manifest_end: word(MANIFEST_END),
            series_end: word(SERIES_END),
            clock: word(CLOCK),
        };
        let ends = if word(EPOCH) % 2 == 0 { ends } else { Ends::default() };
        Ok(Some((Self { file, mapping, changing: Mutex::new(()) }, ends)))
    }

    /// The page's file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Checks what of the page has a checksum: its head.
    pub(crate) fn check(&self) -> Result<()> {
        let mut head = [0; SECTOR_BYTES];
        self.file.read_at(&mut head, 0)?;
        check_head(self.file.path(), &head)
    }

    /// Says which process writes now.
    pub(crate) fn set_writer(&self, boot_id: [u8; 16], pid: u32) {
        self.mapping.write(BOOT_ID, &boot_id);
        self.mapping.word(PID).store(pid.into(), Ordering::Relaxed);
    }

    /// Writes where the logs end, all durable, and which (block, generation)s are live.
    pub(crate) fn publish(&self, ends: Ends, blocks: impl Iterator<Item = (u64, u64)>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.mapping.word(EPOCH).load(Ordering::Relaxed) | 1;
        self.mapping.word(EPOCH).store(epoch, Ordering::Relaxed);
        // The odd epoch is seen before any of what follows. Readers pair it with an acquire fence before they read the
        // epoch again.
        fence(Ordering::Release);
        let mut used = 0;
        for (block, generation) in blocks.take(SLOTS_MAX) {
            let slot = PAGE_BYTES + used * SLOT_BYTES;
            self.mapping.word(slot).store(block, Ordering::Relaxed);
            self.mapping.word(slot + 8).store(generation, Ordering::Relaxed);
            used += 1;
        }
        let words = [
            (SLOTS_USED, used as u64),
            (MANIFEST_NUMBER, ends.manifest_number),
            (MANIFEST_END, ends.manifest_end),
            (SERIES_END, ends.series_end),
            (CLOCK, ends.clock),
        ];
        for (offset, value) in words {
            self.mapping.word(offset).store(value, Ordering::Relaxed);
        }
        // Release: whoever sees the even epoch sees all of the above.
        self.mapping.word(EPOCH).store(epoch + 1, Ordering::Release);
    }

    /// Makes the page durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data()
    }
}

fn check_head(path: &Path, head: &[u8; SECTOR_BYTES]) -> Result<()> {
    let (body, stored) = head.split_at(SECTOR_BYTES - 4);
    if !body.starts_with(&MAGIC) {
        return Err(Error::NotAStore { path: path.into(), reason: "its control page is something else".into() });
    }
    if stored != crc32fast::hash(body).to_le_bytes() {
        return Err(Error::corrupted(path, 0, "the control page's head fails its checksum"));
    }
    let version = Decoder::new(body.split_at(8).1).u32().unwrap_or(u32::MAX);
    if version > VERSION {
        return Err(Error::NewerVersion { path: path.into(), found: version, supported: VERSION });
    }
    Ok(())
}
