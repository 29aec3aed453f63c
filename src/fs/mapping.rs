//! Shared memory of a file, behind raw pointers.
//!
//! **Invariant:** no Rust reference spans a mapping while somebody may write it. Other processes and other threads of
//! this one change its bytes; what is shared word by word goes through the atomics here, what is written once and
//! published goes through raw copies, and the slices that the live block hands out cover published rows only.
//!
//! **Invariant:** the file under a mapping is at least as long as the mapping and really allocated, so that no access
//! faults. The processes that share a store trust each other not to truncate its files.
#![expect(unsafe_code, reason = "the mapping itself: bounds are checked here, once")]

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use super::PAGE_BYTES;
use crate::sync::{Machine, Memory};

/// What keeps the memory alive.
pub(crate) enum Backing {
    /// A mapped file.
    File(memmap2::MmapRaw),
    /// The first `len` bytes of the simulator's memory, which its file shares. As in a kernel, the mapping keeps `open`
    /// open, and with it its lock.
    #[cfg(any(test, fuzzing))]
    Memory {
        memory: Arc<memmap2::MmapRaw>,
        len: usize,
        #[expect(dead_code, reason = "held, never looked at")]
        open: Option<Arc<dyn Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>>,
    },
}

/// A shared, writable view of the first bytes of a file.
#[derive(Clone)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    backing: Arc<Backing>,
}

// SAFETY: the memory is shared with other processes already; all access is by atomics or by raw copies whose ranges the
// callers keep apart (rows below the published count are never written again, rows above belong to one writer).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Mapping {
    /// `None` if the memory is empty or not aligned to 16 bytes, which no mapping of a page is.
    pub(crate) fn new(backing: Backing) -> Option<Self> {
        let (raw, len) = match &backing {
            Backing::File(map) => (map, map.len()),
            #[cfg(any(test, fuzzing))]
            Backing::Memory { memory, len, .. } => (&**memory, memory.len().min(*len)),
        };
        let start = NonNull::new(raw.as_mut_ptr())?;
        (len > 0 && start.as_ptr().addr().is_multiple_of(16)).then(|| Self { start, len, backing: Arc::new(backing) })
    }

    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes one range back to the file's disk and waits for it.
    pub(crate) fn flush(&self, offset: usize, len: usize) -> std::io::Result<()> {
        match &*self.backing {
            Backing::File(map) => map.flush_range(offset, len),
            #[cfg(any(test, fuzzing))]
            Backing::Memory { .. } => Ok(()),
        }
    }

    #[inline]
    fn check(&self, offset: usize, len: usize, align: usize) {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(fits && offset.is_multiple_of(align), "offset {offset} + {len} outside a mapping of {}", self.len);
    }

    /// The word at `offset`, which is in bounds and aligned.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        self.check(offset, 8, 8);
        // SAFETY: in bounds and aligned (checked above; the start is 16-aligned), alive as long as `self`, and only ever
        // accessed as an atomic.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// The byte at `offset`, which is in bounds.
    #[inline]
    pub(crate) fn byte(&self, offset: usize) -> &AtomicU8 {
        self.check(offset, 1, 1);
        // SAFETY: as for `word`.
        unsafe { AtomicU8::from_ptr(self.start.as_ptr().add(offset)) }
    }

    /// Copies bytes in. The caller owns the range: nobody else writes it, and nobody trusts it until it is published.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len(), 1);
        // SAFETY: in bounds; `bytes` is not in a mapping, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len()) }
    }

    /// Sets a range to zero, under the same rule as [`write`](Self::write).
    pub(crate) fn zero(&self, offset: usize, len: usize) {
        self.check(offset, len, 1);
        // SAFETY: in bounds.
        unsafe { std::ptr::write_bytes(self.start.as_ptr().add(offset), 0, len) }
    }

    /// Copies bytes out. What another thread is writing may be torn: callers verify a checksum or read published rows.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests look at bytes"))]
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        self.check(offset, bytes.len(), 1);
        // SAFETY: in bounds; `bytes` is not in a mapping, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }
}

impl Memory for Mapping {
    type Word = AtomicU64;
    type Fences = Machine;

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        self.word(offset)
    }
}

/// A page of words that is private to this process: a forked child finds it zero, if the kernel can do that.
#[derive(Debug)]
pub(crate) struct WipedPage(Words);

enum Words {
    Wiped(memmap2::MmapRaw),
    Plain(Box<[AtomicU32; WipedPage::WORDS]>),
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wiped(_) => "Wiped",
            Self::Plain(_) => "Plain",
        })
    }
}

impl WipedPage {
    /// Words in it.
    pub(crate) const WORDS: usize = PAGE_BYTES / size_of::<u32>();

    /// A page of zeros.
    pub(crate) fn new() -> Self {
        Self(
            Self::wiped()
                .map_or_else(|| Words::Plain(Box::new([const { AtomicU32::new(0) }; Self::WORDS])), Words::Wiped),
        )
    }

    fn wiped() -> Option<memmap2::MmapRaw> {
        let map: memmap2::MmapRaw = memmap2::MmapMut::map_anon(PAGE_BYTES).ok()?.into();
        #[cfg(target_os = "linux")]
        {
            use rustix::mm::{Advice, madvise};
            // SAFETY: the range is that of the mapping; what is advised concerns a child's copy of it, which nobody has.
            unsafe { madvise(map.as_mut_ptr().cast(), map.len(), Advice::LinuxWipeOnFork) }.ok()?;
            Some(map)
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Whether a child finds it zero.
    #[inline]
    pub(crate) fn is_wiped(&self) -> bool {
        matches!(self.0, Words::Wiped(_))
    }

    /// Word number `at`, which is below [`WORDS`](Self::WORDS).
    #[inline]
    pub(crate) fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at < Self::WORDS, "word {at} of a page");
        match &self.0 {
            // SAFETY: in bounds (asserted) and aligned, since a mapping begins at a page; alive as long as `self`, and only
            // ever accessed as an atomic.
            Words::Wiped(map) => unsafe { AtomicU32::from_ptr(map.as_mut_ptr().cast::<u32>().add(at)) },
            Words::Plain(words) => words.get(at).unwrap_or_else(|| unreachable!("asserted")),
        }
    }
}

/// Fails if a write-back of `file` failed and nobody was told. Forces no write-back: it waits for those under way.
#[cfg(target_os = "linux")]
pub(crate) fn check_write_back(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // `sync_file_range` with WAIT_BEFORE alone starts no write; it waits for pages under write-back and reports the
    // file's write-back error. rustix has no such call, so this is the one that goes through libc.
    // SAFETY: no memory is passed; the descriptor is open as long as `file`.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WAIT_BEFORE) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
