//! Stations that measure air and water.

use super::delivery::{Delivery, Episodes, Link, Outages, Sensor};
use super::{HOUR, Scale, clock, demand, district, round};
use crate::ask::SECOND;
use crate::random::Random;
use crate::table::{Kind, Source, Table, Take};

const AIR_STEP: i64 = 150 * SECOND;
/// Citizens' stations hang on the wireless of a house.
const AIR_LINK: Link = Link { share: 0.10, mean_s: 3_600.0 };
const WATER_STEP: i64 = 300 * SECOND;
/// How often a gauge tells when the water is not high.
const WATER_USUAL: i64 = 900 * SECOND;
const WATER_LINK: Link = Link { share: 0.12, mean_s: 1_800.0 };
/// From which level a gauge tells more often.
const HIGH_CM: f64 = 300.0;

/// The table `air`.
pub(super) struct Air(pub(super) Scale);

struct AirStation {
    number: usize,
    sensor: Sensor,
    /// When within a step it tells.
    phase: i64,
    official: bool,
    district: usize,
    pm25: f64,
}

impl Air {
    fn officials(&self) -> usize {
        self.0.of(0.01)
    }

    fn count(&self) -> usize {
        self.officials() + self.0.of(0.3)
    }

    fn one(&self, number: usize) -> AirStation {
        let mut sensor = Sensor::new("air", number, self.0, &AIR_LINK);
        let official = number < self.officials();
        let phase = if official { 0 } else { sensor.random.below(150_000) as i64 * 1_000_000 };
        let pm25 = 8.0 + 10.0 * sensor.random.unit();
        AirStation { number, sensor, phase, official, district: number % self.0.districts(), pm25 }
    }
}

impl AirStation {
    fn measure(&mut self, time: i64) -> [f64; 4] {
        let random = &mut self.sensor.random;
        let usual = 7.0 + 14.0 * demand(time) + (self.district % 5) as f64;
        self.pm25 = (self.pm25 + 0.05 * (usual - self.pm25) + 0.8 * random.normal()).max(0.5);
        let pm10 = self.pm25 * (1.4 + 0.1 * random.normal()).max(1.0);
        let no2 = if self.official { (5.0 + 45.0 * demand(time) + 4.0 * random.normal()).max(0.0) } else { f64::NAN };
        let temperature = 27.0 - 4.0 * ((clock(time) - 14.0) / 24.0 * std::f64::consts::TAU).cos().abs();
        [round(self.pm25, 2), round(pm10, 2), round(no2, 1), round(temperature + 0.2 * random.normal(), 1)]
    }
}

impl Source for Air {
    fn table(&self) -> Table {
        Table {
            name: "air",
            tags: &["station", "kind", "district"],
            fields: &[("pm25", Kind::F64), ("pm10", Kind::F64), ("no2", Kind::F64), ("temperature_c", Kind::F64)],
            order: &["station"],
        }
    }

    fn series(&self) -> Vec<Vec<String>> {
        let tags = |number: usize| {
            let kind = if number < self.officials() { "official" } else { "citizen" };
            vec![format!("air_{number:05}"), kind.to_string(), district(number % self.0.districts())]
        };
        (0..self.count()).map(tags).collect()
    }

    fn rows(&self, take: &mut Take<'_>) {
        let (outages, mut delivery) = (Outages::new(self.0), Delivery::new(take));
        let mut stations: Vec<AirStation> = (0..self.count()).map(|number| self.one(number)).collect();
        stations.sort_by_key(|station| station.phase);
        for tick in self.0.ticks(AIR_STEP) {
            for station in &mut stations {
                let time = tick + station.phase;
                if station.official && time % HOUR != 0 {
                    continue;
                }
                let values = station.measure(time);
                if let Some(arrives) = station.sensor.arrives(time) {
                    let back = outages.at(station.district, time).unwrap_or(time);
                    delivery.give(station.number, time, arrives.max(back), &values);
                }
            }
        }
        delivery.finish();
    }
}

