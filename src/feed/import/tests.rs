//! Each way in, from text or batches to rows.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, DictionaryArray, Float32Array, Int32Array, ListArray, RecordBatch,
    StringArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;

use super::{Import, Imported, Source, Twice};
use crate::prelude::*;

mod typed;

struct City {
    store: Store,
    dir: tempfile::TempDir,
}

impl City {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("kota")).unwrap();
        Self { store, dir }
    }

    fn with(schema: Schema) -> Self {
        let city = Self::new();
        city.store.table(schema).unwrap();
        city
    }

    fn take(&self, import: &Import, text: &str) -> Imported {
        self.store.import(import, Source::reader("text", text.as_bytes())).unwrap()
    }

    fn refused(&self, import: &Import, text: &str) -> String {
        self.store.import(import, Source::reader("text", text.as_bytes())).unwrap_err().to_string()
    }

    /// The rows of a table as text, sorted.
    fn rows(&self, table: &str) -> Vec<String> {
        let mut rows = Vec::new();
        for batch in self.store.existing(table).unwrap().scan().unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                let cell = |column: &ArrayRef| match column.as_primitive_opt::<TimestampNanosecondType>() {
                    _ if column.is_null(row) => "null".into(),
                    Some(times) => Time::from_nanos(times.value(row)).to_string(),
                    None => array_value_to_string(column, row).unwrap(),
                };
                rows.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join(" | "));
            }
        }
        rows.sort();
        rows
    }

    /// Reasons of what is in quarantine, and how often.
    fn reasons(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        let core = self.store.import_host().core().clone();
        let Some(table) = core.snapshot().table("__quarantine").cloned() else { return reasons };
        for batch in crate::Scan::new(table, core.gate.origin.clone()) {
            let batch = batch.unwrap();
            for reason in batch.column_by_name("reason").unwrap().as_string_view() {
                *reasons.entry(reason.unwrap().to_string()).or_default() += 1;
            }
        }
        reasons
    }
}

fn water() -> Schema {
    Schema::new("water").tag("gate").f64("level_cm", "cm").utf8("note", "")
}

fn counts(imported: Imported) -> (u64, u64, u64) {
    (imported.rows, imported.duplicates, imported.quarantined)
}

const NOON: &str = "2026-11-24T12:00:00Z";

#[test]
fn dialects_of_csv() {
    let city = City::with(water().tag("agency"));
    let import = Import::csv("water")
        .delimiter(b';')
        .quote(Some(b'\''))
        .comment(b'#')
        .skip_lines(2)
        .decimal_comma()
        .thousands(b'.')
        .date_and_clock("Tanggal", "Jam")
        .day_first()
        .zone("Asia/Pontianak")
        .twice(Twice::Earlier)
        .rename("Pintu Air", "gate")
        .rename("Tinggi", "level_cm")
        .constant("agency", "PUPR")
        .nulls(["-", "NA"])
        .trim();
    let text = "Laporan\n\n Tanggal ;Jam;Pintu Air;Tinggi;x;note\r\n\
        # a remark\r\n\
        24/11/2026;19.00; Sei Wie ;1.142,5;?;'it''s; fine'\r\n\
        24/11/2026;07:30:15 PM;Sei Wie;-;?;\r\n\
        \r\n\
        24/11/2026;;Sei Wie;1;?;\r\n\
        24/11/2026;19.00;Sei Wie;1.5;?;''";
    assert_eq!(counts(city.take(&import, text)), (2, 0, 2));
    assert_eq!(
        city.rows("water"),
        [
            "2026-11-24T12:00:00Z | Sei Wie | PUPR | 1142.5 | it's; fine",
            "2026-11-24T12:30:15Z | Sei Wie | PUPR | null | null",
        ]
    );
    assert_eq!(city.reasons(), [("bad_number".into(), 1), ("no_time".into(), 1)].into());
}

