//! One cell of a record, and how it becomes a value of a field.

use super::fault::Fault;
use super::number::{self, Notation};
use crate::model::{FieldType, Value};

/// What a record has in one column. Text is as it stands in the record; its escapes are undone when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(crate) enum Cell<'a> {
    /// Nothing, or the format's null.
    #[default]
    Null,
    /// Text that may mean a number, a time, anything.
    Text(&'a [u8]),
    /// Text in quotes, which is never null.
    Quoted(&'a [u8], Escape),
    F64(f64),
    I64(i64),
    U64(u64),
    Bool(bool),
    /// Digits and how many of them are behind the point.
    Decimal(i128, u8),
    /// Unix nanoseconds.
    Time(i64),
    /// A wall clock, as nanoseconds since it showed 1970.
    Wall(i64),
    /// A time that nanoseconds cannot hold.
    Far,
    /// An object or an array.
    Nested,
}

/// How a quoted text says what it cannot have as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    /// It says everything as it is.
    None,
    /// A doubled quote.
    Doubled(u8),
    /// JSON's.
    Json,
    /// A backslash before any of these, which stands for itself anywhere else.
    Backslash(&'static [u8]),
}

impl Escape {
    /// Appends what `text` says.
    pub(crate) fn undo(self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::None => out.extend_from_slice(text),
            Self::Doubled(quote) => {
                let mut bytes = text.iter();
                while let Some(byte) = bytes.next() {
                    out.push(*byte);
                    if *byte == quote {
                        bytes.next();
                    }
                }
            }
            Self::Json => return undo_json(text, out),
            Self::Backslash(escaped) => {
                let mut bytes = text.iter().peekable();
                while let Some(byte) = bytes.next() {
                    match bytes.peek() {
                        Some(next) if *byte == b'\\' && escaped.contains(next) => {
                            out.push(**next);
                            bytes.next();
                        }
                        _ => out.push(*byte),
                    }
                }
            }
        }
        Ok(())
    }
}

fn undo_json(text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (escape, after) = rest.split_first().ok_or(Fault::BadJson)?;
        rest = after;
        out.push(match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'"' | b'\\' | b'/' => *escape,
            b'u' => {
                let (high, after) = hex(rest)?;
                rest = after;
                let code = if (0xd800..0xdc00).contains(&high) {
                    let (low, after) = hex(rest.strip_prefix(b"\\u").ok_or(Fault::BadJson)?)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(Fault::BadJson);
                    }
                    rest = after;
                    0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                let letter = char::from_u32(code).ok_or(Fault::BadJson)?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return Err(Fault::BadJson),
        });
    }
    Ok(())
}

fn hex(text: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let (digits, rest) = text.split_at_checked(4).ok_or(Fault::BadJson)?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let code = digits.iter().try_fold(0, |code, byte| Some(code * 16 + digit(byte)?));
    Ok((code.ok_or(Fault::BadJson)?, rest))
}

/// How cells are read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) notation: Notation,
    /// Texts without quotes that mean no value, beside the empty one.
    pub(crate) nulls: Vec<Box<[u8]>>,
    /// Whether blanks around tags and text without quotes go. Around numbers and times they always do.
    pub(crate) trim: bool,
}

impl Reading {
    /// Whether the cell has no value.
    pub(crate) fn is_null(&self, cell: Cell<'_>) -> bool {
        match cell {
            Cell::Null => true,
            Cell::Text(text) => {
                let text = text.trim_ascii();
                text.is_empty() || self.nulls.iter().any(|null| **null == *text)
            }
            _ => false,
        }
    }

    /// The cell as text; `scratch` holds it if it does not stand in the record as it is.
    pub(crate) fn text<'a>(&self, cell: Cell<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a str, Fault> {
        scratch.clear();
        let text = match cell {
            Cell::Text(text) if self.trim => text.trim_ascii(),
            Cell::Text(text) | Cell::Quoted(text, Escape::None) => text,
            Cell::Quoted(text, escape) => {
                escape.undo(text, scratch)?;
                scratch
            }
            Cell::Nested => return Err(Fault::Nested),
            Cell::Far => return Err(Fault::OutOfRange),
            Cell::Null => &[],
            plain => {
                scratch.extend_from_slice(plain.to_text().as_bytes());
                scratch
            }
        };
        std::str::from_utf8(text).map_err(|_| Fault::NotUtf8)
    }

    /// The cell as a value of a field. Text is not for this: see [`text`](Self::text).
    pub(crate) fn value(
        &self,
        cell: Cell<'_>,
        field: FieldType,
        scratch: &mut Vec<u8>,
    ) -> Result<Value<'static>, Fault> {
        let text = match cell {
            Cell::Text(text) => text.trim_ascii(),
            Cell::Quoted(text, Escape::None | Escape::Doubled(_)) => text.trim_ascii(),
            Cell::Quoted(..) => return Err(Fault::WrongType),
            typed => return typed.value(field),
        };
        let text = if field == FieldType::Bool { text } else { self.notation.plain(text, scratch)? };
        Ok(match field {
            FieldType::F64 => Value::F64(number::f64(text)?),
            FieldType::I64 => Value::I64(number::i64(text)?),
            FieldType::U64 => Value::U64(number::u64(text)?),
            FieldType::Bool => Value::Bool(number::bool(text)?),
            FieldType::Decimal { precision, scale } => Value::Decimal(number::decimal(text, precision, scale)?),
            FieldType::Utf8 => return Err(Fault::WrongType),
        })
    }
}

