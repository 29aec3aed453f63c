//! Whether two peers gave the same answer.

use std::cmp::Ordering;
use std::path::Path;

use crate::Outcome;

/// How far apart two numbers may be, in parts of the larger: sums of floats depend on the order in which they are added.
pub const TOLERANCE: f64 = 1e-9;

/// An answer's rows, in an order of their own.
pub struct Answer {
    kinds: Vec<char>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Time(i64),
    Number(f64),
    Text(String),
}

impl Cell {
    fn parse(kind: char, text: &str) -> Outcome<Self> {
        Ok(match (kind, text) {
            (_, "") => Self::Null,
            ('t', text) => Self::Time(text.parse()?),
            ('f', text) => Self::Number(text.parse()?),
            (_, text) => Self::Text(text.to_string()),
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Time(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
            (a, b) => a == b,
        }
    }
}

impl Answer {
    /// As a worker wrote it. Rows are put in order by their texts and times, and where these are equal by numbers: so two
    /// answers whose numbers differ within the tolerance are in the same order if their keys are unique.
    pub fn read(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path)?;
        let mut lines = text.lines();
        let kinds: Vec<char> =
            lines.next().unwrap_or_default().split('\t').filter_map(|kind| kind.chars().next()).collect();
        let mut rows = Vec::new();
        for line in lines {
            let cells = line.split('\t').zip(&kinds).map(|(text, kind)| Cell::parse(*kind, text));
            rows.push(cells.collect::<Outcome<Vec<_>>>()?);
        }
        let keys: Vec<usize> = (0..kinds.len()).filter(|at| kinds[*at] != 'f').collect();
        rows.sort_by(|a, b| {
            let by_key = keys.iter().map(|at| a[*at].order(&b[*at])).find(|order| order.is_ne());
            let by_all = || a.iter().zip(b).map(|(a, b)| a.order(b)).find(|order| order.is_ne());
            by_key.or_else(by_all).unwrap_or(Ordering::Equal)
        });
        Ok(Self { kinds, rows })
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// What differs first, if anything.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.rows.is_empty() && other.rows.is_empty() {
            return None;
        }
        if self.rows.len() != other.rows.len() {
            return Some(format!("{} rows, not {}", other.rows.len(), self.rows.len()));
        }
        if self.kinds.len() != other.kinds.len() {
            return Some(format!("{} columns, not {}", other.kinds.len(), self.kinds.len()));
        }
        let differs = |(a, b): &(&Vec<Cell>, &Vec<Cell>)| !a.iter().zip(*b).all(|(a, b)| a.agrees(b));
        let (a, b) = self.rows.iter().zip(&other.rows).find(differs)?;
        Some(format!("{b:?}, not {a:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("peers-answer-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let answer = Answer::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        answer
    }

    #[test]
    fn order_does_not_count_and_values_do() {
        let one = answer("t\ts\tf\n1\ta\t0.1\n1\tb\t3\n");
        assert_eq!(one.difference(&answer("t\ts\tf\n1\tb\t3.0\n1\ta\t0.10000000000000002\n")), None);
        assert!(one.difference(&answer("t\ts\tf\n1\ta\t0.1\n1\tb\t3.00001\n")).is_some());
        assert!(one.difference(&answer("t\ts\tf\n1\ta\t0.1\n1\tb\t\n")).is_some());
        assert!(one.difference(&answer("t\ts\tf\n1\ta\t0.1\n")).is_some());
        assert!(one.difference(&answer("t\ts\tf\n2\ta\t0.1\n1\tb\t3\n")).is_some());
        assert_eq!(answer("t\n").difference(&answer("")), None);
    }
}
