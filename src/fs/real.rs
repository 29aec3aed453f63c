//! Linux.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use super::mapping::{Backing, check_write_back};
use super::{DirEntry, File, FileSystem, Identity, LockKind, Mapping, Space};
use crate::error::{Error, Result};

/// The kernel's file systems.
#[derive(Debug, Default)]
pub(crate) struct RealFs {
    written: Arc<AtomicU64>,
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    path: PathBuf,
    access: Access,
    written: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Create,
    Write,
    Read,
}

impl RealFs {
    fn open_with(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        // NONBLOCK so that a FIFO in a file's place is an error and not a wait; NOFOLLOW so that a link is none.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = fs::OpenOptions::new();
        options.read(true).write(access != Access::Read).create_new(access == Access::Create).custom_flags(flags);
        let file = options.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        Ok(Arc::new(RealFile { file, path: path.to_path_buf(), access, written: self.written.clone() }))
    }

    fn find(&self, path: &Path, access: Access) -> Result<Option<Arc<dyn File>>> {
        match self.open_with(path, access) {
            Ok(file) => Ok(Some(file)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("opening", path, source)),
        }
    }
}

impl FileSystem for RealFs {
    fn create_dir(&self, path: &Path) -> Result<()> {
        let missing: Vec<&Path> =
            path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()).collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir(dir).map_err(|source| Error::io("creating directory", dir, source))?;
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            self.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> Result<Option<Vec<DirEntry>>> {
        let failed = |source| Error::io("reading directory", path, source);
        let entries = match fs::read_dir(path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            names.push(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), is_file });
        }
        Ok(Some(names))
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.open_with(path, Access::Create).map_err(|source| Error::io("creating", path, source))
    }

    fn open(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        self.find(path, Access::Write)
    }

    fn open_read(&self, path: &Path) -> Result<Option<Arc<dyn File>>> {
        self.find(path, Access::Read)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|source| Error::io("renaming to", to, source))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool> {
        use io::ErrorKind::{CrossesDevices, NotFound, PermissionDenied, TooManyLinks, Unsupported};
        match fs::hard_link(from, to).map_err(|source| (source.kind(), source)) {
            Ok(()) => Ok(true),
            // File systems without hard links say that they do not permit them.
            Err((CrossesDevices | NotFound | PermissionDenied | TooManyLinks | Unsupported, _)) => Ok(false),
            Err((_, source)) => Err(Error::io("linking", to, source)),
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path, source)),
            _ => Ok(()),
        }
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        match fs::remove_dir_all(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path, source)),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        fs::File::open(path)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| Error::io(super::SYNCING_DIRECTORY, path, source))
    }

    fn copy_on_write(&self, path: &Path) -> Result<Option<&'static str>> {
        let stat = rustix::fs::statfs(path).map_err(|source| Error::io("examining", path, source.into()))?;
        // The magic numbers of linux/magic.h, OpenZFS and bcachefs.
        Ok(match stat.f_type as u64 & 0xFFFF_FFFF {
            0x9123_683E => Some("btrfs"),
            0x2FC1_2FC1 => Some("zfs"),
            0xCA45_1A4E => Some("bcachefs"),
            _ => None,
        })
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let stat = rustix::fs::statvfs(path).map_err(|source| Error::io("examining", path, source.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { bytes: bytes(stat.f_blocks), free_bytes: bytes(stat.f_bavail) })
    }

    fn boot_id(&self) -> [u8; 16] {
        // A kernel that does not say gives zeros, which match no block's: counts are then not trusted.
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
    }

    fn bytes_written(&self) -> u64 {
        // Relaxed: it is looked at, and orders nothing.
        self.written.load(Ordering::Relaxed)
    }
}

impl RealFile {
    fn error(&self, operation: &'static str) -> impl FnOnce(io::Error) -> Error + '_ {
        move |source| Error::io(operation, &self.path, source)
    }
}

impl File for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(self.error("examining"))?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::corrupted(&self.path, offset, "the file ends here"),
            _ => Error::io("reading", &self.path, source),
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(self.error("writing"))?;
        // Relaxed: it is looked at, and orders nothing.
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(self.error("resizing"))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len)
            .map_err(|source| self.error("allocating")(source.into()))
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().map_err(self.error("syncing"))
    }

    fn sync_range(&self, mapping: &Mapping, offset: usize, len: usize) -> Result<()> {
        mapping.flush(offset, len).map_err(self.error("syncing"))
    }

    fn check_write_back(&self) -> Result<()> {
        check_write_back(&self.file).map_err(self.error("checking write-back of"))
    }

    fn map(&self, len: usize) -> Result<Mapping> {
        let mut options = memmap2::MmapOptions::new();
        options.len(len);
        let map = match self.access {
            Access::Read => options.map_raw_read_only(&self.file),
            Access::Create | Access::Write => options.map_raw(&self.file),
        };
        let map = map.map_err(self.error("mapping"))?;
        Mapping::new(Backing::File(map)).ok_or_else(|| Error::corrupted(&self.path, 0, "nothing to map"))
    }

    fn try_lock(&self, kind: LockKind) -> Result<bool> {
        let operation = match kind {
            LockKind::Shared => FlockOperation::NonBlockingLockShared,
            LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&self.file, operation) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(source) => Err(self.error("locking")(source.into())),
        }
    }

    fn unlock(&self) -> Result<()> {
        rustix::fs::flock(&self.file, FlockOperation::Unlock).map_err(|source| self.error("unlocking")(source.into()))
    }

    fn identity(&self) -> Result<Identity> {
        let metadata = self.file.metadata().map_err(self.error("examining"))?;
        Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
    }
}
