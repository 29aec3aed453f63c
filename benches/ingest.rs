//! Appends, beside the ceiling that the machine sets: a loop that stores the same columns into a mapped file that was
//! written before.
//!
//! ```sh
//! cargo bench --bench ingest
//! cargo bench --bench ingest -- --save-baseline main    # then, after a change:
//! cargo bench --bench ingest -- --baseline main
//! ```
//!
//! Times are passed in unless the name says `now`. Blocks are recycled: every block was filled, sealed and emptied before
//! it is timed, and sealing waits until the clock is stopped.
#![allow(unsafe_code, clippy::indexing_slicing, reason = "a bench: what is wrong may stop it")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use denyut::arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray};
use denyut::prelude::*;

const BLOCK_BYTES: u64 = 16 << 20;
const LIVE_BYTES: u64 = 512 << 20;
/// Of the budget, what is filled between two drains.
const FILL_BYTES: u64 = LIVE_BYTES / 4;

/// A store whose rows are sealed only when the clock is stopped.
struct Bench {
    store: Store,
    table: denyut::Table,
    row_bytes: u64,
    unsealed_bytes: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(fields: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Store::options()
            .seal_threads(0)
            .block_bytes_min(BLOCK_BYTES)
            .block_bytes_max(BLOCK_BYTES)
            .live_bytes_max(LIVE_BYTES)
            .seal_after(Duration::from_secs(86_400));
        let store = options.open(dir.path().join("store")).expect("a store");
        let schema = (0..fields).fold(Schema::new("t").tag("host"), |schema, n| {
            let name = format!("f{n}");
            schema.f64(&name, "").required(&name)
        });
        let table = store.table(schema).expect("a table");
        let mut bench = Self { store, table, row_bytes: 12 + 8 * fields as u64, unsealed_bytes: 0, _dir: dir };
        bench.warm();
        bench
    }

    /// Fills and empties all blocks that will be used, so that their memory is there.
    fn warm(&mut self) {
        let series = self.table.series(["warm"]).expect("a series");
        let fields = self.table.schema().fields().len();
        let values = vec![Value::F64(0.5); fields];
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let mut writer = self.table.writer().expect("a writer");
                for row in 0..(FILL_BYTES + BLOCK_BYTES) / 2 / self.row_bytes {
                    writer.append_to(series, Time::from_nanos(row as i64), &values).expect("an append");
                }
                writer
            })
            .collect();
        drop(writers);
        self.drain();
    }

    /// Seals everything and waits until the blocks are free again.
    fn drain(&mut self) {
        self.store.seal().expect("a seal");
        let recycled = || {
            let counters: std::collections::HashMap<_, _> = self.store.counters().into_iter().collect();
            counters["live_block_bytes"] - counters["free_block_bytes"] <= 2 * BLOCK_BYTES
        };
        while !recycled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.unsealed_bytes = 0;
    }

    /// Times `rows` rows in pieces, draining between them with the clock stopped.
    fn time(&mut self, rows: u64, mut run: impl FnMut(u64)) -> Duration {
        self.add_up(rows, |piece| {
            let began = Instant::now();
            run(piece);
            began.elapsed()
        })
    }

    /// As [`time`](Self::time), for a `run` that has the clock itself.
    fn add_up(&mut self, rows: u64, mut run: impl FnMut(u64) -> Duration) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = rows;
        while left > 0 {
            let piece = left.min((FILL_BYTES - self.unsealed_bytes) / self.row_bytes).max(1);
            spent += run(piece);
            left -= piece;
            self.unsealed_bytes += piece * self.row_bytes;
            if self.unsealed_bytes + self.row_bytes >= FILL_BYTES {
                self.drain();
            }
        }
        spent
    }
}

/// Series in random order, without a generator in the timed loop.
fn shuffled(series: &[SeriesId]) -> Vec<SeriesId> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..1 << 16).map(|_| series[(next() % series.len() as u64) as usize]).collect()
}

