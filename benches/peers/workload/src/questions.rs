//! The fifteen questions of TSBS devops, over random hosts and windows from a fixed seed, in each peer's SQL.

use crate::ask::{self, Prepared};
use crate::devops::{FIELDS, START_NS, Scale, TAGS};
use crate::dialect::Dialect;
use crate::random::Random;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The maximum of some fields by minute, of some hosts.
    SingleGroupby,
    /// The maximum of all fields by hour, of some hosts.
    CpuMaxAll,
    /// The mean of some fields by hour and host, of all hosts.
    DoubleGroupby,
    /// All columns where `usage_user` is over 90.
    HighCpu,
    /// The maximum of `usage_user` by minute in the last five minutes before a moment that have rows.
    OrderByLimit,
    /// The newest row of each host.
    LastPoint,
}

impl Shape {
    /// As polars' worker knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleGroupby => "single-groupby",
            Self::CpuMaxAll => "cpu-max-all",
            Self::DoubleGroupby => "double-groupby",
            Self::HighCpu => "high-cpu",
            Self::OrderByLimit => "groupby-orderby-limit",
            Self::LastPoint => "lastpoint",
        }
    }
}

/// A type of question.
#[derive(Clone, Copy, Debug)]
pub struct Type {
    /// TSBS' name.
    pub name: &'static str,
    /// What is asked.
    pub shape: Shape,
    /// Of how many fields, in their order.
    pub fields: usize,
    /// Of how many hosts, or of all.
    pub hosts: Option<usize>,
    /// Over how many hours, or over all.
    pub hours: Option<i64>,
}

const fn of(name: &'static str, shape: Shape, fields: usize, hosts: Option<usize>, hours: Option<i64>) -> Type {
    Type { name, shape, fields, hosts, hours }
}

/// All fifteen.
pub const TYPES: [Type; 15] = [
    of("single-groupby-1-1-1", Shape::SingleGroupby, 1, Some(1), Some(1)),
    of("single-groupby-1-1-12", Shape::SingleGroupby, 1, Some(1), Some(12)),
    of("single-groupby-1-8-1", Shape::SingleGroupby, 1, Some(8), Some(1)),
    of("single-groupby-5-1-1", Shape::SingleGroupby, 5, Some(1), Some(1)),
    of("single-groupby-5-1-12", Shape::SingleGroupby, 5, Some(1), Some(12)),
    of("single-groupby-5-8-1", Shape::SingleGroupby, 5, Some(8), Some(1)),
    of("cpu-max-all-1", Shape::CpuMaxAll, 10, Some(1), Some(8)),
    of("cpu-max-all-8", Shape::CpuMaxAll, 10, Some(8), Some(8)),
    of("double-groupby-1", Shape::DoubleGroupby, 1, None, Some(12)),
    of("double-groupby-5", Shape::DoubleGroupby, 5, None, Some(12)),
    of("double-groupby-all", Shape::DoubleGroupby, 10, None, Some(12)),
    of("high-cpu-1", Shape::HighCpu, 10, Some(1), Some(12)),
    of("high-cpu-all", Shape::HighCpu, 10, None, Some(12)),
    of("groupby-orderby-limit", Shape::OrderByLimit, 1, None, None),
    of("lastpoint", Shape::LastPoint, 10, None, None),
];

/// One question of a type: its hosts and its window.
#[derive(Clone, Debug)]
pub struct Question {
    /// What it is one of.
    pub of: Type,
    /// Hosts, none for all.
    pub hosts: Vec<String>,
    /// The first moment.
    pub start_ns: i64,
    /// The moment after the last.
    pub end_ns: i64,
}

/// `count` questions of a type. A window begins at any second, so its first and last bins are parts.
pub fn questions(of: Type, scale: Scale, count: usize) -> Vec<Question> {
    let mut random = Random::named(of.name);
    let one = |_| {
        let hosts = random.different(of.hosts.unwrap_or(0), scale.hosts);
        let hosts = hosts.into_iter().map(|host| format!("host_{host}")).collect();
        let all_s = (scale.end_ns() - START_NS) / 1_000_000_000;
        // One that ends before a moment ends in the second half, after some hours at least.
        let window_s = of.hours.map_or(all_s / 2, |hours| hours * 3_600);
        let start_ns = START_NS + random.below((all_s - window_s) as usize) as i64 * 1_000_000_000;
        Question { of, hosts, start_ns, end_ns: start_ns + window_s * 1_000_000_000 }
    };
    (0..count).map(one).collect()
}

