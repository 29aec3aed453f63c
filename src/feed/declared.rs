//! Contracts as text: TOML, as an agency writes it and as the store keeps it.

use std::fmt::Write;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::contract::{Arrival, Audience, Feed, Key, Range};
use crate::error::{Error, Result};
use crate::model::{Dedup, FieldType, Schema};
use crate::options::Options;

/// Bytes of a file of contracts.
pub(crate) const FILE_BYTES_MAX: usize = 4 << 20;

/// Units of durations, in nanoseconds, the largest first.
const UNITS: [(&str, u128); 8] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const FEED_KEYS: &[&str] = &[
    "name",
    "agency",
    "owner",
    "table",
    "arrives",
    "audience",
    "cadence",
    "lateness",
    "retention",
    "future_max",
    "partition",
    "dedup",
    "keep_ingest_time",
    "tags",
    "fields",
    "keys",
    "rows",
    "series_expected",
    "baseline",
];
const FIELD_KEYS: &[&str] = &["name", "type", "unit", "required", "min", "max"];

impl Feed {
    /// The contracts in a TOML text: a table `[[feed]]` each. `place` is what errors call the text: its file.
    ///
    /// # Errors
    /// [`InvalidFeed`](Error::InvalidFeed) with place and line for text that is no TOML, keys that are not known or not
    /// given, values of a wrong kind, and contracts that a store of default options cannot keep.
    ///
    /// ```
    /// use denyut::feed::Feed;
    ///
    /// let feeds = Feed::from_toml(r#"
    ///     [[feed]]
    ///     name = "water_level"
    ///     agency = "PUPR"
    ///     table = "water"
    ///     arrives = "by itself"
    ///     cadence = "10 min"
    ///     tags = ["gate"]
    ///     fields = [{ name = "level_cm", type = "f64", unit = "cm", min = -100, max = 1000 }]
    ///     keys = { gate = "asset" }
    /// "#, "pupr.toml")?;
    /// assert_eq!(feeds[0].agency(), "PUPR");
    ///
    /// let error = Feed::from_toml("[[feed]]\nname = \"x\"\nagensi = \"PUPR\"", "pupr.toml").unwrap_err();
    /// assert!(error.to_string().starts_with("pupr.toml, line 3: there is no key \"agensi\"; "));
    /// # Ok::<(), denyut::Error>(())
    /// ```
    pub fn from_toml(text: &str, place: &str) -> Result<Vec<Self>> {
        Self::parse(text, place, Some(&Options::default()))
    }

    /// As [`from_toml`](Self::from_toml), checked by `options`; unchecked without them, for what was checked before it was
    /// kept: the limits of then need not be those of now.
    pub(crate) fn parse(text: &str, place: &str, options: Option<&Options>) -> Result<Vec<Self>> {
        let file = File { text, place };
        if text.len() > FILE_BYTES_MAX {
            let remedy = format!("split it: {FILE_BYTES_MAX} are the most");
            return Err(file.wrong(0, format!("it has {} bytes", text.len()), &remedy));
        }
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            file.wrong(at, error.message().to_string(), "write TOML, see toml.io")
        })?;
        let root = Part::of(&file, root.get_ref(), root.span().start, &["feed"])?;
        let Some(feeds) = root.get("feed") else {
            return Err(file.wrong(0, "it has no feed".into(), "begin each with [[feed]]"));
        };
        let DeValue::Array(feeds) = feeds.get_ref() else {
            return Err(file.wrong(feeds.span().start, "feed is no list".into(), "begin each with [[feed]]"));
        };
        let feeds = feeds.iter().map(|feed| {
            let part = Part::table(&file, feed, FEED_KEYS)?;
            let made = part.feed()?;
            let checked = options.map_or(Ok(()), |options| made.check(options));
            checked.map_err(|error| part.wrong(error.to_string(), "change this feed"))?;
            Ok(made)
        });
        feeds.collect()
    }

    /// The contract as TOML, one `[[feed]]`, which [`from_toml`](Self::from_toml) reads back.
    pub fn to_toml(&self) -> String {
        let mut out = String::from("[[feed]]\n");
        let mut line = |key: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{key} = {value}");
        };
        line("name", quoted(&self.name));
        line("agency", quoted(&self.agency));
        if !self.owner.is_empty() {
            line("owner", quoted(&self.owner));
        }
        line("table", quoted(&self.schema.name));
        line("arrives", quoted(self.arrives.as_str()));
        line(
            "audience",
            match &self.audience {
                Audience::Agency => quoted("agency"),
                Audience::Public => quoted("public"),
                Audience::Agencies(names) => list(names.iter().map(|name| quoted(name))),
            },
        );
        let policies = &self.schema.policies;
        let durations = [
            ("cadence", policies.cadence),
            ("lateness", policies.lateness),
            ("retention", policies.retention),
            ("future_max", policies.future_max),
            ("partition", policies.partition),
        ];
        for (key, duration) in durations {
            if let Some(duration) = duration {
                line(key, quoted(&duration_text(duration)));
            }
        }
        if policies.dedup == Dedup::LastWrite {
            line("dedup", quoted("last write"));
        }
        if policies.keep_ingest_time {
            line("keep_ingest_time", "true".into());
        }
        line("tags", list(self.schema.tags.iter().map(|tag| quoted(tag))));
        line("fields", self.fields_text());
        let pairs = |pairs: &mut dyn Iterator<Item = (&String, &String)>| {
            let pairs = pairs.map(|(name, value)| format!("{name} = {}", quoted(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        };
        if !self.keys.is_empty() {
            line("keys", pairs(&mut self.keys.iter().map(|key| (&key.column, &key.dimension))));
        }
        if !self.rows.is_empty() {
            line("rows", pairs(&mut self.rows.iter().map(|(tag, value)| (tag, value))));
        }
        if let Some(series) = self.series_expected {
            line("series_expected", series.to_string());
        }
        if let Some(baseline) = &self.baseline {
            line("baseline", quoted(baseline));
        }
        out
    }

    fn fields_text(&self) -> String {
        let field = |field: &crate::model::Field| {
            let mut text =
                format!("\n    {{ name = {}, type = {}", quoted(&field.name), quoted(&type_text(field.field_type)));
            if !field.unit.is_empty() {
                let _ = write!(text, ", unit = {}", quoted(&field.unit));
            }
            if field.required {
                text.push_str(", required = true");
            }
            if let Some(range) = self.ranges.iter().find(|range| range.field == field.name) {
                for (key, bound) in [("min", range.min), ("max", range.max)] {
                    if let Some(bound) = bound {
                        // Debug keeps the point, so that it reads back as a float.
                        let _ = write!(text, ", {key} = {bound:?}");
                    }
                }
            }
            text + " }"
        };
        list(self.schema.fields.iter().map(field))
    }
}

impl Arrival {
    /// As contracts spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ByHand => "by hand",
            Self::ByItself => "by itself",
        }
    }
}