/// A value between one and two that is made from the row's number in one step: converting an integer would take longer
/// than storing it.
fn reading(row: usize) -> f64 {
    f64::from_bits(0x3FF0_0000_0000_0000 | row as u64)
}

/// A mapped file of three columns, 20 bytes a row, written over and over, and as large as what each of two writers goes
/// through between two drains: larger than the caches, as theirs is.
struct Bare {
    times: *mut i64,
    series: *mut u32,
    values: *mut f64,
    rows: usize,
    published: AtomicU64,
    _map: memmap2::MmapRaw,
}

// SAFETY: the columns are the mapping's, which goes along.
unsafe impl Send for Bare {}

impl Bare {
    fn new() -> Self {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(FILL_BYTES / 2).expect("space");
        let map = memmap2::MmapOptions::new().map_raw(&file).expect("a mapping");
        let rows = (FILL_BYTES / 2 / 20 / 64 * 64) as usize;
        let start = map.as_mut_ptr();
        // SAFETY: three columns of `rows` elements side by side in the mapping, each aligned to 64 bytes.
        let (series, values) = unsafe { (start.add(rows * 8).cast(), start.add(rows * 12).cast()) };
        let mut bare = Self { times: start.cast(), series, values, rows, published: AtomicU64::new(0), _map: map };
        bare.fill(rows as u64);
        bare
    }

    fn fill(&mut self, mut left: u64) {
        while left > 0 {
            let piece = (left as usize).min(self.rows);
            for row in 0..piece {
                // SAFETY: `row` is below `rows`.
                unsafe {
                    self.times.add(row).write(row as i64);
                    self.series.add(row).write(7);
                    self.values.add(row).write(black_box(reading(row)));
                }
                self.published.store(row as u64 + 1, Ordering::Release);
            }
            left -= piece as u64;
        }
    }
}

fn ceiling(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut bare = [Bare::new(), Bare::new()];
    group.bench_function("ceiling, mapped stores of 20 bytes", |bencher| {
        bencher.iter_custom(|iterations| {
            let began = Instant::now();
            bare[0].fill(iterations);
            began.elapsed()
        });
    });
    group.bench_function("ceiling, mapped stores of 20 bytes, two threads", |bencher| {
        bencher.iter_custom(|iterations| {
            let began = Instant::now();
            std::thread::scope(|scope| {
                bare.iter_mut().for_each(|bare| {
                    scope.spawn(move || bare.fill(iterations / 2));
                });
            });
            began.elapsed()
        });
    });
}

fn handle_rows<const FIELDS: usize>(group: &mut BenchmarkGroup<'_, WallTime>, series: usize) {
    let mut bench = Bench::new(FIELDS);
    let all: Vec<SeriesId> =
        (0..series).map(|n| bench.table.series([format!("host_{n}").as_str()]).expect("a series")).collect();
    let order = shuffled(&all);
    let mut writer = bench.table.writer().expect("a writer");
    let mut row = 0_usize;
    group.bench_function(format!("handle row, {FIELDS} fields, {series} series"), |bencher| {
        bencher.iter_custom(|iterations| {
            bench.time(iterations, |rows| {
                for _ in 0..rows {
                    let values = [Value::F64(black_box(reading(row))); FIELDS];
                    let time = Time::from_nanos(row as i64);
                    writer.append_to(order[row & 0xFFFF], time, &values).expect("an append");
                    row += 1;
                }
            })
        });
    });
}

/// Keeps this thread's processor busy for as long as one that has slept takes to come up to speed: while one thread drains,
/// the other's processor sleeps. Without this two writers were timed at 1.3 times one.
fn warm_up() {
    const WARM: Duration = Duration::from_millis(30);
    let began = Instant::now();
    while began.elapsed() < WARM {
        std::hint::spin_loop();
    }
}

