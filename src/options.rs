//! Every limit and choice, with its unit and default. A limit that is met is a typed error that names the option.

mod accelerations;

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::model::time::Wall;

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        }
    )*};
}

mod scorecard;

pub use accelerations::Accelerations;
pub use scorecard::Scorecard;

/// When a row is safe from what.
///
/// | event | `Process` | `Interval(d)` | `EverySync` |
/// |---|---|---|---|
/// | panic, `kill -9`, crash of the process | loses nothing | loses nothing | loses nothing |
/// | power loss, kernel crash | rows since the last [`sync`](crate::Store::sync) or seal | rows of the last `d` (and of the sync under way) | loses nothing |
/// | a failed sync or write-back | rows since the last good sync | rows since the last good sync | loses nothing that was acknowledged |
/// | cost of an append | memory speed | memory speed; the disk sees each row once more | one disk sync an append call |
///
/// "Loses nothing" speaks of rows whose append returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Sync when asked, at seal and at close. Survives the death of the process.
    #[default]
    Process,
    /// As `Process`, and a background sync every so often (at least 10 ms).
    Interval(Duration),
    /// Every append call is synced before it returns; use batches.
    EverySync,
}

/// What an append does when live blocks are at their byte budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overload {
    /// Wait for a seal to free a block, at most so long, then [`Overloaded`](crate::Error::Overloaded).
    Wait(Duration),
    /// [`Overloaded`](crate::Error::Overloaded) at once.
    Fail,
}

/// How a store is opened. Made by [`Store::options`](crate::Store::options); every setter takes and returns `self`.
///
/// ```
/// use std::time::Duration;
/// use denyut::{Durability, Store};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("kota");
/// let store = Store::options()
///     .durability(Durability::Interval(Duration::from_secs(1)))
///     .live_bytes_max(256 << 20)
///     .open(path)?;
/// store.close()?;
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) durability: Durability,
    pub(crate) overload: Overload,
    pub(crate) live_bytes_max: u64,
    pub(crate) block_bytes_min: u64,
    pub(crate) block_bytes_max: u64,
    pub(crate) seal_after: Duration,
    pub(crate) seal_threads: usize,
    pub(crate) seal_partitions_max: usize,
    pub(crate) compact_fan_in: usize,
    pub(crate) compact_bytes_max: u64,
    pub(crate) compact_rate_max: u64,
    pub(crate) cold_after: Duration,
    pub(crate) tables_max: usize,
    pub(crate) rollups_max: usize,
    pub(crate) tags_max: usize,
    pub(crate) fields_max: usize,
    pub(crate) series_max: u32,
    pub(crate) tag_bytes_max: usize,
    pub(crate) value_bytes_max: usize,
    pub(crate) future_max: Duration,
    pub(crate) quarantine_retention: Duration,
    pub(crate) allow_copy_on_write: bool,
    pub(crate) allow_partial: bool,
    pub(crate) salvage: bool,
    pub(crate) metadata_cache_bytes_max: usize,
    pub(crate) last_bytes_max: usize,
    pub(crate) pinned_bytes_max: u64,
    pub(crate) snapshot_timeout: Duration,
    pub(crate) query_threads: usize,
    pub(crate) query_bytes_max: usize,
    pub(crate) query_spill_bytes_max: u64,
    pub(crate) query_timeout: Duration,
    pub(crate) query_rows_max: usize,
    pub(crate) query_text_bytes_max: usize,
    pub(crate) query_tokens_max: usize,
    pub(crate) query_depth_max: usize,
    pub(crate) query_chain_max: usize,
    pub(crate) accelerations: Accelerations,
    pub(crate) scorecard: Scorecard,
    pub(crate) zone: String,
    pub(crate) calendar: Option<String>,
    pub(crate) office_hours: (String, String),
    pub(crate) background: bool,
    pub(crate) wall: Wall,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            durability: Durability::default(),
            overload: Overload::Wait(Duration::from_secs(10)),
            live_bytes_max: 1 << 30,
            block_bytes_min: 256 << 10,
            block_bytes_max: 64 << 20,
            seal_after: Duration::from_secs(600),
            seal_threads: cores.div_ceil(2),
            seal_partitions_max: 16,
            compact_fan_in: 8,
            compact_bytes_max: 1 << 30,
            compact_rate_max: 64 << 20,
            cold_after: Duration::from_secs(30 * 86_400),
            tables_max: 1_024,
            rollups_max: 256,
            tags_max: 64,
            fields_max: 2_048,
            series_max: 16_000_000,
            tag_bytes_max: 1_024,
            value_bytes_max: 64 << 10,
            future_max: Duration::from_secs(366 * 86_400),
            quarantine_retention: Duration::from_secs(90 * 86_400),
            allow_copy_on_write: false,
            allow_partial: false,
            salvage: false,
            metadata_cache_bytes_max: 64 << 20,
            last_bytes_max: 128 << 20,
            pinned_bytes_max: 8 << 30,
            snapshot_timeout: Duration::from_secs(5),
            query_threads: cores,
            query_bytes_max: 1 << 30,
            query_spill_bytes_max: 8 << 30,
            query_timeout: Duration::from_secs(60),
            query_rows_max: 10_000_000,
            query_text_bytes_max: 256 << 10,
            query_tokens_max: 20_000,
            query_depth_max: 64,
            query_chain_max: 1_000,
            accelerations: Accelerations::all(),
            scorecard: Scorecard::default(),
            zone: "UTC".into(),
            calendar: None,
            office_hours: ("08:00".into(), "16:00".into()),
            background: true,
            wall: Wall::System,
        }
    }
}

