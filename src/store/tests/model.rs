//! Random sequences of what programs do with a store, against a list of rows; of rows by key, where the last write wins.
//!
//! On the simulator, so that a sequence takes milliseconds. After each step that may move rows the list is compared with
//! what the writing process reads, what a second, read-only opening reads, and what snapshots that were taken before
//! still show. `PROPTEST_CASES=n` tries more sequences, `DENYUT_SEED=s` the same ones again.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::{Reader, Scan};

const NAMES: [&str; 4] = ["a", "b", "a value of more than twelve bytes", "größer"];
const START_NS: i64 = 1_767_225_600_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
const KEPT_NS: i64 = 72 * HOUR_NS;

#[derive(Clone, Debug)]
struct Cells {
    name: usize,
    time_ns: i64,
    whole: Option<i64>,
    real: Option<f64>,
    text: Option<String>,
    flag: Option<bool>,
    /// Of the field that may be added; left out by a way of appending that does not know it yet.
    extra: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Named,
    Handle,
    Batch,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Drop,
    Kill,
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize, Way, Vec<Cells>),
    EndWriter(usize),
    Sync,
    Seal,
    /// Seals, drops what is past retention, and compacts.
    Maintain,
    /// So many hours go by.
    Later(i64),
    AddField,
    Backup,
    /// Takes a snapshot, to be read some steps later.
    Snapshot,
    LookBack,
    /// The second opening goes, and comes again when it is needed.
    EndReader,
    Reopen(End),
}

