//! One round: rows are made and loaded, answers compared, questions timed, and everything told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use workload::devops::{FIELDS, TAGS};
use workload::questions::{Dialect, Question, TYPES, questions};

use crate::answers::Answer;
use crate::peer::Peer;
use crate::{Outcome, Run, data, report};

/// Peers that answer questions, in the order of tables. The first is what answers are compared with.
const ENGINES: [&str; 7] = ["duckdb", "denyut", "duckdb-parquet", "chdb", "datafusion", "polars", "sqlite"];

/// Peers that only take rows, and are ended when they have. One that takes long is judged by what it took in a minute.
const TAKERS: [&str; 2] = ["tsink", "fjall"];

/// Ours.
pub const ARMS: [&str; 3] = ["shipped", "plain", "prepared"];

/// How long a load may take, and how long all questions of one type.
const LOAD_LIMIT: Duration = Duration::from_secs(3_600);
const ASK_LIMIT: Duration = Duration::from_secs(180);

/// What the questions of a type took: by who answered, in milliseconds.
pub type Times = BTreeMap<String, Vec<f64>>;

/// What came of the round.
#[derive(Default)]
pub struct Findings {
    /// By type of question.
    pub times: Vec<(&'static str, Times)>,
    /// By engine: rows a second.
    pub loads: Vec<(String, f64)>,
    /// By engine: bytes a row.
    pub sizes: Vec<(String, f64)>,
    /// By engine.
    pub versions: Vec<(String, String)>,
    /// What each held at most, in KiB.
    pub peaks: Vec<(String, u64)>,
    /// What was not as it should be: disagreements, and peers that were given up.
    pub remarks: Vec<String>,
    /// Answers compared, and their rows.
    pub compared: (usize, usize),
}

/// Who answers: an engine, and an arm if it is ours.
fn contestants(peer: &str) -> Vec<(String, Option<&'static str>)> {
    match peer {
        "denyut" => ARMS.iter().map(|arm| (format!("denyut/{arm}"), Some(*arm))).collect(),
        other => vec![(other.to_string(), None)],
    }
}

fn start(run: &Run, name: &str) -> Outcome<Peer> {
    if TAKERS.contains(&name) {
        let mut command = Command::new(&run.others);
        command.arg(name).arg(run.scale.hosts.to_string()).arg(run.scale.days.to_string()).arg(&run.dir);
        return Peer::start(name, command, &run.dir);
    }
    let mut command = match name {
        "denyut" | "sqlite" => Command::new(std::env::current_exe()?),
        _ => {
            let mut command = Command::new(&run.python);
            command.arg(&run.script);
            command
        }
    };
    if matches!(name, "denyut" | "sqlite") {
        command.arg("worker");
    }
    command.arg(name).arg(&run.dir);
    Peer::start(name, command, &run.dir)
}

/// As a worker is asked.
fn asked(question: &Question, engine: &str) -> Value {
    let columns: Vec<&str> = std::iter::once("time").chain(TAGS).chain(FIELDS).collect();
    match Dialect::of(engine) {
        Some(Dialect::Denyut) => {
            let prepared = question.prepared();
            let prepared = json!({ "sql": prepared.sql, "moments": prepared.moments, "hosts": prepared.hosts });
            json!({ "sql": question.sql(Dialect::Denyut), "prepared": prepared })
        }
        Some(dialect) => json!({ "sql": question.sql(dialect) }),
        None => json!({ "polars": {
            "shape": question.of.shape.name(), "fields": question.fields(), "hosts": question.hosts,
            "start": question.start_ns, "end": question.end_ns, "columns": columns,
        }}),
    }
}

/// Runs everything that `run` says, and prints it.
pub fn run(run: &Run) -> Outcome<()> {
    std::fs::create_dir_all(&run.dir)?;
    forget(&run.dir)?;
    eprintln!("rows: {} hosts, {} days", run.scale.hosts, run.scale.days);
    let mut table = data::devops(run.scale, &run.dir)?;
    let mut findings = Findings::default();
    let mut peers = Vec::new();
    // Ours first: DuckDB reads its files, too.
    let wanted = |name: &&str| run.only.as_ref().is_none_or(|only| only.iter().any(|one| one == name));
    let loading = ["denyut", "duckdb", "duckdb-parquet", "chdb", "datafusion", "polars", "sqlite", "tsink", "fjall"];
    for name in loading.into_iter().filter(wanted) {
        match load(run, name, &mut table, &mut findings) {
            Ok(peer) if TAKERS.contains(&name) => findings.peaks.push((peer.name.clone(), peer.peak_kib)),
            Ok(peer) => peers.push(peer),
            Err(error) => findings.remarks.push(format!("{name}: load: {error}")),
        }
    }
    peers.sort_by_key(|peer| ENGINES.iter().position(|name| *name == peer.name));
    let all: Vec<Vec<Question>> = TYPES.iter().map(|of| questions(*of, run.scale, run.count)).collect();
    let mut wrong = Vec::new();
    for of in &all {
        eprintln!("compare: {}", of[0].of.name);
        compare(run, &mut peers, of, &mut findings, &mut wrong)?;
    }
    for of in &all {
        eprintln!("time: {}", of[0].of.name);
        let times = time(run, &mut peers, of, &wrong, &mut findings);
        findings.times.push((of[0].of.name, times));
    }
    findings.peaks.extend(peers.iter().map(|peer| (peer.name.clone(), peer.peak_kib)));
    if let Some(ours) = peers.iter_mut().find(|peer| peer.name == "denyut") {
        let cold = ours.ask(&json!({ "do": "cold" }), LOAD_LIMIT)?;
        let size = cold["bytes"].as_f64().unwrap_or(0.0) / run.scale.rows() as f64;
        findings.sizes.push(("denyut-cold".into(), size));
    }
    findings.remarks.extend(peers.iter().filter_map(|peer| Some(format!("{}: {}", peer.name, peer.lost.as_ref()?))));
    report::print(run, &findings)?;
    if wrong.is_empty() { Ok(()) } else { Err("answers differ, as told above".into()) }
}

/// Removes what an earlier round loaded; the rows themselves stay.
fn forget(dir: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_string();
        if name.starts_with("cpu") {
            continue;
        }
        if entry.metadata()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn load(run: &Run, name: &str, table: &mut Value, findings: &mut Findings) -> Outcome<Peer> {
    eprintln!("load: {name}");
    let mut peer = start(run, name)?;
    let loaded = peer.ask(&json!({ "do": "load", "tables": [&*table] }), LOAD_LIMIT)?;
    let number = |key: &str| loaded[key].as_f64().unwrap_or(0.0);
    let rows = run.scale.rows() as f64;
    findings.versions.push((name.to_string(), peer.version.clone()));
    if number("seconds") > 0.0 {
        findings.loads.push((name.to_string(), number("rows") / number("seconds")));
        if number("rows") != rows && !TAKERS.contains(&name) {
            return Err(format!("took {} rows of {rows}", number("rows")).into());
        }
    }
    if name == "denyut" {
        findings.sizes.push(("denyut-sealed".into(), number("sealed_bytes") / rows));
        table["files"] = loaded["files"].clone();
    }
    match name {
        "datafusion" => findings.sizes.push(("parquet".into(), number("bytes") / rows)),
        "polars" | "duckdb-parquet" => {}
        _ => findings.sizes.push((name.to_string(), number("bytes") / number("rows").max(1.0))),
    }
    Ok(peer)
}

/// Compares all peers' answers with the first's, question by question.
fn compare(
    run: &Run,
    peers: &mut [Peer],
    questions: &[Question],
    findings: &mut Findings,
    wrong: &mut Vec<(String, &'static str)>,
) -> Outcome<()> {
    let mut references: Vec<Answer> = Vec::new();
    for peer in peers {
        for (who, arm) in contestants(&peer.name) {
            if peer.lost.is_some() || peer.arm(arm).is_err() {
                continue;
            }
            let began = std::time::Instant::now();
            for (at, question) in questions.iter().enumerate() {
                // At least one; and not for minutes.
                if at > 0 && began.elapsed().as_secs_f64() > run.budget_s * 2.0 {
                    break;
                }
                let path = run.dir.join("answer.tsv");
                let command = json!({ "do": "answer", "question": asked(question, &peer.name), "path": path });
                let answer = peer.ask(&command, ASK_LIMIT).and_then(|_| Answer::read(&path));
                let difference = match (answer, references.get(at)) {
                    (Err(error), _) => Some(error.to_string()),
                    (Ok(answer), Some(reference)) => {
                        findings.compared = (findings.compared.0 + 1, findings.compared.1 + answer.len());
                        reference.difference(&answer)
                    }
                    (Ok(answer), None) => {
                        references.push(answer);
                        None
                    }
                };
                if let Some(difference) = difference {
                    let remark = format!("{who}: {}: question {at}: {difference}", question.of.name);
                    eprintln!("{remark}");
                    findings.remarks.push(remark);
                    wrong.push((who.clone(), question.of.name));
                    break;
                }
            }
        }
    }
    Ok(())
}

fn time(
    run: &Run,
    peers: &mut [Peer],
    questions: &[Question],
    wrong: &[(String, &'static str)],
    findings: &mut Findings,
) -> Times {
    let mut times = Times::new();
    for peer in peers {
        for (who, arm) in contestants(&peer.name) {
            let name = questions[0].of.name;
            if wrong.contains(&(who.clone(), name)) || peer.lost.is_some() {
                continue;
            }
            let asked: Vec<Value> = questions.iter().map(|question| asked(question, &peer.name)).collect();
            let command = |budget: f64, least: usize| json!({ "do": "time", "questions": asked, "budget_s": budget, "least": least });
            // Once for the caches, which the comparison may have filled for other arms only.
            let warm = peer.arm(arm).and_then(|()| peer.ask(&command(run.budget_s / 4.0, 1), ASK_LIMIT));
            match warm.and_then(|_| peer.ask(&command(run.budget_s, 3), ASK_LIMIT)) {
                Ok(answer) => {
                    let ms = answer["ms"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
                    times.insert(who, ms);
                }
                Err(error) => findings.remarks.push(format!("{who}: {name}: {error}")),
            }
        }
    }
    times
}
