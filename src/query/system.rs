//! The store's own state as tables, under the schema `system`.
//!
//! A table here is a list of columns and a function that lists its rows, called when it is scanned. `series` comes in
//! batches, since there may be millions; the others are as short as the store has tables, blocks and files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use super::engine::Source;
use super::failure::external;
use super::quarantine;
use super::session::BATCH_ROWS;
use super::statistics::time_bounds;
use crate::error::Result as StoreResult;
use crate::maintain::pins::PinView;
use crate::maintain::running::Progress;
use crate::model::json;
use crate::model::names::{INGEST_TIME, TIME};
use crate::model::table::time_type;
use crate::model::time::nanos_of;
use crate::snapshot::{LiveRange, Snapshot, TableView};
use crate::storage::edit::SegmentMeta;
use crate::storage::places::{ASIDE_DIR, SEGMENTS_DIR};
use crate::storage::rollups::RollupState;
use crate::storage::segment_writer::parquet_path;

/// The tables there are.
pub(super) const NAMES: &[&str] = &[
    "background",
    "counters",
    "fields",
    #[cfg(feature = "feed")]
    "imports",
    "live_blocks",
    "partitions",
    "pins",
    "quarantine",
    "rollups",
    "segments",
    "series",
    "tables",
];

/// A column under construction, in rows.
enum Column {
    Text(Vec<Option<String>>),
    Count(Vec<Option<u64>>),
    Nanoseconds(Vec<Option<i64>>),
    Time(Vec<Option<i64>>),
    Flag(Vec<Option<bool>>),
}

impl Column {
    fn data_type(&self) -> DataType {
        match self {
            Self::Text(_) => DataType::Utf8View,
            Self::Count(_) => DataType::UInt64,
            Self::Nanoseconds(_) => DataType::Int64,
            Self::Time(_) => time_type(),
            Self::Flag(_) => DataType::Boolean,
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(values) => Arc::new(StringViewArray::from_iter(values)),
            Self::Count(values) => Arc::new(UInt64Array::from(values)),
            Self::Nanoseconds(values) => Arc::new(Int64Array::from(values)),
            Self::Time(values) => Arc::new(TimestampNanosecondArray::from(values).with_timezone("UTC")),
            Self::Flag(values) => Arc::new(BooleanArray::from(values)),
        }
    }
}

type Columns = Vec<(&'static str, Column)>;

/// Columns from rows: a name, a kind, and what to take of a row.
macro_rules! columns {
    ($rows:expr; $($name:literal: $kind:ident = |$row:pat_param| $value:expr,)*) => {
        vec![$(($name, Column::$kind($rows.iter().map(|$row| $value.into()).collect()))),*]
    };
}

fn tables(rows: &[Arc<TableView>]) -> Columns {
    columns! { rows;
        "table_name": Text = |table| table.schema.name().to_string(),
        "series": Count = |table| table.series.len() as u64,
        "rows": Count = |table| live_rows(table) + segment_rows(table),
        "live_rows": Count = |table| live_rows(table),
        "live_blocks": Count = |table| table.live.len() as u64,
        "segments": Count = |table| table.segments.len() as u64,
        "segment_bytes": Count = |table| table.segments.iter().map(|segment| segment.meta.bytes).sum::<u64>(),
        "min_time": Time = |table| time_bounds(table).map(|bounds| bounds.0),
        "max_time": Time = |table| time_bounds(table).map(|bounds| bounds.1),
        "partition_ns": Nanoseconds = |table| table.partition_ns,
        "dedup": Text = |table| format!("{:?}", table.schema.policies().dedup),
        "lateness_ns": Nanoseconds = |table| table.schema.policies().lateness.map(nanos_of),
        "retention_ns": Nanoseconds = |table| table.schema.policies().retention.map(nanos_of),
        "cadence_ns": Nanoseconds = |table| table.schema.policies().cadence.map(nanos_of),
        "keep_ingest_time": Flag = |table| table.schema.policies().keep_ingest_time,
    }
}

fn live_rows(table: &TableView) -> u64 {
    table.live.iter().map(|range| range.rows() as u64).sum()
}

fn segment_rows(table: &TableView) -> u64 {
    table.segments.iter().map(|segment| segment.meta.rows).sum()
}

/// One column of one table.
struct FieldRow<'a> {
    table: &'a str,
    name: &'a str,
    kind: &'static str,
    data_type: String,
    unit: &'a str,
    required: bool,
}

