//! One file's bytes: what the page cache shows, and what the disk holds.
//!
//! **Invariant:** a sector is dirty if what is live differs from what the kernel believes is on the disk. That belief is
//! the durable bytes, except for sectors that a failed sync dropped: their bytes at that moment count as written. Dirt
//! is found by comparing, since nobody sees a store to mapped memory happen.
//!
//! **Invariant:** durable bytes change in [`Contents::sync`] alone.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use super::chance::{Odds, Random};
use super::sectors::{Sector, Sectors};
use super::{FILE_BYTES_MAX, OpenFile};
use crate::fs::mapping::Backing;
use crate::fs::{Mapping, SECTOR_BYTES};

/// Live bytes.
#[derive(Debug)]
enum Live {
    Heap(Sectors),
    Mapped(Memory),
}

/// Memory that mappings of the file share with it.
#[derive(Debug)]
struct Memory {
    memory: Arc<MmapRaw>,
    view: Mapping,
}

impl Memory {
    /// Whether a mapping that was given out is still held: the file itself holds the memory twice.
    fn is_mapped(&self) -> bool {
        Arc::strong_count(&self.memory) > 2
    }

    fn sector(&self, len: usize, sector: usize) -> [u8; SECTOR_BYTES] {
        let mut bytes = [0; SECTOR_BYTES];
        let start = sector * SECTOR_BYTES;
        self.view.read(start, bytes.split_at_mut(len.saturating_sub(start).min(SECTOR_BYTES)).0);
        bytes
    }
}

/// Bytes and length of a file, live and durable.
#[derive(Debug)]
pub(super) struct Contents {
    live: Live,
    len: usize,
    durable: Sectors,
    /// Every length since the last sync, in order.
    lengths: Vec<usize>,
    /// Sectors that the kernel takes for written though they are not, as they were then.
    dropped: BTreeMap<usize, Sector>,
}

impl Default for Contents {
    fn default() -> Self {
        Self::settled(Sectors::default())
    }
}

