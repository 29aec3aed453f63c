//! What a caller declares of a table.

use std::time::Duration;

use super::{FieldType, names};
use crate::error::{Error, Result};
use crate::options::Options;

/// What happens to rows of equal series and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Dedup {
    /// All rows stay.
    #[default]
    KeepAll,
    /// The last one written wins: it alone is in every answer, in live blocks, segments and after compaction. The table
    /// stores a hybrid logical clock per row, so that it is the same row everywhere. Places whose times overlap are merged
    /// when they are read, which costs a comparison where series do not alternate and several where they do.
    LastWrite,
}

/// A typed column of measurements.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub field_type: FieldType,
    /// Its unit as the caller spelled it; empty for none.
    pub unit: String,
    /// Whether every row must have a value.
    pub required: bool,
}

/// Rules of a table beside its columns. `None` is the store's default, or no such rule.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Policies {
    /// What happens to rows of equal series and time.
    pub dedup: Dedup,
    /// How far behind its writer's newest row a row may be; rows further behind go to quarantine.
    pub lateness: Option<Duration>,
    /// How long rows are kept at least: a partition goes as a whole, when its end is so long ago.
    pub retention: Option<Duration>,
    /// How often each series is expected to send.
    pub cadence: Option<Duration>,
    /// How far ahead of now a row may be, else [`Options::future_max`]; rows beyond go to quarantine.
    pub future_max: Option<Duration>,
    /// Width of a partition; else chosen from the table's rate at its first seal.
    pub partition: Option<Duration>,
    /// Whether it is kept for good when each row arrived, in the column `ingest_time`.
    pub keep_ingest_time: bool,
}

/// A table as declared: [`Store::table`](crate::Store::table) makes it if it is absent and checks it if it is present.
///
/// Names are checked there, not here, so that the builder stays a chain.
///
/// ```
/// use std::time::Duration;
/// use denyut::Schema;
/// let budget = Schema::new("budget")
///     .tag("agency")
///     .decimal("spent", 18, 2, "IDR")
///     .utf8("note", "")
///     .cadence(Duration::from_secs(86_400));
/// assert_eq!(budget.name(), "budget");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a schema does nothing until Store::table takes it"]
pub struct Schema {
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) fields: Vec<Field>,
    pub(crate) policies: Policies,
    pub(crate) unknown_required: Option<String>,
}

macro_rules! field_setters {
    ($($(#[$doc:meta])* $name:ident => $variant:ident,)*) => {$(
        $(#[$doc])*
        pub fn $name(self, name: impl Into<String>, unit: impl Into<String>) -> Self {
            self.field(name, FieldType::$variant, unit)
        }
    )*};
}

macro_rules! policy_setters {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, $name: Duration) -> Self {
            self.policies.$name = Some($name);
            self
        }
    )*};
}

