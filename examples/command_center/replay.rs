//! Replaying the files as live feeds: several writers, in step with one clock, until so many rows are in.
//!
//! A replay is one or more laps through the year, each moved to follow the one before. The last lap has the real dates, so
//! earlier laps are in the past, and the first lap starts where it must for the row count to come out.
//! A row is sent in the hour in which it became known: a late departure comes hours after the time that it carries. Rows
//! of one series go through one writer and so arrive in order of the file, hour by hour.

use std::ops::Range;

use denyut::prelude::*;

use crate::Outcome;
use crate::city::{City, Record};
use crate::clock::Clock;
use crate::feeds::FEEDS;

const HOUR_S: i64 = 3_600;
/// How far the laps are apart: the first number of whole weeks that is longer than the feeds together.
const LAP_S: i64 = 53 * 7 * 86_400;
/// More would begin before 1677, where 64 bits of nanoseconds do.
const LAPS_MAX: u64 = 330;

/// What is sent when. An hour of the replay is a number from 0, over all laps.
pub(crate) struct Plan {
    pub(crate) city: City,
    /// For each record its hour in the lap, ascending.
    hour_of: Vec<u32>,
    /// Unix time at which the lap's first hour begins, in the last lap.
    begin_s: i64,
    hours_per_lap: u64,
    pub(crate) laps: u64,
    /// Records of the first lap that are left out.
    pub(crate) skipped: usize,
    /// From the hour of the first row sent to that after the last.
    pub(crate) hours: Range<u64>,
}

impl Plan {
    /// A plan that sends `rows` rows, or every row of the files once.
    pub(crate) fn new(mut city: City, rows: Option<u64>) -> Outcome<Self> {
        let known_hour = |record: &Record| record.known_s.div_euclid(HOUR_S);
        // Stable: inside an hour the files' order stays, which is not that of time.
        city.records.sort_by_key(known_hour);
        let (Some(first), Some(last)) = (city.records.first(), city.records.last()) else {
            return Err("the files hold no rows".into());
        };
        let (first, last) = (known_hour(first), known_hour(last));
        let hour_of = city.records.iter().map(|record| u32::try_from(known_hour(record) - first));
        let hour_of = hour_of.collect::<Result<Vec<_>, _>>()?;
        let each = city.records.len() as u64;
        let rows = rows.unwrap_or(each);
        let laps = rows.div_ceil(each);
        if rows == 0 || laps > LAPS_MAX {
            return Err(format!("--rows must be from 1 to {}", LAPS_MAX * each).into());
        }
        let skipped = usize::try_from(laps * each - rows)?;
        let hours_per_lap = u64::try_from(last + 1 - first)?;
        let from = hour_of.get(skipped).copied().map_or(0, u64::from);
        let hours = from..laps * hours_per_lap;
        Ok(Self { city, hour_of, begin_s: first * HOUR_S, hours_per_lap, laps, skipped, hours })
    }

    /// Rows that it sends.
    pub(crate) fn rows(&self) -> u64 {
        self.laps * self.city.records.len() as u64 - self.skipped as u64
    }

    /// By how many seconds lap `lap` is moved.
    pub(crate) fn moved_s(&self, lap: u64) -> i64 {
        (lap as i64 + 1 - self.laps as i64) * LAP_S
    }

    /// The moment when hour `hour` begins.
    pub(crate) fn moment(&self, hour: u64) -> Outcome<Time> {
        // The end of the last hour belongs to the last lap.
        let lap = (hour / self.hours_per_lap).min(self.laps - 1);
        let in_lap = (hour - lap * self.hours_per_lap) as i64;
        Ok(Time::from_secs(self.moved_s(lap) + self.begin_s + in_lap * HOUR_S)?)
    }

    /// Sends this writer's share: the series whose number leaves `writer` when divided by the number of writers.
    pub(crate) fn send(&self, store: &Store, clock: &Clock, writer: usize) -> Outcome<()> {
        let _leaving = clock.leaving(writer);
        self.send_all(store, clock, writer).inspect_err(|_| clock.stop())
    }

    fn send_all(&self, store: &Store, clock: &Clock, writer: usize) -> Outcome<()> {
        let mine = |record: &Record| record.series as usize % clock.writers() == writer;
        let mut writers = Vec::new();
        for feed in &FEEDS {
            writers.push(store.table(feed.schema())?.writer()?);
        }
        let mut handles = Vec::new();
        for (feed, tags) in &self.city.series {
            let table = FEEDS.get(*feed as usize).map(|feed| store.table(feed.schema())).transpose()?;
            handles
                .push(table.ok_or("a series of no feed")?.series(tags.iter().map(String::as_str).collect::<Vec<_>>())?);
        }
        let records: Vec<(usize, u32, &Record)> = (self.hour_of.iter().zip(&self.city.records).enumerate())
            .filter(|(_, (_, record))| mine(record))
            .map(|(order, (hour, record))| (order, *hour, record))
            .collect();
        let mut values = Vec::new();
        for lap in 0..self.laps {
            let moved_s = self.moved_s(lap);
            let skipped = if lap == 0 { self.skipped } else { 0 };
            let mut left = records.iter().skip_while(|(order, ..)| *order < skipped).peekable();
            let begin = lap * self.hours_per_lap;
            for hour in self.hours.start.max(begin)..begin + self.hours_per_lap {
                let mut rows = 0;
                while let Some((_, _, record)) = left.next_if(|(_, of, _)| begin + u64::from(*of) <= hour) {
                    let (Some(to), Some(series)) =
                        (writers.get_mut(record.feed as usize), handles.get(record.series as usize))
                    else {
                        return Err("a record of no feed".into());
                    };
                    values.clear();
                    values.extend(self.city.cells(record).iter().map(|cell| self.city.value(*cell)));
                    let time = Time::from_secs(record.time_s + moved_s)?;
                    rows += to.append_to(*series, time, &values)?.accepted();
                }
                if !clock.finish(writer, hour, rows) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
