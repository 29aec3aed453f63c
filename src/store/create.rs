//! What a directory must be to become a store, and becoming one.

use std::path::Path;
use std::sync::Arc;

use crate::care::backup::UNFINISHED_FILE;
use crate::care::inventory::INVENTORY_FILE;
use crate::error::{Error, Result};
use crate::fs::fork::Origin;
use crate::fs::{File, FileSystem, LockKind};
use crate::model::now;
use crate::storage::control::Control;
use crate::storage::manifest::{self, Manifest};
use crate::storage::places::{
    ASIDE_DIR, CONTROL_FILE, LIVE_DIR, LOCK_FILE, MANIFEST_PREFIX, PINS_DIR, POISON_FILE, SEGMENTS_DIR, SERIES_FILE,
    SPILL_DIR, live_dir, segments_dir,
};
use crate::storage::series_log::SeriesLog;

/// All names of a store, save those of manifests.
const NAMES: [&str; 10] = [
    CONTROL_FILE,
    LOCK_FILE,
    SERIES_FILE,
    LIVE_DIR,
    SEGMENTS_DIR,
    ASIDE_DIR,
    PINS_DIR,
    SPILL_DIR,
    POISON_FILE,
    INVENTORY_FILE,
];

/// The names in a directory that is a store, or that may become one; an error if it is something else.
pub(super) fn names(fs: &dyn FileSystem, path: &Path) -> Result<Vec<String>> {
    let Some(entries) = fs.read_dir(path)? else {
        fs.create_dir(path)?;
        return Ok(Vec::new());
    };
    let names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    check_names(path, names.iter().map(String::as_str))?;
    Ok(names)
}

/// An error for a directory that has no control page, but something that is no part of a store.
pub(super) fn check_names<'a>(path: &Path, names: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    let is_ours = |name: &str| {
        let name = name.strip_suffix(".tmp").unwrap_or(name);
        // The series log under construction has lost its own suffix.
        NAMES.contains(&name) || name == "series" || name.starts_with(MANIFEST_PREFIX)
    };
    if names.clone().any(|name| name == UNFINISHED_FILE) {
        let reason = "it is a backup that was cut short; remove it and back up again".into();
        return Err(Error::NotAStore { path: path.into(), reason });
    }
    match names.clone().find(|name| !is_ours(name)) {
        Some(other) if !names.clone().any(|name| name == CONTROL_FILE) => {
            let reason = format!("it has no control page, but a {other:?}");
            Err(Error::NotAStore { path: path.into(), reason })
        }
        _ => Ok(()),
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

/// Makes an empty store. The control page comes last, so what is there without it is an attempt that was cut short, if
/// it cannot hold anything. Else somebody lost the page, and nothing is touched.
pub(super) fn create(fs: &Arc<dyn FileSystem>, path: &Path, leftovers: &[String]) -> Result<()> {
    check_empty(&**fs, path, leftovers)?;
    let is_file =
        |name: &&String| ![LOCK_FILE, LIVE_DIR, SEGMENTS_DIR, ASIDE_DIR, PINS_DIR, SPILL_DIR].contains(&name.as_str());
    leftovers.iter().filter(is_file).try_for_each(|name| fs.remove(&path.join(name)))?;
    fs.create_dir(&live_dir(path))?;
    fs.create_dir(&segments_dir(path))?;
    SeriesLog::create(&**fs, &path.join(SERIES_FILE))?;
    Manifest::create(fs.clone(), path)?;
    Control::create(&**fs, &path.join(CONTROL_FILE), store_id(path))?;
    fs.sync_dir(path)
}

/// An error if a directory without a control page has what a creation does not make: any segment or live block, a table in
/// the manifest, or a series in the log.
fn check_empty(fs: &dyn FileSystem, path: &Path, leftovers: &[String]) -> Result<()> {
    let holds = |what: String| {
        let reason = format!("the control page is missing, but {what}: this is a part of a store; nothing was touched");
        Err(Error::corrupted(&path.join(CONTROL_FILE), 0, reason))
    };
    for (dir, what) in [(segments_dir(path), "segments"), (path.join(LIVE_DIR), "live blocks")] {
        if let Some(file) = fs.read_dir(&dir)?.unwrap_or_default().first() {
            return holds(format!("there are {what} such as {}", file.name));
        }
    }
    // A file has its name only when it is whole, so what cannot be read here was damaged later.
    if leftovers.iter().any(|name| name.starts_with(MANIFEST_PREFIX) && !name.ends_with(".tmp")) {
        let catalog = manifest::read(fs, path, leftovers, (0, 0))?;
        if !catalog.is_empty() {
            return holds(format!("the manifest has {} tables", catalog.tables.len()));
        }
    }
    let series_path = path.join(SERIES_FILE);
    if let Some(file) = fs.open(&series_path)? {
        let records = SeriesLog::check(&series_path, &crate::fs::read_all(&*file)?, 0)?.len();
        if records > 0 {
            return holds(format!("the series log has {records} series"));
        }
    }
    Ok(())
}

/// Tells stores apart. Unique for any two that were not made in one process in the same nanosecond at the same path.
pub(super) fn store_id(path: &Path) -> [u8; 16] {
    let time = now().as_nanos().to_le_bytes();
    let place = crc32fast::hash(path.as_os_str().as_encoded_bytes()).to_le_bytes();
    let process = std::process::id().to_le_bytes();
    let mut id = [0; 16];
    let parts = time.iter().chain(&place).chain(&process);
    id.iter_mut().zip(parts).for_each(|(byte, part)| *byte = *part);
    id
}
