//! What an answer says of its own completeness, as values.

use std::time::Duration;

use super::super::text::text;
use crate::error::Result;
use crate::model::Time;
use crate::query::{FromRollup, Rows};

/// How complete an answer is: the feeds it was made of. Made by
/// [`Store::query_with_trust`](crate::Store::query_with_trust).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Trust {
    /// The feeds that the statement reads, and the tables it reads that no feed is a contract for.
    pub feeds: Vec<FeedTrust>,
    /// The rollups that gave a part of the answer, as [`Rows::answered_from`](crate::Rows::answered_from) says.
    pub rollups: Vec<FromRollup>,
}

/// One feed of an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedTrust {
    /// Its name; `None` for a table without a contract, of which nothing is expected.
    pub feed: Option<String>,
    /// Its agency.
    pub agency: Option<String>,
    /// The table.
    pub table: String,
    /// Its last row within the range.
    pub last_row: Option<Time>,
    /// How old that was at the end of the range.
    pub age: Option<Duration>,
    /// Slots of one cadence and series that should have a row.
    pub expected: u64,
    /// Those that have one.
    pub present: u64,
}

impl Trust {
    /// The statement that tells it of another.
    pub(crate) fn statement(of: &str) -> String {
        format!("SELECT * FROM completeness({})", text(of))
    }

    /// Of what `rows` say of `answer`.
    pub(crate) fn of(rows: &Rows, answer: &Rows) -> Result<Self> {
        let name = |row, column| rows.str(row, column).map(|text| text.map(ToString::to_string));
        let count =
            |row, column| rows.i64(row, column).map(|count| count.map_or(0, |count| count.max(0).cast_unsigned()));
        let feed = |row| {
            let age = rows.f64(row, "age_s")?;
            Ok(FeedTrust {
                feed: name(row, "feed")?,
                agency: name(row, "agency")?,
                table: name(row, "table_name")?.unwrap_or_default(),
                last_row: rows.i64(row, "last_row")?.map(Time::from_nanos),
                age: age.and_then(|age| Duration::try_from_secs_f64(age).ok()),
                expected: count(row, "expected")?,
                present: count(row, "present")?,
            })
        };
        let feeds = (0..rows.num_rows()).map(feed).collect::<Result<_>>()?;
        Ok(Self { feeds, rollups: answer.answered_from().to_vec() })
    }

    /// The share of expected rows that is there, over all feeds; `None` if nothing was expected.
    pub fn present_share(&self) -> Option<f64> {
        let expected: u64 = self.feeds.iter().map(|feed| feed.expected).sum();
        let present: u64 = self.feeds.iter().map(|feed| feed.present).sum();
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        (expected > 0).then(|| present as f64 / expected as f64)
    }

    /// The feed whose last row is the oldest; one without any row before all others.
    pub fn stalest(&self) -> Option<&FeedTrust> {
        let feeds = self.feeds.iter().filter(|feed| feed.feed.is_some());
        feeds.max_by_key(|feed| feed.age.unwrap_or(Duration::MAX))
    }

    /// Tables that the statement reads and nobody has declared a feed for.
    pub fn without_contract(&self) -> impl Iterator<Item = &str> {
        self.feeds.iter().filter(|feed| feed.feed.is_none()).map(|feed| feed.table.as_str())
    }
}
