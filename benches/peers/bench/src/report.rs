//! What came of a round, for people and for programs.

use std::fmt::Write as _;

use crate::answers::TOLERANCE;
use crate::round::{ARMS, Findings, Times};
use crate::work::Work;
use crate::{Outcome, Run, THREADS};

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Who answers, in the order of columns, ours first.
fn columns(findings: &Findings) -> Vec<String> {
    let mut found: Vec<String> = ARMS.iter().map(|arm| format!("denyut/{arm}")).collect();
    for (name, _) in &findings.versions {
        let answers = findings.times.iter().any(|(_, times)| times.contains_key(name));
        if answers && !found.contains(name) {
            found.push(name.clone());
        }
    }
    found
}

fn of(times: &Times, who: &str) -> Option<f64> {
    times.get(who).and_then(|times| median(times))
}

/// A peer's median over ours.
fn ratio(times: &Times, peer: &str, arm: &str) -> Option<f64> {
    Some(of(times, peer)? / of(times, &format!("denyut/{arm}"))?)
}

/// Over all types of question that both answered, and how many these are.
fn geomean(findings: &Findings, peer: &str, arm: &str) -> Option<(f64, usize)> {
    let logs: Vec<f64> = findings.times.iter().filter_map(|(_, times)| Some(ratio(times, peer, arm)?.ln())).collect();
    (!logs.is_empty()).then(|| ((logs.iter().sum::<f64>() / logs.len() as f64).exp(), logs.len()))
}

/// The processor, how many, and memory.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let model = cpus.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1.to_string()));
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let load = read("/proc/loadavg");
    format!(
        "{} x {}, {} GiB, load before the end {}",
        std::thread::available_parallelism().map_or(1, usize::from),
        model.unwrap_or_else(|| "unknown processor".into()),
        total.unwrap_or(0_u64) >> 20,
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}

fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// The tables in Markdown, which is what a person reads on a terminal, too.
fn markdown(run: &Run, work: &Work, findings: &Findings) -> String {
    let (columns, mut out) = (columns(findings), String::new());
    let _ = writeln!(out, "{}; {} questions a type, {THREADS} threads each, medians in ms.", work.about(), run.count,);
    let _ = writeln!(out, "Machine: {}.", machine());
    let versions: Vec<String> = findings.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(out, "Versions: {}.", versions.join(", "));
    let _ = writeln!(
        out,
        "{} answers with {} rows were compared; numbers may differ by {TOLERANCE:e} of the larger.\n",
        findings.compared.0, findings.compared.1,
    );
    times_table(findings, &columns, &mut out);
    engines_table(findings, &mut out);
    if !findings.left_out.is_empty() {
        let _ = writeln!(out, "\nLeft out: {}.", findings.left_out.join("; "));
    }
    for remark in &findings.remarks {
        let _ = writeln!(out, "\nRemark: {remark}");
    }
    out
}

