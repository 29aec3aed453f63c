//! How long rows have been in a live block.

use super::live_block::LiveBlock;
use super::marks;

impl LiveBlock {
    /// The Unix second by which row number `row` was there, as the marks say; `None` if none was made since.
    pub(crate) fn there_by(&self, row: usize) -> Option<u32> {
        let marks = marks::read(&self.mapping, &self.layout);
        marks.into_iter().find(|mark| mark.rows as usize > row).map(|mark| mark.unix_s)
    }
}
