//! Reading a segment. Its files are opened when they are read and closed again, so ten thousand segments need no more
//! descriptors than one.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use bytes_of_file::{SegmentFile, Source};
use crossbeam::channel::Sender;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use crate::error::{Error, Result};
use crate::fs::{File, FileSystem};
use crate::model::TableSchema;

use super::control::Control;
use super::edit::SegmentMeta;
use super::metadata_cache::{MetadataCache, SegmentIndex};
use super::segment_writer::{Sorted, index_path, parquet_path};
use super::series_index::{self, HEAD_BYTES_MIN, Index};
use super::summary::{Directory, SummaryReader};

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
    lease: Arc<Lease>,
    /// When this process first knew it.
    pub(crate) since: Instant,
    /// Who is told when the last handle is dropped; set once the manifest no longer names it.
    retired: OnceLock<Sender<Retired>>,
}

/// Until when a segment's files are promised to be there. Its words are relaxed: they are looked at when a file was found to
/// be gone, choose the words of an error, and order nothing.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    ended: AtomicBool,
    /// In a process that reads beside the store's: where the store's pin is seen.
    control: Option<Arc<Control>>,
    /// The last pin under which the store was seen to have the segment.
    pin: AtomicU64,
}

impl Lease {
    /// For a segment that another process may remove.
    pub(crate) fn of(control: Arc<Control>, pin: u64) -> Self {
        Self { control: Some(control), pin: pin.into(), ..Self::default() }
    }

    /// The store has the segment under this pin too.
    pub(crate) fn extend(&self, pin: u64) {
        // Relaxed: see the type.
        self.pin.fetch_max(pin, Ordering::Relaxed);
    }

    /// Ends it: the files are being removed.
    pub(crate) fn end(&self) {
        // Relaxed: see the type.
        self.ended.store(true, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        // Relaxed: see the type.
        let moved_on = |control: &Arc<Control>| control.pin() != Some(self.pin.load(Ordering::Relaxed));
        self.ended.load(Ordering::Relaxed) || self.control.as_ref().is_some_and(moved_on)
    }

    /// The error for a file that is not there.
    fn gone(&self, path: &Path) -> Error {
        if self.has_ended() {
            return Error::SnapshotExpired { path: path.into() };
        }
        Error::corrupted(path, 0, "the manifest names this file, and it is gone")
    }
}

/// A segment that the manifest no longer names and nobody in this process looks at any more.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) id: u64,
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(home) = self.retired.get() {
            // Nobody listens after the store was closed; the next open removes what the manifest does not name.
            let _ = home.send(Retired { id: self.meta.id });
        }
    }
}

