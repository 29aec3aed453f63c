//! What Arrow's types mean, and files and streams of Arrow that claim what is not so.

use arrow::array::{Date32Array, Date64Array, Int64Array, TimestampNanosecondArray, TimestampSecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::ipc::writer::{FileWriter, StreamWriter};

use super::*;
use crate::model::quarantine;

fn one_column(time: ArrayRef) -> RecordBatch {
    let gates: StringArray = (0..time.len()).map(|_| Some("a")).collect();
    let levels: Float32Array = (0..time.len()).map(|row| Some(row as f32)).collect();
    let columns: [(&str, ArrayRef); 3] = [("time", time), ("gate", Arc::new(gates)), ("level_cm", Arc::new(levels))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

/// The times of a batch's rows by `import`, and the reasons of those that have none.
fn times(import: &Import, time: ArrayRef) -> (Vec<String>, BTreeMap<String, usize>) {
    let city = City::with(water());
    let batch = one_column(time);
    city.store.import(import, Source::batches("memory", batch.schema(), [batch])).unwrap();
    let time_of = |row: &String| row.split(" | ").next().unwrap().to_string();
    (city.rows("water").iter().map(time_of).collect(), city.reasons())
}

#[test]
fn times_without_an_offset_are_a_wall_clock_of_the_zone() {
    let none = BTreeMap::new;
    let plain = Import::batches("water");
    let pontianak = plain.clone().zone("Asia/Pontianak");
    let noon = 1_795_521_600;
    let seconds = || Arc::new(TimestampSecondArray::from(vec![noon])) as ArrayRef;
    let says = |text: &str| (vec![text.to_string()], none());
    assert_eq!(times(&plain, seconds()), says("2026-11-24T12:00:00Z"));
    assert_eq!(times(&pontianak, seconds()), says("2026-11-24T05:00:00Z"));
    let coded = arrow::compute::cast(
        &seconds(),
        &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Timestamp(TimeUnit::Second, None))),
    );
    assert_eq!(times(&pontianak, coded.unwrap()), says("2026-11-24T05:00:00Z"));
    let with_zone = Arc::new(TimestampSecondArray::from(vec![noon]).with_timezone("+09:00"));
    assert_eq!(times(&pontianak, with_zone), says("2026-11-24T12:00:00Z"));
    // A day begins at its midnight.
    let days = Arc::new(Date32Array::from(vec![20_781]));
    assert_eq!(times(&pontianak, days), says("2026-11-23T17:00:00Z"));
    let days = Arc::new(Date64Array::from(vec![20_781 * 86_400_000]));
    assert_eq!(times(&pontianak, days), says("2026-11-23T17:00:00Z"));
    // An hour that the clocks showed twice, one that they never showed, and nanoseconds before 1970.
    let second = |text: &str| text.parse::<Time>().unwrap().as_nanos();
    let odd = ["2026-10-25T02:30:00Z", "2026-03-29T02:30:00Z", "1969-12-31T23:59:59.9Z"].map(second);
    let (found, reasons) =
        times(&plain.clone().zone("Europe/Berlin"), Arc::new(TimestampNanosecondArray::from(odd.to_vec())));
    assert_eq!(found, ["1969-12-31T22:59:59.900Z"]);
    assert_eq!(reasons, [("ambiguous_time".into(), 1), ("skipped_time".into(), 1)].into());
    let end = Arc::new(TimestampNanosecondArray::from(vec![i64::MIN]));
    assert_eq!(times(&pontianak, end).1, [("bad_time".into(), 1)].into());
}

#[test]
fn counts_and_times_beyond_all_time() {
    let millis = Import::batches("water").unix_millis();
    let noon = "2026-11-24T12:00:00Z".to_string();
    for counts in [
        Arc::new(UInt64Array::from(vec![1_795_521_600_000, u64::MAX])) as ArrayRef,
        Arc::new(Int64Array::from(vec![1_795_521_600_000, i64::MIN])),
    ] {
        let expected = (vec![noon.clone()], [("bad_time".into(), 1)].into());
        assert_eq!(times(&millis, counts), expected);
    }
    let plain = Import::batches("water");
    let none = (Vec::<String>::new(), [("bad_time".into(), 1), ("no_time".into(), 1)].into());
    // Their product with a million is 1970, but for bits that are not there.
    assert_eq!(times(&plain, Arc::new(Date64Array::from(vec![Some(1 << 58), None]))), none);
    assert_eq!(times(&plain, Arc::new(Date32Array::from(vec![Some(i32::MAX), None]))), none);
    assert_eq!(times(&plain, Arc::new(TimestampMillisecondArray::from(vec![Some(1 << 58), None]))), none);
    // In a field such a time is none that text could have.
    let city = City::with(water());
    let note: ArrayRef = Arc::new(Date64Array::from(vec![1 << 58]));
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    let whole = one_column(Arc::new(TimestampSecondArray::from(vec![1_795_521_600])));
    for (field, column) in whole.schema().fields().iter().zip(whole.columns()) {
        columns.push((field.name().clone(), column.clone()));
    }
    columns.push(("note".into(), note));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    city.store.import(&plain, Source::batches("memory", batch.schema(), [batch])).unwrap();
    assert_eq!(city.reasons(), [("out_of_range".into(), 1)].into());
}

#[test]
fn a_row_of_arrow_has_a_limit_too() {
    let city = City::with(water());
    let times: TimestampSecondArray = (0..50).map(|row| Some(1_795_521_600 + row)).collect();
    let gates: StringArray = (0..50).map(|_| Some("a")).collect();
    let levels: Float32Array = (0..50).map(|row| Some(row as f32)).collect();
    let notes: StringArray = (0..50).map(|row| (row % 10 == 3).then(|| "x".repeat(40 << 10))).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("time", Arc::new(times)),
        ("gate", Arc::new(gates)),
        ("level_cm", Arc::new(levels)),
        ("note", Arc::new(notes)),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
    let small = Import::batches("water").chunk_bytes(4 << 10).record_bytes_max(1 << 10);
    let source = |name: &str| Source::batches(name, batch.schema(), [batch.clone()]);
    assert_eq!(counts(city.store.import(&small, source("small")).unwrap()), (45, 0, 5));
    assert_eq!(city.reasons(), [("too_long".into(), 5)].into());
    assert_eq!(counts(city.store.import(&small, source("again")).unwrap()), (0, 50, 0));
}

/// Replaces each of `bytes` that is the `length` by `claim`, and gives how often.
fn claim(bytes: &mut [u8], length: i64, claim: i64) -> usize {
    let mut found = 0;
    for at in (0..bytes.len() - 8).step_by(4) {
        if bytes[at..at + 8] == length.to_le_bytes() {
            bytes[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            found += 1;
        }
    }
    found
}

#[test]
fn arrow_that_claims_what_it_does_not_have_is_an_error() {
    let city = City::with(water());
    let batch = one_column(Arc::new(TimestampSecondArray::from_iter_values(0..1_000)));
    let import = Import::arrow_ipc("water");
    let stream = {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    };
    let file = {
        let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    };
    let path = city.dir.path().join("hostile.arrow");
    let body = {
        let end = file.len() - 10;
        let length = u32::from_le_bytes(file[end..end + 4].try_into().unwrap()) as usize;
        let footer = arrow::ipc::root_as_footer(&file[end - length..end]).unwrap();
        footer.recordBatches().unwrap().get(0).bodyLength()
    };
    for length in [-1, i64::MIN, 1 << 46, i64::MAX] {
        let mut bytes = stream.clone();
        assert!(claim(&mut bytes, body, length) > 0);
        let error = city.store.import(&import, Source::reader("stream", &*bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let mut bytes = file.clone();
        assert!(claim(&mut bytes, body, length) > 1);
        std::fs::write(&path, bytes).unwrap();
        let error = city.store.import(&import, Source::file(&path)).unwrap_err();
        assert!(error.to_string().contains("not in the file"), "{length}: {error}");
    }
    let mut bytes = file.clone();
    let end = bytes.len() - 10;
    for length in [i32::MIN, -1, i32::MAX] {
        bytes[end..end + 4].copy_from_slice(&length.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(city.store.import(&import, Source::file(&path)).unwrap_err().kind(), ErrorKind::Invalid);
    }
    // Any byte of either may be another.
    for at in (0..1_500).step_by(7) {
        let mut bytes = stream.clone();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << (at % 8);
        }
        let _ = city.store.import(&import.clone().identity(at.to_string()), Source::reader("stream", &*bytes));
    }
    // What is whole is taken, with a mark at its end or without, and also if there is no batch.
    for end in [stream.len(), stream.len() - 8] {
        let city = City::with(water());
        let imported = city.store.import(&import, Source::reader("whole", &stream[..end])).unwrap();
        assert_eq!(counts(imported), (1_000, 0, 0));
    }
    let empty = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap().into_inner().unwrap();
    for end in [empty.len(), empty.len() - 8] {
        let imported = city.store.import(&import, Source::reader("empty", &empty[..end])).unwrap();
        assert_eq!(counts(imported), (0, 0, 0));
    }
}

#[test]
fn broken_lines_are_of_the_table_they_name() {
    let city = City::new();
    let text = "air,station=A pm25=1 1\nwater,gate=a level=1 1\nwater,gate=a level=x 2\nair,station=A\nwater\\ x,a=b c=1 1\n\
                water\\ x,a=b c=x 1\n,\n  water nonsense\nair,station=A pm25=t 3\n";
    let imported = city.take(&Import::line_protocol().bad_permille_max(1_000), text);
    assert_eq!(counts(imported), (3, 0, 6));
    let core = city.store.import_host().core().clone();
    let table = core.snapshot().table(quarantine::TABLE).cloned().unwrap();
    let mut found = BTreeMap::new();
    for batch in crate::Scan::new(table, core.gate.origin.clone()) {
        let batch = batch.unwrap();
        let lines = batch.column_by_name("line").unwrap().as_primitive::<arrow::datatypes::UInt64Type>();
        for (line, table) in lines.values().iter().zip(batch.column_by_name("table_name").unwrap().as_string_view()) {
            found.insert(*line, table.unwrap().to_string());
        }
    }
    let expected =
        [(3, "water"), (4, "air"), (6, "water_x"), (7, crate::model::imports::ANY_TABLE), (8, "water"), (9, "air")];
    assert_eq!(found, expected.map(|(line, table)| (line, table.to_string())).into());
}
