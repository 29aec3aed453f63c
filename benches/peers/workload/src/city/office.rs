//! What people and clerks make: complaints, postings of the budget's ledger, and counters where citizens are served.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::delivery::{Delivery, Link, Outages, Sensor, next_whole};
use super::{DAY, HOUR, Scale, clock, district, round, works};
use crate::ask::{SECOND, Span};
use crate::random::Random;
use crate::table::{Kind, Source, Table, Take};

const CATEGORIES: usize = 180;
const CHANNELS: [&str; 4] = ["app", "phone", "web", "counter"];
/// Agencies that complaints go to, and that spend.
const AGENCIES: usize = 40;
const ACCOUNTS: usize = 60;
/// Funds that are spent.
const FUNDS: usize = 5;
const SERVICES: [&str; 6] = ["identity", "birth", "permits", "tax", "welfare", "transport"];
const COUNTERS_AN_OFFICE: usize = 8;
const COUNTER_LINK: Link = Link { share: 0.115, mean_s: 600.0 };

fn agency(number: usize) -> String {
    format!("agency_{number:02}")
}

/// A late one: entered `mean_s` seconds after the fact on average.
fn entered(time: i64, share: f64, mean_s: f64, random: &mut Random) -> i64 {
    let (late, by) = (random.unit() < share, random.wait(mean_s));
    if late { time + (by * 1e3) as i64 * 1_000_000 } else { time }
}

/// The table `complaints`: a row when one comes in, and one with how long it took when it is closed.
pub(super) struct Complaints(pub(super) Scale);

impl Complaints {
    /// How likely one comes in, where 1 is the most of a day without an outage.
    fn busy(time: i64) -> f64 {
        let hour = clock(time);
        let day = if works(time) { 1.0 } else { 0.6 };
        day * (0.08 + 0.92 * (-((hour - 12.0) / 4.5).powi(2)).exp())
    }

    /// Category, channel and district of a complaint, and the series that these are.
    fn series_of(&self, random: &mut Random, district: usize) -> usize {
        let drawn = random.unit();
        let category = (drawn * drawn * CATEGORIES as f64) as usize;
        let channel = random.below(CHANNELS.len());
        (category * CHANNELS.len() + channel) * self.0.districts() + district
    }
}

impl Source for Complaints {
    fn table(&self) -> Table {
        Table {
            name: "complaints",
            tags: &["agency", "category", "channel", "district"],
            fields: &[("ticket", Kind::I64), ("hours_open", Kind::F64)],
            order: &["district", "category"],
        }
    }

    fn series(&self) -> Vec<Vec<String>> {
        let districts = self.0.districts();
        let tags = |number: usize| {
            let (kind, channel) = (number / districts / CHANNELS.len(), CHANNELS[number / districts % CHANNELS.len()]);
            let category = format!("category_{kind:03}");
            vec![agency(kind % AGENCIES), category, channel.to_string(), district(number % districts)]
        };
        (0..CATEGORIES * CHANNELS.len() * districts).map(tags).collect()
    }

    fn rows(&self, take: &mut Take<'_>) {
        let (mut random, outages) = (Random::named("complaints"), Outages::new(self.0));
        let (mut delivery, mut open) = (Delivery::new(take), BinaryHeap::new());
        let Span { start_ns, end_ns } = self.0.span();
        // The mean of a day is 0.4 of its most. While a network is down people complain eight times as often.
        let most_a_second = 1.1 * self.0.people as f64 / 1_000.0 / 0.4 / 86_400.0 * 8.0;
        let (mut time, mut ticket) = (start_ns, 0);
        loop {
            time += (random.wait(1.0 / most_a_second) * 1e3) as i64 * 1_000_000;
            while let Some(&Reverse((closed, number, series, began))) = open.peek() {
                if closed >= time.min(end_ns) {
                    break;
                }
                open.pop();
                let hours = round((closed - began) as f64 / HOUR as f64, 2);
                let arrives = entered(closed, 0.11, 7_200.0, &mut random);
                delivery.give(series, closed, arrives, &[f64::from(number), hours]);
            }
            if time >= end_ns {
                break;
            }
            let place = random.below(self.0.districts());
            let many = if outages.at(place, time).is_some() { 8.0 } else { 1.0 };
            if random.unit() * 8.0 > Self::busy(time) * many {
                continue;
            }
            ticket += 1;
            let series = self.series_of(&mut random, place);
            let closed = time + (random.wait(20.0 * 3_600.0) * 1e3) as i64 * 1_000_000;
            open.push(Reverse((closed, ticket, series, time)));
            let arrives = entered(time, 0.11, 7_200.0, &mut random);
            delivery.give(series, time, arrives, &[f64::from(ticket), f64::NAN]);
        }
        delivery.finish();
    }
}

