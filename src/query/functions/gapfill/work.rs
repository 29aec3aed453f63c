//! Which rows come out, for input rows at hand: those, and one for each bin between them that has none.

use std::ops::Range;

use super::grid::Grid;

/// No row.
pub(super) const NONE: u32 = u32::MAX;

/// Rows that come out, in columns.
#[derive(Default)]
pub(super) struct Slots {
    /// The begin of the bin.
    pub(super) start: Vec<i64>,
    /// The input row that this is, or one of the same group.
    pub(super) row: Vec<u32>,
    /// The same row, or for a new one the last of the group before it; [`NONE`] if there is none.
    pub(super) before: Vec<u32>,
    pub(super) is_new: Vec<bool>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.start.len()
    }

    fn push(&mut self, start: i64, row: usize, before: u32, is_new: bool) {
        self.start.push(start);
        self.row.push(row as u32);
        self.before.push(before);
        self.is_new.push(is_new);
    }

    /// The input rows that these are, if they are neighbours and nothing is new.
    pub(super) fn as_range(&self) -> Option<Range<usize>> {
        if self.is_new.contains(&true) {
            return None;
        }
        let (first, last) = (*self.row.first()? as usize, *self.row.last()? as usize);
        (last + 1 - first == self.len()).then_some(first..last + 1)
    }
}

/// Neighbouring rows of one group.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) rows: Range<usize>,
    /// Whether more rows of the group may follow.
    pub(super) is_open: bool,
}

/// Where emission is among the runs.
pub(super) struct Cursor {
    run: usize,
    row: usize,
    /// The first bin of the run that has not come out.
    number: i64,
}

impl Cursor {
    /// At the first row, or behind a row that came out already, whose group has bins up to `number`.
    pub(super) fn new(carried: Option<i64>) -> Self {
        Self { run: 0, row: usize::from(carried.is_some()), number: carried.unwrap_or(0) }
    }

    pub(super) fn number(&self) -> i64 {
        self.number
    }

    /// Fills `slots` up to `max` and says whether there is more. `starts` are the bins of the input rows.
    pub(super) fn fill(&mut self, slots: &mut Slots, max: usize, runs: &[Run], starts: &[i64], grid: &Grid) -> bool {
        while let Some(run) = runs.get(self.run) {
            let rows = starts.get(self.row..run.rows.end).unwrap_or(&[]);
            for start in rows {
                let number = grid.number(*start);
                let before = if self.row > run.rows.start { self.row as u32 - 1 } else { NONE };
                if !self.fill_gap(slots, max, number, self.row, before, grid) || slots.len() == max {
                    return true;
                }
                slots.push(*start, self.row, self.row as u32, false);
                self.number = self.number.max(number.saturating_add(1));
                self.row += 1;
            }
            if run.is_open {
                return false;
            }
            let last = run.rows.end - 1;
            if !self.fill_gap(slots, max, grid.bins(), last, last as u32, grid) {
                return true;
            }
            self.run += 1;
            self.number = 0;
        }
        false
    }

    /// New rows up to the bin `to`, and whether they were all.
    fn fill_gap(&mut self, slots: &mut Slots, max: usize, to: i64, row: usize, before: u32, grid: &Grid) -> bool {
        let to = to.min(grid.bins());
        while self.number < to {
            if slots.len() == max {
                return false;
            }
            slots.push(grid.start(self.number), row, before, true);
            self.number += 1;
        }
        true
    }
}

/// For each row, the nearest of its run that has a value: at or before it, and at or after it.
pub(super) struct Nearest {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

impl Nearest {
    pub(super) fn new(rows: usize, runs: &[Run], has_value: impl Fn(usize) -> bool) -> Self {
        let (mut before, mut after) = (vec![NONE; rows], vec![NONE; rows]);
        for run in runs {
            let nearest = |rows: &mut dyn Iterator<Item = usize>, found: &mut [u32]| {
                let mut near = NONE;
                for row in rows {
                    near = if has_value(row) { row as u32 } else { near };
                    if let Some(found) = found.get_mut(row) {
                        *found = near;
                    }
                }
            };
            nearest(&mut run.rows.clone(), &mut before);
            nearest(&mut run.rows.clone().rev(), &mut after);
        }
        Self { before, after }
    }
}