/// The table `water`: gauges of rain, one a district, then those of rivers and sewers.
pub(super) struct Water(pub(super) Scale);

struct Gauge {
    sensor: Sensor,
    /// Those of a district have the same rain.
    storm: Episodes,
    district: usize,
    rains: bool,
    level_cm: f64,
    base_cm: f64,
    fallen_mm: f64,
}

/// The name of some gauge that tells of a level.
pub fn water_station(scale: Scale, random: &mut Random) -> String {
    let (all, rain) = (Water(scale).count(), scale.districts());
    format!("gauge_{:05}", rain + random.below(all - rain))
}

impl Water {
    fn count(&self) -> usize {
        self.0.districts() + self.0.of(0.3)
    }

    fn one(&self, number: usize) -> Gauge {
        let (start_ns, district) = (self.0.span().start_ns, number % self.0.districts());
        let storm = Random::new(Random::named("storm").bits() ^ district as u64);
        let mut sensor = Sensor::new("water", number, self.0, &WATER_LINK);
        let base_cm = 80.0 + 140.0 * sensor.random.unit();
        let storm = Episodes::new(storm, start_ns, 0.2, 5_400.0);
        let rains = number < self.0.districts();
        Gauge { sensor, storm, district, rains, level_cm: base_cm, base_cm, fallen_mm: 0.0 }
    }
}

impl Gauge {
    /// Five minutes go by.
    fn live(&mut self, time: i64) {
        let raining = self.storm.at(time).is_some();
        let random = &mut self.sensor.random;
        let fallen = if raining { random.wait(0.8) } else { 0.0 };
        self.fallen_mm += fallen;
        self.level_cm += 9.0 * fallen - 0.03 * (self.level_cm - self.base_cm) + 0.4 * random.normal();
    }

    fn tells(&self, time: i64) -> bool {
        time % WATER_USUAL == 0 || (!self.rains && self.level_cm > HIGH_CM)
    }

    /// Level, flow and rain: of each gauge those that it has.
    fn measure(&mut self) -> [f64; 3] {
        if self.rains {
            return [f64::NAN, f64::NAN, round(std::mem::take(&mut self.fallen_mm), 1)];
        }
        let flow = (self.level_cm.max(0.0) / 100.0).powf(1.6) * 3.0;
        [round(self.level_cm, 1), round(flow, 3), f64::NAN]
    }
}

impl Source for Water {
    fn table(&self) -> Table {
        Table {
            name: "water",
            tags: &["station", "kind", "district"],
            fields: &[("level_cm", Kind::F64), ("flow_m3s", Kind::F64), ("rain_mm", Kind::F64)],
            order: &["station"],
        }
    }

    fn series(&self) -> Vec<Vec<String>> {
        let districts = self.0.districts();
        let tags = |number: usize| {
            let kind = if number < districts { "rain" } else { ["river", "sewer"][number % 2] };
            vec![format!("gauge_{number:05}"), kind.to_string(), district(number % districts)]
        };
        (0..self.count()).map(tags).collect()
    }

    fn rows(&self, take: &mut Take<'_>) {
        let (outages, mut delivery) = (Outages::new(self.0), Delivery::new(take));
        let mut gauges: Vec<Gauge> = (0..self.count()).map(|number| self.one(number)).collect();
        for time in self.0.ticks(WATER_STEP) {
            for (number, gauge) in gauges.iter_mut().enumerate() {
                gauge.live(time);
                let arrives = gauge.sensor.arrives(time);
                if let (true, Some(arrives)) = (gauge.tells(time), arrives) {
                    let back = outages.at(gauge.district, time).unwrap_or(time);
                    let values = gauge.measure();
                    delivery.give(number, time, arrives.max(back), &values);
                }
            }
        }
        delivery.finish();
    }
}