fn field_rows(tables: &[Arc<TableView>]) -> Vec<FieldRow<'_>> {
    let mut rows = Vec::new();
    for view in tables {
        let schema = &view.schema;
        let plain = |name, kind, data_type: &str| FieldRow {
            table: schema.name(),
            name,
            kind,
            data_type: data_type.into(),
            unit: "",
            required: true,
        };
        rows.push(plain(TIME, "time", "time"));
        rows.extend(schema.tags().iter().map(|tag| plain(tag, "tag", "utf8")));
        rows.extend(schema.fields().iter().map(|field| FieldRow {
            table: schema.name(),
            name: &field.name,
            kind: "field",
            data_type: field.field_type.to_string(),
            unit: &field.unit,
            required: field.required,
        }));
        if schema.policies().keep_ingest_time {
            rows.push(plain(INGEST_TIME, "ingest_time", "time"));
        }
    }
    rows
}

fn fields(rows: &[FieldRow<'_>]) -> Columns {
    columns! { rows;
        "table_name": Text = |row| row.table.to_string(),
        "column_name": Text = |row| row.name.to_string(),
        "kind": Text = |row| row.kind.to_string(),
        "type": Text = |row| row.data_type.clone(),
        "unit": Text = |row| row.unit.to_string(),
        "required": Flag = |row| row.required,
    }
}

fn live_blocks(rows: &[(&TableView, &LiveRange)]) -> Columns {
    columns! { rows;
        "table_name": Text = |(table, _)| table.schema.name().to_string(),
        "block_id": Count = |(_, block)| block.block_id(),
        "generation": Count = |(_, block)| block.generation(),
        "rows": Count = |(_, block)| block.rows() as u64,
        "sealed_rows": Count = |(_, block)| block.sealed_rows() as u64,
        "capacity_rows": Count = |(_, block)| block.capacity_rows() as u64,
        "bytes": Count = |(_, block)| block.block_bytes(),
        "min_time": Time = |(_, block)| block.time_bounds().map(|bounds| bounds.0),
        "max_time": Time = |(_, block)| block.time_bounds().map(|bounds| bounds.1),
    }
}

fn segments(rows: &[(&TableView, &SegmentMeta, bool)]) -> Columns {
    columns! { rows;
        "table_name": Text = |(table, ..)| table.schema.name().to_string(),
        "segment_id": Count = |(_, segment, _)| segment.id,
        "file": Text = |(_, segment, is_aside)| file_of(segment, *is_aside),
        "partition_start": Time = |(_, segment, _)| (segment.partition_ns > 0).then_some(segment.partition_start_ns),
        "partition_ns": Nanoseconds = |(_, segment, _)| (segment.partition_ns > 0).then_some(segment.partition_ns),
        "rows": Count = |(_, segment, _)| segment.rows,
        "series": Count = |(_, segment, _)| u64::from(segment.series),
        "bytes": Count = |(_, segment, _)| segment.bytes,
        "tier": Text = |(_, segment, _)| format!("{:?}", segment.tier).to_lowercase(),
        "min_time": Time = |(_, segment, _)| segment.min_time,
        "max_time": Time = |(_, segment, _)| segment.max_time,
        "aside": Flag = |(.., is_aside)| *is_aside,
    }
}

/// Where a segment's Parquet file is, below the store.
fn file_of(segment: &SegmentMeta, is_aside: bool) -> String {
    let dir = if is_aside { ASIDE_DIR } else { SEGMENTS_DIR };
    parquet_path(Path::new(dir), segment.id).display().to_string()
}

/// The segments of one partition together.
struct PartitionRow<'a> {
    table: &'a str,
    start: i64,
    width: i64,
    segments: u64,
    rows: u64,
    bytes: u64,
    min_time: i64,
    max_time: i64,
}

fn partition_rows(tables: &[Arc<TableView>]) -> Vec<PartitionRow<'_>> {
    let mut partitions: BTreeMap<(&str, i64, i64), PartitionRow<'_>> = BTreeMap::new();
    for (table, segment) in segments_of(tables) {
        let (table, start, width) = (table.schema.name(), segment.partition_start_ns, segment.partition_ns);
        let (min_time, max_time) = (segment.min_time, segment.max_time);
        let row = partitions.entry((table, start, width)).or_insert(PartitionRow {
            table,
            start,
            width,
            segments: 0,
            rows: 0,
            bytes: 0,
            min_time,
            max_time,
        });
        row.segments += 1;
        row.rows += segment.rows;
        row.bytes += segment.bytes;
        row.min_time = row.min_time.min(min_time);
        row.max_time = row.max_time.max(max_time);
    }
    partitions.into_values().collect()
}

