//! Who came after whom in a table's blocks: the order in which rows become durable.
//!
//! A *stint* is one writer's time with a block. Its beginning and its end have numbers, which a table counts up as blocks
//! change hands.
//!
//! **Invariant:** rows become durable, by a sync or a seal, only after those of every stint that had ended before theirs
//! began. So what a power loss leaves of a writer is a prefix of its rows, and of writers that followed one another, as a
//! service's that opens one anew: who goes on from the newest row that is there leaves no gap.

use std::sync::Arc;

use crate::ingest::live_block::LiveBlock;

use super::view::{BlockView, TableState};

/// One writer's time with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stint {
    began: u64,
    /// When it ended, and the rows that the block had then.
    ended: Option<(u64, usize)>,
}

/// The stints of a block of which rows may not be durable yet, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stints(Vec<Stint>);

/// Rows to make durable of a block.
pub(crate) type Due = (Arc<LiveBlock>, usize);

impl Stints {
    /// Of a block that its writer takes now.
    pub(crate) fn begun(at: u64) -> Self {
        Self(vec![Stint { began: at, ended: None }])
    }

    /// Its writer leaves it with `rows`.
    pub(crate) fn end(&mut self, at: u64, rows: usize) {
        if let Some(stint) = self.0.last_mut().filter(|stint| stint.ended.is_none()) {
            stint.ended = Some((at, rows));
        }
    }

    /// The next writer takes it; `durable` rows of those before are.
    pub(crate) fn go_on(&mut self, at: u64, durable: usize) {
        self.0.retain(|stint| stint.ended.is_none_or(|(_, rows)| rows > durable));
        // Two that ended, with no block taken or left in between, are as good as one: so many that are short stay few.
        if let [.., former, latter] = &mut *self.0
            && former.ended.is_some_and(|(ended, _)| ended + 1 == latter.began)
        {
            former.ended = latter.ended;
            self.0.pop();
        }
        self.0.push(Stint { began: at, ended: None });
    }

    /// When the last one began.
    pub(crate) fn last_began(&self) -> u64 {
        self.0.last().map_or(0, |stint| stint.began)
    }

    /// When it ended, if no writer has the block now.
    fn ended(&self) -> Option<u64> {
        self.0.last().and_then(|stint| stint.ended).map(|(ended, _)| ended)
    }
}

impl BlockView {
    /// Rows that need no sync.
    fn durable_rows(&self) -> usize {
        self.block.committed_rows().max(self.sealed_rows)
    }

    /// Whether all its rows are of stints that had ended before `began`.
    pub(crate) fn had_ended(&self, began: u64) -> bool {
        self.stints.ended().is_some_and(|ended| ended < began)
    }
}

impl TableState {
    /// The next number for a stint's beginning or end.
    pub(crate) fn next_stint(&mut self) -> u64 {
        self.stints += 1;
        self.stints
    }

    /// A writer takes a block that another left.
    pub(crate) fn go_on(&mut self, id: u64) {
        let at = self.next_stint();
        if let Some(view) = self.block_mut(id) {
            let durable = view.durable_rows();
            view.stints.go_on(at, durable);
        }
    }

    /// A writer leaves a block.
    pub(crate) fn leave(&mut self, id: u64) {
        let at = self.next_stint();
        if let Some(view) = self.block_mut(id) {
            let rows = view.block.rows();
            view.stints.end(at, rows);
        }
    }

    /// What is to be made durable before rows of a stint that began at `began`, in that order.
    pub(crate) fn due_before(&self, began: u64) -> Vec<Due> {
        self.due(|stint, _| stint.ended.filter(|(ended, _)| *ended < began).map(|(_, rows)| rows))
    }

    /// All rows so far that are not durable, in the order in which they may become so.
    pub(crate) fn due_now(&self) -> Vec<Due> {
        self.due(|stint, view| Some(stint.ended.map_or_else(|| view.block.rows(), |(_, rows)| rows)))
    }

    fn due(&self, rows_of: impl Fn(&Stint, &BlockView) -> Option<usize>) -> Vec<Due> {
        let mut due: Vec<(u64, Due)> = Vec::new();
        for view in &self.blocks {
            let rows = view.stints.0.iter().filter_map(|stint| Some((stint.began, rows_of(stint, view)?)));
            let rows: Vec<_> = rows.filter(|(_, rows)| *rows > view.sealed_rows).collect();
            if rows.is_empty() {
                continue;
            }
            let durable = view.durable_rows();
            let rows = rows.into_iter().filter(|(_, rows)| *rows > durable);
            due.extend(rows.map(|(began, rows)| (began, (view.block.clone(), rows))));
        }
        due.sort_by_key(|(began, _)| *began);
        due.into_iter().map(|(_, due)| due).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stint(began: u64, ended: Option<(u64, usize)>) -> Stint {
        Stint { began, ended }
    }

    #[test]
    fn short_stints_with_none_between_are_as_good_as_one() {
        let mut stints = Stints::begun(1);
        stints.end(2, 10);
        stints.go_on(3, 0);
        // The first may matter to one that begins while the second goes on.
        assert_eq!(stints.0, [stint(1, Some((2, 10))), stint(3, None)]);
        assert_eq!((stints.ended(), stints.last_began()), (None, 3));
        stints.end(4, 20);
        assert_eq!(stints.ended(), Some(4));
        // Somebody took another block at 5.
        stints.go_on(6, 0);
        assert_eq!(stints.0, [stint(1, Some((4, 20))), stint(6, None)]);
        stints.end(7, 25);
        stints.go_on(8, 0);
        assert_eq!(stints.0, [stint(1, Some((4, 20))), stint(6, Some((7, 25))), stint(8, None)]);
        stints.end(9, 30);
        stints.go_on(10, 30);
        assert_eq!(stints.0, [stint(10, None)]);
    }
}
