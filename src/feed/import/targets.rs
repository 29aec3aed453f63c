//! Where rows go: a table, and which cell of a record becomes which of its columns.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::cell::{Cell, Reading};
use super::fault::{Fault, Faulty};
use super::host::Host;
use super::time::TimeReader;
use crate::error::{Error, Result};
use crate::ingest::writer::BlockWriter;
use crate::maintain::core::Core;
use crate::model::quarantine::Reason;
use crate::model::{FieldType, Schema, TableId, TableSchema, Value};
use crate::storage::series_table::SeriesTable;

/// Where a tag comes from.
#[derive(Clone, Debug)]
pub(crate) enum TagSource {
    Column(usize),
    Constant(String),
}

/// Where the time comes from: a column, or a date and a clock in two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeSource {
    pub(crate) column: usize,
    pub(crate) clock: Option<usize>,
}

/// Which column of a record goes where.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) time: TimeSource,
    pub(crate) tags: Vec<TagSource>,
    pub(crate) fields: Vec<Option<usize>>,
}

/// One table that rows go to.
pub(crate) struct Target {
    mapping: Mapping,
    sink: Sink,
    reading: Arc<Reading>,
    time: TimeReader,
    /// What a tag is where a record has none.
    absent_tag: Option<Arc<str>>,
    /// Room for texts that do not stand in the record as they are, one a column.
    scratch: Vec<Vec<u8>>,
    tags: Vec<&'static str>,
    values: Vec<Value<'static>>,
    /// How line protocol spells the columns, and how its last line did.
    pub(crate) names: HashMap<Box<[u8]>, usize>,
    pub(crate) shape: Vec<(Box<[u8]>, usize)>,
    pub(crate) refused: HashSet<Box<[u8]>>,
}

/// The end of a row's way.
pub(crate) struct Sink {
    core: Arc<Core>,
    pub(crate) schema: Arc<TableSchema>,
    series: Arc<SeriesTable>,
    pub(crate) blocks: BlockWriter,
    last_tags: Vec<String>,
    last_series: Option<u32>,
}

impl Sink {
    /// Appends a row, unless its time sends it to quarantine.
    pub(crate) fn append(&mut self, time_ns: i64, tags: &[&str], values: &[Value<'_>]) -> Result<Option<Reason>> {
        if let Some(reason) = self.blocks.judge(time_ns, self.blocks.newest_ns()) {
            // Before it is resolved: a row that is not taken makes no series.
            return Ok(Some(reason));
        }
        let same = self.last_series.filter(|_| self.last_tags.iter().zip(tags).all(|(last, tag)| last == tag));
        let series = match same {
            Some(series) => series,
            None => {
                let core = &self.core;
                let series = self.series.resolve(&self.schema, &core.series_log, &core.options, tags)?;
                self.last_tags.resize(tags.len(), String::new());
                for (last, tag) in self.last_tags.iter_mut().zip(tags) {
                    last.clear();
                    last.push_str(tag);
                }
                self.last_series = Some(series);
                series
            }
        };
        if self.blocks.append_words(series, time_ns, values) {
            return Ok(None);
        }
        self.blocks.append(series, time_ns, values)
    }
}

/// An allocation for things that live shorter or longer than those it held.
fn recycled<'a>(mut texts: Vec<&str>) -> Vec<&'a str> {
    texts.clear();
    texts.into_iter().map(|_| "").collect()
}

fn recycled_values<'a>(mut values: Vec<Value<'_>>) -> Vec<Value<'a>> {
    values.clear();
    values.into_iter().map(|_| Value::Null).collect()
}

