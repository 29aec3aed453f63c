//! InfluxDB line protocol: `table,tag=value field=1.5,other=2i 1700000000000000000`.
//!
//! Read here and not by a crate: the published parser is from before its project closed its source, and allocates for each
//! line, while the usual line needs no more than a look at each of its bytes. The grammar is that of InfluxDB's reference;
//! names are made into names of this store: lower case, and `_` for what is not a letter, a digit or `_`.
//!
//! A table that is not there is made with all tags that the piece of text at hand gives it; a new field is added. Tags
//! cannot be added later: a line with a new one goes to quarantine, and a tag that a line lacks has a value of its own.

use hashbrown::{HashMap, HashSet};

use super::cell::{Cell, Escape};
use super::fault::{Fault, Faulty};
use super::number;
use super::records::Step;
use super::targets::{Target, Targets};
use crate::error::{ErrorKind, Result};
use crate::model::{FieldType, Schema, names};

/// Reads lines into the tables they name.
#[derive(Clone, Debug)]
pub(crate) struct LineProtocol {
    pub(crate) record_bytes_max: usize,
    pub(crate) columns_max: usize,
    /// Whether the names of the piece of text at hand were looked at.
    pub(crate) learned: bool,
}

/// A part of a line, as it stands there.
enum Part<'b> {
    Table(&'b [u8]),
    Tag(&'b [u8], &'b [u8]),
    Field(&'b [u8], Cell<'b>),
    Time(&'b [u8]),
}

/// Why a line was not read to its end.
enum Stop {
    Faulty(Faulty),
    /// The text ends before the line does.
    Short,
    /// Something has a name that is not known.
    Unknown,
    /// Something has a name that has no place.
    Refused,
}

impl From<Faulty> for Stop {
    fn from(faulty: Faulty) -> Self {
        Self::Faulty(faulty)
    }
}

const BAD: Stop = Stop::Faulty(Faulty { fault: Fault::BadLine, column: None });

impl LineProtocol {
    /// The first record of `bytes`, into `cells`.
    pub(crate) fn next<'b>(
        &mut self,
        bytes: &'b [u8],
        last: bool,
        cells: &mut Vec<Cell<'b>>,
        targets: &mut Targets,
    ) -> Result<Step> {
        if let Some(step) = self.blank(bytes, last) {
            return Ok(step);
        }
        loop {
            match self.line(bytes, last, cells, targets) {
                Ok((len, target)) => {
                    let record = bytes.get(..len).unwrap_or_default();
                    return Ok(Step::Row { bytes: len, lines: super::csv::lines(record), target });
                }
                Err(Stop::Short) if bytes.len() <= self.record_bytes_max && !last => return Ok(Step::More),
                Err(Stop::Short) if memchr::memchr(b'\n', bytes).is_none() && !last => {
                    return Ok(Step::Endless { bytes: bytes.len() });
                }
                Err(Stop::Unknown) if !self.learned => {
                    // All that follows in this piece of text is learned with it: a piece is read for names once.
                    self.learn(bytes, last, targets)?;
                    self.learned = true;
                }
                Err(stop) => {
                    let line = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |newline| newline + 1);
                    let faulty = match stop {
                        Stop::Faulty(faulty) => faulty,
                        Stop::Short if line > self.record_bytes_max => Fault::TooLong.whole(),
                        Stop::Short => Fault::OpenQuote.whole(),
                        Stop::Unknown | Stop::Refused => Fault::NoPlace.whole(),
                    };
                    return Ok(Step::Broken { bytes: line, lines: 1, target: named(bytes, targets), faulty });
                }
            }
        }
    }

    /// A line of blanks, or a comment.
    fn blank(&self, bytes: &[u8], last: bool) -> Option<Step> {
        let first = bytes.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
        if first.is_some_and(|first| *first != b'#' && *first != b'\n') {
            return None;
        }
        let Some(newline) = memchr::memchr(b'\n', bytes) else {
            return Some(if last {
                Step::Blank { bytes: bytes.len(), lines: u64::from(!bytes.is_empty()) }
            } else if bytes.len() > self.record_bytes_max {
                Step::Endless { bytes: bytes.len() }
            } else {
                Step::More
            });
        };
        Some(Step::Blank { bytes: newline + 1, lines: 1 })
    }

    /// Reads a line for a table that is known, and every name in it.
    #[inline]
    fn line<'b>(
        &self,
        bytes: &'b [u8],
        last: bool,
        cells: &mut Vec<Cell<'b>>,
        targets: &mut Targets,
    ) -> std::result::Result<(usize, usize), Stop> {
        let mut found: Option<(usize, &mut Target)> = None;
        let (mut part_number, mut given) = (0, 0);
        let Targets { list, names, refused, .. } = targets;
        let mut list = Some(list);
        let len = self.parse(bytes, last, |part| {
            let (name, cell, is_tag) = match part {
                Part::Table(name) => {
                    let number = match names.get(name) {
                        Some(number) => *number,
                        None if refused.contains(name) => return Err(Fault::NoPlace.whole().into()),
                        None => return Err(Stop::Unknown),
                    };
                    let target = list.take().and_then(|list| list.get_mut(number)).ok_or(BAD)?;
                    cells.clear();
                    cells.resize(1 + target.schema().tags.len() + target.schema().fields.len(), Cell::Null);
                    found = Some((number, target));
                    return Ok(());
                }
                Part::Time(text) => {
                    if let Some(cell) = cells.first_mut() {
                        *cell = Cell::Text(text);
                    }
                    return Ok(());
                }
                Part::Tag(name, text) => (name, Cell::Quoted(text, escape_of(text, TAG_ESCAPES)), true),
                Part::Field(name, cell) => (name, cell, false),
            };
            let (_, target) = found.as_mut().ok_or(BAD)?;
            let column = column(target, part_number, name).map_err(|stop| match stop {
                Stop::Refused if is_tag => Fault::NewTag.whole().into(),
                stop => stop,
            })?;
            part_number += 1;
            let tags = target.schema().tags.len();
            if is_tag != (column <= tags) {
                return Err(Fault::WrongType.at(column).into());
            }
            // A number is not what a field of text or of truth has, though its text would do.
            let field = column.checked_sub(tags + 1).and_then(|field| target.schema().fields.get(field));
            match (cell, field.map(|field| field.field_type)) {
                (Cell::Text(_), Some(FieldType::Utf8 | FieldType::Bool))
                | (Cell::I64(_) | Cell::U64(_) | Cell::Bool(_), Some(FieldType::Utf8)) => {
                    return Err(Fault::WrongType.at(column).into());
                }
                _ => {}
            }
            match cells.get_mut(column) {
                Some(place @ Cell::Null) => *place = cell,
                _ => return Err(Fault::Duplicate.at(column).into()),
            }
            given += usize::from(!is_tag);
            Ok(())
        })?;
        match found {
            Some((number, _)) if given > 0 => Ok((len, number)),
            _ => Err(BAD),
        }
    }

    /// Takes a line apart; its length with its newline.
    #[inline]
    fn parse<'b>(
        &self,
        bytes: &'b [u8],
        last: bool,
        mut part: impl FnMut(Part<'b>) -> std::result::Result<(), Stop>,
    ) -> std::result::Result<usize, Stop> {
        let last = last && bytes.len() <= self.record_bytes_max;
        let bytes = bytes.get(..self.record_bytes_max.min(bytes.len())).unwrap_or_default();
        let mut text = Text { rest: bytes.trim_ascii_start(), last };
        let (name, mut end) = text.until([b',', b' '])?;
        if name.is_empty() {
            return Err(BAD);
        }
        part(Part::Table(name))?;
        let mut parts = 0;
        while end == Some(b',') {
            let (name, equals) = text.until([b'=', b' '])?;
            if equals != Some(b'=') || name.is_empty() {
                return Err(BAD);
            }
            let (value, next) = text.until([b',', b' '])?;
            if value.is_empty() {
                return Err(BAD);
            }
            part(Part::Tag(name, value))?;
            (end, parts) = (next, parts + 1);
        }
        if end != Some(b' ') {
            return Err(BAD);
        }
        text.blanks();
        loop {
            let (name, equals) = text.until([b'=', b' '])?;
            if equals != Some(b'=') || name.is_empty() {
                return Err(BAD);
            }
            let cell = text.value()?;
            part(Part::Field(name, cell))?;
            parts += 1;
            if parts > self.columns_max {
                return Err(Fault::WrongColumns.whole().into());
            }
            if !text.eat(b',') {
                break;
            }
        }
        text.blanks();
        let (time, _) = text.until([b' ', b' '])?;
        let time = time.strip_suffix(b"\r").unwrap_or(time);
        if !time.is_empty() {
            part(Part::Time(time))?;
        }
        text.blanks();
        text.eat(b'\r');
        match text.rest.first() {
            Some(b'\n') => Ok(bytes.len() - text.rest.len() + 1),
            None if last => Ok(bytes.len()),
            None => Err(Stop::Short),
            Some(_) => Err(BAD),
        }
    }
}

