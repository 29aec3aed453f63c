//! What peers are measured with: rows, and questions about them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use workload::ask::{Ask, World, asks};
use workload::devops::{FIELDS, TAGS};
use workload::dialect::Dialect;
use workload::{city, devops, questions, real};

use crate::{Outcome, Run, data};

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TSBS devops.
    Devops(devops::Scale),
    /// A city's.
    City(city::Scale),
    /// Those below `examples/data/`.
    Real,
}

impl Kind {
    /// What names begin with in lines for programs. Those of TSBS have the names that they always had.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Devops(_) => "",
            Self::City(_) => "city-",
            Self::Real => "real-",
        }
    }

    /// Those that are called `name`, at a scale.
    pub fn named(name: &str, scale: &str) -> Outcome<Vec<Self>> {
        // Hosts and days; people, the first hour and hours.
        let (hosts, days, people, from_hour, hours) = match scale {
            "smoke" => (100, 1, 1_000_000, 6, 6),
            "standard" => (400, 3, 1_000_000, 0, 72),
            "large" => (4_000, 3, 5_000_000, 0, 144),
            other => return Err(format!("--scale is smoke, standard or large, not {other}").into()),
        };
        let devops = Self::Devops(devops::Scale { hosts, days });
        let city = Self::City(city::Scale { people, from_hour, hours });
        match name {
            "devops" => Ok(vec![devops]),
            "city" => Ok(vec![city]),
            "real" => Ok(vec![Self::Real]),
            "all" => Ok(vec![devops, city, Self::Real]),
            other => Err(format!("--work is devops, city, real or all, not {other}").into()),
        }
    }
}

/// A question of any work.
pub enum Question {
    /// One of TSBS.
    Devops(questions::Question),
    /// Any other.
    Ask(Ask),
}

impl Question {
    /// Its type's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Devops(question) => question.of.name,
            Self::Ask(ask) => ask.of.name,
        }
    }

    /// As a worker is asked, or why it cannot be.
    pub fn asked(&self, engine: &str) -> Result<Value, &'static str> {
        let Some(dialect) = Dialect::of(engine) else {
            return Ok(self.for_polars());
        };
        let sql = match self {
            Self::Devops(question) => question.sql(dialect),
            Self::Ask(ask) => ask.sql(dialect)?,
        };
        if dialect != Dialect::Denyut {
            return Ok(json!({ "sql": sql }));
        }
        let prepared = match self {
            Self::Devops(question) => question.prepared(),
            Self::Ask(ask) => ask.prepared()?,
        };
        let prepared = json!({ "sql": prepared.sql, "moments": prepared.moments, "texts": prepared.texts });
        Ok(json!({ "sql": sql, "prepared": prepared }))
    }

    fn for_polars(&self) -> Value {
        match self {
            Self::Devops(question) => {
                let columns: Vec<&str> = std::iter::once("time").chain(TAGS).chain(FIELDS).collect();
                json!({ "polars": {
                    "shape": question.of.shape.name(), "fields": question.fields(), "hosts": question.hosts,
                    "start": question.start_ns, "end": question.end_ns, "columns": columns,
                }})
            }
            Self::Ask(ask) => {
                json!({ "polars": { "shape": ask.of.name, "moments": ask.moments, "texts": ask.texts } })
            }
        }
    }
}

/// One work, ready to be given to peers.
pub struct Work {
    /// Which.
    pub kind: Kind,
    /// Where its rows, databases and results are.
    pub dir: PathBuf,
    /// Descriptions of its tables.
    pub tables: Vec<Value>,
    /// By type.
    pub questions: Vec<Vec<Question>>,
}

impl Work {
    /// Makes the rows, unless they are there, and draws the questions.
    pub fn new(run: &Run, kind: Kind) -> Outcome<Self> {
        let dir = match kind {
            Kind::Devops(_) => run.dir.join(&run.scale_name),
            Kind::City(_) => run.dir.join(format!("city-{}", run.scale_name)),
            Kind::Real => run.dir.join("real"),
        };
        std::fs::create_dir_all(dir.join("rows"))?;
        let (tables, questions) = (tables(run, kind, &dir.join("rows"))?, ask(kind, run.count));
        Ok(Self { kind, dir, tables, questions })
    }

    fn sum(&self, key: &str) -> usize {
        self.tables.iter().filter_map(|table| table[key].as_u64()).sum::<u64>() as usize
    }

    /// Rows of all tables.
    pub fn rows(&self) -> usize {
        self.sum("rows")
    }

    /// What it is, in words.
    pub fn about(&self) -> String {
        let rows = self.rows();
        match self.kind {
            Kind::Devops(scale) => {
                format!("TSBS devops, cpu-only: {} hosts x {} days, {rows} rows", scale.hosts, scale.days)
            }
            Kind::City(scale) => format!(
                "A city of {} people, {} hours: {rows} rows of {} series in {} tables, about a tenth of them late",
                scale.people,
                scale.hours,
                self.sum("series"),
                self.tables.len()
            ),
            Kind::Real => format!(
                "Real measurements below examples/data: {rows} rows of {} series in {} tables",
                self.sum("series"),
                self.tables.len()
            ),
        }
    }
}

fn tables(run: &Run, kind: Kind, dir: &Path) -> Outcome<Vec<Value>> {
    let made = dir.join("tables.json");
    if made.exists() {
        return Ok(serde_json::from_reader(File::open(&made)?)?);
    }
    let tables = match kind {
        Kind::Devops(scale) => vec![data::devops::write(scale, dir)?],
        Kind::City(scale) => data::tables::write(&city::sources(scale), dir)?,
        Kind::Real => {
            let sources = real::sources(|name| text(&run.examples.join(name)).map_err(|error| error.to_string()))?;
            data::tables::write(&sources, dir)?
        }
    };
    std::fs::write(&made, Value::from(tables.clone()).to_string())?;
    Ok(tables)
}

/// A file's text, unpacked.
fn text(path: &Path) -> Outcome<String> {
    let (mut file, mut text) = (File::open(path)?, String::new());
    match path.extension().is_some_and(|end| end == "gz") {
        true => GzDecoder::new(file).read_to_string(&mut text)?,
        false => file.read_to_string(&mut text)?,
    };
    Ok(text)
}

fn ask(kind: Kind, count: usize) -> Vec<Vec<Question>> {
    let (types, world) = match kind {
        Kind::Devops(scale) => {
            let of = |of: &questions::Type| questions::questions(*of, scale, count);
            let wrapped = |asked: Vec<questions::Question>| asked.into_iter().map(Question::Devops).collect();
            return questions::TYPES.iter().map(of).map(wrapped).collect();
        }
        Kind::City(scale) => (city::questions::TYPES.as_slice(), World { span: scale.span(), people: scale.people }),
        Kind::Real => (real::questions::TYPES.as_slice(), real::world()),
    };
    types.iter().map(|of| asks(*of, world, count).into_iter().map(Question::Ask).collect()).collect()
}
