//! The table of TSBS devops as Parquet files.

use std::path::Path;
use std::sync::Arc;

use denyut::arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray};
use denyut::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use denyut::parquet::basic::{Compression, ZstdLevel};
use serde_json::{Value, json};
use workload::devops::{FIELDS, START_NS, STEP_NS, Scale, TAGS, Walks, tags};

use super::{BATCH_ROWS, GROUP_ROWS, SORTED_GROUP_ROWS, dictionary_type, time_field, times, writer};
use crate::Outcome;

fn schema(tag: &DataType) -> SchemaRef {
    let mut fields = vec![time_field()];
    fields.extend(TAGS.iter().map(|name| Field::new(*name, tag.clone(), false)));
    fields.extend(FIELDS.iter().map(|name| Field::new(*name, DataType::Float64, false)));
    Arc::new(Schema::new(fields))
}

/// Every usage of every row, in a byte each: they are whole numbers up to a hundred.
struct Usages {
    scale: Scale,
    values: Vec<[u8; 10]>,
}

impl Usages {
    fn of(scale: Scale) -> Self {
        let mut walks = Walks::new(scale.hosts);
        let mut values = Vec::with_capacity(scale.rows());
        for _ in 0..scale.steps() {
            values.extend(walks.step().iter().map(|host| host.map(|value| value as u8)));
        }
        Self { scale, values }
    }

    fn fields(&self, rows: impl Iterator<Item = usize> + Clone) -> impl Iterator<Item = ArrayRef> {
        (0..FIELDS.len()).map(move |field| {
            let values = rows.clone().map(|row| f64::from(self.values[row][field]));
            Arc::new(values.collect::<Float64Array>()) as ArrayRef
        })
    }
}

/// Writes the table `cpu` in both orders, below `dir`.
pub fn write(scale: Scale, dir: &Path) -> Outcome<Value> {
    let (arrival, sorted) = (dir.join("cpu.parquet"), dir.join("cpu-sorted.parquet"));
    let usages = Usages::of(scale);
    write_arrival(&usages, &arrival)?;
    write_sorted(&usages, &sorted)?;
    let fields: Vec<[&str; 2]> = FIELDS.iter().map(|name| [*name, "f64"]).collect();
    Ok(json!({
        "name": "cpu", "path": arrival, "sorted": sorted, "rows": scale.rows(), "series": scale.hosts,
        "tags": TAGS, "fields": fields, "order": ["hostname"], "nullable": false,
    }))
}

/// As they come: all hosts of a moment, then the next.
fn write_arrival(usages: &Usages, path: &Path) -> Outcome<()> {
    let (scale, schema) = (usages.scale, schema(&dictionary_type()));
    let hosts: Vec<_> = (0..scale.hosts).map(tags).collect();
    let dictionary = |tag: usize| {
        let mut values: Vec<&str> = hosts.iter().map(|host| host[tag].as_str()).collect();
        values.sort_unstable();
        values.dedup();
        let at = |host: &[String; 10]| values.binary_search(&host[tag].as_str()).unwrap_or_default() as i32;
        (Arc::new(StringArray::from(values.clone())), hosts.iter().map(at).collect::<Vec<i32>>())
    };
    let dictionaries: Vec<_> = (0..TAGS.len()).map(dictionary).collect();
    let mut writer = writer(path, &schema, GROUP_ROWS, Compression::LZ4_RAW)?;
    let steps_a_batch = (BATCH_ROWS / scale.hosts).max(1);
    for first in (0..scale.steps()).step_by(steps_a_batch) {
        let rows = first * scale.hosts..(first + steps_a_batch).min(scale.steps()) * scale.hosts;
        let time = |row: usize| START_NS + (row / scale.hosts) as i64 * STEP_NS;
        let mut columns = vec![times(rows.clone().map(time).collect())];
        for (values, keys) in &dictionaries {
            let keys = Int32Array::from_iter_values(rows.clone().map(|row| keys[row % scale.hosts]));
            columns.push(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values.clone())?));
        }
        columns.extend(usages.fields(rows.clone()));
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    writer.close()?;
    Ok(())
}

/// By host name and time.
fn write_sorted(usages: &Usages, path: &Path) -> Outcome<()> {
    let (scale, schema) = (usages.scale, schema(&DataType::Utf8));
    let mut hosts: Vec<(usize, [String; 10])> = (0..scale.hosts).map(|host| (host, tags(host))).collect();
    hosts.sort_by(|a, b| a.1.cmp(&b.1));
    let mut writer = writer(path, &schema, SORTED_GROUP_ROWS, Compression::ZSTD(ZstdLevel::try_new(3)?))?;
    for (host, tags) in hosts {
        let rows = (0..scale.steps()).map(|step| step * scale.hosts + host);
        let mut columns = vec![times((0..scale.steps()).map(|step| START_NS + step as i64 * STEP_NS).collect())];
        let repeated = |tag: &String| Arc::new(StringArray::from_iter_values(rows.clone().map(|_| tag))) as ArrayRef;
        columns.extend(tags.iter().map(repeated));
        columns.extend(usages.fields(rows.clone()));
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    writer.close()?;
    Ok(())
}
