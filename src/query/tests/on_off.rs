//! Answers with accelerations on and off, over random stores.
//!
//! A store has late rows, nulls, floats that compare in their own way, equal times, a field that came later, several segments a partition, compacted ones, and
//! live rows in several blocks; of some the last write wins.

use super::chance::Chance;
use super::*;
use crate::{Accelerations, Table};

/// A random store with the table `water` (tags `gate`, `agency`), which [`grow`](Self::grow) adds rows to.
pub(super) struct RandomStore {
    pub(super) store: Store,
    pub(super) dedup: Dedup,
    /// Whether there are NaN, infinities and zeros of both signs: there the engine's least and greatest depend on the order.
    pub(super) special: bool,
    table: Table,
    writers: Vec<Writer>,
    fields: usize,
    _dir: tempfile::TempDir,
}

impl RandomStore {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Store::options().query_threads(3).block_bytes_min(64 << 10).block_bytes_max(256 << 10);
        let store = options.seal_partitions_max(4).compact_fan_in(3).open(dir.path().join("kota")).unwrap();
        let dedup = *chance.one_of(&[Dedup::KeepAll, Dedup::LastWrite]);
        let table = store.table(Self::schema(dedup, false)).unwrap();
        let writers = (0..2).map(|_| table.writer().unwrap()).collect();
        Self { store, dedup, special: chance.below(2) == 0, table, writers, fields: 3, _dir: dir }
    }

    fn level(&self, chance: &mut Chance, number: i64) -> Option<f64> {
        match (chance.below(16), self.special) {
            (0, true) => Some(f64::NAN),
            (1, true) => Some(-0.0),
            (2, true) => Some(0.0),
            (3, true) => Some(f64::INFINITY),
            (4, true) => Some(f64::NEG_INFINITY),
            _ => (number % 4 != 0).then_some(number as f64 / 8.0),
        }
    }

    fn schema(dedup: Dedup, later: bool) -> Schema {
        let schema = Schema::new("water").tag("gate").tag("agency").i64("number", "").required("number");
        let schema = schema.f64("level_cm", "cm").utf8("note", "").dedup(dedup);
        let schema = schema.partition(std::time::Duration::from_secs(3_600));
        if later { schema.i64("later", "") } else { schema }
    }

    /// Adds up to `rows_max` rows within ten hours from [`START_NS`], and then seals, compacts, adds a field, or does nothing.
    pub(super) fn grow(&mut self, chance: &mut Chance, rows_max: u64) {
        let series: Vec<SeriesId> =
            (0..8).map(|id| self.table.series([GATES[id % 4], AGENCIES[id / 4]]).unwrap()).collect();
        let head = 3_600 + chance.below(32_400);
        for _ in 0..1 + chance.below(rows_max) {
            let back = if chance.below(10) == 0 { chance.below(head) } else { chance.below(300) };
            let time = Time::from_nanos(START_NS + (head - back) as i64 * 1_000_000_000);
            let number = chance.below(1 << 40) as i64;
            let note = (number % 3 != 0).then(|| format!("a note on {number}, too long for a view"));
            let later = (number % 5 != 0).then_some(number);
            let level = self.level(chance, number);
            let values = [number.into(), level.into(), note.as_deref().into(), later.into()];
            let writer = &mut self.writers[chance.below(2) as usize];
            let among = 1 + chance.below(8);
            let id = series[chance.below(among) as usize];
            assert_eq!(writer.append_to(id, time, &values[..self.fields]).unwrap().accepted(), 1);
        }
        match chance.below(6) {
            0 | 1 => drop(self.store.seal().unwrap()),
            2 => drop(self.store.maintain().unwrap()),
            3 if self.fields == 3 => {
                self.table = self.store.table(Self::schema(self.dedup, true)).unwrap();
                self.writers = (0..2).map(|_| self.table.writer().unwrap()).collect();
                self.fields = 4;
            }
            _ => {}
        }
    }
}

/// The rows of an answer, sorted, with these accelerations.
fn answer(store: &Store, accelerations: Accelerations, text: &str) -> Vec<String> {
    let session = store.session();
    session.state_ref().write().config_mut().options_mut().extensions.insert(accelerations);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let frame = async { session.sql(text).await.unwrap().collect().await };
    let batches = runtime.block_on(frame).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut rows = Vec::new();
    for batch in batches {
        let options = arrow::util::display::FormatOptions::new().with_null("null");
        let column = |column| arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap();
        let columns: Vec<_> = batch.columns().iter().map(|array| column(array)).collect();
        let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ");
        rows.extend((0..batch.num_rows()).map(row));
    }
    rows.sort();
    rows
}

/// That `text` has one answer with all accelerations on and off, and with them shows `mark` in its plan, which it gives.
pub(super) fn check(store: &Store, text: &str, mark: &str) -> String {
    let (on, off) = (answer(store, Accelerations::all(), text), answer(store, Accelerations::none(), text));
    let plan = explain(store, text);
    assert_eq!(on, off, "{text}\n{plan}");
    assert!(plan.contains(mark), "{text} does not show {mark:?}:\n{plan}");
    let plain = answer(store, Accelerations::none(), &format!("EXPLAIN {text}")).join("\n");
    assert!(mark.is_empty() || !plain.contains(mark), "{text} shows {mark:?} though it is off:\n{plain}");
    plan
}