#[test]
fn a_source_that_is_not_what_was_said_is_refused_whole() {
    let city = City::with(water());
    let csv = Import::csv("water");
    for (import, text, says) in [
        (csv.clone(), "when,gate,level_cm\n", "no column \"time\""),
        (csv.clone(), "time,level_cm\n", "no column \"gate\""),
        (csv.clone(), "time,gate,x\n", "no column is a field"),
        (csv.clone(), "time,gate,gate,level_cm\n", "twice"),
        (csv.clone().rename("Tinggi", "level_cm"), "time,gate,level_cm\n", "no column \"Tinggi\""),
        (csv.clone().rename("x", "depth"), "time,gate,level_cm\n", "depth"),
        (csv.clone().constant("level_cm", "1"), "time,gate,level_cm\n", "constant"),
        (csv.clone().zone("Mars/Olympus"), "time,gate,level_cm\n", "IANA"),
        (csv.clone().chunk_bytes(1), "time,gate,level_cm\n", "chunk_bytes"),
        (csv.clone().delimiter(b'"'), "time,gate,level_cm\n", "differ"),
        (csv.clone(), "\u{feff}time,gate,\"level_cm\n", "header"),
        (csv.clone().comment(b','), "time,gate,level_cm\n", "differ"),
        (csv.clone().comment(b'"'), "time,gate,level_cm\n", "differ"),
        (csv.clone().thousands(b'.'), "time,gate,level_cm\n", "decimal_comma"),
        (Import::json_lines("water").decimal_comma().thousands(b','), "{}\n", "decimal_comma"),
        (csv.clone().skip_lines(3), "time,gate,level_cm\n2026-11-24,a,1\n", "skip_lines is 3"),
        (csv.clone().skip_lines(1), "time,gate,level_cm", "skip_lines is 1"),
        (csv.clone().skip_lines(1), "time,gate,level_cm\n", "skip_lines is 1"),
        (Import::line_protocol().time("when"), "water level=1 1\n", "line protocol"),
        (Import::line_protocol().date_and_clock("day", "clock"), "water level=1 1\n", "line protocol"),
        (Import::line_protocol().rename("x", "level"), "water level=1 1\n", "line protocol"),
        (Import::line_protocol().constant("gate", "a"), "water level=1 1\n", "line protocol"),
        (Import::csv("nowhere"), "time\n", "unknown table"),
        (Import::csv("__quarantine"), "time\n", "unknown table"),
        (Import::parquet("water"), "PAR1", "give the file"),
        (Import::arrow_ipc("water"), "nonsense", "text"),
        (Import::batches("water"), "x", "batches"),
    ] {
        let error = city.refused(&import, text);
        assert!(error.contains(says), "{text:?}: {error}");
    }
    let small = || csv.clone().chunk_bytes(4 << 10).record_bytes_max(4 << 10);
    let far = format!("{}time,gate,level_cm\n{NOON},a,1\n", "# a remark\n".repeat(1_000));
    assert!(city.refused(&small().comment(b'#'), &far).contains("chunk_bytes"));
    assert!(city.refused(&small().skip_lines(1_000), &far).contains("behind 1000 lines"));
    for (import, text) in [(csv.clone(), "\u{feff}"), (csv.clone(), "\n \r\n"), (csv.clone().skip_lines(3), "")] {
        assert_eq!(counts(city.take(&import, text)), (0, 0, 0), "{text:?}");
    }
    assert!(city.rows("water").is_empty());
    let wide = [b"\xff\xfet\0i\0".as_slice()].concat();
    let error = city.store.import(&csv, Source::reader("wide", &*wide)).unwrap_err();
    assert!(error.to_string().contains("UTF-16"), "{error}");
    let missing = city.store.import(&csv, Source::file(city.dir.path().join("nothing.csv"))).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Storage);
}

