//! What is known of every row that the workload issued, and what must be left of it.
//!
//! A row is *issued* before its append is called, *done* when that returned, and *synced* when a sync, a seal or a close
//! that followed it returned. **Oracle:** what is found was issued; what was done survives the process, and what was synced
//! the machine; no row is there twice; the rows of a writer in a table are a prefix of those that it issued; a batch is
//! there or not, save where it went on into a next block; what retention dropped stays away.

use std::ops::Range;

use super::*;
use crate::model::quarantine::{ROW_TIME_NS, TABLE};
use crate::snapshot::scan::Scan;

pub(super) const HOUR_NS: i64 = 3_600_000_000_000;
pub(super) const START_NS: i64 = 1_767_225_600_000_000_000;
pub(super) const KEPT_NS: i64 = 48 * HOUR_NS;
/// Writers of `numbered`, and of `last`.
pub(super) const PLAIN: [&str; 3] = ["a", "b", "c"];
pub(super) const LAST: [&str; 2] = ["x", "y"];

/// What a machine was put through before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing, or the death of the process.
    Process,
    /// Power loss, or a failed sync.
    Machine,
}

/// One writer's rows in one table, numbered from 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub(super) issued: i64,
    pub(super) done: i64,
    pub(super) synced: i64,
    /// Where no prefix ends: within a batch.
    pub(super) whole: Vec<Range<i64>>,
}

impl Stream {
    fn least(&self, after: After) -> i64 {
        if after == After::Machine { self.synced } else { self.done }
    }

    fn check(&self, kept: i64, after: After, name: &str, place: &str) {
        let least = self.least(after);
        assert!((least..=self.issued).contains(&kept), "{place}: {kept} rows of {name}, {after:?}: {self:?}");
        let torn = self.whole.iter().find(|batch| batch.start < kept && kept < batch.end);
        assert!(torn.is_none(), "{place}: {kept} rows of {name} end within the batch {torn:?}");
    }

    fn settle(&mut self, kept: i64) {
        (self.issued, self.done) = (kept, kept);
        self.synced = self.synced.min(kept);
        self.whole.clear();
    }
}

/// A row of `short`: its time, and where it went once that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    pub(super) time_ns: i64,
    pub(super) quarantined: Option<bool>,
}

/// All rows of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) plain: BTreeMap<(String, i64), usize>,
    /// Writer and number by key and time.
    pub(super) last: BTreeMap<(String, i64), (String, i64)>,
    /// Times of rows, sorted.
    pub(super) short: Vec<i64>,
    pub(super) late: Vec<i64>,
}

fn last_of(scan: Scan, place: &str) -> Result<BTreeMap<(String, i64), (String, i64)>> {
    let mut found = BTreeMap::new();
    for batch in scan {
        let batch = batch?;
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string_view().clone();
        let (keys, writers) = (text("key"), text("writer"));
        let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>();
        let numbers = batch.column_by_name("number").unwrap().as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key = (keys.value(row).to_string(), times.value(row));
            let before = found.insert(key.clone(), (writers.value(row).to_string(), numbers.value(row)));
            assert!(before.is_none(), "{place}: two winners of {key:?}");
        }
    }
    Ok(found)
}

fn times_of(scan: Scan, column: &str) -> Result<Vec<i64>> {
    let mut times = Vec::new();
    for batch in scan {
        let batch = batch?;
        let column = batch.column_by_name(column).unwrap();
        match column.as_primitive_opt::<Int64Type>() {
            Some(values) => times.extend(values.values()),
            None => times.extend(column.as_primitive::<TimestampNanosecondType>().values()),
        }
    }
    times.sort_unstable();
    Ok(times)
}

/// `None` for a table that is not there.
fn known<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::UnknownTable { .. }) => Ok(None),
        other => other.map(Some),
    }
}

