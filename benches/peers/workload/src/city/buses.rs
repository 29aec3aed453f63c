//! Buses: where each is every half minute while it is in service, on the line that it runs just then.

use super::delivery::{Delivery, Link, Sensor};
use super::{DAY, HOUR, Scale, clock, demand, operator, round};
use crate::ask::SECOND;
use crate::devops::START_NS;
use crate::random::Random;
use crate::table::{Kind, Source, Table, Take};

const STEP: i64 = 30 * SECOND;
/// Lines that a bus runs by turns, four hours each: a bus is as many series.
const LINES_A_BUS: usize = 4;
/// Tunnels, yards and cells without a signal.
const LINK: Link = Link { share: 0.125, mean_s: 240.0 };

/// The table `buses`.
pub(super) struct Buses(pub(super) Scale);

struct Bus {
    sensor: Sensor,
    /// When within half a minute it tells.
    phase: i64,
    /// Hours of the day between which it is in service.
    service: (f64, f64),
    lines: Vec<usize>,
    delay_s: f64,
}

impl Buses {
    fn count(&self) -> usize {
        self.0.of(0.8)
    }

    fn lines(&self, bus: usize) -> Vec<usize> {
        let lines = (self.0.people / 12_500).max(LINES_A_BUS);
        Random::new(Random::named("lines").bits() ^ bus as u64).different(LINES_A_BUS, lines)
    }

    fn one(&self, number: usize) -> Bus {
        let mut sensor = Sensor::new("bus", number, self.0, &LINK);
        let random = &mut sensor.random;
        let phase = random.below(30_000) as i64 * 1_000_000;
        let service = (4.5 + 2.5 * random.unit(), 19.0 + 5.0 * random.unit());
        Bus { sensor, phase, service, lines: self.lines(number), delay_s: 0.0 }
    }
}

impl Bus {
    /// Which of its lines it runs, if it is in service.
    fn runs(&self, time: i64) -> Option<usize> {
        let (hour, day) = (clock(time), (time - START_NS).div_euclid(DAY));
        let inside = (self.service.0..self.service.1).contains(&hour);
        inside.then(|| (day as usize + ((hour - self.service.0) / 4.0) as usize) % LINES_A_BUS)
    }

    fn measure(&mut self, time: i64, which: usize) -> [f64; 4] {
        let random = &mut self.sensor.random;
        let line = self.lines[which];
        // A line is a circle around a centre of its own, run through once an hour.
        let (row, column) = (line / 20, line % 20);
        let turn = time.rem_euclid(HOUR) as f64 / HOUR as f64 + self.phase as f64 / STEP as f64;
        let angle = turn * std::f64::consts::TAU;
        let lat = -0.03 + 0.01 * row as f64 + 0.03 * angle.sin() + 1e-5 * random.normal();
        let lon = 109.30 + 0.01 * column as f64 + 0.03 * angle.cos() + 1e-5 * random.normal();
        // One in five stands at a stop or a light.
        let speed = if random.unit() < 0.2 { 0.0 } else { (22.0 + 8.0 * random.normal()).clamp(0.0, 70.0) };
        self.delay_s += 12.0 * random.normal() + 0.02 * (400.0 * demand(time) - self.delay_s);
        [round(lat, 5), round(lon, 5), round(speed, 1), self.delay_s.round()]
    }
}

impl Source for Buses {
    fn table(&self) -> Table {
        Table {
            name: "buses",
            tags: &["bus", "line", "operator"],
            fields: &[("lat", Kind::F64), ("lon", Kind::F64), ("speed_kmh", Kind::F64), ("delay_s", Kind::I64)],
            order: &["bus"],
        }
    }

    fn series(&self) -> Vec<Vec<String>> {
        let of_bus = |bus: usize| {
            let tags = move |line: usize| {
                vec![format!("bus_{bus:05}"), format!("line_{line:03}"), operator(bus % Scale::OPERATORS)]
            };
            self.lines(bus).into_iter().map(tags)
        };
        (0..self.count()).flat_map(of_bus).collect()
    }

    fn rows(&self, take: &mut Take<'_>) {
        let mut delivery = Delivery::new(take);
        let mut buses: Vec<(usize, Bus)> = (0..self.count()).map(|number| (number, self.one(number))).collect();
        buses.sort_by_key(|(_, bus)| bus.phase);
        for tick in self.0.ticks(STEP) {
            for (number, bus) in &mut buses {
                let time = tick + bus.phase;
                let Some(which) = bus.runs(time) else { continue };
                let values = bus.measure(time, which);
                if let Some(arrives) = bus.sensor.arrives(time) {
                    delivery.give(*number * LINES_A_BUS + which, time, arrives, &values);
                }
            }
        }
        delivery.finish();
    }
}
