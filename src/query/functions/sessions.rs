//! `session_start`: rows that follow each other closely, told apart from those after a gap.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};

use super::Entry;
use super::arguments::{check_count, check_time, constant, nth, tick_ns, ticks, timestamps, wrong};
use super::bins::Stride;
use super::wallclock;

const NAME: &str = "session_start";
const SIGNATURE: &str = "session_start(time, gap)";

pub(super) const REFERENCE: &[Entry] = &[Entry {
    name: NAME,
    signature: SIGNATURE,
    summary: "The time at which the session began that a row is in.",
    details: "A window function: write OVER (PARTITION BY tags ORDER BY time). A session ends where more than `gap` passes \
              until the next row; exactly `gap` is still the same. Group an outer query by the tags and the session's \
              begin. `gap` is a constant and positive interval of days or less. A null time is in no session, gives null, \
              and ends none. Rows that are not in the order of time begin sessions of their own. The type is that of \
              `time`. Cost: streams; holds one time.",
    example: "SELECT began, count(*) FROM (SELECT session_start(t, INTERVAL '5 minutes') OVER (ORDER BY t) AS began FROM \
              (VALUES (TIMESTAMP '2026-01-01 00:00:00'), (TIMESTAMP '2026-01-01 00:05:00'), \
              (TIMESTAMP '2026-01-01 00:10:01')) AS x(t)) GROUP BY began ORDER BY began\n\
              -- 2026-01-01T00:00:00,2\n-- 2026-01-01T00:10:01,1",
}];

pub(super) fn udwfs() -> Vec<Arc<WindowUDF>> {
    let signature = Signature::variadic_any(Volatility::Immutable);
    vec![Arc::new(WindowUDF::from(SessionStart { signature }))]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SessionStart {
    signature: Signature,
}

impl WindowUDFImpl for SessionStart {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        check_count(SIGNATURE, arguments.input_fields().len(), 2..=2)?;
        let time = nth(arguments.input_fields(), 0)?.data_type();
        check_time(NAME, "time", time)?;
        Ok(Arc::new(Field::new(arguments.name(), time.clone(), true)))
    }

    fn partition_evaluator(&self, arguments: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let remedy = "give a constant and positive interval of days or less, such as INTERVAL '10 minutes'";
        let is = |what: &str| wrong(NAME, "gap", what, remedy);
        let gap = constant(nth(arguments.input_exprs(), 1)?).ok_or_else(|| is("is not constant"))?;
        let gap_ns = match wallclock::stride(NAME, &gap) {
            Ok(Stride::Nanoseconds(ns)) => ns,
            Ok(Stride::Months(_)) => return Err(is("is of months, whose length varies")),
            Err(_) => return Err(is(&format!("is {gap}"))),
        };
        let time = nth(arguments.input_fields(), 0)?.data_type().clone();
        Ok(Box::new(Sessions { gap_ticks: gap_ns / tick_ns(&time), time, began: None, last: None }))
    }
}

#[derive(Debug)]
struct Sessions {
    gap_ticks: i64,
    time: DataType,
    began: Option<i64>,
    last: Option<i64>,
}

impl Sessions {
    /// The begin of the session of the next row.
    fn next(&mut self, time: Option<i64>) -> Option<i64> {
        let time = time?;
        let goes_on = self
            .last
            .is_some_and(|last| time.checked_sub(last).is_some_and(|passed| (0..=self.gap_ticks).contains(&passed)));
        self.last = Some(time);
        if !goes_on {
            self.began = Some(time);
        }
        self.began
    }
}

impl PartitionEvaluator for Sessions {
    fn evaluate_all(&mut self, values: &[ArrayRef], _: usize) -> Result<ArrayRef> {
        let times = ticks(nth(values, 0)?)?;
        let began = times.iter().map(|time| self.next(time)).collect::<Int64Array>();
        timestamps(&began, &self.time)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let times = ticks(&nth(values, 0)?.slice(range.start, 1))?;
        let began = times.iter().map(|time| self.next(time)).collect::<Int64Array>();
        ScalarValue::try_from_array(&timestamps(&began, &self.time)?, 0)
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }

    fn is_causal(&self) -> bool {
        true
    }
}