/// The target that a line names, whatever is broken behind its name.
fn named(bytes: &[u8], targets: &Targets) -> Option<usize> {
    let (name, _) = Text { rest: bytes.trim_ascii_start(), last: true }.until([b',', b' ']).ok()?;
    targets.names.get(name).copied()
}

/// Text that is taken off from its front.
struct Text<'b> {
    rest: &'b [u8],
    last: bool,
}

impl<'b> Text<'b> {
    /// Text up to one of two bytes that has no backslash before it, or to the end of the line; and the byte, which is taken
    /// too.
    #[inline]
    fn until(&mut self, ends: [u8; 2]) -> std::result::Result<(&'b [u8], Option<u8>), Stop> {
        let mut escaped = false;
        for (at, byte) in self.rest.iter().enumerate() {
            if *byte == b'\n' {
                return Ok((self.take(at), None));
            }
            if ends.contains(byte) && !escaped {
                let text = self.take(at);
                self.rest = self.rest.get(1..).unwrap_or_default();
                return Ok((text, Some(*byte)));
            }
            escaped = *byte == b'\\' && !escaped;
        }
        if self.last { Ok((self.take(self.rest.len()), None)) } else { Err(Stop::Short) }
    }

    fn take(&mut self, len: usize) -> &'b [u8] {
        let (text, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        text
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.rest.first() == Some(&byte);
        self.rest = self.rest.get(usize::from(eaten)..).unwrap_or_default();
        eaten
    }