impl Content {
    pub(super) fn of(store: &Store, place: &str) -> Result<Self> {
        let scan = |name: &str| known(store.existing(name).and_then(|table| table.scan()));
        let mut content = Self::read(scan, place)?;
        if let Some(table) = store.inner.core.snapshot().table(TABLE).cloned() {
            content.late = times_of(Scan::new(table, crate::fs::fork::Origin::default()), ROW_TIME_NS)?;
        }
        Ok(content)
    }

    /// What a reader sees, who has no way into quarantine.
    pub(super) fn seen(reader: &crate::Reader, place: &str) -> Result<Self> {
        Self::read(|name| known(reader.scan(name)), place)
    }

    fn read(scan: impl Fn(&str) -> Result<Option<Scan>>, place: &str) -> Result<Self> {
        Ok(Self {
            plain: scan("numbered")?.map(try_rows).transpose()?.unwrap_or_default(),
            last: scan("last")?.map(|scan| last_of(scan, place)).transpose()?.unwrap_or_default(),
            short: scan("short")?.map(|scan| times_of(scan, "time")).transpose()?.unwrap_or_default(),
            late: Vec::new(),
        })
    }

    pub(super) fn without_late(&self) -> Self {
        Self { late: Vec::new(), ..self.clone() }
    }
}

/// A backup that returned, and what was in the store then.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    pub(super) path: String,
    pub(super) content: Content,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) plain: [Stream; 3],
    pub(super) last: [Stream; 2],
    /// Rows of `last` as they were written, by writer and number.
    pub(super) order: Vec<(usize, i64)>,
    pub(super) short: Stream,
    pub(super) timed: Vec<Timed>,
    /// The time of the last maintenance that began, and of the last one that ended well.
    pub(super) retained_ns: (i64, i64),
    pub(super) copies: Vec<Copied>,
}

/// The key and time of a row of `last`: every fourth is one that both writers write.
pub(super) fn key_of(writer: usize, number: i64) -> (&'static str, i64) {
    if number % 4 == 3 {
        ("both", START_NS + number / 4 % 5 * HOUR_NS)
    } else {
        (LAST[writer], START_NS + number % 17 * HOUR_NS)
    }
}

fn is_due(time_ns: i64, now_ns: i64) -> bool {
    (time_ns.div_euclid(HOUR_NS) + 1) * HOUR_NS + KEPT_NS <= now_ns
}

impl Ledger {
    fn streams(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.plain.iter_mut().chain(&mut self.last).chain(std::iter::once(&mut self.short))
    }

    /// All that is done is synced from now on.
    pub(super) fn sync(&mut self) {
        self.streams().for_each(|stream| stream.synced = stream.done);
    }

    /// Holds what was found against what is known, and gives how much of each writer is there.
    pub(super) fn check(&self, content: &Content, after: After, place: &str) -> Kept {
        let mut kept = Kept::default();
        for ((writer, number), times) in &content.plain {
            let who = PLAIN.iter().position(|name| name == writer).unwrap();
            assert_eq!(*times, 1, "{place}: row {number} of {writer} is there {times} times");
            assert_eq!(*number, kept.plain[who], "{place}: rows of {writer} are no prefix");
            kept.plain[who] += 1;
        }
        let pairs = self.plain.iter().zip(kept.plain).zip(PLAIN);
        pairs.for_each(|((stream, kept), name)| stream.check(kept, after, name, place));
        kept.last = self.check_last(content, place);
        let pairs = self.last.iter().zip(kept.last).zip(LAST);
        pairs.for_each(|((stream, kept), name)| stream.check(kept, after, name, place));
        kept.short = self.check_short(content, after, place);
        kept
    }

