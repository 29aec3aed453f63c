//! How each column of a segment is encoded, chosen by looking at some of its values.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use hashbrown::HashSet;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::model::TableSchema;
use crate::model::table::clock_column;

/// Values looked at of each column.
const SAMPLE: usize = 4_096;
/// Distinct values of the sample, one in so many, up to which a dictionary pays.
const DICTIONARY_SHARE: usize = 8;
/// Rows of a data page: small, so that the page index can skip what a narrow query does not want.
const PAGE_ROWS: usize = 8_192;
/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// How hard a cold segment is compressed. Higher levels take several times as long for a few per cent.
const COLD_LEVEL: i32 = 3;

/// Writer properties for a segment of `schema` whose first rows are `sample`, in the order of the segment's columns. A
/// `cold` one is to be small before it is fast.
pub(crate) fn properties(schema: &TableSchema, sample: &[ArrayRef], cold: bool) -> WriterProperties {
    // The level is within the range that zstd knows.
    let zstd = ZstdLevel::try_new(COLD_LEVEL).map_or(Compression::ZSTD(ZstdLevel::default()), Compression::ZSTD);
    let time = ColumnPath::from("time");
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("denyut ", env!("CARGO_PKG_VERSION")).into())
        .set_compression(if cold { zstd } else { Compression::LZ4_RAW })
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        // Only time is looked up by page; for the rest a chunk's are enough, and a float's, which say nothing of NaN, are
        // none at all.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_statistics_enabled(time.clone(), EnabledStatistics::Page)
        .set_column_dictionary_enabled(time.clone(), false)
        .set_column_encoding(time, Encoding::DELTA_BINARY_PACKED);
    let fields = schema.segment_arrow();
    let first_field = 1 + schema.tags.len();
    for (field, column) in fields.fields().iter().zip(sample).skip(first_field) {
        let path = ColumnPath::from(field.name().as_str());
        let is_clock = *field.name() == clock_column();
        properties = choose(properties, path, column, is_clock);
    }
    properties.build()
}

fn choose(
    mut properties: WriterPropertiesBuilder,
    path: ColumnPath,
    column: &ArrayRef,
    is_clock: bool,
) -> WriterPropertiesBuilder {
    let plain = match column.data_type() {
        DataType::Float64 => {
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            Encoding::BYTE_STREAM_SPLIT
        }
        DataType::Int64 | DataType::UInt64 => Encoding::DELTA_BINARY_PACKED,
        DataType::Boolean => return properties.set_column_dictionary_enabled(path, false),
        // Strings and decimals are mostly of few values, and the writer falls back by itself when they are not.
        _ => return properties,
    };
    if !is_clock && repeats(column) {
        return properties;
    }
    properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, plain)
}

/// Whether the sample has few distinct values.
fn repeats(column: &ArrayRef) -> bool {
    let sample = column.slice(0, column.len().min(SAMPLE));
    let distinct: HashSet<u64> = match sample.data_type() {
        DataType::Float64 => {
            sample.as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect()
        }
        DataType::Int64 => {
            sample.as_primitive::<Int64Type>().values().iter().map(|value| value.cast_unsigned()).collect()
        }
        DataType::UInt64 => sample.as_primitive::<UInt64Type>().values().iter().copied().collect(),
        _ => return true,
    };
    distinct.len() * DICTIONARY_SHARE <= sample.len()
}
