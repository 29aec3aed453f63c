//! A peer in a process of its own, which obeys lines of JSON on standard input. `python/worker.py` is the same for peers
//! that are Python packages.

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use denyut::arrow::array::{Array, AsArray, RecordBatch};
use denyut::arrow::compute::cast;
use denyut::arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use serde_json::{Value, json};

use crate::Outcome;

/// A peer.
pub trait Engine {
    /// Its version.
    fn version(&self) -> String;
    /// Takes the rows of `tables`, and says how long that took.
    fn load(&mut self, tables: &[Value]) -> Outcome<Value>;
    /// The answer to a question.
    fn run(&mut self, question: &Value) -> Outcome<Vec<RecordBatch>>;
    /// Anything else.
    fn other(&mut self, command: &Value) -> Outcome<Value> {
        Err(format!("unknown command {command}").into())
    }
}

/// Obeys until standard input ends.
pub fn serve(mut engine: impl Engine) -> Outcome<()> {
    println!("{}", json!({ "version": engine.version() }));
    for line in std::io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let mut answer = obey(&mut engine, &command).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        answer["peak_kib"] = json!(peak_kib("self"));
        println!("{answer}");
    }
    Ok(())
}

/// What a process held at most, in KiB.
pub fn peak_kib(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn obey(engine: &mut impl Engine, command: &Value) -> Outcome<Value> {
    match command["do"].as_str() {
        Some("load") => engine.load(command["tables"].as_array().map_or(&[], Vec::as_slice)),
        Some("answer") => {
            let batches = engine.run(&command["question"])?;
            write_answer(&batches, Path::new(command["path"].as_str().unwrap_or_default()))?;
            Ok(json!({}))
        }
        Some("time") => time(engine, command),
        _ => engine.other(command),
    }
}

/// Milliseconds of each question in turn, over and over, until the budget is spent or each was asked three times.
fn time(engine: &mut impl Engine, command: &Value) -> Outcome<Value> {
    let questions = command["questions"].as_array().map_or(&[][..], Vec::as_slice);
    let budget = Duration::from_secs_f64(command["budget_s"].as_f64().unwrap_or(1.0));
    let least = command["least"].as_u64().unwrap_or(3) as usize;
    let (mut times, began) = (Vec::new(), Instant::now());
    for question in (0..3).flat_map(|_| questions) {
        let started = Instant::now();
        let answer = engine.run(question)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        drop(answer);
        if times.len() >= least && began.elapsed() > budget {
            break;
        }
    }
    Ok(json!({ "ms": times }))
}

fn kind(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Timestamp(..) => "t",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "s",
        DataType::Dictionary(_, value) => kind(value),
        _ => "f",
    }
}

/// One line a row, fields between tabs, below a line that says what each column is.
fn write_answer(batches: &[RecordBatch], path: &Path) -> Outcome<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let Some(first) = batches.first() else {
        return Ok(());
    };
    let schema = first.schema();
    let kinds: Vec<_> = schema.fields().iter().map(|field| kind(field.data_type())).collect();
    writeln!(out, "{}", kinds.join("\t"))?;
    for batch in batches {
        let texts: Vec<Vec<String>> =
            batch.columns().iter().zip(&kinds).map(|(column, kind)| texts(column, kind)).collect::<Outcome<_>>()?;
        for row in 0..batch.num_rows() {
            let line: Vec<&str> = texts.iter().map(|column| column[row].as_str()).collect();
            writeln!(out, "{}", line.join("\t"))?;
        }
    }
    Ok(out.flush()?)
}

/// Times as nanoseconds, text as text, numbers as doubles.
fn texts(column: &dyn Array, kind: &str) -> Outcome<Vec<String>> {
    let text = |value: Option<String>| value.unwrap_or_default();
    Ok(match kind {
        "t" => {
            let zone = match column.data_type() {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let nanos = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, zone))?;
            let nanos = cast(&nanos, &DataType::Int64)?;
            nanos.as_primitive::<Int64Type>().iter().map(|value| text(value.map(|v| v.to_string()))).collect()
        }
        "s" => {
            let column = cast(column, &DataType::Utf8)?;
            column.as_string::<i32>().iter().map(|value| text(value.map(str::to_string))).collect()
        }
        _ => {
            let column = cast(column, &DataType::Float64)?;
            column.as_primitive::<Float64Type>().iter().map(|value| text(value.map(|v| v.to_string()))).collect()
        }
    })
}
