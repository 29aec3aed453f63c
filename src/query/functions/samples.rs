//! Samples of groups, a value at a time each, for aggregates that look at them in the order of time.
//!
//! Rows come in any order and from several partitions, so samples are kept, 16 bytes each, and sorted when the answer is
//! asked for, unless they came in order. Where few samples say it all, the others are dropped on the way.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::common::utils::proxy::VecAllocExt;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::arguments::{nth, tick_ns, ticks};
use super::counted::{counted, for_each};
use super::measures::Measure;
use super::one_group::Groups;

/// A value at a time. The time is in ticks of the time's type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<V> {
    pub(super) time: i64,
    pub(super) value: V,
}

/// By time, and for one time by value: -0 before +0, NaN last.
pub(super) fn in_order(a: &Sample<f64>, b: &Sample<f64>) -> Ordering {
    let by_value = || a.value.is_nan().cmp(&b.value.is_nan()).then_with(|| a.value.total_cmp(&b.value));
    a.time.cmp(&b.time).then_with(by_value)
}

/// The samples of all groups.
pub(super) struct Buffers<V> {
    groups: Vec<Vec<Sample<V>>>,
    /// What the samples of all groups take.
    bytes: usize,
}

impl<V: Copy> Buffers<V> {
    pub(super) fn new() -> Self {
        Self { groups: Vec::new(), bytes: 0 }
    }

    pub(super) fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, Vec::new);
    }

    /// Adds a sample to a group, and gives all of that group.
    #[inline]
    pub(super) fn push(&mut self, group: usize, sample: Sample<V>) -> Option<&mut Vec<Sample<V>>> {
        let samples = self.groups.get_mut(group)?;
        samples.push_accounted(sample, &mut self.bytes);
        Some(samples)
    }

    pub(super) fn all(&mut self) -> &mut [Vec<Sample<V>>] {
        &mut self.groups
    }

    pub(super) fn take(&mut self, emit: EmitTo) -> Vec<Vec<Sample<V>>> {
        let taken = emit.take_needed(&mut self.groups);
        let bytes: usize = taken.iter().map(VecAllocExt::allocated_size).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }

    pub(super) fn size(&self) -> usize {
        self.groups.allocated_size() + self.bytes
    }
}

/// How much of a group has been looked at, for one that is asked again and again as it grows.
#[derive(Default)]
pub(super) struct Seen<T> {
    samples: usize,
    sum: T,
}

impl<T: Copy + Default + std::ops::AddAssign> Seen<T> {
    /// The sum over all `samples`, once they are in order: of what is new, if that came in order, else anew.
    pub(super) fn sum<V: Copy>(
        &mut self,
        samples: &mut [Sample<V>],
        order: impl Fn(&Sample<V>, &Sample<V>) -> Ordering,
        of: impl Fn(&[Sample<V>]) -> T,
    ) -> T {
        let known =
            samples.get(self.samples.saturating_sub(1)..).filter(|new| new.is_sorted_by(|a, b| order(a, b).is_le()));
        if known.is_none() {
            samples.sort_unstable_by(order);
            *self = Self::default();
        }
        self.sum += of(samples.get(self.samples.saturating_sub(1)..).unwrap_or(&[]));
        self.samples = samples.len();
        self.sum
    }
}

/// A list a group: `lengths` of them, one after the other, in `items`.
pub(super) fn lists(lengths: impl IntoIterator<Item = usize>, items: ArrayRef) -> Result<ArrayRef> {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, None)?))
}

/// The type of such lists.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// An aggregate of numbers in the order of time.
pub(super) struct Samples {
    measure: Measure,
    tick_ns: i64,
    buffers: Buffers<f64>,
    /// Of the first group.
    seen: Seen<f64>,
}

/// Samples of a group at which those that say nothing are looked for.
const THIN_AT: usize = 64;

impl Samples {
    pub(super) fn new(measure: Measure, time: &DataType) -> Self {
        Self { measure, tick_ns: tick_ns(time), buffers: Buffers::new(), seen: Seen::default() }
    }

    fn push(&mut self, group: usize, time: i64, value: f64) {
        if value.is_nan() && self.measure.skips_nan() {
            return;
        }
        let samples = self.buffers.push(group, Sample { time, value });
        if let Some(samples) = samples.filter(|samples| samples.len() == THIN_AT && self.measure.needs_ends_only()) {
            sort(samples);
            self.measure.thin(samples);
        }
    }

    fn states(groups: &[Vec<Sample<f64>>]) -> Result<Vec<ArrayRef>> {
        let all = || groups.iter().flatten();
        let times = all().map(|sample| sample.time).collect::<Int64Array>();
        let values = all().map(|sample| sample.value).collect::<Float64Array>();
        let lengths = || groups.iter().map(Vec::len);
        Ok(vec![lists(lengths(), Arc::new(values))?, lists(lengths(), Arc::new(times))?])
    }
}

fn sort(samples: &mut [Sample<f64>]) {
    if !samples.is_sorted_by(|a, b| in_order(a, b).is_le()) {
        samples.sort_unstable_by(in_order);
    }
}

impl Groups for Samples {
    fn peek(&mut self) -> Result<ArrayRef> {
        let (measure, tick_ns) = (self.measure, self.tick_ns);
        let mut groups = self.buffers.all().iter_mut();
        let first = groups.next().map(|samples| {
            let sum = self.seen.sum(samples, in_order, |new| measure.sum(new));
            measure.of(samples, sum, tick_ns)
        });
        let others = groups.map(|samples| answer(measure, samples, tick_ns));
        Ok(Arc::new(first.into_iter().chain(others).collect::<Float64Array>()))
    }
}

/// What is asked of the samples of a group, in whatever order.
fn answer(measure: Measure, samples: &mut [Sample<f64>], tick_ns: i64) -> Option<f64> {
    sort(samples);
    measure.of(samples, measure.sum(samples), tick_ns)
}

impl GroupsAccumulator for Samples {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.buffers.resize(total);
        let (value, time) = (cast(nth(values, 0)?, &DataType::Float64)?, nth(values, 1)?);
        let (numbers, ticks) = (value.as_primitive::<Float64Type>(), ticks(time)?);
        for_each(groups, counted(&[&value, time], filter).as_ref(), |row, group| {
            self.push(group, ticks.value(row), numbers.value(row));
        });
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.buffers.resize(total);
        let (values, times) = (nth(states, 0)?.as_list::<i32>(), nth(states, 1)?.as_list::<i32>());
        for ((values, times), group) in values.iter().zip(times.iter()).zip(groups) {
            let (Some(values), Some(times)) = (values, times) else { continue };
            let (values, times) = (values.as_primitive::<Float64Type>(), times.as_primitive::<Int64Type>());
            times.values().iter().zip(values.values()).for_each(|(time, value)| self.push(*group, *time, *value));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (measure, tick_ns) = (self.measure, self.tick_ns);
        let mut groups = self.buffers.take(emit);
        self.seen = Seen::default();
        Ok(Arc::new(groups.iter_mut().map(|samples| answer(measure, samples, tick_ns)).collect::<Float64Array>()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut groups = self.buffers.take(emit);
        self.seen = Seen::default();
        if self.measure.needs_ends_only() {
            groups.iter_mut().for_each(|samples| {
                sort(samples);
                self.measure.thin(samples);
            });
        }
        Self::states(&groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = nth(values, 0)?.len();
        let (measure, tick_ns) = (self.measure, self.tick_ns);
        let mut each = Self { measure, tick_ns, buffers: Buffers::new(), seen: Seen::default() };
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.buffers.size()
    }
}
