//! Rows as Parquet files: in the order in which they come, and sorted by series and time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use denyut::arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use denyut::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use denyut::parquet::arrow::ArrowWriter;
use denyut::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use denyut::parquet::basic::{Compression, ZstdLevel};
use denyut::parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use workload::devops::{FIELDS, START_NS, STEP_NS, Scale, TAGS, Walks, tags};

use crate::Outcome;

/// Rows of a row group, which is what peers are given at a time.
const GROUP_ROWS: usize = 1 << 20;
/// Rows of a row group of the sorted files: the default of DuckDB, which reads them best, as does everybody.
const SORTED_GROUP_ROWS: usize = 122_880;
/// Rows of a batch that is given to a writer.
const BATCH_ROWS: usize = 1 << 16;

fn schema(tag: &DataType) -> SchemaRef {
    let mut fields = vec![Field::new("time", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false)];
    fields.extend(TAGS.iter().map(|name| Field::new(*name, tag.clone(), false)));
    fields.extend(FIELDS.iter().map(|name| Field::new(*name, DataType::Float64, false)));
    Arc::new(Schema::new(fields))
}

fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(values).with_timezone("UTC"))
}

fn writer(path: &Path, schema: &SchemaRef, group_rows: usize, compression: Compression) -> Outcome<ArrowWriter<File>> {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .set_compression(compression)
        .set_data_page_row_count_limit(20_000)
        .build();
    Ok(ArrowWriter::try_new(File::create(path)?, schema.clone(), Some(properties))?)
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

/// The table `cpu` in both orders, below `dir`, unless it is there.
pub fn devops(scale: Scale, dir: &Path) -> Outcome<Value> {
    let (arrival, sorted, done) = (dir.join("cpu.parquet"), dir.join("cpu-sorted.parquet"), dir.join("cpu.done"));
    if !done.exists() {
        std::fs::create_dir_all(dir)?;
        let usages = Usages::of(scale);
        write_arrival(&usages, &arrival)?;
        write_sorted(&usages, &sorted)?;
        File::create(&done)?;
    }
    let fields: Vec<[&str; 2]> = FIELDS.iter().map(|name| [*name, "f64"]).collect();
    Ok(json!({
        "name": "cpu", "path": arrival, "sorted": sorted, "rows": scale.rows(), "tags": TAGS, "fields": fields,
        "order": ["hostname"], "nullable": false,
    }))
}

/// As they come: all hosts of a moment, then the next.
fn write_arrival(usages: &Usages, path: &Path) -> Outcome<()> {
    let (scale, text) = (usages.scale, DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()));
    let schema = schema(&text);
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

/// A Parquet file, a row group at a time, in batches.
pub fn groups(path: &Path) -> Outcome<impl Iterator<Item = Outcome<Vec<RecordBatch>>>> {
    let path: PathBuf = path.into();
    let open = move || -> Outcome<_> { Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(&path)?)?) };
    let count = open()?.metadata().num_row_groups();
    Ok((0..count).map(move |group| {
        let reader: ParquetRecordBatchReader =
            open()?.with_row_groups(vec![group]).with_batch_size(BATCH_ROWS).build()?;
        Ok(reader.collect::<Result<Vec<_>, _>>()?)
    }))
}
