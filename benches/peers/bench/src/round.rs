//! One round: rows are made and loaded, answers compared, questions timed, and everything told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::answers::Answer;
use crate::peer::Peer;
use crate::work::{Kind, Question, Work};
use crate::{Outcome, Run, report};

/// Peers that answer questions, in the order of tables. The first is what answers are compared with.
const ENGINES: [&str; 7] = ["duckdb", "denyut", "duckdb-parquet", "chdb", "datafusion", "polars", "sqlite"];

/// Peers that only take rows, those of TSBS, and are ended when they have. One that takes long is judged by what it
/// took in a minute.
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
    /// Who is not asked what, and why.
    pub left_out: Vec<String>,
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

fn start(run: &Run, work: &Work, name: &str) -> Outcome<Peer> {
    let mut command = match name {
        "denyut" | "sqlite" => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("worker");
            command
        }
        _ if TAKERS.contains(&name) => Command::new(&run.others),
        _ => {
            let mut command = Command::new(&run.python);
            command.arg(&run.script);
            command
        }
    };
    command.arg(name);
    if let (true, Kind::Devops(scale)) = (TAKERS.contains(&name), work.kind) {
        command.arg(scale.hosts.to_string()).arg(scale.days.to_string());
    }
    command.arg(&work.dir);
    Peer::start(name, command, &work.dir)
}

/// Runs everything that `run` says, and prints it: of each work a report when it is done, and all lines for programs
/// last.
pub fn run(run: &Run) -> Outcome<()> {
    let (mut lines, mut wrong) = (String::new(), 0);
    for kind in &run.works {
        let work = Work::new(run, *kind)?;
        eprintln!("work: {}", work.about());
        forget(&work.dir)?;
        let (findings, differ) = one(run, work)?;
        lines += &findings;
        wrong += differ;
    }
    print!("{lines}");
    if wrong == 0 { Ok(()) } else { Err("answers differ, as told above".into()) }
}

/// One work: the lines for programs, and how many contestants gave other answers to a type of question.
fn one(run: &Run, mut work: Work) -> Outcome<(String, usize)> {
    let mut findings = Findings::default();
    let mut peers = load_all(run, &mut work, &mut findings);
    let mut wrong = Vec::new();
    for of in &work.questions {
        compare(run, &work, &mut peers, of, &mut findings, &mut wrong);
    }
    for of in &work.questions {
        eprintln!("time: {}", of[0].name());
        let times = time(run, &mut peers, of, &wrong, &mut findings);
        findings.times.push((of[0].name(), times));
    }
    findings.peaks.extend(peers.iter().map(|peer| (peer.name.clone(), peer.peak_kib)));
    if let Some(ours) = peers.iter_mut().find(|peer| peer.name == "denyut") {
        let cold = ours.ask(&json!({ "do": "cold" }), LOAD_LIMIT)?;
        let size = cold["bytes"].as_f64().unwrap_or(0.0) / work.rows() as f64;
        findings.sizes.push(("denyut-cold".into(), size));
    }
    findings.remarks.extend(peers.iter().filter_map(|peer| Some(format!("{}: {}", peer.name, peer.lost.as_ref()?))));
    Ok((report::print(run, &work, &findings)?, wrong.len()))
}

/// Peers that have all rows, in the order of tables.
fn load_all(run: &Run, work: &mut Work, findings: &mut Findings) -> Vec<Peer> {
    let mut peers = Vec::new();
    let wanted = |name: &&str| run.only.as_ref().is_none_or(|only| only.iter().any(|one| one == name));
    // Ours first: DuckDB reads its files, too.
    let loading = ["denyut", "duckdb", "duckdb-parquet", "chdb", "datafusion", "polars", "sqlite", "tsink", "fjall"];
    for name in loading.into_iter().filter(wanted) {
        if TAKERS.contains(&name) && !matches!(work.kind, Kind::Devops(_)) {
            findings.left_out.push(format!("{name} takes the rows of TSBS only"));
            continue;
        }
        match load(run, work, name, findings) {
            Ok(peer) if TAKERS.contains(&name) => findings.peaks.push((peer.name.clone(), peer.peak_kib)),
            Ok(peer) => peers.push(peer),
            Err(error) => findings.remarks.push(format!("{name}: load: {error}")),
        }
    }
    peers.sort_by_key(|peer| ENGINES.iter().position(|name| *name == peer.name));
    peers
}

