//! The bodies of the fuzz targets where there is no fuzzer: the committed corpus, and random input made from it.
//!
//! `DENYUT_FUZZ_RUNS` is how many random inputs a target gets, `DENYUT_SEED` the seed that is printed otherwise.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

type Body = fn(&[u8]);

const TARGETS: &[(&str, Body)] = &[
    ("batch_ingest", super::batch_ingest),
    ("control_page", super::control_page),
    ("decoders", super::decoders),
    ("live_block_recovery", super::live_block_recovery),
    ("manifest", super::manifest),
    ("names", super::names),
    ("segment_open", super::segment_open),
    ("series_log", super::series_log),
    ("store_ops", super::store_ops),
];

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) as usize % bound
    }
}

/// Runs one input, and says which it was if it fails.
fn run(name: &str, body: Body, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(bytes))) {
        println!("target {name} fails on {} bytes: {bytes:?}", bytes.len());
        resume_unwind(panic);
    }
}

/// The files of a target's corpus, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<_> = files.map(|file| file.expect("a readable folder").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a readable file")).collect()
}

/// An input near one of `corpus`: some bytes changed, taken out, put in, or another's end behind its beginning.
fn near(chance: &mut Chance, corpus: &[Vec<u8>]) -> Vec<u8> {
    let pick = |chance: &mut Chance| corpus.get(chance.below(corpus.len())).cloned().unwrap_or_default();
    let mut bytes = pick(chance);
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        let some: Vec<u8> = (0..=chance.below(8)).map(|_| chance.below(256) as u8).collect();
        match chance.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.extend(some),
            2 => bytes.splice(at..at, some).for_each(drop),
            3 => {
                bytes.truncate(at);
                let other = pick(chance);
                bytes.extend(other.iter().skip(chance.below(other.len() + 1)));
            }
            _ => bytes.iter_mut().skip(at).zip(some).for_each(|(byte, new)| *byte = new),
        }
    }
    bytes.truncate(4_096);
    bytes
}

#[test]
fn every_target_bears_its_corpus_and_what_is_near_it() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let runs = number("DENYUT_FUZZ_RUNS").unwrap_or(40);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let seed = number("DENYUT_SEED").unwrap_or(now);
    println!("DENYUT_SEED={seed}");
    for (name, body) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "target {name} has a corpus");
        corpus.iter().for_each(|bytes| run(name, *body, bytes));
        let mut chance = Chance(seed);
        (0..runs).for_each(|_| run(name, *body, &near(&mut chance, &corpus)));
        println!("target {name}: {} inputs of its corpus, {runs} near them", corpus.len());
    }
}
