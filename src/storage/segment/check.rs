//! Every byte and every row of a segment, against all that is known of it; and the series index made again from them.
//!
//! **Invariant:** a segment is proven by a chain: the manifest's frames have checksums, the manifest has that of the series
//! index, and the index has those of the segment's bytes. So an index that was made again and sums to what the manifest says
//! is the one that was lost, and vouches for the segment.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::datatypes::TimestampNanosecondType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;

use super::Segment;
use crate::error::{Error, Result};
use crate::fs;
use crate::model::names::TIME;
use crate::model::{Field, TableSchema};
use crate::storage::metadata_cache::SegmentIndex;
use crate::storage::segment_writer::Sums;
use crate::storage::series_index::{self, Index, SUM_BYTES, SeriesRange};
use crate::storage::series_table::SeriesTable;
use crate::storage::summary::{Builder, Kind, Stats};

/// Bytes read at a time: many pieces of a checksum.
const CHUNK_BYTES: usize = 64 * SUM_BYTES;

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) reason: String,
    /// Rows that cannot be read right.
    pub(crate) rows: u64,
}

impl Flaw {
    /// What an error that was met says of `rows` rows of a file.
    pub(crate) fn of(error: Error, rows: u64, path: &std::path::Path) -> Self {
        match error {
            Error::Corrupted { path, offset, reason } => Self { path, offset, reason, rows },
            other => Self { path: path.into(), offset: 0, reason: other.to_string(), rows },
        }
    }
}

/// Called with each number of bytes that were read; an error of it ends the check.
pub(crate) type OnRead<'a> = dyn FnMut(u64) -> Result<()> + 'a;

impl Segment {
    /// Reads all of the index and of the file, and decodes every row. An error is one of `on_read`.
    pub(crate) fn check(
        &self,
        schema: &TableSchema,
        series: &SeriesTable,
        on_read: &mut OnRead<'_>,
    ) -> Result<Vec<Flaw>> {
        let index = match self.read_index() {
            Ok(index) => index,
            // Without the index no byte of the segment is believed, so none of its rows can be read.
            Err(error) => return Ok(vec![Flaw::of(error, self.meta.rows, &self.index_path)]),
        };
        on_read(self.meta.index_bytes)?;
        let mut flaws = match self.check_summary(&index) {
            Ok(()) => Vec::new(),
            // The rows are all there.
            Err(error) => vec![Flaw::of(error, 0, &self.index_path)],
        };
        let bad = match self.bad_pieces(&index.sums, on_read) {
            Ok(bad) => bad,
            Err(error @ Error::Stopped { .. }) => return Err(error),
            Err(error) => return Ok(vec![Flaw::of(error, self.meta.rows, &self.path)]),
        };
        let index = self.load(schema, index);
        if !bad.is_empty() {
            let footer = index.as_ref().ok().map(|index| index.footer.metadata().as_ref());
            flaws.extend(bad.into_iter().map(|(bytes, reason)| self.bad_bytes(&bytes, reason, footer)));
            return Ok(flaws);
        }
        let rows = index.and_then(|index| self.check_rows(&index, schema, series));
        flaws.extend(rows.err().map(|error| Flaw::of(error, self.meta.rows, &self.path)));
        Ok(flaws)
    }

    /// Reads all of the summary, and holds its cells against the index.
    fn check_summary(&self, index: &Index) -> Result<()> {
        let Some(directory) = &index.summary else { return Ok(()) };
        let other = || Error::corrupted(&self.index_path, 0, "the summary has other cells than the series index");
        let directory = Arc::new(directory.clone());
        let reader = self.summary_reader(directory.clone())?;
        for chunk in &directory.chunks {
            let cells = reader.cells(chunk)?;
            let mut next = 0;
            let ranges = index.ranges.iter().skip(chunk.first_entry);
            for (range, count) in ranges.zip(&cells.of_entry) {
                let of_range = next..next + count;
                next = of_range.end;
                let rows = cells.rows.get(of_range.clone()).unwrap_or_default();
                let first = cells.first_at.get(of_range.start);
                let last = of_range.end.checked_sub(1).and_then(|last| cells.last_at.get(last));
                let same = rows.iter().map(|rows| u64::from(*rows)).sum::<u64>() == range.rows
                    && first == Some(&range.min_time)
                    && last == Some(&range.max_time);
                if !same {
                    return Err(other());
                }
            }
            for field in 0..directory.fields.len() {
                reader.field(chunk, &cells, field, Stats::ALL)?;
            }
        }
        Ok(())
    }