    fn blanks(&mut self) {
        while self.eat(b' ') {}
    }

    /// The value of a field, up to the comma or the blank behind it.
    #[inline]
    fn value(&mut self) -> std::result::Result<Cell<'b>, Stop> {
        if self.rest.first() == Some(&b'"') {
            let text = self.rest.get(1..).unwrap_or_default();
            let (mut at, mut escape) = (0, Escape::None);
            loop {
                let rest = text.get(at..).unwrap_or_default();
                // A text that is not closed is one line's fault, not that of the lines behind it.
                let Some(found) = memchr::memchr2(b'"', b'\\', rest) else { return Err(Stop::Short) };
                if rest.get(found) == Some(&b'"') {
                    let content = text.get(..at + found).unwrap_or_default();
                    self.rest = text.get(at + found + 1..).unwrap_or_default();
                    return match self.rest.first() {
                        Some(b',' | b' ' | b'\n' | b'\r') => Ok(Cell::Quoted(content, escape)),
                        None if self.last => Ok(Cell::Quoted(content, escape)),
                        None => Err(Stop::Short),
                        Some(_) => Err(BAD),
                    };
                }
                (at, escape) = (at + found + 2, Escape::Backslash(b"\"\\"));
            }
        }
        let is_end = |byte: &u8| matches!(byte, b',' | b' ' | b'\n' | b'\r');
        let len = match self.rest.iter().position(is_end) {
            Some(len) => len,
            None if self.last => self.rest.len(),
            None => return Err(Stop::Short),
        };
        let text = self.take(len);
        plain(text).map_err(|fault| fault.whole().into())
    }
}

