//! Every bit of a small store turned over, and every file cut at every byte: an error that says where, or exactly the same
//! rows, also when the store is then gone on with.
//!
//! The store was closed, so all its bytes are committed. It is opened under the same boot, where published counts are
//! trusted; after a power loss, where commit entries are; and after a power loss without a close. There alone one answer
//! more is allowed: what was written last cannot be told from what a power loss cut short, so it may be gone, and opening
//! says how much.
//!
//! Of files that are preallocated, lines of 64 bytes that are in use are flipped, and the ones next to them: nothing was
//! committed to the others.
//!
//! `DENYUT_FLIPS=n` makes n of them, drawn by `DENYUT_SEED`, and `DENYUT_FLIPS=all` all there are.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::care::files;
use super::*;
use crate::fs::FileSystem;
use crate::store::Reader;

const TABLES: [&str; 2] = ["everything", "last"];

/// All kinds of columns, times of arrival, and nulls.
fn everything() -> Schema {
    let schema = Schema::new("everything").tag("writer").tag("site").f64("half", "").i64("number", "").u64("count", "");
    schema.bool("open", "").utf8("text", "").decimal("cost", 18, 2, "IDR").keep_ingest_time()
}

fn fill(writer: &mut Writer, name: &str, numbers: std::ops::Range<i64>) -> Result<()> {
    for number in numbers {
        let text = text_of(number);
        let odd = (number % 3 == 1).then_some(number % 2 == 0);
        let appended = writer.append_at(
            time_of(number),
            row! {
                writer: name, site: "Siantan", number: number, half: half_of(number), text: text.as_deref(), open: odd,
                count: u64::try_from(number).unwrap()
            },
        )?;
        assert_eq!(appended.accepted(), 1);
    }
    Ok(())
}

/// How the life of the store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    ClosedThenPowerLost,
    PowerLost,
}

/// A store with sealed rows, rows under two syncs and a series that only live rows have.
fn made(end: End) -> Arc<SimFs> {
    let fs = SimFs::new(11);
    let work = || {
        let store = open_sim(&fs)?;
        let mut everything = store.table(everything())?.writer()?;
        let last = Schema::new("last").tag("writer").i64("number", "").dedup(Dedup::LastWrite);
        let mut last = store.table(last)?.writer()?;
        for (start, seals) in [(0, true), (30, false), (60, false)] {
            fill(&mut everything, "a", start..start + 20)?;
            fill(&mut everything, "b", start + 20..start + 30)?;
            for number in start..start + 10 {
                let _ = last.append_at(time_of(number % 25), row! { writer: "c", number: number })?;
            }
            if seals {
                store.seal().map(drop)?;
            }
            store.sync()?;
        }
        if end == End::PowerLost {
            return Ok(fs.crash(3));
        }
        drop((everything, last));
        store.close()?;
        Ok::<_, Error>(if end == End::Closed { fs.kill() } else { fs.crash(3) })
    };
    work().unwrap()
}

/// All rows of a table, as its scan gives them.
fn rows_by(scan: Result<crate::Scan>) -> Result<Option<RecordBatch>> {
    let batches = scan?.collect::<Result<Vec<_>>>()?;
    Ok(batches.first().map(|first| concat_batches(&first.schema(), &batches).unwrap()))
}

/// What a store answers, table by table.
type Answer = Vec<Option<RecordBatch>>;

fn answer_of(store: &Store) -> Result<Answer> {
    TABLES.iter().map(|table| rows_by(store.existing(table).and_then(|table| table.scan()))).collect()
}

fn read_only(fs: &Arc<SimFs>) -> Result<Answer> {
    let options = Store::options().snapshot_timeout(Duration::ZERO).without_background();
    let reader = Reader::open_on(fs.clone(), &options, Path::new("/store"))?;
    TABLES.iter().map(|table| rows_by(reader.scan(table))).collect()
}

/// Rows of the first table as text, for answers that lack some. In the other one a row that is gone shows an earlier one.
fn lines(answer: &Answer) -> Vec<String> {
    let line = |batch: &RecordBatch, row: usize| format!("{:?}", batch.slice(row, 1).columns());
    answer
        .first()
        .into_iter()
        .flatten()
        .flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row)))
        .collect()
}

/// A panic if `part` has a row that `whole` has not.
fn check_part(part: &Answer, whole: &Answer, place: &str) {
    let whole = lines(whole);
    let other = lines(part).into_iter().find(|line| !whole.contains(line));
    assert!(other.is_none(), "{place}: {}", other.unwrap_or_default());
}

/// What is done to one file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip { at: usize, bit: usize },
    Cut { len: usize },
}

struct Image {
    fs: Arc<SimFs>,
    end: End,
    answer: Answer,
    /// With its length, and the bytes to flip.
    files: Vec<(String, usize, Vec<usize>)>,
}

/// Bytes in lines that are in use, or next to such.
fn used(bytes: &[u8]) -> Vec<usize> {
    const LINE: usize = 64;
    let lines: Vec<bool> = bytes.chunks(LINE).map(|line| line.iter().any(|byte| *byte != 0)).collect();
    let near = |line: usize| lines[line.saturating_sub(1)..(line + 2).min(lines.len())].contains(&true);
    (0..bytes.len()).filter(|at| near(at / LINE)).collect()
}

impl Image {
    fn of(end: End) -> Self {
        let fs = made(end);
        // A machine that was killed is of use for more images alone.
        let files = files(&fs, "/store").into_iter().map(|(path, bytes)| (path, bytes.len(), used(&bytes)));
        // The text of a lock is for people, and a pin has no byte.
        let files = files.filter(|(path, len, _)| !path.ends_with("/lock") && *len > 0).collect();
        let store = open_sim(&fs.kill()).unwrap();
        assert!(store.recovery().is_whole());
        let answer = answer_of(&store).unwrap();
        Self { fs, end, answer, files }
    }

