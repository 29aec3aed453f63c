//! What an append answers.

use crate::error::Error;

/// What an append took: every row given is counted in exactly one of `accepted` and `rejected`. A single row that is not
/// taken is an error instead, so only batches have rejected rows to look for.
#[derive(Debug, Default)]
pub struct Appended {
    accepted: u64,
    late: u64,
    rejected: Option<Box<Rejected>>,
}

#[derive(Debug, Default)]
struct Rejected {
    rows: u64,
    reasons: Vec<Rejection>,
}

/// Why one row of a batch was not taken.
#[derive(Debug)]
pub struct Rejection {
    /// The row in the batch, from 0.
    pub row: usize,
    /// What is wrong with it.
    pub error: Error,
}

impl Appended {
    /// Reasons kept of one batch; the rows beyond are counted all the same.
    pub const REASONS_MAX: usize = 100;

    #[inline]
    pub(crate) fn one(late: bool) -> Self {
        Self { accepted: 1, late: u64::from(late), rejected: None }
    }

    pub(crate) fn accept(&mut self, rows: u64, late: u64) {
        self.accepted += rows;
        self.late += late;
    }

    pub(crate) fn reject(&mut self, row: usize, error: Error) {
        let rejected = self.rejected.get_or_insert_default();
        rejected.rows += 1;
        if rejected.reasons.len() < Self::REASONS_MAX {
            rejected.reasons.push(Rejection { row, error });
        }
    }

    /// Rows that are in the store now.
    #[inline]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Of the accepted, those older than the writer's newest row by more than the table's lateness.
    #[inline]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Rows that were not taken.
    pub fn rejected(&self) -> u64 {
        self.rejected.as_ref().map_or(0, |rejected| rejected.rows)
    }

    /// Why, for the first [`REASONS_MAX`](Self::REASONS_MAX) of them.
    pub fn reasons(&self) -> &[Rejection] {
        self.rejected.as_ref().map_or(&[], |rejected| &rejected.reasons)
    }
}
