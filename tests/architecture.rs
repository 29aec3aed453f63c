//! Holds the architecture: imports point down, rooms keep their purpose. `src/docs/architecture.md` says why.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, from the ground up. A room may import what is on its own floor or below, except as said beside.
const FLOORS: &[(&str, u32)] = &[
    ("error", 0),
    ("model", 0),
    ("options", 0),
    ("fs", 1),
    ("sync", 1),
    ("ingest", 2),
    ("storage", 2),
    ("snapshot", 3),
    ("maintain", 3),
    ("care", 3),
    ("query", 4),
    ("feed", 5),
    ("store", 6),
];

/// Imports on one floor that would make two rooms one.
const APART: &[(&str, &str)] =
    &[("ingest", "storage"), ("storage", "ingest"), ("snapshot", "maintain"), ("maintain", "care")];

/// The files that may be unsafe.
const UNSAFE: &[&str] = &["src/fs/mapping.rs", "src/ingest/live_block.rs"];

const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All source files that are not tests, by path from the root, without comment lines and in-file test modules.
fn sources() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                // The simulator and the door for fuzzers are for tests alone.
                if !["tests", "sim", "docs", "fuzzing"].contains(&name) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && !["tests.rs", "sim.rs", "fuzzing.rs"].contains(&name) {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string();
                files.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_string(), code);
            }
        }
    }
    assert!(files.len() > 40, "the source is where it is expected: {}", files.len());
    files
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The room a file is in: the first folder or file below `src`.
fn room(path: &str) -> &str {
    let below = Path::new(path).strip_prefix("src").unwrap().components().next().unwrap();
    below.as_os_str().to_str().unwrap().trim_end_matches(".rs")
}

fn floor(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

#[test]
fn every_room_has_a_floor() {
    let rooms: Vec<String> = sources().keys().map(|path| room(path).to_string()).filter(|room| room != "lib").collect();
    let homeless: Vec<_> = rooms.iter().filter(|room| floor(room).is_none()).collect();
    assert!(homeless.is_empty(), "give these a floor: {homeless:?}");
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let from = room(&path);
        let Some(own) = floor(from) else { continue };
        for (number, line) in code_lines(&text) {
            for after in line.split("crate::").skip(1) {
                let to: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let up = floor(&to).is_some_and(|floor| floor > own);
                if up || APART.contains(&(from, to.as_str())) {
                    wrong.push(format!("{path}:{number}: {from} imports {to}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_the_mapping_and_the_live_block() {
    let is_unsafe = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(path, text)| !UNSAFE.contains(&path.as_str()) && code_lines(text).any(|(_, line)| is_unsafe(line)))
        .map(|(path, _)| path.clone())
        .collect();
    assert!(wrong.is_empty(), "unsafe in {wrong:?}");
}

#[test]
fn the_system_is_called_on_the_ground_floor_only() {
    // Text of a call, and where else it may stand, with the reason.
    let calls: &[(&str, &[&str])] = &[
        ("std::fs::", &["src/fs/", "src/query/session.rs"]), // DataFusion's spill files are its own
        ("rustix::", &["src/fs/", "src/sync.rs"]),           // membarrier orders memory, it is no disk
        ("libc::", &["src/fs/"]),
        ("datafusion::", &["src/query/", "src/feed/", "src/store/mod.rs", "src/store/reader.rs", "src/lib.rs"]),
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (number, line) in code_lines(&text) {
            for (call, homes) in calls {
                if line.contains(call) && !homes.iter().any(|home| path.starts_with(home)) {
                    wrong.push(format!("{path}:{number}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_ordering_is_argued() {
    const REACH_LINES: usize = 12;
    let orders = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"].map(|name| format!("Ordering::{name}"));
    let words = ["relaxed", "acquire", "release", "sequential", "ordering"];
    let argues = |line: &str| {
        let comment = line.split_once("//").map(|(_, comment)| comment.to_lowercase());
        comment.is_some_and(|comment| words.iter().any(|word| comment.contains(word)))
    };
    let (mut seen, mut wrong) = (0, Vec::new());
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in code_lines(&text).filter(|(_, line)| orders.iter().any(|order| line.contains(order))) {
            seen += 1;
            if !lines[number.saturating_sub(REACH_LINES)..number].iter().any(|line| argues(line)) {
                wrong.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(seen > 50, "orderings are written as expected: {seen}");
    assert!(wrong.is_empty(), "say why this ordering suffices, in a comment above:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_fits_a_head() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") && !text.starts_with("#![doc") {
            wrong.push(format!("{path} does not open with what it is for"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path} has {lines} lines: look for the two things in it"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
