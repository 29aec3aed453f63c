//! `holt_winters`: what comes next in a series with a trend and a season, and between which bounds.

mod model;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::Entry;
use super::arguments::{check_count, check_number, check_time, constant, nth, tick_ns, ticks, timestamps, wrong};
use model::Forecast;

const NAME: &str = "holt_winters";
const SIGNATURE: &str = "holt_winters(value, time, step, season, horizon)";

/// Steps from the first value to the last.
const STEPS_MAX: i64 = 1_000_000;
const SEASON_MAX: i64 = 10_000;
const HORIZON_MAX: i64 = 10_000;
/// Of a normal distribution, 95 percent are within so many standard deviations.
const NORMAL_95: f64 = 1.959_963_984_540_054;

pub(super) const REFERENCE: &[Entry] = &[Entry {
    name: NAME,
    signature: SIGNATURE,
    summary: "Forecasts of a series with trend and season, with bounds of 95 percent.",
    details: "An aggregate; its answer is a list, one item a step: unnest(holt_winters(..)) makes rows of it, with the fields \
              time, value, low and high. Values are averaged over steps, an interval of days and smaller units, which are \
              counted from 1970-01-01 UTC; season is how many steps a season has, 24 for days of hours, 1 for none; horizon \
              is how many steps after the last value are asked for. Null, NaN and infinite values are left out, and rows \
              without a time; a step without a value is gone over along the forecast. With too little history the answer \
              is null: less than two seasons, one of the first two with values in less than half of its steps, or less than four steps \
              with values after the first season. Low and high enclose 95 percent of what comes, if errors are normal and \
              the series goes on as it was. Errors: types, a step, season or horizon that is not constant and positive, a \
              season or horizon over 10,000 steps, a history of over a million steps. Cost: memory of 16 bytes a value; \
              time of about 200 passes over the steps. Method: additive Holt-Winters, ETS(A,A,A), its three rates fitted \
              to the squared errors of one step ahead (Hyndman and Athanasopoulos, Forecasting: Principles and Practice).",
    example: "SELECT f['time'] AS t, round(f['value'], 3) AS v FROM (SELECT unnest(holt_winters(x, t, INTERVAL '1 hour', 2, \
              2)) AS f FROM (SELECT CAST(value % 2 AS DOUBLE) AS x, to_timestamp(value * 3600) AS t FROM \
              generate_series(0, 11))) AS r\n-- 1970-01-01T12:00:00,0.0\n-- 1970-01-01T13:00:00,1.0",
}];

pub(super) fn udafs() -> Vec<Arc<AggregateUDF>> {
    vec![Arc::new(AggregateUDF::from(HoltWinters { signature: Signature::variadic_any(Volatility::Immutable) }))]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HoltWinters {
    signature: Signature,
}

fn fields(time: &DataType) -> Fields {
    let number = |name| Field::new(name, DataType::Float64, false);
    Fields::from(vec![Field::new("time", time.clone(), false), number("value"), number("low"), number("high")])
}

fn item(time: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(fields(time)), true))
}

impl AggregateUDFImpl for HoltWinters {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        check_count(SIGNATURE, types.len(), 5..=5)?;
        check_number(NAME, "value", nth(types, 0)?)?;
        check_time(NAME, "time", nth(types, 1)?)?;
        let step = nth(types, 2)?;
        if !matches!(step, DataType::Interval(_)) {
            return Err(wrong(NAME, "step", format_args!("is {step}"), "give an interval, such as INTERVAL '1 hour'"));
        }
        for (place, argument) in [(3, "season"), (4, "horizon")] {
            let found = nth(types, place)?;
            if !found.is_integer() {
                return Err(wrong(NAME, argument, format_args!("is {found}"), "give a whole number of steps"));
            }
        }
        Ok(DataType::List(item(nth(types, 1)?)))
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |name, kind| {
            let item = Arc::new(Field::new_list_field(kind, true));
            Arc::new(Field::new(format_state_name(arguments.name, name), DataType::List(item), true))
        };
        Ok(vec![list("times", DataType::Int64), list("values", DataType::Float64)])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let time = nth(arguments.expr_fields, 1)?.data_type().clone();
        let expr = |place: usize, argument: &str| {
            let value = constant(nth(arguments.exprs, place)?);
            value.ok_or_else(|| wrong(NAME, argument, "is not constant", "write its value"))
        };
        let number = |place: usize, argument: &str, max: i64| {
            let value = expr(place, argument)?.cast_to(&DataType::Int64)?;
            match value {
                ScalarValue::Int64(Some(number)) if (1..=max).contains(&number) => Ok(number as usize),
                other => {
                    Err(wrong(NAME, argument, format_args!("is {other}"), &format!("give a number from 1 to {max}")))
                }
            }
        };
        let step = expr(2, "step")?;
        let step = step_ticks(&step, tick_ns(&time)).map_err(|what| {
            let remedy = "give a positive interval of days and smaller units, in whole units of the time's type";
            wrong(NAME, "step", format_args!("is {step}, {what}"), remedy)
        })?;
        let (season, horizon) = (number(3, "season", SEASON_MAX)?, number(4, "horizon", HORIZON_MAX)?);
        Ok(Box::new(History { time, step, season, horizon, times: Vec::new(), values: Vec::new() }))
    }
}