impl Question {
    /// The fields it asks for.
    pub fn fields(&self) -> &'static [&'static str] {
        &FIELDS[..self.of.fields]
    }

    fn window(&self, dialect: Dialect) -> String {
        format!("time >= {} AND time < {}", dialect.moment(self.start_ns), dialect.moment(self.end_ns))
    }

    fn predicate(&self, dialect: Dialect) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(|host| format!("'{host}'")).collect();
        match hosts.as_slice() {
            [] => self.window(dialect),
            [host] => format!("hostname = {host} AND {}", self.window(dialect)),
            hosts => format!("hostname IN ({}) AND {}", hosts.join(", "), self.window(dialect)),
        }
    }

    fn each(&self, function: &str) -> String {
        self.fields()
            .iter()
            .map(|field| format!("{function}({field}) AS {field}_{function}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// In a peer's SQL. Names of results differ from those of columns, since chDB would take them for these.
    pub fn sql(&self, dialect: Dialect) -> String {
        match self.of.shape {
            Shape::SingleGroupby | Shape::CpuMaxAll => {
                let bin = dialect.bin(if self.of.shape == Shape::CpuMaxAll { 3_600 } else { 60 });
                let (values, predicate) = (self.each("max"), self.predicate(dialect));
                format!("SELECT {bin} AS bin, {values} FROM cpu WHERE {predicate} GROUP BY bin ORDER BY bin")
            }
            Shape::DoubleGroupby => {
                let (bin, values, predicate) = (dialect.bin(3_600), self.each("avg"), self.predicate(dialect));
                format!(
                    "SELECT {bin} AS bin, hostname, {values} FROM cpu WHERE {predicate} \
                     GROUP BY bin, hostname ORDER BY bin, hostname"
                )
            }
            Shape::HighCpu => {
                let (tags, fields, predicate) = (TAGS.join(", "), FIELDS.join(", "), self.predicate(dialect));
                format!("SELECT time, {tags}, {fields} FROM cpu WHERE usage_user > 90 AND {predicate}")
            }
            Shape::OrderByLimit => {
                let (bin, before) = (dialect.bin(60), dialect.moment(self.end_ns));
                format!(
                    "SELECT {bin} AS bin, max(usage_user) AS usage_user_max FROM cpu WHERE time < {before} \
                     GROUP BY bin ORDER BY bin DESC LIMIT 5"
                )
            }
            Shape::LastPoint => {
                let newest = |field: &&str| format!("{} AS {field}_last", dialect.newest(field));
                let values = self.fields().iter().map(newest).collect::<Vec<_>>().join(", ");
                format!("SELECT hostname, max(time) AS newest, {values} FROM cpu GROUP BY hostname ORDER BY hostname")
            }
        }
    }
}

impl Question {
    /// With parameters for window and hosts: the same text for all questions of a type.
    pub fn prepared(&self) -> Prepared {
        ask::prepared(self.sql(Dialect::Denyut), &[self.start_ns, self.end_ns], &self.hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_within_the_data() {
        let scale = Scale { hosts: 100, days: 1 };
        for of in TYPES {
            let found = questions(of, scale, 20);
            assert_eq!(found.len(), 20);
            for question in found {
                assert!(question.start_ns >= START_NS && question.end_ns <= scale.end_ns(), "{question:?}");
                assert_eq!(question.hosts.len(), of.hosts.unwrap_or(0));
            }
        }
    }

    #[test]
    fn questions_of_a_type_are_one_statement() {
        for of in TYPES {
            let found: Vec<_> =
                questions(of, Scale { hosts: 100, days: 1 }, 20).iter().map(Question::prepared).collect();
            for prepared in &found {
                assert_eq!(prepared.sql, found[0].sql);
                let parameters = prepared.moments.len() + prepared.texts.len();
                assert_eq!(prepared.sql.matches('$').count(), parameters, "{}", prepared.sql);
                assert!(!prepared.sql.contains("host_") && !prepared.sql.contains("TIMESTAMP"), "{}", prepared.sql);
            }
        }
    }
}
