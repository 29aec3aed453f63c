//! One value and one time a group.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray,
    downcast_primitive, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::utils::proxy::VecAllocExt;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::End;
use crate::query::functions::arguments::{nth, ticks, timestamps};
use crate::query::functions::counted::{counted, for_each};
use crate::query::functions::one_group::Groups;

impl End {
    /// Whether `found` compared with `held` is nearer to this end.
    fn prefers(self, order: Ordering) -> bool {
        match self {
            Self::First => order.is_lt(),
            Self::Last => order.is_gt(),
        }
    }
}

/// The order in which all values have a place: -0 before +0, every NaN after every number.
fn total_order<N: ArrowNativeTypeOp>(a: N, b: N) -> Ordering {
    // By bits alone a NaN with a sign would come first.
    match a.partial_cmp(&b) {
        Some(Ordering::Equal) => a.compare(b),
        Some(order) => order,
        None => {
            let is_nan = |value: N| value.partial_cmp(&value).is_none();
            is_nan(a).cmp(&is_nan(b)).then_with(|| a.compare(b))
        }
    }
}

/// The end of time of each group, in ticks of the time's type.
struct Times {
    end: End,
    ticks: Vec<i64>,
    is_known: Vec<bool>,
    data_type: DataType,
}

impl Times {
    fn new(end: End, data_type: &DataType) -> Self {
        Self { end, ticks: Vec::new(), is_known: Vec::new(), data_type: data_type.clone() }
    }

    fn resize(&mut self, groups: usize) {
        self.ticks.resize(groups, 0);
        self.is_known.resize(groups, false);
    }

    /// Takes a time of a group, if it is nearer to the end, or as near and `wins_tie`.
    #[inline]
    fn offer(&mut self, group: usize, tick: i64, wins_tie: impl FnOnce() -> bool) -> bool {
        let (Some(held), Some(is_known)) = (self.ticks.get_mut(group), self.is_known.get_mut(group)) else {
            return false;
        };
        let order = tick.cmp(held);
        if *is_known && !self.end.prefers(order) && !(order.is_eq() && wins_tie()) {
            return false;
        }
        *held = tick;
        *is_known = true;
        true
    }

    fn array(&self, ticks: Vec<i64>, is_known: Vec<bool>) -> Result<ArrayRef> {
        timestamps(&Int64Array::new(ticks.into(), Some(NullBuffer::from(is_known))), &self.data_type)
    }

    fn take(&mut self, emit: EmitTo) -> Result<(ArrayRef, NullBuffer)> {
        let (ticks, is_known) = (emit.take_needed(&mut self.ticks), emit.take_needed(&mut self.is_known));
        let nulls = NullBuffer::from(is_known.as_slice());
        Ok((self.array(ticks, is_known)?, nulls))
    }

    fn size(&self) -> usize {
        self.ticks.allocated_size() + self.is_known.allocated_size()
    }
}

/// `first_time` and `last_time`: the least or greatest time at which there is a value. Its state is the time alone.
pub(super) struct TimeEnds(Times);

impl TimeEnds {
    pub(super) fn new(end: End, time: &DataType) -> Self {
        Self(Times::new(end, time))
    }

    fn take_rows(
        &mut self,
        time: &ArrayRef,
        groups: &[usize],
        counted: Option<&NullBuffer>,
        total: usize,
    ) -> Result<()> {
        self.0.resize(total);
        let ticks = ticks(time)?;
        for_each(groups, counted, |row, group| {
            self.0.offer(group, ticks.value(row), || false);
        });
        Ok(())
    }
}

impl Groups for TimeEnds {
    fn peek(&mut self) -> Result<ArrayRef> {
        self.0.array(self.0.ticks.clone(), self.0.is_known.clone())
    }
}

impl GroupsAccumulator for TimeEnds {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        let (value, time) = (nth(values, 0)?, nth(values, 1)?);
        self.take_rows(time, groups, counted(&[value, time], filter).as_ref(), total)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        let time = nth(values, 0)?;
        self.take_rows(time, groups, counted(&[time], None).as_ref(), total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        Ok(self.0.take(emit)?.0)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.0.take(emit)?.0])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let (value, time) = (nth(values, 0)?, nth(values, 1)?);
        let ticks = ticks(time)?;
        let states = Int64Array::new(ticks.values().clone(), counted(&[value, time], filter));
        Ok(vec![timestamps(&states, &self.0.data_type)?])
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// `first` and `last`. The state is value and time, so a state is taken like a row.
pub(super) fn value_ends(end: End, value: &DataType, time: &DataType) -> Result<Box<dyn Groups>> {
    macro_rules! primitive {
        ($type:ty) => {
            Box::new(ValueEnds {
                times: Times::new(end, time),
                values: Primitive::<$type> { values: Vec::new(), data_type: value.clone() },
            })
        };
    }
    Ok(downcast_primitive! {
        value => (primitive),
        _ => Box::new(ValueEnds { times: Times::new(end, time), values: Encoded::new(value)? }),
    })
}

/// The values of the groups.
trait Values: Send + Sync + 'static {
    /// A batch, ready to be compared with.
    type Batch;

    fn read(&self, column: &ArrayRef) -> Result<Self::Batch>;
    fn resize(&mut self, groups: usize);
    /// The value of a row against the one that a group holds.
    fn compare(&self, batch: &Self::Batch, row: usize, group: usize) -> Ordering;
    fn put(&mut self, batch: &Self::Batch, row: usize, group: usize);
    /// The values of the first groups, which leave.
    fn take(&mut self, emit: EmitTo, nulls: NullBuffer) -> Result<ArrayRef>;
    /// All values, which stay.
    fn copied(&self, nulls: NullBuffer) -> Result<ArrayRef>;
    fn size(&self) -> usize;
}

