//! The beginning of an import: the source is opened, its header read, its columns mapped.

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, StreamReader};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};

use super::cell::{Cell, Reading};
use super::csv::Csv;
use super::host::Host;
use super::input::{FileRead, Input, failed};
use super::json::JsonLines;
use super::ledger::Place;
use super::line_protocol::LineProtocol;
use super::options::Format;
use super::records::{Records, Step};
use super::rows::Coded;
use super::session::Session;
use super::source::Kind as SourceKind;
use super::targets::{Kind, Mapping, TagSource, Targets, TimeSource};
use super::time::TimeReader;
use super::{Import, Imported, Source};
use crate::care::progress::{Meter, Report};
use crate::error::{Error, Result};
use crate::fs::File;
use crate::model::{TableSchema, imports, names};

/// Rows of an Arrow batch at a time.
const BATCH_ROWS: usize = 8_192;
/// Smallest piece, so that a sync covers more than itself.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 256 << 20;

/// Imports all of `source`.
pub(crate) fn import(
    host: &Arc<dyn Host>,
    import: &Import,
    source: Source<'_>,
    report: &mut Report<'_>,
) -> Result<Imported> {
    let ready = Ready::new(&**host, import)?;
    let turn = host.ledger().turn(ready.turn());
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    let Source { name, kind } = source;
    let total_bytes;
    let (reader, schema): (Box<dyn Read + '_>, Option<SchemaRef>) = match kind {
        SourceKind::File(path) => {
            let file = open(&**host, &path)?;
            total_bytes = file.len()?;
            arrow_file(&name, import, file)?
        }
        SourceKind::Reader(reader) => {
            total_bytes = 0;
            arrow_reader(&name, import, reader)?
        }
        SourceKind::Batches(schema, batches) => {
            total_bytes = 0;
            (Box::new(Coded::new(name.clone(), schema.clone(), batches)), Some(schema))
        }
    };
    if schema.is_some() != matches!(import.format, Format::Parquet | Format::ArrowIpc | Format::Batches) {
        return Err(Error::import(&name, 0, "batches go with Import::batches, and with nothing else"));
    }
    let mut meter = Meter::new("import", total_bytes, report);
    let mut input = Input::new(name, reader, schema.is_none(), &import.limits)?;
    let Some(mut session) = ready.begin(host, &mut input, schema.as_ref(), true, &mut meter)? else {
        return Ok(Imported::default());
    };
    session.advance(&mut input, true, &mut meter)?;
    session.end()
}

/// Opens a source's file.
pub(crate) fn open(host: &dyn Host, path: &Path) -> Result<Arc<dyn File>> {
    let gone = || Error::io("opening", path, std::io::ErrorKind::NotFound.into());
    host.core().fs.open_read(path)?.ok_or_else(gone)
}

/// A file's content, and its columns if it says them.
fn arrow_file<'a>(name: &str, import: &Import, file: Arc<dyn File>) -> Result<(Box<dyn Read + 'a>, Option<SchemaRef>)> {
    let wrong = |message: String| Error::import(name, 0, message);
    let is_ipc_file = || -> Result<bool> {
        let mut magic = [0; 6];
        Ok(file.len()? >= 12 && file.read_at(&mut magic, 0).map(|()| magic == *b"ARROW1")?)
    };
    match import.format {
        Format::Parquet => {
            let chunks = Chunks(file);
            let options = ArrowReaderOptions::new();
            let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(chunks, options);
            let builder = builder.map_err(|error| wrong(error.to_string()))?;
            let metadata = builder.metadata();
            let content: i64 = metadata.row_groups().iter().map(|group| group.total_byte_size().max(0)).sum();
            let limit = import.limits.content_bytes_max;
            if content.unsigned_abs() > limit {
                return Err(Error::LimitExceeded {
                    limit: "content_bytes_max",
                    max: limit,
                    found: content.unsigned_abs(),
                    place: format!("{name:?}"),
                });
            }
            let schema = builder.schema().clone();
            let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| wrong(error.to_string()))?;
            let source = name.to_string();
            let batches = batches.map(move |batch| batch.map_err(|error| Error::import(&source, 0, error.to_string())));
            Ok((Box::new(Coded::new(name.into(), schema.clone(), Box::new(batches))), Some(schema)))
        }
        Format::ArrowIpc if is_ipc_file()? => {
            let read = Seeking { read: FileRead::new(file.clone(), 0)?, file };
            let reader = FileReader::try_new(read, None).map_err(|error| wrong(error.to_string()))?;
            let (schema, source) = (reader.schema(), name.to_string());
            let batches = reader.map(move |batch| batch.map_err(|error| Error::import(&source, 0, error.to_string())));
            Ok((Box::new(Coded::new(name.into(), schema.clone(), Box::new(batches))), Some(schema)))
        }
        _ => arrow_reader(name, import, Box::new(FileRead::new(file, 0)?)),
    }
}