/// The text that errors are about.
struct File<'a> {
    text: &'a str,
    place: &'a str,
}

impl File<'_> {
    fn wrong(&self, at: usize, reason: String, remedy: &str) -> Error {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::InvalidFeed { place: format!("{}, line {line}", self.place), reason, remedy: remedy.into() }
    }
}

/// One table of the text, whose keys are all known.
struct Part<'a> {
    file: &'a File<'a>,
    table: &'a DeTable<'a>,
    at: usize,
}

type Found<'a> = &'a Spanned<DeValue<'a>>;

impl<'a> Part<'a> {
    fn of(file: &'a File<'a>, table: &'a DeTable<'a>, at: usize, known: &[&str]) -> Result<Self> {
        for (key, _) in table.iter() {
            if !known.contains(&&**key.get_ref()) {
                let remedy = format!("there are {}", known.join(", "));
                return Err(file.wrong(key.span().start, format!("there is no key {:?}", key.get_ref()), &remedy));
            }
        }
        Ok(Self { file, table, at })
    }

    fn table(file: &'a File<'a>, value: Found<'a>, known: &[&str]) -> Result<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Self::of(file, table, value.span().start, known),
            _ => Err(file.wrong(value.span().start, "this is no table".into(), "write { key = value, .. }")),
        }
    }

    fn wrong(&self, reason: String, remedy: &str) -> Error {
        self.file.wrong(self.at, reason, remedy)
    }

    fn get(&self, key: &str) -> Option<Found<'a>> {
        self.table.get(key)
    }

    /// What `read` makes of the value of `key`; an error that says what it should be.
    fn read<T>(&self, key: &str, should: &str, read: impl Fn(&'a DeValue<'a>) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.file.wrong(value.span().start, format!("{key} is not {should}"), "change it");
        read(value.get_ref()).map(Some).ok_or_else(wrong)
    }

    fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.wrong(format!("{key} is not given"), &format!("write {key} = ..")))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.read(key, "a text", as_text)
    }

    fn flag(&self, key: &str) -> Result<bool> {
        let flag = self.read(key, "true or false", |value| match value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => None,
        })?;
        Ok(flag.unwrap_or_default())
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", |value| match value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            #[expect(clippy::cast_precision_loss, reason = "a bound that is written as an integer")]
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|n| n as f64),
            _ => None,
        })
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let should = "a duration, such as \"10 min\"; units are w, d, h, min, s, ms, us and ns";
        self.read(key, should, |value| as_text(value).and_then(duration))
    }

    fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.read(key, "a list of texts", |value| match value {
            DeValue::Array(list) => list.iter().map(|item| as_text(item.get_ref()).map(ToString::to_string)).collect(),
            _ => None,
        })
    }

    fn pairs(&self, key: &str) -> Result<Vec<(String, String)>> {
        let pairs = self.read(key, "a table of texts, such as { gate = \"asset\" }", |value| match value {
            DeValue::Table(table) => {
                let pair = |(name, value): (&Spanned<_>, Found<'a>)| {
                    Some((ToString::to_string(name.get_ref()), as_text(value.get_ref())?.to_string()))
                };
                table.iter().map(pair).collect::<Option<Vec<_>>>()
            }
            _ => None,
        })?;
        Ok(pairs.unwrap_or_default())
    }

    fn feed(&self) -> Result<Feed> {
        let needed = |key: &str| self.needed(key, self.text(key)?);
        let mut schema = Schema::new(needed("table")?);
        schema.tags = self.texts("tags")?.unwrap_or_default();
        let policies = &mut schema.policies;
        policies.cadence = Some(self.needed("cadence", self.duration("cadence")?)?);
        policies.lateness = self.duration("lateness")?;
        policies.retention = self.duration("retention")?;
        policies.future_max = self.duration("future_max")?;
        policies.partition = self.duration("partition")?;
        policies.keep_ingest_time = self.flag("keep_ingest_time")?;
        let dedup = self.read("dedup", "\"keep all\" or \"last write\"", |value| match as_text(value)? {
            "keep all" => Some(Dedup::KeepAll),
            "last write" => Some(Dedup::LastWrite),
            _ => None,
        })?;
        policies.dedup = dedup.unwrap_or_default();
        let mut feed = Feed::new(needed("name")?, needed("agency")?, schema);
        feed.owner = self.text("owner")?.unwrap_or_default().into();
        let arrives = self.read("arrives", "\"by hand\" or \"by itself\"", |value| match as_text(value)? {
            "by hand" => Some(Arrival::ByHand),
            "by itself" => Some(Arrival::ByItself),
            _ => None,
        })?;
        feed.arrives = arrives.unwrap_or_default();
        feed.audience = self.audience()?;
        self.fields(&mut feed)?;
        let key = |(column, dimension)| Key { column, dimension };
        feed.keys = self.pairs("keys")?.into_iter().map(key).collect();
        feed.rows = self.pairs("rows")?;
        feed.series_expected = self.read("series_expected", "a count", |value| match value {
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        })?;
        feed.baseline = self.text("baseline")?.map(Into::into);
        Ok(feed)
    }

    fn audience(&self) -> Result<Audience> {
        let audience = self.read("audience", "\"agency\", \"public\" or a list of agencies", |value| match value {
            DeValue::Array(list) => {
                let names = list.iter().map(|name| as_text(name.get_ref()).map(ToString::to_string));
                names.collect::<Option<_>>().map(Audience::Agencies)
            }
            other => match as_text(other)? {
                "agency" => Some(Audience::Agency),
                "public" => Some(Audience::Public),
                _ => None,
            },
        })?;
        Ok(audience.unwrap_or_default())
    }

    /// The columns, and the ranges that are written beside them.
    fn fields(&self, feed: &mut Feed) -> Result<()> {
        let list = self.read("fields", "a list of tables", |value| match value {
            DeValue::Array(list) => Some(list),
            _ => None,
        })?;
        for field in list.into_iter().flat_map(|list| list.iter()) {
            let part = Part::table(self.file, field, FIELD_KEYS)?;
            let name = part.needed("name", part.text("name")?)?;
            let should = "f64, i64, u64, bool, utf8, or decimal(digits, after the point)";
            let field_type = part.read("type", should, |value| as_text(value).and_then(type_of))?;
            let field_type = part.needed("type", field_type)?;
            let unit = part.text("unit")?.unwrap_or_default();
            feed.schema = std::mem::replace(&mut feed.schema, Schema::new("")).field(name, field_type, unit);
            if part.flag("required")? {
                feed.schema = std::mem::replace(&mut feed.schema, Schema::new("")).required(name);
            }
            let (min, max) = (part.number("min")?, part.number("max")?);
            if min.is_some() || max.is_some() {
                feed.ranges.push(Range { field: name.into(), min, max });
            }
        }
        Ok(())
    }
}

fn as_text<'a>(value: &'a DeValue<'a>) -> Option<&'a str> {
    match value {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let (_, ns) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    let ns = count.parse::<u128>().ok()?.checked_mul(*ns)?;
    let second = 1_000_000_000;
    Some(Duration::new(u64::try_from(ns / second).ok()?, u32::try_from(ns % second).ok()?))
}

fn duration_text(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let whole = UNITS.iter().find(|(_, unit)| ns >= *unit && ns.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{ns} ns"), |(name, unit)| format!("{} {name}", ns / unit))
}

fn type_of(text: &str) -> Option<FieldType> {
    Some(match text {
        "f64" => FieldType::F64,
        "i64" => FieldType::I64,
        "u64" => FieldType::U64,
        "bool" => FieldType::Bool,
        "utf8" => FieldType::Utf8,
        other => {
            let (precision, scale) = other.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            FieldType::Decimal { precision: precision.trim().parse().ok()?, scale: scale.trim().parse().ok()? }
        }
    })
}

fn type_text(field_type: FieldType) -> String {
    match field_type {
        FieldType::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        other => other.to_string(),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control < ' ' || control == '\u{7f}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