impl Schema {
    /// A table without columns but `time`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tags: Vec::new(),
            fields: Vec::new(),
            policies: Policies::default(),
            unknown_required: None,
        }
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a tag: a string that identifies the series, of few distinct values.
    pub fn tag(mut self, name: impl Into<String>) -> Self {
        self.tags.push(name.into());
        self
    }

    /// Adds a field of any type. It may be null unless [`required`](Self::required). `unit` is free text, or empty.
    pub fn field(mut self, name: impl Into<String>, field_type: FieldType, unit: impl Into<String>) -> Self {
        self.fields.push(Field { name: name.into(), field_type, unit: unit.into(), required: false });
        self
    }

    field_setters! {
        /// Adds an [`F64`](FieldType::F64) field with its unit, or "".
        f64 => F64,
        /// Adds an [`I64`](FieldType::I64) field with its unit, or "".
        i64 => I64,
        /// Adds a [`U64`](FieldType::U64) field with its unit, or "".
        u64 => U64,
        /// Adds a [`Bool`](FieldType::Bool) field with its unit, or "".
        bool => Bool,
        /// Adds a [`Utf8`](FieldType::Utf8) field with its unit, or "".
        utf8 => Utf8,
    }

    /// Adds a [`Decimal`](FieldType::Decimal) field of `precision` digits, `scale` of them after the point.
    pub fn decimal(self, name: impl Into<String>, precision: u8, scale: u8, unit: impl Into<String>) -> Self {
        self.field(name, FieldType::Decimal { precision, scale }, unit)
    }

    /// Says that every row must have a value for the field `name`, declared before.
    pub fn required(mut self, name: &str) -> Self {
        match self.fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.required = true,
            None => self.unknown_required = Some(name.into()),
        }
        self
    }

    /// What happens to rows of equal series and time.
    pub fn dedup(mut self, dedup: Dedup) -> Self {
        self.policies.dedup = dedup;
        self
    }

    /// Keeps for good when each row arrived, for answers as of a moment. The table then has the column `ingest_time` beside
    /// `time` (a timestamp, UTC, never null), after the fields; no tag or field may have that name.
    ///
    /// It is a whole second at whose end the row was there for certain, at most two seconds after it came. So
    /// `WHERE ingest_time <= TIMESTAMP '..'` gives rows that were there at that moment and no others, and gives the same
    /// rows for ever. A row that came a moment ago has the next full second after the query's begin, until the store has
    /// noted its arrival. Rows that were synced keep their second also through a power loss. It follows the wall clock:
    /// while that is set back, rows get seconds again that were there before.
    ///
    /// ```
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let air = city.table(Schema::new("air").tag("station").f64("pm25", "ug/m3").keep_ingest_time())?;
    /// air.writer()?.append(row! { station: "Parit", pm25: 31.5 })?;
    /// # #[cfg(feature = "sql")] {
    /// let rows = city.query("SELECT * FROM air WHERE ingest_time <= TIMESTAMP '2026-01-01'")?;
    /// assert_eq!(rows.num_rows(), 0);
    /// # }
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn keep_ingest_time(mut self) -> Self {
        self.policies.keep_ingest_time = true;
        self
    }

    policy_setters! {
        /// How far behind its writer's newest row a row may be; rows further behind go to quarantine. Each writer looks at
        /// its own rows, so a new writer's first row is never late. A row ahead of its time makes those after it late, so
        /// give such a table a [`future_max`](Self::future_max) too.
        lateness,
        /// How long rows are kept at least: a partition goes as a whole, when its end is so long ago.
        retention,
        /// How often each series is expected to send.
        cadence,
        /// How far ahead of now a row may be; rows beyond go to quarantine.
        future_max,
        /// Width of a partition, at least a minute.
        partition,
    }

    /// Checks names, types and limits.
    pub(crate) fn check(&self, options: &Options) -> Result<()> {
        names::check("table", &self.name)?;
        let place = || format!("table {:?}", self.name);
        let limit = |limit, max: usize, found: usize| {
            if found <= max {
                return Ok(());
            }
            Err(Error::LimitExceeded { limit, max: max as u64, found: found as u64, place: place() })
        };
        limit("tags_max", options.tags_max, self.tags.len())?;
        limit("fields_max", options.fields_max, self.fields.len())?;
        let mut seen = std::collections::HashSet::new();
        for (what, name) in
            self.tags.iter().map(|tag| ("tag", tag)).chain(self.fields.iter().map(|field| ("field", &field.name)))
        {
            names::check(what, name)?;
            if self.policies.keep_ingest_time && name == names::INGEST_TIME {
                let reason = "a table that keeps ingest times has that column already";
                return Err(Error::InvalidName { what, name: name.clone(), reason });
            }
            if !seen.insert(name) {
                return Err(Error::Duplicate { table: self.name.clone(), name: name.clone() });
            }
        }
        for field in &self.fields {
            limit("unit_bytes_max", UNIT_BYTES_MAX, field.unit.len())?;
            if let FieldType::Decimal { precision, scale } = field.field_type
                && (precision == 0 || precision > 38 || scale > precision)
            {
                return Err(Error::TypeConflict {
                    table: self.name.clone(),
                    field: field.name.clone(),
                    expected: "decimal128(p, s) with 1 <= p <= 38 and s <= p".into(),
                    found: field.field_type.to_string(),
                });
            }
        }
        if let Some(name) = &self.unknown_required {
            return Err(Error::UnknownField {
                table: self.name.clone(),
                name: name.clone(),
                known: "no such field".into(),
            });
        }
        match self.policies.partition {
            Some(width) if width < Duration::from_secs(60) => Err(Error::SchemaConflict {
                table: self.name.clone(),
                reason: format!("a partition of {width:?} is narrower than a minute"),
            }),
            _ => Ok(()),
        }
    }
}

/// Longest unit, in bytes.
const UNIT_BYTES_MAX: usize = 63;
