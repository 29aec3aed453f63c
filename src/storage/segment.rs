//! Reading a segment. Its files are opened when they are read and closed again, so ten thousand segments need no more
//! descriptors than one.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use bytes_of_file::SegmentFile;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem};
use crate::model::TableSchema;

use super::edit::SegmentMeta;
use super::metadata_cache::{MetadataCache, SegmentIndex};
use super::segment_writer::{index_path, parquet_path};
use super::series_index;

mod bytes_of_file;
pub(crate) mod check;

/// An immutable sorted file of one table's rows.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) meta: SegmentMeta,
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    index_path: PathBuf,
    cache: Arc<MetadataCache>,
}

/// An iterator over a segment's batches.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl Segment {
    pub(crate) fn new(meta: SegmentMeta, fs: Arc<dyn FileSystem>, dir: &Path, cache: Arc<MetadataCache>) -> Self {
        let (path, index_path) = (parquet_path(dir, meta.id), index_path(dir, meta.id));
        Self { meta, fs, path, index_path, cache }
    }

    /// The Parquet file's.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The series index's.
    pub(crate) fn index_path(&self) -> &Path {
        &self.index_path
    }

    /// The Parquet file, of the length that the manifest says.
    fn open_file(&self) -> Result<Arc<dyn File>> {
        let gone = || Error::corrupted(&self.path, 0, "the segment that the manifest names is gone");
        let file = self.fs.open(&self.path)?.ok_or_else(gone)?;
        if file.len()? != self.meta.bytes {
            let reason = format!("the segment has {} bytes, the manifest says {}", file.len()?, self.meta.bytes);
            return Err(Error::corrupted(&self.path, self.meta.bytes.min(file.len()?), reason));
        }
        Ok(file)
    }

    fn open(&self, sums: &Arc<[u32]>) -> Result<SegmentFile> {
        Ok(SegmentFile::new(self.open_file()?, self.meta.bytes, sums.clone()))
    }

    fn damaged(&self, error: impl std::fmt::Display) -> Error {
        Error::corrupted(&self.path, 0, error.to_string())
    }

    /// The footer and the series index, from the cache if they are there.
    fn index(&self, schema: &TableSchema) -> Result<Arc<SegmentIndex>> {
        if let Some(index) = self.cache.get(self.meta.id) {
            return Ok(index);
        }
        let (ranges, sums) = self.read_index()?;
        let index = Arc::new(self.load(schema, ranges, sums)?);
        self.cache.insert(self.meta.id, &index);
        Ok(index)
    }

    /// The series index: the rows of each series, and the sums of the file's bytes.
    fn read_index(&self) -> Result<(Vec<series_index::SeriesRange>, Vec<u32>)> {
        let damaged = |reason| Error::corrupted(&self.index_path, 0, reason);
        let gone = || damaged("the series index is gone");
        let bytes = fs::read_all(&*self.fs.open(&self.index_path)?.ok_or_else(gone)?)?;
        let (ranges, sums) = series_index::decode(&self.index_path, self.meta.id, &bytes)?;
        if series_index::checksum_of(&bytes) != Some(self.meta.index_checksum) {
            return Err(damaged("the series index is not the one that the manifest says"));
        }
        if ranges.iter().map(|range| range.rows).sum::<u64>() != self.meta.rows {
            return Err(damaged("the series index counts other rows than the manifest"));
        }
        if sums.len() as u64 != self.meta.bytes.div_ceil(series_index::SUM_BYTES as u64) {
            return Err(damaged("the series index sums another number of bytes than the manifest says"));
        }
        Ok((ranges, sums))
    }

    /// The footer, read under `sums`: from here on every byte is checked before anybody believes it.
    fn load(
        &self,
        schema: &TableSchema,
        ranges: Vec<series_index::SeriesRange>,
        sums: Vec<u32>,
    ) -> Result<SegmentIndex> {
        let sums: Arc<[u32]> = sums.into();
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let segment = self.open(&sums)?;
        let plain = ArrowReaderMetadata::load(&segment, options.clone()).map_err(|error| self.damaged(error))?;
        let options = options.with_schema(stored_schema(schema, plain.schema()));
        let footer =
            ArrowReaderMetadata::try_new(plain.metadata().clone(), options).map_err(|error| self.damaged(error))?;
        let rows = footer.metadata().file_metadata().num_rows();
        if u64::try_from(rows) != Ok(self.meta.rows) {
            return Err(self.damaged(format!("the footer says {rows} rows, the manifest {}", self.meta.rows)));
        }
        Ok(SegmentIndex { footer, ranges: ranges.into(), sums })
    }

    /// The rows of each series, in the order of rows.
    #[cfg(feature = "sql")]
    pub(crate) fn series_ranges(&self, schema: &TableSchema) -> Result<Arc<[series_index::SeriesRange]>> {
        Ok(self.index(schema)?.ranges.clone())
    }

    /// Rows as batches of at most `batch_rows`, columns by index into `schema.arrow()`. Only pages that `rows` touches are
    /// read, and of those only ones whose times meet `time`; so what comes is a superset of what meets both.
    pub(crate) fn read(
        &self,
        schema: &TableSchema,
        projection: &[usize],
        rows: Option<Vec<Range<u64>>>,
        time: Option<(i64, i64)>,
        batch_rows: usize,
    ) -> Result<Batches> {
        let index = self.index(schema)?;
        let metadata = index.footer.metadata();
        let total = usize::try_from(self.meta.rows).unwrap_or(usize::MAX);
        let size = |row: u64| usize::try_from(row).unwrap_or(usize::MAX).min(total);
        let mut selection = rows.map(|rows| {
            RowSelection::from_consecutive_ranges(
                rows.into_iter().map(|range| size(range.start)..size(range.end)),
                total,
            )
        });
        if let Some(time) = time
            && let Some(pages) = pages_within(metadata, time)
        {
            let pages = RowSelection::from_consecutive_ranges(pages.into_iter(), total);
            selection = Some(match selection {
                Some(selection) => selection.intersection(&pages),
                None => pages,
            });
        }
        let stored = index.footer.schema().clone();
        let mut wanted: Vec<usize> = Vec::new();
        for column in projection {
            let field = schema.arrow().fields().get(*column).ok_or_else(|| self.damaged("no such column"))?;
            wanted.extend(stored.index_of(field.name()).ok());
        }
        let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), wanted);
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.open(&index.sums)?, index.footer.clone())
                .with_projection(mask)
                .with_batch_size(batch_rows);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let reader = builder.build().map_err(|error| self.damaged(error))?;
        let projected = schema.arrow().project(projection).map_err(|error| self.damaged(error))?;
        let (path, projected) = (self.path.clone(), Arc::new(projected));
        Ok(Box::new(reader.map(move |batch| {
            let damaged = |error: arrow::error::ArrowError| Error::corrupted(&path, 0, error.to_string());
            arrange(&batch.map_err(damaged)?, &projected).map_err(damaged)
        })))
    }
}

