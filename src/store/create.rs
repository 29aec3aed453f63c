//! What a directory must be to become a store, and becoming one.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::fork::Origin;
use crate::fs::{File, FileSystem, LockKind};
use crate::model::now;
use crate::storage::control::Control;
use crate::storage::manifest::Manifest;
use crate::storage::places::{
    CONTROL_FILE, LIVE_DIR, LOCK_FILE, MANIFEST_PREFIX, PINS_DIR, POISON_FILE, SEGMENTS_DIR, SERIES_FILE, SPILL_DIR,
    live_dir, segments_dir,
};
use crate::storage::series_log::SeriesLog;

/// All names of a store, save those of manifests.
const NAMES: [&str; 8] =
    [CONTROL_FILE, LOCK_FILE, SERIES_FILE, LIVE_DIR, SEGMENTS_DIR, PINS_DIR, SPILL_DIR, POISON_FILE];

/// The names in a directory that is a store, or that may become one; an error if it is something else.
pub(super) fn names(fs: &dyn FileSystem, path: &Path) -> Result<Vec<String>> {
    let Some(entries) = fs.read_dir(path)? else {
        fs.create_dir(path)?;
        return Ok(Vec::new());
    };
    let is_ours = |name: &str| {
        let name = name.strip_suffix(".tmp").unwrap_or(name);
        // The series log under construction has lost its own suffix.
        NAMES.contains(&name) || name == "series" || name.starts_with(MANIFEST_PREFIX)
    };
    let names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    match names.iter().find(|name| !is_ours(name)) {
        Some(other) if !names.iter().any(|name| name == CONTROL_FILE) => {
            let reason = format!("it has no control page, but a {other:?}");
            Err(Error::NotAStore { path: path.into(), reason })
        }
        _ => Ok(names),
    }
}

/// The right to write to a store, for as long as it lives.
#[derive(Debug)]
pub(super) struct WriterLock {
    file: Arc<dyn File>,
    origin: Origin,
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // A process that the host is just starting has the file open too, until it executes its program. A forked child
        // gives up its part by closing the file, and not the parent's right.
        if self.origin.is_here()
            && let Err(error) = self.file.unlock()
        {
            tracing::warn!(%error, "the store's lock is given up only when its file is closed everywhere");
        }
    }
}

/// Takes the writer's lock, or says who has it.
pub(super) fn lock(fs: &dyn FileSystem, path: &Path) -> Result<WriterLock> {
    let lock_path = path.join(LOCK_FILE);
    let file = match fs.open(&lock_path)? {
        Some(file) => file,
        None => fs.create(&lock_path)?,
    };
    if !file.try_lock(LockKind::Exclusive)? {
        let text = crate::fs::read_all(&*file)?;
        let pid = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        return Err(Error::Locked { path: path.into(), pid });
    }
    file.set_len(0)?;
    file.write_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
    Ok(WriterLock { file, origin: Origin::default() })
}

/// Makes an empty store. The control page comes last: without it, what else is there is an attempt that was cut short.
pub(super) fn create(fs: &Arc<dyn FileSystem>, path: &Path, leftovers: &[String]) -> Result<()> {
    let is_file = |name: &&String| ![LOCK_FILE, LIVE_DIR, SEGMENTS_DIR, PINS_DIR, SPILL_DIR].contains(&name.as_str());
    leftovers.iter().filter(is_file).try_for_each(|name| fs.remove(&path.join(name)))?;
    fs.create_dir(&live_dir(path))?;
    fs.create_dir(&segments_dir(path))?;
    SeriesLog::create(&**fs, &path.join(SERIES_FILE))?;
    Manifest::create(fs.clone(), path)?;
    Control::create(&**fs, &path.join(CONTROL_FILE), store_id(path))?;
    fs.sync_dir(path)
}

/// Tells stores apart. Unique for any two that were not made in one process in the same nanosecond at the same path.
fn store_id(path: &Path) -> [u8; 16] {
    let time = now().as_nanos().to_le_bytes();
    let place = crc32fast::hash(path.as_os_str().as_encoded_bytes()).to_le_bytes();
    let process = std::process::id().to_le_bytes();
    let mut id = [0; 16];
    let parts = time.iter().chain(&place).chain(&process);
    id.iter_mut().zip(parts).for_each(|(byte, part)| *byte = *part);
    id
}
