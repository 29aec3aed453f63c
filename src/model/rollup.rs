//! What a caller declares of a rollup, and what the store makes of it.
//!
//! **Invariant:** the columns of a rollup's table follow from its [`Definition`] alone, in one order: what was rolled up
//! by one life of the store is merged by the next.

use std::time::Duration;

use super::time::nanos_of;
use super::{Dedup, FieldType, Schema, TableId, TableSchema};
use crate::error::{Error, Result};

const DAY: Duration = Duration::from_secs(86_400);
/// The shortest and the longest bucket.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=DAY.saturating_mul(366);
/// Widths of partitions, and buckets of a series that one should have at least.
const WIDTHS: [Duration; 4] = [DAY, DAY.saturating_mul(7), DAY.saturating_mul(28), DAY.saturating_mul(364)];
const BUCKETS_MIN: u32 = 168;

/// What is kept of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    Count,
    Sum,
    Min,
    Max,
    First,
    Last,
    Percentiles,
    Distinct,
}

/// What a column of a rollup's table says of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Rows in it.
    Rows,
    /// Rows with a value.
    Count,
    Sum,
    Min,
    Max,
    First,
    /// Unix nanoseconds.
    FirstTime,
    Last,
    LastTime,
    /// A sketch in base64.
    Percentiles,
    Distinct,
}

impl Measure {
    const ALL: [Self; 8] =
        [Self::Count, Self::Sum, Self::Min, Self::Max, Self::First, Self::Last, Self::Percentiles, Self::Distinct];

    /// Its byte on disk.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Count => 1,
            Self::Sum => 2,
            Self::Min => 3,
            Self::Max => 4,
            Self::First => 5,
            Self::Last => 6,
            Self::Percentiles => 7,
            Self::Distinct => 8,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.code() == code)
    }

    /// Its name in `system.rollups`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::Percentiles => "percentiles",
            Self::Distinct => "distinct",
        }
    }

    /// Whether it is a sketch.
    pub(crate) fn is_sketch(self) -> bool {
        matches!(self, Self::Percentiles | Self::Distinct)
    }

    fn parts(self) -> &'static [Part] {
        match self {
            Self::Count => &[],
            Self::Sum => &[Part::Sum],
            Self::Min => &[Part::Min],
            Self::Max => &[Part::Max],
            Self::First => &[Part::First, Part::FirstTime],
            Self::Last => &[Part::Last, Part::LastTime],
            Self::Percentiles => &[Part::Percentiles],
            Self::Distinct => &[Part::Distinct],
        }
    }

    fn is_of(self, field: FieldType) -> bool {
        let is_number = matches!(field, FieldType::F64 | FieldType::I64 | FieldType::U64);
        match self {
            Self::Count | Self::Distinct => true,
            Self::Sum | Self::Min | Self::Max | Self::Percentiles => is_number,
            Self::First | Self::Last => is_number || field == FieldType::Bool,
        }
    }
}

impl Part {
    fn suffix(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::FirstTime => "first_time",
            Self::Last => "last",
            Self::LastTime => "last_time",
            Self::Percentiles => "percentiles",
            Self::Distinct => "distinct",
        }
    }

    fn column(self, of: FieldType) -> FieldType {
        match self {
            Self::Rows | Self::Count => FieldType::U64,
            Self::FirstTime | Self::LastTime => FieldType::I64,
            Self::Percentiles | Self::Distinct => FieldType::Utf8,
            Self::Sum | Self::Min | Self::Max | Self::First | Self::Last => of,
        }
    }
}

/// A rollup as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) source: TableId,
    pub(crate) every_ns: i64,
    /// Fields of the source, by number, with what is kept of each.
    pub(crate) measures: Vec<(u32, Measure)>,
}

impl Definition {
    /// What the fields of the rollup's table are, in their order: each with the field of the source that it is of.
    pub(crate) fn parts(&self) -> Vec<(Part, Option<usize>)> {
        let mut parts = vec![(Part::Rows, None)];
        for field in self.fields() {
            parts.push((Part::Count, Some(field)));
            let of_field = self.measures.iter().filter(|(of, _)| *of as usize == field);
            let of_field = of_field.flat_map(|(_, measure)| measure.parts());
            parts.extend(of_field.map(|part| (*part, Some(field))));
        }
        parts
    }