impl Cell<'_> {
    /// A typed cell in a field, if the field's type has this very value.
    fn value(self, field: FieldType) -> Result<Value<'static>, Fault> {
        /// Integers up to this are doubles too.
        const EXACT: u64 = 1 << 53;
        Ok(match (self, field) {
            (Self::Null, _) => Value::Null,
            (Self::Nested, _) => return Err(Fault::Nested),
            (Self::Far, _) => return Err(Fault::OutOfRange),
            (Self::F64(value), FieldType::F64) => Value::F64(value),
            (Self::Bool(value), FieldType::Bool) => Value::Bool(value),
            (Self::I64(value), FieldType::I64) => Value::I64(value),
            (Self::U64(value), FieldType::U64) => Value::U64(value),
            (Self::I64(value), FieldType::U64) => Value::U64(value.try_into().map_err(|_| Fault::OutOfRange)?),
            (Self::U64(value), FieldType::I64) => Value::I64(value.try_into().map_err(|_| Fault::OutOfRange)?),
            (Self::I64(value), FieldType::F64) if value.unsigned_abs() <= EXACT => Value::F64(value as f64),
            (Self::U64(value), FieldType::F64) if value <= EXACT => Value::F64(value as f64),
            (Self::I64(_) | Self::U64(_), FieldType::F64) => return Err(Fault::OutOfRange),
            (Self::I64(value), FieldType::Decimal { precision, scale }) => {
                Value::Decimal(number::rescaled(value.into(), 0, precision, scale)?)
            }
            (Self::U64(value), FieldType::Decimal { precision, scale }) => {
                Value::Decimal(number::rescaled(value.into(), 0, precision, scale)?)
            }
            (Self::Decimal(value, from), FieldType::Decimal { precision, scale }) => {
                Value::Decimal(number::rescaled(value, from, precision, scale)?)
            }
            _ => return Err(Fault::WrongType),
        })
    }

    /// What is in it, for people.
    pub(crate) fn to_text(self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Quoted(text, escape) => {
                let mut plain = Vec::new();
                let undone = escape.undo(text, &mut plain);
                String::from_utf8_lossy(if undone.is_ok() { &plain } else { text }).into_owned()
            }
            Self::F64(value) => format!("{value:?}"),
            Self::I64(value) => value.to_string(),
            Self::U64(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Decimal(digits, scale) => format!("{digits}e-{scale}"),
            Self::Time(nanos) | Self::Wall(nanos) => crate::model::Time::from_nanos(nanos).to_string(),
            Self::Far => "a time before 1677 or after 2262".into(),
            Self::Nested => "{..}".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn escapes_are_undone() {
        let undo = |escape: Escape, text: &str| {
            let mut out = Vec::new();
            escape.undo(text.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        assert_eq!(undo(Escape::Doubled(b'"'), r#"a ""b"" c"#).unwrap(), r#"a "b" c"#);
        assert_eq!(undo(Escape::Json, r#"a\n\"\\\/\u00e9\ud83d\ude00"#).unwrap(), "a\n\"\\/é😀");
        for bad in [r"\", r"\x", r"\u12", r"\ud83d", r"\ud83dx", r"\ud83d\u0041", r"\udc00"] {
            assert_eq!(undo(Escape::Json, bad), Err(Fault::BadJson), "{bad}");
        }
        assert_eq!(undo(Escape::Backslash(b", ="), r"a\ b\,c\=d\e\").unwrap(), r"a b,c=d\e\");
    }

    #[test]
    fn a_typed_cell_is_taken_only_if_the_field_has_its_value() {
        let decimal = FieldType::Decimal { precision: 5, scale: 2 };
        assert_eq!(Cell::I64(-1).value(FieldType::U64), Err(Fault::OutOfRange));
        assert_eq!(Cell::U64(u64::MAX).value(FieldType::I64), Err(Fault::OutOfRange));
        assert_eq!(Cell::I64(1 << 53).value(FieldType::F64), Ok(Value::F64(9_007_199_254_740_992.0)));
        assert_eq!(Cell::I64((1 << 53) + 1).value(FieldType::F64), Err(Fault::OutOfRange));
        assert_eq!(Cell::I64(123).value(decimal), Ok(Value::Decimal(12_300)));
        assert_eq!(Cell::I64(1_000).value(decimal), Err(Fault::OutOfRange));
        assert_eq!(Cell::Decimal(12_500, 3).value(decimal), Ok(Value::Decimal(1_250)));
        assert_eq!(Cell::Decimal(12_505, 3).value(decimal), Err(Fault::OutOfRange));
        assert_eq!(Cell::Bool(true).value(FieldType::I64), Err(Fault::WrongType));
        assert_eq!(Cell::F64(1.0).value(FieldType::I64), Err(Fault::WrongType));
    }
}