struct ValueEnds<V> {
    times: Times,
    values: V,
}

impl<V: Values> Groups for ValueEnds<V> {
    fn peek(&mut self) -> Result<ArrayRef> {
        self.values.copied(NullBuffer::from(self.times.is_known.as_slice()))
    }
}

impl<V: Values> GroupsAccumulator for ValueEnds<V> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.times.resize(total);
        self.values.resize(total);
        let (value, time) = (nth(values, 0)?, nth(values, 1)?);
        let (batch, ticks) = (self.values.read(value)?, ticks(time)?);
        let end = self.times.end;
        for_each(groups, counted(&[value, time], filter).as_ref(), |row, group| {
            let wins_tie = || end.prefers(self.values.compare(&batch, row, group));
            if self.times.offer(group, ticks.value(row), wins_tie) {
                self.values.put(&batch, row, group);
            }
        });
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(values, groups, None, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (_, nulls) = self.times.take(emit)?;
        self.values.take(emit, nulls)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (times, nulls) = self.times.take(emit)?;
        Ok(vec![self.values.take(emit, nulls)?, times])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let (value, time) = (nth(values, 0)?, nth(values, 1)?);
        let counted = counted(&[value, time], filter);
        let times = Int64Array::new(ticks(time)?.values().clone(), counted);
        // A row without time does not count, whatever its value.
        Ok(vec![value.clone(), timestamps(&times, &self.times.data_type)?])
    }

    fn size(&self) -> usize {
        self.times.size() + self.values.size()
    }
}

struct Primitive<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType> Primitive<T> {
    fn array(&self, values: Vec<T::Native>, nulls: NullBuffer) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(values.into(), Some(nulls)).with_data_type(self.data_type.clone()))
    }
}

impl<T: ArrowPrimitiveType> Values for Primitive<T> {
    type Batch = PrimitiveArray<T>;

    fn read(&self, column: &ArrayRef) -> Result<Self::Batch> {
        Ok(column.as_primitive::<T>().clone())
    }

    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, T::Native::default());
    }

    fn compare(&self, batch: &Self::Batch, row: usize, group: usize) -> Ordering {
        self.values.get(group).map_or(Ordering::Equal, |held| total_order(batch.value(row), *held))
    }

    fn put(&mut self, batch: &Self::Batch, row: usize, group: usize) {
        if let Some(held) = self.values.get_mut(group) {
            *held = batch.value(row);
        }
    }

    fn take(&mut self, emit: EmitTo, nulls: NullBuffer) -> Result<ArrayRef> {
        let values = emit.take_needed(&mut self.values);
        Ok(self.array(values, nulls))
    }

    fn copied(&self, nulls: NullBuffer) -> Result<ArrayRef> {
        Ok(self.array(self.values.clone(), nulls))
    }

    fn size(&self) -> usize {
        self.values.allocated_size()
    }
}

/// Values of any type, each as bytes whose order is the values'.
struct Encoded {
    converter: RowConverter,
    values: Vec<Box<[u8]>>,
    /// Of all `values` together.
    bytes: usize,
    null: Box<[u8]>,
    data_type: DataType,
}

impl Encoded {
    fn new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let null = converter.convert_columns(&[new_null_array(data_type, 1)])?.row(0).data().into();
        Ok(Self { converter, values: Vec::new(), bytes: 0, null, data_type: data_type.clone() })
    }

    fn array<'a>(&self, values: impl Iterator<Item = &'a Box<[u8]>>, nulls: &NullBuffer) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        let rows = values.zip(nulls.iter()).map(|(value, is_known)| if is_known { &**value } else { &*self.null });
        let columns = self.converter.convert_rows(rows.map(|bytes| parser.parse(bytes)))?;
        // What was a dictionary comes back plain.
        Ok(cast(nth(&columns, 0)?, &self.data_type)?)
    }
}

impl Values for Encoded {
    type Batch = arrow::row::Rows;

    fn read(&self, column: &ArrayRef) -> Result<Self::Batch> {
        Ok(self.converter.convert_columns(std::slice::from_ref(column))?)
    }

    fn resize(&mut self, groups: usize) {
        self.values.resize_with(groups, Box::default);
    }

    fn compare(&self, batch: &Self::Batch, row: usize, group: usize) -> Ordering {
        self.values.get(group).map_or(Ordering::Equal, |held| batch.row(row).data().cmp(held))
    }

    fn put(&mut self, batch: &Self::Batch, row: usize, group: usize) {
        let value = batch.row(row).data();
        if let Some(held) = self.values.get_mut(group) {
            self.bytes = self.bytes + value.len() - held.len();
            *held = value.into();
        }
    }

    fn take(&mut self, emit: EmitTo, nulls: NullBuffer) -> Result<ArrayRef> {
        let values = emit.take_needed(&mut self.values);
        self.bytes -= values.iter().map(|value| value.len()).sum::<usize>();
        self.array(values.iter(), &nulls)
    }

    fn copied(&self, nulls: NullBuffer) -> Result<ArrayRef> {
        self.array(self.values.iter(), &nulls)
    }

    fn size(&self) -> usize {
        self.converter.size() + self.bytes + self.values.allocated_size()
    }
}
