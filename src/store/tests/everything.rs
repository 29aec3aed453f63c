//! A seeded workload of everything that a store does, for a machine that crashes at any operation or fails in any call.
//!
//! Three tables: `numbered` keeps all rows of three writers; in `last` the later write of a key wins, between two writers
//! too; `short` has retention, and its late rows go to quarantine. Steps append by name and in batches, sync, seal,
//! compact, retain, add fields, change writers, back up, close and open, and read from beside. The ledger knows what must
//! be left of it.

mod faults;
mod images;
mod ledger;
mod listed;

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};

use self::ledger::{Content, Copied, HOUR_NS, KEPT_NS, LAST, Ledger, PLAIN, START_NS, Timed, key_of};
use super::*;
use crate::Reader;
use crate::fs::FileSystem;
use crate::ingest::live_block::LiveBlock;
use crate::options::{Durability, Overload};

fn open_at(fs: &Arc<SimFs>, path: &str, durability: Durability, clock: &Arc<AtomicI64>) -> Result<Store> {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    let options = options
        .compact_fan_in(3)
        .seal_partitions_max(3)
        .overload(Overload::Fail)
        .durability(durability)
        .clock(clock.clone());
    Store::open_on(fs.clone(), options.without_background(), Path::new(path))
}

fn beside(fs: &Arc<SimFs>) -> Result<Reader> {
    Reader::open_on(fs.clone(), &Store::options().without_background(), Path::new("/store"))
}

fn last() -> Schema {
    let hours = Duration::from_secs(6 * 3_600);
    Schema::new("last").tag("key").utf8("writer", "").i64("number", "").dedup(Dedup::LastWrite).partition(hours)
}

fn short() -> Schema {
    let hour = Duration::from_secs(3_600);
    let kept = Duration::from_nanos(KEPT_NS as u64);
    Schema::new("short").tag("t").f64("x", "").partition(hour).retention(kept).lateness(hour)
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rows(usize, i64),
    Batch(usize, i64),
    Overwrite(usize, i64),
    Timed(i64),
    Sync,
    SyncWriter(usize),
    Seal,
    Maintain,
    Field(u64),
    EndWriter(usize),
    Later(i64),
    Backup,
    Reopen,
    ReadBeside,
}

impl Step {
    fn by_chance(chance: &mut Chance) -> Self {
        let rows = |chance: &mut Chance| 1 + chance.next(25) as i64;
        match chance.next(40) {
            // More than a block, now and then.
            0 => Self::Rows(chance.next(3) as usize, 900),
            1..=6 => Self::Rows(chance.next(3) as usize, rows(chance)),
            7..=11 => Self::Batch(chance.next(3) as usize, 2 * rows(chance)),
            12..=16 => Self::Overwrite(chance.next(2) as usize, rows(chance)),
            17..=20 => Self::Timed(rows(chance)),
            21..=24 => Self::Sync,
            25 | 26 => Self::SyncWriter(chance.next(6) as usize),
            27..=29 => Self::Seal,
            30..=32 => Self::Maintain,
            33 => Self::Field(chance.next(3)),
            34 => Self::EndWriter(chance.next(6) as usize),
            35 | 36 => Self::Later(chance.next(30) as i64 * HOUR_NS),
            37 => Self::Backup,
            38 => Self::Reopen,
            _ => Self::ReadBeside,
        }
    }
}

/// Called after every call of the store, before the ledger learns how it ended.
type Look = Box<dyn FnMut(&Arc<SimFs>, &Ledger, i64)>;

/// A store, its writers, and what is known of them.
struct World {
    fs: Arc<SimFs>,
    clock: Arc<AtomicI64>,
    durability: Durability,
    ledger: Ledger,
    store: Option<Store>,
    writers: [Option<Writer>; 6],
    backups: u64,
    tick_ns: i64,
    look: Look,
}

const SHORT: usize = 5;

impl World {
    fn new(fs: Arc<SimFs>, durability: Durability, look: Look) -> Self {
        // Where backups go is there before they are made: a backup's own directory is all whose name it makes durable.
        fs.create_dir(Path::new("/copies")).unwrap();
        let clock = Arc::new(AtomicI64::new(START_NS));
        let (ledger, writers) = (Ledger::default(), [const { None }; 6]);
        Self { fs, clock, durability, ledger, store: None, writers, backups: 0, tick_ns: 0, look }
    }

