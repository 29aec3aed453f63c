//! JSON lines: an object a line, whose members are columns. Numbers keep their text, so that decimals stay exact.

use super::cell::{Cell, Escape};
use super::fault::{Fault, Faulty};
use super::records::Step;

/// Reads the members that anybody asks for.
#[derive(Clone, Debug)]
pub(crate) struct JsonLines {
    /// Names of the members, in the order of cells.
    pub(crate) columns: Vec<String>,
    pub(crate) record_bytes_max: usize,
}

/// Deepest object or array in a member that nobody asks for.
const DEPTH_MAX: usize = 64;

impl JsonLines {
    /// The first record of `bytes`, into `cells`.
    pub(crate) fn next<'b>(&self, bytes: &'b [u8], last: bool, cells: &mut Vec<Cell<'b>>) -> Step {
        cells.clear();
        let newline = memchr::memchr(b'\n', bytes);
        let (text, next) = match newline {
            Some(newline) => (bytes.get(..newline).unwrap_or_default(), newline + 1),
            None if bytes.len() > self.record_bytes_max => return Step::Endless { bytes: bytes.len() },
            None if last => (bytes, bytes.len()),
            None => return Step::More,
        };
        if next > self.record_bytes_max {
            return Step::Broken { bytes: next, lines: 1, target: Some(0), faulty: Fault::TooLong.whole() };
        }
        let text = text.trim_ascii();
        if text.is_empty() {
            return Step::Blank { bytes: next, lines: 1 };
        }
        cells.resize(self.columns.len(), Cell::Null);
        match self.object(text, cells) {
            Ok(()) => Step::Row { bytes: next, lines: 1, target: 0 },
            Err(faulty) => Step::Broken { bytes: next, lines: 1, target: Some(0), faulty },
        }
    }

    fn object<'b>(&self, text: &'b [u8], cells: &mut [Cell<'b>]) -> Result<(), Faulty> {
        let bad = || Fault::BadJson.whole();
        let mut text = Text(text);
        let mut given = vec![false; cells.len()];
        let mut unescaped = Vec::new();
        text.eat(b'{').ok_or_else(bad)?;
        if text.eat(b'}').is_none() {
            // Members mostly come in the order of the columns.
            let mut expected = 0;
            loop {
                let Cell::Quoted(name, escape) = text.string().ok_or_else(bad)? else { return Err(bad()) };
                let name = if escape == Escape::None {
                    name
                } else {
                    unescaped.clear();
                    escape.undo(name, &mut unescaped).map_err(Fault::whole)?;
                    &unescaped
                };
                text.eat(b':').ok_or_else(bad)?;
                let value = text.value(0).ok_or_else(bad)?;
                let is = |column: &usize| self.columns.get(*column).is_some_and(|known| known.as_bytes() == name);
                let column = Some(expected).filter(is).or_else(|| (0..self.columns.len()).find(is));
                if let Some(column) = column {
                    expected = column + 1;
                    if let (Some(cell), Some(given)) = (cells.get_mut(column), given.get_mut(column)) {
                        if std::mem::replace(given, true) {
                            return Err(Fault::Duplicate.at(column));
                        }
                        *cell = value;
                    }
                }
                if text.eat(b',').is_none() {
                    break;
                }
            }
            text.eat(b'}').ok_or_else(bad)?;
        }
        if text.0.is_empty() { Ok(()) } else { Err(bad()) }
    }
}

/// Text that is taken off from its front; blanks are taken with what is before them.
struct Text<'b>(&'b [u8]);

impl<'b> Text<'b> {
    fn eat(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        (*first == byte).then(|| self.0 = rest.trim_ascii_start())
    }

    fn string(&mut self) -> Option<Cell<'b>> {
        let text = self.0.strip_prefix(b"\"")?;
        let (mut at, mut escape) = (0, Escape::None);
        loop {
            let found = at + memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
            if text.get(found) == Some(&b'"') {
                let content = text.get(..found)?;
                // Control characters are escaped in JSON.
                if content.iter().any(|byte| *byte < b' ') {
                    return None;
                }
                self.0 = text.get(found + 1..)?.trim_ascii_start();
                return Some(Cell::Quoted(content, escape));
            }
            (at, escape) = (found + 2, Escape::Json);
        }
    }

    fn value(&mut self, depth: usize) -> Option<Cell<'b>> {
        match self.0.first()? {
            b'"' => self.string(),
            b'{' | b'[' if depth < DEPTH_MAX => {
                let object = self.0.first() == Some(&b'{');
                let (open, close) = if object { (b'{', b'}') } else { (b'[', b']') };
                self.eat(open)?;
                if self.eat(close).is_some() {
                    return Some(Cell::Nested);
                }
                loop {
                    if object {
                        self.string()?;
                        self.eat(b':')?;
                    }
                    self.value(depth + 1)?;
                    if self.eat(b',').is_none() {
                        break;
                    }
                }
                self.eat(close)?;
                Some(Cell::Nested)
            }
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r');
                let len = self.0.iter().position(is_end).unwrap_or(self.0.len());
                let (word, rest) = self.0.split_at_checked(len)?;
                self.0 = rest.trim_ascii_start();
                match word {
                    b"null" => Some(Cell::Null),
                    b"true" => Some(Cell::Bool(true)),
                    b"false" => Some(Cell::Bool(false)),
                    number if is_number(number) => Some(Cell::Text(number)),
                    _ => None,
                }
            }
        }
    }
}

/// Whether a text is a number of RFC 8259.
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> (usize, &[u8]) {
        let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (len, text.get(len..).unwrap_or_default())
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let zero = text.first() == Some(&b'0');
    let (whole, mut rest) = digits(text);
    if whole == 0 || zero && whole > 1 {
        return false;
    }
    if let Some(part) = rest.strip_prefix(b".") {
        let (len, after) = digits(part);
        if len == 0 {
            return false;
        }
        rest = after;
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"-").or_else(|| exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let (len, after) = digits(exponent);
        if len == 0 {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, Fault> {
        let columns = ["time", "gate", "level"].map(String::from).to_vec();
        let lines = JsonLines { columns, record_bytes_max: 1 << 10 };
        let mut cells = Vec::new();
        match lines.next(text.as_bytes(), true, &mut cells) {
            Step::Row { .. } => Ok(cells.iter().map(|cell| cell.to_text()).collect()),
            Step::Broken { faulty, .. } => Err(faulty.fault),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn members_are_columns_wherever_they_are() {
        let text = r#" { "level" : -1.50e2 , "x":[1,{"y":null}], "gate":"Sei \"Wie\"", "time":"2026-11-24" } "#;
        assert_eq!(read(text), Ok(["2026-11-24", "Sei \"Wie\"", "-1.50e2"].map(String::from).to_vec()));
        assert_eq!(read(r#"{"gat\u0065":"a"}"#), Ok(["", "a", ""].map(String::from).to_vec()));
        assert_eq!(read("{}"), Ok(vec![String::new(); 3]));
        assert_eq!(read(r#"{"level":[]}"#), Ok(["", "", "{..}"].map(String::from).to_vec()));
    }

    #[test]
    fn what_is_not_json_is_a_fault() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100), "]".repeat(100));
        for bad in [
            "[]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1}{",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":NaN}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"b}",
            "{\"a\":1e}",
            "{\"a\":tru}",
            "nonsense",
            &deep,
        ] {
            assert_eq!(read(bad), Err(Fault::BadJson), "{bad}");
        }
        assert_eq!(read(r#"{"gate":"a","gate":"b"}"#), Err(Fault::Duplicate));
    }
}
