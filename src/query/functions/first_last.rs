//! `first` and `last`: the value of the earliest or latest time, and that time.
//!
//! Equal times are decided by the value, so that the answer does not depend on the order of rows: `first` takes the
//! least and `last` the greatest in total order, where -0 is before +0 and NaN after everything.

mod accumulators;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use self::accumulators::{TimeEnds, value_ends};
use super::Entry;
use super::arguments::{check_count, check_time, nth, wrong};
use super::one_group::{Make, OneGroup, Sliding};

pub(super) const REFERENCE: &[Entry] = &[
    Entry {
        name: "first",
        signature: "first(value, time)",
        summary: "The value of the earliest time.",
        details: "Any type of value. Rows whose value or time is null are skipped; without any other the answer is null. \
                  Among equal times it is the least value, by total order: -0 before +0, NaN greatest. One value and \
                  one time a group are held. In a sliding window the rows of the window are held and looked through \
                  for each answer.",
        example: "SELECT first(v, t) FROM (VALUES (3, TIMESTAMP '2026-01-01 00:02:00'), \
                  (1, TIMESTAMP '2026-01-01 00:01:00'), (NULL, TIMESTAMP '2026-01-01 00:00:00')) AS x(v, t)\n-- 1",
    },
    Entry {
        name: "first_time",
        signature: "first_time(value, time)",
        summary: "The earliest time at which there is a value: the time of `first`.",
        details: "Rows whose value or time is null are skipped; without any other the answer is null. The type is that of \
                  `time`.",
        example: "SELECT first_time(v, t) FROM (VALUES (3, TIMESTAMP '2026-01-01 00:02:00'), \
                  (NULL, TIMESTAMP '2026-01-01 00:00:00')) AS x(v, t)\n-- 2026-01-01T00:02:00",
    },
    Entry {
        name: "last",
        signature: "last(value, time)",
        summary: "The value of the latest time.",
        details: "As `first`, null rule and all, from the other end: among equal times it is the greatest value. `last(value, time)` grouped \
                  by all tags gives the latest value of each series.",
        example: "SELECT k, last(v, t) FROM (VALUES ('a', 3, TIMESTAMP '2026-01-01 00:02:00'), \
                  ('a', 7, TIMESTAMP '2026-01-01 00:03:00'), ('b', 5, TIMESTAMP '2026-01-01 00:01:00')) AS x(k, v, t) \
                  GROUP BY k ORDER BY k\n-- a,7\n-- b,5",
    },
    Entry {
        name: "last_time",
        signature: "last_time(value, time)",
        summary: "The latest time at which there is a value: the time of `last`.",
        details: "Rows whose value or time is null are skipped; without any other the answer is null. The type is that of \
                  `time`.",
        example: "SELECT last_time(v, t) FROM (VALUES (3, TIMESTAMP '2026-01-01 00:02:00'), \
                  (NULL, TIMESTAMP '2026-01-01 00:05:00')) AS x(v, t)\n-- 2026-01-01T00:02:00",
    },
];

pub(super) fn udafs() -> Vec<Arc<AggregateUDF>> {
    let of = |end, answer| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(AggregateUDF::from(EndFunction { end, answer, signature }))
    };
    vec![
        of(End::First, Answer::Value),
        of(End::First, Answer::Time),
        of(End::Last, Answer::Value),
        of(End::Last, Answer::Time),
    ]
}

/// Whether `function` is this crate's `last` or `last_time`, and if so, whether equal times are decided by the value.
pub(in crate::query) fn last_of(function: &AggregateUDF) -> Option<bool> {
    let function = function.inner().downcast_ref::<EndFunction>().filter(|function| function.end == End::Last)?;
    Some(function.answer == Answer::Value)
}

/// Which end of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    First,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Value,
    Time,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EndFunction {
    end: End,
    answer: Answer,
    signature: Signature,
}

impl EndFunction {
    fn make(&self, fields: &[FieldRef]) -> Result<Make> {
        let (value, time) = (nth(fields, 0)?.data_type().clone(), nth(fields, 1)?.data_type().clone());
        let end = self.end;
        Ok(match self.answer {
            Answer::Time => Arc::new(move || Ok(Box::new(TimeEnds::new(end, &time)))),
            Answer::Value => Arc::new(move || value_ends(end, &value, &time)),
        })
    }
}

fn types(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

impl AggregateUDFImpl for EndFunction {
    fn name(&self) -> &str {
        match (self.end, self.answer) {
            (End::First, Answer::Value) => "first",
            (End::First, Answer::Time) => "first_time",
            (End::Last, Answer::Value) => "last",
            (End::Last, Answer::Time) => "last_time",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        check_count(&format!("{}(value, time)", self.name()), arguments.len(), 2..=2)?;
        let (value, time) = (nth(arguments, 0)?, nth(arguments, 1)?);
        check_time(self.name(), "time", time)?;
        if !RowConverter::supports_fields(&[SortField::new(value.clone())]) {
            let remedy = "give a type that can be ordered";
            return Err(wrong(self.name(), "value", format_args!("is {value}, which has no order"), remedy));
        }
        Ok(if self.answer == Answer::Value { value.clone() } else { time.clone() })
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |place: usize, name| -> Result<FieldRef> {
            let data_type = nth(arguments.input_fields, place)?.data_type().clone();
            Ok(Arc::new(Field::new(format_state_name(arguments.name, name), data_type, true)))
        };
        // The time alone stands for itself and for that there was a value.
        Ok(match self.answer {
            Answer::Value => vec![field(0, "value")?, field(1, "time")?],
            Answer::Time => vec![field(1, "time")?],
        })
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneGroup::new(&self.make(arguments.expr_fields)?, &types(arguments.expr_fields))?))
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sliding::new(self.make(arguments.expr_fields)?, types(arguments.expr_fields))))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(self.make(arguments.expr_fields)?()?)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
