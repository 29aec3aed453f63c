//! SQLite: a table of rows in the order in which they came, with indexes on series and time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use denyut::arrow::array::{Array, ArrayRef, AsArray, Float64Builder, Int64Builder, RecordBatch, StringBuilder};
use denyut::arrow::compute::cast;
use denyut::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};
use serde_json::{Value, json};

use crate::data::groups;
use crate::worker::Engine;
use crate::{Outcome, THREADS};

/// A database below a directory.
pub struct Sqlite {
    path: PathBuf,
    connection: Connection,
}

impl Sqlite {
    /// Opens or makes it, with settings that a service would use: a write-ahead log, and as much cache as the others.
    pub fn new(dir: &Path) -> Outcome<Self> {
        let path = dir.join("sqlite.db");
        let connection = Connection::open(&path)?;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -2000000; \
             PRAGMA mmap_size = 30000000000; PRAGMA threads = {THREADS}; PRAGMA temp_store = MEMORY;"
        ))?;
        Ok(Self { path, connection })
    }

    fn insert(&mut self, insert: &str, batch: &RecordBatch) -> Outcome<Duration> {
        let columns: Vec<Vec<rusqlite::types::Value>> =
            batch.columns().iter().map(|column| cells(column)).collect::<Outcome<_>>()?;
        let began = Instant::now();
        let transaction = self.connection.transaction()?;
        let mut statement = transaction.prepare(insert)?;
        for row in 0..batch.num_rows() {
            statement.execute(params_from_iter(columns.iter().map(|column| &column[row])))?;
        }
        drop(statement);
        transaction.commit()?;
        Ok(began.elapsed())
    }
}

fn cells(column: &ArrayRef) -> Outcome<Vec<rusqlite::types::Value>> {
    use rusqlite::types::Value as Cell;
    let cell = |value: Option<Cell>| value.unwrap_or(Cell::Null);
    Ok(match column.data_type() {
        DataType::Timestamp(_, zone) => {
            let nanos = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()))?;
            let nanos = cast(&nanos, &DataType::Int64)?;
            nanos.as_primitive::<Int64Type>().iter().map(|value| cell(value.map(Cell::Integer))).collect()
        }
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().map(|v| cell(v.map(Cell::Real))).collect(),
        DataType::Int64 => column.as_primitive::<Int64Type>().iter().map(|v| cell(v.map(Cell::Integer))).collect(),
        _ => {
            let column = cast(column, &DataType::Utf8)?;
            column.as_string::<i32>().iter().map(|v| cell(v.map(|v| Cell::Text(v.to_string())))).collect()
        }
    })
}

impl Engine for Sqlite {
    fn version(&self) -> String {
        rusqlite::version().to_string()
    }

    fn load(&mut self, tables: &[Value]) -> Outcome<Value> {
        let (mut spent, mut rows) = (Duration::ZERO, 0);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        for table in tables {
            let name = text(&table["name"]);
            let path = PathBuf::from(text(&table["path"]));
            let mut columns = vec!["time INTEGER NOT NULL".to_string()];
            columns.extend(table["tags"].as_array().into_iter().flatten().map(|tag| format!("{} TEXT", text(tag))));
            let fields = table["fields"].as_array().into_iter().flatten();
            columns
                .extend(fields.map(|field| {
                    format!("{} {}", text(&field[0]), if field[1] == "f64" { "REAL" } else { "INTEGER" })
                }));
            self.connection.execute_batch(&format!("CREATE TABLE {name} ({})", columns.join(", ")))?;
            let holes = vec!["?"; columns.len()].join(", ");
            let insert = format!("INSERT INTO {name} VALUES ({holes})");
            for batches in groups(&path)? {
                for batch in batches? {
                    spent += self.insert(&insert, &batch)?;
                    rows += batch.num_rows();
                }
            }
            let order: Vec<String> = table["order"].as_array().into_iter().flatten().map(text).collect();
            let began = Instant::now();
            self.connection.execute_batch(&format!(
                "CREATE INDEX {name}_series ON {name} ({}, time); CREATE INDEX {name}_time ON {name} (time); ANALYZE;",
                order.join(", ")
            ))?;
            spent += began.elapsed();
        }
        let began = Instant::now();
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        spent += began.elapsed();
        let bytes = std::fs::metadata(&self.path)?.len();
        Ok(json!({ "seconds": spent.as_secs_f64(), "rows": rows, "bytes": bytes }))
    }

    fn run(&mut self, question: &Value) -> Outcome<Vec<RecordBatch>> {
        let text = question["sql"].as_str().unwrap_or_default();
        let mut statement = self.connection.prepare(text)?;
        let names: Vec<String> = statement.column_names().map(ToString::to_string).collect();
        let mut columns: Vec<Column> = names.iter().map(|name| Column::of(name)).collect();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for (at, column) in columns.iter_mut().enumerate() {
                column.push(row.get_ref(at)?)?;
            }
        }
        let columns: Vec<ArrayRef> = columns.into_iter().map(Column::finish).collect::<Outcome<_>>()?;
        let fields =
            names.iter().zip(&columns).map(|(name, column)| Field::new(name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(vec![RecordBatch::try_new(schema, columns)?])
    }
}

/// A column of an answer. SQLite has no type for it, so its name says whether it is a time, and its first value the rest.
enum Column {
    Unknown(usize),
    Time(Int64Builder),
    Number(Float64Builder),
    Text(StringBuilder),
}

impl Column {
    fn of(name: &str) -> Self {
        if matches!(name, "bin" | "time" | "newest") { Self::Time(Int64Builder::new()) } else { Self::Unknown(0) }
    }

    fn push(&mut self, value: ValueRef<'_>) -> Outcome<()> {
        if let (Self::Unknown(nulls), false) = (&*self, matches!(value, ValueRef::Null)) {
            let nulls = *nulls;
            *self = match value {
                ValueRef::Text(_) => Self::Text(StringBuilder::new()),
                _ => Self::Number(Float64Builder::new()),
            };
            (0..nulls).try_for_each(|_| self.push(ValueRef::Null))?;
        }
        match (self, value) {
            (Self::Unknown(nulls), _) => *nulls += 1,
            (Self::Time(column), ValueRef::Integer(value)) => column.append_value(value),
            (Self::Time(column), _) => column.append_null(),
            (Self::Number(column), ValueRef::Real(value)) => column.append_value(value),
            (Self::Number(column), ValueRef::Integer(value)) => column.append_value(value as f64),
            (Self::Number(column), _) => column.append_null(),
            (Self::Text(column), ValueRef::Text(value)) => column.append_value(std::str::from_utf8(value)?),
            (Self::Text(column), _) => column.append_null(),
        }
        Ok(())
    }

    fn finish(self) -> Outcome<ArrayRef> {
        Ok(match self {
            Self::Unknown(nulls) => denyut::arrow::array::new_null_array(&DataType::Float64, nulls),
            Self::Time(mut column) => {
                cast(&column.finish(), &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))?
            }
            Self::Number(mut column) => Arc::new(column.finish()),
            Self::Text(mut column) => Arc::new(column.finish()),
        })
    }
}
