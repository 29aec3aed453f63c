//! A query begun after an append returned sees its row, always, and all its tables at one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use denyut::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use denyut::prelude::*;

use crate::chance::setting;

const START_NS: i64 = 1_700_000_000_000_000_000;
const WRITERS: i64 = 8;
const BATCH_ROWS: i64 = 250;

/// Blocks that fill all the time, so that rows move to segments under the readers' eyes.
fn open(dir: &tempfile::TempDir) -> Store {
    let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(1 << 20).live_bytes_max(64 << 20);
    options.open(dir.path().join("kota")).unwrap()
}

fn counted(table: &str) -> Schema {
    Schema::new(table).tag("writer").i64("n", "").f64("half", "")
}

fn batch(writer: &str, numbers: std::ops::Range<i64>) -> RecordBatch {
    let rows = (numbers.end - numbers.start) as usize;
    RecordBatch::try_from_iter([
        (
            "time",
            Arc::new(TimestampNanosecondArray::from_iter_values(numbers.clone().map(|n| START_NS + n))) as ArrayRef,
        ),
        ("writer", Arc::new(StringArray::from(vec![writer; rows]))),
        ("n", Arc::new(Int64Array::from_iter_values(numbers.clone()))),
        ("half", Arc::new(Float64Array::from_iter_values(numbers.map(|n| n as f64 / 2.0)))),
    ])
    .unwrap()
}

/// What appends that returned had put in, by rows and by the sum of their numbers. Added to in that order and read in the
/// other, the sum is never ahead of the rows.
#[derive(Default)]
struct Acknowledged {
    rows: AtomicI64,
    sum: AtomicI64,
}

impl Acknowledged {
    fn add(&self, numbers: std::ops::Range<i64>) {
        self.rows.fetch_add(numbers.end - numbers.start, Ordering::SeqCst);
        self.sum.fetch_add(numbers.sum(), Ordering::SeqCst);
    }

    fn now(&self) -> (i64, i64) {
        let sum = self.sum.load(Ordering::SeqCst);
        (self.rows.load(Ordering::SeqCst), sum)
    }
}

fn append(table: &Table, number: i64, numbers: std::ops::Range<i64>, acknowledged: &Acknowledged) {
    let name = format!("writer {number}");
    let mut writer = table.writer().unwrap();
    let series = table.series([&*name]).unwrap();
    for from in numbers.clone().step_by(BATCH_ROWS as usize) {
        let part = from..numbers.end.min(from + BATCH_ROWS);
        if number % 3 == 2 {
            let taken = writer.append_batch(&batch(&name, part.clone())).unwrap();
            assert_eq!(taken.accepted(), (part.end - part.start) as u64);
            acknowledged.add(part);
            continue;
        }
        for n in part {
            let (time, half) = (Time::from_nanos(START_NS + n), n as f64 / 2.0);
            let taken = match number % 3 {
                0 => writer.append_to(series, time, &[n.into(), half.into()]),
                _ => writer.append_at(time, row! { writer: name.as_str(), n: n, half: half }),
            };
            assert_eq!(taken.unwrap().accepted(), 1);
            acknowledged.add(n..n + 1);
        }
    }
}

fn totals(store: &Store, text: &str) -> (i64, i64) {
    let rows = store.query(text).unwrap();
    (rows.i64(0, "rows").unwrap().unwrap(), rows.i64(0, "sum").unwrap().unwrap_or_default())
}

#[test]
fn every_count_has_what_was_acknowledged_before_and_none_falls() {
    let rows = setting("DENYUT_ROWS").map_or(400_000, |rows| rows as i64) / WRITERS * WRITERS;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let table = store.table(counted("water")).unwrap();
    let acknowledged = Acknowledged::default();
    // From what rows say, and from what the store knows without looking at them.
    let looking = "SELECT count(n) AS rows, sum(n) AS sum FROM water";
    let knowing = "SELECT count(*) AS rows, 0 AS sum FROM water";
    let (mut queries, finished) = (0, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let appending: Vec<_> = (0..WRITERS)
            .map(|number| {
                let numbers = number * rows / WRITERS..(number + 1) * rows / WRITERS;
                let (table, acknowledged) = (&table, &acknowledged);
                scope.spawn(move || append(table, number, numbers, acknowledged))
            })
            .collect();
        let scanning = scope.spawn(|| {
            let mut last = 0;
            while !finished.load(Ordering::Relaxed) {
                let (before, _) = acknowledged.now();
                let count: usize = table.scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
                assert!(count >= last && count >= before as usize, "{count} rows after {last}, {before} acknowledged");
                last = count;
            }
        });
        let (mut last_rows, mut last_sum) = (0, 0);
        while !appending.iter().all(|thread| thread.is_finished()) {
            let (before_rows, before_sum) = acknowledged.now();
            let (rows, sum) = totals(&store, looking);
            assert!(rows >= before_rows && sum >= before_sum, "{rows} rows, {before_rows} were acknowledged");
            assert!(rows >= last_rows && sum >= last_sum, "{rows} rows after {last_rows}");
            let (known, _) = totals(&store, knowing);
            assert!(known >= rows, "{known} known of {rows}");
            (last_rows, last_sum) = (known, sum);
            queries += 2;
        }
        finished.store(true, Ordering::Relaxed);
        appending.into_iter().for_each(|thread| thread.join().unwrap());
        scanning.join().unwrap();
    });
    println!("{rows} rows by {WRITERS} writers under {queries} queries");
    assert!(queries > 2, "nobody looked in time");
    let sum = rows * (rows - 1) / 2;
    assert_eq!((totals(&store, looking), totals(&store, knowing).0), ((rows, sum), rows));
    let sealed = store.seal().unwrap();
    let halves = store.query("SELECT sum(half) AS halves, count(DISTINCT n) AS n FROM water").unwrap();
    assert_eq!(halves.f64(0, "halves").unwrap(), Some(sum as f64 / 2.0), "{sealed} of them sealed at last");
    assert_eq!(halves.i64(0, "n").unwrap(), Some(rows));
    assert_eq!(totals(&store, looking), (rows, sum));
}