/// An iterator over a segment's batches.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl Segment {
    pub(crate) fn new(meta: SegmentMeta, fs: Arc<dyn FileSystem>, dir: &Path, cache: Arc<MetadataCache>) -> Self {
        let (path, index_path) = (parquet_path(dir, meta.id), index_path(dir, meta.id));
        let (lease, retired) = (Arc::default(), OnceLock::new());
        Self { meta, fs, path, index_path, cache, lease, since: Instant::now(), retired }
    }

    /// With a lease that another process can end.
    pub(crate) fn leased(mut self, lease: Lease) -> Self {
        self.lease = Arc::new(lease);
        self
    }

    /// Its files.
    pub(crate) fn files(&self) -> [&Path; 2] {
        [&self.path, &self.index_path]
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Has `home` told when the last handle is dropped.
    pub(crate) fn retire(&self, home: Sender<Retired>) {
        self.retired.get_or_init(|| home);
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
        let file = self.fs.open_read(&self.path)?.ok_or_else(|| self.lease.gone(&self.path))?;
        if file.len()? != self.meta.bytes {
            let reason = format!("the segment has {} bytes, the manifest says {}", file.len()?, self.meta.bytes);
            return Err(Error::corrupted(&self.path, self.meta.bytes.min(file.len()?), reason));
        }
        Ok(file)
    }

    fn open(&self, sums: &Arc<[u32]>, hold: bool) -> Result<SegmentFile> {
        let file = self.open_file()?;
        let named = || Source::Named(self.fs.clone(), Arc::from(Path::new(&self.path)), self.lease.clone());
        let source = if hold { Source::Open(file) } else { named() };
        Ok(SegmentFile::new(source, self.meta.bytes, sums.clone()))
    }

    pub(crate) fn damaged(&self, error: impl std::fmt::Display) -> Error {
        Error::corrupted(&self.path, 0, error.to_string())
    }

    /// The footer and the series index, from the cache if they are there.
    fn index(&self, schema: &TableSchema) -> Result<Arc<SegmentIndex>> {
        if let Some(index) = self.cache.get(self.meta.id) {
            return Ok(index);
        }
        let index = Arc::new(self.load(schema, self.read_index()?)?);
        self.cache.insert(self.meta.id, &index);
        Ok(index)
    }

    /// The series index: the rows of each series, the sums of the file's bytes, and where the summary is.
    fn read_index(&self) -> Result<Index> {
        let damaged = |reason| Error::corrupted(&self.index_path, 0, reason);
        let file = self.open_index()?;
        let len = usize::try_from(self.meta.index_bytes).unwrap_or(usize::MAX);
        if file.len()? != self.meta.index_bytes {
            return Err(damaged("the series index is not as long as the manifest says"));
        }
        let mut bytes = vec![0; HEAD_BYTES_MIN.min(len)];
        file.read_at(&mut bytes, 0)?;
        let proven = series_index::proven_bytes(&self.index_path, &bytes)?;
        if proven > len {
            return Err(damaged("the series index is cut short"));
        }
        let read = bytes.len().min(proven);
        bytes.resize(proven, 0);
        file.read_at(bytes.split_at_mut(read).1, read as u64)?;
        let index = series_index::decode(&self.index_path, self.meta.id, &bytes)?;
        if series_index::checksum_of(&bytes) != Some(self.meta.index_checksum) {
            return Err(damaged("the series index is not the one that the manifest says"));
        }
        if index.ranges.iter().map(|range| range.rows).sum::<u64>() != self.meta.rows {
            return Err(damaged("the series index counts other rows than the manifest"));
        }
        if index.sums.len() as u64 != self.meta.bytes.div_ceil(series_index::SUM_BYTES as u64) {
            return Err(damaged("the series index sums another number of bytes than the manifest says"));
        }
        if index.summary.as_ref().map_or(0, Directory::body_bytes) != (len - proven) as u64 {
            return Err(damaged("the summary is not as long as its directory says"));
        }
        Ok(index)
    }

    fn open_index(&self) -> Result<Arc<dyn File>> {
        self.fs.open_read(&self.index_path)?.ok_or_else(|| self.lease.gone(&self.index_path))
    }

    /// The summary, if the segment has one.
    #[cfg(feature = "sql")]
    pub(crate) fn summary(&self, schema: &TableSchema) -> Result<Option<Arc<Directory>>> {
        Ok(self.index(schema)?.summary.clone())
    }

    /// To read of `directory`, which is of this segment's summary.
    pub(crate) fn summary_reader(&self, directory: Arc<Directory>) -> Result<SummaryReader> {
        let body_start = self.meta.index_bytes.saturating_sub(directory.body_bytes());
        Ok(SummaryReader::new(self.open_index()?, directory, body_start))
    }

    /// The footer, read under `sums`: from here on every byte is checked before anybody believes it.
    fn load(&self, schema: &TableSchema, index: Index) -> Result<SegmentIndex> {
        let sums: Arc<[u32]> = index.sums.into();
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let segment = self.open(&sums, true)?;
        let met = segment.met();
        let plain = ArrowReaderMetadata::load(&segment, options.clone());
        let plain = plain.map_err(|error| met.or_damaged(&self.path, error))?;
        let options = options.with_schema(stored_schema(schema, plain.schema()));
        let footer =
            ArrowReaderMetadata::try_new(plain.metadata().clone(), options).map_err(|error| self.damaged(error))?;
        let rows = footer.metadata().file_metadata().num_rows();
        if u64::try_from(rows) != Ok(self.meta.rows) {
            return Err(self.damaged(format!("the footer says {rows} rows, the manifest {}", self.meta.rows)));
        }
        Ok(SegmentIndex { footer, ranges: index.ranges.into(), sums, summary: index.summary.map(Arc::new) })
    }

    /// The rows of each series, in the order of rows.
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
        let rows = self.wanted(&index, rows, time);
        self.open_reader(schema, projection, &index, rows, (batch_rows, true))
    }

    /// As [`read`](Self::read), each batch with its rows' series; `projection` is of [`TableSchema::segment_arrow`]. The
    /// file is held open only if `hold`.
    pub(crate) fn read_sorted(
        &self,
        schema: &TableSchema,
        projection: &[usize],
        rows: Option<Vec<Range<u64>>>,
        time: Option<(i64, i64)>,
        (batch_rows, hold): (usize, bool),
    ) -> Result<impl Iterator<Item = Result<Sorted>> + Send + use<>> {
        let index = self.index(schema)?;
        let rows = self.wanted(&index, rows, time);
        let batches = self.open_reader(schema, projection, &index, rows.clone(), (batch_rows, hold))?;
        let all = 0..usize::try_from(self.meta.rows).unwrap_or(usize::MAX);
        let mut series = SeriesOfRows::new(index.ranges.clone(), rows.unwrap_or_else(|| vec![all]));
        Ok(batches.map(move |batch| {
            let batch = batch?;
            let series = series.take(batch.num_rows());
            Ok(Sorted { series, columns: batch.columns().to_vec() })
        }))
    }

    /// The rows to read, in ascending ranges; `None` for all.
    fn wanted(
        &self,
        index: &SegmentIndex,
        rows: Option<Vec<Range<u64>>>,
        time: Option<(i64, i64)>,
    ) -> Option<Vec<Range<usize>>> {
        let total = usize::try_from(self.meta.rows).unwrap_or(usize::MAX);
        let size = |row: u64| usize::try_from(row).unwrap_or(usize::MAX).min(total);
        let rows =
            rows.map(|rows| rows.into_iter().map(|range| size(range.start)..size(range.end)).collect::<Vec<_>>());
        let pages = time.and_then(|time| pages_within(index.footer.metadata(), time));
        match (rows, pages) {
            (Some(rows), Some(pages)) => Some(intersection(&rows, &pages)),
            (rows, pages) => rows.or(pages),
        }
    }

    fn open_reader(
        &self,
        schema: &TableSchema,
        projection: &[usize],
        index: &SegmentIndex,
        rows: Option<Vec<Range<usize>>>,
        (batch_rows, hold): (usize, bool),
    ) -> Result<Batches> {
        let total = usize::try_from(self.meta.rows).unwrap_or(usize::MAX);
        let (stored, columns) = (index.footer.schema().clone(), schema.segment_arrow());
        let mut wanted: Vec<usize> = Vec::new();
        for column in projection {
            let field = columns.fields().get(*column).ok_or_else(|| self.damaged("no such column"))?;
            wanted.extend(stored.index_of(field.name()).ok());
        }
        let mask = ProjectionMask::roots(index.footer.metadata().file_metadata().schema_descr(), wanted);
        let file = self.open(&index.sums, hold)?;
        let met = file.met();
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, index.footer.clone())
            .with_projection(mask)
            .with_batch_size(batch_rows);
        if let Some(rows) = rows {
            builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(rows.into_iter(), total));
        }
        let reader = builder.build().map_err(|error| met.or_damaged(&self.path, error))?;
        let projected = columns.project(projection).map_err(|error| self.damaged(error))?;
        let (path, projected) = (self.path.clone(), Arc::new(projected));
        Ok(Box::new(reader.map(move |batch| {
            let damaged = |error: arrow::error::ArrowError| met.or_damaged(&path, error);
            arrange(&batch.map_err(damaged)?, &projected).map_err(damaged)
        })))
    }
}

