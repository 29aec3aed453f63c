//! What an agency promises of a table: the contract of a feed.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::{FieldType, Schema, names};
use crate::options::Options;

/// Most columns of a feed that are keys of a dimension: each is a join of the scorecard.
const KEYS_MAX: usize = 16;
/// Most ranges of a feed.
const RANGES_MAX: usize = 256;

/// How rows of a feed get here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Arrival {
    /// Somebody carries them: a file that is uploaded, a form that is filled in.
    #[default]
    ByHand,
    /// A system sends them, and nobody has to remember.
    ByItself,
}

/// Who may see the rows of a feed, as the agency says it. It is part of the contract and listed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Audience {
    /// The agency alone.
    #[default]
    Agency,
    /// The agency and these others.
    Agencies(Vec<String>),
    /// Everybody.
    Public,
}

/// The values that a field may have, both ends included; `None` is no bound. NaN is in no range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) field: String,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

/// A column whose values are keys of a dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) column: String,
    pub(crate) dimension: String,
}

/// An agency's contract for a table: what it sends, how often, how well, and who answers for it.
///
/// [`Store::declare_feed`](crate::Store::declare_feed) makes the table and keeps the contract, version by version;
/// [`Feed::from_toml`] reads contracts from a file. The schema's `cadence` is how often each series sends, and its `lateness`
/// how much later than that a feed still counts as in cadence.
///
/// ```
/// use std::time::Duration;
/// use denyut::prelude::*;
/// use denyut::feed::{Arrival, Feed};
///
/// let schema = Schema::new("water").tag("gate").f64("level_cm", "cm")
///     .cadence(Duration::from_secs(600)).lateness(Duration::from_secs(600));
/// let feed = Feed::new("water_level", "PUPR", schema)
///     .owner("Bidang Sumber Daya Air")
///     .arrives(Arrival::ByItself)
///     .range("level_cm", -100.0, 1_000.0)
///     .key("gate", "asset")
///     .baseline("level_cm");
/// assert_eq!(feed.name(), "water_level");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a contract does nothing until Store::declare_feed takes it"]
pub struct Feed {
    pub(crate) name: String,
    pub(crate) agency: String,
    pub(crate) owner: String,
    pub(crate) schema: Schema,
    pub(crate) arrives: Arrival,
    pub(crate) audience: Audience,
    pub(crate) series_expected: Option<u64>,
    pub(crate) rows: Vec<(String, String)>,
    pub(crate) ranges: Vec<Range>,
    pub(crate) keys: Vec<Key>,
    pub(crate) baseline: Option<String>,
}

impl Feed {
    /// The contract `name` of `agency` for the table that `schema` declares, which needs a
    /// [`cadence`](Schema::cadence). It arrives by hand and is for the agency alone, until said otherwise.
    pub fn new(name: impl Into<String>, agency: impl Into<String>, schema: Schema) -> Self {
        Self {
            name: name.into(),
            agency: agency.into(),
            owner: String::new(),
            schema,
            arrives: Arrival::default(),
            audience: Audience::default(),
            series_expected: None,
            rows: Vec::new(),
            ranges: Vec::new(),
            keys: Vec::new(),
            baseline: None,
        }
    }

    /// The feed's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The agency.
    pub fn agency(&self) -> &str {
        &self.agency
    }

    /// The table, with its columns and policies.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Who answers for it: a person, or a desk.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// How its rows get here.
    pub fn arrives(mut self, arrives: Arrival) -> Self {
        self.arrives = arrives;
        self
    }

    /// Who may see its rows.
    pub fn audience(mut self, audience: Audience) -> Self {
        self.audience = audience;
        self
    }

    /// How many series it has. Without it, those are expected that sent anything in the scorecard's window, so one that
    /// has fallen silent for all of it is not missed.
    pub fn series_expected(mut self, series: u64) -> Self {
        self.series_expected = Some(series);
        self
    }

    /// Says that only rows of the table whose `tag` is `value` are of this feed: for tables that several agencies fill.
    pub fn rows(mut self, tag: impl Into<String>, value: impl Into<String>) -> Self {
        self.rows.push((tag.into(), value.into()));
        self
    }

    /// The values of a number that can be true, both ends included: rows with others do not conform. A feed has 256
    /// ranges at most.
    pub fn range(mut self, field: impl Into<String>, min: f64, max: f64) -> Self {
        self.ranges.push(Range { field: field.into(), min: Some(min), max: Some(max) });
        self
    }

    /// As [`range`](Self::range), without an upper bound.
    pub fn at_least(mut self, field: impl Into<String>, min: f64) -> Self {
        self.ranges.push(Range { field: field.into(), min: Some(min), max: None });
        self
    }

