//! How large a store is, table by table.

use std::fmt;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use crate::error::Result;
use crate::fs::Space;
use crate::maintain::core::Core;
use crate::model::{Time, now};
use crate::snapshot::{BlockView, TableState};

use super::units::{Age, Bytes, Count};

/// Sizes of a store at one moment, from [`Store::stat`](crate::Store::stat). Prints as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// The store.
    pub path: PathBuf,
    /// Its tables, by name.
    pub tables: Vec<TableStat>,
    /// All of them together, without a name.
    pub total: TableStat,
    /// Bytes of all live block files, in use or free: bounded by `live_bytes_max`.
    pub live_block_bytes: u64,
    /// Those of them that wait for their next use.
    pub free_block_bytes: u64,
    /// Bytes of manifest and series log.
    pub log_bytes: u64,
    /// Bytes of the file system that the store is on.
    pub disk_bytes: u64,
    /// Those of them that are free to this process.
    pub disk_free_bytes: u64,
}

/// Sizes of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableStat {
    /// Its name.
    pub table: String,
    /// Rows that queries see.
    pub rows: u64,
    /// Those of them that are not in a segment yet.
    pub live_rows: u64,
    /// Series.
    pub series: u64,
    /// Live blocks that hold rows or are being filled.
    pub live_blocks: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of those, with their series indexes.
    pub segment_bytes: u64,
    /// Damaged segments that were set aside.
    pub segments_aside: u64,
    /// Rows of those, which are not in `rows`.
    pub rows_aside: u64,
    /// The earliest and latest time of a row.
    pub time: Option<(Time, Time)>,
    /// How long ago the oldest row came that is not in a segment yet, to about a second.
    pub oldest_unsealed: Option<Duration>,
}

impl Stat {
    /// Bytes of all of the store's files, but for what queries spill.
    pub fn bytes(&self) -> u64 {
        self.total.segment_bytes + self.live_block_bytes + self.log_bytes
    }
}

impl Core {
    /// The sizes of this moment.
    pub(crate) fn stat(&self) -> Result<Stat> {
        let view = self.view.load();
        let mut tables: Vec<TableStat> = view.tables.values().map(|table| of_table(table)).collect();
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        let total = tables.iter().fold(TableStat::default(), |total, table| total.with(table));
        let (live_block_bytes, free_block_bytes) = self.pool.bytes();
        let (_, manifest_end) = self.manifest.lock().unwrap_or_else(PoisonError::into_inner).position();
        let (_, series_end) = self.series_log.position();
        let Space { bytes: disk_bytes, free_bytes: disk_free_bytes } = self.fs.space(&self.path)?;
        let (path, log_bytes) = (self.path.clone(), manifest_end + series_end);
        Ok(Stat { path, tables, total, live_block_bytes, free_block_bytes, log_bytes, disk_bytes, disk_free_bytes })
    }
}

fn of_table(table: &TableState) -> TableStat {
    let unsealed = |view: &BlockView| view.block.rows().saturating_sub(view.sealed_rows) as u64;
    let live_rows = table.blocks.iter().map(unsealed).sum::<u64>();
    let metas = || table.segments.iter().map(|segment| &segment.meta);
    let sealed = metas().filter(|meta| meta.rows > 0).map(|meta| (meta.min_time, meta.max_time));
    let live = table
        .blocks
        .iter()
        .filter_map(|view| view.block.time_bounds(view.sealed_rows..view.block.rows().max(view.sealed_rows)));
    let time = sealed.chain(live).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let aside = &table.aside.segments;
    TableStat {
        table: table.schema.name.clone(),
        rows: live_rows + metas().map(|meta| meta.rows).sum::<u64>(),
        live_rows,
        series: u64::from(table.series.count()),
        live_blocks: table.blocks.len() as u64,
        segments: table.segments.len() as u64,
        segment_bytes: metas().map(|meta| meta.bytes + meta.index_bytes).sum(),
        segments_aside: aside.len() as u64,
        rows_aside: aside.iter().map(|segment| segment.meta.rows).sum(),
        time: time.map(|(first, last)| (Time::from_nanos(first), Time::from_nanos(last))),
        oldest_unsealed: table.blocks.iter().filter(|view| unsealed(view) > 0).map(age).max(),
    }
}

/// Since when the oldest unsealed row of a block is there: by the block's marks, which outlive a process, or else since the
/// block was made, opened or last sealed.
fn age(view: &BlockView) -> Duration {
    let marked = view.block.there_by(view.sealed_rows).and_then(|unix_s| {
        let age_ns = now().as_nanos().checked_sub(i64::from(unix_s) * 1_000_000_000)?;
        Some(Duration::from_nanos(u64::try_from(age_ns).ok()?))
    });
    marked.unwrap_or_else(|| view.since.elapsed())
}

impl TableStat {
    fn with(&self, other: &Self) -> Self {
        let time = self.time.into_iter().chain(other.time).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Self {
            table: String::new(),
            rows: self.rows + other.rows,
            live_rows: self.live_rows + other.live_rows,
            series: self.series + other.series,
            live_blocks: self.live_blocks + other.live_blocks,
            segments: self.segments + other.segments,
            segment_bytes: self.segment_bytes + other.segment_bytes,
            segments_aside: self.segments_aside + other.segments_aside,
            rows_aside: self.rows_aside + other.rows_aside,
            time,
            oldest_unsealed: self.oldest_unsealed.max(other.oldest_unsealed),
        }
    }

    /// The cells of its line.
    fn cells(&self) -> [String; 9] {
        let day = |time: Time| time.to_string().chars().take(19).collect::<String>();
        let (first, last) = self.time.map_or_else(Default::default, |(first, last)| (day(first), day(last)));
        [
            if self.table.is_empty() { "all".into() } else { self.table.clone() },
            Count(self.rows).to_string(),
            Count(self.live_rows).to_string(),
            self.oldest_unsealed.map_or_else(String::new, |age| Age(age).to_string()),
            Count(self.series).to_string(),
            Count(self.segments).to_string(),
            Bytes(self.segment_bytes).to_string(),
            first,
            last,
        ]
    }
}

const TITLES: [&str; 9] = ["table", "rows", "unsealed", "oldest", "series", "segments", "bytes", "first", "last"];

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<[String; 9]> = std::iter::once(TITLES.map(str::to_string))
            .chain(self.tables.iter().map(TableStat::cells))
            .chain((self.tables.len() != 1).then(|| self.total.cells()))
            .collect();
        let mut widths = [0; 9];
        for line in &lines {
            widths.iter_mut().zip(line).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
        }
        for line in &lines {
            let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
                0 | 7 | 8 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        let TableStat { segments_aside, rows_aside, .. } = self.total;
        if segments_aside > 0 {
            let (segments, are) = if segments_aside == 1 { ("segment", "is") } else { ("segments", "are") };
            writeln!(f, "{segments_aside} damaged {segments} with {} rows {are} set aside", Count(rows_aside))?;
        }
        let (live, free) = (Bytes(self.live_block_bytes), Bytes(self.free_block_bytes));
        write!(f, "{} on disk: {} in segments, ", Bytes(self.bytes()), Bytes(self.total.segment_bytes))?;
        writeln!(f, "{live} in live blocks ({free} of them free), {} in logs", Bytes(self.log_bytes))?;
        write!(f, "{} left of {}", Bytes(self.disk_free_bytes), Bytes(self.disk_bytes))
    }
}
