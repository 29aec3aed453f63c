//! Gap filling: a row for every bin of a time range, also for those without data.
//!
//! `date_bin_gapfill` in GROUP BY makes it so, and `locf` and `interpolate` around an aggregate say what stands in the
//! rows that are new. None of them computes anything: [`rule`] replaces them by a [`node`] above the aggregate, whose
//! range [`bounds`] finds in WHERE; [`exec`] plans it, [`arrange`] brings the rows of a group together where the input
//! does not, and [`stream`] makes the rows of [`grid`], filled by [`fill`].
//!
//! **Invariant:** rows of the input come out once each, group by group in order of time, and none but the filled columns
//! differ.

mod arrange;
mod bounds;
mod exec;
mod fill;
mod grid;
mod node;
mod rule;
mod stream;
mod work;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(super) use self::exec::GapFillPlanner;
pub(super) use self::node::GapFill;
pub(super) use self::rule::GapFillRule;
use super::Entry;
use super::arguments::{check_count, check_time, nth, wrong};
use super::wallclock;

const BIN: &str = "date_bin_gapfill";
const BIN_WALLCLOCK: &str = "date_bin_wallclock_gapfill";
const LOCF: &str = "locf";
const INTERPOLATE: &str = "interpolate";

pub(super) const REFERENCE: &[Entry] = &[
    Entry {
        name: BIN,
        signature: "date_bin_gapfill(interval, time [, origin])",
        summary: "As date_bin, and every bin of the time range of WHERE has a row.",
        details: "Stands in GROUP BY, once. For every combination of the other group keys that has any row, each bin \
                  between the bounds of WHERE gets one; its aggregates are null (count 0), unless locf or interpolate \
                  fill them. WHERE has to bound the time from below and above by constants, joined by AND: \
                  `time >= now() - INTERVAL '1 day' AND time < now()`. HAVING looks at filled rows too. No rows in, no \
                  rows out. Rows whose group key is null are a group. The spelling is InfluxDB 3's. Errors: a missing \
                  bound; an interval that is zero, negative, null or not constant; any other place than GROUP BY. \
                  Cost: memory of a batch, if the aggregate gives the rows of a group together and in order of time; \
                  else that of its rows, which are sorted on disk where memory is short. They then come by group and \
                  time, so that `ORDER BY key, bin` sorts nothing more.",
        example: "SELECT date_bin_gapfill(INTERVAL '1 minute', t) AS minute, count(v), max(v) \
                  FROM (VALUES (TIMESTAMP '2026-01-01 00:00:10', 3), (TIMESTAMP '2026-01-01 00:02:10', 5)) AS x(t, v) \
                  WHERE t >= TIMESTAMP '2026-01-01 00:00:00' AND t < TIMESTAMP '2026-01-01 00:03:00' \
                  GROUP BY minute ORDER BY minute\n-- 2026-01-01T00:00:00,1,3\n-- 2026-01-01T00:01:00,0,\n\
                  -- 2026-01-01T00:02:00,1,5",
    },
    Entry {
        name: BIN_WALLCLOCK,
        signature: "date_bin_wallclock_gapfill(interval, time [, origin])",
        summary: "As date_bin_wallclock, and every bin of the time range of WHERE has a row.",
        details: "See date_bin_wallclock for the bins, and date_bin_gapfill for the rows. The bounds may be on the time \
                  itself while the bins are of `time AT TIME ZONE 'Asia/Pontianak'`. Where the clock jumps over a whole \
                  bin there is none. A null time has no bin. Errors: those of both.",
        example: "SELECT date_bin_wallclock_gapfill(INTERVAL '1 day', t AT TIME ZONE 'Asia/Pontianak') AS day, max(v) \
                  FROM (VALUES (arrow_cast('2026-01-01T20:00:00Z', 'Timestamp(Nanosecond, Some(\"UTC\"))'), 3)) AS x(t, v) \
                  WHERE t >= '2025-12-31T17:00:00Z' AND t < '2026-01-02T17:00:00Z' \
                  GROUP BY day ORDER BY day\n-- 2026-01-01T00:00:00+07:00,\n-- 2026-01-02T00:00:00+07:00,3",
    },
    Entry {
        name: LOCF,
        signature: "locf(aggregate [, max_gap])",
        summary: "In gap-filled rows, the last value that was observed.",
        details: "Around an aggregate, or an expression of aggregates, in a query that groups by date_bin_gapfill or \
                  date_bin_wallclock_gapfill. Null takes the last value before it in its group that is not null, at \
                  most `max_gap` older, from bin to bin; before the first value it stays null, and so does a group \
                  without any. `max_gap` is a constant interval; without it any age will do. To seed the first bins \
                  with values from before the range, begin the range of WHERE earlier and leave the early bins out by \
                  HAVING: `WHERE time >= from - INTERVAL '1 day' .. HAVING minute >= from`. Any type. Errors: outside of a gap-filled query; a max_gap that is not positive.",
        example: "SELECT date_bin_gapfill(INTERVAL '1 minute', t) AS minute, locf(max(v), INTERVAL '1 minute') \
                  FROM (VALUES (TIMESTAMP '2026-01-01 00:00:10', 3), (TIMESTAMP '2026-01-01 00:03:10', 5)) AS x(t, v) \
                  WHERE t >= TIMESTAMP '2026-01-01 00:00:00' AND t < TIMESTAMP '2026-01-01 00:04:00' \
                  GROUP BY minute ORDER BY minute\n-- 2026-01-01T00:00:00,3\n-- 2026-01-01T00:01:00,3\n\
                  -- 2026-01-01T00:02:00,\n-- 2026-01-01T00:03:00,5",
    },
    Entry {
        name: INTERPOLATE,
        signature: "interpolate(aggregate [, max_gap])",
        summary: "In gap-filled rows, the value on the straight line between the observations around.",
        details: "As locf, for numbers. Null takes the value on the line through the nearest values of its group before \
                  and after that are not null, by the begins of their bins, if those are at most `max_gap` apart; before \
                  the first value and after the last it stays null. Integers and decimals are rounded to the nearest, \
                  halves away from zero. Rows that wait for the next value are held, and counted by the memory pool. \
                  Errors: as locf, and values that are not numbers.",
        example: "SELECT date_bin_gapfill(INTERVAL '1 minute', t) AS minute, interpolate(avg(v)) \
                  FROM (VALUES (TIMESTAMP '2026-01-01 00:00:10', 3), (TIMESTAMP '2026-01-01 00:02:10', 4)) AS x(t, v) \
                  WHERE t >= TIMESTAMP '2026-01-01 00:00:00' AND t < TIMESTAMP '2026-01-01 00:04:00' \
                  GROUP BY minute ORDER BY minute\n-- 2026-01-01T00:00:00,3.0\n-- 2026-01-01T00:01:00,3.5\n\
                  -- 2026-01-01T00:02:00,4.0\n-- 2026-01-01T00:03:00,",
    },
];

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    // The same coercion as the function that takes its place.
    let date_bin = datafusion::functions::datetime::date_bin().signature().clone();
    let any = || Signature::variadic_any(Volatility::Immutable);
    let bins = [(BIN, date_bin), (BIN_WALLCLOCK, any())];
    let fills = [LOCF, INTERPOLATE];
    let bins = bins.map(|(name, signature)| Arc::new(ScalarUDF::from(BinMark { name, signature })));
    bins.into_iter().chain(fills.map(|name| Arc::new(ScalarUDF::from(FillMark { name, signature: any() })))).collect()
}

