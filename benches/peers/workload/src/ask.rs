//! Questions of any type, in each peer's SQL.

use crate::dialect::Dialect;
use crate::random::Random;

/// Seconds in nanoseconds.
pub const SECOND: i64 = 1_000_000_000;

/// The time that rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub start_ns: i64,
    /// The moment after the last.
    pub end_ns: i64,
}

impl Span {
    /// A window of `seconds`, but at most of half the span, which begins at any second; its begin and end.
    pub fn window(self, seconds: i64, random: &mut Random) -> [i64; 2] {
        let all = (self.end_ns - self.start_ns) / SECOND;
        let seconds = seconds.min(all / 2);
        let start_ns = self.start_ns + random.below((all - seconds) as usize) as i64 * SECOND;
        [start_ns, start_ns + seconds * SECOND]
    }

    /// Some second of the second half.
    pub fn moment(self, random: &mut Random) -> i64 {
        let half = (self.end_ns - self.start_ns) / SECOND / 2;
        self.end_ns - random.below(half as usize) as i64 * SECOND
    }
}

/// What questions are drawn from.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// The time that rows are of.
    pub span: Span,
    /// How many live there, where that says which series there are.
    pub people: usize,
}

/// A statement, or why there is none.
pub type Sql = Result<String, &'static str>;

/// Moments, in nanoseconds, and values of tags.
pub type Drawn = (Vec<i64>, Vec<String>);

/// A type of question: what differs between its questions, and how one is put.
#[derive(Clone, Copy)]
pub struct Type {
    /// As tables and polars' worker name it.
    pub name: &'static str,
    /// Draws the moments and texts that a question is about.
    pub draw: fn(World, &mut Random) -> Drawn,
    /// Puts it, or says why a peer cannot be asked.
    pub sql: fn(&Ask, Dialect) -> Sql,
}

/// One question of a type.
#[derive(Clone)]
pub struct Ask {
    /// What it is one of.
    pub of: Type,
    /// Moments, in nanoseconds.
    pub moments: Vec<i64>,
    /// Values of tags.
    pub texts: Vec<String>,
}

impl Ask {
    /// In a peer's SQL, or why that cannot be.
    pub fn sql(&self, dialect: Dialect) -> Sql {
        (self.of.sql)(self, dialect)
    }

    /// Moment `at`, to compare `time` with.
    pub fn moment(&self, dialect: Dialect, at: usize) -> String {
        dialect.moment(self.moments[at])
    }

    /// From moment `from` on and before moment `to`.
    pub fn between(&self, dialect: Dialect, from: usize, to: usize) -> String {
        format!("time >= {} AND time < {}", self.moment(dialect, from), self.moment(dialect, to))
    }

    /// With parameters: the same text for all questions of a type.
    pub fn prepared(&self) -> Result<Prepared, &'static str> {
        Ok(prepared(self.sql(Dialect::Denyut)?, &self.moments, &self.texts))
    }
}

/// `count` questions of a type.
pub fn asks(of: Type, world: World, count: usize) -> Vec<Ask> {
    let mut random = Random::named(of.name);
    let one = |_| {
        let (moments, texts) = (of.draw)(world, &mut random);
        Ask { of, moments, texts }
    };
    (0..count).map(one).collect()
}

/// A statement that is planned once, and what one question puts in the place of its parameters.
pub struct Prepared {
    /// denyut's SQL, with parameters.
    pub sql: String,
    /// The first parameters, in nanoseconds.
    pub moments: Vec<i64>,
    /// The others.
    pub texts: Vec<String>,
}

/// Takes moments and texts that `sql` has as literals out of it.
pub fn prepared(mut sql: String, moments: &[i64], texts: &[String]) -> Prepared {
    let (mut used, mut words) = (Vec::new(), Vec::new());
    for ns in moments {
        let literal = Dialect::Denyut.moment(*ns);
        if sql.contains(&literal) {
            used.push(*ns);
            sql = sql.replace(&literal, &format!("${}", used.len()));
        }
    }
    for text in texts {
        let literal = format!("'{text}'");
        if sql.contains(&literal) {
            words.push(text.clone());
            sql = sql.replace(&literal, &format!("${}", used.len() + words.len()));
        }
    }
    Prepared { sql, moments: used, texts: words }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Holds for every list of types: windows lie within the span, and a prepared text is the same for all questions.
    pub(crate) fn types_are_sound(types: &[Type], world: World) {
        for of in types {
            let asked = asks(*of, world, 20);
            let texts: Vec<String> = asked.iter().filter_map(|ask| Some(ask.prepared().ok()?.sql)).collect();
            assert_eq!(texts.len(), 20, "{}", of.name);
            for (ask, text) in asked.iter().zip(&texts) {
                // Some look a little further back than what the span has.
                let slack = 4 * 3_600 * SECOND;
                let inside = |ns: &i64| (world.span.start_ns - slack..=world.span.end_ns).contains(ns);
                assert!(ask.moments.iter().all(inside), "{}: {:?}", of.name, ask.moments);
                assert_eq!(*text, texts[0]);
                assert!(!text.contains("TIMESTAMP '"), "{text}");
            }
        }
    }
}