impl Options {
    setters! {
        /// When a row is safe from what. Default [`Durability::Process`].
        durability: Durability,
        /// What an append does when live blocks are at their budget. Default: wait up to 10 s.
        overload: Overload,
        /// Bytes of all live block files, in use, sealing and recycled. Default 1 GiB. This is the bound on what ingest
        /// holds in the page cache; what a seal needs beside it is about one block per seal thread.
        live_bytes_max: u64,
        /// Size of a table's first live block, a power of two of at least 64 KiB. Default 256 KiB.
        block_bytes_min: u64,
        /// Size up to which live blocks double with the rate, a power of two. Default 64 MiB.
        block_bytes_max: u64,
        /// Age at which a block that is not full is sealed all the same. Default 10 min.
        seal_after: Duration,
        /// Threads that seal. Default half the cores, rounded up. With 0 rows are sealed only by
        /// [`Store::seal`](crate::Store::seal).
        seal_threads: usize,
        /// Segments one seal makes at most; rows of further partitions wait in one overlap segment. Default 16.
        seal_partitions_max: usize,
        /// Sealed segments of one partition, or overlap segments, that are compacted together, from 2 on. Default 8.
        compact_fan_in: usize,
        /// Bytes of segments that one compaction reads at most, and so the size up to which a partition becomes one
        /// segment. Default 1 GiB.
        compact_bytes_max: u64,
        /// Bytes of segments that compaction in the background reads a second. Default 64 MiB.
        compact_rate_max: u64,
        /// How long after its end a partition is merged for good and encoded to be small. Default 30 days.
        cold_after: Duration,
        /// Tables in the store. Default 1,024.
        tables_max: usize,
        /// Rollups in the store, each of which is a table too. Default 256.
        rollups_max: usize,
        /// Tags of a table. Default 64.
        tags_max: usize,
        /// Fields of a table. Default 2,048.
        fields_max: usize,
        /// Series of a table. Default 16 million.
        series_max: u32,
        /// Bytes of one tag value. Default 1 KiB.
        tag_bytes_max: usize,
        /// Bytes of one string field. Default 64 KiB.
        value_bytes_max: usize,
        /// How far ahead of now a row's time may be; rows beyond go to quarantine. Default 366 days.
        future_max: Duration,
        /// How long rows stay in quarantine. Unlike a table's policies it may change from open to open. Default 90 days.
        quarantine_retention: Duration,
        /// Open on btrfs, zfs or bcachefs too, where preallocation does not keep a full disk from killing the process.
        /// Default false.
        allow_copy_on_write: bool,
        /// Answer without the rows of damaged segments that were set aside, where a query over their range else is
        /// [`SegmentAside`](crate::Error::SegmentAside). The counter `partial_answers` says how often that happened, and
        /// `system.segments` which they are. Default false.
        allow_partial: bool,
        /// Open a store with damaged files too: what can be read is kept, what cannot lies in the directory `aside/`, and
        /// [`Recovery::left_out`](crate::Recovery::left_out) says file by file what is not in the store any more. Reads all
        /// of the store. Default false, where damage to anything but segments is [`Corrupted`](crate::Error::Corrupted).
        salvage: bool,
        /// Bytes of segment footers and series indexes kept in memory. Default 64 MiB.
        metadata_cache_bytes_max: usize,
        /// Bytes of all last-value tables: about 50 a series, 24 a series and live block, and the values of rows in
        /// segments that were asked for. Queries for the latest row of each series of a table that needs more read rows
        /// instead. Default 128 MiB.
        last_bytes_max: usize,
        /// Bytes of segments that the store has replaced or dropped and that snapshots still read, in this process and in
        /// others. Beyond it the oldest are removed all the same, and their readers get
        /// [`SnapshotExpired`](crate::Error::SnapshotExpired). Default 8 GiB.
        pinned_bytes_max: u64,
        /// How long a reader in another process tries to see one moment of a store that changes under it. Default 5 s.
        snapshot_timeout: Duration,
        /// Threads of the store's own query runtime. Default: the cores.
        query_threads: usize,
        /// Bytes that the operators of all queries together may hold (sorts, joins, groups); scans hold a few batches
        /// beside it, and an answer's own rows are the caller's. Default 1 GiB.
        query_bytes_max: usize,
        /// Bytes that queries may spill to temporary files. Default 8 GiB.
        query_spill_bytes_max: u64,
        /// How long one query may run. Default 60 s.
        query_timeout: Duration,
        /// Rows one query may answer. Default 10 million.
        query_rows_max: usize,
        /// Bytes of SQL text. Default 256 KiB.
        query_text_bytes_max: usize,
        /// Tokens of SQL text; each use of a common table expression counts as its tokens. Default 20,000.
        query_tokens_max: usize,
        /// Depth of nested parentheses, CASE and the like in SQL text. Default 64.
        query_depth_max: usize,
        /// Operators in SQL text, those that build chains (`+`, `AND`, `UNION`, ..); a join or a subquery counts as ten.
        /// Default 1,000.
        query_chain_max: usize,
        /// Ways to answer from less than all rows. Default: all.
        accelerations: Accelerations,
        /// Thresholds of the scorecard.
        scorecard: Scorecard,
    }