#[test]
fn json_lines() {
    let city = City::with(water().decimal("cost", 38, 2, "IDR").bool("ok", ""));
    let text = concat!(
        r#"{"time":"2026-11-24T12:00:00Z","gate":"a","level_cm":1.5e2,"cost":123456789012345678901234.50,"x":{}}"#,
        "\n",
        r#"{"gate":"b","time":"2026-11-24T19:00:00+07:00","note":"\u00e9\n","ok":true,"level_cm":null}"#,
        "\n\n",
        r#"{"time":"2026-11-24T12:00:00Z","gate":"c","level_cm":[1]}"#,
        "\n",
        r#"{"time":"2026-11-24T12:00:00Z","gate":"c","level_cm":"1"}"#,
        "\n",
        r#"{"time":"2026-11-24T12:00:00Z","gate":null}"#,
        "\nnonsense\n",
    );
    let import = Import::json_lines("water").bad_permille_max(1_000);
    assert_eq!(counts(city.take(&import, text)), (3, 0, 3));
    assert_eq!(
        city.rows("water"),
        [
            "2026-11-24T12:00:00Z | a | 150.0 | null | 123456789012345678901234.50 | null",
            "2026-11-24T12:00:00Z | b | null | é\n | null | true",
            "2026-11-24T12:00:00Z | c | 1.0 | null | null | null",
        ]
    );
    assert_eq!(city.reasons(), [("bad_json".into(), 1), ("nested".into(), 1), ("no_tag".into(), 1)].into());
    assert_eq!(counts(city.take(&import, text)), (0, 6, 0));
}

#[test]
fn line_protocol_makes_its_tables() {
    let city = City::new();
    let text = concat!(
        "# a comment\n",
        "air,station=Parit\\ Baru,city=Pontianak pm25=31.5,alarms=2i,ok=t 1795521600000000000\n",
        "air,station=B pm25=30,words=\"two\nlines, \\\"quoted\\\"\",big=18446744073709551615u 1795521600000000001\n",
        "Sensor-Ä temp\\,in=1 1795521600000000000\r\n",
        "air,station=C,new=tag pm25=1 1795521600000000000\n",
        "air,station=D pm25=1 \n",
        "air,station=D alarms=1.5 1795521600000000000\n",
        "air,station=D pm25=1,pm25=2 1795521600000000000\n",
        "air,station=D pm25=\"open 1795521600000000000\n",
        "air,station= pm25=1 1795521600000000000\n",
        "air\n",
        "time time=1,value=2 1795521600000000000\n",
    );
    // What the whole piece of text says of a table makes it, so `new` is a tag from the beginning.
    let import = Import::line_protocol().bad_permille_max(1_000);
    assert_eq!(counts(city.take(&import, text)), (5, 0, 6));
    let air = city.store.existing("air").unwrap().schema();
    assert_eq!(air.tags(), ["station", "city", "new"]);
    assert_eq!(
        city.rows("air"),
        [
            "2026-11-24T12:00:00.000000001Z | B | - | - | 30.0 | null | null | two\nlines, \"quoted\" | 18446744073709551615",
            "2026-11-24T12:00:00Z | C | - | tag | 1.0 | null | null | null | null",
            "2026-11-24T12:00:00Z | Parit Baru | Pontianak | - | 31.5 | 2 | true | null | null",
        ]
    );
    assert_eq!(city.rows("sensor__"), ["2026-11-24T12:00:00Z | 1.0"]);
    assert_eq!(city.rows("time"), ["2026-11-24T12:00:00Z | 1.0 | 2.0"]);
    let reasons = city.reasons();
    assert_eq!(reasons.keys().collect::<Vec<_>>(), ["bad_line", "bad_number", "duplicate", "no_time", "open_quote"]);
    // Later a field is added, a tag is not, and a type stays.
    let more =
        "air,station=A,zone=1 pm25=1 1\nair,station=A no2=4,pm25=2 2\nair,station=A pm25=t 3\nair,station=A ok=1 4\n";
    assert_eq!(counts(city.take(&import, more)), (1, 0, 3));
    assert_eq!(city.store.existing("air").unwrap().schema().fields().last().unwrap().name, "no2");
    assert_eq!(city.reasons()["new_tag"], 1);
    assert_eq!(city.reasons()["wrong_type"], 2);
    assert_eq!(counts(city.take(&import, more)), (0, 4, 0));
    let seconds = Import::line_protocol().unix_seconds();
    city.take(&seconds, "slow v=1 1795521600\n");
    assert_eq!(city.rows("slow"), ["2026-11-24T12:00:00Z | 1.0"]);
}