/// The table's columns as this file has them: those of its fields that it has, in its order.
fn stored_schema(schema: &TableSchema, found: &SchemaRef) -> SchemaRef {
    let known = schema.segment_arrow();
    let field = |field: &Arc<ArrowField>| match known.field_with_name(field.name()) {
        Ok(known) => Arc::new(ArrowField::new(known.name(), known.data_type().clone(), field.is_nullable())),
        Err(_) => field.clone(),
    };
    Arc::new(ArrowSchema::new(found.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The batch's columns in the projection's order; fields that came later are null.
fn arrange(batch: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    let column = |field: &Arc<ArrowField>| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    let columns = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// Rows of the pages whose times meet `low..=high`; `None` if the file has no page index.
fn pages_within(metadata: &ParquetMetaData, (low, high): (i64, i64)) -> Option<Vec<Range<usize>>> {
    use parquet::file::page_index::column_index::ColumnIndexMetaData;
    let (columns, offsets) = (metadata.column_index()?, metadata.offset_index()?);
    let mut first_row = 0;
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for ((group, columns), offsets) in metadata.row_groups().iter().zip(columns).zip(offsets) {
        let rows = usize::try_from(group.num_rows()).ok()?;
        let ColumnIndexMetaData::INT64(times) = columns.first()? else { return None };
        let pages = offsets.first()?.page_locations();
        for (number, page) in pages.iter().enumerate() {
            let start = usize::try_from(page.first_row_index).ok()?;
            let next = pages.get(number + 1).map(|next| usize::try_from(next.first_row_index));
            let end = next.transpose().ok()?.unwrap_or(rows);
            let (min, max) = (times.min_value(number)?, times.max_value(number)?);
            if *min <= high && *max >= low {
                ranges.push(first_row + start..first_row + end);
            }
        }
        first_row += rows;
    }
    Some(ranges)
}