    /// The fields that are rolled up, each once.
    pub(crate) fn fields(&self) -> Vec<usize> {
        let mut fields: Vec<usize> = Vec::new();
        for (field, _) in &self.measures {
            if !fields.contains(&(*field as usize)) {
                fields.push(*field as usize);
            }
        }
        fields
    }

    /// The bucket that a time is in.
    pub(crate) fn bucket(&self, time: i64) -> i64 {
        time.div_euclid(self.every_ns)
    }

    /// When a bucket begins; the ends of time are within their buckets.
    pub(crate) fn begin(&self, bucket: i64) -> i64 {
        bucket.saturating_mul(self.every_ns)
    }

    /// The last moment of a bucket.
    pub(crate) fn end(&self, bucket: i64) -> i64 {
        let end = i128::from(bucket) * i128::from(self.every_ns) + i128::from(self.every_ns) - 1;
        i64::try_from(end).unwrap_or(i64::MAX)
    }
}

/// A rollup as declared: [`Store::rollup`](crate::Store::rollup) makes it.
///
/// It keeps what rows of each series did in each span of time, *bucket*, of the table it is [`of`](Self::of): how many
/// there were, and of the fields that it names what it is asked for. Buckets are multiples of [`every`](Self::every) since
/// 1970 in UTC. Queries need not name it.
///
/// ```
/// use std::time::Duration;
/// use denyut::Rollup;
/// let hours = Rollup::new("cpu_1h")
///     .of("cpu")
///     .every(Duration::from_secs(3_600))
///     .mean("usage")
///     .max("usage")
///     .percentiles("usage")
///     .retention(Duration::from_secs(2 * 366 * 86_400));
/// # drop(hours);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a rollup does nothing until Store::rollup takes it"]
pub struct Rollup {
    name: String,
    of: String,
    every: Duration,
    measures: Vec<(String, Measure)>,
    retention: Option<Duration>,
}

