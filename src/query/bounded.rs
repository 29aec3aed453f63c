//! The engine's functions whose answers may be far larger than their arguments, with a limit on what one call makes.
//!
//! No pool counts what a function makes of one batch: `repeat('x', 1000000000)` would be a gigabyte that nobody sees, and of
//! each row of a batch. So it is reckoned before the call, from the arguments, and refused where it is too much.
//!
//! **Invariant:** what is reckoned is at least what the function allocates for its answer.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// What part of `query_bytes_max` one call may make.
const PART: usize = 16;
/// Bytes of a list's element at least.
const ELEMENT_BYTES: u128 = 16;

/// Reckons the bytes that one row's answer takes from its arguments.
type Reckon = fn(&[ArrayRef], usize) -> u128;

const FUNCTIONS: [(&str, Reckon); 7] = [
    ("repeat", repeated),
    ("lpad", padded),
    ("rpad", padded),
    ("array_repeat", repeated),
    ("array_resize", listed),
    ("range", ranged),
    ("generate_series", ranged),
];

/// `state` with these functions bounded by a part of `query_bytes_max`.
pub(super) fn bound(mut state: SessionState, query_bytes_max: usize) -> Result<SessionState> {
    for (name, reckon) in FUNCTIONS {
        // A build of the engine may lack some.
        let Ok(inner) = state.udf(name) else { continue };
        let bytes_max = query_bytes_max / PART;
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded {
            inner,
            reckon: Reckoned(reckon),
            bytes_max,
        })))?;
    }
    Ok(state)
}

/// A function pointer, which is told from others by the function that it belongs to.
#[derive(Clone, Copy)]
struct Reckoned(Reckon);

impl std::fmt::Debug for Reckoned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reckoned")
    }
}

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    reckon: Reckoned,
    bytes_max: usize,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        (&self.inner, self.bytes_max) == (&other.inner, other.bytes_max)
    }
}

impl Eq for Bounded {}

impl std::hash::Hash for Bounded {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.inner, self.bytes_max).hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<arrow::datatypes::FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalars = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if all_scalars { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let bytes = (0..rows).fold(0_u128, |sum, row| sum.saturating_add((self.reckon.0)(&arrays, row)));
        if bytes > self.bytes_max as u128 {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} would make {bytes} bytes of one batch; a call makes at most {}, which is query_bytes_max / {PART}",
                self.name(),
                self.bytes_max
            )));
        }
        self.inner.invoke_with_args(args)
    }
}

/// Argument `at` of a row as a whole number, however it is written.
fn whole(arrays: &[ArrayRef], at: usize, row: usize) -> Option<i64> {
    let value = arrays.get(at)?.slice(row, 1);
    let value = cast(&value, &DataType::Int64).ok()?;
    let value = value.as_primitive_opt::<Int64Type>()?;
    value.is_valid(0).then(|| value.value(0))
}

fn count(arrays: &[ArrayRef], row: usize) -> u128 {
    whole(arrays, 1, row).map_or(0, |count| u128::try_from(count).unwrap_or(0))
}

/// Bytes of one row of an array.
fn width(array: &ArrayRef, row: usize) -> u128 {
    if !array.is_valid(row) {
        return 0;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len() as u128,
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len() as u128,
        DataType::Utf8View => array.as_string_view().value(row).len() as u128,
        other => match other.primitive_width() {
            Some(width) => width as u128,
            // A slice of a list still counts all of its children, which is more than enough.
            None => array.slice(row, 1).get_array_memory_size() as u128,
        },
    }
}

/// So many times the first argument.
fn repeated(arrays: &[ArrayRef], row: usize) -> u128 {
    arrays.first().map_or(0, |array| width(array, row)).saturating_mul(count(arrays, row))
}

/// So many characters, of up to four bytes.
fn padded(arrays: &[ArrayRef], row: usize) -> u128 {
    count(arrays, row).saturating_mul(4)
}

/// So many elements.
fn listed(arrays: &[ArrayRef], row: usize) -> u128 {
    count(arrays, row).saturating_mul(ELEMENT_BYTES)
}

/// The numbers or times from one to another.
fn ranged(arrays: &[ArrayRef], row: usize) -> u128 {
    let ns = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let place = |at: usize| {
        let array = arrays.get(at)?.slice(row, 1);
        let array = match array.data_type() {
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => cast(&array, &ns).ok()?,
            _ => array,
        };
        whole(&[array], 0, 0)
    };
    let step = || {
        let array = arrays.get(2)?.slice(row, 1);
        if !matches!(array.data_type(), DataType::Interval(_)) {
            return whole(&[array], 0, 0).map(i128::from);
        }
        let array = cast(&array, &DataType::Interval(IntervalUnit::MonthDayNano)).ok()?;
        let step = array.as_primitive_opt::<IntervalMonthDayNanoType>().filter(|step| step.is_valid(0))?.value(0);
        // The shortest months and days there are.
        Some(
            (i128::from(step.months) * 28 * 24 + i128::from(step.days) * 23) * 3_600_000_000_000
                + i128::from(step.nanoseconds),
        )
    };
    let (first, last) = match place(1) {
        Some(last) => (place(0).unwrap_or(0), last),
        None => (0, place(0).unwrap_or(0)),
    };
    let step = step().unwrap_or(1).unsigned_abs().max(1);
    let elements = u128::from(first.abs_diff(last)) / step + 1;
    elements.saturating_mul(ELEMENT_BYTES)
}