fn batch(rows: std::ops::Range<i32>) -> RecordBatch {
    let times: TimestampMillisecondArray =
        rows.clone().map(|row| (row != 3).then_some(1_795_521_600_000 + i64::from(row))).collect();
    let gates: DictionaryArray<Int32Type> = rows.clone().map(|row| Some(["a", "b"][row as usize % 2])).collect();
    let levels: Float32Array = rows.clone().map(|row| Some(row as f32 / 2.0)).collect();
    let notes: StringArray = rows.clone().map(|row| (row % 2 == 0).then(|| format!("n{row}"))).collect();
    let counts: Int32Array = rows.clone().map(|row| Some(row - 4)).collect();
    let costs: Decimal128Array = rows.clone().map(|row| Some(i128::from(row) * 10)).collect();
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(rows.map(|_| Some(vec![Some(1)])));
    let columns: [(&str, ArrayRef); 7] = [
        ("time", Arc::new(times)),
        ("gate", Arc::new(gates)),
        ("level_cm", Arc::new(levels)),
        ("note", Arc::new(notes)),
        ("count", Arc::new(counts)),
        ("cost", Arc::new(costs.with_precision_and_scale(10, 3).unwrap())),
        ("list", Arc::new(lists)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

#[test]
fn arrow_in_three_ways_is_one_content() {
    let schema = water().u64("count", "").decimal("cost", 10, 2, "IDR");
    let batches = [batch(0..6), batch(6..1_000)];
    // A missing time, and three more counts that are negative.
    let all = (996, 0, 4);
    let expected = {
        let city = City::with(schema.clone());
        let source = Source::batches("memory", batches[0].schema(), batches.clone());
        assert_eq!(counts(city.store.import(&Import::batches("water"), source).unwrap()), all);
        assert_eq!(city.reasons(), [("no_time".into(), 1), ("out_of_range".into(), 3)].into());
        // Rows are known however they are cut into batches.
        let whole = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let source = Source::batches("whole", whole.schema(), [whole.slice(0, 500), whole.slice(500, 500)]);
        assert_eq!(counts(city.store.import(&Import::batches("water"), source).unwrap()), (0, 1_000, 0));
        city.rows("water")
    };
    assert_eq!(expected[0], "2026-11-24T12:00:00.004Z | a | 2.0 | n4 | 0 | 0.04");

    let city = City::with(schema.clone());
    let path = city.dir.path().join("rows.parquet");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batches[0].schema(), None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    let import = Import::parquet("water");
    assert_eq!(counts(city.store.import(&import, Source::file(&path)).unwrap()), all);
    assert_eq!(city.rows("water"), expected);
    assert_eq!(counts(city.store.import(&import, Source::file(&path)).unwrap()), (0, 1_000, 0));

    let city = City::with(schema);
    let (import, path) = (Import::arrow_ipc("water"), city.dir.path().join("rows.arrow"));
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    assert_eq!(counts(city.store.import(&import, Source::file(&path)).unwrap()), all);
    assert_eq!(city.rows("water"), expected);
    let mut stream = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| stream.write(batch).unwrap());
    let stream = stream.into_inner().unwrap();
    let imported = city.store.import(&import, Source::reader("stream", &*stream)).unwrap();
    assert_eq!(counts(imported), (0, 1_000, 0));
    // A file that claims what it does not have is an error.
    for cut in [10, 100, stream.len() / 2] {
        assert!(city.store.import(&import, Source::reader("cut", &stream[..cut])).is_err(), "{cut}");
    }
    let unsigned = RecordBatch::try_from_iter([("time", Arc::new(UInt64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let source = Source::batches("bare", unsigned.schema(), [unsigned]);
    assert!(city.store.import(&Import::batches("water"), source).is_err());
}

#[test]
fn a_followed_file_gives_whole_lines_as_they_come() {
    let city = City::with(water());
    let path = city.dir.path().join("levels.csv");
    let append = |path: &std::path::Path, text: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let import = Import::csv("water");
    let mut follow = city.store.follow(&import, &path).unwrap();
    assert_eq!(counts(follow.poll().unwrap()), (0, 0, 0));
    append(&path, "time,gate,lev");
    assert_eq!(counts(follow.poll().unwrap()), (0, 0, 0));
    append(&path, &format!("el_cm\n{NOON},a,1\n{NOON},a,"));
    assert_eq!(counts(follow.poll().unwrap()), (1, 0, 0));
    append(&path, "2\n");
    append(&path, &format!("{NOON},a,\"3\n{NOON},a,4\n"));
    // A quote may still be closed.
    assert_eq!(counts(follow.poll().unwrap()), (1, 0, 0));
    append(&path, &format!("\"\n{NOON},a,5\n"));
    assert_eq!(counts(follow.poll().unwrap()), (1, 0, 1));
    // Another import of the same content, meanwhile.
    append(&path, &format!("{NOON},a,6\n"));
    assert_eq!(counts(city.store.import(&import, Source::file(&path)).unwrap()), (1, 4, 0));
    append(&path, &format!("{NOON},a,7\n"));
    assert_eq!(counts(follow.poll().unwrap()), (1, 1, 0));
    // Rotated: the rest of the old one first.
    append(&path, &format!("{NOON},a,8"));
    std::fs::rename(&path, city.dir.path().join("levels.csv.1")).unwrap();
    append(&path, &format!("time,gate,level_cm\n{NOON},b,1\n"));
    assert_eq!(counts(follow.poll().unwrap()), (2, 0, 0));
    // Cut off and written anew.
    std::fs::write(&path, "time,gate,level_cm\n").unwrap();
    assert_eq!(counts(follow.poll().unwrap()), (0, 0, 0));
    append(&path, &format!("{NOON},c,1\n{NOON},c,2\n{NOON},c,3"));
    assert_eq!(counts(follow.poll().unwrap()), (2, 0, 0));
    assert_eq!(counts(follow.close().unwrap()), (1, 0, 0));
    let mut again = city.store.follow(&import, &path).unwrap();
    again.poll().unwrap();
    again.close().unwrap();
    assert_eq!(city.rows("water").iter().filter(|row| row.contains("| c |")).count(), 3);
}

#[test]
fn a_bomb_and_a_stop_end_an_import() {
    let city = City::with(water());
    let mut line = format!("{NOON},a,1,").into_bytes();
    line.resize(1 << 16, b'x');
    line.push(b'\n');
    let bomb = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(b"time,gate,level_cm,note\n").unwrap();
        (0..1_100).for_each(|_| encoder.write_all(&line).unwrap());
        encoder.finish().unwrap()
    };
    let import = Import::csv("water");
    let error = city.store.import(&import, Source::reader("bomb", &*bomb)).unwrap_err();
    assert!(error.to_string().contains("expansion_max"), "{error}");
    let error = city.store.import(&import.clone().content_bytes_max(1 << 20), Source::reader("bomb", &*bomb));
    assert!(error.unwrap_err().to_string().contains("content_bytes_max"));
    let cut = city.store.import(&import.clone().identity("cut"), Source::reader("cut", &bomb[..bomb.len() / 2]));
    assert_eq!(cut.unwrap_err().kind(), ErrorKind::Storage);
    let mut calls = 0;
    let stopped = city.store.import_with(&import, Source::reader("bomb", &*bomb), |progress| {
        calls += 1;
        assert!(progress.done_bytes > 0 && progress.path.ends_with("bomb"));
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(Error::Stopped { what: "import" })) && calls == 1);
    // A record without an end is one broken row, however long it is, and the next line is fine.
    let city = City::with(water());
    let mut endless = b"time,gate,level_cm\n".to_vec();
    endless.resize(3 << 20, b'x');
    endless.extend_from_slice(format!("\n{NOON},a,1\n").as_bytes());
    let imported = city.store.import(&Import::csv("water"), Source::reader("endless", &*endless)).unwrap();
    assert_eq!(counts(imported), (1, 0, 1));
    let small = Import::csv("water").identity("small").chunk_bytes(64 << 10).record_bytes_max(1 << 10);
    let imported = city.store.import(&small, Source::reader("endless", &*endless)).unwrap();
    // Its beginning and its end.
    assert_eq!(counts(imported), (1, 0, 2));
}