/// Removes what an earlier round loaded; the rows themselves stay.
fn forget(dir: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == "rows" {
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

fn load(run: &Run, work: &mut Work, name: &str, findings: &mut Findings) -> Outcome<Peer> {
    eprintln!("load: {name}");
    let mut peer = start(run, work, name)?;
    let loaded = peer.ask(&json!({ "do": "load", "tables": work.tables }), LOAD_LIMIT)?;
    let number = |key: &str| loaded[key].as_f64().unwrap_or(0.0);
    let rows = work.rows() as f64;
    findings.versions.push((name.to_string(), peer.version.clone()));
    if number("seconds") > 0.0 {
        findings.loads.push((name.to_string(), number("rows") / number("seconds")));
        if number("rows") != rows && !TAKERS.contains(&name) {
            return Err(format!("took {} rows of {rows}", number("rows")).into());
        }
    }
    if name == "denyut" {
        findings.sizes.push(("denyut-sealed".into(), number("sealed_bytes") / rows));
        for table in &mut work.tables {
            table["files"] = loaded["files"][table["name"].as_str().unwrap_or_default()].clone();
        }
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
    work: &Work,
    peers: &mut [Peer],
    questions: &[Question],
    findings: &mut Findings,
    wrong: &mut Vec<(String, &'static str)>,
) {
    let (mut references, name) = (Vec::new(), questions[0].name());
    for peer in peers {
        let asked = match asked(questions, &peer.name) {
            Ok(asked) => asked,
            Err(why) => {
                findings.left_out.push(format!("{} {why}: {name}", peer.name));
                continue;
            }
        };
        for (who, arm) in contestants(&peer.name) {
            if peer.lost.is_some() || peer.arm(arm).is_err() {
                continue;
            }
            if let Err(error) = compare_one(run, work, peer, &asked, &mut references, findings) {
                let remark = format!("{who}: {name}: {error}");
                eprintln!("{remark}");
                findings.remarks.push(remark);
                wrong.push((who, name));
            }
        }
    }
    let rows: usize = references.iter().map(Answer::len).sum();
    eprintln!("compared: {name}: {} answers of {rows} rows", references.len());
    if rows == 0 {
        // Nothing is as easily right as that.
        findings.remarks.push(format!("{name}: no answer has a row"));
    }
}

/// Compares one peer's answers with `references`, or makes them those if there are none. The first difference is an
/// error.
fn compare_one(
    run: &Run,
    work: &Work,
    peer: &mut Peer,
    asked: &[Value],
    references: &mut Vec<Answer>,
    findings: &mut Findings,
) -> Outcome<()> {
    let (path, began) = (work.dir.join("answer.tsv"), std::time::Instant::now());
    for (at, question) in asked.iter().enumerate() {
        // At least one; and not for minutes.
        if at > 0 && began.elapsed().as_secs_f64() > run.budget_s * 2.0 {
            break;
        }
        let answer = peer
            .ask(&json!({ "do": "answer", "question": question, "path": path }), ASK_LIMIT)
            .and_then(|_| Answer::read(&path))
            .map_err(|error| format!("question {at}: {error}"))?;
        let Some(reference) = references.get(at) else {
            references.push(answer);
            continue;
        };
        findings.compared = (findings.compared.0 + 1, findings.compared.1 + answer.len());
        if let Some(difference) = reference.difference(&answer) {
            return Err(format!("question {at}: {difference}").into());
        }
    }
    Ok(())
}

/// As a worker is asked all questions of a type, or why it cannot be.
fn asked(questions: &[Question], engine: &str) -> Result<Vec<Value>, &'static str> {
    questions.iter().map(|question| question.asked(engine)).collect()
}

fn time(
    run: &Run,
    peers: &mut [Peer],
    questions: &[Question],
    wrong: &[(String, &'static str)],
    findings: &mut Findings,
) -> Times {
    let (mut times, name) = (Times::new(), questions[0].name());
    for peer in peers {
        // Who cannot be asked was named with the answers.
        let Ok(asked) = asked(questions, &peer.name) else { continue };
        for (who, arm) in contestants(&peer.name) {
            if wrong.contains(&(who.clone(), name)) || peer.lost.is_some() {
                continue;
            }
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
