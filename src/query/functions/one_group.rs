//! An accumulator of many groups where the engine asks for one: aggregates without groups, and windows.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// A [`GroupsAccumulator`] that can be asked before it is done.
pub(super) trait Groups: GroupsAccumulator + Sync {
    /// What [`evaluate`](GroupsAccumulator::evaluate) would give for all groups. They stay as they are.
    fn peek(&mut self) -> Result<ArrayRef>;
}

/// How a fresh accumulator is made.
pub(super) type Make = Arc<dyn Fn() -> Result<Box<dyn Groups>> + Send + Sync>;

fn fresh(make: &Make, input_types: &[DataType]) -> Result<Box<dyn Groups>> {
    let mut groups = make()?;
    let nothing: Vec<ArrayRef> = input_types.iter().map(new_empty_array).collect();
    groups.update_batch(&nothing, &[], None, 1)?;
    Ok(groups)
}

fn rows(columns: &[ArrayRef]) -> usize {
    columns.first().map_or(0, |column| column.len())
}

fn sole(answer: &ArrayRef) -> Result<ScalarValue> {
    if answer.len() == 1 { ScalarValue::try_from_array(answer, 0) } else { internal_err!("one group, one answer") }
}

/// One group of a [`GroupsAccumulator`]. Asking it changes nothing, so it may be asked after each row.
pub(super) struct OneGroup {
    groups: Box<dyn Groups>,
    /// As many zeros as the largest batch has rows.
    zeros: Vec<usize>,
}

impl OneGroup {
    pub(super) fn new(make: &Make, input_types: &[DataType]) -> Result<Self> {
        Ok(Self { groups: fresh(make, input_types)?, zeros: Vec::new() })
    }

    fn zeros(&mut self, rows: usize) -> Vec<usize> {
        let mut zeros = std::mem::take(&mut self.zeros);
        zeros.resize(rows.max(zeros.len()), 0);
        zeros
    }
}

impl fmt::Debug for OneGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneGroup").finish_non_exhaustive()
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let zeros = self.zeros(rows(values));
        let updated = self.groups.update_batch(values, zeros.get(..rows(values)).unwrap_or(&[]), None, 1);
        self.zeros = zeros;
        updated
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        sole(&self.groups.peek()?)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.size() + self.zeros.capacity() * size_of::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.groups.state(EmitTo::All)?.iter().map(sole).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let zeros = self.zeros(rows(states));
        let merged = self.groups.merge_batch(states, zeros.get(..rows(states)).unwrap_or(&[]), 1);
        self.zeros = zeros;
        merged
    }
}

/// A window whose rows come and go in order. It keeps them and computes anew when asked.
pub(super) struct Sliding {
    make: Make,
    input_types: Vec<DataType>,
    batches: VecDeque<Vec<ArrayRef>>,
}

impl Sliding {
    pub(super) fn new(make: Make, input_types: Vec<DataType>) -> Self {
        Self { make, input_types, batches: VecDeque::new() }
    }

    /// All rows in one batch, so that the next who asks finds them so.
    fn gathered(&mut self) -> Result<Option<&Vec<ArrayRef>>> {
        if self.batches.len() > 1 {
            let column = |place: usize| {
                let parts: Vec<&dyn Array> =
                    self.batches.iter().filter_map(|batch| batch.get(place).map(AsRef::as_ref)).collect();
                concat(&parts)
            };
            let all = (0..self.input_types.len()).map(column).collect::<std::result::Result<Vec<_>, _>>()?;
            self.batches = VecDeque::from([all]);
        }
        Ok(self.batches.front())
    }
}

impl fmt::Debug for Sliding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sliding").field("batches", &self.batches.len()).finish_non_exhaustive()
    }
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if rows(values) > 0 {
            self.batches.push_back(values.to_vec());
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut leaving = rows(values);
        while leaving > 0 {
            let Some(front) = self.batches.front_mut() else { return internal_err!("more rows leave than came") };
            let held = rows(front);
            if held > leaving {
                front.iter_mut().for_each(|column| *column = column.slice(leaving, held - leaving));
                break;
            }
            leaving -= held;
            self.batches.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut groups = fresh(&self.make, &self.input_types)?;
        if let Some(all) = self.gathered()? {
            groups.update_batch(all, &vec![0; rows(all)], None, 1)?;
        }
        sole(&groups.peek()?)
    }

    fn size(&self) -> usize {
        let held = self.batches.iter().flatten().map(|column| column.get_array_memory_size()).sum::<usize>();
        size_of::<Self>() + held
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a window has no partial state")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a window has no partial state")
    }
}
