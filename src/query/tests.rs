//! Scenarios of queries, over real stores and over none.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod chance;
mod ends;
mod hostile;
mod ingest_time;
mod last_write;
mod latest;
mod limits;
mod newest;
mod on_off;
mod policy;
mod prepared;
mod pruning;
mod quarantine;
mod reading;
mod rollups;
mod summaries;

use std::sync::Arc;

use super::{Engine, Source};
use crate::prelude::*;
use crate::snapshot::cut::Gate;
use crate::snapshot::{Snapshot, ViewCell};

/// A store without tables.
#[derive(Default)]
struct Nothing {
    view: ViewCell,
    gate: Gate,
}

impl Source for Nothing {
    fn snapshot(&self) -> crate::Result<Arc<Snapshot>> {
        Ok(Snapshot::take(&self.view, &self.gate))
    }

    fn pins(&self) -> Vec<crate::maintain::pins::PinView> {
        Vec::new()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("appended_rows", 7)]
    }
}

fn engine(options: Options) -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Engine::new(Arc::new(Nothing::default()), options, dir.path().join("spill"), &[]).unwrap(), dir)
}

const HOUR_NS: i64 = 3_600_000_000_000;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600_000_000_000;
const GATES: [&str; 4] = ["Sei Wie", "Kuala Dua", "a gate whose name is longer than a view", "Parit Tokaya"];
const AGENCIES: [&str; 2] = ["PUPR", "BPBD"];

fn water() -> Schema {
    Schema::new("water")
        .tag("gate")
        .tag("agency")
        .i64("number", "")
        .f64("level_cm", "cm")
        .bool("open", "")
        .utf8("note", "")
        .partition(std::time::Duration::from_secs(3_600))
}

/// Appends rows `numbers`, one every ten seconds, over eight series.
fn append(table: &crate::Table, numbers: std::ops::Range<i64>) {
    let mut writer = table.writer().unwrap();
    let series: Vec<SeriesId> = (0..8).map(|id| table.series([GATES[id % 4], AGENCIES[id / 4]]).unwrap()).collect();
    for number in numbers {
        let note = (number % 3 != 0).then(|| format!("a note on row {number}, too long for a view"));
        let values = [
            number.into(),
            (number % 11 != 0).then_some(number as f64 / 4.0).into(),
            (number % 2 == 0).into(),
            note.as_deref().into(),
        ];
        let time = Time::from_nanos(START_NS + number * 10_000_000_000);
        assert_eq!(writer.append_to(series[(number % 8) as usize], time, &values).unwrap().accepted(), 1);
    }
}

/// A store whose table `water` has rows 0..4,320 (twelve hours) in segments and 4,320..5,000 in live blocks.
fn filled() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().query_threads(3).open(dir.path().join("kota")).unwrap();
    let table = store.table(water()).unwrap();
    append(&table, 0..2_000);
    store.seal().unwrap();
    append(&table, 2_000..4_320);
    store.seal().unwrap();
    append(&table, 4_320..5_000);
    (store, dir)
}

fn explain(store: &Store, text: &str) -> String {
    let rows = store.query(&format!("EXPLAIN {text}")).unwrap();
    (0..rows.num_rows()).map(|row| rows.str(row, "plan").unwrap().unwrap().to_string()).collect::<Vec<_>>().join("\n")
}
