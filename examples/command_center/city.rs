//! Reading the files: each line once, in the order of its file, into rows that are ready to be sent.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use denyut::prelude::*;

use crate::Outcome;
use crate::feeds::{FEEDS, Feed, Stamp};

/// One value of a row; text is a number into [`City::texts`].
#[derive(Clone, Copy)]
pub(crate) enum Cell {
    Null,
    F64(f64),
    I64(i64),
    Text(u32),
}

/// One row, ready to be sent.
pub(crate) struct Record {
    /// Index into [`FEEDS`].
    pub(crate) feed: u32,
    /// Index into [`City::series`].
    pub(crate) series: u32,
    /// Where its cells begin in [`City::cells`].
    pub(crate) cells: u32,
    /// When it was measured, in Unix seconds.
    pub(crate) time_s: i64,
    /// When it became known.
    pub(crate) known_s: i64,
}

/// All files, read.
#[derive(Default)]
pub(crate) struct City {
    /// In the order of the files.
    pub(crate) records: Vec<Record>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) texts: Vec<String>,
    /// The feed and the values of the tags, in the table's order.
    pub(crate) series: Vec<(u32, Vec<String>)>,
}

impl Feed {
    /// Calls `each` with every line of the file: the columns of the fields, those of the tags, and the times when it
    /// was measured and became known, in Unix seconds.
    pub(crate) fn lines(
        &self,
        data: &Path,
        mut each: impl FnMut(&[&str], &[&str], i64, i64) -> Outcome<()>,
    ) -> Outcome<()> {
        let path = data.join(self.file);
        let place = |line: u64, what: String| format!("{}, line {line}: {what}", path.display());
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let bytes: Box<dyn Read> = match self.file.ends_with(".gz") {
            true => Box::new(flate2::read::GzDecoder::new(BufReader::new(file))),
            false => Box::new(file),
        };
        let mut reader = csv::Reader::from_reader(bytes);
        let header = reader.headers()?.clone();
        let position = |name: &str| {
            let found = header.iter().position(|column| column == name);
            found.ok_or_else(|| place(1, format!("no column {name}")))
        };
        let fields = self.fields.iter().map(|of| position(of.column)).collect::<Result<Vec<_>, _>>()?;
        let tags = self.tags.iter().map(|(_, column)| position(column)).collect::<Result<Vec<_>, _>>()?;
        let when = position(if matches!(self.stamp, Stamp::Wall) { "timestamp" } else { "time_hour" })?;
        let (minute, delay) = match self.stamp {
            Stamp::Departure => (Some(position("minute")?), Some(position("dep_delay")?)),
            Stamp::Wall | Stamp::Hour => (None, None),
        };
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            let line = record.position().map_or(0, csv::Position::line);
            // The reader has refused lines of any other length than the header's.
            let at = |index: usize| record.get(index).unwrap_or("");
            // A cancelled departure has no delay: it is known when it should have left.
            let minutes = |index: Option<usize>| match index.map(at) {
                None | Some("") => Ok(0),
                Some(text) => text.parse::<i64>().map_err(|error| place(line, format!("{text:?}: {error}"))),
            };
            let hour: Time = at(when).parse().map_err(|error| place(line, format!("{error}")))?;
            let time_s = hour.as_nanos() / 1_000_000_000 + self.moved_weeks * 7 * 86_400 + minutes(minute)? * 60;
            let known_s = time_s + minutes(delay)? * 60;
            let fields: Vec<&str> = fields.iter().map(|index| at(*index)).collect();
            let tags: Vec<&str> = tags.iter().map(|index| at(*index)).collect();
            each(&fields, &tags, time_s, known_s).map_err(|error| place(line, error.to_string()))?;
        }
        Ok(())
    }
}

impl City {
    /// Reads every file under `data`.
    pub(crate) fn read(data: &Path) -> Outcome<Self> {
        let mut city = Self::default();
        let mut texts: HashMap<String, u32> = HashMap::new();
        for (number, feed) in (0..).zip(&FEEDS) {
            let before = city.records.len();
            let mut known: HashMap<String, u32> = HashMap::new();
            feed.lines(data, |fields, tags, time_s, known_s| {
                let next = u32::try_from(city.series.len())?;
                let series = *known.entry(tags.join("\u{1f}")).or_insert(next);
                if series == next {
                    let fixed = feed.fixed.iter().map(|(_, value)| *value);
                    city.series.push((number, fixed.chain(tags.iter().copied()).map(String::from).collect()));
                }
                let cells = u32::try_from(city.cells.len())?;
                for (of, given) in feed.fields.iter().zip(fields) {
                    city.cells.push(match of.field_type {
                        _ if given.is_empty() => Cell::Null,
                        FieldType::I64 => Cell::I64(given.parse()?),
                        FieldType::F64 => Cell::F64(given.parse()?),
                        _ => {
                            let next = u32::try_from(texts.len())?;
                            Cell::Text(*texts.entry((*given).into()).or_insert(next))
                        }
                    });
                }
                city.records.push(Record { feed: number, series, cells, time_s, known_s });
                Ok(())
            })?;
            let read = (city.records.len() - before) as u64;
            if read != feed.rows {
                return Err(format!("{} has {read} rows; its README says {}", feed.file, feed.rows).into());
            }
        }
        let mut sorted: Vec<(String, u32)> = texts.into_iter().collect();
        sorted.sort_by_key(|(_, number)| *number);
        city.texts = sorted.into_iter().map(|(text, _)| text).collect();
        Ok(city)
    }

    /// The cells of one row.
    pub(crate) fn cells(&self, record: &Record) -> &[Cell] {
        let fields = FEEDS.get(record.feed as usize).map_or(0, |feed| feed.fields.len());
        let begin = record.cells as usize;
        self.cells.get(begin..begin + fields).unwrap_or(&[])
    }

    /// A cell as the library takes it.
    pub(crate) fn value(&self, cell: Cell) -> Value<'_> {
        match cell {
            Cell::Null => Value::Null,
            Cell::F64(value) => Value::F64(value),
            Cell::I64(value) => Value::I64(value),
            Cell::Text(number) => self.texts.get(number as usize).map_or(Value::Null, |text| Value::Utf8(text)),
        }
    }
}
