//! Writing a segment: a Parquet file of sorted rows, and the series index beside it.
//!
//! **Invariant:** both files are written under temporary names, synced, renamed, and the directory is synced; only then
//! may the manifest name them. A file that it does not name is removed at the next open.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::KeyValue;

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem};
use crate::model::TableSchema;

use super::edit::{SegmentMeta, Tier};
use super::encoding::properties;
use super::series_index::{self, SUM_BYTES, SeriesRange};
use super::summary::{Builder, Kind};

/// The path of a segment's Parquet file.
pub(crate) fn parquet_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:010}.parquet"))
}

/// The path of a segment's series index.
pub(crate) fn index_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:010}.series"))
}

/// The partition that a segment belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    pub(crate) start_ns: i64,
    /// 0 for rows of several partitions.
    pub(crate) width_ns: i64,
}

/// What a segment is to be.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) id: u64,
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) partition: Partition,
    pub(crate) tier: Tier,
}

/// Rows in the order of a segment, each with its series.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) series: Vec<u32>,
    /// Those asked for; to write, all of [`TableSchema::segment_arrow`], the first of which is `time`.
    pub(crate) columns: Vec<ArrayRef>,
}

/// Writes one segment of `batches` and makes it durable.
pub(crate) fn write(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    content: Content,
    batches: impl Iterator<Item = Result<Sorted>>,
) -> Result<SegmentMeta> {
    let mut writer = SegmentWriter::create(fs.clone(), dir, content)?;
    for batch in batches {
        writer.write(batch?)?;
    }
    writer.finish()
}

/// Removes the files of segments that were written and will not be named.
pub(crate) fn remove(fs: &dyn FileSystem, dir: &Path, id: u64) -> Result<()> {
    fs.remove(&parquet_path(dir, id)).and_then(|()| fs.remove(&index_path(dir, id)))
}

/// A segment under construction. Dropped unfinished, it leaves no file.
pub(crate) struct SegmentWriter {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    content: Content,
    temporary: PathBuf,
    file: Arc<dyn File>,
    /// Made with the first rows, whose values say how to encode.
    parquet: Option<ArrowWriter<Sink>>,
    ranges: Vec<SeriesRange>,
    summary: Builder,
    rows: u64,
    finished: bool,
}

impl SegmentWriter {
    pub(crate) fn create(fs: Arc<dyn FileSystem>, dir: &Path, content: Content) -> Result<Self> {
        let temporary = parquet_path(dir, content.id).with_extension("tmp");
        fs.remove(&temporary)?;
        let file = fs.create(&temporary)?;
        let (ranges, dir) = (Vec::new(), dir.into());
        let summary = Builder::new(kinds(&content.schema));
        Ok(Self { fs, dir, content, temporary, file, parquet: None, ranges, summary, rows: 0, finished: false })
    }

    /// Adds rows, which come after those before in a segment's order.
    pub(crate) fn write(&mut self, Sorted { series, columns }: Sorted) -> Result<()> {
        let schema = &self.content.schema;
        let time = columns.first().and_then(|time| time.as_primitive_opt::<TimestampNanosecondType>());
        let times = time.ok_or_else(|| Error::batch(&schema.name, "rows without a time"))?.values().clone();
        let parquet = match &mut self.parquet {
            Some(parquet) => parquet,
            None => self.parquet.insert(open_parquet(&self.file, &self.content, &columns)?),
        };
        let batch = RecordBatch::try_new(schema.segment_arrow(), columns);
        let batch = batch.map_err(|error| Error::batch(&schema.name, error))?;
        parquet.write(&batch).map_err(|error| failed(&self.file, error))?;
        self.summary.take(&series, &times, batch.columns().get(1 + schema.tags.len()..).unwrap_or_default());
        series_index::extend(&mut self.ranges, &series, &times);
        self.rows += series.len() as u64;
        Ok(())
    }