/// Medians by type of question, and what they come to by peer.
fn times_table(findings: &Findings, columns: &[String], out: &mut String) {
    let _ = writeln!(out, "| query | {} | duckdb / shipped | duckdb / plain |", columns.join(" | "));
    let _ = writeln!(out, "| --- |{}", " ---: |".repeat(columns.len() + 2));
    for (name, times) in &findings.times {
        let cell = |who: &String| of(times, who).map_or("–".into(), milliseconds);
        let cells: Vec<String> = columns.iter().map(cell).collect();
        let against = |arm| ratio(times, "duckdb", arm).map_or("–".into(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(out, "| {name} | {} | {} | {} |", cells.join(" | "), against("shipped"), against("plain"));
    }
    let _ = writeln!(out, "\n| geometric mean of a peer's median over ours | {} |", ARMS.join(" | "));
    let _ = writeln!(out, "| --- |{}", " ---: |".repeat(ARMS.len()));
    for peer in columns.iter().filter(|who| !who.starts_with("denyut/")) {
        let cell = |arm: &&str| match geomean(findings, peer, arm) {
            Some((mean, count)) => format!("{mean:.2} of {count}"),
            None => "–".into(),
        };
        let _ = writeln!(out, "| {peer} | {} |", ARMS.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
}

/// How fast rows are taken, and how large they are.
fn engines_table(findings: &Findings, out: &mut String) {
    let _ = writeln!(out, "\n| engine | load, rows/s | bytes a row | peak memory, MiB |\n| --- | ---: | ---: | ---: |");
    let mut names: Vec<&String> = Vec::new();
    let all = findings.loads.iter().chain(&findings.sizes).map(|(name, _)| name);
    for name in all.chain(findings.peaks.iter().map(|(name, _)| name)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let find = |list: &[(String, f64)]| list.iter().find(|(one, _)| one == name).map(|(_, value)| *value);
        let load = find(&findings.loads).map_or("–".into(), |value| format!("{value:.0}"));
        let size = find(&findings.sizes).map_or("–".into(), |value| format!("{value:.2}"));
        let peak =
            findings.peaks.iter().find(|(one, _)| one == name).map_or("–".into(), |(_, kib)| (kib >> 10).to_string());
        let _ = writeln!(out, "| {name} | {load} | {size} | {peak} |");
    }
}

/// The last lines, for programs. Engines of any work but TSBS' have its name before theirs, as its questions have.
fn lines(work: &Work, findings: &Findings) -> String {
    let (columns, prefix, mut out) = (columns(findings), work.kind.prefix(), String::new());
    let peers: Vec<&String> = columns.iter().filter(|who| !who.starts_with("denyut/")).collect();
    for peer in &peers {
        for arm in ARMS {
            for (name, times) in &findings.times {
                if let Some(ratio) = ratio(times, peer, arm) {
                    let _ = writeln!(out, "ratio {peer} {arm} {name} {ratio:.3}");
                }
            }
        }
    }
    for (engine, size) in &findings.sizes {
        let _ = writeln!(out, "size {prefix}{engine} {size:.3}");
    }
    for (engine, rate) in &findings.loads {
        let _ = writeln!(out, "load {prefix}{engine} {rate:.0}");
    }
    for peer in &peers {
        for arm in ARMS {
            if let Some((mean, _)) = geomean(findings, peer, arm) {
                let _ = writeln!(out, "geomean {prefix}{peer} {arm} {mean:.3}");
            }
        }
    }
    out
}

/// Prints the tables, leaves `results.md` and `results.svg` below the work's directory, and gives the lines for
/// programs.
pub fn print(run: &Run, work: &Work, findings: &Findings) -> Outcome<String> {
    let tables = markdown(run, work, findings);
    std::fs::write(work.dir.join("results.md"), &tables)?;
    std::fs::write(work.dir.join("results.svg"), plot(work, findings))?;
    println!("{tables}");
    Ok(lines(work, findings))
}

const COLOURS: [&str; 7] = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#9c6b4e"];
const LEFT: f64 = 190.0;
const WIDTH: f64 = 620.0;
const ROW: f64 = 26.0;

/// How many times as long as ours each peer takes, a row a type of question, on a logarithmic axis.
fn plot(work: &Work, findings: &Findings) -> String {
    let peers: Vec<String> = columns(findings).into_iter().filter(|who| !who.starts_with("denyut/")).collect();
    let ratios: Vec<f64> = findings
        .times
        .iter()
        .flat_map(|(_, times)| peers.iter().filter_map(|peer| ratio(times, peer, "shipped")))
        .collect();
    let low = ratios.iter().copied().fold(0.1, f64::min).log10().floor();
    let high = ratios.iter().copied().fold(10.0, f64::max).log10().ceil();
    let x = |ratio: f64| LEFT + (ratio.log10() - low) / (high - low) * WIDTH;
    let (rows, top) = (findings.times.len() as f64, 76.0);
    let (bottom, full) = (top + rows * ROW, LEFT + WIDTH + 20.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{full}\" height=\"{}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"14\">Times as long as denyut takes; right of 1 denyut is faster</text>\n\
         <text x=\"10\" y=\"34\">{}</text>\n",
        bottom + 40.0,
        work.about(),
    );
    for (at, peer) in peers.iter().enumerate() {
        let left = 10.0 + at as f64 * 130.0;
        let _ = writeln!(out, "<circle cx=\"{left}\" cy=\"52\" r=\"5\" fill=\"{}\"/>", COLOURS[at % COLOURS.len()]);
        let _ = writeln!(out, "<text x=\"{}\" y=\"56\">{peer}</text>", left + 9.0);
    }
    for power in low as i32..=high as i32 {
        let (at, label) = (x(10_f64.powi(power)), 10_f64.powi(power));
        let colour = if power == 0 { "#000" } else { "#ccc" };
        let _ = writeln!(out, "<line x1=\"{at}\" y1=\"{top}\" x2=\"{at}\" y2=\"{bottom}\" stroke=\"{colour}\"/>");
        let _ = writeln!(out, "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0);
    }
    for (row, (name, times)) in findings.times.iter().enumerate() {
        let y = top + (row as f64 + 0.5) * ROW;
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, y + 4.0);
        for (at, peer) in peers.iter().enumerate() {
            if let Some(ratio) = ratio(times, peer, "shipped") {
                let colour = COLOURS[at % COLOURS.len()];
                let _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{y}\" r=\"5\" fill=\"{colour}\"/>", x(ratio));
            }
        }
    }
    out + "</svg>\n"
}