impl Target {
    /// Reads a record as a row, and gives it to `then`.
    #[inline]
    pub(crate) fn with_row<R>(
        &mut self,
        cells: &[Cell<'_>],
        then: impl FnOnce(&mut Sink, i64, &[&str], &[Value<'_>]) -> R,
    ) -> Result<R, Faulty> {
        let Self { mapping, sink, reading, time, absent_tag, scratch, .. } = self;
        let cell = |column: usize| cells.get(column).copied().unwrap_or_default();
        let options = &sink.core.options;
        let mut scratch = scratch.iter_mut();
        let mut room = || scratch.next().ok_or(Fault::WrongColumns.whole());
        let time_ns = read_time(mapping.time, cell, reading, time, room()?)?;
        let mut tags = recycled(std::mem::take(&mut self.tags));
        for source in &mapping.tags {
            let (text, column) = match source {
                TagSource::Constant(text) => (text.as_str(), 0),
                TagSource::Column(column) => {
                    let cell = cell(*column);
                    let text = if reading.is_null(cell) {
                        ""
                    } else {
                        reading.text(cell, room()?).map_err(|fault| fault.at(*column))?
                    };
                    (text, *column)
                }
            };
            let text = match (text, &*absent_tag) {
                ("", Some(absent)) => absent,
                ("", None) => return Err(Fault::NoTag.at(column)),
                (text, _) => text,
            };
            if text.len() > options.tag_bytes_max {
                return Err(Fault::TooLong.at(column));
            }
            tags.push(text);
        }
        let mut values = recycled_values(std::mem::take(&mut self.values));
        for (column, field) in mapping.fields.iter().zip(&sink.schema.fields) {
            let given = column.map(|column| (column, cell(column))).filter(|(_, cell)| !reading.is_null(*cell));
            let Some((column, cell)) = given else {
                if field.required {
                    return Err(Faulty { fault: Fault::NoField, column: *column });
                }
                values.push(Value::Null);
                continue;
            };
            values.push(if field.field_type == FieldType::Utf8 {
                let text = reading.text(cell, room()?).map_err(|fault| fault.at(column))?;
                if text.len() > options.value_bytes_max {
                    return Err(Fault::TooLong.at(column));
                }
                Value::Utf8(text)
            } else {
                reading.value(cell, field.field_type, room()?).map_err(|fault| fault.at(column))?
            });
        }
        let result = then(sink, time_ns, &tags, &values);
        self.tags = recycled(tags);
        self.values = recycled_values(values);
        Ok(result)
    }

    /// The table's schema, as rows are read for it.
    pub(crate) fn schema(&self) -> &Arc<TableSchema> {
        &self.sink.schema
    }

    /// How the table's writer stands.
    pub(crate) fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }

    /// Goes on with a wider table, whose new fields come from `columns`.
    fn widen(&mut self, schema: Arc<TableSchema>, columns: impl Iterator<Item = Option<usize>>) -> Result<()> {
        self.sink.blocks.upgrade(schema.clone())?;
        self.sink.schema = schema;
        self.mapping.fields.extend(columns);
        self.scratch = vec![Vec::new(); rooms(&self.mapping)];
        Ok(())
    }
}

fn rooms(mapping: &Mapping) -> usize {
    1 + mapping.tags.len() + mapping.fields.len()
}

fn read_time<'a>(
    source: TimeSource,
    cell: impl Fn(usize) -> Cell<'a>,
    reading: &Reading,
    time: &mut TimeReader,
    scratch: &mut Vec<u8>,
) -> Result<i64, Faulty> {
    let at = |fault: Fault| fault.at(source.column);
    let date = cell(source.column);
    if let Some(clock) = source.clock {
        let mut both = Vec::new();
        for column in [source.column, clock] {
            if reading.is_null(cell(column)) {
                return Err(Fault::NoTime.at(column));
            }
            let text = reading.text(cell(column), scratch).map_err(|fault| fault.at(column))?;
            both.extend_from_slice(text.trim().as_bytes());
            both.push(b' ');
        }
        return time.read(&both).map_err(at);
    }
    match date {
        Cell::Text(text) if !reading.is_null(date) => time.read(text.trim_ascii()).map_err(at),
        Cell::Time(nanos) => Ok(nanos),
        Cell::Wall(nanos) => time.wall(nanos).map_err(at),
        Cell::I64(_) | Cell::U64(_) if matches!(time.order, super::time::Order::Unix(_)) => {
            time.read(date.to_text().as_bytes()).map_err(at)
        }
        Cell::Quoted(b"", _) => Err(at(Fault::NoTime)),
        Cell::Quoted(..) => {
            let text = reading.text(date, scratch).map_err(at)?;
            time.read(text.trim().as_bytes()).map_err(at)
        }
        cell if reading.is_null(cell) => Err(at(Fault::NoTime)),
        _ => Err(at(Fault::BadTime)),
    }
}

/// All tables of an import.
pub(crate) struct Targets {
    host: Arc<dyn Host>,
    kind: Arc<Kind>,
    pub(crate) list: Vec<Target>,
    /// How line protocol spells the tables.
    pub(crate) names: HashMap<Box<[u8]>, usize>,
    pub(crate) refused: HashSet<Box<[u8]>>,
}

/// What the targets of an import have in common.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) reading: Arc<Reading>,
    pub(crate) time: TimeReader,
    pub(crate) absent_tag: Option<Arc<str>>,
}