macro_rules! measures {
    ($($(#[$doc:meta])* $name:ident: $($measure:ident),*;)*) => {$(
        $(#[$doc])*
        pub fn $name(self, field: &str) -> Self {
            self$(.measure(field, Measure::$measure))*
        }
    )*};
}

impl Rollup {
    /// A rollup of no table yet, with buckets of an hour.
    pub fn new(name: impl Into<String>) -> Self {
        let (of, every) = (String::new(), Duration::from_secs(3_600));
        Self { name: name.into(), of, every, measures: Vec::new(), retention: None }
    }

    /// Its name, which is that of its table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The table whose rows it rolls up.
    pub fn of(mut self, table: impl Into<String>) -> Self {
        self.of = table.into();
        self
    }

    /// How long a bucket is: a second to 366 days. Default an hour.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// How long its buckets are kept, from the end of the partition that they are in. Default for ever.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    measures! {
        /// Keeps how many rows have a value of `field`. Every measure keeps this too.
        count: Count;
        /// Keeps the sum of `field`, a number.
        sum: Sum;
        /// Keeps sum and count of `field`, so the mean.
        mean: Sum;
        /// Keeps the least value of `field`, a number; of floats in their total order, -0 below 0 and NaN at the ends.
        min: Min;
        /// Keeps the greatest value of `field`, as [`min`](Self::min) does the least.
        max: Max;
        /// Keeps the first value of `field`, a number or a bool, and its time.
        first: First;
        /// Keeps the last value of `field`, a number or a bool, and its time.
        last: Last;
        /// Keeps a sketch of `field`, a number, as SQL's `percentile_sketch` makes it. Needs the feature `sql`.
        percentiles: Percentiles;
        /// Keeps a sketch of `field`, as SQL's `distinct_sketch` makes it. Needs the feature `sql`.
        distinct: Distinct;
    }

    fn measure(mut self, field: &str, measure: Measure) -> Self {
        self.measures.push((field.into(), measure));
        self
    }

    /// The error that says what is wrong with it.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::InvalidRollup { rollup: self.name.chars().take(80).collect(), reason: reason.into() }
    }

    /// The table that it is of.
    pub(crate) fn source(&self) -> &str {
        &self.of
    }

    /// Whether it keeps sketches.
    pub(crate) fn has_sketches(&self) -> bool {
        self.measures.iter().any(|(_, measure)| measure.is_sketch())
    }

    /// What it is over `source`, and the table that holds it.
    pub(crate) fn resolve(&self, source: &TableSchema) -> Result<(Definition, Schema)> {
        if !EVERY.contains(&self.every) {
            return Err(self.invalid(format!("buckets of {:?}; give a second to 366 days", self.every)));
        }
        let mut measures: Vec<(u32, Measure)> = Vec::new();
        for (name, measure) in &self.measures {
            let found = (0..).zip(&source.fields).find(|(_, field)| field.name == *name);
            let (number, field) = found.ok_or_else(|| source.unknown(name))?;
            if !measure.is_of(field.field_type) {
                let kind = field.field_type;
                return Err(self.invalid(format!("no {} of the field {name:?}, which is {kind}", measure.name())));
            }
            if !measures.contains(&(number, *measure)) {
                measures.push((number, *measure));
            }
        }
        // One order, whatever that of the calls.
        measures.sort_unstable();
        let definition = Definition { source: source.id, every_ns: nanos_of(self.every), measures };
        let schema = self.schema(source, &definition);
        Ok((definition, schema))
    }

    fn schema(&self, source: &TableSchema, definition: &Definition) -> Schema {
        let mut schema = Schema::new(&self.name);
        schema.tags.clone_from(&source.tags);
        for (part, field) in definition.parts() {
            let Some(field) = field.and_then(|field| source.fields.get(field)) else {
                schema = schema.u64(part.suffix(), "").required(part.suffix());
                continue;
            };
            let name = format!("{}_{}", field.name, part.suffix());
            let unit = match part {
                Part::FirstTime | Part::LastTime => "ns",
                Part::Sum | Part::Min | Part::Max | Part::First | Part::Last => &field.unit,
                _ => "",
            };
            schema = schema.field(&name, part.column(field.field_type), unit);
            if part == Part::Count {
                schema = schema.required(&name);
            }
        }
        let enough = self.every.saturating_mul(BUCKETS_MIN);
        let [.., widest] = WIDTHS;
        schema.policies.dedup = Dedup::LastWrite;
        schema.policies.retention = self.retention;
        schema.policies.partition = Some(WIDTHS.into_iter().find(|width| *width >= enough).unwrap_or(widest));
        schema
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn source() -> TableSchema {
        let schema = Schema::new("cpu").tag("host").f64("usage", "%").utf8("note", "").bool("up", "");
        TableSchema::declared(3, &schema)
    }

    #[test]
    fn columns_follow_from_the_definition() {
        let rollup =
            Rollup::new("cpu_1h").of("cpu").last("up").max("usage").mean("usage").distinct("note").sum("usage");
        let (definition, schema) = rollup.resolve(&source()).unwrap();
        assert_eq!((definition.source, definition.every_ns), (3, 3_600_000_000_000));
        let names: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(
            names.join(" "),
            "rows usage_count usage_sum usage_max note_count note_distinct up_count up_last up_last_time"
        );
        assert_eq!(definition.parts().len(), names.len());
        assert_eq!(schema.tags, ["host"]);
        assert_eq!(schema.fields[2].unit, "%");
        assert_eq!(schema.policies.partition, Some(DAY * 7));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let rollup = || Rollup::new("cpu_1h").of("cpu");
        for wrong in [rollup().sum("note"), rollup().max("up"), rollup().every(Duration::ZERO)] {
            assert!(matches!(wrong.resolve(&source()), Err(Error::InvalidRollup { .. })));
        }
        assert!(matches!(rollup().sum("load").resolve(&source()), Err(Error::UnknownField { .. })));
    }

    #[test]
    fn buckets_reach_the_ends_of_time() {
        let (definition, _) = Rollup::new("cpu_1h").of("cpu").resolve(&source()).unwrap();
        for time in [i64::MIN, -1, 0, i64::MAX] {
            let bucket = definition.bucket(time);
            assert!(definition.begin(bucket) <= time && time <= definition.end(bucket), "{time}");
        }
        assert_eq!((definition.bucket(-1), definition.end(-1)), (-1, -1));
    }

    #[test]
    fn codes_are_read_back() {
        assert!(Measure::ALL.into_iter().all(|measure| Measure::from_code(measure.code()) == Some(measure)));
        assert_eq!(Measure::from_code(0), None);
    }
}
