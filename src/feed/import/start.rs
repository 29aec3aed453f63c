//! The beginning of an import: the source is opened, its header read, its columns mapped.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use arrow::datatypes::SchemaRef;

use super::arrow_source::{arrow_file, arrow_reader};
use super::cell::{Cell, Reading};
use super::csv::Csv;
use super::host::Host;
use super::input::Input;
use super::json::JsonLines;
use super::ledger::Place;
use super::line_protocol::LineProtocol;
use super::options::Format;
use super::records::{Records, Step};
use super::rows::{Coded, Rows};
use super::session::Session;
use super::source::Kind as SourceKind;
use super::targets::{Kind, Mapping, TagSource, Targets, TimeSource};
use super::time::TimeReader;
use super::{Import, Imported, Source};
use crate::care::progress::{Meter, Report};
use crate::error::{Error, Result};
use crate::fs::File;
use crate::model::{TableSchema, imports, names};

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
        return ready.without_head(&input);
    };
    session.advance(&mut input, true, &mut meter)?;
    session.end()
}

/// Opens a source's file.
pub(crate) fn open(host: &dyn Host, path: &Path) -> Result<Arc<dyn File>> {
    let gone = || Error::io("opening", path, std::io::ErrorKind::NotFound.into());
    host.core().fs.open_read(path)?.ok_or_else(gone)
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
        let is_twice = |byte: &Option<u8>| byte.is_some() && special.iter().filter(|other| *other == byte).count() > 1;
        if special.iter().flatten().any(|byte| line_ends.contains(byte))
            || special.iter().any(is_twice)
            || import.format == Format::Csv && import.quote.is_none() && import.notation.point == import.delimiter
        {
            return wrong("delimiter, quote, comment and decimal point differ, and none ends a line".into());
        }
        if import.notation.group == Some(import.notation.point) {
            return wrong("the decimal point and the separator of thousands differ: say decimal_comma() too".into());
        }
        let is_plain = import.time == names::TIME && import.clock.is_none();
        let is_own = is_plain && import.renamed.is_empty() && import.constants.is_empty();
        if import.format == Format::LineProtocol && !is_own {
            return wrong(
                "line protocol names its columns itself: time, date_and_clock, rename and constant do nothing".into(),
            );
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
                (Records::Rows(Rows::new(columns, record_bytes_max)), names)
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

    /// What a source is whose head is not there: an empty one has no rows, and of any other they would be left out unseen.
    fn without_head(&self, input: &Input<'_>) -> Result<Imported> {
        let skipped = self.import.skipped_lines;
        // Without lines that are skipped, and with nothing behind it, all of it is blank.
        if input.ended() && (skipped == 0 || input.bytes().is_empty()) {
            return Ok(Imported::default());
        }
        let len = input.bytes().len();
        let where_it_is_not = match (input.ended(), skipped) {
            (true, _) => format!("the source ends before its header: skip_lines is {skipped}"),
            (false, 0) => format!("the header does not end within {len} bytes: chunk_bytes is how far it may go"),
            (false, _) => format!("the header is not within {len} bytes, behind {skipped} lines: see chunk_bytes"),
        };
        Err(Error::import(&input.name, 1, where_it_is_not))
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
