//! Comma-separated values, after RFC 4180 and as they are: any delimiter, any line ending, quotes with newlines in them.
//!
//! A quote opens at the start of a column only; one in the middle of a text stands for itself. A record that cannot be
//! split is broken as far as its first line, and the next line is looked at afresh: an open quote must not swallow the
//! rows behind it.

use super::cell::{Cell, Escape};
use super::fault::{Fault, Faulty};
use super::records::Step;

/// How the columns of a line are told apart.
#[derive(Clone, Debug)]
pub(crate) struct Csv {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    /// A line that begins with this is none.
    pub(crate) comment: Option<u8>,
    /// Longest record.
    pub(crate) record_bytes_max: usize,
    pub(crate) columns_max: usize,
    /// Columns that every record has, once a header said so.
    pub(crate) width: Option<usize>,
}

/// Where a record ends: before its line ending, and behind it.
struct End {
    text: usize,
    next: usize,
}

impl Csv {
    /// The first record of `bytes`, into `cells`. `last` says that nothing follows.
    #[inline]
    pub(crate) fn next<'b>(&self, bytes: &'b [u8], last: bool, cells: &mut Vec<Cell<'b>>) -> Step {
        cells.clear();
        let line = match line(bytes, last) {
            Some(end) => end,
            None if bytes.len() > self.record_bytes_max => return self.too_long(bytes),
            None => return Step::More,
        };
        if line.next > self.record_bytes_max {
            return self.too_long(bytes);
        }
        let text = bytes.get(..line.text).unwrap_or_default();
        if text.trim_ascii().is_empty() && !text.contains(&self.delimiter)
            || self.comment.is_some_and(|comment| text.first() == Some(&comment))
        {
            return Step::Blank { bytes: line.next, lines: 1 };
        }
        let quoted = self.quote.filter(|quote| memchr::memchr(*quote, text).is_some());
        let Some(quote) = quoted else {
            // The usual line: its columns are what is between delimiters.
            let mut from = 0;
            for (at, byte) in text.iter().enumerate() {
                if *byte == self.delimiter {
                    cells.push(Cell::Text(text.get(from..at).unwrap_or_default()));
                    from = at + 1;
                }
            }
            cells.push(Cell::Text(text.get(from..).unwrap_or_default()));
            if cells.len() > self.columns_max || self.width.is_some_and(|width| width != cells.len()) {
                return Step::Broken {
                    bytes: line.next,
                    lines: 1,
                    target: Some(0),
                    faulty: Fault::WrongColumns.whole(),
                };
            }
            return Step::Row { bytes: line.next, lines: 1, target: 0 };
        };
        match self.quoted(bytes, last, quote, cells) {
            Ok(Some(end)) => {
                let lines = lines(bytes.get(..end).unwrap_or_default());
                if self.width.is_some_and(|width| width != cells.len()) {
                    return Step::Broken { bytes: end, lines, target: Some(0), faulty: Fault::WrongColumns.whole() };
                }
                Step::Row { bytes: end, lines, target: 0 }
            }
            Ok(None) => Step::More,
            Err(faulty) => Step::Broken { bytes: line.next, lines: 1, target: Some(0), faulty },
        }
    }

    /// Splits a record that has quotes; where it ends, or `None` if that is not there yet.
    fn quoted<'b>(
        &self,
        bytes: &'b [u8],
        last: bool,
        quote: u8,
        cells: &mut Vec<Cell<'b>>,
    ) -> Result<Option<usize>, Faulty> {
        let mut at = 0;
        loop {
            let column = cells.len();
            if column >= self.columns_max {
                return Err(Fault::WrongColumns.whole());
            }
            let rest = bytes.get(at..).unwrap_or_default();
            if rest.first() == Some(&quote) {
                let text = rest.get(1..).unwrap_or_default();
                let Some((len, doubled)) = closing(text, quote, self.record_bytes_max) else {
                    let complete = last || text.len() > self.record_bytes_max;
                    return if complete { Err(Fault::OpenQuote.at(column)) } else { Ok(None) };
                };
                let escape = if doubled { Escape::Doubled(quote) } else { Escape::None };
                cells.push(Cell::Quoted(text.get(..len).unwrap_or_default(), escape));
                at += len + 2;
            } else {
                let is_end = |byte: &u8| *byte == self.delimiter || *byte == b'\n';
                let len = rest.iter().take(self.record_bytes_max + 1).position(is_end);
                let len = match len {
                    Some(len) => len,
                    None if rest.len() > self.record_bytes_max => return Err(Fault::TooLong.at(column)),
                    None if last => rest.len(),
                    None => return Ok(None),
                };
                let text = rest.get(..len).unwrap_or_default();
                let ends = rest.get(len) != Some(&self.delimiter);
                cells.push(Cell::Text(if ends { text.strip_suffix(b"\r").unwrap_or(text) } else { text }));
                at += len;
            }
            if at > self.record_bytes_max {
                return Err(Fault::TooLong.whole());
            }
            let rest = bytes.get(at..).unwrap_or_default();
            match rest {
                [first, ..] if *first == self.delimiter => at += 1,
                [b'\n', ..] => return Ok(Some(at + 1)),
                [b'\r', b'\n', ..] => return Ok(Some(at + 2)),
                [b'\r'] | [] if last => return Ok(Some(at + rest.len())),
                [b'\r'] | [] => return Ok(None),
                _ => return Err(Fault::TextAfterQuote.at(column)),
            }
        }
    }

    /// A record with more bytes than it may have: up to its newline, or all that is there of it.
    fn too_long(&self, bytes: &[u8]) -> Step {
        match memchr::memchr(b'\n', bytes) {
            Some(newline) => {
                Step::Broken { bytes: newline + 1, lines: 1, target: Some(0), faulty: Fault::TooLong.whole() }
            }
            None => Step::Endless { bytes: bytes.len() },
        }
    }
}

