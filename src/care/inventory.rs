//! What a backup was when it was made: every byte of its files is under some checksum.
//!
//! Segments are not listed: the manifest vouches for them. The files that a store changes once it is opened are, so the first
//! opening removes the list.
//!
//! File: magic, version u32, count u32, then an entry a file {path from the backup's directory, length u64, CRC-32 u32}, then
//! the CRC-32 of all before.

use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem};
use crate::storage::codec::{Decoder, Encoder};

/// Name of the list in a backup.
pub(crate) const INVENTORY_FILE: &str = "inventory";

const MAGIC: [u8; 8] = *b"dnytinvt";
const VERSION: u32 = 1;
const CHUNK_BYTES: usize = 1 << 20;

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
    checksum: u32,
}

/// Sums all of a file.
fn sum(file: &dyn File) -> Result<(u64, u32)> {
    let len = file.len()?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < len {
        let size = usize::try_from(len - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let bytes = buffer.split_at_mut(size).0;
        file.read_at(bytes, at)?;
        hasher.update(bytes);
        at += size as u64;
    }
    Ok((len, hasher.finalize()))
}

fn gone(path: &Path) -> Error {
    Error::corrupted(path, 0, "the file is gone")
}

/// Lists the files `names` of the directory `dir`, and makes the list durable.
pub(super) fn write(fs: &dyn FileSystem, dir: &Path, names: &[String]) -> Result<u64> {
    let mut out = Encoder::default();
    MAGIC.iter().for_each(|byte| {
        out.u8(*byte);
    });
    out.u32(VERSION).u32(u32::try_from(names.len()).unwrap_or(u32::MAX));
    for name in names {
        let path = dir.join(name);
        let (bytes, checksum) = sum(&*fs.open(&path)?.ok_or_else(|| gone(&path))?)?;
        out.text(name).u64(bytes).u32(checksum);
    }
    let mut bytes = out.into_bytes();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    fs::publish(fs, &dir.join(INVENTORY_FILE), &bytes)?;
    Ok(bytes.len() as u64)
}

/// The list in `dir`, if there is one.
pub(super) fn read(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Vec<Entry>>> {
    let path = dir.join(INVENTORY_FILE);
    let Some(file) = fs.open(&path)? else { return Ok(None) };
    let bytes = fs::read_all(&*file)?;
    let damaged = || Error::corrupted(&path, 0, "the list of the backup's files is not what was written");
    let (body, stored) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*stored) || !body.starts_with(&MAGIC) {
        return Err(damaged());
    }
    let mut fields = Decoder::new(body.split_at(MAGIC.len()).1);
    match fields.u32() {
        Some(VERSION) => {}
        Some(found) => return Err(Error::NewerVersion { path, found, supported: VERSION }),
        None => return Err(damaged()),
    }
    let entry = |fields: &mut Decoder<'_>| {
        Some(Entry { name: fields.text()?.to_string(), bytes: fields.u64()?, checksum: fields.u32()? })
    };
    let count = fields.u32().ok_or_else(damaged)?;
    let entries = (0..count).map(|_| entry(&mut fields)).collect::<Option<Vec<_>>>();
    entries.filter(|_| fields.is_empty()).ok_or_else(damaged).map(Some)
}

/// Checks that a listed file is what it was.
pub(super) fn check(fs: &dyn FileSystem, dir: &Path, entry: &Entry) -> Result<()> {
    let path = dir.join(&entry.name);
    let (bytes, checksum) = sum(&*fs.open(&path)?.ok_or_else(|| gone(&path))?)?;
    if bytes != entry.bytes {
        let reason = format!("the file has {bytes} bytes, the backup wrote {}", entry.bytes);
        return Err(Error::corrupted(&path, bytes.min(entry.bytes), reason));
    }
    if checksum != entry.checksum {
        return Err(Error::corrupted(&path, 0, "the file is not what the backup wrote"));
    }
    Ok(())
}
