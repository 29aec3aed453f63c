//! One function a fuzz target of `fuzz/`: bytes in, and out comes nothing, or a panic that is a bug.
//!
//! The disk is the simulator. Targets that damage a file start from a store that was made once, and damage it behind its
//! checksums too: bytes that fail a checksum are turned away at the door, and what lies behind is what needs fuzzing.
//! **What is held:** a damaged store opens or is a typed error, and the same of whatever is then done with it.

mod damaged;
mod decoders;
mod intake;
mod operations;
#[cfg(all(fuzzing, feature = "sql"))]
mod statements;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use crate::Result;
use crate::fs::sim::SimFs;
use crate::prelude::*;

pub use damaged::{control_page, live_block_recovery, manifest, segment_open, series_log};
pub use decoders::decoders;
#[cfg(feature = "feed")]
pub use intake::import_text;
pub use intake::{batch_ingest, names};
pub use operations::store_ops;
#[cfg(all(fuzzing, feature = "sql"))]
pub use statements::sql_text;

const STORE: &str = "/store";

/// The input, taken off from its front. What is missing is zero.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// Overwrites bytes of `target`, each piece said by {place u16, length u8, bytes}; places count from the end if `back`.
    fn patch(&mut self, target: &mut [u8], back: bool) {
        while !self.0.is_empty() && !target.is_empty() {
            let place = usize::from(self.u16()) % target.len();
            let place = if back { target.len() - 1 - place } else { place };
            let len = usize::from(self.u8() % 17);
            let piece = self.take(len);
            target.iter_mut().skip(place).zip(piece).for_each(|(byte, new)| *byte = *new);
        }
    }

    /// The rest in pieces, each after its length.
    fn pieces(&mut self) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while !self.0.is_empty() {
            let len = usize::from(self.u8());
            pieces.push(self.take(len).to_vec());
        }
        pieces
    }
}

/// Puts a checksum where it belongs.
fn store_le(bytes: &mut [u8], at: usize, word: u32) {
    bytes.iter_mut().skip(at).zip(word.to_le_bytes()).for_each(|(byte, new)| *byte = new);
}

fn open(fs: &Arc<SimFs>) -> Result<Store> {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    Store::open_on(fs.clone(), options.without_background(), Path::new(STORE))
}

fn numbered() -> Schema {
    Schema::new("numbered").tag("writer").i64("number", "").utf8("text", "").decimal("cost", 18, 2, "IDR")
}

fn append(writer: &mut Writer, name: &str, number: i64) -> Result<()> {
    let late = if number % 7 == 0 { 3_600_000_000_000 } else { 0 };
    let time = Time::from_nanos(1_700_000_000_000_000_000 + number * 60_000_000_000 - late);
    let text = format!("a text too long for a view, number {number}");
    let appended = writer.append_at(time, row! { writer: name, number: number, text: text.as_str() })?;
    assert_eq!(appended.accepted(), 1, "row {number} of {name}");
    Ok(())
}
