//! What a caller may hand in: batches of any columns, tables of any names.

use std::sync::Arc;

use arrow::array::{self, Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimeUnit};

use super::{Input, open};
use crate::fs::sim::SimFs;
use crate::prelude::*;

/// A column of any type, with values and nulls from the input.
fn column(input: &mut Input<'_>, rows: usize) -> ArrayRef {
    let unit = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let unit = unit.get(usize::from(input.u8() % 4)).copied().unwrap_or(TimeUnit::Second);
    let (kind, with_nulls, spread) = (input.u8(), input.u8() % 2 == 1, input.u8() % 64);
    let numbers = (0..rows).map(|_| {
        let number = i64::from_le_bytes(*input.take(8).first_chunk().unwrap_or(&[spread; 8])) >> spread;
        (!with_nulls || number % 3 != 0).then_some(number)
    });
    let numbers: ArrayRef = Arc::new(numbers.collect::<array::Int64Array>());
    let to = match kind % 18 {
        0..=2 => DataType::Timestamp(unit, None),
        3 => DataType::Timestamp(unit, Some("+07:00".into())),
        4 => DataType::Int64,
        5 => DataType::Float64,
        6 => DataType::UInt64,
        7 => DataType::Boolean,
        8..=9 => DataType::Utf8,
        10 => DataType::LargeUtf8,
        11 => DataType::Utf8View,
        12 => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        13 => {
            // Keys without nulls, and a value that is one.
            let keys: array::Int8Array = (0..rows).map(|row| Some((row % 3) as i8)).collect();
            let values: array::StringArray = [Some("a"), None, Some("")].into_iter().collect();
            return Arc::new(array::DictionaryArray::new(keys, Arc::new(values)));
        }
        14 => DataType::Decimal128(18, 2),
        15 => DataType::Decimal128(38, 2),
        16 => DataType::Int32,
        _ => DataType::Binary,
    };
    cast(&numbers, &to).unwrap_or(numbers)
}

/// Any batch for a table of every type: each row is taken or refused, and what is taken is there, before a seal and after.
pub fn batch_ingest(bytes: &[u8]) {
    let (fs, mut input) = (SimFs::new(1), Input(bytes));
    let schema = Schema::new("any").tag("tag").f64("f", "").i64("i", "").required("i").u64("u", "").bool("b", "");
    let schema = schema.utf8("s", "").decimal("d", 18, 2, "");
    let store = open(&fs).expect("a whole machine makes a store");
    let table = store.table(schema).expect("the schema is sound");
    let mut writer = table.writer().expect("there is room");
    let count = || table.scan().expect("it is open").map(|batch| batch.expect("it is whole").num_rows()).sum::<usize>();
    let mut taken = 0;
    while !input.0.is_empty() {
        let (rows, names) = (usize::from(input.u8() % 40), input.u16());
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (bit, name) in ["time", "tag", "i", "f", "u", "b", "s", "d", "time", "other"].into_iter().enumerate() {
            // Those that a batch needs are there unless the bit is set, the strange ones only if it is.
            if (names >> bit & 1 == 1) == (bit > 2) {
                let column = column(&mut input, rows);
                fields.push(Field::new(name, column.data_type().clone(), true));
                columns.push(column);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &options);
        let (first, rest) = (input.u8() as usize % (rows + 1), batch.expect("the columns are as long as they say"));
        // A slice, whose arrays do not start at their buffers' start.
        let batch = rest.slice(first, rows - first);
        if let Ok(appended) = writer.append_batch(&batch) {
            let all = appended.accepted() + appended.quarantined() + appended.rejected();
            assert_eq!(all, batch.num_rows() as u64, "{batch:?}");
            taken += appended.accepted() as usize;
        }
        assert_eq!(count(), taken, "{batch:?}");
    }
    store.seal().expect("what was taken can be sealed");
    assert_eq!(count(), taken);
}

/// Names and units of a table, its tags and its fields: declared as they are or refused, and the same after reopening.
pub fn names(bytes: &[u8]) {
    let (fs, mut input) = (SimFs::new(1), Input(bytes));
    let how = input.u8();
    let pieces: Vec<String> = input.pieces().iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
    let mut pieces = pieces.into_iter();
    let table = pieces.next().unwrap_or_default();
    let tags: Vec<String> = pieces.by_ref().take(usize::from(how % 4)).collect();
    let fields: Vec<(String, String)> = std::iter::from_fn(|| Some((pieces.next()?, pieces.next()?))).collect();
    let schema = tags.iter().fold(Schema::new(table.as_str()), |schema, tag| schema.tag(tag.as_str()));
    let add = |schema: Schema, (name, unit): &(String, String)| schema.f64(name.as_str(), unit.as_str());
    let schema = fields.iter().fold(schema, add);
    let store = open(&fs).expect("a whole machine makes a store");
    let declared = store.table(schema.clone());
    let plain = |name: &String| {
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        name.len() <= 63 && name.bytes().all(known) && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
    };
    assert!(declared.is_err() || [&table].into_iter().chain(&tags).all(plain), "{schema:?}");
    assert!(declared.is_err() || fields.iter().all(|(name, _)| plain(name)), "{schema:?}");
    let fine = declared.is_ok();
    drop(declared);
    store.close().expect("it closes");
    drop(store);
    let store = open(&fs).expect("it opens");
    assert_eq!(store.tables().len(), usize::from(fine), "{schema:?}");
    assert_eq!(store.table(schema).is_ok(), fine);
}

/// Any text as CSV, JSON lines or line protocol: every row is taken or in quarantine, and is known the second time, in pieces of
/// another size.
#[cfg(feature = "feed")]
pub fn import_text(bytes: &[u8]) {
    use crate::feed::import::{Import, Source};

    let (fs, mut input) = (SimFs::new(1), Input(bytes));
    let store = open(&fs).expect("a whole machine makes a store");
    let schema = Schema::new("any").tag("tag").f64("f", "").i64("i", "").u64("u", "").bool("b", "");
    store.table(schema.utf8("s", "").decimal("d", 18, 2, "")).expect("the schema is sound");
    let kind = input.u8();
    let csv = || Import::csv("any").header(["time", "tag", "f", "i", "u", "b", "s", "d"]);
    let import = match kind % 5 {
        0 => csv(),
        1 => csv().delimiter(b';').decimal_comma().thousands(b'.').day_first().zone("Europe/Berlin").trim(),
        2 => csv().unix_seconds().quote(Some(b'\'')).comment(b'#').absent_tag("-"),
        3 => Import::json_lines("any"),
        _ => Import::line_protocol(),
    };
    let import = import.bad_permille_max(1_000).record_bytes_max(256);
    let text = input.0;
    let pieces = |chunk_bytes| store.import(&import.clone().chunk_bytes(chunk_bytes), Source::reader("fuzz", text));
    let Ok(first) = pieces(4 << 10) else { return };
    assert_eq!(first.duplicates, 0);
    let again = pieces(64 << 10).expect("what was taken once is known");
    assert_eq!((again.rows, again.quarantined, again.duplicates), (0, 0, first.rows + first.quarantined));
}
