//! Bytes in sectors that copies share until one of them is written, so that an image is a choice of pointers.
//!
//! **Invariant:** bytes of the last sector after the length are zero, and so is every sector after that. A sector can
//! therefore be compared and taken whole.

use std::sync::{Arc, LazyLock};

use crate::fs::SECTOR_BYTES;

pub(super) type Sector = Arc<[u8; SECTOR_BYTES]>;

static ZEROS: LazyLock<Sector> = LazyLock::new(|| Arc::new([0; SECTOR_BYTES]));

#[derive(Clone, Default)]
pub(super) struct Sectors {
    sectors: Arc<Vec<Sector>>,
    len: usize,
}

impl std::fmt::Debug for Sectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

impl Sectors {
    /// `len` bytes as `fill` gives them from an offset on, sharing with `like` what is equal.
    pub(super) fn filled(len: usize, like: &Self, fill: impl Fn(usize, &mut [u8])) -> Self {
        let sector = |number: usize| {
            let mut bytes = [0; SECTOR_BYTES];
            let start = number * SECTOR_BYTES;
            fill(start, bytes.split_at_mut(SECTOR_BYTES.min(len - start)).0);
            let same = Some(like.get(number)).filter(|same| ***same == bytes);
            same.map_or_else(|| Arc::new(bytes), Arc::clone)
        };
        Self { sectors: Arc::new((0..len.div_ceil(SECTOR_BYTES)).map(sector).collect()), len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written to either since one became the copy of the other. If not they may still be equal.
    pub(super) fn shares_all(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sectors, &other.sectors)
    }

    /// One sector, whole.
    pub(super) fn get(&self, number: usize) -> &Sector {
        self.sectors.get(number).unwrap_or(&ZEROS)
    }

    /// Replaces one sector. It lies within the length, and so do all its bytes that are not zero.
    pub(super) fn set(&mut self, number: usize, sector: Sector) {
        if let Some(old) = Arc::make_mut(&mut self.sectors).get_mut(number) {
            *old = sector;
        }
    }

    /// Copies bytes out; zeros after the end.
    pub(super) fn read(&self, mut offset: usize, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let within = offset % SECTOR_BYTES;
            let (here, rest) = buffer.split_at_mut(buffer.len().min(SECTOR_BYTES - within));
            let (_, from) = self.get(offset / SECTOR_BYTES).split_at(within);
            here.copy_from_slice(from.split_at(here.len()).0);
            offset += here.len();
            buffer = rest;
        }
    }

    /// Copies bytes in, extending if need be.
    pub(super) fn write(&mut self, mut offset: usize, mut bytes: &[u8]) {
        if offset + bytes.len() > self.len {
            self.resize(offset + bytes.len());
        }
        let sectors = Arc::make_mut(&mut self.sectors);
        while !bytes.is_empty() {
            let within = offset % SECTOR_BYTES;
            let (here, rest) = bytes.split_at(bytes.len().min(SECTOR_BYTES - within));
            if let Some(sector) = sectors.get_mut(offset / SECTOR_BYTES) {
                let (_, to) = Arc::make_mut(sector).split_at_mut(within);
                to.split_at_mut(here.len()).0.copy_from_slice(here);
            }
            offset += here.len();
            bytes = rest;
        }
    }

    /// Cuts, or extends with zeros.
    pub(super) fn resize(&mut self, len: usize) {
        if len == self.len {
            return;
        }
        let sectors = Arc::make_mut(&mut self.sectors);
        sectors.resize(len.div_ceil(SECTOR_BYTES), Arc::clone(&ZEROS));
        let within = len % SECTOR_BYTES;
        if len < self.len
            && within > 0
            && let Some(last) = sectors.last_mut()
        {
            Arc::make_mut(last).split_at_mut(within).1.fill(0);
        }
        self.len = len;
    }
}
