//! Random sequences of what a program does, against a list of rows; of rows by key, where the last write wins.

use std::sync::Arc;

use denyut::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use denyut::arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use denyut::prelude::*;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::chance::try_cases;

const SERIES: [[&str; 2]; 5] = [
    ["a", "x"],
    ["a", "y"],
    ["b", "x"],
    ["a value of more than twelve bytes", "x"],
    ["b", "ein längerer Wert, größer"],
];
const START_NS: i64 = 1_700_000_000_000_000_000;

/// One row. `extras` are the fields that were added; a way of appending that does not know them yet leaves them out.
#[derive(Clone, Debug)]
struct Cells {
    series: usize,
    time_ns: i64,
    whole: Option<i64>,
    real: Option<f64>,
    text: Option<String>,
    flag: Option<bool>,
    extra: Option<f64>,
}

#[derive(Clone, Debug)]
enum Step {
    Named(usize, Vec<Cells>),
    Handle(usize, Vec<Cells>),
    Batch(usize, Vec<Cells>),
    BatchOfOne(usize, Vec<Cells>),
    /// Ends a writer; the next that is needed opens anew.
    EndWriter(usize),
    Seal,
    /// Seals and compacts.
    Maintain,
    Sync,
    Reopen,
    AddField,
}

fn cells() -> impl Strategy<Value = Cells> {
    let time = prop_oneof![
        // In no order, some equal, over a few hours; and far off, in partitions of their own.
        8 => (0..20_000_i64).prop_map(|seconds| START_NS + seconds * 1_000_000_000),
        1 => any::<i64>().prop_filter("not in the far future", |time| *time < START_NS),
    ];
    let real = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(-0.0),
        Just(0.0),
        any::<f64>(),
        (-9..9).prop_map(f64::from)
    ];
    let text = prop_oneof![4 => "[a-zß]{0,12}", 3 => "[a-z ✓]{13,60}", 1 => "[a-z]{2000,9000}"];
    let row = (0..SERIES.len(), time, any::<Option<i64>>(), real, text, any::<Option<bool>>(), any::<[bool; 3]>());
    row.prop_map(|(series, time_ns, whole, real, text, flag, [has_real, has_text, has_extra])| Cells {
        series,
        time_ns,
        whole,
        real: has_real.then_some(real),
        text: has_text.then_some(text),
        flag,
        extra: has_extra.then_some(series as f64),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let rows = || prop_oneof![3 => vec(cells(), 0..8), 1 => vec(cells(), 0..120)];
    prop_oneof![
        3 => (0..3_usize, rows()).prop_map(|(writer, rows)| Step::Named(writer, rows)),
        3 => (0..3_usize, rows()).prop_map(|(writer, rows)| Step::Handle(writer, rows)),
        3 => (0..3_usize, rows()).prop_map(|(writer, rows)| Step::Batch(writer, rows)),
        2 => (0..3_usize, rows()).prop_map(|(writer, rows)| Step::BatchOfOne(writer, rows)),
        1 => (0..3_usize).prop_map(Step::EndWriter),
        2 => Just(Step::Seal),
        1 => Just(Step::Maintain),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::AddField),
    ]
}

/// A row as a line that sorts: what is compared. Floats by their bits.
type Line = (i64, String, String, Option<i64>, Option<u64>, Option<String>, Option<bool>, Option<u64>);

fn line(cells: &Cells) -> Line {
    let [one, two] = SERIES[cells.series];
    let bits = |value: Option<f64>| value.map(f64::to_bits);
    let (time, text) = (cells.time_ns, cells.text.clone());
    (time, one.into(), two.into(), cells.whole, bits(cells.real), text, cells.flag, bits(cells.extra))
}

fn lines(batches: impl Iterator<Item = RecordBatch>) -> Vec<Line> {
    let mut lines = Vec::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (one, two, text) =
            (column("one").as_string_view(), column("two").as_string_view(), column("text").as_string_view());
        let (times, whole) =
            (column("time").as_primitive::<TimestampNanosecondType>(), column("whole").as_primitive::<Int64Type>());
        let real = |name: &str| batch.column_by_name(name).map(|column| column.as_primitive::<Float64Type>().clone());
        let bits = |column: &Option<Float64Array>, row: usize| {
            let column = column.as_ref()?;
            column.is_valid(row).then(|| column.value(row).to_bits())
        };
        let (reals, extras, flag) = (real("real"), real("extra"), column("flag").as_boolean());
        lines.extend((0..batch.num_rows()).map(|row| {
            (
                times.value(row),
                one.value(row).into(),
                two.value(row).into(),
                whole.is_valid(row).then(|| whole.value(row)),
                bits(&reals, row),
                text.is_valid(row).then(|| text.value(row).into()),
                flag.is_valid(row).then(|| flag.value(row)),
                bits(&extras, row),
            )
        }));
    }
    lines.sort_unstable();
    lines
}

