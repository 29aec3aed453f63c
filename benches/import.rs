//! Imports of text: all of it, from bytes in memory to rows that are synced.
//!
//! ```sh
//! cargo bench --bench import
//! DENYUT_ROWS=4000000 cargo bench --bench import
//! benches/import_peers.py FOLDER          # the same rows by other tools; says how
//! ```
//!
//! Each round imports the same text into the same table under an identity of its own. Sealing is not timed: the store is
//! drained when the clock is stopped.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use denyut::feed::import::{Import, Source};
use denyut::prelude::*;

/// A row's numbers, which look like measurements.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn rows() -> u64 {
    std::env::var("DENYUT_ROWS").map_or(1_000_000, |rows| rows.parse().expect("DENYUT_ROWS is a number"))
}

fn time(row: u64) -> String {
    Time::from_secs(1_767_225_600 + (row / 50) as i64).expect("a time of this century").to_string()
}

/// Three fields, fifty gates.
fn narrow_csv(rows: u64) -> String {
    let (mut text, mut numbers) = ("time,gate,level_cm,flow,alarms\n".to_string(), Numbers(1));
    for row in 0..rows {
        let (level, flow, alarms) = (numbers.next(40_000), numbers.next(1_000_000), numbers.next(5));
        let (time, gate) = (time(row), row % 50);
        let level = level as f64 / 100.0;
        let _ = writeln!(text, "{time},gate {gate:02},{level:.2},{},{alarms}", flow as f64 / 1000.0);
    }
    text
}

fn line_protocol(rows: u64) -> String {
    let (mut text, mut numbers) = (String::new(), Numbers(1));
    for row in 0..rows {
        let (level, flow, alarms) = (numbers.next(40_000), numbers.next(1_000_000), numbers.next(5));
        let seconds = 1_767_225_600 + row / 50;
        let (level, flow, gate) = (level as f64 / 100.0, flow as f64 / 1000.0, row % 50);
        let _ = writeln!(
            text,
            "lines,gate=gate{gate:02} level_cm={level:.2},flow={flow},alarms={alarms}i {seconds}000000000"
        );
    }
    text
}

fn json_lines(rows: u64) -> String {
    let (mut text, mut numbers) = (String::new(), Numbers(1));
    for row in 0..rows {
        let (level, flow, alarms) = (numbers.next(40_000), numbers.next(1_000_000), numbers.next(5));
        let (time, gate, level) = (time(row), row % 50, level as f64 / 100.0);
        let flow = flow as f64 / 1000.0;
        let _ = writeln!(
            text,
            r#"{{"time":"{time}","gate":"gate {gate:02}","level_cm":{level:.2},"flow":{flow},"alarms":{alarms}}}"#
        );
    }
    text
}

fn gauge(table: &str) -> Schema {
    Schema::new(table).tag("gate").f64("level_cm", "cm").f64("flow", "m3/s").i64("alarms", "")
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, import: &Import, schema: Option<Schema>, text: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Store::options().live_bytes_max(4 << 30).seal_threads(0).seal_after(Duration::from_secs(86_400));
    let store = options.open(dir.path().join("store")).expect("a store");
    if let Some(schema) = schema {
        store.table(schema).expect("a table");
    }
    let rows = text.lines().count() as u64 - u64::from(!name.starts_with("line") && !name.starts_with("json"));
    let mut round = 0u64;
    group.throughput(Throughput::Elements(rows));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                round += 1;
                let import = import.clone().identity(round.to_string());
                let began = Instant::now();
                let imported = store.import(&import, Source::reader(name, text.as_bytes())).expect("it is imported");
                spent += began.elapsed();
                assert_eq!((imported.rows, imported.quarantined), (rows, 0), "all rows are taken");
                store.seal().expect("it is sealed");
            }
            spent
        });
    });
    // Known content costs its hash.
    group.bench_function(format!("{name}, known"), |bencher| {
        let import = import.clone().identity(round.to_string());
        bencher.iter(|| {
            let imported = store.import(&import, Source::reader(name, text.as_bytes())).expect("it is known");
            assert_eq!((imported.rows, imported.duplicates), (0, rows));
        });
    });
}

fn imports(criterion: &mut Criterion) {
    let rows = rows();
    let mut group = criterion.benchmark_group("import");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    measure(&mut group, "csv, three fields", &Import::csv("water"), Some(gauge("water")), &narrow_csv(rows));
    measure(&mut group, "line protocol, three fields", &Import::line_protocol(), None, &line_protocol(rows));
    measure(
        &mut group,
        "json lines, three fields",
        &Import::json_lines("water"),
        Some(gauge("water")),
        &json_lines(rows / 4),
    );
    let mut flights = String::new();
    let file =
        std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights.csv.gz")).expect("the data");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut flights).expect("it is text");
    let schema = ["flight", "minute", "distance", "dep_delay", "arr_delay", "air_time"]
        .into_iter()
        .fold(Schema::new("flights").tag("carrier").tag("origin").tag("dest"), |schema, field| schema.i64(field, ""));
    measure(&mut group, "flights", &Import::csv("flights").time("time_hour"), Some(schema), &flights);
    group.finish();
}

/// Writes the texts of the bench, for other tools.
fn write_texts(folder: &std::path::Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("narrow.csv"), narrow_csv(rows())).expect("a file");
}

fn all(criterion: &mut Criterion) {
    match std::env::var_os("DENYUT_TEXTS") {
        Some(folder) => write_texts(folder.as_ref()),
        None => imports(criterion),
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
