//! Models of the protocols over shared memory: the files of the store that hold them, with the machines of two model
//! checkers in the place of threads and atomics. See `README.md`.
#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, dead_code)]

mod control;
mod machine;
mod snapshot;

#[path = "../../src/sync.rs"]
mod sync;

mod fs {
    pub(crate) const SECTOR_BYTES: usize = 512;
    pub(crate) const PAGE_BYTES: usize = 4096;
}

#[path = "../../src/ingest/turn.rs"]
mod turn;

#[path = "../../src/snapshot/cut/moment.rs"]
mod moment;

#[path = "../../src/storage/control/page.rs"]
mod page;
