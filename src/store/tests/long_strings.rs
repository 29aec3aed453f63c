//! Strings that do not fit what is left of a block, or any block.

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray};

use super::*;

fn notes() -> Schema {
    Schema::new("notes").tag("writer").utf8("note", "")
}

fn time(number: i64) -> Time {
    Time::from_nanos(1_700_000_000_000_000_000 + number)
}

/// Lengths of all notes, in the order of their rows' times.
fn lengths(table: &Table) -> Vec<usize> {
    let mut found = BTreeMap::new();
    for batch in table.scan().unwrap().map(Result::unwrap) {
        let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>().clone();
        let notes = batch.column_by_name("note").unwrap().as_string_view().clone();
        found.extend(times.values().iter().copied().zip(notes.iter().map(|note| note.unwrap().len())));
    }
    found.into_values().collect()
}

#[test]
fn a_row_that_does_not_fit_its_block_gets_one_that_it_fits() {
    let store = open_sim(&SimFs::new(1)).unwrap();
    let table = store.table(notes()).unwrap();
    let mut writer = table.writer().unwrap();
    let sizes = [10, 20_000, 12, 30_000, 30_000, 13, 40_000];
    for (number, size) in (0..).zip(sizes) {
        let note = "x".repeat(size);
        let _ = writer.append_at(time(number), row! { writer: "a", note: note.as_str() }).unwrap();
    }
    assert_eq!(lengths(&table), sizes);
    // Blocks are of 64 KiB here, heads and columns included.
    let note = "x".repeat(65_000);
    let error = writer.append_at(time(100), row! { writer: "a", note: note.as_str() }).unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { limit: "block_bytes_max", .. }), "{error}");
    let _ = writer.append_at(time(8), row! { writer: "a", note: "y" }).unwrap();
    assert_eq!(lengths(&table).len(), sizes.len() + 1, "the writer goes on");
}

#[test]
fn rows_of_a_batch_go_on_in_the_next_block_when_the_heap_is_full() {
    let store = open_sim(&SimFs::new(2)).unwrap();
    let table = store.table(notes()).unwrap();
    let mut writer = table.writer().unwrap();
    let sizes: Vec<usize> = (0..40).map(|row| [25_000, 3, 9_000, 20_000][row % 4]).collect();
    let times: TimestampNanosecondArray = (0..40).map(|row| Some(time(row).as_nanos())).collect();
    let notes: StringArray = sizes.iter().map(|size| Some("x".repeat(*size))).collect();
    let names: StringArray = sizes.iter().map(|_| Some("a")).collect();
    let columns: [(&str, ArrayRef); 3] =
        [("time", Arc::new(times)), ("writer", Arc::new(names)), ("note", Arc::new(notes))];
    let appended = writer.append_batch(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    assert_eq!(appended.accepted(), 40);
    assert_eq!(lengths(&table), sizes);
}
