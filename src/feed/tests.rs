//! Scenarios of feeds: a city's contracts, rows with known answers, and what the scorecard says of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod city;
mod contracts;
mod dimensions;
mod maturity;
mod policy;
mod scorecard;
mod trust;

use std::time::Duration;

use super::{Arrival, Feed};
use crate::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// For machines that have other things to do.
fn options() -> Options {
    Store::options().query_threads(2).query_timeout(Duration::from_secs(600))
}

/// A store whose scorecard looks back `window`.
fn city(window: Duration) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = options().scorecard(crate::Scorecard::default().window(window));
    (options.open(dir.path().join("kota")).unwrap(), dir)
}

fn at(text: &str) -> Time {
    text.parse().unwrap()
}

/// `time` moved by so many minutes.
fn minutes(time: Time, by: i64) -> Time {
    Time::from_nanos(time.as_nanos() + by * 60_000_000_000)
}

/// The rows of an answer, each as its cells with a bar between, nulls as nothing.
fn rows(store: &Store, text: &str) -> Vec<String> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let answer = store.query(text).unwrap();
    let mut rows = Vec::new();
    for batch in answer.batches() {
        let options = FormatOptions::new();
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows
}
