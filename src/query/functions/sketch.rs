//! Percentiles and distinct counts that can be stored, and merged later: the state of a rollup.

mod base64;
mod bytes;
mod stored;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion_functions_aggregate_common::tdigest::TDigest;
use datasketches::hll::{HllSketch, HllType, HllUnion};

use super::Entry;
use super::arguments::{check_count, check_number, nth, wrong};
pub(crate) use stored::rollup_sketch;
pub(in crate::query) use stored::sketch_bytes;

use bytes::{CENTROIDS, Percentiles, REGISTERS_LOG2, Sketch, distinct_bytes, read};

/// Numbers that wait to be merged into a digest.
const WAITING_MAX: usize = 1_024;

pub(super) const REFERENCE: &[Entry] = &[
    Entry {
        name: "percentile_sketch",
        signature: "percentile_sketch(value)",
        summary: "A sketch of numbers, from which sketch_quantile gives percentiles.",
        details: "An aggregate; bytes of at most some 3.3 KB, however many the values. Store them, as in a rollup, merge \
                  them with sketch_merge, ask with sketch_quantile. Null and NaN are left out, infinities are counted \
                  exactly; a group without a number gives null. The answer to a quantile q is a value whose rank is within \
                  2 percent of q of all ranks (within half a percent of many values, merged or not; the most is seen \
                  of a few hundred with many equal ones), and nearer at both ends; 0 and 1 are exact. Errors: a value that is no number. Cost: memory of 12 KB a group at most. \
                  Method: merging t-digest of 200 centroids (Dunning and Ertl, 2019), DataFusion's.",
        example: "SELECT sketch_quantile(percentile_sketch(v), 0.5) AS median FROM (VALUES (1.0), (2.0), (9.0)) AS x(v)\n\
                  -- 2.0",
    },
    Entry {
        name: "distinct_sketch",
        signature: "distinct_sketch(value)",
        summary: "A sketch of values, from which sketch_count tells how many different ones there were.",
        details: "An aggregate; bytes of at most 4.2 KB, fewer for few values. Store them, as in a rollup, merge them with \
                  sketch_merge, ask with sketch_count. Nulls are left out; a group of nothing else gives null. 0.0 is -0.0, \
                  and all NaN are one; integers of all widths count alike, and texts of all types, but 1 and '1' differ. \
                  The count has a standard error of 1.6 percent, and is all but exact up to a few hundred. Errors: a value \
                  that is no number, text, bytes, boolean, date or time. Cost: memory of 4.5 KB a group at most. Method: \
                  HyperLogLog with 4,096 registers, in the format of Apache DataSketches.",
        example: "SELECT sketch_count(distinct_sketch(v)) AS n FROM (VALUES ('a'), ('b'), ('a')) AS x(v)\n-- 2",
    },
    Entry {
        name: "sketch_merge",
        signature: "sketch_merge(sketch)",
        summary: "The sketch of all values of several sketches.",
        details: "An aggregate over what percentile_sketch, distinct_sketch or itself gave, and over what rollups keep of \
                  that, in base64. Nulls are left out; a group of \
                  nothing else gives null. Merging distinct sketches loses nothing; merging percentile sketches keeps their \
                  bound. Errors: bytes that are no sketch, are damaged, or of both kinds in one group. Cost: that of the \
                  sketch.",
        example: "SELECT sketch_count(sketch_merge(s)) AS n FROM (SELECT distinct_sketch(v) AS s FROM (VALUES (1, 'a'), \
                  (1, 'b'), (2, 'a')) AS x(day, v) GROUP BY day) AS days\n-- 2",
    },
    Entry {
        name: "sketch_quantile",
        signature: "sketch_quantile(sketch, q)",
        summary: "The value below which the part q of a percentile sketch's numbers are.",
        details: "q is from 0, the least number, to 1, the greatest; 0.5 is the median. The answer is null if either is. How far it is \
                  off says percentile_sketch. Errors: another q, another kind of sketch, damaged bytes. Cost: reading 3 KB.",
        example: "SELECT sketch_quantile(percentile_sketch(v), 1) AS m FROM (VALUES (1), (5)) AS x(v)\n-- 5.0",
    },
    Entry {
        name: "sketch_count",
        signature: "sketch_count(sketch)",
        summary: "How many different values a distinct sketch saw.",
        details: "The count of null is null. How far it is off says distinct_sketch. Errors: another kind of sketch, damaged bytes. \
                  Cost: reading 4 KB.",
        example: "SELECT sketch_count(distinct_sketch(v)) AS n FROM (VALUES (1), (1), (NULL)) AS x(v)\n-- 1",
    },
];

