//! Which rows of a batch an accumulator takes.

use arrow::array::{Array, BooleanArray};
use arrow::buffer::NullBuffer;

/// Which rows count, all if none: neither value nor time is null, and the filter takes it.
pub(super) fn counted(columns: &[&dyn Array], filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let nulls = columns.iter().fold(None, |nulls: Option<NullBuffer>, column| {
        NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
    });
    let taken = filter.map(|filter| {
        let taken = NullBuffer::new(filter.values().clone());
        NullBuffer::union(Some(&taken), filter.nulls()).unwrap_or(taken)
    });
    NullBuffer::union(nulls.as_ref(), taken.as_ref())
}

/// Calls `take` with the row and the group of every row that counts.
pub(super) fn for_each(groups: &[usize], counted: Option<&NullBuffer>, mut take: impl FnMut(usize, usize)) {
    match counted {
        None => groups.iter().enumerate().for_each(|(row, group)| take(row, *group)),
        Some(counted) => {
            counted
                .valid_indices()
                .filter_map(|row| Some((row, *groups.get(row)?)))
                .for_each(|(row, group)| take(row, group));
        }
    }
}
