//! A city: road loops, bus positions, air and water stations, complaints, the budget's ledger and service counters.
//!
//! Everything follows from how many people live there. What each rate is modelled on:
//!
//! - `loops`: 6 a 1,000 people, every 5 minutes. UTD19 (Loder et al., 2019), of 40 cities, has 3 to 5 minutes and in
//!   its denser ones some loops a 1,000 people; Caltrans' PeMS serves 5 minutes, too.
//! - `buses`: 0.8 a 1,000 people, every 30 s from morning to night, each on four lines by turns. New York has 5,800
//!   buses for 8.3 million, London 8,700 for 8.9. GTFS-realtime wants positions no older than 90 s; both publish about
//!   every 30 s.
//! - `air`: 0.3 citizens' stations a 1,000 people, every 150 s, as sensor.community's do about; an official one a
//!   100,000, every hour, as agencies of the US and the EU report.
//! - `water`: 0.3 gauges a 1,000 people and one of rain a district, every 15 minutes, and every 5 while the water is
//!   high: as USGS and the Environment Agency of England do.
//! - `complaints`: 1.1 a 1,000 people and day, after New York's 311 with some 3.3 million a year; a row as one comes in
//!   and one as it is closed. Six in ten are about a third of their 180 categories.
//! - `ledger`: 2 postings a 1,000 people and working day, booked in hourly runs. An assumption: few cities publish the
//!   time of every posting.
//! - `counters`: 0.5 a 1,000 people, every minute of office hours. An assumption, too: a visit a year, seven minutes
//!   each.
//!
//! A district has 50,000 people, a bus line 12,500.
//!
//! How rows come: of each table about a tenth is late. A sensor's link is lost now and then, for minutes on average (an
//! hour at air stations, four minutes on buses); what was measured then comes in one burst when it is back. In every
//! six hours the network of one district fails for 20 to 60 minutes: its loops and stations come back all at once, and
//! meanwhile its people complain. Forms on paper and bookings after the fact come one by one, hours late. Sensors are
//! silent for good stretches (3% of the time) and lose single rows (0.3%); one in twenty is installed within the time
//! looked at, one in thirty is removed. Clocks show UTC. How often links fail is an assumption, made so that a tenth is
//! late.
//!
//! The same seed gives the same rows, but for last digits where two platforms' logarithms and sines differ.

mod buses;
mod delivery;
mod office;
pub mod questions;
mod roads;
mod stations;

use crate::ask::{SECOND, Span};
use crate::devops::START_NS;
use crate::table::Source;

pub use stations::water_station;

const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// How large the city is, and for how long it is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Who live there.
    pub people: usize,
    /// The hour of a Monday at which it begins.
    pub from_hour: i64,
    /// Hours.
    pub hours: i64,
}

impl Scale {
    /// The time that rows are of.
    pub fn span(self) -> Span {
        let start_ns = START_NS + self.from_hour * HOUR;
        Span { start_ns, end_ns: start_ns + self.hours * HOUR }
    }

    /// Districts.
    pub fn districts(self) -> usize {
        (self.people / 50_000).max(1)
    }

    /// Bus operators.
    pub const OPERATORS: usize = 8;

    /// How many there are of what `a_thousand` are there for 1,000 people.
    fn of(self, a_thousand: f64) -> usize {
        ((self.people as f64 * a_thousand / 1_000.0) as usize).max(1)
    }

    /// Moments from the begin on, `step` apart.
    fn ticks(self, step: i64) -> impl Iterator<Item = i64> {
        let Span { start_ns, end_ns } = self.span();
        (start_ns..end_ns).step_by(step as usize)
    }
}

/// The name of a district.
pub fn district(number: usize) -> String {
    format!("district_{number:03}")
}

/// The name of a bus operator.
pub fn operator(number: usize) -> String {
    format!("operator_{number}")
}

