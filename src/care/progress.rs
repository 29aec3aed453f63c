//! How far a long piece of work is, and its end if the caller has had enough.

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::{Error, Result};

/// How far a long piece of work is. Given to the caller's function about once a mebibyte.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes there are to do, as known when the work began.
    pub total_bytes: u64,
    /// The file under way.
    pub path: &'a Path,
}

/// Who is told. [`ControlFlow::Break`] ends the work with [`Error::Stopped`].
pub(crate) type Report<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// Counts the bytes done and tells the caller.
pub(crate) struct Meter<'a> {
    what: &'static str,
    done_bytes: u64,
    total_bytes: u64,
    report: &'a mut Report<'a>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(what: &'static str, total_bytes: u64, report: &'a mut Report<'a>) -> Self {
        Self { what, done_bytes: 0, total_bytes, report }
    }

    /// `bytes` more of `path` are done.
    pub(crate) fn advance(&mut self, path: &Path, bytes: u64) -> Result<()> {
        self.done_bytes += bytes;
        let progress = Progress { done_bytes: self.done_bytes, total_bytes: self.total_bytes, path };
        match (self.report)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped { what: self.what }),
        }
    }

    /// Bytes done so far.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.done_bytes
    }
}
