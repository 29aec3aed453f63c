//! Cuts for readers in other processes.
//!
//! A reader that finds the counts of two blocks changing under its eyes cannot call the writers aside as a snapshot of this
//! process does. So this process does it for all of them: while rows come and somebody reads, it writes the counts of one
//! moment into the control page every few milliseconds. It asks nobody and waits for nobody; a reader takes the next cut
//! that was begun after its own beginning.

use std::sync::Weak;
use std::time::Duration;

use crossbeam::channel::{Receiver, after, never};
use crossbeam::select;

use crate::snapshot::cut;
use crate::snapshot::view::Stage;

use super::core::Core;

/// Between two cuts while rows come and somebody reads.
const CUT_EVERY: Duration = Duration::from_millis(2);
/// Between two looks whether somebody reads, while rows come.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The longest pause while a writer is open, with somebody who reads and without.
const READ_PAUSE_MAX: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Makes cuts until told to stop. `opened` says that a writer was opened.
pub(super) fn cut_loop(core: &Weak<Core>, opened: &Receiver<()>, stopped: &Receiver<()>) {
    let mut pause: Option<Duration> = None;
    let mut rows_before = Vec::new();
    loop {
        let timer = pause.map_or_else(never, after);
        select! {
            recv(stopped) -> _ => return,
            recv(opened) -> opened => if opened.is_err() { return },
            recv(timer) -> _ => {}
        }
        let Some(core) = core.upgrade() else { return };
        let view = core.view.load();
        let rows: Vec<_> = view.blocks().map(|view| (view.block.generation, view.block.rows())).collect();
        let moved = rows != rows_before;
        rows_before = rows;
        let is_filling = view.blocks().any(|view| view.stage == Stage::Filling);
        let several = view.blocks().nth(1).is_some();
        drop(view);
        // A pin that cannot be looked at is taken for read.
        let is_read = core.pins.is_read().unwrap_or(true);
        pause = match (is_filling, moved && several, is_read) {
            (false, ..) => None,
            (true, true, true) => {
                core.make_cut();
                Some(CUT_EVERY)
            }
            (true, true, false) => Some(LOOK_EVERY),
            (true, false, is_read) => {
                let longest = if is_read { READ_PAUSE_MAX } else { PAUSE_MAX };
                Some((pause.unwrap_or(CUT_EVERY) * 2).min(longest))
            }
        };
    }
}

impl Core {
    /// Writes the counts of this moment into the control page.
    fn make_cut(&self) {
        let number = self.control.begin_cut();
        let (view, rows) = cut::take(&self.view, &self.gate);
        let blocks = view.blocks().map(|view| (view.block.id, view.block.generation));
        let rows: Vec<_> = blocks.zip(rows.into_iter().map(|rows| rows as u64)).collect();
        self.control.end_cut(number, &rows);
    }
}