impl Targets {
    pub(crate) fn new(host: Arc<dyn Host>, kind: Arc<Kind>) -> Self {
        Self { host, kind, list: Vec::new(), names: HashMap::new(), refused: HashSet::new() }
    }

    /// Adds a table by its name in the store.
    pub(crate) fn add(&mut self, table: &str, mapping: Mapping) -> Result<usize> {
        let core = self.host.core().clone();
        let view = core.view.load();
        let unknown = || Error::UnknownTable { table: table.chars().take(80).collect() };
        let state = view.table(table).ok_or_else(unknown)?;
        let schema = state.schema.clone();
        let blocks = BlockWriter::new(core.clone(), schema.clone(), core.clock.clone(), &core.options);
        self.list.push(Target {
            scratch: vec![Vec::new(); rooms(&mapping)],
            mapping,
            sink: Sink {
                core: core.clone(),
                schema,
                series: state.series.clone(),
                blocks,
                last_tags: Vec::new(),
                last_series: None,
            },
            reading: self.kind.reading.clone(),
            time: self.kind.time.clone(),
            absent_tag: self.kind.absent_tag.clone(),
            tags: Vec::new(),
            values: Vec::new(),
            names: HashMap::new(),
            shape: Vec::new(),
            refused: HashSet::new(),
        });
        Ok(self.list.len() - 1)
    }

    /// Makes a table, or adds the fields that it lacks, and gives its schema then. Columns of a record are then time, tags and
    /// fields in the table's order.
    pub(crate) fn declare(&mut self, schema: &Schema, target: Option<usize>) -> Result<usize> {
        schema.check(&self.host.core().options)?;
        self.host.declare(schema)?;
        let Some(number) = target else {
            let tags = schema.tags.len();
            let mapping = Mapping {
                time: TimeSource { column: 0, clock: None },
                tags: (1..=tags).map(TagSource::Column).collect(),
                fields: Vec::new(),
            };
            let number = self.add(&schema.name, mapping)?;
            return self.widen(number).map(|()| number);
        };
        self.widen(number).map(|()| number)
    }

    /// Goes on with the newest version of a target's table.
    pub(crate) fn widen(&mut self, number: usize) -> Result<()> {
        let core = self.host.core().clone();
        let Some(target) = self.list.get_mut(number) else { return Ok(()) };
        let view = core.view.load();
        let Some(state) = view.tables.get(&target.sink.schema.id) else { return Ok(()) };
        let first = 1 + target.mapping.tags.len();
        let known = target.mapping.fields.len();
        if known == state.schema.fields.len() {
            return Ok(());
        }
        target.widen(state.schema.clone(), (known..state.schema.fields.len()).map(|field| Some(first + field)))
    }

    /// Most fields of a table.
    pub(crate) fn fields_max(&self) -> usize {
        self.host.core().options.fields_max
    }

    /// The store's schema of a table, if there is one of that name that users may see.
    pub(crate) fn schema_of(&self, table: &str) -> Option<Arc<TableSchema>> {
        self.host.core().view.load().table(table).map(|state| state.schema.clone())
    }

    /// The numbers of the tables.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TableId> {
        self.list.iter().map(|target| target.sink.schema.id)
    }
}