    /// As [`range`](Self::range), without a lower bound.
    pub fn at_most(mut self, field: impl Into<String>, max: f64) -> Self {
        self.ranges.push(Range { field: field.into(), min: None, max: Some(max) });
        self
    }

    /// Says that values of the text `column` are keys of the [dimension](crate::feed::dimension) of that name, at the time
    /// of their row. A feed has 16 such columns at most.
    pub fn key(mut self, column: impl Into<String>, dimension: impl Into<String>) -> Self {
        self.keys.push(Key { column: column.into(), dimension: dimension.into() });
        self
    }

    /// The number whose [baseline](crate::query::reference()) says what is normal for this feed.
    pub fn baseline(mut self, field: impl Into<String>) -> Self {
        self.baseline = Some(field.into());
        self
    }

    pub(crate) fn cadence(&self) -> Duration {
        self.schema.policies.cadence.unwrap_or_default()
    }

    pub(crate) fn lateness(&self) -> Duration {
        self.schema.policies.lateness.unwrap_or_default()
    }

    fn field_type(&self, name: &str) -> Option<FieldType> {
        self.schema.fields.iter().find(|field| field.name == name).map(|field| field.field_type)
    }

    fn is_tag(&self, name: &str) -> bool {
        self.schema.tags.iter().any(|tag| tag == name)
    }

    fn known(&self) -> String {
        let names = self.schema.tags.iter().chain(self.schema.fields.iter().map(|field| &field.name));
        names.map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Checks that it can be kept and counted.
    pub(crate) fn check(&self, options: &Options) -> Result<()> {
        names::check("feed", &self.name)?;
        self.schema.check(options)?;
        let wrong = |what: String, remedy: &str| Err(self.wrong(what, remedy));
        for (what, text) in [("agency", &self.agency), ("owner", &self.owner)] {
            if text.len() > options.tag_bytes_max {
                return wrong(format!("{what} has {} bytes", text.len()), "tag_bytes_max is what it may have");
            }
        }
        if self.agency.is_empty() {
            return wrong("agency is empty".into(), "say whose feed it is");
        }
        if self.cadence() < Duration::from_secs(1) {
            return wrong("it has no cadence of a second or more".into(), "say how often each series sends");
        }
        let long = Duration::from_secs(100 * 366 * 86_400);
        if self.cadence() > long || self.lateness() > long {
            return wrong("cadence or lateness is over a hundred years".into(), "give a shorter one");
        }
        self.check_columns()
    }

    /// Checks what it says of columns.
    fn check_columns(&self) -> Result<()> {
        let counts = [("feed_keys_max", KEYS_MAX, self.keys.len()), ("feed_ranges_max", RANGES_MAX, self.ranges.len())];
        for (limit, max, found) in counts {
            if found > max {
                let place = format!("feed {:?}", self.name);
                return Err(Error::LimitExceeded { limit, max: max as u64, found: found as u64, place });
            }
        }
        let known = self.known();
        let wrong = |what: String| Err(self.wrong(what, &format!("the table has {known}")));
        for (tag, value) in &self.rows {
            if !self.is_tag(tag) || value.is_empty() {
                return wrong(format!("rows: {tag:?} = {value:?} is no tag and value"));
            }
        }
        let is_number = |field: &str| self.field_type(field).is_some_and(is_number);
        for range in &self.ranges {
            if !is_number(&range.field) {
                return wrong(format!("range: {:?} is no number", range.field));
            }
            let (min, max) = (range.min.unwrap_or(f64::MIN), range.max.unwrap_or(f64::MAX));
            if !min.is_finite() || !max.is_finite() || min > max {
                return wrong(format!("range: {:?} has the empty or infinite range {min} to {max}", range.field));
            }
            if self.ranges.iter().filter(|other| other.field == range.field).count() > 1 {
                return wrong(format!("range: {:?} has two", range.field));
            }
        }
        for key in &self.keys {
            names::check("dimension", &key.dimension)?;
            if !self.is_tag(&key.column) && self.field_type(&key.column) != Some(FieldType::Utf8) {
                return wrong(format!("key: {:?} is no tag and no text", key.column));
            }
            if self.keys.iter().filter(|other| other.column == key.column).count() > 1 {
                return wrong(format!("key: {:?} has two dimensions", key.column));
            }
        }
        match &self.baseline {
            Some(field) if !is_number(field) => wrong(format!("baseline: {field:?} is no number")),
            _ => Ok(()),
        }
    }

    fn wrong(&self, reason: String, remedy: &str) -> Error {
        Error::InvalidFeed { place: format!("feed {:?}", self.name), reason, remedy: remedy.into() }
    }
}

fn is_number(field_type: FieldType) -> bool {
    matches!(field_type, FieldType::F64 | FieldType::I64 | FieldType::U64 | FieldType::Decimal { .. })
}
