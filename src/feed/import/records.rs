//! Text into records: the next one of a piece of text, in whatever format.

use super::cell::Cell;
use super::csv::Csv;
use super::fault::Faulty;
use super::json::JsonLines;
use super::line_protocol::LineProtocol;
use super::rows::Rows;
use super::targets::Targets;
use crate::error::Result;

/// What is at the start of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record, whose cells were given; for the target of that number.
    Row { bytes: usize, lines: u64, target: usize },
    /// A record that cannot be split, and the target it names, if it names one.
    Broken { bytes: usize, lines: u64, target: Option<usize>, faulty: Faulty },
    /// Nothing that means anything.
    Blank { bytes: usize, lines: u64 },
    /// More bytes of one record than it may have, and its end is not in sight.
    Endless { bytes: usize },
    /// A record that does not end here.
    More,
}

impl Step {
    /// How long it is.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Row { bytes, .. }
            | Self::Broken { bytes, .. }
            | Self::Blank { bytes, .. }
            | Self::Endless { bytes } => bytes,
            Self::More => 0,
        }
    }
}

/// How a source is split.
pub(crate) enum Records {
    Csv(Csv),
    Json(JsonLines),
    Line(LineProtocol),
    /// Arrow's rows, in this crate's own coding.
    Rows(Rows),
}

impl Records {
    /// A new piece of text begins.
    pub(crate) fn begin(&mut self) {
        if let Self::Line(lines) = self {
            lines.learned = false;
        }
    }

    /// The first record of `bytes`, its cells into `cells`. `last` says that nothing follows.
    #[inline]
    pub(crate) fn next<'b>(
        &mut self,
        bytes: &'b [u8],
        last: bool,
        cells: &mut Vec<Cell<'b>>,
        targets: &mut Targets,
    ) -> Result<Step> {
        match self {
            Self::Csv(csv) => Ok(csv.next(bytes, last, cells)),
            Self::Json(lines) => Ok(lines.next(bytes, last, cells)),
            Self::Line(lines) => lines.next(bytes, last, cells, targets),
            Self::Rows(rows) => Ok(rows.next(bytes, cells)),
        }
    }
}