    /// Makes the segment durable under its name.
    pub(crate) fn finish(mut self) -> Result<SegmentMeta> {
        let path = parquet_path(&self.dir, self.content.id);
        let (bytes, sums) = match self.parquet.take() {
            Some(parquet) => {
                let mut sink = parquet.into_inner().map_err(|error| failed(&self.file, error))?;
                sink.flush().map_err(|source| Error::io("writing", self.file.path(), source))?;
                (sink.at, sink.sums.finish())
            }
            None => (0, Vec::new()),
        };
        self.file.sync_data()?;
        let summary = std::mem::take(&mut self.summary).finish(bytes);
        let index = series_index::encode(self.content.id, &self.ranges, &sums, summary.as_ref());
        // Syncs the directory too, after both names are there.
        self.fs.rename(&self.temporary, &path)?;
        fs::publish(&*self.fs, &index_path(&self.dir, self.content.id), &index)?;
        self.finished = true;
        let bounds = self.ranges.iter().map(|range| (range.min_time, range.max_time));
        let (min_time, max_time) = bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((i64::MAX, i64::MIN));
        Ok(SegmentMeta {
            id: self.content.id,
            table: self.content.schema.id,
            partition_start_ns: self.content.partition.start_ns,
            partition_ns: self.content.partition.width_ns,
            min_time,
            max_time,
            rows: self.rows,
            bytes,
            index_bytes: index.len() as u64,
            index_checksum: series_index::checksum_of(&index).unwrap_or_default(),
            series: u32::try_from(self.ranges.len()).unwrap_or(u32::MAX),
            tier: self.content.tier,
        })
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if !self.finished {
            // The space may be what is lacking. What cannot be removed now is removed at the next open.
            let _ = self.fs.remove(&self.temporary).and_then(|()| remove(&*self.fs, &self.dir, self.content.id));
        }
    }
}

/// What a summary keeps of the table's fields.
fn kinds(schema: &TableSchema) -> Vec<Kind> {
    schema.field_types().map(|field| Kind::of(&field.arrow())).collect()
}

fn failed(file: &Arc<dyn File>, error: parquet::errors::ParquetError) -> Error {
    match error {
        parquet::errors::ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => Error::io("writing", file.path(), *source),
            Err(other) => Error::io("writing", file.path(), io::Error::other(other)),
        },
        other => Error::io("encoding", file.path(), io::Error::other(other)),
    }
}

fn open_parquet(file: &Arc<dyn File>, content: &Content, sample: &[ArrayRef]) -> Result<ArrowWriter<Sink>> {
    let schema = &content.schema;
    let note = |key: &str, value: String| KeyValue { key: format!("denyut.{key}"), value: Some(value) };
    let order = schema.tags.iter().map(String::as_str).chain(["time"]).collect::<Vec<_>>().join(",");
    let properties = properties(schema, sample, content.tier == Tier::Cold)
        .into_builder()
        .set_key_value_metadata(Some(vec![
            note("table", schema.name.clone()),
            note("segment", content.id.to_string()),
            note("sorted_by", order),
        ]))
        .build();
    let sink = Sink { file: file.clone(), at: 0, buffer: Vec::with_capacity(SINK_BYTES), sums: Sums::default() };
    // Without the Arrow schema in the file, other readers see plain strings and timestamps.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(sink, schema.segment_arrow(), options).map_err(|error| failed(file, error))
}

const SINK_BYTES: usize = 1 << 20;

/// Sums a file piece by piece as it is written: Parquet's own footers carry no checksum, and its readers believe them.
#[derive(Default)]
pub(super) struct Sums {
    done: Vec<u32>,
    piece: crc32fast::Hasher,
    filled: usize,
}

impl Sums {
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SUM_BYTES - self.filled));
            self.piece.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == SUM_BYTES {
                self.done.push(std::mem::take(&mut self.piece).finalize());
                self.filled = 0;
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<u32> {
        if self.filled > 0 {
            self.done.push(self.piece.finalize());
        }
        self.done
    }
}

/// Gathers writes into large ones.
struct Sink {
    file: Arc<dyn File>,
    at: u64,
    buffer: Vec<u8>,
    sums: Sums,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= SINK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_at(&self.buffer, self.at);
        written.map_err(|error| match error {
            Error::StorageFull { .. } => io::Error::from(io::ErrorKind::StorageFull),
            Error::Io { source, .. } => source,
            other => io::Error::other(other),
        })?;
        self.at += self.buffer.len() as u64;
        self.sums.add(&self.buffer);
        self.buffer.clear();
        Ok(())
    }
}
