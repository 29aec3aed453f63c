//! Cells as the partial states of the engine's aggregates, in columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, Float64Array, Int64Array, PrimitiveArray, TimestampNanosecondArray,
    UInt64Array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion::common::internal_err;
use datafusion::error::Result;

use super::shape::{Aggregate, End, Source, What};
use crate::storage::summary::{Cells, FieldCells, Kind};

/// The cells of a chunk that are of use.
pub(super) struct Picked<'a> {
    pub(super) cells: &'a Cells,
    /// Their places; none if it is all of them.
    pub(super) places: Option<&'a [usize]>,
}

impl Picked<'_> {
    pub(super) fn len(&self) -> usize {
        self.places.map_or(self.cells.rows.len(), <[usize]>::len)
    }

    fn of<T: Copy, U>(&self, column: &[T], map: impl Fn(T) -> U) -> Vec<U> {
        match self.places {
            None => column.iter().map(|value| map(*value)).collect(),
            Some(places) => places.iter().filter_map(|place| column.get(*place)).map(|value| map(*value)).collect(),
        }
    }

    /// The states of `aggregate`; `field` is what the cells say of its field, if they know it.
    pub(super) fn states(&self, aggregate: &Aggregate, field: Option<(Kind, &FieldCells)>) -> Result<Vec<ArrayRef>> {
        let (what, time_of) = match aggregate.source {
            Source::Rows => return Ok(vec![Arc::new(Int64Array::from(self.of(&self.cells.rows, i64::from)))]),
            Source::Time(End::First) => return Ok(vec![self.times(&self.cells.first_at, None, aggregate, 0)?]),
            Source::Time(End::Last) => return Ok(vec![self.times(&self.cells.last_at, None, aggregate, 0)?]),
            Source::Field { what, .. } => (what, 1),
            Source::Sketch { .. } => return internal_err!("a sketch of a summary"),
        };
        let Some((kind, found)) = field else { return self.nothing(what, aggregate) };
        let counts = self.of(&found.counts, |count| count);
        let nulls = || counts.contains(&0).then(|| NullBuffer::from_iter(counts.iter().map(|count| *count > 0)));
        let words = |words: &[u64]| self.words(kind, words, nulls());
        Ok(match what {
            What::Count => vec![Arc::new(Int64Array::from_iter_values(counts.iter().copied().map(i64::from)))],
            What::Sum => vec![words(&found.sums)],
            What::Mean => {
                // A count of zero is a state for the engine, and the mean of nothing would be no null.
                let counts = counts.iter().copied().map(u64::from).collect::<Vec<_>>();
                vec![Arc::new(UInt64Array::new(counts.into(), nulls())), words(&found.sums)]
            }
            What::Min => vec![words(&found.mins)],
            What::Max => vec![words(&found.maxs)],
            What::Value(End::First) => {
                vec![words(&found.firsts), self.times(&found.first_at, nulls(), aggregate, time_of)?]
            }
            What::Value(End::Last) => {
                vec![words(&found.lasts), self.times(&found.last_at, nulls(), aggregate, time_of)?]
            }
            What::Time(End::First) => vec![self.times(&found.first_at, nulls(), aggregate, 0)?],
            What::Time(End::Last) => vec![self.times(&found.last_at, nulls(), aggregate, 0)?],
        })
    }

    /// The states of rows that are all null.
    fn nothing(&self, what: What, aggregate: &Aggregate) -> Result<Vec<ArrayRef>> {
        let states = aggregate.function.state_fields()?;
        let zeros = |data_type: &DataType| arrow::compute::cast(&Int64Array::from(vec![0; self.len()]), data_type);
        let state = |field: &arrow::datatypes::FieldRef| {
            let is_count = what == What::Count;
            Ok(if is_count { zeros(field.data_type())? } else { new_null_array(field.data_type(), self.len()) })
        };
        states.iter().map(state).collect()
    }

    fn words(&self, kind: Kind, words: &[u64], nulls: Option<NullBuffer>) -> ArrayRef {
        fn array<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
            Arc::new(PrimitiveArray::<T>::new(values.into(), nulls))
        }
        match kind {
            Kind::Float => Arc::new(Float64Array::new(self.of(words, f64::from_bits).into(), nulls)),
            Kind::Int => array::<arrow::datatypes::Int64Type>(self.of(words, u64::cast_signed), nulls),
            Kind::Bool => Arc::new(BooleanArray::new(self.of(words, |word| word != 0).into(), nulls)),
            Kind::Unsigned | Kind::Counted => array::<arrow::datatypes::UInt64Type>(self.of(words, |word| word), nulls),
        }
    }

    /// Times as the state number `state` has them.
    fn times(&self, times: &[i64], nulls: Option<NullBuffer>, aggregate: &Aggregate, state: usize) -> Result<ArrayRef> {
        let states = aggregate.function.state_fields()?;
        let times = TimestampNanosecondArray::new(self.of(times, |at| at).into(), nulls);
        Ok(match states.get(state).map(|field| field.data_type()) {
            Some(DataType::Timestamp(_, zone)) => Arc::new(times.with_timezone_opt(zone.clone())),
            _ => Arc::new(times),
        })
    }
}
