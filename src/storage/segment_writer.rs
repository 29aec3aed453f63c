//! Writing a segment: a Parquet file of sorted rows, and the series index beside it.
//!
//! **Invariant:** both files are written under temporary names, synced, renamed, and the directory is synced; only then
//! may the manifest name them. A file that it does not name is removed at the next open.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::KeyValue;

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem};
use crate::model::TableSchema;

use super::edit::SegmentMeta;
use super::encoding::properties;
use super::series_index::{self, SUM_BYTES, SeriesRange};

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

/// What [`write`] is given.
pub(crate) struct Content<'a> {
    pub(crate) id: u64,
    pub(crate) schema: &'a TableSchema,
    pub(crate) partition: Partition,
    pub(crate) ranges: &'a [SeriesRange],
}

/// Writes one segment of `batches`, whose columns are those of [`TableSchema::segment_arrow`], and makes it durable.
pub(crate) fn write(
    fs: &dyn FileSystem,
    dir: &Path,
    content: &Content<'_>,
    batches: impl Iterator<Item = Result<Vec<ArrayRef>>>,
) -> Result<SegmentMeta> {
    let path = parquet_path(dir, content.id);
    let temporary = path.with_extension("tmp");
    fs.remove(&temporary)?;
    let file = fs.create(&temporary)?;
    let result = write_parquet(&file, content, batches).and_then(|(rows, bytes, sums)| {
        file.sync_data()?;
        let index = series_index::encode(content.id, content.ranges, &sums);
        // Syncs the directory too, after both names are there.
        fs.rename(&temporary, &path)?;
        fs::publish(fs, &index_path(dir, content.id), &index)?;
        let bounds = content.ranges.iter().map(|range| (range.min_time, range.max_time));
        let (min_time, max_time) = bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((i64::MAX, i64::MIN));
        Ok(SegmentMeta {
            id: content.id,
            table: content.schema.id,
            partition_start_ns: content.partition.start_ns,
            partition_ns: content.partition.width_ns,
            min_time,
            max_time,
            rows,
            bytes,
            index_bytes: index.len() as u64,
            index_checksum: series_index::checksum_of(&index).unwrap_or_default(),
            series: u32::try_from(content.ranges.len()).unwrap_or(u32::MAX),
        })
    });
    result.inspect_err(|_| {
        // The space may be what is lacking. What cannot be removed now is removed at the next open.
        let _ = fs.remove(&temporary).and_then(|()| fs.remove(&path));
    })
}

fn write_parquet(
    file: &Arc<dyn File>,
    content: &Content<'_>,
    mut batches: impl Iterator<Item = Result<Vec<ArrayRef>>>,
) -> Result<(u64, u64, Vec<u32>)> {
    let arrow = content.schema.segment_arrow();
    let failed = |error: parquet::errors::ParquetError| match error {
        parquet::errors::ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => Error::io("writing", file.path(), *source),
            Err(other) => Error::io("writing", file.path(), io::Error::other(other)),
        },
        other => Error::io("encoding", file.path(), io::Error::other(other)),
    };
    let Some(first) = batches.next().transpose()? else { return Ok((0, 0, Vec::new())) };
    let note = |key: &str, value: String| KeyValue { key: format!("denyut.{key}"), value: Some(value) };
    let properties = properties(content.schema, &first)
        .into_builder()
        .set_key_value_metadata(Some(vec![
            note("table", content.schema.name.clone()),
            note("segment", content.id.to_string()),
            note(
                "sorted_by",
                content.schema.tags.iter().map(String::as_str).chain(["time"]).collect::<Vec<_>>().join(","),
            ),
        ]))
        .build();
    let sink = Sink { file: file.clone(), at: 0, buffer: Vec::with_capacity(SINK_BYTES), sums: Sums::default() };
    // Without the Arrow schema in the file, other readers see plain strings and timestamps.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(sink, arrow.clone(), options).map_err(failed)?;
    let mut rows = 0;
    for columns in std::iter::once(Ok(first)).chain(batches) {
        let batch =
            RecordBatch::try_new(arrow.clone(), columns?).map_err(|error| Error::batch(&content.schema.name, error))?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(failed)?;
    }
    let mut sink = writer.into_inner().map_err(failed)?;
    sink.flush().map_err(|source| Error::io("writing", file.path(), source))?;
    Ok((rows, sink.at, sink.sums.finish()))
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