fn partitions(rows: &[PartitionRow<'_>]) -> Columns {
    columns! { rows;
        "table_name": Text = |row| row.table.to_string(),
        "partition_start": Time = |row| (row.width > 0).then_some(row.start),
        "partition_end": Time = |row| (row.width > 0).then(|| row.start.saturating_add(row.width)),
        "segments": Count = |row| row.segments,
        "rows": Count = |row| row.rows,
        "bytes": Count = |row| row.bytes,
        "min_time": Time = |row| row.min_time,
        "max_time": Time = |row| row.max_time,
    }
}

fn counters(rows: &[(&'static str, u64)]) -> Columns {
    columns! { rows;
        "name": Text = |(name, _)| name.to_string(),
        "value": Count = |(_, value)| *value,
    }
}

fn pins(rows: &[PinView]) -> Columns {
    columns! { rows;
        "pin": Count = |pin| pin.pin,
        "held": Flag = |pin| pin.held,
        "age_ns": Nanoseconds = |pin| pin.age.map(nanos_of),
        "segments": Count = |pin| pin.segments,
        "bytes": Count = |pin| pin.bytes,
    }
}

fn background(rows: &[Arc<Progress>]) -> Columns {
    columns! { rows;
        "kind": Text = |work| work.kind.name().to_string(),
        "table_name": Text = |work| work.table.clone(),
        "partition_start": Time = |work| work.partition_ns,
        "bytes_done": Count = |work| work.bytes_done(),
        "bytes_total": Count = |work| work.bytes_total,
        "since": Time = |work| work.since.as_nanos(),
    }
}

/// A rollup, its table and its source.
struct RollupRow<'a> {
    state: &'a RollupState,
    table: &'a TableView,
    source: &'a TableView,
    rows_gone_before: i64,
}

impl RollupRow<'_> {
    fn measures(&self) -> String {
        let field = |field: u32| self.source.schema.fields().get(field as usize).map_or("", |field| &field.name);
        let measures = self.state.definition.measures.iter();
        measures.map(|(of, measure)| format!("{}({})", measure.name(), field(*of))).collect::<Vec<_>>().join(", ")
    }

    fn pending_rows(&self) -> u64 {
        let all = self.source.segments.iter().chain(self.source.aside.segments.iter());
        let pending = all.filter(|segment| self.state.pending.contains(&segment.meta.id));
        pending.map(|segment| segment.meta.rows).sum()
    }
}

fn rollup_rows(snapshot: &Snapshot) -> Vec<RollupRow<'_>> {
    let of = |(id, state)| -> Option<RollupRow<'_>> {
        let state: &RollupState = state;
        let (table, source) = (snapshot.numbered(id)?, snapshot.numbered(state.definition.source)?);
        let rows_gone_before = snapshot.rollups().rows_gone_before(source.schema.id);
        Some(RollupRow { state, table, source, rows_gone_before })
    };
    snapshot.rollups().all().filter_map(of).collect()
}

