//! Runs `tests/slt/*.slt`: what SQL functions answer, in the format of sqllogictest.
//!
//! A file whose first line is `# Over a store.` is run over the store of [`water`], in a session that may read alone.
//!
//! Records are separated by empty lines; lines that begin with `#` are comments.
//!
//! ```text
//! statement ok
//! CREATE TABLE t AS VALUES (1)
//!
//! statement error the words that the error has
//! SELECT nothing
//!
//! query II rowsort
//! SELECT column1, column1 + 1 FROM t
//! ----
//! 1 2
//! ```
//!
//! The letters say how many columns there are. Rows are in order, or sorted as text with `rowsort`; values are separated
//! by one space, null is `NULL`, and an empty text `(empty)`. Each file is run with one partition and large batches, and
//! with several and small ones. `DENYUT_SLT=write` writes the answers found into the files, to be read before they are
//! believed.

use std::fmt::Write;
use std::path::Path;

use denyut::arrow::util::display::{ArrayFormatter, FormatOptions};
use denyut::datafusion::error::Result;
use denyut::datafusion::prelude::{SessionConfig, SessionContext};
use denyut::prelude::*;

/// One statement or query.
struct Record {
    line: usize,
    comments: String,
    header: String,
    sql: String,
    rows: Vec<String>,
}

fn records(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    let mut comments = String::new();
    while let Some((number, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            comments += &format!("{line}\n");
            continue;
        }
        let record = |line: &(usize, &str)| !line.1.is_empty();
        let block: Vec<&str> = std::iter::from_fn(|| lines.next_if(record)).map(|(_, line)| line).collect();
        let end = block.iter().position(|line| *line == "----").unwrap_or(block.len());
        let rows = block.iter().skip(end + 1).map(ToString::to_string).collect();
        let (comments, header) = (std::mem::take(&mut comments), line.to_string());
        records.push(Record { line: number + 1, comments, header, sql: block[..end].join("\n"), rows });
    }
    records
}

async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<Vec<String>>> {
    let batches = context.sql(sql).await?.collect().await?;
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let shown = |column: &ArrayFormatter, row| Some(column.value(row).to_string()).filter(|text| !text.is_empty());
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| shown(column, row).unwrap_or("(empty)".into())).collect());
        }
    }
    Ok(rows)
}

/// Runs a record, and gives the rows that it has now, or what is wrong.
async fn run(context: &SessionContext, record: &Record) -> std::result::Result<Vec<String>, String> {
    let answer = rows(context, &record.sql).await;
    if let Some(wanted) = record.header.strip_prefix("statement error ") {
        let error = answer.err().ok_or("no error")?.to_string();
        return if error.contains(wanted) { Ok(Vec::new()) } else { Err(format!("another error: {error}")) };
    }
    let answer = answer.map_err(|error| error.to_string())?;
    if record.header == "statement ok" {
        return Ok(Vec::new());
    }
    let mut words = record.header.split(' ');
    let (Some("query"), Some(types)) = (words.next(), words.next()) else { return Err("what is this record?".into()) };
    if let Some(row) = answer.iter().find(|row| row.len() != types.len()) {
        return Err(format!("{} columns in {row:?}", row.len()));
    }
    let mut lines: Vec<String> = answer.iter().map(|row| row.join(" ")).collect();
    if words.next() == Some("rowsort") {
        lines.sort();
    }
    Ok(lines)
}

fn session(partitions: usize, batch_rows: usize) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(batch_rows);
    config.options_mut().execution.time_zone = Some("UTC".into());
    // Partial aggregates that give up early are one more way to an answer.
    config.options_mut().execution.skip_partial_aggregation_probe_rows_threshold = batch_rows;
    let context = SessionContext::new_with_config(config);
    denyut::query::register(&context).unwrap();
    context
}

/// Three gates: one whose latest level is null, one with two rows of its latest time, one that is live alone.
fn water(dir: &Path) -> denyut::Result<Store> {
    let store = Store::open(dir.join("kota"))?;
    let schema = Schema::new("water").tag("gate").tag("agency").i64("number", "").f64("level_cm", "cm");
    let mut writer = store.table(schema)?.writer()?;
    // 2026-01-01T00:00:00Z.
    let start = Time::from_secs(1_767_225_600)?;
    let mut append = |gate: &str, minute: i64, number: i64, level: Option<f64>| {
        let time = Time::from_nanos(start.as_nanos() + minute * 60_000_000_000);
        let agency = if gate == "Sei Wie" { "PUPR" } else { "BPBD" };
        writer.append_at(time, row! { gate: gate, agency: agency, number: number, level_cm: level }).map(|_| ())
    };
    for minute in 0..180 {
        append("Sei Wie", minute, minute, (minute < 178).then_some(minute as f64 / 2.0))?;
        append("Kuala Dua", minute, minute, Some(minute as f64))?;
    }
    store.seal()?;
    append("Kuala Dua", 200, 200, Some(7.0))?;
    append("Kuala Dua", 200, 201, Some(6.0))?;
    append("Kuala Dua", 10, 202, Some(1_000.0))?;
    append("Parit Tokaya", 100, 203, Some(3.0))?;
    Ok(store)
}

async fn run_file(path: &Path, context: &SessionContext, failures: &mut String) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    let writes = std::env::var("DENYUT_SLT").is_ok_and(|value| value == "write");
    let mut written = String::new();
    let records = records(&text);
    for record in &records {
        let found = run(context, record).await;
        let rows = found.as_ref().unwrap_or(&record.rows);
        written += &format!("{}{}\n{}\n", record.comments, record.header, record.sql);
        if record.header.starts_with("query") {
            written += &format!("----\n{}", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
        }
        let place = format!("{}:{}", path.file_name().unwrap().display(), record.line);
        match found {
            Err(error) => writeln!(failures, "{place}: {error}\n{}\n", record.sql).unwrap(),
            Ok(found) if found != record.rows && !writes => {
                let (wanted, found) = (record.rows.join("\n"), found.join("\n"));
                writeln!(failures, "{place}\n{}\nwanted\n{wanted}\nfound\n{found}\n", record.sql).unwrap();
            }
            Ok(_) => {}
        }
    }
    if writes {
        std::fs::write(path, written).unwrap();
    }
    records.len()
}

#[test]
fn sql_functions_answer_as_the_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "slt"));
    files.retain(|path| cfg!(feature = "geo") || !path.ends_with("geo.slt"));
    files.sort();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut failures = String::new();
    let mut count = 0;
    for path in &files {
        if std::fs::read_to_string(path).unwrap().starts_with("# Over a store.\n") {
            let dir = tempfile::tempdir().unwrap();
            let store = water(dir.path()).unwrap();
            count += runtime.block_on(run_file(path, &store.session(), &mut failures));
            continue;
        }
        count += runtime.block_on(run_file(path, &session(1, 8_192), &mut failures));
        runtime.block_on(run_file(path, &session(3, 2), &mut failures));
    }
    println!("{count} records in {} files", files.len());
    assert!(failures.is_empty(), "{failures}");
}