    /// The zone whose days and office hours count in working days, budget years and baselines, such as `Asia/Pontianak`.
    /// Default `UTC`.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// The calendar of days off where the store has no dimension `holiday`: a name that `holidays` knows, such as `ID`.
    /// Default none: Saturdays and Sundays alone are off.
    #[must_use]
    pub fn calendar(mut self, calendar: impl Into<String>) -> Self {
        self.calendar = Some(calendar.into());
        self
    }

    /// When offices open and close, by the clock of [`zone`](Self::zone). Default 08:00 to 16:00.
    #[must_use]
    pub fn office_hours(mut self, opens: impl Into<String>, closes: impl Into<String>) -> Self {
        self.office_hours = (opens.into(), closes.into());
        self
    }

    /// With durations that can be added to any moment.
    pub(crate) fn bounded(mut self) -> Self {
        const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
        let durations = [
            &mut self.seal_after,
            &mut self.cold_after,
            &mut self.future_max,
            &mut self.quarantine_retention,
            &mut self.snapshot_timeout,
            &mut self.query_timeout,
        ];
        durations.into_iter().for_each(|duration| *duration = (*duration).min(LONGEST));
        if let Overload::Wait(wait) = &mut self.overload {
            *wait = (*wait).min(LONGEST);
        }
        if let Durability::Interval(interval) = &mut self.durability {
            *interval = (*interval).min(LONGEST);
        }
        self
    }

    /// No threads of its own: seals and syncs happen when asked. For tests that want one order of events.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn without_background(mut self) -> Self {
        self.background = false;
        self
    }

    /// Another clock than the system's, which the test sets.
    #[cfg(test)]
    pub(crate) fn clock(mut self, time: std::sync::Arc<std::sync::atomic::AtomicI64>) -> Self {
        self.wall = Wall::Set(time);
        self
    }

    /// Opens the store at `path`, or makes one in an empty or absent directory.
    ///
    /// # Errors
    /// [`Locked`](crate::Error::Locked) while another process writes to it, [`NotAStore`](crate::Error::NotAStore),
    /// [`NewerVersion`](crate::Error::NewerVersion), [`Corrupted`](crate::Error::Corrupted), and what the file system
    /// says. An option out of its range is [`LimitExceeded`](crate::Error::LimitExceeded).
    ///
    /// # Cost
    /// Nothing per row, at most 1 µs a series; after a power loss, one read of the live blocks.
    pub fn open(self, path: impl AsRef<Path>) -> Result<crate::Store> {
        crate::Store::open_with(self, path.as_ref())
    }
}
