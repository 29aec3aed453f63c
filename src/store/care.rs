//! What an operator asks of a store, open or not.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::care::{Backup, Progress, Repair, Stat, Verification, offline};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::options::Options;

use super::{Store, create};

impl Store {
    /// Reads every checksum of everything that is committed, decodes every row of every segment, and says what is not what
    /// was written and where. Works while writing, and keeps nobody waiting.
    ///
    /// What the kernel still has in its page cache is read from there: damage on the disk under it shows once it is
    /// dropped. Rows that no sync has covered yet are counted and have nothing to be held against.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed). Damage is no error: it is in the answer.
    ///
    /// # Cost
    /// Reads all of the store once, on the calling thread.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let found = city.verify()?;
    /// assert!(found.is_whole(), "{found}");
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn verify(&self) -> Result<Verification> {
        self.verify_with(|_| ControlFlow::Continue(()))
    }

    /// As [`verify`](Self::verify), telling `report` how far it is.
    ///
    /// # Errors
    /// Also [`Stopped`](Error::Stopped) if `report` breaks off.
    pub fn verify_with(&self, mut report: impl FnMut(Progress<'_>) -> ControlFlow<()>) -> Result<Verification> {
        self.inner.core.check_open()?;
        self.inner.core.verify(&mut report)
    }
}

impl Store {
    /// Verifies, and mends what can be mended: a damaged series index of a whole segment is made again; a segment that is
    /// damaged is set aside, so that queries over its range say so and all others go on; one whose files in `aside/` are
    /// whole again, because somebody restored them, is read again. Says what it did, and what it can do nothing about.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed), [`Poisoned`](Error::Poisoned), and what the file system says. What was mended before
    /// stays mended.
    ///
    /// # Cost
    /// That of [`verify`](Self::verify), and a manifest commit for each segment that changes sides.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// assert_eq!(city.repair()?.to_string(), "nothing to mend");
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn repair(&self) -> Result<Repair> {
        self.repair_with(|_| ControlFlow::Continue(()))
    }

    /// As [`repair`](Self::repair), telling `report` how far verifying is.
    ///
    /// # Errors
    /// Also [`Stopped`](Error::Stopped) if `report` breaks off; then nothing was mended.
    pub fn repair_with(&self, mut report: impl FnMut(Progress<'_>) -> ControlFlow<()>) -> Result<Repair> {
        self.inner.core.gate.check()?;
        self.inner.core.repair(&mut report)
    }
}

impl Store {
    /// Copies the store of this moment to `dir`, which is empty or absent, while it is written. The copy opens as a store and
    /// has exactly the rows that a query begun now would see, in all tables at one moment, synced or not.
    ///
    /// Segments are shared by hard links, since they never change, or copied to another file system; of live blocks the rows
    /// are copied. A link is no second copy: for safety against a bad disk, back up to another one, or copy the backup. It is
    /// durable when this returns; one that is cut short says so and opens as nothing.
    ///
    /// # Errors
    /// [`NotEmpty`](Error::NotEmpty), [`Closed`](Error::Closed), and what the file system says; remove the directory then.
    ///
    /// # Cost
    /// Reads and writes the unsealed rows, one link a segment; nobody waits for longer than a snapshot takes.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let copy = dir.path().join("copy");
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// water.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// let backup = city.backup(&copy)?;
    /// assert_eq!(backup.rows, 1);
    /// assert!(Store::options().verify(&copy, |_| ControlFlow::Continue(()))?.is_whole());
    /// assert_eq!(Store::open(&copy)?.recovery().live_rows, 1);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn backup(&self, dir: impl AsRef<Path>) -> Result<Backup> {
        self.backup_with(dir, |_| ControlFlow::Continue(()))
    }

    /// As [`backup`](Self::backup), telling `report` how far it is.
    ///
    /// # Errors
    /// Also [`Stopped`](Error::Stopped) if `report` breaks off; remove the directory then.
    pub fn backup_with(
        &self,
        dir: impl AsRef<Path>,
        mut report: impl FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Backup> {
        self.inner.core.check_open()?;
        let dir = dir.as_ref();
        let dir = std::path::absolute(dir).map_err(|source| Error::io("finding", dir, source))?;
        self.inner.core.backup(&dir, create::store_id(&dir), &mut report)
    }
}

impl Store {
    /// Rows, series, segments and bytes of each table and in all, and how much room is left on the disk.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed), and what the file system says.
    ///
    /// # Cost
    /// A look at the view and at times of rows that nobody looked at before; reads no segment.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// # let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// water.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// let stat = city.stat()?;
    /// assert_eq!((stat.total.rows, stat.total.live_rows), (1, 1));
    /// println!("{stat}");
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn stat(&self) -> Result<Stat> {
        self.inner.core.check_open()?;
        self.inner.core.stat()
    }
}

impl Options {
    /// Verifies the store at `path` without opening it: also one that is too damaged to open, and a backup, of which every
    /// byte is checked. Nothing is changed.
    ///
    /// # Errors
    /// [`Locked`](Error::Locked) while a process writes to it, which can verify itself with [`Store::verify`];
    /// [`NotAStore`](Error::NotAStore); [`Stopped`](Error::Stopped) if `report` breaks off. Damage is no error: it is in
    /// the answer.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("kota");
    /// Store::open(&path)?.close()?;
    /// let found = Store::options().verify(&path, |_| ControlFlow::Continue(()))?;
    /// assert!(found.is_whole(), "{found}");
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn verify(
        self,
        path: impl AsRef<Path>,
        mut report: impl FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Verification> {
        verify_on(&(Arc::new(crate::fs::real::RealFs::default()) as _), path.as_ref(), &mut report)
    }
}

/// Verifies a store on any file system.
pub(super) fn verify_on(
    fs: &Arc<dyn FileSystem>,
    path: &Path,
    report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Verification> {
    let path = std::path::absolute(path).map_err(|source| Error::io("finding", path, source))?;
    let entries = fs.read_dir(&path)?.unwrap_or_default();
    if entries.is_empty() {
        return Err(Error::NotAStore { path, reason: "there is nothing".into() });
    }
    let names = entries.iter().map(|entry| &*entry.name);
    create::check_names(&path, names)?;
    let _lock = create::lock(&**fs, &path)?;
    offline::verify(fs, &path, report)
}