    /// Ranges of bytes that are not what was written, and why each is thought so.
    fn bad_pieces(&self, sums: &[u32], on_read: &mut OnRead<'_>) -> Result<Vec<(Range<u64>, String)>> {
        let file = self.open_file()?;
        let mut bad: Vec<(Range<u64>, String)> = Vec::new();
        let mut note = |start: u64, len: usize, reason: String| {
            let end = start + len as u64;
            match bad.last_mut() {
                Some((last, same)) if last.end == start && *same == reason => last.end = end,
                _ => bad.push((start..end, reason)),
            }
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        for (chunk, sums) in (0u64..).zip(sums.chunks(CHUNK_BYTES / SUM_BYTES)) {
            let start = chunk * CHUNK_BYTES as u64;
            let len = usize::try_from(self.meta.bytes.saturating_sub(start))
                .map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let bytes = buffer.split_at_mut(len).0;
            let whole = file.read_at(bytes, start).is_ok();
            for ((place, piece), sum) in (0u64..).zip(bytes.chunks_mut(SUM_BYTES)).zip(sums) {
                let at = start + place * SUM_BYTES as u64;
                // A bad sector fails the whole read: then each piece is tried by itself.
                if !whole && let Err(error) = file.read_at(piece, at) {
                    note(at, piece.len(), error.to_string());
                } else if crc32fast::hash(piece) != *sum {
                    note(at, piece.len(), "these bytes of the segment fail their checksum".into());
                }
            }
            on_read(len as u64)?;
        }
        Ok(bad)
    }

    fn bad_bytes(&self, bytes: &Range<u64>, reason: String, footer: Option<&ParquetMetaData>) -> Flaw {
        let rows = footer.and_then(|footer| rows_within(footer, bytes)).unwrap_or(self.meta.rows);
        let reason = format!("{reason} ({} bytes)", bytes.end - bytes.start);
        Flaw { path: self.path.clone(), offset: bytes.start, reason, rows }
    }

    /// Decodes every column of every row and holds them against the index and the manifest.
    fn check_rows(&self, index: &SegmentIndex, schema: &TableSchema, series: &SeriesTable) -> Result<()> {
        let found = self.walk(index, schema, series, None)?.ranges;
        if *found != *index.ranges {
            return Err(Error::corrupted(&self.index_path, 0, "the series index has other ranges than the rows"));
        }
        let bounds = found.iter().map(|range| (range.min_time, range.max_time));
        let bounds = bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        if bounds.is_some_and(|bounds| bounds != (self.meta.min_time, self.meta.max_time)) {
            return Err(self.damaged("its rows are of other times than the manifest says"));
        }
        let (start, width) = (self.meta.partition_start_ns, self.meta.partition_ns);
        let outside = |(min, max): (i64, i64)| min < start || i128::from(max) >= i128::from(start) + i128::from(width);
        if width > 0 && bounds.is_some_and(outside) {
            return Err(self.damaged("it has rows outside of its partition"));
        }
        Ok(())
    }

    /// Goes through the rows, checks their order, and has `summary` take them.
    fn walk<'a>(
        &'a self,
        index: &SegmentIndex,
        schema: &'a TableSchema,
        series: &'a SeriesTable,
        summary: Option<Builder>,
    ) -> Result<Walk<'a>> {
        let file = self.open(&index.sums, true)?;
        let met = file.met();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, index.footer.clone()).build();
        let (tags, ranges) = (Vec::new(), Vec::new());
        let mut walk = Walk { segment: self, schema, series, tags, ranges, row: 0, last: i64::MIN, summary };
        for batch in reader.map_err(|error| met.or_damaged(&self.path, error))? {
            walk.take(&batch.map_err(|error| met.or_damaged(&self.path, error))?)?;
        }
        if walk.row != self.meta.rows {
            return Err(self.damaged(format!("it has {} rows, the manifest says {}", walk.row, self.meta.rows)));
        }
        Ok(walk)
    }

    /// The bytes of a series index that is gone or damaged, made again from what is left.
    ///
    /// An error if they are not those that were lost, which means that the segment is damaged too, or that another version
    /// of the crate made the summary.
    pub(crate) fn rebuilt_index(&self, schema: &TableSchema, series: &SeriesTable) -> Result<Vec<u8>> {
        let sums = self.sum()?;
        // Where only the sums or the head are damaged, the rest is still there.
        if let Some(old) = self.fs.open(&self.index_path)? {
            let old = fs::read_all(&*old)?;
            let remains = [false, true].map(|with| series_index::remains(&old, self.meta.series, sums.len(), with));
            for (entries, summary) in remains.into_iter().flatten() {
                let bytes = series_index::assemble(self.meta.id, entries, &sums, summary.as_ref());
                if self.proves(&bytes)? {
                    return Ok(bytes);
                }
            }
        }
        // Parquet's reader believes a footer to the point of a panic, and of this one nobody knows.
        let made = catch_unwind(AssertUnwindSafe(|| {
            let index = self.load(schema, Index { ranges: Vec::new(), sums: sums.clone(), summary: None })?;
            // The fields that there were when it was written.
            let has = |field: &&Field| index.footer.schema().index_of(&field.name).is_ok();
            let fields = schema.fields.iter().take_while(has).map(|field| Kind::of(&field.field_type.arrow()));
            let Walk { ranges, summary, .. } =
                self.walk(&index, schema, series, Some(Builder::new(fields.collect())))?;
            let summary = summary.and_then(|summary| summary.finish(self.meta.bytes));
            let with = |summary| series_index::encode(self.meta.id, &ranges, &sums, summary);
            Ok([with(None), with(summary.as_ref())])
        }));
        let made = made.unwrap_or_else(|_| Err(self.damaged("it cannot be decoded")))?;
        for bytes in made {
            if self.proves(&bytes)? {
                return Ok(bytes);
            }
        }
        Err(self.damaged("neither it nor its series index is what was written"))
    }

    /// The tag values of those of the `wanted` series that the segment has rows of.
    pub(crate) fn tags_of(&self, schema: &TableSchema, wanted: &BTreeSet<u32>) -> Result<BTreeMap<u32, Vec<String>>> {
        let index = self.index(schema)?;
        let ranges: Vec<_> = index.ranges.iter().filter(|range| wanted.contains(&range.series)).collect();
        let first = ranges.iter().map(|range| range.row_start..range.row_start + 1).collect();
        // Time comes first, the tags after it.
        let tags: Vec<usize> = (1..=schema.tags.len()).collect();
        let mut ids = ranges.iter().map(|range| range.series);
        let mut found = BTreeMap::new();
        for batch in self.read(schema, &tags, Some(first), None, 1_024)? {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let value = |column: &ArrayRef| Some(column.as_string_view_opt()?.value(row).to_string());
                let values: Option<Vec<String>> = batch.columns().iter().map(value).collect();
                let values = values.ok_or_else(|| self.damaged("its tags are no strings"))?;
                found.extend(ids.next().map(|id| (id, values)));
            }
        }
        Ok(found)
    }

    /// Whether an index is the one that the manifest says, summary and all.
    fn proves(&self, bytes: &[u8]) -> Result<bool> {
        if series_index::checksum_of(bytes) != Some(self.meta.index_checksum)
            || bytes.len() as u64 != self.meta.index_bytes
        {
            return Ok(false);
        }
        let (proven, body) = bytes
            .split_at_checked(series_index::proven_bytes(&self.index_path, bytes)?)
            .ok_or_else(|| self.damaged("the series index is cut short"))?;
        let index = series_index::decode(&self.index_path, self.meta.id, proven)?;
        Ok(index.summary.is_none_or(|directory| directory.holds(body)))
    }

    /// Checksums of the file's bytes as they are now.
    fn sum(&self) -> Result<Vec<u32>> {
        let file = self.open_file()?;
        let mut sums = Sums::default();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < self.meta.bytes {
            let len = usize::try_from(self.meta.bytes - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let bytes = buffer.split_at_mut(len).0;
            file.read_at(bytes, at)?;
            sums.add(bytes);
            at += len as u64;
        }
        Ok(sums.finish())
    }
}