/// The table `ledger`: postings in cents, reversed now and then.
pub(super) struct Ledger(pub(super) Scale);

impl Source for Ledger {
    fn table(&self) -> Table {
        Table {
            name: "ledger",
            tags: &["agency", "account", "fund"],
            fields: &[("amount_cents", Kind::I64), ("document", Kind::I64)],
            order: &["agency", "account"],
        }
    }

    fn series(&self) -> Vec<Vec<String>> {
        let tags = |number: usize| {
            let (account, fund) = (number / FUNDS % ACCOUNTS, number % FUNDS);
            vec![agency(number / FUNDS / ACCOUNTS), format!("account_{account:03}"), format!("fund_{fund}")]
        };
        (0..AGENCIES * ACCOUNTS * FUNDS).map(tags).collect()
    }

    fn rows(&self, take: &mut Take<'_>) {
        let (mut random, mut delivery, mut document) = (Random::named("ledger"), Delivery::new(take), 0);
        let Span { start_ns, end_ns } = self.0.span();
        let a_run = self.0.of(2.0) / 9;
        // The runs of a day are at the full hours from 8 to 16, each over within a minute.
        for run in (next_whole(start_ns, 3_600)..end_ns).step_by(HOUR as usize) {
            if !works(run) || !(8.0..17.0).contains(&clock(run)) {
                continue;
            }
            let size = (a_run as f64 * (0.5 + random.unit())) as i64;
            for at in 0..size {
                let time = run + at * 60_000 / size * 1_000_000;
                let series = random.below(AGENCIES * ACCOUNTS * FUNDS);
                document += 1;
                let cents = ((11.0 + 1.6 * random.normal()).exp()).round();
                let cents = if random.unit() < 0.03 { -cents } else { cents };
                let arrives = entered(time, 0.15, 12_000.0, &mut random);
                delivery.give(series, time, arrives, &[cents, f64::from(document)]);
            }
        }
        delivery.finish();
    }
}

/// The table `counters`: how many were served since the counter opened or was switched on again, and how many wait.
pub(super) struct Counters(pub(super) Scale);

struct Counter {
    sensor: Sensor,
    phase: i64,
    served: f64,
    waiting: f64,
    day: i64,
}

impl Counters {
    fn count(&self) -> usize {
        self.0.of(0.5)
    }

    fn one(&self, number: usize) -> Counter {
        let mut sensor = Sensor::new("counter", number, self.0, &COUNTER_LINK);
        let phase = sensor.random.below(60_000) as i64 * 1_000_000;
        Counter { sensor, phase, served: 0.0, waiting: 0.0, day: 0 }
    }
}

impl Counter {
    /// A minute goes by: it is counted anew each morning, and once in some ten hours because the device began anew.
    fn measure(&mut self, time: i64) -> [f64; 2] {
        let random = &mut self.sensor.random;
        let day = time.div_euclid(DAY);
        if day != self.day || random.unit() < 1.0 / 600.0 {
            (self.day, self.served) = (day, 0.0);
        }
        let rush = 0.10 + 0.12 * (-((clock(time) - 9.5) / 1.5).powi(2)).exp();
        self.waiting += f64::from(u8::from(random.unit() < rush));
        if self.waiting > 0.0 && random.unit() < 1.0 / 7.0 {
            self.waiting -= 1.0;
            self.served += 1.0;
        }
        [self.served, self.waiting]
    }
}

impl Source for Counters {
    fn table(&self) -> Table {
        Table {
            name: "counters",
            tags: &["counter", "office", "service"],
            fields: &[("served", Kind::I64), ("waiting", Kind::I64)],
            order: &["counter"],
        }
    }

    fn series(&self) -> Vec<Vec<String>> {
        let tags = |number: usize| {
            let service = SERVICES[number % SERVICES.len()].to_string();
            vec![format!("counter_{number:05}"), format!("office_{:04}", number / COUNTERS_AN_OFFICE), service]
        };
        (0..self.count()).map(tags).collect()
    }

    fn rows(&self, take: &mut Take<'_>) {
        let mut delivery = Delivery::new(take);
        let mut counters: Vec<_> = (0..self.count()).map(|number| (number, self.one(number))).collect();
        counters.sort_by_key(|(_, counter)| counter.phase);
        for tick in self.0.ticks(60 * SECOND) {
            if !works(tick) || !(8.0..16.0).contains(&clock(tick)) {
                continue;
            }
            for (number, counter) in &mut counters {
                let time = tick + counter.phase;
                let values = counter.measure(time);
                if let Some(arrives) = counter.sensor.arrives(time) {
                    delivery.give(*number, time, arrives, &values);
                }
            }
        }
        delivery.finish();
    }
}