pub(super) fn udafs() -> Vec<Arc<AggregateUDF>> {
    let function = |name, signature_text, what| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(AggregateUDF::from(SketchFunction { name, signature_text, what, signature }))
    };
    vec![
        function("percentile_sketch", "percentile_sketch(value)", What::Percentile),
        function("distinct_sketch", "distinct_sketch(value)", What::Distinct),
        function("sketch_merge", "sketch_merge(sketch)", What::Merge),
    ]
}

pub(super) fn udfs() -> Vec<Arc<ScalarUDF>> {
    let signature = Signature::variadic_any(Volatility::Immutable);
    vec![
        Arc::new(ScalarUDF::from(Ask { name: "sketch_quantile", signature: signature.clone() })),
        Arc::new(ScalarUDF::from(Ask { name: "sketch_count", signature })),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Percentile,
    Distinct,
    Merge,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchFunction {
    name: &'static str,
    signature_text: &'static str,
    what: What,
    signature: Signature,
}

impl AggregateUDFImpl for SketchFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        check_count(self.signature_text, arguments.len(), 1..=1)?;
        let value = nth(arguments, 0)?;
        match self.what {
            What::Percentile => check_number(self.name, "value", value)?,
            What::Merge => check_sketch(self.name, value)?,
            What::Distinct if canonical(value).is_none() => {
                let remedy = "give a number, text, bytes, boolean, date or time";
                return Err(wrong(self.name, "value", format_args!("is {value}"), remedy));
            }
            What::Distinct => {}
        }
        Ok(DataType::Binary)
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(arguments.name, "sketch"), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Accumulated { what: self.what, name: self.name, held: Held::Nothing }))
    }
}

/// Sketches as bytes, also those that a rollup keeps as text.
fn as_bytes(sketches: &ArrayRef) -> Result<ArrayRef> {
    if !sketches.data_type().is_string() {
        return Ok(cast(sketches, &DataType::BinaryView)?);
    }
    let texts = cast(sketches, &DataType::Utf8View)?;
    let bytes = texts.as_string_view().iter().map(|text| text.map(sketch_bytes).transpose());
    Ok(Arc::new(BinaryViewArray::from_iter(bytes.collect::<Result<Vec<_>>>()?)))
}

fn check_sketch(function: &str, found: &DataType) -> Result<()> {
    match found {
        DataType::Binary
        | DataType::BinaryView
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_)
        | DataType::Null => Ok(()),
        text if text.is_string() => Ok(()),
        _ => {
            let remedy = "give what percentile_sketch, distinct_sketch or sketch_merge made";
            Err(wrong(function, "sketch", format_args!("is {found}"), remedy))
        }
    }
}

/// The type that values are counted in.
fn canonical(value: &DataType) -> Option<DataType> {
    Some(match value {
        DataType::UInt64 => DataType::UInt64,
        DataType::Null | DataType::Boolean => DataType::Int64,
        _ if value.is_integer() => DataType::Int64,
        _ if value.is_floating() => DataType::Float64,
        DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_) => DataType::Int64,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            DataType::Utf8
        }
        _ if value.is_string() => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::BinaryView
        }
        DataType::Dictionary(_, values) => return canonical(values),
        _ => return None,
    })
}

/// What a group has so far.
enum Held {
    Nothing,
    Percentiles { sketch: Percentiles, waiting: Vec<f64> },
    Distinct(Box<HllUnion>),
}

struct Accumulated {
    what: What,
    name: &'static str,
    held: Held,
}

impl std::fmt::Debug for Accumulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accumulated").field("name", &self.name).finish_non_exhaustive()
    }
}

fn no_percentiles() -> Percentiles {
    Percentiles { digest: TDigest::new(CENTROIDS), below: 0, above: 0 }
}

fn union() -> Result<Box<HllUnion>> {
    HllUnion::new(REGISTERS_LOG2).map(Box::new).map_err(|error| DataFusionError::Internal(error.to_string()))
}

/// Hashes to its bytes and nothing else, as the other implementations of the format do.
struct Plain<'a>(&'a [u8]);

impl Hash for Plain<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

