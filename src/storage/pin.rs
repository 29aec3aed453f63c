//! Pins: how a reader in another process keeps the files it reads.
//!
//! Each time a commit takes files out of the store, the store moves on to the next pin, a small file that is locked and
//! never read. A reader holds a shared lock on the pin of the state that it reads.
//!
//! **Invariant:** files that a commit took out while pin `p` was current are removed only when nobody holds pin `p` or an
//! earlier one. A reader that has locked a pin looks at the control page again: if the store has moved on meanwhile, it
//! lets go. So when the store finds a pin of the past free, nobody can come to hold it any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::fs::{File, FileSystem, LockKind};

use super::places::pins_dir;

const SUFFIX: &str = ".pin";

fn path(store: &Path, number: u64) -> PathBuf {
    pins_dir(store).join(format!("{number:010}{SUFFIX}"))
}

/// A pin that a reader holds.
#[derive(Debug)]
pub(crate) struct HeldPin {
    pub(crate) number: u64,
    _file: Arc<dyn File>,
}

impl HeldPin {
    /// Takes pin `number`; `None` if it is gone, or being looked at by the store just now: the caller reads the control
    /// page again.
    pub(crate) fn take(fs: &dyn FileSystem, store: &Path, number: u64) -> Result<Option<Self>> {
        let Some(file) = fs.open_read(&path(store, number))? else { return Ok(None) };
        Ok(file.try_lock(LockKind::Shared)?.then_some(Self { number, _file: file }))
    }
}

/// A pin as the writing process sees it.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) number: u64,
    file: Arc<dyn File>,
}

impl Pin {
    /// Makes the next pin. Nothing of it needs to be durable: whoever could hold it ends with the machine.
    pub(crate) fn make(fs: &dyn FileSystem, store: &Path, number: u64) -> Result<Self> {
        let path = path(store, number);
        let file = match fs.open(&path)? {
            Some(file) => file,
            None => fs.create(&path)?,
        };
        Ok(Self { number, file })
    }

    /// The pins that former lives of the store left, by number.
    pub(crate) fn left(fs: &dyn FileSystem, store: &Path) -> Result<Vec<Self>> {
        let names = fs.read_dir(&pins_dir(store))?.unwrap_or_default();
        let number = |name: &str| name.strip_suffix(SUFFIX).and_then(|number| number.parse::<u64>().ok());
        let mut numbers: Vec<u64> = names.iter().filter_map(|entry| number(&entry.name)).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| Self::make(fs, store, number)).collect()
    }

    /// Whether any reader holds it now.
    pub(crate) fn is_held(&self) -> Result<bool> {
        let free = self.file.try_lock(LockKind::Exclusive)?;
        if free {
            self.file.unlock()?;
        }
        Ok(!free)
    }

    /// Removes it, if nobody holds it. Only for pins of the past.
    pub(crate) fn remove_if_free(&self, fs: &dyn FileSystem) -> Result<bool> {
        let free = self.file.try_lock(LockKind::Exclusive)?;
        if free {
            fs.remove(self.file.path())?;
        }
        Ok(free)
    }
}