/// An interval in ticks, or what is wrong with it.
fn step_ticks(step: &ScalarValue, tick_ns: i64) -> std::result::Result<i64, &'static str> {
    let (months, days, nanos) = match step {
        ScalarValue::IntervalMonthDayNano(Some(value)) => (value.months, value.days, value.nanoseconds),
        ScalarValue::IntervalDayTime(Some(value)) => (0, value.days, i64::from(value.milliseconds) * 1_000_000),
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0, 0),
        _ => return Err("which is null"),
    };
    if months != 0 {
        return Err("which has months, that differ in length");
    }
    let nanos = i128::from(days) * 86_400_000_000_000 + i128::from(nanos);
    if nanos <= 0 {
        return Err("which is not positive");
    }
    if nanos % i128::from(tick_ns) != 0 {
        return Err("which is finer than the time");
    }
    i64::try_from(nanos / i128::from(tick_ns)).map_err(|_| "which is too long")
}

/// All values of a group.
#[derive(Debug)]
struct History {
    time: DataType,
    step: i64,
    season: usize,
    horizon: usize,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl History {
    /// The means of all steps from the first with a value to the last, and the number of the first.
    fn grid(&self) -> Result<Option<(i64, Vec<Option<f64>>)>> {
        let step_of = |time: &i64| time.div_euclid(self.step);
        let Some((first, last)) = self.times.iter().map(step_of).min().zip(self.times.iter().map(step_of).max()) else {
            return Ok(None);
        };
        let steps = i128::from(last) - i128::from(first) + 1;
        if steps > i128::from(STEPS_MAX) {
            let what = format!("makes {steps} steps of the history");
            return Err(wrong(
                NAME,
                "step",
                what,
                &format!("give a longer one, or fewer rows: at most {STEPS_MAX} steps"),
            ));
        }
        let mut sums = vec![(0.0, 0_u32); steps as usize];
        for (time, value) in self.times.iter().zip(&self.values) {
            if let Some((sum, count)) = sums.get_mut((step_of(time) - first) as usize) {
                *sum += value;
                *count += 1;
            }
        }
        let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
        Ok(Some((first, sums.into_iter().map(mean).collect())))
    }

    fn list(&self, first: i64, steps: usize, forecasts: &[Forecast]) -> Result<ScalarValue> {
        let time = |ahead: usize| {
            let step = i128::from(first) + steps as i128 + ahead as i128;
            i64::try_from(step * i128::from(self.step)).ok()
        };
        let times: Option<Vec<i64>> = (0..forecasts.len()).map(time).collect();
        let Some(times) = times else {
            return Err(wrong(NAME, "horizon", "ends at a time that its type cannot hold", "give a smaller one"));
        };
        let column = |cell: fn(&Forecast) -> f64| {
            Arc::new(Float64Array::from_iter_values(forecasts.iter().map(cell))) as ArrayRef
        };
        let columns = vec![
            timestamps(&Int64Array::from(times), &self.time)?,
            column(|forecast| forecast.value),
            column(|forecast| forecast.value - NORMAL_95 * forecast.deviation),
            column(|forecast| forecast.value + NORMAL_95 * forecast.deviation),
        ];
        let rows = StructArray::try_new(fields(&self.time), columns, None)?;
        let offsets = OffsetBuffer::from_lengths([rows.len()]);
        Ok(ScalarValue::List(Arc::new(ListArray::try_new(item(&self.time), offsets, Arc::new(rows), None)?)))
    }

    fn push(&mut self, times: &Int64Array, values: &Float64Array) {
        for (time, value) in times.iter().zip(values) {
            if let (Some(time), Some(value)) = (time, value.filter(|value| value.is_finite())) {
                self.times.push(time);
                self.values.push(value);
            }
        }
    }
}

impl Accumulator for History {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let values = cast(nth(columns, 0)?, &DataType::Float64)?;
        self.push(&ticks(nth(columns, 1)?)?, values.as_primitive::<Float64Type>());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if let Some((first, grid)) = self.grid()?
            && let Some(forecasts) = model::forecast(&grid, self.season, self.horizon)
        {
            return self.list(first, grid.len(), &forecasts);
        }
        ScalarValue::try_new_null(&DataType::List(item(&self.time)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.times.capacity() + self.values.capacity()) * size_of::<i64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |values: ArrayRef| -> Result<ScalarValue> {
            let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
            let list = ListArray::try_new(item, OffsetBuffer::from_lengths([values.len()]), values, None)?;
            Ok(ScalarValue::List(Arc::new(list)))
        };
        Ok(vec![
            list(Arc::new(Int64Array::from(self.times.clone())))?,
            list(Arc::new(Float64Array::from(self.values.clone())))?,
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (times, values) = (nth(states, 0)?.as_list::<i32>(), nth(states, 1)?.as_list::<i32>());
        for (times, values) in times.iter().zip(values.iter()) {
            match (times, values) {
                (Some(times), Some(values)) if times.len() == values.len() => {
                    self.push(times.as_primitive::<Int64Type>(), values.as_primitive::<Float64Type>());
                }
                (None, None) => {}
                _ => return internal_err!("{NAME}: times and values are not as many"),
            }
        }
        Ok(())
    }
}