/// A reader's content, and its columns if it says them.
fn arrow_reader<'a>(
    name: &str,
    import: &Import,
    reader: Box<dyn Read + 'a>,
) -> Result<(Box<dyn Read + 'a>, Option<SchemaRef>)> {
    let wrong = |message: String| Error::import(name, 0, message);
    match import.format {
        Format::Parquet => Err(wrong("Parquet is read from its end: give the file".into())),
        Format::ArrowIpc => {
            let reader = StreamReader::try_new(BufReader::new(stream(name, reader)?), None);
            let reader = reader.map_err(|error| wrong(error.to_string()))?;
            let (schema, source) = (reader.schema(), name.to_string());
            let batches = reader.map(move |batch| batch.map_err(|error| Error::import(&source, 0, error.to_string())));
            Ok((Box::new(Coded::new(name.into(), schema.clone(), Box::new(batches))), Some(schema)))
        }
        _ => Ok((reader, None)),
    }
}

/// A reader that was seen to begin as an Arrow stream does: Arrow's own makes room for whatever length other bytes spell.
fn stream<'a>(name: &str, mut reader: Box<dyn Read + 'a>) -> Result<Box<dyn Read + 'a>> {
    const SCHEMA_BYTES_MAX: u32 = 64 << 20;
    let mut head = Vec::new();
    reader.by_ref().take(8).read_to_end(&mut head).map_err(|error| failed(name, error))?;
    let mut words = head.chunks_exact(4).filter_map(|word| word.first_chunk()).map(|word| u32::from_le_bytes(*word));
    // The length of the schema is behind a marker, or first in streams of old.
    let length = words.find(|word| *word != u32::MAX);
    if length.is_none_or(|length| length > SCHEMA_BYTES_MAX) {
        return Err(Error::import(name, 0, "this is no Arrow IPC stream"));
    }
    Ok(Box::new(std::io::Cursor::new(head).chain(reader)))
}

/// A file as the Parquet reader wants it.
struct Chunks(Arc<dyn File>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.len().unwrap_or(0)
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<FileRead>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let external = |error: Error| parquet::errors::ParquetError::External(Box::new(error));
        Ok(BufReader::new(FileRead::new(self.0.clone(), start).map_err(external)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let past = || parquet::errors::ParquetError::EOF("a piece that the file says it has is not there".into());
        // Before room is made for what a hostile file claims.
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(past());
        }
        let mut bytes = vec![0; length];
        self.0.read_at(&mut bytes, start).map_err(|_| past())?;
        Ok(bytes.into())
    }
}

/// A file as Arrow's reader wants it.
struct Seeking {
    file: Arc<dyn File>,
    read: FileRead,
}

impl Read for Seeking {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.read.read(out)
    }
}

impl std::io::Seek for Seeking {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        let (from, by) = match to {
            std::io::SeekFrom::Start(at) => (at, 0),
            std::io::SeekFrom::End(by) => (self.read.end(), by),
            std::io::SeekFrom::Current(by) => (self.read.at(), by),
        };
        let at = from.checked_add_signed(by).ok_or(std::io::ErrorKind::InvalidInput)?;
        self.read = FileRead::new(self.file.clone(), at).map_err(std::io::Error::other)?;
        Ok(at)
    }
}

/// An import that was checked.
pub(crate) struct Ready {
    import: Import,
    kind: Arc<Kind>,
    schema: Option<Arc<TableSchema>>,
}