    /// Whether the damage was noticed; a panic if it went unnoticed and mattered.
    fn check(&self, path: &str, damage: Damage) -> bool {
        let place = format!("{path}, {damage:?}, {:?}", self.end);
        let fs = self.fs.kill();
        let file = fs.open(Path::new(path)).unwrap().unwrap();
        match damage {
            Damage::Flip { at, bit } => super::verify::flip(&fs, path, at, bit),
            Damage::Cut { len } => file.set_len(len as u64).unwrap(),
        }
        match read_only(&fs) {
            Ok(answer) if answer == self.answer => {}
            // A reader believes the page cache of what a process of this boot wrote.
            Ok(_) if path.ends_with(".block") && self.end == End::Closed => {}
            Ok(answer) => {
                assert_eq!(self.end, End::PowerLost, "a reader: {place}");
                check_part(&answer, &self.answer, &format!("a reader: {place}"));
            }
            Err(error) => self.assert_typed(&error, &format!("a reader: {place}")),
        }
        let store = match open_sim(&fs) {
            Ok(store) => store,
            Err(error) => {
                self.assert_typed(&error, &place);
                return true;
            }
        };
        let kept = match answer_of(&store) {
            Ok(answer) if answer == self.answer => answer,
            Ok(answer) => {
                let found = store.recovery();
                // A log that ends between two of its frames looks like one that was never longer.
                let is_log = path.ends_with(".log") || path.contains("manifest");
                assert_eq!(self.end, End::PowerLost, "{place}: {found:?}");
                assert!(found.rows_cut + found.bytes_cut > 0 || is_log, "{place}: {found:?}");
                check_part(&answer, &self.answer, &place);
                answer
            }
            Err(error) => {
                self.assert_typed(&error, &place);
                return true;
            }
        };
        // Not every part of a segment is of use to every answer. Verifying looks at all of it, whatever it holds.
        let found = store.verify().unwrap();
        assert!(!path.contains("/segments/") || !found.is_whole(), "{place}: {found}");
        let noticed = !found.is_whole() || store.recovery().rows_cut + store.recovery().bytes_cut > 0;
        // Gone on with, by a row of each table and a seal, it still has all it had.
        let mut writers = TABLES.map(|table| store.existing(table).unwrap().writer().unwrap());
        fill(&mut writers[0], "new", 200..203).unwrap();
        let _ = writers[1].append_at(time_of(200), row! { writer: "new", number: 1_i64 }).unwrap();
        store.sync().unwrap();
        drop(writers);
        store.close().unwrap();
        drop(store);
        let store = open_sim(&fs).unwrap_or_else(|error| panic!("gone on with, {place}: {error}"));
        let after = answer_of(&store).unwrap_or_else(|error| panic!("gone on with, {place}: {error}"));
        check_part(&kept, &after, &format!("gone on with, {place}"));
        noticed
    }

    fn assert_typed(&self, error: &Error, place: &str) {
        match error {
            Error::Corrupted { path, .. } | Error::NotAStore { path, .. } => {
                assert!(path.starts_with("/store"), "{place}: {error}");
            }
            // A reader cannot tell a damaged page from one that changes.
            Error::NoSnapshot { .. } => {}
            // The manifest's last frame made it.
            Error::UnknownTable { .. } if self.end == End::PowerLost => {}
            _ => panic!("{place}: {error:?}"),
        }
    }
}

/// How many, or all.
fn wanted() -> Option<u64> {
    match std::env::var("DENYUT_FLIPS") {
        Ok(all) if all == "all" => None,
        Ok(count) => Some(count.parse().expect("DENYUT_FLIPS is a number or \"all\"")),
        Err(_) => Some(400),
    }
}

#[test]
fn a_flipped_bit_or_a_cut_is_an_error_or_harmless() {
    let images = [End::Closed, End::ClosedThenPowerLost, End::PowerLost].map(Image::of);
    let (mut done, mut noticed) = (0_u64, 0_u64);
    let mut run = |image: &Image, path: &str, damage: Damage| {
        noticed += u64::from(image.check(path, damage));
        done += 1;
    };
    match wanted() {
        Some(count) => {
            let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 % 1_000_000_000;
            let seed = std::env::var("DENYUT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock);
            println!("seed {seed}; again with DENYUT_SEED={seed}");
            let mut chance = Chance(seed);
            for _ in 0..count {
                let image = &images[chance.next(3) as usize];
                // Each file as often as the others.
                let (path, len, used) = &image.files[chance.next(image.files.len() as u64) as usize];
                match chance.next(9) as usize {
                    8 => run(image, path, Damage::Cut { len: chance.next(*len as u64) as usize }),
                    bit => run(image, path, Damage::Flip { at: used[chance.next(used.len() as u64) as usize], bit }),
                }
            }
        }
        None => {
            for image in &images {
                for (path, len, used) in &image.files {
                    for at in used {
                        (0..8).for_each(|bit| run(image, path, Damage::Flip { at: *at, bit }));
                    }
                    (0..*len).for_each(|len| run(image, path, Damage::Cut { len }));
                    println!("{path}: {} flips and {len} cuts, {:?}", 8 * used.len(), image.end);
                }
            }
        }
    }
    println!("{done} flips and cuts, {noticed} noticed, the others harmless");
    assert!(noticed * 10 > done.min(10_000), "they are made where they matter: {noticed} of {done}");
}
