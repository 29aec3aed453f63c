//! Rows as Parquet files: in the order in which they come, and sorted by series and time.

pub mod devops;
pub mod tables;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use denyut::arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use denyut::arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use denyut::parquet::arrow::ArrowWriter;
use denyut::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use denyut::parquet::basic::Compression;
use denyut::parquet::file::properties::WriterProperties;

use crate::Outcome;

/// Rows of a row group, which is what peers are given at a time.
const GROUP_ROWS: usize = 1 << 20;
/// Rows of a row group of the sorted files: the default of DuckDB, which reads them best, as does everybody.
const SORTED_GROUP_ROWS: usize = 122_880;
/// Rows of a batch that is given to a writer.
const BATCH_ROWS: usize = 1 << 16;

fn time_field() -> Field {
    Field::new("time", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false)
}

fn dictionary_type() -> DataType {
    DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into())
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
