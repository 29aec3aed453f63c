//! Aggregates over (value, time): counters, time-weighted averages, integrals, and how long a state held.
//!
//! What is between the first and the last sample of a group counts, and nothing is made up beyond them. [`measures`] has
//! the arithmetic, [`samples`] the memory.
//!
//! [`measures`]: super::measures
//! [`samples`]: super::samples

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use super::Entry;
use super::arguments::{check_count, check_number, check_time, constant, nth, wrong};
use super::bins::Stride;
use super::measures::{Measure, Method};
use super::one_group::{Make, OneGroup, Sliding};
use super::samples::{Samples, list_of};
use super::wallclock;

pub(super) const REFERENCE: &[Entry] = &[
    Entry {
        name: "delta",
        signature: "delta(value, time)",
        summary: "How much a gauge has changed from its first to its last sample.",
        details: "The last value minus the first; of equal times the least value is first and the greatest last. Rows whose \
                  value or time is null, and NaN, are skipped; fewer than two samples give null. Unlike Prometheus's delta \
                  it is not extrapolated to the ends of a window: what was sampled is what counts. The answer is a DOUBLE.",
        example: "SELECT delta(v, t) FROM (VALUES (5, TIMESTAMP '2026-01-01 00:00:00'), \
                  (9, TIMESTAMP '2026-01-01 00:00:30'), (3, TIMESTAMP '2026-01-01 00:01:00')) AS x(v, t)\n-- -2.0",
    },
    Entry {
        name: "increase",
        signature: "increase(value, time)",
        summary: "How much a counter has counted, over its resets.",
        details: "The last value minus the first, plus what the counter had before each reset: a value below the one before \
                  it says that the counter began anew from 0. Rows whose value or time is null, and NaN, are skipped; \
                  fewer than two samples give null. Samples of equal times are taken in the order of their values. Unlike \
                  Prometheus's increase it is not extrapolated to the ends of a window, so whole counts stay whole; what \
                  is counted between the last sample of one bin and the first of the next is in neither: for bins without \
                  loss use a window that reaches back to the sample before. Counts beyond 2^53 are rounded. Cost: 16 \
                  bytes a sample, counted by the memory pool, and a sort if samples do not come in order; in a sliding \
                  window, a look through the window for each row.",
        example: "SELECT increase(v, t) FROM (VALUES (5, TIMESTAMP '2026-01-01 00:00:00'), \
                  (9, TIMESTAMP '2026-01-01 00:00:30'), (3, TIMESTAMP '2026-01-01 00:01:00')) AS x(v, t)\n-- 7.0",
    },
    Entry {
        name: "integral",
        signature: "integral(value, time [, method [, unit]])",
        summary: "The area under a curve: value times time.",
        details: "`method` says how the value goes on from a sample to the next: 'linear', the default, on the straight \
                  line; 'locf' holds it. `unit` is the interval by which time is counted, one second if left out: power in \
                  kW with INTERVAL '1 hour' gives kWh. Both are constant. From the first sample to the last; one sample \
                  has no area, 0. Rows whose value or time is null are skipped, so a line or a value reaches over them; no \
                  samples give null. NaN makes the answer NaN. Names and methods are InfluxDB's and TimescaleDB's. Cost: \
                  as increase.",
        example: "SELECT integral(kw, t, 'linear', INTERVAL '1 hour') FROM (VALUES \
                  (2.0, TIMESTAMP '2026-01-01 00:00:00'), (4.0, TIMESTAMP '2026-01-01 01:00:00'), \
                  (4.0, TIMESTAMP '2026-01-01 01:30:00')) AS x(kw, t)\n-- 5.0",
    },
    Entry {
        name: "irate",
        signature: "irate(value, time)",
        summary: "The rate of a counter between its last two samples, a second.",
        details: "As Prometheus's irate: after a reset the counter has counted from 0. The samples of the last two different \
                  times, of equal times the greatest value. Rows whose value or time is null, and NaN, are skipped; fewer \
                  than two times give null.",
        example: "SELECT irate(v, t) FROM (VALUES (5, TIMESTAMP '2026-01-01 00:00:00'), \
                  (9, TIMESTAMP '2026-01-01 00:00:30'), (3, TIMESTAMP '2026-01-01 00:01:00')) AS x(v, t)\n-- 0.1",
    },
    Entry {
        name: "rate",
        signature: "rate(value, time)",
        summary: "The mean rate of a counter, a second.",
        details: "increase(value, time) by the seconds from the first sample to the last. Null rule, resets and cost are \
                  increase's; without any time between samples it is null. Prometheus divides by the length of the window \
                  and extrapolates the increase to it; here both are of the samples, as in TimescaleDB's counter_agg.",
        example: "SELECT rate(v, t) FROM (VALUES (5, TIMESTAMP '2026-01-01 00:00:00'), \
                  (9, TIMESTAMP '2026-01-01 00:00:30'), (17, TIMESTAMP '2026-01-01 00:01:00')) AS x(v, t)\n-- 0.2",
    },
    Entry {
        name: "state_duration",
        signature: "state_duration(condition, time [, unit])",
        summary: "For how long a condition held.",
        details: "Each sample holds until the next one; the last ends the time. In `unit`s, a constant interval, one second \
                  if left out. `condition` is a boolean, such as state = 'open'. Rows whose condition or time is null are \
                  skipped, so the sample before them holds on; no samples give null, one gives 0. Of equal times true is \
                  last. Cost: as increase.",
        example: "SELECT state_duration(state = 'open', t, INTERVAL '1 minute') FROM (VALUES \
                  ('open', TIMESTAMP '2026-01-01 00:00:00'), ('shut', TIMESTAMP '2026-01-01 00:03:00'), \
                  ('open', TIMESTAMP '2026-01-01 00:10:00'), ('open', TIMESTAMP '2026-01-01 00:11:00')) AS x(state, t)\
                  \n-- 4.0",
    },
    Entry {
        name: "time_weighted_avg",
        signature: "time_weighted_avg(value, time, method)",
        summary: "The average of a curve, not of its samples.",
        details: "integral by the time from the first sample to the last, so that samples which are close together weigh no \
                  more than one that stands alone. `method` is the constant 'locf' or 'linear'. Without time between \
                  samples it is the last value. Rows whose value or time is null are skipped; no samples give null. NaN \
                  makes the answer NaN. Windows end at their last sample: add the samples at the edges, if the time to \
                  them shall count. As TimescaleDB's time_weight. Cost: as increase.",
        example: "SELECT time_weighted_avg(v, t, 'locf') FROM (VALUES (1.0, TIMESTAMP '2026-01-01 00:00:00'), \
                  (10.0, TIMESTAMP '2026-01-01 00:09:00'), (0.0, TIMESTAMP '2026-01-01 00:10:00')) AS x(v, t)\n-- 1.9",
    },
];

