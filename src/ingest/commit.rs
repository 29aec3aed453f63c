//! Commit entries: which prefix of a live block a sync has made durable.
//!
//! A sync writes one entry into the next slot of a ring and then syncs the file once. The entry's checksums are
//! *cumulative*: each covers all of a column's bytes below `rows`, and is continued from sync to sync, so that an entry
//! stands by itself and four slots suffice for any number of syncs.
//!
//! **Invariant:** at most one sync of a block is under way, and the entry before it was durable before it began. So after
//! a power loss the newest entry whose sectors agree and whose checksums hold is the last sync that answered, or a later
//! one; an entry that does not hold is one whose sync never answered, and the one before it must hold. If neither does,
//! the block is damaged.
//!
//! Each sector of an entry has its own checksum. A sector is written whole, so a sector that fails it is damage, and
//! sectors of different sequence numbers are a torn entry, which is not.

use crate::fs::SECTOR_BYTES;

const HEAD_BYTES: usize = 40;
/// Column checksums in one sector of an entry.
pub(crate) const SECTOR_CHECKSUMS: usize = (SECTOR_BYTES - HEAD_BYTES) / 4;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitEntry {
    pub(crate) generation: u64,
    /// Counts the syncs of this generation, from 1.
    pub(crate) sequence: u64,
    pub(crate) rows: u64,
    pub(crate) heap_bytes: u64,
    /// One a region, in the layout's order.
    pub(crate) checksums: Vec<u32>,
    /// Of what the marks say of these rows, where the table keeps ingest times; else 0, and where the last sector has no
    /// room for it.
    pub(crate) marks: u32,
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Never written, or cleared.
    Empty,
    /// A whole entry.
    Entry(CommitEntry),
    /// Sectors of two syncs: the later one was cut short.
    Torn,
    /// A sector fails its checksum.
    Damaged,
}

impl CommitEntry {
    /// The entry's sectors.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Behind the others, and in no sector of its own: where there are slots of an earlier build there is none.
        let room = !self.checksums.len().is_multiple_of(SECTOR_CHECKSUMS);
        let all: Vec<u32> = self.checksums.iter().copied().chain(room.then_some(self.marks)).collect();
        let parts = all.chunks(SECTOR_CHECKSUMS);
        let mut bytes = Vec::with_capacity(parts.len() * SECTOR_BYTES);
        for (part, checksums) in (0u32..).zip(parts) {
            let mut body = Vec::with_capacity(SECTOR_BYTES);
            body.extend_from_slice(&part.to_le_bytes());
            for word in [self.generation, self.sequence, self.rows, self.heap_bytes] {
                body.extend_from_slice(&word.to_le_bytes());
            }
            checksums.iter().for_each(|checksum| body.extend_from_slice(&checksum.to_le_bytes()));
            body.resize(SECTOR_BYTES - 4, 0);
            bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    /// Reads a slot that should have `regions` checksums.
    pub(crate) fn decode(bytes: &[u8], regions: usize) -> Slot {
        if bytes.iter().all(|byte| *byte == 0) {
            return Slot::Empty;
        }
        let mut entry: Option<CommitEntry> = None;
        for (part, sector) in (0u32..).zip(bytes.chunks_exact(SECTOR_BYTES)) {
            let (stored, body) = sector.split_at(4);
            if sector.iter().all(|byte| *byte == 0) {
                return Slot::Torn;
            }
            if stored != crc32fast::hash(body).to_le_bytes() {
                return Slot::Damaged;
            }
            let mut words = body.split_at(4).1.chunks_exact(8).map(le_u64);
            let mut word = || words.next().unwrap_or_default();
            let head = [word(), word(), word(), word()];
            let [generation, sequence, rows, heap_bytes] = head;
            if body.split_at(4).0 != part.to_le_bytes() {
                return Slot::Damaged;
            }
            let entry = entry.get_or_insert_with(|| Self {
                generation,
                sequence,
                rows,
                heap_bytes,
                checksums: Vec::with_capacity(regions),
                marks: 0,
            });
            if [entry.generation, entry.sequence, entry.rows, entry.heap_bytes] != head {
                return Slot::Torn;
            }
            let wanted = regions - entry.checksums.len();
            let mut checksums = body.split_at(HEAD_BYTES - 4).1.chunks_exact(4).map(le_u32);
            entry.checksums.extend(checksums.by_ref().take(wanted));
            entry.marks = checksums.next().unwrap_or(0);
        }
        entry.map_or(Slot::Empty, Slot::Entry)
    }
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}