/// Goes through the rows of a segment in their order.
struct Walk<'a> {
    segment: &'a Segment,
    schema: &'a TableSchema,
    series: &'a SeriesTable,
    /// Of the series that the last row was of.
    tags: Vec<String>,
    ranges: Vec<SeriesRange>,
    row: u64,
    last: i64,
    /// Made again of the rows.
    summary: Option<Builder>,
}

impl Walk<'_> {
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let times = batch.column_by_name(TIME).and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
        let times = times.ok_or_else(|| self.segment.damaged("it has no times"))?;
        let column = |tag: &String| {
            let column = batch.column_by_name(tag).and_then(|column| column.as_string_view_opt());
            column.ok_or_else(|| self.segment.damaged(format!("it has no tag {tag:?}")))
        };
        let columns = self.schema.tags.iter().map(column).collect::<Result<Vec<_>>>()?;
        if times.null_count() > 0 || columns.iter().any(|column| column.null_count() > 0) {
            return Err(self.segment.damaged("it has rows without a time or a tag"));
        }
        let mut series = Vec::with_capacity(batch.num_rows());
        for (row, time) in times.values().iter().enumerate() {
            self.row(&columns, row, *time)?;
            series.extend(self.ranges.last().map(|range| range.series));
        }
        if let Some(summary) = &mut self.summary {
            let fields = self.schema.fields.iter().map_while(|field| batch.column_by_name(&field.name).cloned());
            summary.take(&series, times.values(), &fields.collect::<Vec<_>>());
        }
        Ok(())
    }

    fn row(&mut self, columns: &[&StringViewArray], row: usize, time: i64) -> Result<()> {
        let is_last = || columns.iter().zip(&self.tags).all(|(column, tag)| column.value(row) == tag);
        let disorder = |number: u64| self.segment.damaged(format!("row {number} is not in the order of tags and time"));
        match self.ranges.last_mut() {
            Some(range) if is_last() => {
                if time < self.last {
                    return Err(disorder(self.row));
                }
                range.rows += 1;
                range.max_time = time;
            }
            _ => {
                let tags: Vec<&str> = columns.iter().map(|column| column.value(row)).collect();
                if !self.ranges.is_empty() && self.tags.iter().map(String::as_str).ge(tags.iter().copied()) {
                    return Err(disorder(self.row));
                }
                let unknown = || self.segment.damaged(format!("row {} is of a series that the log lacks", self.row));
                let series = self.series.find(&tags).ok_or_else(unknown)?;
                let range = SeriesRange { series, row_start: self.row, rows: 1, min_time: time, max_time: time };
                self.ranges.push(range);
                self.tags = tags.into_iter().map(str::to_string).collect();
            }
        }
        self.last = time;
        self.row += 1;
        Ok(())
    }
}

