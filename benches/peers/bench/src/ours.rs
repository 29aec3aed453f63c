//! denyut, in three arms.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use denyut::arrow::array::RecordBatch;
use denyut::prelude::*;
use denyut::{Accelerations, Parameter, Prepared};
use serde_json::{Value, json};

use crate::data::groups;
use crate::worker::Engine;
use crate::{Outcome, THREADS};

/// How questions are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// As the crate comes.
    Shipped,
    /// With all accelerations off.
    Plain,
    /// Planned once, and asked of a new snapshot each time.
    Prepared,
}

impl Arm {
    fn of(name: &str) -> Outcome<Self> {
        match name {
            "shipped" => Ok(Self::Shipped),
            "plain" => Ok(Self::Plain),
            "prepared" => Ok(Self::Prepared),
            other => Err(format!("no arm is called {other}").into()),
        }
    }
}

/// The one place that knows how an arm is asked for.
fn open(path: &Path, arm: Arm) -> denyut::Result<Store> {
    // Rows of 2024 are as hot as a service's own of last week.
    let options = Store::options().query_threads(THREADS).cold_after(Duration::from_secs(50 * 365 * 86_400));
    match arm {
        Arm::Shipped | Arm::Prepared => options.open(path),
        Arm::Plain => options.accelerations(Accelerations::none()).open(path),
    }
}

/// A store below `dir`.
pub struct Ours {
    path: PathBuf,
    arm: Arm,
    store: Option<Store>,
    /// By text, of the store that is open.
    prepared: HashMap<String, Prepared>,
}

impl Ours {
    /// Opens or makes the store.
    pub fn new(dir: &Path) -> Outcome<Self> {
        let (path, arm) = (dir.join("denyut"), Arm::Shipped);
        let store = Some(open(&path, arm)?);
        Ok(Self { path, arm, store, prepared: HashMap::new() })
    }

    fn store(&self) -> Outcome<&Store> {
        self.store.as_ref().ok_or_else(|| "the store did not open again".into())
    }

    fn switch(&mut self, arm: Arm) -> Outcome<()> {
        if arm != self.arm {
            self.prepared.clear();
            if let Some(store) = self.store.take() {
                store.close()?;
            }
            self.store = Some(open(&self.path, arm)?);
            self.arm = arm;
        }
        Ok(())
    }

    /// Segments by table.
    fn files(&self) -> Outcome<BTreeMap<String, Vec<PathBuf>>> {
        let rows = self.store()?.query("SELECT table_name, file FROM system.segments")?;
        let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let text = |column| rows.str(row, column).map(Option::unwrap_or_default);
            files.entry(text("table_name")?.into()).or_default().push(self.path.join(text("file")?));
        }
        Ok(files)
    }

    /// Bytes of the store without live blocks, whose files are kept to be filled again; and bytes of these.
    fn bytes(&self) -> Outcome<(u64, u64)> {
        let counters: HashMap<_, _> = self.store()?.counters().into_iter().collect();
        let live = counters.get("live_block_bytes").copied().unwrap_or(0);
        Ok((bytes_below(&self.path)?.saturating_sub(live), live))
    }
}

fn bytes_below(path: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        bytes += if kind.is_dir() { bytes_below(&entry.path())? } else { kind.len() };
    }
    Ok(bytes)
}

/// The table that a description declares.
pub fn declare(store: &Store, table: &Value) -> Outcome<Table> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut schema = Schema::new(text(&table["name"]));
    for tag in table["tags"].as_array().into_iter().flatten() {
        schema = schema.tag(text(tag));
    }
    for field in table["fields"].as_array().into_iter().flatten() {
        let name = text(&field[0]);
        schema = if field[1] == "f64" { schema.f64(&name, "") } else { schema.i64(&name, "") };
        if table["nullable"] == false {
            schema = schema.required(&name);
        }
    }
    Ok(store.table(schema)?)
}

/// Appends batches by two writers, on a thread each.
fn append(writers: &mut [Writer], batches: &[RecordBatch]) -> Outcome<()> {
    let part = batches.len().div_ceil(writers.len()).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .iter_mut()
            .zip(batches.chunks(part))
            .map(|(writer, batches)| {
                scope.spawn(move || batches.iter().try_for_each(|batch| writer.append_batch(batch).map(drop)))
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a writer panicked")??;
        }
        Ok(())
    })
}

impl Engine for Ours {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_string() + "-dev"
    }

    fn load(&mut self, tables: &[Value]) -> Outcome<Value> {
        let store = self.store()?;
        let (mut spent, mut rows) = (Duration::ZERO, 0);
        for table in tables {
            let path = Path::new(table["path"].as_str().unwrap_or_default());
            let table = declare(store, table)?;
            let mut writers = [table.writer()?, table.writer()?];
            for batches in groups(path)? {
                let batches = batches?;
                let began = Instant::now();
                append(&mut writers, &batches)?;
                spent += began.elapsed();
                rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
            }
        }
        let began = Instant::now();
        store.sync()?;
        spent += began.elapsed();
        store.seal()?;
        let sealed = self.bytes()?.0;
        let began_maintain = Instant::now();
        store.maintain()?;
        let maintain_s = began_maintain.elapsed().as_secs_f64();
        let (bytes, live) = self.bytes()?;
        Ok(json!({
            "seconds": spent.as_secs_f64(), "rows": rows, "bytes": bytes, "sealed_bytes": sealed, "live_bytes": live,
            "maintain_s": maintain_s, "files": self.files()?,
        }))
    }

    fn run(&mut self, question: &Value) -> Outcome<Vec<RecordBatch>> {
        if self.arm == Arm::Prepared {
            return self.run_prepared(&question["prepared"]);
        }
        let text = question["sql"].as_str().unwrap_or_default();
        Ok(self.store()?.query(text)?.into_batches())
    }

    fn other(&mut self, command: &Value) -> Outcome<Value> {
        match command["do"].as_str() {
            Some("arm") => self.switch(Arm::of(command["arm"].as_str().unwrap_or_default())?)?,
            Some("cold") => return self.cold(),
            _ => return Err(format!("unknown command {command}").into()),
        }
        Ok(json!({}))
    }
}

impl Ours {
    fn run_prepared(&mut self, question: &Value) -> Outcome<Vec<RecordBatch>> {
        let text = question["sql"].as_str().unwrap_or_default();
        if !self.prepared.contains_key(text) {
            let prepared = self.store()?.prepare(text)?;
            self.prepared.insert(text.to_string(), prepared);
        }
        let each = |key: &str| question[key].as_array().into_iter().flatten();
        let moments = each("moments").filter_map(Value::as_i64).map(|ns| Time::from_nanos(ns).into());
        let texts = each("texts").filter_map(Value::as_str).map(Parameter::from);
        Ok(self.prepared[text].query(&moments.chain(texts).collect::<Vec<_>>())?.into_batches())
    }

    /// Lets time pass: merges what is long past for good, and says how large that is.
    fn cold(&mut self) -> Outcome<Value> {
        if let Some(store) = self.store.take() {
            store.close()?;
        }
        let store = Store::options().query_threads(THREADS).open(&self.path)?;
        store.maintain()?;
        self.store = Some(store);
        Ok(json!({ "bytes": self.bytes()?.0 }))
    }
}