/// A store, its writers, and what should be in it.
struct Run {
    path: std::path::PathBuf,
    store: Option<Store>,
    writers: [Option<Writer>; 3],
    has_extra: bool,
    /// Whether a row takes the place of the one before of its series and time.
    last_write: bool,
    rows: Vec<Line>,
}

impl Run {
    fn schema(&self) -> Schema {
        let schema = Schema::new("kota")
            .tag("one")
            .tag("two")
            .i64("whole", "")
            .f64("real", "")
            .utf8("text", "")
            .bool("flag", "")
            .dedup(if self.last_write { Dedup::LastWrite } else { Dedup::KeepAll });
        if self.has_extra { schema.f64("extra", "") } else { schema }
    }

    fn store(&mut self) -> Store {
        let open = || {
            let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(256 << 10).live_bytes_max(2 << 20);
            options.seal_partitions_max(3).compact_fan_in(2).open(&self.path).unwrap()
        };
        self.store.get_or_insert_with(open).clone()
    }

    fn table(&mut self) -> Table {
        let schema = self.schema();
        self.store().table(schema).unwrap()
    }

    fn writer(&mut self, number: usize) -> &mut Writer {
        let table = self.table();
        self.writers[number].get_or_insert_with(|| table.writer().unwrap())
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Named(writer, rows) => {
                for cells in rows {
                    let [one, two] = SERIES[cells.series];
                    let time = Time::from_nanos(cells.time_ns);
                    let (text, has_extra) = (cells.text.as_deref(), self.has_extra);
                    let writer = self.writer(writer);
                    let mut row = vec![
                        ("flag", cells.flag.into()),
                        ("text", text.into()),
                        ("two", two.into()),
                        ("one", one.into()),
                        ("whole", cells.whole.into()),
                        ("real", cells.real.into()),
                    ];
                    if has_extra {
                        row.insert(2, ("extra", cells.extra.into()));
                    }
                    let taken = writer.append_at(time, Row::new(&row));
                    assert_eq!(taken.unwrap().accepted(), 1);
                    self.note(cells, has_extra);
                }
            }
            Step::Handle(writer, rows) => {
                let table = self.table();
                for cells in rows {
                    let series = table.series(SERIES[cells.series]).unwrap();
                    let writer = self.writer(writer);
                    let knows_extra = writer.schema().fields().len() == 5;
                    let text = cells.text.as_deref();
                    let values =
                        [cells.whole.into(), cells.real.into(), text.into(), cells.flag.into(), cells.extra.into()];
                    let values = &values[..4 + usize::from(knows_extra)];
                    assert_eq!(
                        writer.append_to(series, Time::from_nanos(cells.time_ns), values).unwrap().accepted(),
                        1
                    );
                    self.note(cells, knows_extra);
                }
            }
            Step::Batch(writer, rows) => {
                let batch = batch(&rows, self.has_extra, true);
                let taken = self.writer(writer).append_batch(&batch).unwrap();
                assert_eq!((taken.accepted(), taken.rejected()), (rows.len() as u64, 0));
                rows.into_iter().for_each(|cells| self.note(cells, self.has_extra));
            }
            Step::BatchOfOne(writer, mut rows) => {
                let series = rows.first().map_or(0, |cells| cells.series);
                rows.iter_mut().for_each(|cells| cells.series = series);
                let id = self.table().series(SERIES[series]).unwrap();
                let batch = batch(&rows, self.has_extra, false);
                let taken = self.writer(writer).append_batch_to(id, &batch).unwrap();
                assert_eq!((taken.accepted(), taken.rejected()), (rows.len() as u64, 0));
                rows.into_iter().for_each(|cells| self.note(cells, self.has_extra));
            }
            Step::EndWriter(writer) => self.writers[writer] = None,
            Step::Seal => drop(self.store().seal().unwrap()),
            Step::Maintain => assert!(self.store().maintain().is_ok()),
            Step::Sync => self.store().sync().unwrap(),
            Step::Reopen => {
                self.writers = [None, None, None];
                self.store().close().unwrap();
                self.store = None;
                let recovery = self.store().recovery().clone();
                assert!(recovery.is_whole(), "{recovery:?}");
            }
            Step::AddField => {
                self.has_extra = true;
                self.table();
            }
        }
    }

    fn note(&mut self, mut cells: Cells, has_extra: bool) {
        cells.extra = cells.extra.filter(|_| has_extra);
        let line = line(&cells);
        if self.last_write {
            let key = |line: &Line| (line.0, line.1.clone(), line.2.clone());
            self.rows.retain(|other| key(other) != key(&line));
        }
        self.rows.push(line);
    }

    fn check(&mut self) {
        self.rows.sort_unstable();
        let table = self.table();
        let found = lines(table.scan().unwrap().map(|batch| batch.unwrap()));
        assert_eq!(found, self.rows, "what a scan finds");
        #[cfg(feature = "sql")]
        self.check_sql();
    }

    #[cfg(feature = "sql")]
    fn check_sql(&mut self) {
        let store = self.store();
        let found = store.query("SELECT * FROM kota").unwrap().into_batches();
        assert_eq!(lines(found.into_iter()), self.rows, "what SQL finds");
        let totals = "SELECT count(*) AS n, count(whole) AS wholes, min(time) AS first, max(time) AS last, \
            count(DISTINCT text) AS texts FROM kota";
        let found = store.query(totals).unwrap();
        let value = |column: &str| found.i64(0, column).unwrap();
        assert_eq!(value("n"), Some(self.rows.len() as i64));
        assert_eq!(value("wholes"), Some(self.rows.iter().filter(|row| row.3.is_some()).count() as i64));
        assert_eq!(value("first"), self.rows.first().map(|row| row.0));
        assert_eq!(value("last"), self.rows.last().map(|row| row.0));
        let texts: std::collections::BTreeSet<_> = self.rows.iter().filter_map(|row| row.5.as_ref()).collect();
        assert_eq!(value("texts"), Some(texts.len() as i64));
        // What predicates leave out is what the list leaves out: by a tag, by time, by a field.
        let later = START_NS + 9_000_000_000_000;
        let text = format!(
            "SELECT * FROM kota WHERE one = 'a' AND time >= arrow_cast({later}, 'Timestamp(Nanosecond, Some(\"UTC\"))')"
        );
        let found = lines(store.query(&text).unwrap().into_batches().into_iter());
        let wanted: Vec<Line> = self.rows.iter().filter(|row| row.1 == "a" && row.0 >= later).cloned().collect();
        assert_eq!(found, wanted, "{text}");
        let found =
            lines(store.query("SELECT * FROM kota WHERE two <> 'x' OR whole < 0").unwrap().into_batches().into_iter());
        let is_in = |row: &&Line| row.2 != "x" || row.3.is_some_and(|whole| whole < 0);
        assert_eq!(found, self.rows.iter().filter(is_in).cloned().collect::<Vec<_>>());
    }
}

