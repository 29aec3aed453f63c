//! JSON text (RFC 8259) of names, values and rows, for people and for tools outside.

use std::fmt::Write;

use super::{FieldType, TableSchema, Value};

/// Appends `text` as a string.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A row as an object: its tags, then its fields, by name. Nothing is lost but the bits of a NaN: integers have all their
/// digits, floats the shortest text that reads back the same, `"NaN"`, `"Infinity"` and `"-Infinity"` are strings because
/// JSON has no such numbers, and decimals are strings because most readers would make floats of them.
pub(crate) fn row(schema: &TableSchema, tags: &[&str], values: &[Value<'_>]) -> String {
    let mut out = String::with_capacity(32 * (tags.len() + values.len()) + 2);
    let mut separator = '{';
    let mut name = |name: &str, out: &mut String| {
        out.push(separator);
        separator = ',';
        quote(name, out);
        out.push(':');
    };
    for (tag, text) in schema.tags.iter().zip(tags) {
        name(tag, &mut out);
        quote(text, &mut out);
    }
    for (field, given) in schema.fields.iter().zip(values) {
        name(&field.name, &mut out);
        value(given, field.field_type, &mut out);
    }
    if out.is_empty() {
        out.push('{');
    }
    out.push('}');
    out
}

fn value(value: &Value<'_>, field_type: FieldType, out: &mut String) {
    // Writing to a string does not fail.
    let _ = match value {
        Value::Null => write!(out, "null"),
        Value::F64(value) if value.is_nan() => write!(out, "\"NaN\""),
        Value::F64(value) if value.is_infinite() => {
            write!(out, "\"{}Infinity\"", if *value < 0.0 { "-" } else { "" })
        }
        // Debug keeps the point and the sign of zero, and takes an exponent where digits would be many.
        Value::F64(value) => write!(out, "{value:?}"),
        Value::I64(value) => write!(out, "{value}"),
        Value::U64(value) => write!(out, "{value}"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Utf8(text) => {
            quote(text, out);
            Ok(())
        }
        Value::Decimal(value) => {
            let scale = if let FieldType::Decimal { scale, .. } = field_type { usize::from(scale) } else { 0 };
            let sign = if *value < 0 { "-" } else { "" };
            let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
            let (whole, part) = digits.split_at(digits.len() - scale);
            let point = if scale > 0 { "." } else { "" };
            write!(out, "\"{sign}{whole}{point}{part}\"")
        }
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::Schema;

    #[test]
    fn every_value_has_a_text_that_says_it_exactly() {
        let schema = Schema::new("t")
            .tag("gate")
            .f64("a", "")
            .f64("b", "")
            .f64("c", "")
            .f64("d", "")
            .f64("e", "")
            .i64("f", "")
            .u64("g", "")
            .bool("h", "")
            .utf8("i", "")
            .decimal("j", 38, 2, "")
            .decimal("k", 38, 38, "")
            .decimal("l", 5, 0, "")
            .f64("m", "");
        let schema = TableSchema::declared(0, &schema);
        let values = [
            f64::NAN.into(),
            f64::INFINITY.into(),
            f64::NEG_INFINITY.into(),
            (-0.0).into(),
            0.1.into(),
            i64::MIN.into(),
            u64::MAX.into(),
            true.into(),
            "a \"quote\", a \\ and a \u{1}".into(),
            Value::Decimal(-5),
            Value::Decimal(i128::MIN),
            Value::Decimal(12_345),
            Value::Null,
        ];
        assert_eq!(
            row(&schema, &["Sei \"Wie\"\n"], &values),
            concat!(
                r#"{"gate":"Sei \"Wie\"\u000a","a":"NaN","b":"Infinity","c":"-Infinity","d":-0.0,"e":0.1,"#,
                r#""f":-9223372036854775808,"g":18446744073709551615,"h":true,"#,
                r#""i":"a \"quote\", a \\ and a \u0001","j":"-0.05","#,
                r#""k":"-1.70141183460469231731687303715884105728","l":"12345","m":null}"#,
            )
        );
        assert_eq!(row(&TableSchema::declared(0, &Schema::new("t")), &[], &[]), "{}");
    }
}