    fn now_ns(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn seen<T>(&mut self, result: Result<T>) -> Result<T> {
        (self.look)(&self.fs, &self.ledger, self.clock.load(Ordering::Relaxed));
        result
    }

    fn store(&mut self) -> Result<Store> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let opened = open_at(&self.fs, "/store", self.durability, &self.clock);
        let store = self.seen(opened)?;
        self.store = Some(store.clone());
        Ok(store)
    }

    /// Drops the store and all its handles.
    fn leave(&mut self) {
        self.writers = [const { None }; 6];
        self.store = None;
    }

    fn table(&mut self, number: usize) -> Result<Table> {
        let store = self.store()?;
        let (name, schema) = match number {
            0..=2 => ("numbered", numbered()),
            3 | 4 => ("last", last()),
            _ => ("short", short()),
        };
        if let Ok(table) = store.existing(name) {
            return Ok(table);
        }
        let made = store.table(schema);
        self.seen(made)
    }

    /// Writers 0 to 2 are of `numbered`, 3 and 4 of `last`, and one of `short`.
    fn writer(&mut self, number: usize) -> Result<&mut Writer> {
        let writer = match self.writers[number].take() {
            Some(writer) => writer,
            None => {
                let opened = self.table(number)?.writer();
                self.seen(opened)?
            }
        };
        Ok(self.writers[number].insert(writer))
    }

    fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Rows(who, rows) => self.append_rows(who, rows),
            Step::Batch(who, rows) => self.append_batch(who, rows),
            Step::Overwrite(who, rows) => self.overwrite(who, rows),
            Step::Timed(rows) => self.append_timed(rows),
            Step::Sync => self.make_durable(|store| store.sync()),
            Step::SyncWriter(who) => self.sync_writer(who),
            Step::Seal => self.make_durable(|store| store.seal().map(drop)),
            Step::Maintain => {
                self.ledger.retained_ns.0 = self.now_ns();
                self.make_durable(|store| store.maintain().map(drop))?;
                self.ledger.retained_ns.1 = self.now_ns();
                Ok(())
            }
            Step::Field(number) => {
                let made = self.store()?.table(numbered().f64(format!("extra{number}"), ""));
                self.seen(made).map(drop)
            }
            Step::EndWriter(who) => {
                self.writers[who] = None;
                self.seen(Ok(()))
            }
            Step::Later(by_ns) => {
                self.clock.fetch_add(by_ns, Ordering::Relaxed);
                Ok(())
            }
            Step::Backup => self.back_up(),
            Step::Reopen => {
                self.writers = [const { None }; 6];
                self.make_durable(|store| store.close())?;
                self.store = None;
                self.store().map(drop)
            }
            Step::ReadBeside => self.read_beside(),
        }
    }

    fn make_durable(&mut self, call: impl FnOnce(&Store) -> Result<()>) -> Result<()> {
        let store = self.store()?;
        let called = call(&store);
        self.seen(called)?;
        self.ledger.sync();
        Ok(())
    }

    fn sync_writer(&mut self, who: usize) -> Result<()> {
        let called = self.writer(who)?.sync();
        self.seen(called)?;
        let ledger = &mut self.ledger;
        match who {
            // A sync is of the table.
            0..=2 => ledger.plain.iter_mut().for_each(|stream| stream.synced = stream.done),
            3 | 4 => ledger.last.iter_mut().for_each(|stream| stream.synced = stream.done),
            // The quarantine is synced by a writer that put rows there, so only what this one did is covered.
            _ => {}
        }
        Ok(())
    }

    /// What an append that returned is worth: nothing on a machine that is gone, which writers do not notice before they
    /// need it.
    fn done(&mut self, stream: impl Fn(&mut Ledger) -> &mut ledger::Stream, number: i64) {
        if self.fs.is_gone() {
            return;
        }
        let synced = self.durability == Durability::EverySync;
        let stream = stream(&mut self.ledger);
        stream.done = number;
        if synced {
            stream.synced = number;
        }
    }

    fn append_rows(&mut self, who: usize, rows: i64) -> Result<()> {
        self.writer(who)?;
        let from = self.ledger.plain[who].issued;
        for number in from..from + rows {
            self.ledger.plain[who].issued = number + 1;
            let appended = append(self.writer(who)?, PLAIN[who], number..number + 1);
            self.seen(appended)?;
            self.done(|ledger| &mut ledger.plain[who], number + 1);
        }
        Ok(())
    }

    fn append_batch(&mut self, who: usize, rows: i64) -> Result<()> {
        self.writer(who)?;
        let from = self.ledger.plain[who].issued;
        let numbers = from..from + rows;
        self.ledger.plain[who].issued = numbers.end;
        let before = self.blocks("numbered");
        let appended = self.writer(who)?.append_batch(&batch(PLAIN[who], numbers.clone()));
        // Where it went on into a next block, it may end after a crash.
        let taken = before.iter().map(|(block, rows)| (block.rows() - rows) as i64).sum::<i64>();
        let split = from + taken.min(rows);
        drop(before);
        let whole = &mut self.ledger.plain[who].whole;
        whole.extend([from..split, split..numbers.end].into_iter().filter(|part| part.end > part.start + 1));
        assert_eq!(self.seen(appended)?.accepted(), rows as u64);
        self.done(|ledger| &mut ledger.plain[who], numbers.end);
        Ok(())
    }

    /// Blocks of a table with their rows.
    fn blocks(&self, table: &str) -> Vec<(Arc<LiveBlock>, usize)> {
        let Some(store) = &self.store else { return Vec::new() };
        let view = store.inner.core.view.load();
        let blocks = view.table(table).into_iter().flat_map(|table| &table.blocks);
        blocks.map(|view| (view.block.clone(), view.block.rows())).collect()
    }

    fn overwrite(&mut self, who: usize, rows: i64) -> Result<()> {
        self.writer(3 + who)?;
        let from = self.ledger.last[who].issued;
        for number in from..from + rows {
            self.ledger.last[who].issued = number + 1;
            self.ledger.order.push((who, number));
            let (key, time_ns) = key_of(who, number);
            let (time, writer) = (Time::from_nanos(time_ns), self.writer(3 + who)?);
            let appended = writer.append_at(time, row! { key: key, writer: LAST[who], number: number });
            self.seen(appended)?;
            self.done(|ledger| &mut ledger.last[who], number + 1);
        }
        Ok(())
    }

    /// Rows of now, every fifth two hours late.
    fn append_timed(&mut self, rows: i64) -> Result<()> {
        self.writer(SHORT)?;
        for number in 0..rows {
            self.tick_ns += 1_000;
            let late_ns = if number % 5 == 4 { 2 * HOUR_NS } else { 0 };
            let time_ns = self.now_ns() + self.tick_ns - late_ns;
            self.ledger.timed.push(Timed { time_ns, quarantined: None });
            self.ledger.short.issued += 1;
            let (time, writer) = (Time::from_nanos(time_ns), self.writer(SHORT)?);
            let appended = writer.append_at(time, row! { t: "t", x: number as f64 });
            let appended = self.seen(appended)?;
            if let Some(row) = self.ledger.timed.last_mut() {
                row.quarantined = Some(appended.quarantined() == 1);
            }
            let issued = self.ledger.short.issued;
            self.done(|ledger| &mut ledger.short, issued);
        }
        Ok(())
    }

    fn back_up(&mut self) -> Result<()> {
        let store = self.store()?;
        self.backups += 1;
        let (path, id) = (format!("/copies/{}", self.backups), [self.backups as u8; 16]);
        let content = Content::of(&store, "before a backup")?;
        let made = store.inner.core.backup(Path::new(&path), id, &mut |_| ControlFlow::Continue(()));
        self.seen(made)?;
        self.ledger.copies.push(Copied { path, content });
        Ok(())
    }

    fn read_beside(&mut self) -> Result<()> {
        let store = self.store()?;
        let seen = beside(&self.fs).and_then(|reader| Content::seen(&reader, "beside"));
        let seen = self.seen(seen)?;
        assert_eq!(seen, Content::of(&store, "beside")?.without_late(), "what a reader sees beside");
        Ok(())
    }
}

fn batch(name: &str, numbers: Range<i64>) -> RecordBatch {
    let times = TimestampNanosecondArray::from_iter_values(numbers.clone().map(|number| time_of(number).as_nanos()));
    let columns: [(&str, ArrayRef); 5] = [
        ("time", Arc::new(times)),
        ("writer", Arc::new(StringArray::from_iter_values(numbers.clone().map(|_| name)))),
        ("number", Arc::new(Int64Array::from_iter_values(numbers.clone()))),
        ("half", Arc::new(Float64Array::from_iter(numbers.clone().map(half_of)))),
        ("text", Arc::new(StringArray::from_iter(numbers.map(text_of)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}