/// The error of a function that was left where the rule does not look.
fn misplaced(name: &str) -> DataFusionError {
    let (place, remedy) = match name {
        LOCF | INTERPOLATE => {
            ("works only on rows of a gap-filled query", "group by date_bin_gapfill(interval, time), or leave it out")
        }
        _ => (
            "works only as an expression of GROUP BY",
            "select and group by it in the same SELECT, as such and not inside of another expression, or use date_bin",
        ),
    };
    DataFusionError::Plan(format!("{name}: {place}; {remedy}"))
}

/// Marks the bins that are to be all there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BinMark {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for BinMark {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        check_count(&format!("{}(interval, time [, origin])", self.name), arguments.len(), 2..=3)?;
        let time = nth(arguments, 1)?;
        check_time(self.name, "time", time)?;
        wallclock::zone(self.name, time)?;
        Ok(time.clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let answer = self.return_type(&types)?;
        if let Some(Some(interval)) = arguments.scalar_arguments.first() {
            wallclock::stride(self.name, interval)?;
        }
        Ok(Arc::new(Field::new(self.name, answer, nth(arguments.arg_fields, 1)?.is_nullable())))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(misplaced(self.name))
    }
}

/// Marks an aggregate whose gaps are to be filled.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FillMark {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for FillMark {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        check_count(&format!("{}(aggregate [, max_gap])", self.name), arguments.len(), 1..=2)?;
        let value = nth(arguments, 0)?;
        if self.name == INTERPOLATE && !fill::can_interpolate(value) {
            let remedy = "give a number, such as CAST(x AS DOUBLE), or use locf";
            return Err(wrong(self.name, "aggregate", format_args!("is {value}"), remedy));
        }
        Ok(value.clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(misplaced(self.name))
    }
}
