//! Loops in the road: vehicles, occupancy and speed of five minutes, told on the clock's marks.

use super::delivery::{Delivery, Episodes, Link, Outages, Sensor};
use super::{Scale, demand, district, round};
use crate::ask::SECOND;
use crate::random::Random;
use crate::table::{Kind, Source, Table, Take};

const STEP: i64 = 300 * SECOND;
const LOOPS_A_ROAD: usize = 6;
const LINK: Link = Link { share: 0.12, mean_s: 900.0 };

/// The table `loops`.
pub(super) struct Loops(pub(super) Scale);

struct Loop {
    sensor: Sensor,
    /// Those of a road are jammed at once.
    jam: Episodes,
    free_kmh: f64,
    /// Vehicles of five minutes.
    capacity: f64,
    district: usize,
}

impl Loops {
    fn count(&self) -> usize {
        self.0.of(6.0)
    }

    fn district(&self, number: usize) -> usize {
        number / LOOPS_A_ROAD % self.0.districts()
    }

    fn one(&self, number: usize) -> Loop {
        let (start_ns, road) = (self.0.span().start_ns, number / LOOPS_A_ROAD);
        let mut of_road = Random::new(Random::named("road").bits() ^ road as u64);
        let free_kmh = [30.0, 50.0, 50.0, 50.0, 70.0, 100.0][of_road.below(6)];
        let capacity = 40.0 + of_road.unit() * 100.0;
        let jam = Episodes::new(of_road, start_ns, 0.02, 2_400.0);
        let sensor = Sensor::new("loop", number, self.0, &LINK);
        Loop { sensor, jam, free_kmh, capacity, district: self.district(number) }
    }
}

impl Loop {
    fn measure(&mut self, time: i64) -> [f64; 3] {
        let jammed = self.jam.at(time).is_some();
        let random = &mut self.sensor.random;
        let asked = (demand(time) * (1.0 + 0.12 * random.normal())).max(0.0);
        let (flow, slowed) = if jammed { (0.6 * asked, 0.35) } else { (asked, 1.0 - 0.45 * asked.min(1.1).powi(4)) };
        let vehicles = (flow * self.capacity).round();
        let speed = (self.free_kmh * slowed + 2.5 * random.normal()).max(3.0);
        // A vehicle covers a loop for about six metres.
        let occupancy = (vehicles * 6.0 / (speed / 3.6) / 300.0 * 100.0).min(100.0);
        // No vehicle, no speed.
        [vehicles, round(occupancy, 1), if vehicles > 0.0 { round(speed, 1) } else { f64::NAN }]
    }
}

impl Source for Loops {
    fn table(&self) -> Table {
        Table {
            name: "loops",
            tags: &["sensor", "road", "direction", "district"],
            fields: &[("vehicles", Kind::I64), ("occupancy_pct", Kind::F64), ("speed_kmh", Kind::F64)],
            order: &["sensor"],
        }
    }

    fn series(&self) -> Vec<Vec<String>> {
        let tags = |number: usize| {
            let direction = ["inbound", "outbound"][number % 2].to_string();
            let (road, district) = (format!("road_{:05}", number / LOOPS_A_ROAD), district(self.district(number)));
            vec![format!("loop_{number:06}"), road, direction, district]
        };
        (0..self.count()).map(tags).collect()
    }

    fn rows(&self, take: &mut Take<'_>) {
        let (outages, mut delivery) = (Outages::new(self.0), Delivery::new(take));
        let mut loops: Vec<Loop> = (0..self.count()).map(|number| self.one(number)).collect();
        for time in self.0.ticks(STEP) {
            for (number, one) in loops.iter_mut().enumerate() {
                let values = one.measure(time);
                if let Some(arrives) = one.sensor.arrives(time) {
                    let back = outages.at(one.district, time).unwrap_or(time);
                    delivery.give(number, time, arrives.max(back), &values);
                }
            }
        }
        delivery.finish();
    }
}