    /// Finds the longest prefixes of both writers that make what is there, where the later write of a key wins.
    fn check_last(&self, content: &Content, place: &str) -> [i64; 2] {
        let ends = [0, 1].map(|who| {
            let own = content.last.iter().filter(|((key, _), _)| key == LAST[who]);
            let newest = own.map(|(_, (_, number))| number + 1).max().unwrap_or(0);
            // The next row may be one whose place the other writer took.
            let longest = if newest % 4 == 3 { newest + 1 } else { newest };
            (newest..=longest.min(self.last[who].issued).max(newest)).rev()
        });
        for first in ends[0].clone() {
            for second in ends[1].clone() {
                let mut wanted = BTreeMap::new();
                for (who, number) in self.order.iter().filter(|(who, number)| *number < [first, second][*who]) {
                    let (key, time_ns) = key_of(*who, *number);
                    wanted.insert((key.to_string(), time_ns), (LAST[*who].to_string(), *number));
                }
                if wanted == content.last {
                    return [first, second];
                }
            }
        }
        panic!("{place}: no prefixes of the writers make what is in last: {:?}, {:?}", content.last, self.order);
    }

    /// Rows of `short` are numbered by their times. Those that are due may be gone; those that were dropped must be.
    fn check_short(&self, content: &Content, after: After, place: &str) -> Vec<Option<bool>> {
        let (attempted, ended) = self.retained_ns;
        let there = |list: &[i64], time_ns: i64| list.binary_search(&time_ns).is_ok();
        let least = self.short.least(after);
        // Whether a row of each place may still follow.
        let mut open = [true; 2];
        let mut kept = Vec::new();
        for (number, row) in (0..).zip(&self.timed) {
            let (short, late) = (there(&content.short, row.time_ns), there(&content.late, row.time_ns));
            assert!(!(short && late), "{place}: row {number} of short is in quarantine too");
            let found = (short || late).then_some(late);
            kept.push(found);
            assert!(row.quarantined.is_none_or(|known| found.is_none_or(|found| found == known)), "{place}: {number}");
            let gone = !short && row.quarantined != Some(true) && is_due(row.time_ns, attempted);
            assert!(!short || !is_due(row.time_ns, ended), "{place}: row {number} of short was dropped, and is back");
            if gone {
                continue;
            }
            assert!(found.is_some() || number >= least, "{place}: row {number} of short, {after:?}: {:?}", self.short);
            if let Some(place_of) = row.quarantined {
                let open = &mut open[usize::from(place_of)];
                assert!(*open || found.is_none(), "{place}: rows of short are no prefix at {number}");
                *open &= found.is_some();
            }
        }
        let (short, late) = (content.short.len(), content.late.len());
        let count = |late: bool| kept.iter().filter(|found| **found == Some(late)).count();
        assert_eq!((short, late), (count(false), count(true)), "{place}: rows of short that nobody wrote, or twice");
        kept
    }

    /// Goes on from what was found.
    pub(super) fn settle(&mut self, kept: &Kept) {
        self.plain.iter_mut().zip(kept.plain).for_each(|(stream, kept)| stream.settle(kept));
        self.last.iter_mut().zip(kept.last).for_each(|(stream, kept)| stream.settle(kept));
        self.order.retain(|(who, number)| *number < kept.last[*who]);
        // Numbers of `short` are places in a list: what is not there is taken out of it.
        let synced: Vec<bool> = (0..).take(self.timed.len()).map(|number: i64| number < self.short.synced).collect();
        let rows = self.timed.iter().zip(&kept.short).zip(synced);
        let (mut left, mut safe) = (Vec::new(), 0);
        for ((row, found), synced) in rows {
            if found.is_some() {
                left.push(Timed { quarantined: *found, ..*row });
                safe += i64::from(synced);
            }
        }
        self.timed = left;
        self.short =
            Stream { issued: self.timed.len() as i64, done: self.timed.len() as i64, synced: safe, whole: Vec::new() };
    }
}

/// How much of each writer was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) plain: [i64; 3],
    pub(super) last: [i64; 2],
    /// For each row, whether it is in quarantine, or `None` if it is nowhere.
    pub(super) short: Vec<Option<bool>>,
}