fn cells() -> impl Strategy<Value = Cells> {
    let time = prop_oneof![
        // In no order over half a day, many of them equal; in order, if the steps are; and far off.
        6 => (0..60_i64).prop_map(|twelfth| START_NS + twelfth * HOUR_NS / 5),
        4 => (0..43_200_i64).prop_map(|seconds| START_NS + seconds * 1_000_000_000),
        1 => any::<i64>().prop_filter("not in the far future", |time| *time < START_NS),
    ];
    let real = prop_oneof![Just(f64::NAN), Just(-0.0), Just(0.0), Just(f64::INFINITY), any::<f64>()];
    let text = prop_oneof![4 => "[a-zß]{0,12}", 3 => "[a-z ✓]{13,40}", 1 => "[a-z]{1000,3000}"];
    let row = (0..NAMES.len(), time, any::<Option<i64>>(), real, text, any::<Option<bool>>(), any::<[bool; 3]>());
    row.prop_map(|(name, time_ns, whole, real, text, flag, [has_real, has_text, has_extra])| Cells {
        name,
        time_ns,
        whole,
        real: has_real.then_some(real),
        text: has_text.then_some(text),
        flag,
        extra: has_extra.then_some(name as f64),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let way = prop_oneof![Just(Way::Named), Just(Way::Handle), Just(Way::Batch)];
    let rows = (vec(cells(), 0..30), any::<bool>()).prop_map(|(mut rows, in_order)| {
        if in_order {
            rows.sort_by_key(|cells| cells.time_ns);
        }
        rows
    });
    prop_oneof![
        10 => (0..3_usize, way, rows).prop_map(|(writer, way, rows)| Step::Append(writer, way, rows)),
        1 => (0..3_usize).prop_map(Step::EndWriter),
        1 => Just(Step::Sync),
        3 => Just(Step::Seal),
        2 => Just(Step::Maintain),
        1 => (1..40_i64).prop_map(Step::Later),
        1 => Just(Step::AddField),
        1 => Just(Step::Backup),
        2 => Just(Step::Snapshot),
        2 => Just(Step::LookBack),
        1 => Just(Step::EndReader),
        2 => prop_oneof![Just(End::Close), Just(End::Drop), Just(End::Kill)].prop_map(Step::Reopen),
    ]
}

/// A row as it is compared. Floats by their bits.
type Line = (i64, String, Option<i64>, Option<u64>, Option<String>, Option<bool>, Option<u64>);

fn line(cells: &Cells) -> Line {
    let bits = |value: Option<f64>| value.map(f64::to_bits);
    let name = NAMES[cells.name].to_string();
    (cells.time_ns, name, cells.whole, bits(cells.real), cells.text.clone(), cells.flag, bits(cells.extra))
}

fn lines(scan: Scan) -> Vec<Line> {
    let mut lines = Vec::new();
    for batch in scan {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (names, texts) = (column("name").as_string_view(), column("text").as_string_view());
        let (times, wholes) =
            (column("time").as_primitive::<TimestampNanosecondType>(), column("whole").as_primitive::<Int64Type>());
        let (reals, flags) = (column("real").as_primitive::<Float64Type>(), column("flag").as_boolean());
        let extras = batch.column_by_name("extra").map(|column| column.as_primitive::<Float64Type>());
        lines.extend((0..batch.num_rows()).map(|row| {
            let extra = extras.filter(|extras| extras.is_valid(row)).map(|extras| extras.value(row).to_bits());
            (
                times.value(row),
                names.value(row).to_string(),
                wholes.is_valid(row).then(|| wholes.value(row)),
                reals.is_valid(row).then(|| reals.value(row).to_bits()),
                texts.is_valid(row).then(|| texts.value(row).to_string()),
                flags.is_valid(row).then(|| flags.value(row)),
                extra,
            )
        }));
    }
    lines.sort_unstable();
    lines
}

fn open(fs: &Arc<SimFs>, path: &str, clock: &Arc<AtomicI64>) -> Store {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
    let options = options.seal_partitions_max(3).compact_fan_in(2).clock(clock.clone()).without_background();
    Store::open_on(fs.clone(), options, Path::new(path)).unwrap()
}

/// A store, who uses it, and what should be in it.
struct Run {
    fs: Arc<SimFs>,
    clock: Arc<AtomicI64>,
    store: Option<Store>,
    reader: Option<Reader>,
    writers: [Option<Writer>; 3],
    snapshots: Vec<(Scan, Vec<Line>)>,
    has_extra: bool,
    last_write: bool,
    backups: u32,
    rows: Vec<Line>,
}

impl Run {
    fn new(last_write: bool) -> Self {
        Self {
            fs: SimFs::new(1),
            clock: Arc::new(AtomicI64::new(START_NS)),
            store: None,
            reader: None,
            writers: [const { None }; 3],
            snapshots: Vec::new(),
            has_extra: false,
            last_write,
            backups: 0,
            rows: Vec::new(),
        }
    }

    fn schema(&self) -> Schema {
        let schema = Schema::new("kota").tag("name").i64("whole", "").f64("real", "").utf8("text", "").bool("flag", "");
        let schema = schema.partition(Duration::from_secs(3_600)).retention(Duration::from_nanos(KEPT_NS as u64));
        let schema = schema.dedup(if self.last_write { Dedup::LastWrite } else { Dedup::KeepAll });
        if self.has_extra { schema.f64("extra", "") } else { schema }
    }

    fn store(&mut self) -> Store {
        let (fs, clock) = (&self.fs, &self.clock);
        self.store.get_or_insert_with(|| open(fs, "/store", clock)).clone()
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
            Step::Append(writer, way, rows) => self.append(writer, way, &rows),
            Step::EndWriter(writer) => self.writers[writer] = None,
            Step::Sync => self.store().sync().unwrap(),
            Step::Seal => drop(self.store().seal().unwrap()),
            Step::Maintain => {
                self.table();
                self.store().maintain().unwrap();
                let now_ns = self.clock.load(Ordering::Relaxed);
                let end = |time_ns: i64| time_ns.div_euclid(HOUR_NS).saturating_add(1).saturating_mul(HOUR_NS);
                self.rows.retain(|row| end(row.0).saturating_add(KEPT_NS) > now_ns);
            }
            Step::Later(hours) => drop(self.clock.fetch_add(hours * HOUR_NS, Ordering::Relaxed)),
            Step::AddField => {
                self.has_extra = true;
                self.table();
            }
            Step::Backup => self.back_up(),
            Step::Snapshot => {
                self.rows.sort_unstable();
                let scan = self.table().scan().unwrap();
                self.snapshots.push((scan, self.rows.clone()));
                if let Some(reader) = &self.reader {
                    self.snapshots.push((reader.scan("kota").unwrap(), self.rows.clone()));
                }
            }
            Step::LookBack => self.look_back(),
            Step::EndReader => self.reader = None,
            Step::Reopen(how) => self.reopen(how),
        }
    }

    fn append(&mut self, number: usize, way: Way, rows: &[Cells]) {
        let has_extra = self.has_extra;
        let mut knows_extra = has_extra;
        match way {
            Way::Named => {
                for cells in rows {
                    let mut row = vec![
                        ("flag", cells.flag.into()),
                        ("text", cells.text.as_deref().into()),
                        ("name", NAMES[cells.name].into()),
                        ("whole", cells.whole.into()),
                        ("real", cells.real.into()),
                    ];
                    if has_extra {
                        row.insert(2, ("extra", cells.extra.into()));
                    }
                    let taken = self.writer(number).append_at(Time::from_nanos(cells.time_ns), Row::new(&row));
                    assert_eq!(taken.unwrap().accepted(), 1);
                }
            }
            Way::Handle => {
                let table = self.table();
                let writer = self.writer(number);
                knows_extra = writer.schema().fields().len() == 5;
                for cells in rows {
                    let series = table.series([NAMES[cells.name]]).unwrap();
                    let text = cells.text.as_deref();
                    let values =
                        [cells.whole.into(), cells.real.into(), text.into(), cells.flag.into(), cells.extra.into()];
                    let values = &values[..4 + usize::from(knows_extra)];
                    let taken = writer.append_to(series, Time::from_nanos(cells.time_ns), values);
                    assert_eq!(taken.unwrap().accepted(), 1);
                }
            }
            Way::Batch => {
                let taken = self.writer(number).append_batch(&batch(rows, has_extra)).unwrap();
                assert_eq!((taken.accepted(), taken.rejected()), (rows.len() as u64, 0));
            }
        }
        rows.iter().for_each(|cells| self.note(cells, knows_extra));
    }

    fn note(&mut self, cells: &Cells, knows_extra: bool) {
        let line = line(&Cells { extra: cells.extra.filter(|_| knows_extra), ..cells.clone() });
        if self.last_write {
            self.rows.retain(|other| (other.0, &other.1) != (line.0, &line.1));
        }
        self.rows.push(line);
    }

    fn back_up(&mut self) {
        self.table();
        self.rows.sort_unstable();
        self.backups += 1;
        let path = format!("/copies/{}", self.backups);
        let store = self.store();
        let made = store.inner.core.backup(Path::new(&path), [7; 16], &mut |_| ControlFlow::Continue(()));
        made.unwrap();
        let copy = open(&self.fs, &path, &self.clock);
        assert_eq!(lines(copy.existing("kota").unwrap().scan().unwrap()), self.rows, "what a backup has");
    }

    fn look_back(&mut self) {
        for (scan, rows) in self.snapshots.drain(..) {
            assert_eq!(lines(scan), rows, "what a snapshot shows");
        }
    }

    fn reopen(&mut self, how: End) {
        self.look_back();
        let store = self.store();
        if let End::Close = how {
            store.close().unwrap();
        }
        let killed = matches!(how, End::Kill).then(|| self.fs.kill());
        drop(store);
        (self.writers, self.store) = ([const { None }; 3], None);
        if let Some(fs) = killed {
            (self.fs, self.reader) = (fs, None);
        }
        let recovery = self.store().recovery().clone();
        assert!(recovery.is_whole(), "{recovery:?}");
    }

    fn check(&mut self) {
        self.rows.sort_unstable();
        let table = self.table();
        assert_eq!(lines(table.scan().unwrap()), self.rows, "what the writing process reads");
        let fs = self.fs.clone();
        let open = || Reader::open_on(fs, &Store::options().without_background(), Path::new("/store")).unwrap();
        let reader = self.reader.get_or_insert_with(open);
        assert_eq!(lines(reader.scan("kota").unwrap()), self.rows, "what a second opening reads");
    }
}

fn batch(rows: &[Cells], has_extra: bool) -> RecordBatch {
    fn column<A: FromIterator<T> + Array + 'static, T>(rows: &[Cells], cell: impl FnMut(&Cells) -> T) -> ArrayRef {
        Arc::new(rows.iter().map(cell).collect::<A>())
    }
    let mut columns = vec![
        ("text", column::<StringArray, _>(rows, |cells| cells.text.clone())),
        ("time", column::<TimestampNanosecondArray, _>(rows, |cells| Some(cells.time_ns))),
        ("flag", column::<BooleanArray, _>(rows, |cells| cells.flag)),
        ("whole", column::<Int64Array, _>(rows, |cells| cells.whole)),
        ("real", column::<Float64Array, _>(rows, |cells| cells.real)),
        ("name", column::<StringArray, _>(rows, |cells| Some(NAMES[cells.name]))),
    ];
    if has_extra {
        columns.push(("extra", column::<Float64Array, _>(rows, |cells| cells.extra)));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn sequence((last_write, steps): (bool, Vec<Step>)) {
    let mut run = Run::new(last_write);
    let last = steps.len() - 1;
    for (at, step) in steps.into_iter().enumerate() {
        let moves = !matches!(step, Step::Append(..) | Step::Later(_) | Step::Snapshot | Step::Sync) || at == last;
        run.take(step);
        if moves {
            run.check();
        }
    }
    run.look_back();
}

#[test]
fn a_store_is_a_list_of_rows_to_all_who_read_it() {
    let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 % 1_000_000_000;
    let seed = setting("DENYUT_SEED").unwrap_or_else(clock);
    let cases = setting("PROPTEST_CASES").map_or(30, |cases| cases as u32);
    println!("{cases} sequences of seed {seed}; again with DENYUT_SEED={seed}");
    let bytes: Vec<u8> = (1..=4).flat_map(|part| seed.wrapping_mul(part).to_le_bytes()).collect();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&(any::<bool>(), vec(step(), 1..24)), |input| {
        sequence(input);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
}
