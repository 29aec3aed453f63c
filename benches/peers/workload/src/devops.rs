//! TSBS devops, cpu-only: every host reports ten usages every ten seconds.
//!
//! After the Time Series Benchmark Suite's use case of that name: each usage is a random walk with steps of N(0, 1) that
//! is kept within 0..=100 and rounded down when it is reported. Rows come in order of time, all hosts of a moment together.

use crate::random::Random;

/// The ten usages.
pub const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

/// The ten tags of a host.
pub const TAGS: [&str; 10] = [
    "hostname",
    "region",
    "datacenter",
    "rack",
    "os",
    "arch",
    "team",
    "service",
    "service_version",
    "service_environment",
];

/// 2024-01-01T00:00:00Z.
pub const START_NS: i64 = 1_704_067_200_000_000_000;

/// Between two rows of a host.
pub const STEP_NS: i64 = 10_000_000_000;

const STEPS_A_DAY: usize = 8_640;

const REGIONS: [&str; 9] = [
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
];
const OSES: [&str; 3] = ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"];
const ARCHES: [&str; 2] = ["x64", "x86"];
const TEAMS: [&str; 4] = ["SF", "NYC", "LON", "CHI"];
const ENVIRONMENTS: [&str; 3] = ["production", "staging", "test"];

/// How many hosts report for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Hosts.
    pub hosts: usize,
    /// Days.
    pub days: usize,
}

impl Scale {
    /// Moments at which all hosts report.
    pub fn steps(self) -> usize {
        self.days * STEPS_A_DAY
    }

    /// Rows in all.
    pub fn rows(self) -> usize {
        self.hosts * self.steps()
    }

    /// The moment after the last.
    pub fn end_ns(self) -> i64 {
        START_NS + self.steps() as i64 * STEP_NS
    }
}

/// The tags of host `number`, in the order of [`TAGS`]. Several have values over twelve bytes.
pub fn tags(number: usize) -> [String; 10] {
    let mut random = Random::new(0x7A65 ^ ((number as u64) << 16));
    let region = REGIONS[random.below(REGIONS.len())];
    let zone = (b'a' + random.below(3) as u8) as char;
    [
        format!("host_{number}"),
        region.to_string(),
        format!("{region}{zone}"),
        random.below(100).to_string(),
        OSES[random.below(OSES.len())].to_string(),
        ARCHES[random.below(ARCHES.len())].to_string(),
        TEAMS[random.below(TEAMS.len())].to_string(),
        random.below(19).to_string(),
        random.below(2).to_string(),
        ENVIRONMENTS[random.below(ENVIRONMENTS.len())].to_string(),
    ]
}

/// The walks of all hosts, a step at a time.
#[derive(Clone, Debug)]
pub struct Walks {
    random: Random,
    exact: Vec<[f64; 10]>,
    shown: Vec<[f64; 10]>,
}

impl Walks {
    /// At their begin, each somewhere in 0..100.
    pub fn new(hosts: usize) -> Self {
        let mut random = Random::new(20_260_101);
        let exact: Vec<[f64; 10]> = (0..hosts).map(|_| std::array::from_fn(|_| random.unit() * 100.0)).collect();
        let shown = exact.clone();
        Self { random, exact, shown }
    }

    /// What all hosts report next.
    pub fn step(&mut self) -> &[[f64; 10]] {
        for (exact, shown) in self.exact.iter_mut().zip(&mut self.shown) {
            for (exact, shown) in exact.iter_mut().zip(shown) {
                *shown = exact.floor();
                *exact = (*exact + self.random.normal()).clamp(0.0, 100.0);
            }
        }
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_are_whole_within_bounds_and_the_same_for_ever() {
        let (mut walks, mut again) = (Walks::new(50), Walks::new(50));
        let mut over_90 = 0;
        for _ in 0..1_000 {
            let shown = walks.step();
            assert_eq!(shown, again.step());
            for value in shown.iter().flatten() {
                assert!((0.0..=100.0).contains(value) && value.fract() == 0.0, "{value}");
            }
            over_90 += shown.iter().filter(|host| host[0] > 90.0).count();
        }
        // A walk between two walls is everywhere alike.
        assert!((2_000..10_000).contains(&over_90), "{over_90} of 50,000");
    }

    #[test]
    fn scales_are_as_named() {
        assert_eq!(Scale { hosts: 400, days: 3 }.rows(), 10_368_000);
        assert_eq!(tags(7), tags(7));
        assert!((0..100).flat_map(tags).any(|tag| tag.len() > 12));
    }
}