/// A field's value without quotes.
#[inline]
fn plain(text: &[u8]) -> std::result::Result<Cell<'_>, Fault> {
    let is_number = |text: &[u8]| matches!(text.first(), Some(b'0'..=b'9' | b'-' | b'+' | b'.'));
    match text {
        [digits @ .., b'i'] if is_number(digits) => Ok(Cell::I64(number::i64(digits)?)),
        [digits @ .., b'u'] if is_number(digits) => Ok(Cell::U64(number::u64(digits)?)),
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Ok(Cell::Bool(true)),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Ok(Cell::Bool(false)),
        number if is_number(number) => {
            // Infinities and NaN have no spelling here.
            let last = number.last().is_some_and(|last| last.is_ascii_digit() || *last == b'.');
            if last { Ok(Cell::Text(number)) } else { Err(Fault::BadNumber) }
        }
        _ => Err(Fault::BadLine),
    }
}

const TAG_ESCAPES: &[u8] = b", =";

fn escape_of(text: &[u8], escapes: &'static [u8]) -> Escape {
    if memchr::memchr(b'\\', text).is_some() { Escape::Backslash(escapes) } else { Escape::None }
}

/// The column of a name, which mostly is where it was in the last line.
#[inline]
fn column(target: &mut Target, number: usize, name: &[u8]) -> std::result::Result<usize, Stop> {
    if let Some((known, column)) = target.shape.get(number)
        && **known == *name
    {
        return Ok(*column);
    }
    let Some(column) = target.names.get(name).copied() else {
        return Err(if target.refused.contains(name) { Stop::Refused } else { Stop::Unknown });
    };
    match target.shape.get_mut(number) {
        Some(place) => *place = (name.into(), column),
        None => target.shape.push((name.into(), column)),
    }
    Ok(column)
}

/// What a piece of text says of one table. Names are in the order of their coming.
struct Seen<'b> {
    spelling: &'b [u8],
    known: HashSet<&'b [u8]>,
    tags: Vec<&'b [u8]>,
    fields: Vec<(&'b [u8], FieldType)>,
}

impl<'b> Seen<'b> {
    fn new(spelling: &'b [u8]) -> Self {
        Self { spelling, known: HashSet::new(), tags: Vec::new(), fields: Vec::new() }
    }
}

impl LineProtocol {
    /// Makes the tables and the fields that `bytes` name and the store lacks. What cannot be made is noted, so that its
    /// lines go to quarantine.
    fn learn(&self, bytes: &[u8], last: bool, targets: &mut Targets) -> Result<()> {
        let (mut seen, mut numbers): (Vec<Seen<'_>>, HashMap<&[u8], usize>) = (Vec::new(), HashMap::new());
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.blank(rest, last) {
                Some(Step::Blank { bytes, .. }) => {
                    at += bytes;
                    continue;
                }
                Some(_) => break,
                None => {}
            }
            // A line that is broken further on says nothing.
            let whole = self.parse(rest, last, |_| Ok(()));
            let Ok(len) = whole else {
                match memchr::memchr(b'\n', rest) {
                    Some(newline) => at += newline + 1,
                    None => break,
                }
                continue;
            };
            let mut table = 0;
            // It was parsed a moment ago.
            let _ = self.parse(rest, last, |part| {
                if let Part::Table(name) = part {
                    table = *numbers.entry(name).or_insert(seen.len());
                    if table == seen.len() {
                        seen.push(Seen::new(name));
                    }
                }
                let Some(seen) = seen.get_mut(table) else { return Ok(()) };
                match part {
                    Part::Tag(name, _) if seen.known.insert(name) => seen.tags.push(name),
                    Part::Field(name, cell) if seen.known.insert(name) => seen.fields.push((name, type_of(cell))),
                    _ => {}
                }
                Ok(())
            });
            at += len;
        }
        seen.into_iter().try_for_each(|table| make(&table, targets))
    }
}

