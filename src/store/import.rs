//! Imports, as the store's caller asks for them.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::care::Progress;
use crate::error::Result;
use crate::feed::import::host::Host;
use crate::feed::import::ledger::Ledger;
use crate::feed::import::{self, Follow, Import, Imported, Source};
use crate::maintain::core::Core;
use crate::model::quarantine::Broken;
use crate::model::{Schema, TableId};

use super::handle::Handle;
use super::quarantine::Entry;
use super::{Store, open};

impl Store {
    /// Imports all of `source`, each of its rows once. What an earlier import took of the same content, whatever the name of
    /// the file was and however it was compressed, is known and counted as duplicates; so the same file twice changes
    /// nothing, a file that has grown gives what is new, and an import that was killed goes on where it was. Rows that are
    /// broken go to quarantine with file, line, column, value and reason.
    ///
    /// # Errors
    /// [`Import`](crate::Error::Import) for a source that is not what `import` says, a missing column say, with no row
    /// taken; [`LimitExceeded`](crate::Error::LimitExceeded) for too many broken rows or too much content, and what the
    /// file system or the store says, with what came before taken: the same call goes on there.
    ///
    /// # Cost
    /// About a microsecond a row of ten columns, on the calling thread; three disk syncs for each `chunk_bytes` of content.
    /// Imports into one table take turns.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// use denyut::feed::import::{Import, Source};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let lines = "air,station=Parit pm25=31.5 1795496400000000000\nair,station=Parit pm25=30 1795497000000000000\n";
    /// let imported = city.import(&Import::line_protocol(), Source::reader("gateway", lines.as_bytes()))?;
    /// assert_eq!(imported.to_string(), "2 rows, 0 duplicates, 0 in quarantine");
    /// assert_eq!(city.existing("air")?.schema().fields().len(), 1);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn import(&self, import: &Import, source: Source<'_>) -> Result<Imported> {
        self.import_with(import, source, |_| ControlFlow::Continue(()))
    }

    /// As [`import`](Self::import), telling `report` how far it is in bytes of the source; of a reader and of batches the
    /// total is not known, and 0.
    ///
    /// # Errors
    /// Also [`Stopped`](crate::Error::Stopped) if `report` breaks off; what was taken stays, and the next import goes on.
    pub fn import_with(
        &self,
        import: &Import,
        source: Source<'_>,
        mut report: impl FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Imported> {
        self.inner.core.gate.check()?;
        import::import(&self.host(), import, source, &mut report)
    }

    /// Follows a file of text that grows. Nothing is read before the first [`poll`](Follow::poll).
    ///
    /// # Errors
    /// What is wrong with `import`; [`Closed`](crate::Error::Closed).
    ///
    /// ```
    /// # use std::io::Write;
    /// # use denyut::prelude::*;
    /// use denyut::feed::import::Import;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// let path = dir.path().join("levels.csv");
    /// let mut follow = city.follow(&Import::csv("water"), &path)?;
    /// assert_eq!(follow.poll()?.rows, 0);
    /// let mut gauge = std::fs::File::create(&path).unwrap();
    /// write!(gauge, "time,gate,level_cm\n2026-11-24T12:00:00Z,Sei Wie,142.5\n2026-11-24T12:1").unwrap();
    /// assert_eq!(follow.poll()?.rows, 1);
    /// write!(gauge, "0:00Z,Sei Wie,143\n").unwrap();
    /// assert_eq!(follow.poll()?.rows, 1);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn follow(&self, import: &Import, path: impl Into<PathBuf>) -> Result<Follow> {
        self.inner.core.gate.check()?;
        Follow::new(self.host(), import, path.into())
    }

    /// The store as imports see it, for their tests.
    #[cfg(test)]
    pub(crate) fn import_host(&self) -> Arc<dyn Host> {
        self.host()
    }

    fn host(&self) -> Arc<dyn Host> {
        Arc::new(Owner(self.inner.clone()))
    }
}

/// The store, as an import sees it.
struct Owner(Handle);

impl Host for Owner {
    fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    fn declare(&self, schema: &Schema) -> Result<()> {
        open::declare(&self.0.core, schema)
    }

    fn quarantine(&self, row: &Broken<'_>) -> Result<TableId> {
        let core = &self.0.core;
        self.0.quarantine.put(core, &Entry::broken(row, &core.options))
    }

    fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }
}