fn batch(rows: &[Cells], has_extra: bool, has_tags: bool) -> RecordBatch {
    fn column<A: FromIterator<T> + Array + 'static, T>(rows: &[Cells], cell: impl FnMut(&Cells) -> T) -> ArrayRef {
        Arc::new(rows.iter().map(cell).collect::<A>())
    }
    let mut columns = vec![
        ("text", column::<StringArray, _>(rows, |cells| cells.text.clone())),
        ("time", column::<TimestampNanosecondArray, _>(rows, |cells| Some(cells.time_ns))),
        ("flag", column::<BooleanArray, _>(rows, |cells| cells.flag)),
        ("whole", column::<Int64Array, _>(rows, |cells| cells.whole)),
        ("real", column::<Float64Array, _>(rows, |cells| cells.real)),
    ];
    if has_extra {
        columns.push(("extra", column::<Float64Array, _>(rows, |cells| cells.extra)));
    }
    if has_tags {
        columns.push(("two", column::<StringArray, _>(rows, |cells| Some(SERIES[cells.series][1]))));
        columns.push(("one", column::<StringArray, _>(rows, |cells| Some(SERIES[cells.series][0]))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn a_store_is_a_list_of_rows() {
    try_cases(64, &(any::<bool>(), vec(step(), 1..14)), |(last_write, steps)| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kota");
        let writers = [None, None, None];
        let mut run = Run { path, store: None, writers, has_extra: false, last_write, rows: Vec::new() };
        let last = steps.len() - 1;
        for (at, step) in steps.into_iter().enumerate() {
            let looks = matches!(step, Step::Seal | Step::Maintain | Step::Reopen | Step::AddField) || at == last;
            run.take(step);
            if looks {
                run.check();
            }
        }
        Ok(())
    });
}
