//! A file that grows: what is new is taken whenever the caller asks.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::host::Host;
use super::input::{FileRead, Input};
use super::ledger::Sums;
use super::options::Format;
use super::session::Session;
use super::start::Ready;
use super::{Import, Imported};
use crate::care::progress::Meter;
use crate::error::{Error, Result};
use crate::fs::{File, Identity};

/// A file that is followed, made by [`Store::follow`](crate::Store::follow).
///
/// Each [`poll`](Self::poll) takes the whole records that came since the last one. A line without its end is left for
/// later. A file that was replaced by another of its name, as log rotation does it, is taken to its end first; one that is
/// shorter than it was is read anew, and what was imported of it is known. `Send`, not `Sync`.
///
/// It holds what a [`Writer`](crate::Writer) holds. Dropping it without [`close`](Self::close) loses nothing.
pub struct Follow {
    host: Arc<dyn Host>,
    import: Import,
    ready: Ready,
    path: PathBuf,
    open: Option<Open>,
    told: Sums,
}

struct Open {
    file: Arc<dyn File>,
    identity: Identity,
    /// Bytes of the file that were used.
    at: u64,
    session: Option<Session>,
}

impl Follow {
    pub(crate) fn new(host: Arc<dyn Host>, import: &Import, path: PathBuf) -> Result<Self> {
        if matches!(import.format, Format::Parquet | Format::ArrowIpc | Format::Batches) {
            let message = "only text can be followed: a file of Arrow's is whole or not there";
            return Err(Error::import(&path.display().to_string(), 0, message));
        }
        let ready = Ready::new(&*host, import)?;
        Ok(Self { host, import: import.clone(), ready, path, open: None, told: Sums::default() })
    }

    /// Takes what came since the last call, and says what that was. A file that is not there has nothing.
    ///
    /// # Errors
    /// As [`Store::import`](crate::Store::import). The next call goes on where this one was.
    ///
    /// # Cost
    /// The file's status if nothing came, else a sync as well.
    pub fn poll(&mut self) -> Result<Imported> {
        let turn = self.host.ledger().turn(self.ready.turn());
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Imported::default();
        if let Some(file) = self.host.core().fs.open_read(&self.path)? {
            let identity = file.identity()?;
            let len = file.len()?;
            if self.open.as_ref().is_some_and(|open| open.identity != identity || open.at > len) {
                taken = self.finish()?;
            }
            self.open.get_or_insert(Open { file, identity, at: 0, session: None });
        }
        let more = self.take(false)?;
        Ok(Imported {
            rows: taken.rows + more.rows,
            duplicates: taken.duplicates + more.duplicates,
            quarantined: taken.quarantined + more.quarantined,
            lines: taken.lines + more.lines,
            bytes: taken.bytes + more.bytes,
        })
    }

    /// Takes what is there, a last line without its end too, and ends.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn close(mut self) -> Result<Imported> {
        let turn = self.host.ledger().turn(self.ready.turn());
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.finish()
    }

    /// Takes the rest of the file that is open, and leaves it.
    fn finish(&mut self) -> Result<Imported> {
        let taken = self.take(true)?;
        if let Some(mut session) = self.open.take().and_then(|open| open.session) {
            session.close()?;
        }
        self.told = Sums::default();
        Ok(taken)
    }

    fn take(&mut self, last: bool) -> Result<Imported> {
        let Some(open) = &mut self.open else { return Ok(Imported::default()) };
        let read = FileRead::new(open.file.clone(), open.at)?;
        let end = read.end();
        if end <= open.at {
            return Ok(Imported::default());
        }
        let mut report = |_: crate::care::Progress<'_>| std::ops::ControlFlow::Continue(());
        let mut meter = Meter::new("import", 0, &mut report);
        let name = self.path.display().to_string();
        let mut input = Input::new(name, Box::new(read), false, &self.import.limits)?;
        if open.session.is_none() {
            open.session = self.ready.begin(&self.host, &mut input, None, last, &mut meter)?;
        }
        let Some(session) = &mut open.session else { return Ok(Imported::default()) };
        if let Err(error) = session.advance(&mut input, last, &mut meter) {
            // Where it stopped is for the ledger to say: the next call begins with the file.
            (open.session, open.at) = (None, 0);
            self.told = Sums::default();
            return Err(error);
        }
        open.at = end - input.unread_bytes();
        let total = session.total();
        let told = std::mem::replace(&mut self.told, total);
        Ok(Imported {
            rows: total.rows - told.rows,
            duplicates: total.duplicates - told.duplicates,
            quarantined: total.quarantined - told.quarantined,
            lines: total.lines - told.lines,
            bytes: total.bytes - told.bytes,
        })
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("path", &self.path).finish_non_exhaustive()
    }
}
