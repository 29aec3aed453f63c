//! `state_changes`: how often a value of any type became another.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, LargeBinaryBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::utils::proxy::VecAllocExt;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use hashbrown::HashMap;

use super::Entry;
use super::arguments::{check_count, check_time, nth, ticks, wrong};
use super::counted::{counted, for_each};
use super::one_group::{Groups, Make, OneGroup, Sliding};
use super::samples::{Buffers, Sample, Seen, list_of, lists};

const NAME: &str = "state_changes";
const SIGNATURE: &str = "state_changes(state, time)";

pub(super) const REFERENCE: &[Entry] = &[Entry {
    name: NAME,
    signature: SIGNATURE,
    summary: "How often a state became another.",
    details: "Counts the samples, in the order of time, that differ from the one before. Any type of state. Rows whose \
              state or time is null are skipped: open, null, open is no change. The first sample is none either; no \
              samples give null. States of equal times are taken in their order, and equal floats are those of one bit \
              pattern. Cost: 16 bytes a sample and the different states once, counted by the memory pool, and a sort if \
              samples do not come in order.",
    example: "SELECT state_changes(state, t) FROM (VALUES ('open', TIMESTAMP '2026-01-01 00:00:00'), \
              ('open', TIMESTAMP '2026-01-01 00:01:00'), (NULL, TIMESTAMP '2026-01-01 00:02:00'), \
              ('shut', TIMESTAMP '2026-01-01 00:03:00'), ('open', TIMESTAMP '2026-01-01 00:04:00')) AS x(state, t)\n-- 2",
}];

pub(super) fn udafs() -> Vec<Arc<AggregateUDF>> {
    let signature = Signature::variadic_any(Volatility::Immutable);
    vec![Arc::new(AggregateUDF::from(StateChanges { signature }))]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct StateChanges {
    signature: Signature,
}

fn make(arguments: &AccumulatorArgs) -> Result<(Make, Vec<DataType>)> {
    let types: Vec<DataType> = arguments.expr_fields.iter().map(|field| field.data_type().clone()).collect();
    let state = nth(&types, 0)?.clone();
    Ok((Arc::new(move || Ok(Box::new(Changes::new(&state)?))), types))
}

impl AggregateUDFImpl for StateChanges {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        check_count(SIGNATURE, arguments.len(), 2..=2)?;
        let state = nth(arguments, 0)?;
        check_time(NAME, "time", nth(arguments, 1)?)?;
        if !RowConverter::supports_fields(&[SortField::new(state.clone())]) {
            let remedy = "give a type that can be ordered";
            return Err(wrong(NAME, "state", format_args!("is {state}, which has no order"), remedy));
        }
        Ok(DataType::Int64)
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name, item| Arc::new(Field::new(format_state_name(arguments.name, name), list_of(item), true));
        Ok(vec![field("states", DataType::LargeBinary), field("times", DataType::Int64)])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (make, types) = make(&arguments)?;
        Ok(Box::new(OneGroup::new(&make, &types)?))
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (make, types) = make(&arguments)?;
        Ok(Box::new(Sliding::new(make, types)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(make(&arguments)?.0()?)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The states that were met, each once, as bytes whose order is theirs.
#[derive(Default)]
struct States {
    numbers: HashMap<Arc<[u8]>, u32>,
    states: Vec<Arc<[u8]>>,
    bytes: usize,
}

impl States {
    fn number(&mut self, state: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(state) {
            return *number;
        }
        let number = self.states.len() as u32;
        let state: Arc<[u8]> = state.into();
        self.bytes += state.len();
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        number
    }

    fn state(&self, number: u32) -> &[u8] {
        self.states.get(number as usize).map_or(&[], |state| state)
    }

    fn size(&self) -> usize {
        self.bytes + self.states.allocated_size() + self.numbers.allocation_size()
    }
}

struct Changes {
    converter: RowConverter,
    states: States,
    buffers: Buffers<u32>,
    /// Of the first group.
    seen: Seen<i64>,
}

impl Changes {
    fn new(state: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(state.clone())])?;
        Ok(Self { converter, states: States::default(), buffers: Buffers::new(), seen: Seen::default() })
    }
}

/// How many of the samples of a group differ from the one before, for what was `seen` of it.
fn changes(states: &States, samples: &mut [Sample<u32>], seen: &mut Seen<i64>) -> Option<i64> {
    let order = |a: &Sample<u32>, b: &Sample<u32>| {
        a.time.cmp(&b.time).then_with(|| states.state(a.value).cmp(states.state(b.value)))
    };
    let changes = seen.sum(samples, order, |new| {
        new.iter().zip(new.iter().skip(1)).filter(|(before, after)| before.value != after.value).count() as i64
    });
    (!samples.is_empty()).then_some(changes)
}

impl Groups for Changes {
    fn peek(&mut self) -> Result<ArrayRef> {
        let states = &self.states;
        let mut groups = self.buffers.all().iter_mut();
        let first = groups.next().map(|samples| changes(states, samples, &mut self.seen));
        let others = groups.map(|samples| changes(states, samples, &mut Seen::default()));
        Ok(Arc::new(first.into_iter().chain(others).collect::<Int64Array>()))
    }
}

impl GroupsAccumulator for Changes {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.buffers.resize(total);
        let (state, time) = (nth(values, 0)?, nth(values, 1)?);
        let rows = self.converter.convert_columns(std::slice::from_ref(state))?;
        let ticks = ticks(time)?;
        for_each(groups, counted(&[state, time], filter).as_ref(), |row, group| {
            let value = self.states.number(rows.row(row).data());
            self.buffers.push(group, Sample { time: ticks.value(row), value });
        });
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.buffers.resize(total);
        let (values, times) = (nth(states, 0)?.as_list::<i32>(), nth(states, 1)?.as_list::<i32>());
        for ((values, times), group) in values.iter().zip(times.iter()).zip(groups) {
            let (Some(values), Some(times)) = (values, times) else { continue };
            let times = times.as_primitive::<Int64Type>();
            for (state, time) in values.as_binary::<i64>().iter().zip(times.values()) {
                let value = self.states.number(state.unwrap_or(&[]));
                self.buffers.push(*group, Sample { time: *time, value });
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let mut groups = self.buffers.take(emit);
        self.seen = Seen::default();
        let counts = groups.iter_mut().map(|samples| changes(&self.states, samples, &mut Seen::default()));
        Ok(Arc::new(counts.collect::<Int64Array>()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.buffers.take(emit);
        self.seen = Seen::default();
        let all = || groups.iter().flatten();
        let times = all().map(|sample| sample.time).collect::<Int64Array>();
        let mut states = LargeBinaryBuilder::new();
        all().for_each(|sample| states.append_value(self.states.state(sample.value)));
        let lengths = || groups.iter().map(Vec::len);
        Ok(vec![lists(lengths(), Arc::new(states.finish()))?, lists(lengths(), Arc::new(times))?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = nth(values, 0)?.len();
        let mut each = Self::new(nth(values, 0)?.data_type())?;
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.buffers.size() + self.states.size() + self.converter.size()
    }
}
