//! Directories: names as the process sees them, names on the disk, and the changes between.
//!
//! **Invariant:** a durable name changes by [`Tree::sync`] alone, and there in the order in which the changes were made.
//!
//! **Invariant:** a rename takes the old name away in no image that does not have the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::chance::{Odds, Random};

pub(super) const ROOT: u64 = 1;

type Names = BTreeMap<String, u64>;

/// A name in a directory, whether or not something has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: u64,
    pub(super) name: String,
}

/// A change of names that no sync has covered.
#[derive(Clone, Debug)]
enum Change {
    Link { at: Place, inode: u64 },
    Unlink { at: Place },
    Rename { from: Place, to: Place, inode: u64 },
}

#[derive(Clone, Debug, Default)]
struct Directory {
    live: Names,
    durable: Names,
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    directories: BTreeMap<u64, Directory>,
    changes: Vec<Change>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { directories: BTreeMap::from([(ROOT, Directory::default())]), changes: Vec::new() }
    }

    /// The directory at `path`; relative paths start at the root.
    pub(super) fn directory(&self, path: &Path) -> io::Result<u64> {
        split(path)?.iter().try_fold(ROOT, |directory, name| self.step(directory, name))
    }

    /// Where the last name of `path` belongs.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let mut names = split(path)?;
        let name = names.pop().ok_or(io::ErrorKind::IsADirectory)?;
        let directory = names.iter().try_fold(ROOT, |directory, name| self.step(directory, name))?;
        Ok(Place { directory, name })
    }

    fn step(&self, directory: u64, name: &str) -> io::Result<u64> {
        let names = &self.directories.get(&directory).ok_or(io::ErrorKind::NotADirectory)?.live;
        let inode = *names.get(name).ok_or(io::ErrorKind::NotFound)?;
        if self.is_directory(inode) { Ok(inode) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    pub(super) fn is_directory(&self, inode: u64) -> bool {
        self.directories.contains_key(&inode)
    }

    /// What has the name now.
    pub(super) fn find(&self, at: &Place) -> Option<u64> {
        self.directories.get(&at.directory)?.live.get(&at.name).copied()
    }

    pub(super) fn names(&self, directory: u64) -> impl Iterator<Item = (&String, u64)> {
        self.directories
            .get(&directory)
            .into_iter()
            .flat_map(|names| names.live.iter().map(|(name, inode)| (name, *inode)))
    }

    pub(super) fn link(&mut self, at: Place, inode: u64) {
        set(&mut self.directories, Side::Live, &at, Some(inode));
        self.changes.push(Change::Link { at, inode });
    }

    /// Makes the missing directories of `path`. The last one's name becomes durable with all others in its parent; names
    /// further up do not, which is all that [`FileSystem::create_dir`](crate::fs::FileSystem::create_dir) promises.
    pub(super) fn create_directories(&mut self, path: &Path, mut inode: impl FnMut() -> u64) -> io::Result<()> {
        let (mut parent, mut directory) = (None, ROOT);
        for name in split(path)? {
            let at = Place { directory, name };
            parent = Some(directory);
            directory = match self.find(&at) {
                Some(found) if self.is_directory(found) => found,
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let new = inode();
                    self.directories.insert(new, Directory::default());
                    self.link(at, new);
                    new
                }
            };
        }
        if let Some(parent) = parent {
            self.sync(parent);
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, at: Place) {
        set(&mut self.directories, Side::Live, &at, None);
        self.changes.push(Change::Unlink { at });
    }

    pub(super) fn rename(&mut self, from: Place, to: Place, inode: u64) {
        // Two names of one file: POSIX leaves both.
        if self.find(&to) == Some(inode) {
            return;
        }
        set(&mut self.directories, Side::Live, &from, None);
        set(&mut self.directories, Side::Live, &to, Some(inode));
        self.changes.push(Change::Rename { from, to, inode });
    }

    /// Makes the names in `directory` durable. A rename out of it takes its target along.
    pub(super) fn sync(&mut self, directory: u64) {
        let mut pending: Vec<Change> = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Link { at, inode } if at.directory == directory => {
                    set(&mut self.directories, Side::Durable, &at, Some(inode));
                }
                Change::Unlink { at } if at.directory == directory => {
                    set(&mut self.directories, Side::Durable, &at, None);
                }
                Change::Rename { from, to, inode } if from.directory == directory || to.directory == directory => {
                    // Older changes of the target that still wait would undo it.
                    pending.retain(|older| older.target() != &to);
                    set(&mut self.directories, Side::Durable, &to, Some(inode));
                    if from.directory == directory {
                        set(&mut self.directories, Side::Durable, &from, None);
                    } else {
                        pending.push(Change::Unlink { at: from });
                    }
                }
                other => pending.push(other),
            }
        }
        self.changes = pending;
    }

    /// A sync of `directory` that failed: its changes count as written, and are not.
    pub(super) fn drop_changes(&mut self, directory: u64) {
        self.changes.retain(|change| change.target().directory != directory);
    }

    /// Every inode that some name has, had when last synced, or may have after a crash.
    pub(super) fn referenced(&self) -> BTreeSet<u64> {
        let names = self.directories.values().flat_map(|names| names.live.values().chain(names.durable.values()));
        let changes = self.changes.iter().filter_map(|change| match change {
            Change::Link { inode, .. } | Change::Rename { inode, .. } => Some(inode),
            Change::Unlink { .. } => None,
        });
        names.chain(changes).copied().collect()
    }

    /// The names that may be on the disk after power is lost now.
    pub(super) fn image(&self, odds: Odds, random: &mut Random) -> Self {
        let mut disk = self.directories.clone();
        for change in &self.changes {
            if !odds.happened(random) {
                continue;
            }
            match change {
                Change::Link { at, inode } => set(&mut disk, Side::Durable, at, Some(*inode)),
                Change::Unlink { at } => set(&mut disk, Side::Durable, at, None),
                Change::Rename { from, to, inode } => {
                    set(&mut disk, Side::Durable, to, Some(*inode));
                    if odds.happened(random) {
                        set(&mut disk, Side::Durable, from, None);
                    }
                }
            }
        }
        let mut directories = BTreeMap::new();
        let mut reached = vec![ROOT];
        while let Some(inode) = reached.pop() {
            let Some(directory) = disk.remove(&inode) else { continue };
            reached.extend(directory.durable.values());
            directories.insert(inode, Directory { live: directory.durable.clone(), durable: directory.durable });
        }
        Self { directories, changes: Vec::new() }
    }
}

impl Change {
    fn target(&self) -> &Place {
        match self {
            Self::Link { at, .. } | Self::Unlink { at } | Self::Rename { to: at, .. } => at,
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Live,
    Durable,
}

fn set(directories: &mut BTreeMap<u64, Directory>, side: Side, at: &Place, inode: Option<u64>) {
    let Some(directory) = directories.get_mut(&at.directory) else { return };
    let names = match side {
        Side::Live => &mut directory.live,
        Side::Durable => &mut directory.durable,
    };
    match inode {
        Some(inode) => names.insert(at.name.clone(), inode),
        None => names.remove(&at.name),
    };
}

fn split(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidFilename)?.to_owned()),
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    Ok(names)
}