impl Ready {
    pub(crate) fn new(host: &dyn Host, import: &Import) -> Result<Self> {
        let table = || import.table.clone().unwrap_or_default();
        let wrong = |message: String| Err(Error::Batch { table: table(), message });
        let zone = match &import.zone {
            None => None,
            Some(name) => match name.parse() {
                Ok(zone) => Some(zone),
                Err(_) => return wrong(format!("{name:?} is not a zone of the IANA database")),
            },
        };
        let limits = &import.limits;
        if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&limits.chunk_bytes)
            || limits.record_bytes_max == 0
            || limits.record_bytes_max > limits.chunk_bytes
        {
            return wrong(format!(
                "chunk_bytes is {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}, and record_bytes_max at most that"
            ));
        }
        let line_ends = [b'\n', b'\r'];
        let special = [Some(import.delimiter), import.quote, import.comment];
        if special.iter().flatten().any(|byte| line_ends.contains(byte))
            || Some(import.delimiter) == import.quote
            || import.format == Format::Csv && import.quote.is_none() && import.notation.point == import.delimiter
        {
            return wrong("delimiter, quote, comment and decimal point differ, and none ends a line".into());
        }
        let schema = match &import.table {
            None => None,
            Some(name) => {
                let view = host.core().view.load();
                let table = view.table(name).filter(|_| !names::is_hidden(name));
                let unknown = || Error::UnknownTable { table: name.chars().take(80).collect() };
                Some(table.ok_or_else(unknown)?.schema.clone())
            }
        };
        let reading = Reading {
            notation: import.notation,
            nulls: import.nulls.iter().map(|null| null.as_bytes().into()).collect(),
            trim: import.trim,
        };
        let kind = Kind {
            reading: Arc::new(reading),
            time: TimeReader::new(import.order, zone, import.twice),
            absent_tag: import.absent_tag.as_deref().filter(|absent| !absent.is_empty()).map(Into::into),
        };
        Ok(Self { import: import.clone(), kind: Arc::new(kind), schema })
    }

    /// Whose turn an import of this kind needs.
    pub(crate) fn turn(&self) -> &str {
        self.import.table.as_deref().unwrap_or(imports::ANY_TABLE)
    }

    /// Reads the head of a source, and begins. `None` if the source ends before its head does.
    pub(crate) fn begin(
        &self,
        host: &Arc<dyn Host>,
        input: &mut Input<'_>,
        columns: Option<&SchemaRef>,
        last: bool,
        meter: &mut Meter<'_>,
    ) -> Result<Option<Session>> {
        let import = &self.import;
        let mut targets = Targets::new(host.clone(), self.kind.clone());
        let root = Place([0; 16]).after(format!("{}\n{}", self.turn(), import.identity).as_bytes());
        input.fill(import.limits.chunk_bytes, meter)?;
        if columns.is_none() {
            self.skip_mark(input)?;
        }
        let record_bytes_max = import.limits.record_bytes_max;
        let (mut start, mut line) = (root, 1);
        let (records, names) = match (&import.format, columns) {
            (_, Some(columns)) => {
                let names: Vec<String> = columns.fields().iter().map(|field| field.name().clone()).collect();
                let types: Vec<String> = columns.fields().iter().map(|field| field.data_type().to_string()).collect();
                start = root.after(format!("{names:?}{types:?}").as_bytes());
                (Records::Rows, names)
            }
            (Format::LineProtocol, _) => {
                let columns_max = import.limits.columns_max;
                (Records::Line(LineProtocol { record_bytes_max, columns_max, learned: false }), Vec::new())
            }
            (Format::JsonLines, _) => {
                let columns = self.wanted();
                (Records::Json(JsonLines { columns: columns.clone(), record_bytes_max }), columns)
            }
            _ => {
                let mut csv = Csv {
                    delimiter: import.delimiter,
                    quote: import.quote,
                    comment: import.comment,
                    record_bytes_max,
                    columns_max: import.limits.columns_max,
                    width: None,
                };
                let Some(head) = self.head(&csv, input, last)? else { return Ok(None) };
                csv.width = Some(head.names.len());
                start = root.after(input.bytes().get(..head.bytes).unwrap_or_default());
                line += head.lines;
                input.consume(head.bytes);
                (Records::Csv(csv), head.names)
            }
        };
        if let (Some(table), Some(schema)) = (&import.table, &self.schema) {
            let mapping = self.mapping(schema, &names, &input.name)?;
            targets.add(table, mapping)?;
        }
        let source = input.name.clone();
        let session = Session::new(host.clone(), import.clone(), source, (records, targets), names, (start, line));
        Ok(Some(session))
    }

    /// A byte-order mark says nothing in UTF-8; another coding is refused.
    fn skip_mark(&self, input: &mut Input<'_>) -> Result<()> {
        match input.bytes() {
            [0xef, 0xbb, 0xbf, ..] => input.consume(3),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(Error::import(&input.name, 1, "this is UTF-16; convert it to UTF-8"));
            }
            _ => {}
        }
        Ok(())
    }

    /// The names by which the source may have the table's columns.
    fn wanted(&self) -> Vec<String> {
        let import = &self.import;
        let mut wanted = vec![import.time.clone()];
        wanted.extend(import.clock.clone());
        if let Some(schema) = &self.schema {
            let columns = schema.tags.iter().chain(schema.fields.iter().map(|field| &field.name));
            for column in columns {
                let name = self.spelling(column);
                if !wanted.iter().any(|known| known == name) {
                    wanted.push(name.into());
                }
            }
        }
        wanted
    }

    /// What the source calls a column of the table.
    fn spelling<'a>(&'a self, column: &'a str) -> &'a str {
        self.import.renamed.iter().find(|(_, to)| to == column).map_or(column, |(from, _)| from)
    }

    /// Reads the lines before the first record.
    fn head(&self, csv: &Csv, input: &Input<'_>, last: bool) -> Result<Option<Head>> {
        let (mut at, mut lines) = (0, 0);
        let bytes = input.bytes();
        let last = last && input.ended();
        for _ in 0..self.import.skipped_lines {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(newline) = memchr::memchr(b'\n', rest) else { return Ok(None) };
            (at, lines) = (at + newline + 1, lines + 1);
        }
        if let Some(names) = &self.import.header {
            return Ok(Some(Head { names: names.clone(), bytes: at, lines }));
        }
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let mut cells: Vec<Cell<'_>> = Vec::new();
            match csv.next(rest, last, &mut cells) {
                Step::Row { bytes, lines: more, .. } => {
                    let names: Vec<String> = cells.iter().map(|cell| cell.to_text().trim().to_string()).collect();
                    return Ok(Some(Head { names, bytes: at + bytes, lines: lines + more }));
                }
                Step::Blank { bytes, lines: more } => (at, lines) = (at + bytes, lines + more),
                Step::More => return Ok(None),
                Step::Broken { .. } | Step::Endless { .. } => {
                    return Err(Error::import(&input.name, lines + 1, "the header cannot be split into columns"));
                }
            }
        }
    }

    /// Which column of the source goes where.
    fn mapping(&self, schema: &TableSchema, names: &[String], source: &str) -> Result<Mapping> {
        let import = &self.import;
        let wrong = |message: String| Error::import(source, 1, message);
        let has = || names.iter().take(50).cloned().collect::<Vec<_>>().join(", ");
        let find = |name: &str| names.iter().position(|known| known == name);
        let must = |name: &str| {
            find(name).ok_or_else(|| {
                wrong(format!("there is no column {name:?} for table {:?}; it has {}", schema.name, has()))
            })
        };
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|other| other == name) && self.wanted().contains(name) {
                return Err(wrong(format!("the column {name:?} is there twice")));
            }
        }
        let known =
            |column: &String| schema.tags.contains(column) || schema.fields.iter().any(|field| field.name == *column);
        if let Some((_, column)) = import.renamed.iter().find(|(_, column)| !known(column)) {
            return Err(schema.unknown(column));
        }
        if let Some((tag, _)) =
            import.constants.iter().find(|(tag, text)| !schema.tags.contains(tag) || text.is_empty())
        {
            return Err(wrong(format!(
                "a constant is for a tag, and has a value; {tag:?} of {:?} is not",
                schema.name
            )));
        }
        let time = TimeSource { column: must(&import.time)?, clock: import.clock.as_deref().map(must).transpose()? };
        let mut tags = Vec::new();
        for tag in &schema.tags {
            tags.push(match import.constants.iter().find(|(constant, _)| constant == tag) {
                Some((_, text)) => TagSource::Constant(text.clone()),
                None => match (find(self.spelling(tag)), &self.kind.absent_tag) {
                    (Some(column), _) => TagSource::Column(column),
                    (None, Some(absent)) => TagSource::Constant(absent.to_string()),
                    (None, None) => TagSource::Column(must(self.spelling(tag))?),
                },
            });
        }
        let mut fields = Vec::new();
        for field in &schema.fields {
            let spelling = self.spelling(&field.name);
            let renamed = spelling != field.name;
            fields.push(if field.required || renamed { Some(must(spelling)?) } else { find(spelling) });
        }
        if !fields.is_empty() && fields.iter().all(Option::is_none) {
            return Err(wrong(format!("no column is a field of table {:?}; it has {}", schema.name, has())));
        }
        Ok(Mapping { time, tags, fields })
    }
}

/// What comes before the first record.
struct Head {
    names: Vec<String>,
    bytes: usize,
    lines: u64,
}