/// Rounds in which each pair of tables is written and looked at.
const ROUNDS: usize = 10;
/// Rows that a pair is given while one query looks at it.
const ROUND_ROWS: i64 = 1_000;
/// By name and by age in both orders, so that it does not matter which table of a pair a query finds first.
const PAIRS: [(&str, &str); 2] = [("a", "b"), ("d", "c")];
const PAIRS_OF_TWO_THREADS: [(&str, &str); 2] = [("e", "f"), ("h", "g")];

/// Looks at `first` and `second` in one statement: whoever writes puts each row into `first` before `second`.
fn never_ahead(store: &Store, first: &str, second: &str, go: &SyncSender<()>) {
    let count = |what: &str, table: &str| format!("(SELECT count({what}) AS c FROM {table})");
    let counts = [
        format!("SELECT a.c AS a, b.c AS b FROM {} a, {} b", count("n", first), count("n", second)),
        format!("SELECT a.c AS a, b.c AS b FROM {} b, {} a", count("*", second), count("*", first)),
        format!("SELECT count(a.n) AS a, count(b.n) AS b FROM {second} b FULL JOIN {first} a ON a.n = b.n"),
    ];
    for text in &counts {
        go.send(()).unwrap();
        let rows = store.query(text).unwrap();
        let (a, b) = (rows.i64(0, "a").unwrap().unwrap(), rows.i64(0, "b").unwrap().unwrap());
        assert!(b <= a, "{b} rows in {second}, {a} in {first}, by {text}");
    }
}

/// A writer of one table that numbers its rows.
struct Numbering {
    writer: Writer,
    series: SeriesId,
    next: i64,
}

impl Numbering {
    fn new(store: &Store, table: &str) -> Self {
        let table = store.existing(table).unwrap();
        Self { writer: table.writer().unwrap(), series: table.series(["w"]).unwrap(), next: 0 }
    }

    fn append(&mut self) {
        let (time, values) = (Time::from_nanos(START_NS + self.next), [self.next.into(), Value::Null]);
        assert_eq!(self.writer.append_to(self.series, time, &values).unwrap().accepted(), 1);
        self.next += 1;
    }
}

#[test]
fn no_statement_sees_the_second_table_ahead_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = &open(&dir);
    for table in ["a", "b", "c", "d", "f", "e", "g", "h"] {
        store.table(counted(table)).unwrap();
    }
    std::thread::scope(|scope| {
        let mut looks = Vec::new();
        for (first, second) in PAIRS {
            let (go, told) = sync_channel(0);
            looks.push((first, second, go));
            // One thread that writes both.
            scope.spawn(move || {
                let (mut one, mut two) = (Numbering::new(store, first), Numbering::new(store, second));
                for _ in told.iter().flat_map(|()| 0..ROUND_ROWS) {
                    one.append();
                    two.append();
                }
            });
        }
        for (first, second) in PAIRS_OF_TWO_THREADS {
            let (go, told) = sync_channel(0);
            looks.push((first, second, go));
            // One thread that hands over what it wrote to another. The queue is short: both are at it all the time.
            let (hand_over, handed) = sync_channel(4);
            scope.spawn(move || {
                let mut one = Numbering::new(store, first);
                for _ in told.iter().flat_map(|()| 0..ROUND_ROWS) {
                    one.append();
                    hand_over.send(()).unwrap();
                }
            });
            scope.spawn(move || {
                let mut two = Numbering::new(store, second);
                handed.iter().for_each(|()| two.append());
            });
        }
        for (first, second, go) in looks.iter().cycle().take(ROUNDS * looks.len()) {
            never_ahead(store, first, second, go);
        }
    });
    for table in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let count = totals(store, &format!("SELECT count(*) AS rows, 0 AS sum FROM {table}")).0;
        assert_eq!(count, 3 * ROUNDS as i64 * ROUND_ROWS, "{table} at rest");
    }
}
