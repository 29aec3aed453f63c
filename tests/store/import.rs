//! Files on their way in: real ones twice and through kills, and one in which everything is broken that can be.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use denyut::arrow::array::{Array, AsArray};
use denyut::arrow::datatypes::TimestampNanosecondType;
use denyut::arrow::util::display::{ArrayFormatter, FormatOptions};
use denyut::feed::import::{Import, Imported, Source};
use denyut::prelude::*;

use crate::chance::{Chance, seed, setting};
use crate::child;

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(file)
}

fn flights() -> Schema {
    Schema::new("flights")
        .tag("carrier")
        .tag("origin")
        .tag("dest")
        .i64("flight", "")
        .i64("minute", "min")
        .f64("distance", "mi")
        .i64("dep_delay", "min")
        .i64("arr_delay", "min")
        .i64("air_time", "min")
}

fn weather() -> Schema {
    ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
        .into_iter()
        .fold(Schema::new("weather").tag("origin"), |schema, field| schema.f64(field, ""))
}

fn how(table: &str) -> Import {
    Import::csv(table).time("time_hour")
}

fn counts(imported: Imported) -> (u64, u64, u64) {
    (imported.rows, imported.duplicates, imported.quarantined)
}

/// The rows of a table as text, by the columns `names`, and how often each is there.
fn stored(table: &Table, names: &[String]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for batch in table.scan().unwrap() {
        let batch = batch.unwrap();
        let options = FormatOptions::new();
        let columns: Vec<_> = names
            .iter()
            .map(|name| batch.column_by_name(name).unwrap())
            .map(|column| (column, ArrayFormatter::try_new(column, &options).unwrap()))
            .collect();
        for row in 0..batch.num_rows() {
            let cell =
                |(column, text): &(&denyut::arrow::array::ArrayRef, ArrayFormatter<'_>)| match column
                    .as_primitive_opt::<TimestampNanosecondType>(
                ) {
                    _ if column.is_null(row) => String::new(),
                    Some(times) => Time::from_nanos(times.value(row)).to_string(),
                    None => text.value(row).to_string(),
                };
            *found.entry(columns.iter().map(cell).collect::<Vec<_>>().join(",")).or_default() += 1;
        }
    }
    found
}

/// The rows of a CSV file as [`stored`] has them, by another reader, and the store's names of its columns.
fn expected(text: &str, schema: &Schema) -> (Vec<String>, BTreeMap<String, usize>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header: Vec<String> = reader.headers().unwrap().iter().map(|name| name.replace("time_hour", "time")).collect();
    let is_float = |name: &str| schema.name() == "weather" && !["time", "origin"].contains(&name) || name == "distance";
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record.unwrap();
        let cells = record.iter().zip(&header).map(|(cell, name)| {
            if is_float(name) && !cell.is_empty() {
                let value: f64 = cell.parse().unwrap();
                format!("{value:?}")
            } else {
                cell.to_string()
            }
        });
        *rows.entry(cells.collect::<Vec<_>>().join(",")).or_default() += 1;
    }
    (header, rows)
}

/// A file of the examples, decompressed, and no more than `rows` of it.
fn text_of(file: &str, rows: usize) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(data(file)).unwrap()).read_to_string(&mut text).unwrap();
    text.split_inclusive('\n').take(rows + 1).collect()
}

#[test]
fn flights_and_weather_twice_are_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    for (schema, rows) in [(weather(), 26_115), (flights(), 336_776)] {
        let (name, file) = (schema.name().to_string(), data(&format!("{}.csv.gz", schema.name())));
        // All of the larger file only where that does not take long.
        if rows > 100_000 && cfg!(debug_assertions) && setting("DENYUT_ROWS").is_none() {
            continue;
        }
        let table = store.table(schema.clone()).unwrap();
        let first = store.import(&how(&name), Source::file(&file)).unwrap();
        assert_eq!(counts(first), (rows, 0, 0), "{name}");
        let again = store.import(&how(&name), Source::file(&file)).unwrap();
        assert_eq!(counts(again), (0, rows, 0), "{name}");
        let (columns, expected) = expected(&text_of(&format!("{name}.csv.gz"), usize::MAX - 1), &schema);
        assert!(stored(&table, &columns) == expected, "{name}: rows differ from the file's");
    }
}

#[test]
#[ignore = "the child of the kill test"]
fn child_importer() {
    let Some((path, _)) = child::work() else { return };
    let store = Store::open(&path).unwrap();
    for schema in [weather(), flights()] {
        let name = schema.name().to_string();
        store.table(schema).unwrap();
        let file = path.parent().unwrap().join(format!("{name}.csv"));
        let import = how(&name).chunk_bytes(64 << 10).record_bytes_max(4 << 10);
        child::say(&format!("begin {name}"));
        let imported = store.import(&import, Source::file(file)).unwrap();
        child::say(&format!("end {name} {imported}"));
    }
    child::say("done");
}

#[test]
fn killed_imports_go_on_exactly_where_they_were() {
    let kills = setting("DENYUT_KILLS").unwrap_or(8);
    let rows = setting("DENYUT_ROWS").unwrap_or(12_000) as usize;
    let seed = seed();
    let mut chance = Chance::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let texts = [weather(), flights()].map(|schema| {
        let text = text_of(&format!("{}.csv.gz", schema.name()), rows);
        std::fs::write(dir.path().join(format!("{}.csv", schema.name())), &text).unwrap();
        (schema, text)
    });
    let (mut finished, mut cut) = (0, 0);
    for kill in 0..kills {
        let (mut child, said) = child::start("import::child_importer", &path, seed);
        let mut lines = child::whole_lines(said);
        let begun = lines.by_ref().take_while(|line| line != "done").find(|line| line.starts_with("begin"));
        if begun.is_some() {
            std::thread::sleep(Duration::from_micros(chance.within(0..120_000)));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.signal() == Some(9) || status.success(), "seed {seed}, kill {kill}: {status}");
        let done = lines.any(|line| line == "done");
        (finished, cut) = (finished + u64::from(done), cut + u64::from(!done));
    }
    println!("{cut} imports were cut, {finished} came to their end");
    assert!(cut > 0, "seed {seed}: no import was killed on its way");
    let store = Store::open(&path).unwrap();
    for (schema, text) in texts {
        let name = schema.name().to_string();
        let table = store.table(schema.clone()).unwrap();
        // Under another name, and in pieces of another size.
        let imported = store.import(&how(&name), Source::reader("copy", text.as_bytes())).unwrap();
        let all = text.lines().count() as u64 - 1;
        assert_eq!(imported.rows + imported.duplicates, all, "seed {seed}, {name}: {imported}");
        let (columns, expected) = expected(&text, &schema);
        assert!(stored(&table, &columns) == expected, "seed {seed}, {name}: rows differ from the file's");
        let again = store.import(&how(&name), Source::reader("copy", text.as_bytes())).unwrap();
        assert_eq!(counts(again), (0, all, 0), "seed {seed}, {name}");
    }
}