/// Where the first line ends.
#[inline]
fn line(bytes: &[u8], last: bool) -> Option<End> {
    match memchr::memchr(b'\n', bytes) {
        Some(newline) => {
            let before = newline.checked_sub(1).and_then(|before| bytes.get(before));
            let text = if before == Some(&b'\r') { newline - 1 } else { newline };
            Some(End { text, next: newline + 1 })
        }
        None if last && !bytes.is_empty() => {
            let text = bytes.strip_suffix(b"\r").unwrap_or(bytes).len();
            Some(End { text, next: bytes.len() })
        }
        None => None,
    }
}

/// Length of a quoted text, and whether there are doubled quotes in it.
fn closing(text: &[u8], quote: u8, max: usize) -> Option<(usize, bool)> {
    let text = text.get(..max.min(text.len()))?;
    let (mut at, mut doubled) = (0, false);
    loop {
        let found = at + memchr::memchr(quote, text.get(at..)?)?;
        if text.get(found + 1) != Some(&quote) {
            return Some((found, doubled));
        }
        (at, doubled) = (found + 2, true);
    }
}

/// Lines that a record spans.
pub(crate) fn lines(record: &[u8]) -> u64 {
    let ended = u64::from(record.last().is_some_and(|last| *last != b'\n'));
    memchr::memchr_iter(b'\n', record).count() as u64 + ended
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    fn csv() -> Csv {
        Csv {
            delimiter: b',',
            quote: Some(b'"'),
            comment: None,
            record_bytes_max: 1 << 10,
            columns_max: 64,
            width: None,
        }
    }

    fn all(text: &[u8]) -> Vec<Result<Vec<String>, Fault>> {
        let (mut at, mut found) = (0, Vec::new());
        while at < text.len() {
            let mut cells = Vec::new();
            match csv().next(&text[at..], true, &mut cells) {
                Step::Row { bytes, .. } => {
                    found.push(Ok(cells.iter().map(|cell| cell.to_text()).collect()));
                    at += bytes;
                }
                Step::Broken { bytes, faulty, .. } => {
                    found.push(Err(faulty.fault));
                    at += bytes;
                }
                Step::Blank { bytes, .. } | Step::Endless { bytes } => at += bytes,
                Step::More => unreachable!("all is there"),
            }
        }
        found
    }

    #[test]
    fn an_open_quote_breaks_its_line_alone() {
        let text = b"1,\"a\n2,b\r\n3,\"c\nd\"\n\n4,\"e\"x\n5,f\"g\n6,\"h";
        let row = |cells: &[&str]| Ok(cells.iter().map(|cell| (*cell).to_string()).collect());
        assert_eq!(
            all(text),
            [
                // The quote closes in the third line, where text follows it.
                Err(Fault::TextAfterQuote),
                row(&["2", "b"]),
                row(&["3", "c\nd"]),
                Err(Fault::TextAfterQuote),
                row(&["5", "f\"g"]),
                Err(Fault::OpenQuote),
            ]
        );
    }

    #[test]
    fn a_record_is_never_cut_by_the_end_of_what_was_read() {
        let text = b"a,\"b\"\"\r\nc\",d\r\n";
        for end in 0..text.len() - 1 {
            assert!(matches!(csv().next(&text[..end], false, &mut Vec::new()), Step::More), "{end}");
        }
        // A return at the very end belongs to the newline behind it.
        let mut cells = Vec::new();
        assert!(matches!(csv().next(text, false, &mut cells), Step::Row { bytes: 14, lines: 2, .. }));
        assert_eq!(cells[1].to_text(), "b\"\r\nc");
        assert_eq!(cells[2], Cell::Text(b"d"));
    }

    proptest! {
        #[test]
        fn what_a_writer_wrote_is_read(rows in prop::collection::vec(
            prop::collection::vec("[a,\"\n\r\u{e9} ]{0,6}", 2..4), 1..8)
        ) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            rows.iter().for_each(|row| writer.write_record(row).unwrap());
            let text = writer.into_inner().unwrap();
            let found: Vec<_> = all(&text).into_iter().map(|row| row.unwrap()).collect();
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn any_bytes_are_split_without_an_end(bytes in prop::collection::vec(
            prop::sample::select(b"a,\"\n\r".to_vec()), 0..60)
        ) {
            all(&bytes);
        }
    }
}
