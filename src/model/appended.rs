//! What an append answers.

use crate::error::Error;

use super::quarantine::Reason;

/// What became of the rows of an append: each is counted in exactly one of [`accepted`](Self::accepted),
/// [`quarantined`](Self::quarantined) and [`rejected`](Self::rejected).
///
/// A single row that is rejected is an error instead, so only batches have rejected rows to look for. Quarantined rows are
/// in the store, in the SQL table `system.quarantine` with the reason, and not in their table.
#[derive(Debug, Default)]
pub struct Appended {
    accepted: u64,
    /// Of the rows that are not in their table, if there are any.
    others: Option<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others {
    late: u64,
    far_future: u64,
    rejected: u64,
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
    pub(crate) fn one() -> Self {
        Self { accepted: 1, others: None }
    }

    pub(crate) fn accept(&mut self, rows: u64) {
        self.accepted += rows;
    }

    pub(crate) fn quarantine(&mut self, reason: Reason) {
        let others = self.others.get_or_insert_default();
        match reason {
            Reason::Late => others.late += 1,
            Reason::FarFuture => others.far_future += 1,
        }
    }

    pub(crate) fn reject(&mut self, row: usize, error: Error) {
        let others = self.others.get_or_insert_default();
        others.rejected += 1;
        if others.reasons.len() < Self::REASONS_MAX {
            others.reasons.push(Rejection { row, error });
        }
    }

    /// Rows that are in their table now.
    #[inline]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Rows that went to quarantine: late ones, and those in the far future.
    pub fn quarantined(&self) -> u64 {
        self.others.as_ref().map_or(0, |others| others.late + others.far_future)
    }

    /// Of the quarantined, those older than the writer's newest row by more than the table's `lateness`. The others are
    /// in the far future. A row that is behind by less is accepted and not counted here.
    pub fn late(&self) -> u64 {
        self.others.as_ref().map_or(0, |others| others.late)
    }

    /// Rows that are nowhere: something is wrong with them beside their time.
    pub fn rejected(&self) -> u64 {
        self.others.as_ref().map_or(0, |others| others.rejected)
    }

    /// Why, for the first [`REASONS_MAX`](Self::REASONS_MAX) of the rejected.
    pub fn reasons(&self) -> &[Rejection] {
        self.others.as_ref().map_or(&[], |others| &others.reasons)
    }
}