/// Which series each of the rows that are read is of.
struct SeriesOfRows {
    index: Arc<[series_index::SeriesRange]>,
    /// The entry of the row before.
    entry: usize,
    rows: std::vec::IntoIter<Range<usize>>,
    range: Range<usize>,
}

impl SeriesOfRows {
    fn new(index: Arc<[series_index::SeriesRange]>, rows: Vec<Range<usize>>) -> Self {
        Self { index, entry: 0, rows: rows.into_iter(), range: 0..0 }
    }

    /// Those of the next `count` rows; fewer if there are not so many.
    fn take(&mut self, count: usize) -> Vec<u32> {
        let mut series = Vec::with_capacity(count);
        while series.len() < count {
            if self.range.is_empty() {
                match self.rows.next() {
                    Some(range) => self.range = range,
                    None => break,
                }
                continue;
            }
            let Some(entry) = self.index.get(self.entry) else { break };
            let end = usize::try_from(entry.row_start + entry.rows).unwrap_or(usize::MAX);
            if end <= self.range.start {
                self.entry += 1;
                continue;
            }
            let rows = (end.min(self.range.end) - self.range.start).min(count - series.len());
            series.resize(series.len() + rows, entry.series);
            self.range.start += rows;
        }
        series
    }
}

/// What both lists of ascending ranges have.
pub(crate) fn intersection<T: Ord + Copy>(a: &[Range<T>], b: &[Range<T>]) -> Vec<Range<T>> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both: Vec<Range<T>> = Vec::new();
    while let (Some(first), Some(second)) = (a.peek(), b.peek()) {
        let range = first.start.max(second.start)..first.end.min(second.end);
        if range.start < range.end {
            both.push(range);
        }
        if first.end <= second.end {
            a.next();
        } else {
            b.next();
        }
    }
    both
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