fn type_of(cell: Cell<'_>) -> FieldType {
    match cell {
        Cell::I64(_) => FieldType::I64,
        Cell::U64(_) => FieldType::U64,
        Cell::Bool(_) => FieldType::Bool,
        Cell::Quoted(..) => FieldType::Utf8,
        _ => FieldType::F64,
    }
}

/// A name of this store for one of line protocol's.
fn name_of(spelling: &[u8], is_table: bool) -> String {
    let mut plain = Vec::new();
    let undone = Escape::Backslash(TAG_ESCAPES).undo(spelling, &mut plain);
    let text = String::from_utf8_lossy(if undone.is_ok() { &plain } else { spelling });
    let mut name: String = text
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' })
        .collect();
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        name.insert(0, 'x');
    }
    let what = if is_table { "table" } else { "field" };
    if name.len() < names::NAME_BYTES_MAX && names::check(what, &name).is_err() {
        name.push('_');
    }
    name
}

/// Makes what the store lacks of one table. What cannot be made has no place: its lines go to quarantine.
fn make(seen: &Seen<'_>, targets: &mut Targets) -> Result<()> {
    let table = name_of(seen.spelling, true);
    let known = targets.schema_of(&table);
    let mut schema = Schema::new(&table);
    let tags: Vec<(&[u8], String)> = seen.tags.iter().map(|tag| (*tag, name_of(tag, false))).collect();
    match &known {
        Some(known) => {
            schema.tags.clone_from(&known.tags);
            schema.fields.clone_from(&known.fields);
            schema.policies = known.policies.clone();
        }
        None => {
            for (_, name) in &tags {
                if !schema.tags.contains(name) {
                    schema.tags.push(name.clone());
                }
            }
        }
    }
    let mut fields: Vec<(&[u8], String)> = Vec::new();
    for (spelling, field_type) in &seen.fields {
        let name = name_of(spelling, false);
        let taken = schema.policies.keep_ingest_time && name == names::INGEST_TIME || schema.tags.contains(&name);
        let is_known = schema.fields.iter().any(|field| field.name == name);
        let has_room = schema.fields.len() < targets.fields_max() && names::check("field", &name).is_ok();
        if !taken && !is_known && has_room {
            schema = schema.field(&name, *field_type, "");
        }
        fields.push((*spelling, name));
    }
    let target = targets.names.get(seen.spelling).copied();
    let number = match targets.declare(&schema, target) {
        Ok(number) => number,
        Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Limit) => {
            tracing::debug!(table, %error, "a table of line protocol cannot be made");
            targets.refused.insert(seen.spelling.into());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    targets.names.insert(seen.spelling.into(), number);
    let Some(target) = targets.list.get_mut(number) else { return Ok(()) };
    let schema = target.schema().clone();
    let tag_of = |name: &String| schema.tags.iter().position(|tag| tag == name).map(|tag| 1 + tag);
    let field_of = |name: &String| {
        let field = schema.fields.iter().position(|field| field.name == *name);
        field.map(|field| 1 + schema.tags.len() + field)
    };
    let tags = tags.into_iter().map(|(spelling, name)| (spelling, tag_of(&name)));
    let fields = fields.into_iter().map(|(spelling, name)| (spelling, field_of(&name)));
    for (spelling, column) in tags.chain(fields) {
        match column {
            Some(column) => drop(target.names.insert(spelling.into(), column)),
            None => drop(target.refused.insert(spelling.into())),
        }
    }
    Ok(())
}