fn two_writers(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut bench = Bench::new(1);
    let series = bench.table.series(["a"]).expect("a series");
    let mut writers = [bench.table.writer().expect("a writer"), bench.table.writer().expect("a writer")];
    // Whole fills, since each warms up.
    let fill = FILL_BYTES / bench.row_bytes;
    group.throughput(Throughput::Elements(fill));
    group.bench_function("handle row, 1 fields, 1 series, two writers", |bencher| {
        bencher.iter_custom(|fills| {
            (0..fills).map(|_| bench.add_up(fill, |rows| fill_both(&mut writers, series, rows))).sum()
        });
    });
    group.throughput(Throughput::Elements(1));
}

/// Appends half of `rows` with each writer, on a thread of its own, and gives the time of the slower one.
fn fill_both(writers: &mut [Writer], series: SeriesId, rows: u64) -> Duration {
    let ready = Barrier::new(writers.len());
    let run = |writer: &mut Writer| {
        warm_up();
        ready.wait();
        let began = Instant::now();
        for row in 0..rows / 2 {
            let values = [Value::F64(black_box(reading(row as usize)))];
            writer.append_to(series, Time::from_nanos(row as i64), &values).expect("an append");
        }
        began.elapsed()
    };
    let run = &run;
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers.iter_mut().map(|writer| scope.spawn(move || run(writer))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a writer")).max().unwrap_or_default()
    })
}

fn named_rows(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut bench = Bench::new(1);
    let mut writer = bench.table.writer().expect("a writer");
    let mut row = 0;
    group.bench_function("named row, 1 field", |bencher| {
        bencher.iter_custom(|iterations| {
            bench.time(iterations, |rows| {
                for _ in 0..rows {
                    let value = black_box(row as f64);
                    writer.append_at(Time::from_nanos(row), row! { host: "host_1", f0: value }).expect("an append");
                    row += 1;
                }
            })
        });
    });
    group.bench_function("named row, 1 field, stamped now", |bencher| {
        bencher.iter_custom(|iterations| {
            bench.time(iterations, |rows| {
                for _ in 0..rows {
                    writer.append(row! { host: "host_1", f0: black_box(0.5) }).expect("an append");
                }
            })
        });
    });
    let series = bench.table.series(["host_1"]).expect("a series");
    group.bench_function("handle row, 1 field, stamped now", |bencher| {
        bencher.iter_custom(|iterations| {
            bench.time(iterations, |rows| {
                for _ in 0..rows {
                    writer.append_to(series, now(), &[black_box(0.5).into()]).expect("an append");
                }
            })
        });
    });
}

fn batches(group: &mut BenchmarkGroup<'_, WallTime>) {
    const ROWS: u64 = 8_192;
    let mut bench = Bench::new(10);
    let series = bench.table.series(["host_1"]).expect("a series");
    let mut writer = bench.table.writer().expect("a writer");
    let column = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| row as f64))) as ArrayRef;
    let time = Arc::new(TimestampNanosecondArray::from_iter_values(0..ROWS as i64)) as ArrayRef;
    let columns = std::iter::once(("time".to_string(), time)).chain((0..10).map(|n| (format!("f{n}"), column.clone())));
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    group.bench_function("batch of 8192 for one series, 10 fields", |bencher| {
        bencher.iter_custom(|iterations| {
            bench.time(iterations, |rows| {
                let mut left = rows;
                while left > 0 {
                    let piece = left.min(ROWS);
                    writer.append_batch_to(series, &batch.slice(0, piece as usize)).expect("an append");
                    left -= piece;
                }
            })
        });
    });
}

fn ingest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(1));
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    ceiling(&mut group);
    handle_rows::<1>(&mut group, 1);
    handle_rows::<1>(&mut group, 10_000);
    handle_rows::<10>(&mut group, 1);
    handle_rows::<10>(&mut group, 10_000);
    two_writers(&mut group);
    named_rows(&mut group);
    batches(&mut group);
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
