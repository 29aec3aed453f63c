//! Scenarios over a whole store, on the simulator and on the real file system.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup;
mod care;
mod clock;
mod everything;
mod flips;
mod following;
#[cfg(feature = "feed")]
mod imports;
mod ingest_time;
mod lifecycle;
mod model;
mod power_loss;
mod prefix;
mod quarantine;
mod quiet;
mod recovered;
mod recycled;
mod repair;
mod rollups;
mod salvage;
mod scenarios;
mod segments;
mod tended;
mod threads;
mod verify;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};

use crate::fs::sim::SimFs;
use crate::prelude::*;
use crate::{Result, Table};

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// A linear congruential generator: the same seed gives the same numbers.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Opens a store on the simulator, with small blocks and no threads.
fn open_sim(fs: &Arc<SimFs>) -> Result<Store> {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    Store::open_on(fs.clone(), options.without_background(), Path::new("/store"))
}

/// A table of one tag and a number that says which row it is.
fn numbered() -> Schema {
    Schema::new("numbered").tag("writer").i64("number", "").f64("half", "").utf8("text", "")
}

/// Rows of `numbered` by (writer, number), and how often each is there. Checks that the other columns agree.
fn rows_of(table: &Table) -> BTreeMap<(String, i64), usize> {
    rows_in(table.scan().unwrap())
}

fn rows_in(scan: crate::Scan) -> BTreeMap<(String, i64), usize> {
    try_rows(scan).unwrap()
}

/// As [`rows_of`], or what the disk says.
fn try_rows(scan: crate::Scan) -> Result<BTreeMap<(String, i64), usize>> {
    let mut found = BTreeMap::new();
    for batch in scan {
        let batch = batch?;
        let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>().clone();
        let writers = batch.column_by_name("writer").unwrap().as_string_view().clone();
        let numbers = batch.column_by_name("number").unwrap().as_primitive::<Int64Type>().clone();
        let halves = batch.column_by_name("half").unwrap().as_primitive::<Float64Type>().clone();
        let texts = batch.column_by_name("text").unwrap().as_string_view().clone();
        for row in 0..batch.num_rows() {
            let number = numbers.value(row);
            assert_eq!(times.value(row), time_of(number).as_nanos(), "time of {number}");
            assert_eq!(text_of(number).as_deref(), texts.is_valid(row).then(|| texts.value(row)), "text of {number}");
            assert_eq!(half_of(number), halves.is_valid(row).then(|| halves.value(row)), "half of {number}");
            *found.entry((writers.value(row).to_string(), number)).or_default() += 1;
        }
    }
    Ok(found)
}

/// Times go forward, with every seventh row late by an hour and spread over partitions.
fn time_of(number: i64) -> Time {
    let late = if number % 7 == 0 { 3_600_000_000_000 } else { 0 };
    Time::from_nanos(1_700_000_000_000_000_000 + number * 60_000_000_000 - late)
}

fn half_of(number: i64) -> Option<f64> {
    (number % 5 != 0).then_some(number as f64 / 2.0)
}

fn text_of(number: i64) -> Option<String> {
    match number % 4 {
        0 => None,
        1 => Some(format!("t{number}")),
        _ => Some(format!("a text too long for a view, number {number}")),
    }
}

/// Appends rows `numbers` of `writer`, one by one.
fn append(writer: &mut Writer, name: &str, numbers: std::ops::Range<i64>) -> Result<()> {
    for number in numbers {
        let text = text_of(number);
        let appended = writer.append_at(
            time_of(number),
            row! { writer: name, number: number, half: half_of(number), text: text.as_deref() },
        )?;
        assert_eq!(appended.accepted(), 1);
    }
    Ok(())
}