impl Contents {
    /// A file of which every byte is on the disk.
    fn settled(bytes: Sectors) -> Self {
        let (len, durable) = (bytes.len(), bytes.clone());
        Self { live: Live::Heap(bytes), len, durable, lengths: Vec::new(), dropped: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// False if it ends before the buffer does.
    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> bool {
        if offset.checked_add(buffer.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        match &self.live {
            Live::Heap(bytes) => bytes.read(offset, buffer),
            Live::Mapped(memory) => memory.view.read(offset, buffer),
        }
        true
    }

    /// Writes, extending the file if need be. What a failed sync dropped here is dirty again.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(bytes.len()));
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        let start = end - bytes.len();
        if end > self.len {
            self.resize(end as u64)?;
        }
        match &mut self.live {
            Live::Heap(live) => live.write(start, bytes),
            Live::Mapped(memory) => memory.view.write(start, bytes),
        }
        if !self.dropped.is_empty() {
            self.dropped.retain(|sector, _| !(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).contains(sector));
        }
        Ok(())
    }

    /// Cuts, or extends with zeros.
    pub(super) fn resize(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).ok().filter(|len| *len <= FILE_BYTES_MAX).ok_or(io::ErrorKind::FileTooLarge)?;
        if len == self.len {
            return Ok(());
        }
        if let Live::Mapped(memory) = &self.live
            && len > memory.memory.len()
        {
            if memory.is_mapped() {
                let refusal = "the simulator cannot extend a file past its mapping while that is held";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, refusal));
            }
            self.detach();
        }
        match &mut self.live {
            Live::Heap(bytes) => bytes.resize(len),
            // Bytes above the length are zero, so that extending within the memory has nothing to do.
            Live::Mapped(memory) => memory.view.zero(len.min(self.len), self.len.saturating_sub(len)),
        }
        self.lengths.push(len);
        self.len = len;
        Ok(())
    }

    /// Shares the first `len` bytes. `open` stays open as long as the mapping lives.
    pub(super) fn map(&mut self, len: usize, open: &Arc<OpenFile>) -> io::Result<Mapping> {
        if len == 0 || len > self.len {
            let refusal = "a mapping that is empty or longer than its file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, refusal));
        }
        let share = |memory: &Arc<MmapRaw>, len, open| {
            let backing = Backing::Memory { memory: Arc::clone(memory), len, open };
            Mapping::new(backing).ok_or_else(|| io::Error::other("anonymous memory is not aligned"))
        };
        if let Live::Heap(bytes) = &self.live {
            let mut memory = MmapOptions::new().len(bytes.len()).map_anon()?;
            bytes.read(0, &mut memory);
            let memory = Arc::new(MmapRaw::from(memory));
            let view = share(&memory, bytes.len(), None)?;
            self.live = Live::Mapped(Memory { memory, view });
        }
        match &self.live {
            Live::Mapped(memory) => share(&memory.memory, len, Some(Arc::clone(open) as _)),
            Live::Heap(_) => Err(io::Error::other("the file is not in memory that can be mapped")),
        }
    }

    /// Whether `mapping` is one of this file.
    pub(super) fn owns(&self, mapping: &Mapping) -> bool {
        matches!(&self.live, Live::Mapped(memory) if memory.view.start() == mapping.start())
    }

    /// Takes the bytes back from mapped memory: what is written to that from now on is lost.
    pub(super) fn detach(&mut self) {
        self.live = Live::Heap(self.bytes());
    }

    /// The same bytes, live and durable, for another machine.
    pub(super) fn copy(&self) -> Self {
        Self {
            live: Live::Heap(self.bytes()),
            len: self.len,
            durable: self.durable.clone(),
            lengths: self.lengths.clone(),
            dropped: self.dropped.clone(),
        }
    }

    fn bytes(&self) -> Sectors {
        match &self.live {
            Live::Heap(bytes) => bytes.clone(),
            Live::Mapped(memory) => {
                Sectors::filled(self.len, &self.durable, |offset, page| memory.view.read(offset, page))
            }
        }
    }

    /// All of the file, as the range that [`sync`](Self::sync) takes.
    pub(super) fn all(&self) -> Range<usize> {
        0..self.len
    }

    /// Makes the sectors that `range` touches durable, and the length, without which they could not be reached. The
    /// answer is how many dirty bytes of mapped memory that wrote.
    pub(super) fn sync(&mut self, range: Range<usize>) -> u64 {
        let whole = range.start == 0 && range.end >= self.len;
        let written = match &self.live {
            Live::Heap(bytes) if whole && self.dropped.is_empty() => {
                self.durable = bytes.clone();
                0
            }
            live => {
                let dirty = self.dirty(range);
                self.durable.resize(self.len);
                for sector in &dirty {
                    self.durable.set(*sector, live.sector(self.len, *sector));
                    self.dropped.remove(sector);
                }
                if matches!(live, Live::Mapped(_)) { (dirty.len() * SECTOR_BYTES) as u64 } else { 0 }
            }
        };
        self.lengths.clear();
        written
    }

    /// A write-back that failed: the dirty sectors of `range` count as written, and are not.
    pub(super) fn drop_dirty(&mut self, range: Range<usize>) {
        for sector in self.dirty(range) {
            self.dropped.insert(sector, self.live.sector(self.len, sector));
        }
    }

    /// What the disk may hold after power is lost now.
    pub(super) fn image(&self, odds: Odds, random: &mut Random) -> Self {
        let len = match odds {
            Odds::Old => self.durable.len(),
            Odds::New => self.len,
            Odds::Mixed(_) if random.is_listing() => {
                let mut all = vec![self.durable.len(), self.len];
                all.extend(&self.lengths);
                all.sort_unstable();
                all.dedup();
                all.get(random.choose(all.len())).copied().unwrap_or(self.len)
            }
            Odds::Mixed(_) => match random.below(3) {
                0 => self.durable.len(),
                1 => self.len,
                // Of several changes the last that happened counts.
                _ => self.lengths.get(random.below(self.lengths.len())).copied().unwrap_or(self.durable.len()),
            },
        };
        let mut survivors = self.dirty(self.all());
        survivors.retain(|_| odds.happened(random));
        let mut bytes = self.durable.clone();
        bytes.resize(bytes.len().max(self.len));
        for sector in survivors {
            bytes.set(sector, self.live.sector(self.len, sector));
        }
        bytes.resize(len);
        Self::settled(bytes)
    }

    fn dirty(&self, range: Range<usize>) -> Vec<usize> {
        if let Live::Heap(bytes) = &self.live
            && bytes.shares_all(&self.durable)
            && self.dropped.is_empty()
        {
            return Vec::new();
        }
        let sectors = range.start / SECTOR_BYTES..range.end.min(self.len).div_ceil(SECTOR_BYTES);
        let is_dirty = |sector: &usize| {
            let believed = self.dropped.get(sector).unwrap_or_else(|| self.durable.get(*sector));
            self.live.differs(self.len, *sector, believed)
        };
        sectors.filter(is_dirty).collect()
    }
}

impl Live {
    /// One sector of a file of `len` bytes.
    fn sector(&self, len: usize, sector: usize) -> Sector {
        match self {
            Self::Heap(bytes) => Arc::clone(bytes.get(sector)),
            Self::Mapped(memory) => Arc::new(memory.sector(len, sector)),
        }
    }

    fn differs(&self, len: usize, sector: usize, other: &Sector) -> bool {
        match self {
            Self::Heap(bytes) => !Arc::ptr_eq(bytes.get(sector), other) && bytes.get(sector) != other,
            Self::Mapped(memory) => memory.sector(len, sector) != **other,
        }
    }
}
