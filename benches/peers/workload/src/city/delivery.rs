//! When rows arrive: at once, after a link is back, or not at all.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{HOUR, Scale};
use crate::ask::{SECOND, Span};
use crate::random::Random;
use crate::table::Take;

/// The most fields that a table of the city has.
const WIDTH: usize = 4;

/// What comes and goes: good stretches and bad ones, each of random length.
#[derive(Clone, Debug)]
pub(super) struct Episodes {
    random: Random,
    good_s: f64,
    bad_s: f64,
    from: i64,
    until: i64,
}

impl Episodes {
    /// Bad for `share` of the time, for `bad_s` seconds each on average.
    pub(super) fn new(mut random: Random, start_ns: i64, share: f64, bad_s: f64) -> Self {
        let good_s = bad_s * (1.0 - share) / share;
        // Some are bad at the begin, as they are later.
        let bad = random.unit() < share;
        let until = if bad { start_ns + nanos(random.wait(bad_s)) } else { start_ns };
        Self { random, good_s, bad_s, from: start_ns, until }
    }

    /// Until when it is bad, if it is at `time`. Times have to go up.
    pub(super) fn at(&mut self, time: i64) -> Option<i64> {
        while time >= self.until {
            self.from = self.until + nanos(self.random.wait(self.good_s));
            self.until = self.from + nanos(self.random.wait(self.bad_s)).max(1);
        }
        (time >= self.from).then_some(self.until)
    }
}

fn nanos(seconds: f64) -> i64 {
    (seconds * 1e3) as i64 * 1_000_000
}

/// Networks of districts that fail: one of every six hours' each.
#[derive(Clone, Debug)]
pub(super) struct Outages(Vec<(usize, i64, i64)>);

impl Outages {
    pub(super) fn new(scale: Scale) -> Self {
        let mut random = Random::named("outages");
        let one = |begin: i64| {
            let from = begin + nanos(random.unit() * 4.0 * 3_600.0);
            (random.below(scale.districts()), from, from + nanos(1_200.0 + random.unit() * 2_400.0))
        };
        Self(scale.ticks(6 * HOUR).map(one).collect())
    }

    /// Until when the network of a district is down, if it is.
    pub(super) fn at(&self, district: usize, time: i64) -> Option<i64> {
        let hit = |(where_, from, until): &&(usize, i64, i64)| *where_ == district && (*from..*until).contains(&time);
        self.0.iter().find(hit).map(|(.., until)| *until)
    }
}

/// How often the links of a kind of sensor fail, and for how long.
pub(super) struct Link {
    /// Share of the time.
    pub(super) share: f64,
    /// Seconds on average.
    pub(super) mean_s: f64,
}

/// What any sensor has: a life, silent stretches, and a link.
#[derive(Clone, Debug)]
pub(super) struct Sensor {
    /// For what it measures.
    pub(super) random: Random,
    born: i64,
    gone: i64,
    silent: Episodes,
    link: Episodes,
}

impl Sensor {
    /// Sensor `number` of a kind.
    pub(super) fn new(kind: &str, number: usize, scale: Scale, link: &Link) -> Self {
        let mut random = Random::new(Random::named(kind).bits() ^ number as u64);
        let Span { start_ns, end_ns } = scale.span();
        let mut within = |share: f64, usual: i64| {
            let (drawn, at) = (random.unit(), random.unit());
            if drawn < share { start_ns + (at * (end_ns - start_ns) as f64) as i64 } else { usual }
        };
        let (born, gone) = (within(0.05, start_ns), within(1.0 / 30.0, end_ns));
        let mut fork = || Random::new(random.bits());
        let silent = Episodes::new(fork(), start_ns, 0.03, 2_700.0);
        let link = Episodes::new(fork(), start_ns, link.share, link.mean_s);
        Self { random: fork(), born, gone, silent, link }
    }

    /// When what it measures at `time` arrives, if it does. Times have to go up.
    pub(super) fn arrives(&mut self, time: i64) -> Option<i64> {
        let lost = self.random.unit() < 0.003 || self.silent.at(time).is_some();
        let back = self.link.at(time);
        (!lost && (self.born..self.gone).contains(&time)).then(|| back.unwrap_or(time))
    }
}

struct Waiting {
    arrives: i64,
    number: u64,
    series: u32,
    time: i64,
    values: [f64; WIDTH],
}

impl Ord for Waiting {
    // The heap's greatest is what arrives first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.arrives, other.number).cmp(&(self.arrives, self.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

/// Puts rows that are measured in order of time into the order in which they arrive.
pub(super) struct Delivery<'a, 'b> {
    take: &'a mut Take<'b>,
    waiting: BinaryHeap<Waiting>,
    number: u64,
    width: usize,
}

impl<'a, 'b> Delivery<'a, 'b> {
    pub(super) fn new(take: &'a mut Take<'b>) -> Self {
        Self { take, waiting: BinaryHeap::new(), number: 0, width: 0 }
    }

    /// A row that was measured at `time`, which is now, and arrives then.
    pub(super) fn give(&mut self, series: usize, time: i64, arrives: i64, row: &[f64]) {
        self.width = row.len();
        self.deliver(time);
        if arrives <= time {
            return (self.take)(series as u32, time, row);
        }
        let mut values = [0.0; WIDTH];
        values[..row.len()].copy_from_slice(row);
        self.number += 1;
        self.waiting.push(Waiting { arrives, number: self.number, series: series as u32, time, values });
    }

    fn deliver(&mut self, now: i64) {
        while self.waiting.peek().is_some_and(|first| first.arrives <= now) {
            if let Some(row) = self.waiting.pop() {
                (self.take)(row.series, row.time, &row.values[..self.width]);
            }
        }
    }

    /// What still waits.
    pub(super) fn finish(mut self) {
        self.deliver(i64::MAX);
    }
}

/// The first moment from `time` on that is a whole number of `seconds`.
pub(super) fn next_whole(time: i64, seconds: i64) -> i64 {
    let step = seconds * SECOND;
    time.div_euclid(step) * step + if time.rem_euclid(step) == 0 { 0 } else { step }
}