/// Rows of which some column has bytes within `bytes`; `None` if the file does not say.
fn rows_within(metadata: &ParquetMetaData, bytes: &Range<u64>) -> Option<u64> {
    let meets = |start: u64, end: u64| start < bytes.end && bytes.start < end;
    let mut touched: Vec<Range<u64>> = Vec::new();
    let mut first_row = 0;
    for (group, pages) in metadata.row_groups().iter().zip(metadata.offset_index()?) {
        let rows = u64::try_from(group.num_rows()).ok()?;
        for (column, pages) in group.columns().iter().zip(pages) {
            let (start, len) = column.byte_range();
            if !meets(start, start.saturating_add(len)) {
                continue;
            }
            let pages = pages.page_locations();
            let at = |page: usize| pages.get(page).and_then(|page| u64::try_from(page.offset).ok());
            // A dictionary lies before the first page, and every row needs it.
            if meets(start, at(0).unwrap_or(u64::MAX)) {
                touched.push(first_row..first_row + rows);
                continue;
            }
            for (number, page) in pages.iter().enumerate() {
                let end = at(number)?.saturating_add(u64::try_from(page.compressed_page_size).ok()?);
                if meets(at(number)?, end) {
                    let next =
                        pages.get(number + 1).map_or(Ok(rows), |next| u64::try_from(next.first_row_index)).ok()?;
                    touched.push(first_row + u64::try_from(page.first_row_index).ok()?..first_row + next);
                }
            }
        }
        first_row += rows;
    }
    touched.sort_unstable_by_key(|range| range.start);
    let (mut rows, mut seen) = (0, 0);
    for range in &touched {
        rows += range.end.saturating_sub(range.start.max(seen));
        seen = seen.max(range.end);
    }
    (!touched.is_empty()).then_some(rows)
}