fn rollups(rows: &[RollupRow<'_>]) -> Columns {
    columns! { rows;
        "rollup_name": Text = |row| row.table.schema.name().to_string(),
        "table_name": Text = |row| row.source.schema.name().to_string(),
        "every_ns": Nanoseconds = |row| row.state.definition.every_ns,
        "measures": Text = |row| row.measures(),
        "retention_ns": Nanoseconds = |row| row.table.schema.policies().retention.map(nanos_of),
        "rows": Count = |row| segment_rows(row.table),
        "min_time": Time = |row| time_bounds(row.table).map(|bounds| bounds.0),
        "max_time": Time = |row| time_bounds(row.table).map(|bounds| bounds.1),
        "pending_segments": Count = |row| row.state.pending.len() as u64,
        "pending_rows": Count = |row| row.pending_rows(),
        "rows_gone_before": Time = |row| (row.rows_gone_before > i64::MIN).then_some(row.rows_gone_before),
    }
}

/// A table's name, a series' number, and its tags as JSON.
type SeriesRow = (String, u32, String);

fn series(rows: &[SeriesRow]) -> Columns {
    columns! { rows;
        "table_name": Text = |(table, ..)| table.clone(),
        "series_id": Count = |(_, id, _)| u64::from(*id),
        "tags": Text = |(_, _, tags)| tags.clone(),
    }
}

fn series_rows(table: &TableView, ids: &[u32]) -> StoreResult<Vec<SeriesRow>> {
    let names = table.schema.tags();
    let values: Vec<StringViewArray> =
        (0..names.len()).map(|tag| table.series.tag_column(tag, ids)).collect::<StoreResult<_>>()?;
    let row = |(index, id): (usize, &u32)| {
        let tags: Vec<&str> = values.iter().map(|values| values.value(index)).collect();
        (table.schema.name().to_string(), *id, json::row(&table.schema, &tags, &[]))
    };
    Ok(ids.iter().enumerate().map(row).collect())
}

fn segments_of(tables: &[Arc<TableView>]) -> impl Iterator<Item = (&TableView, &SegmentMeta)> {
    tables.iter().flat_map(|table| table.segments.iter().map(|segment| (&**table, &segment.meta)))
}

/// The rows of one system table at one moment.
struct Listing {
    name: &'static str,
    schema: SchemaRef,
    snapshot: Arc<Snapshot>,
    source: Arc<dyn Source>,
}

/// The table `name` at `snapshot`.
pub(super) fn table(
    name: &str,
    snapshot: &Arc<Snapshot>,
    source: &Arc<dyn Source>,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let Some(name) = NAMES.iter().copied().find(|known| *known == name) else { return Ok(None) };
    let columns = match name {
        #[cfg(feature = "feed")]
        "imports" => return super::imports::table(snapshot).map(Some),
        "quarantine" => return quarantine::table(snapshot).map(Some),
        "tables" => tables(&[]),
        "fields" => fields(&[]),
        "series" => series(&[]),
        "live_blocks" => live_blocks(&[]),
        "segments" => segments(&[]),
        "partitions" => partitions(&[]),
        "pins" => pins(&[]),
        "background" => background(&[]),
        "rollups" => rollups(&[]),
        _ => counters(&[]),
    };
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let listing = Listing { name, schema: schema.clone(), snapshot: snapshot.clone(), source: source.clone() };
    Ok(Some(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(listing)])?)))
}

impl Listing {
    fn rows(&self) -> Columns {
        // Lists of files have the store's own table too: its bytes are bytes.
        let all = self.snapshot.all_tables();
        let declared: Vec<Arc<TableView>> = self.snapshot.tables().cloned().collect();
        match self.name {
            "tables" => tables(&declared),
            "fields" => fields(&field_rows(&declared)),
            "live_blocks" => {
                let blocks = all.iter().flat_map(|table| table.live.iter().map(|range| (&**table, range)));
                live_blocks(&blocks.collect::<Vec<_>>())
            }
            "segments" => {
                let aside =
                    all.iter().flat_map(|table| table.aside.segments.iter().map(|of| (&**table, &of.meta, true)));
                let read = segments_of(all).map(|(table, segment)| (table, segment, false));
                segments(&read.chain(aside).collect::<Vec<_>>())
            }
            "partitions" => partitions(&partition_rows(all)),
            "pins" => pins(&self.source.pins()),
            "background" => background(&self.source.background()),
            "rollups" => rollups(&rollup_rows(&self.snapshot)),
            _ => counters(&self.source.counters()),
        }
    }

    /// A batch of series at a time: there may be millions.
    fn series(&self) -> impl Iterator<Item = Result<RecordBatch>> + Send + 'static {
        let schema = self.schema.clone();
        self.snapshot.tables().cloned().collect::<Vec<_>>().into_iter().flat_map(move |table| {
            let count = u32::try_from(table.series.len()).unwrap_or(u32::MAX);
            let schema = schema.clone();
            (0..count).step_by(BATCH_ROWS).map(move |start| {
                let ids: Vec<u32> = (start..count).take(BATCH_ROWS).collect();
                batch(&schema, series(&series_rows(&table, &ids).map_err(external)?))
            })
        })
    }
}

fn batch(schema: &SchemaRef, columns: Columns) -> Result<RecordBatch> {
    let columns = columns.into_iter().map(|(_, column)| column.finish());
    Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
}

impl PartitionStream for Listing {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        if self.name == "series" {
            return Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(self.series())));
        }
        let rows = batch(&self.schema, self.rows());
        Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([rows])))
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("name", &self.name).finish_non_exhaustive()
    }
}