impl Accumulated {
    fn add_numbers(&mut self, values: &ArrayRef) -> Result<()> {
        let values = cast(values, &DataType::Float64)?;
        for value in values.as_primitive::<Float64Type>().iter().flatten().filter(|value| !value.is_nan()) {
            if matches!(self.held, Held::Nothing) {
                self.held = Held::Percentiles { sketch: no_percentiles(), waiting: Vec::new() };
            }
            let Held::Percentiles { sketch, waiting } = &mut self.held else {
                return internal_err!("numbers for a distinct sketch");
            };
            if value == f64::INFINITY {
                sketch.above += 1;
            } else if value == f64::NEG_INFINITY {
                sketch.below += 1;
            } else {
                waiting.push(value);
                if waiting.len() >= WAITING_MAX {
                    sketch.digest = sketch.digest.merge_unsorted_f64(std::mem::take(waiting));
                }
            }
        }
        Ok(())
    }

    fn add_values(&mut self, values: &ArrayRef) -> Result<()> {
        let Some(kind) = canonical(values.data_type()) else {
            return internal_err!("{} of {}", self.name, values.data_type());
        };
        if values.logical_null_count() == values.len() {
            return Ok(());
        }
        if matches!(self.held, Held::Nothing) {
            self.held = Held::Distinct(union()?);
        }
        let Held::Distinct(union) = &mut self.held else { return internal_err!("values for a percentile sketch") };
        let values = match values.data_type() {
            DataType::Date32 | DataType::Time32(_) => cast(&cast(values, &DataType::Int32)?, &kind)?,
            _ => cast(values, &kind)?,
        };
        let mut add = |bytes: &[u8]| union.update_value(Plain(bytes));
        match kind {
            DataType::Int64 => {
                values.as_primitive::<Int64Type>().iter().flatten().for_each(|value| add(&value.to_le_bytes()));
            }
            // One that both have is one value.
            DataType::UInt64 => {
                let values = values.as_primitive::<arrow::datatypes::UInt64Type>();
                values.iter().flatten().for_each(|value| add(&value.to_le_bytes()));
            }
            DataType::Float64 => values.as_primitive::<Float64Type>().iter().flatten().for_each(|value| {
                let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
                add(&value.to_bits().to_le_bytes());
            }),
            DataType::Utf8 => values.as_string::<i32>().iter().flatten().for_each(|value| add(value.as_bytes())),
            DataType::Utf8View => values.as_string_view().iter().flatten().for_each(|value| add(value.as_bytes())),
            _ => values.as_binary_view().iter().flatten().for_each(add),
        }
        Ok(())
    }

    fn merge(&mut self, sketches: &ArrayRef) -> Result<()> {
        let sketches = as_bytes(sketches).map_err(|error| of_function(self.name, &error))?;
        sketches.as_binary_view().iter().flatten().try_for_each(|bytes| self.merge_one(bytes))
    }

    fn merge_one(&mut self, bytes: &[u8]) -> Result<()> {
        let sketch = read(bytes).map_err(|error| of_function(self.name, &error))?;
        match (&mut self.held, sketch) {
            (held @ Held::Nothing, Sketch::Percentile(sketch)) => {
                *held = Held::Percentiles { sketch, waiting: Vec::new() };
            }
            (held @ Held::Nothing, Sketch::Distinct(sketch)) => {
                let mut union = union()?;
                union.update(&sketch);
                *held = Held::Distinct(union);
            }
            (Held::Percentiles { sketch: own, .. }, Sketch::Percentile(other)) => {
                own.below = own.below.saturating_add(other.below);
                own.above = own.above.saturating_add(other.above);
                own.digest = merged(&own.digest, &other.digest);
            }
            (Held::Distinct(union), Sketch::Distinct(other)) => union.update(&other),
            _ => {
                let what = "is of percentiles in one row and of distinct values in another";
                return Err(wrong(self.name, "sketch", what, "merge one kind, or GROUP BY what tells them apart"));
            }
        }
        Ok(())
    }

    /// With nothing waiting.
    fn bytes(&mut self) -> Option<Vec<u8>> {
        match &mut self.held {
            Held::Nothing => None,
            Held::Percentiles { sketch, waiting } => {
                if !waiting.is_empty() {
                    sketch.digest = sketch.digest.merge_unsorted_f64(std::mem::take(waiting));
                }
                Some(sketch.to_bytes())
            }
            Held::Distinct(union) => Some(distinct_bytes(&union.to_sketch(HllType::Hll8))),
        }
    }
}

/// Both; one without centroids has no bounds either.
fn merged(a: &TDigest, b: &TDigest) -> TDigest {
    match (a.centroids().is_empty(), b.centroids().is_empty()) {
        (_, true) => a.clone(),
        (true, false) => b.clone(),
        _ => TDigest::merge_digests([a, b]),
    }
}

fn of_function(function: &str, error: &DataFusionError) -> DataFusionError {
    DataFusionError::Execution(format!("{function}: argument `sketch`: {}", error.strip_backtrace()))
}