/// All tables of the city.
pub fn sources(scale: Scale) -> Vec<Box<dyn Source>> {
    vec![
        Box::new(roads::Loops(scale)),
        Box::new(buses::Buses(scale)),
        Box::new(stations::Air(scale)),
        Box::new(stations::Water(scale)),
        Box::new(office::Complaints(scale)),
        Box::new(office::Ledger(scale)),
        Box::new(office::Counters(scale)),
    ]
}

/// Hours since midnight, with parts.
fn clock(time: i64) -> f64 {
    time.rem_euclid(DAY) as f64 / HOUR as f64
}

/// Whether a day is a working day: the first is a Monday.
fn works(time: i64) -> bool {
    (time - START_NS).div_euclid(DAY).rem_euclid(7) < 5
}

/// How much of a road's or a bus' capacity is asked for, from 0 to 1: two peaks on working days, one on others.
fn demand(time: i64) -> f64 {
    let hour = clock(time);
    let bump = |centre: f64, width: f64| (-((hour - centre) / width).powi(2)).exp();
    let peaks = if works(time) { 0.6 * bump(8.0, 1.5) + 0.65 * bump(17.5, 2.0) } else { 0.4 * bump(14.0, 3.0) };
    (0.03 + 0.3 * bump(13.0, 5.0) + peaks).min(1.0)
}

/// `value` with `digits` after the point, as sensors tell it.
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SMALL: Scale = Scale { people: 200_000, from_hour: 6, hours: 30 };

    /// Rows of a table, how many are late by over a minute, and how many series they are of.
    fn look(source: &dyn Source) -> (usize, usize, usize) {
        let (mut rows, mut late, mut newest, mut seen) = (0, 0, 0, HashSet::new());
        source.rows(&mut |series, time, values| {
            rows += 1;
            assert_eq!(values.len(), source.table().fields.len());
            assert_eq!(time % 1_000_000, 0, "peers know milliseconds");
            late += usize::from(time < newest - 60 * SECOND);
            newest = newest.max(time);
            seen.insert(series);
        });
        (rows, late, seen.len())
    }

    #[test]
    fn a_tenth_is_late() {
        for source in sources(SMALL) {
            let (rows, late, _) = look(source.as_ref());
            let (name, share) = (source.table().name, late as f64 / rows as f64);
            assert!(rows > 200, "{name}: {rows}");
            assert!((0.05..0.15).contains(&share), "{name}: {share}");
        }
    }

    #[test]
    fn rows_are_within_the_span_and_the_same_for_ever() {
        let Span { start_ns, end_ns } = SMALL.span();
        for source in sources(SMALL) {
            let hash = || {
                let mut hash = 0_u64;
                source.rows(&mut |series, time, values| {
                    assert!((start_ns..end_ns).contains(&time));
                    for part in [u64::from(series), time as u64].into_iter().chain(values.iter().map(|v| v.to_bits())) {
                        hash = (hash ^ part).wrapping_mul(0x100_0000_01B3).rotate_left(17);
                    }
                });
                hash
            };
            assert_eq!(hash(), hash());
        }
    }

    #[test]
    fn series_differ_and_are_as_many_as_named() {
        let mut all = 0;
        for source in sources(Scale { people: 1_000_000, from_hour: 6, hours: 6 }) {
            let tags = source.series();
            let different: HashSet<&Vec<String>> = tags.iter().collect();
            assert_eq!(different.len(), tags.len(), "{}", source.table().name);
            assert!(tags.iter().all(|tags| tags.len() == source.table().tags.len()));
            all += look(source.as_ref()).2;
        }
        assert!((10_000..12_000).contains(&all), "{all}");
    }

    #[test]
    fn only_events_share_series_and_time() {
        for source in sources(SMALL).iter().filter(|source| !matches!(source.table().name, "complaints" | "ledger")) {
            let mut seen = HashSet::new();
            source.rows(&mut |series, time, _| assert!(seen.insert((series, time)), "{}", source.table().name));
        }
    }
}