pub(super) fn udafs() -> Vec<Arc<AggregateUDF>> {
    let kinds = [
        Kind::Delta,
        Kind::Increase,
        Kind::Integral,
        Kind::Irate,
        Kind::Rate,
        Kind::StateDuration,
        Kind::TimeWeightedAvg,
    ];
    let function = |kind| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(AggregateUDF::from(Sampled { kind, signature }))
    };
    kinds.map(function).into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Delta,
    Increase,
    Integral,
    Irate,
    Rate,
    StateDuration,
    TimeWeightedAvg,
}

impl Kind {
    fn signature(self) -> &'static str {
        match self {
            Self::Delta => "delta(value, time)",
            Self::Increase => "increase(value, time)",
            Self::Integral => "integral(value, time [, method [, unit]])",
            Self::Irate => "irate(value, time)",
            Self::Rate => "rate(value, time)",
            Self::StateDuration => "state_duration(condition, time [, unit])",
            Self::TimeWeightedAvg => "time_weighted_avg(value, time, method)",
        }
    }

    fn name(self) -> &'static str {
        let signature = self.signature();
        signature.split_once('(').map_or(signature, |(name, _)| name)
    }

    fn counts(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Delta | Self::Increase | Self::Irate | Self::Rate => 2..=2,
            Self::Integral => 2..=4,
            Self::StateDuration => 2..=3,
            Self::TimeWeightedAvg => 3..=3,
        }
    }

    /// What is computed, now that the constants are known.
    fn measure(self, constants: &[Option<ScalarValue>]) -> Result<Measure> {
        let method = || self.method(constants.get(2));
        let unit_ns = |place: usize| self.unit_ns(constants.get(place));
        Ok(match self {
            Self::Delta => Measure::Delta,
            Self::Increase => Measure::Increase,
            Self::Irate => Measure::Irate,
            Self::Rate => Measure::Rate,
            Self::TimeWeightedAvg => Measure::Average(method()?),
            Self::Integral => Measure::Integral { method: method()?, unit_ns: unit_ns(3)? },
            Self::StateDuration => Measure::Integral { method: Method::Locf, unit_ns: unit_ns(2)? },
        })
    }

    fn method(self, given: Option<&Option<ScalarValue>>) -> Result<Method> {
        let wrong = |what: &str| wrong(self.name(), "method", what, "write 'locf' or 'linear'");
        let Some(given) = given else { return Ok(Method::Linear) };
        let given = given.as_ref().ok_or_else(|| wrong("is not constant"))?;
        match given.try_as_str().flatten() {
            Some("locf") => Ok(Method::Locf),
            Some("linear") => Ok(Method::Linear),
            _ => Err(wrong(&format!("is {given}"))),
        }
    }

    fn unit_ns(self, given: Option<&Option<ScalarValue>>) -> Result<f64> {
        let remedy = "give a constant and positive interval of days or less, such as INTERVAL '1 hour'";
        let wrong = |what: &str| wrong(self.name(), "unit", what, remedy);
        let Some(given) = given else { return Ok(1e9) };
        let given = given.as_ref().ok_or_else(|| wrong("is not constant"))?;
        match wallclock::stride(self.name(), given) {
            Ok(Stride::Nanoseconds(ns)) => Ok(ns as f64),
            Ok(Stride::Months(_)) => Err(wrong("is of months, whose length varies")),
            Err(_) => Err(wrong(&format!("is {given}"))),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sampled {
    kind: Kind,
    signature: Signature,
}

impl Sampled {
    fn make(&self, arguments: &AccumulatorArgs) -> Result<(Make, Vec<DataType>)> {
        let constants: Vec<_> = arguments.exprs.iter().map(constant).collect();
        let measure = self.kind.measure(&constants)?;
        let types: Vec<DataType> = arguments.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        let time = nth(&types, 1)?.clone();
        Ok((Arc::new(move || Ok(Box::new(Samples::new(measure, &time)))), types))
    }
}

impl AggregateUDFImpl for Sampled {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        check_count(self.kind.signature(), arguments.len(), self.kind.counts())?;
        let (value, time) = (nth(arguments, 0)?, nth(arguments, 1)?);
        if self.kind != Kind::StateDuration {
            check_number(self.name(), "value", value)?;
        } else if !matches!(value, DataType::Boolean | DataType::Null) {
            let remedy = "give a condition, such as state = 'open'";
            return Err(wrong(self.name(), "condition", format_args!("is {value}"), remedy));
        }
        check_time(self.name(), "time", time)?;
        Ok(DataType::Float64)
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name, item| Arc::new(Field::new(format_state_name(arguments.name, name), list_of(item), true));
        Ok(vec![field("values", DataType::Float64), field("times", DataType::Int64)])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (make, types) = self.make(&arguments)?;
        Ok(Box::new(OneGroup::new(&make, &types)?))
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (make, types) = self.make(&arguments)?;
        Ok(Box::new(Sliding::new(make, types)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(self.make(&arguments)?.0()?)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