impl Accumulator for Accumulated {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = nth(values, 0)?;
        match self.what {
            What::Percentile => self.add_numbers(values),
            What::Distinct => self.add_values(values),
            What::Merge => self.merge(values),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(self.bytes()))
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + match &self.held {
                Held::Nothing => 0,
                Held::Percentiles { sketch, waiting } => sketch.digest.size() + waiting.capacity() * size_of::<f64>(),
                Held::Distinct(union) => size_of::<HllUnion>() + union.estimated_size(),
            }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.merge(nth(states, 0)?)
    }
}

/// `sketch_quantile` and `sketch_count`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ask {
    name: &'static str,
    signature: Signature,
}

impl Ask {
    fn is_quantile(&self) -> bool {
        self.name == "sketch_quantile"
    }

    fn quantiles(&self, sketches: &ArrayRef, quantiles: &ArrayRef) -> Result<ArrayRef> {
        let quantiles = cast(quantiles, &DataType::Float64)?;
        let quantiles = quantiles.as_primitive::<Float64Type>();
        let mut answers = Vec::with_capacity(quantiles.len());
        for (bytes, q) in sketches.as_binary_view().iter().zip(quantiles) {
            let Some(q) = q else {
                answers.push(None);
                continue;
            };
            if !(0.0..=1.0).contains(&q) {
                return Err(wrong(
                    self.name,
                    "q",
                    format_args!("is {q}"),
                    "give a part from 0 to 1: 0.95 for 95 percent",
                ));
            }
            let Some(bytes) = bytes else {
                answers.push(None);
                continue;
            };
            match read(bytes).map_err(|error| of_function(self.name, &error))? {
                Sketch::Percentile(sketch) => answers.push(quantile(&sketch, q)),
                Sketch::Distinct(_) => {
                    return Err(wrong(self.name, "sketch", "is of distinct values", "ask it with sketch_count"));
                }
            }
        }
        Ok(Arc::new(Float64Array::from(answers)))
    }

    fn counts(&self, sketches: &ArrayRef) -> Result<ArrayRef> {
        let count = |bytes: &[u8]| match read(bytes).map_err(|error| of_function(self.name, &error))? {
            Sketch::Distinct(sketch) => Ok(count_of(&sketch)),
            Sketch::Percentile(_) => {
                Err(wrong(self.name, "sketch", "is of percentiles", "ask it with sketch_quantile"))
            }
        };
        let counts = sketches.as_binary_view().iter().map(|bytes| bytes.map(count).transpose());
        Ok(Arc::new(counts.collect::<Result<Int64Array>>()?))
    }
}

fn count_of(sketch: &HllSketch) -> i64 {
    sketch.estimate().round() as i64
}

/// The infinities are at the ends, and known exactly.
fn quantile(sketch: &Percentiles, q: f64) -> Option<f64> {
    let (below, finite, above) = (sketch.below as f64, sketch.digest.count(), sketch.above as f64);
    let all = below + finite + above;
    if all <= 0.0 {
        return None;
    }
    let rank = q * all;
    // Without finite numbers, the rank is among the infinities.
    let is_below = rank < below || (below > 0.0 && (q <= 0.0 || finite + above <= 0.0));
    let is_above = rank > below + finite || (above > 0.0 && (q >= 1.0 || finite <= 0.0));
    Some(match (is_below, is_above) {
        (true, _) => f64::NEG_INFINITY,
        (false, true) => f64::INFINITY,
        _ => sketch.digest.estimate_quantile(((rank - below) / finite).clamp(0.0, 1.0)),
    })
}

impl ScalarUDFImpl for Ask {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let quantile = self.is_quantile();
        let signature = if quantile { "sketch_quantile(sketch, q)" } else { "sketch_count(sketch)" };
        let count = if quantile { 2 } else { 1 };
        check_count(signature, arguments.len(), count..=count)?;
        check_sketch(self.name, nth(arguments, 0)?)?;
        if quantile {
            check_number(self.name, "q", nth(arguments, 1)?)?;
        }
        Ok(if quantile { DataType::Float64 } else { DataType::Int64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let sketches =
            as_bytes(&nth(&args.args, 0)?.to_array(rows)?).map_err(|error| of_function(self.name, &error))?;
        let answer = match args.args.get(1) {
            Some(q) => self.quantiles(&sketches, &q.to_array(rows)?)?,
            None => self.counts(&sketches)?,
        };
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?));
        }
        Ok(ColumnarValue::Array(answer))
    }
}
