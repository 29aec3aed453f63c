//! A worker as the run sees it: a child process that answers in time and within its memory, or is given up.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Outcome;

/// What a worker may hold, before it is ended.
pub const MEMORY_KIB: u64 = 10 << 20;

/// A worker, until it fails.
pub struct Peer {
    /// As tables name it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Why it is not asked any more.
    pub lost: Option<String>,
    /// What it held at most, in KiB.
    pub peak_kib: u64,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Peer {
    /// Starts `command`; its words on standard error go to a file of its name below `dir`.
    pub fn start(name: &str, mut command: Command, dir: &Path) -> Outcome<Self> {
        let log = std::fs::File::create(dir.join(format!("{name}.log")))?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (name, version, peak_kib) = (name.to_string(), String::new(), 0);
        let mut peer = Self { name, version, lost: None, peak_kib, child, stdin, lines };
        let hello = peer.answer(Duration::from_secs(60))?;
        peer.version = hello["version"].as_str().unwrap_or_default().to_string();
        Ok(peer)
    }

    /// Gives an order and waits for its answer. A worker that takes longer than `limit`, holds too much or ends is lost.
    pub fn ask(&mut self, command: &Value, limit: Duration) -> Outcome<Value> {
        if let Some(why) = &self.lost {
            return Err(why.clone().into());
        }
        if let Err(error) = writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush()) {
            return Err(self.give_up(format!("ended: {error}")));
        }
        let answer = self.answer(limit)?;
        self.peak_kib = self.peak_kib.max(answer["peak_kib"].as_u64().unwrap_or(0));
        match answer["error"].as_str() {
            Some(error) => Err(error.to_string().into()),
            None => Ok(answer),
        }
    }

    fn answer(&mut self, limit: Duration) -> Outcome<Value> {
        let began = Instant::now();
        loop {
            match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => return Ok(serde_json::from_str(&line)?),
                Err(RecvTimeoutError::Disconnected) => return Err(self.give_up("ended by itself".into())),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let held = self.resident_kib();
            if held > MEMORY_KIB {
                return Err(self.give_up(format!("held {} MiB", held >> 10)));
            }
            if began.elapsed() > limit {
                return Err(self.give_up(format!("took over {} s", limit.as_secs())));
            }
        }
    }

    /// Memory of its own: the page cache of files that it maps is not.
    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    }

    fn give_up(&mut self, why: String) -> Box<dyn std::error::Error> {
        // One that ended by itself cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        eprintln!("{}: {why}; it is left out from here on", self.name);
        self.lost = Some(why.clone());
        why.into()
    }

    /// Asks an arm of ours. Other peers have one arm, and are not asked.
    pub fn arm(&mut self, arm: Option<&str>) -> Outcome<()> {
        match arm {
            Some(arm) => self.ask(&json!({ "do": "arm", "arm": arm }), Duration::from_secs(60)).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
