//! How a source is read, as the caller says it.

use super::number::Notation;
use super::time::{Order, Twice};

/// What a source looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    JsonLines,
    LineProtocol,
    Parquet,
    ArrowIpc,
    Batches,
}

/// Limits of an import.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) chunk_bytes: usize,
    pub(crate) record_bytes_max: usize,
    pub(crate) columns_max: usize,
    pub(crate) content_bytes_max: u64,
    pub(crate) expansion_max: u64,
    pub(crate) bad_permille_max: u64,
    pub(crate) bad_rows_min: u64,
}

/// How a source is read, and into which table: given to [`Store::import`](crate::Store::import).
///
/// Columns go by name to the table's tags and fields; those that the table does not have are left out, and those that the
/// source calls otherwise are [renamed](Self::rename). What is wrong with what is said here is an error of the import.
///
/// ```
/// # use denyut::prelude::*;
/// use denyut::feed::import::{Import, Source};
/// # let dir = tempfile::tempdir().unwrap();
/// # let city = Store::open(dir.path().join("kota"))?;
/// city.table(Schema::new("water").tag("gate").tag("agency").f64("level_cm", "cm"))?;
/// let text = "Waktu;Pintu;Tinggi (cm)\n24/11/2026 19.00;Sei Wie;142,5\n24/11/2026 19.10;Sei Wie;tinggi\n";
/// let levels = Import::csv("water")
///     .delimiter(b';')
///     .decimal_comma()
///     .day_first()
///     .zone("Asia/Pontianak")
///     .time("Waktu")
///     .rename("Pintu", "gate")
///     .rename("Tinggi (cm)", "level_cm")
///     .constant("agency", "PUPR");
/// let imported = city.import(&levels, Source::reader("levels.csv", text.as_bytes()))?;
/// assert_eq!((imported.rows, imported.quarantined), (1, 1));
/// let again = city.import(&levels, Source::reader("copy.csv", text.as_bytes()))?;
/// assert_eq!((again.rows, again.duplicates), (0, 2));
/// # #[cfg(feature = "sql")] {
/// let broken = city.query("SELECT line, column_name, value, reason FROM system.quarantine")?;
/// assert_eq!(broken.str(0, "value")?, Some("tinggi"));
/// # }
/// # Ok::<(), denyut::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an import does nothing until Store::import takes it"]
pub struct Import {
    pub(crate) format: Format,
    pub(crate) table: Option<String>,
    pub(crate) time: String,
    pub(crate) clock: Option<String>,
    pub(crate) order: Order,
    pub(crate) zone: Option<String>,
    pub(crate) twice: Twice,
    pub(crate) renamed: Vec<(String, String)>,
    pub(crate) constants: Vec<(String, String)>,
    pub(crate) absent_tag: Option<String>,
    pub(crate) nulls: Vec<String>,
    pub(crate) trim: bool,
    pub(crate) notation: Notation,
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) comment: Option<u8>,
    pub(crate) skipped_lines: u64,
    pub(crate) header: Option<Vec<String>>,
    pub(crate) identity: String,
    pub(crate) limits: Limits,
}

/// Comma-separated values and what is common to all.
impl Import {
    fn new(format: Format, table: Option<String>) -> Self {
        Self {
            format,
            table,
            time: crate::model::names::TIME.into(),
            clock: None,
            order: Order::YearFirst,
            zone: None,
            twice: Twice::Refuse,
            renamed: Vec::new(),
            constants: Vec::new(),
            absent_tag: None,
            nulls: Vec::new(),
            trim: false,
            notation: Notation::PLAIN,
            delimiter: b',',
            quote: Some(b'"'),
            comment: None,
            skipped_lines: 0,
            header: None,
            identity: String::new(),
            limits: Limits {
                chunk_bytes: 8 << 20,
                record_bytes_max: 1 << 20,
                columns_max: 4_096,
                content_bytes_max: 256 << 30,
                expansion_max: 200,
                bad_permille_max: 100,
                bad_rows_min: 100,
            },
        }
    }

    /// Comma-separated values with a header, into a table that is there.
    pub fn csv(table: impl Into<String>) -> Self {
        Self::new(Format::Csv, Some(table.into()))
    }

    /// JSON lines: an object a line, its members as columns.
    pub fn json_lines(table: impl Into<String>) -> Self {
        Self::new(Format::JsonLines, Some(table.into()))
    }

    /// InfluxDB line protocol, times in nanoseconds unless said otherwise. Lines name their tables; tables and fields that
    /// are not there are made, with names in lower case and `_` for what is no letter or digit. Lines name their columns
    /// too: `time`, `date_and_clock`, `rename` and `constant` are refused. A table's tags are those
    /// that the first piece of content gives it; a tag that a line lacks is `-`, see [`absent_tag`](Self::absent_tag).
    pub fn line_protocol() -> Self {
        Self { absent_tag: Some("-".into()), ..Self::new(Format::LineProtocol, None).unix_nanos() }
    }

    /// A Parquet file.
    pub fn parquet(table: impl Into<String>) -> Self {
        Self::new(Format::Parquet, Some(table.into()))
    }

    /// Arrow IPC: a file, or a stream, which its first bytes tell.
    pub fn arrow_ipc(table: impl Into<String>) -> Self {
        Self::new(Format::ArrowIpc, Some(table.into()))
    }

    /// Arrow batches of the caller's, with [`Source::batches`](super::Source::batches).
    pub fn batches(table: impl Into<String>) -> Self {
        Self::new(Format::Batches, Some(table.into()))
    }

    /// The source's column of times; `time` if nothing is said.
    pub fn time(mut self, column: impl Into<String>) -> Self {
        self.time = column.into();
        self
    }

    /// The source has the date in one column and the clock in another.
    pub fn date_and_clock(mut self, date: impl Into<String>, clock: impl Into<String>) -> Self {
        (self.time, self.clock) = (date.into(), Some(clock.into()));
        self
    }

    /// Dates have the day first: `24/11/2026`. With the year first, which is the default, `2026-11-24`; the parts may be
    /// apart by `-`, `/` or `.`, and the parts of the clock by `:` or `.`.
    pub fn day_first(mut self) -> Self {
        self.order = Order::DayFirst;
        self
    }

    /// Dates have the month first: `11/24/2026`.
    pub fn month_first(mut self) -> Self {
        self.order = Order::MonthFirst;
        self
    }

    /// Times are seconds since 1970, with or without a fraction.
    pub fn unix_seconds(mut self) -> Self {
        self.order = Order::Unix(1_000_000_000);
        self
    }

    /// Times are milliseconds since 1970.
    pub fn unix_millis(mut self) -> Self {
        self.order = Order::Unix(1_000_000);
        self
    }

    /// Times are microseconds since 1970.
    pub fn unix_micros(mut self) -> Self {
        self.order = Order::Unix(1_000);
        self
    }

    /// Times are nanoseconds since 1970.
    pub fn unix_nanos(mut self) -> Self {
        self.order = Order::Unix(1);
        self
    }

    /// Times without an offset are a wall clock of this zone of the IANA database; UTC if nothing is said. Arrow's times
    /// without a zone, and its dates, are such times.
    pub fn zone(mut self, name: impl Into<String>) -> Self {
        self.zone = Some(name.into());
        self
    }

    /// What a wall clock means that the zone showed twice.
    pub fn twice(mut self, twice: Twice) -> Self {
        self.twice = twice;
        self
    }

    /// The source calls the table's `column` by the name `source`.
    pub fn rename(mut self, source: impl Into<String>, column: impl Into<String>) -> Self {
        self.renamed.push((source.into(), column.into()));
        self
    }

    /// A tag that is the same in every row.
    pub fn constant(mut self, tag: impl Into<String>, value: impl Into<String>) -> Self {
        self.constants.push((tag.into(), value.into()));
        self
    }

    /// What a tag is where a row has none. Without this such a row goes to quarantine.
    pub fn absent_tag(mut self, value: impl Into<String>) -> Self {
        self.absent_tag = Some(value.into());
        self
    }

    /// Texts that mean no value, beside the empty one: `NA`, `-`, `null`.
    pub fn nulls<S: Into<String>>(mut self, texts: impl IntoIterator<Item = S>) -> Self {
        self.nulls = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Blanks around tags and texts go, too. Around numbers and times they always do.
    pub fn trim(mut self) -> Self {
        self.trim = true;
        self
    }

    /// Numbers have a comma where others have a point: `142,5`.
    pub fn decimal_comma(mut self) -> Self {
        self.notation.point = b',';
        self
    }

    /// Numbers have this between groups of three digits: `1.234.567,5`.
    pub fn thousands(mut self, separator: u8) -> Self {
        self.notation.group = Some(separator);
        self
    }

    /// What is between columns; a comma if nothing is said.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// What quotes are, if they are anything; `"` if nothing is said.
    pub fn quote(mut self, quote: Option<u8>) -> Self {
        self.quote = quote;
        self
    }

    /// Lines that begin with this are left out.
    pub fn comment(mut self, first: u8) -> Self {
        self.comment = Some(first);
        self
    }

    /// Lines before the header. A source that has fewer is refused.
    pub fn skip_lines(mut self, lines: u64) -> Self {
        self.skipped_lines = lines;
        self
    }

    /// The source has no header; its columns are these.
    pub fn header<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.header = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Content counts as known only from imports of the same identity: another one imports a known file anew.
    pub fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = identity.into();
        self
    }
}

/// Limits, each with its default.
impl Import {
    /// How many of a thousand rows may go to quarantine: 100. With more the import stops, once they are
    /// [`bad_rows_min`](Self::bad_rows_min); what it took stays, and the next import goes on from there.
    pub fn bad_permille_max(mut self, permille: u64) -> Self {
        self.limits.bad_permille_max = permille;
        self
    }

    /// So many rows may go to quarantine whatever their share is: 100.
    pub fn bad_rows_min(mut self, rows: u64) -> Self {
        self.limits.bad_rows_min = rows;
        self
    }

    /// Content is taken in pieces of this size: 8 MiB. Each is synced before the next; memory is about two of them.
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.limits.chunk_bytes = bytes;
        self
    }

    /// Longest record: 1 MiB. A longer one is broken, a row of Arrow's too.
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.record_bytes_max = bytes;
        self
    }

    /// Most columns of a record of text: 4,096.
    pub fn columns_max(mut self, columns: usize) -> Self {
        self.limits.columns_max = columns;
        self
    }

    /// Most bytes of content, decompressed: 256 GiB.
    pub fn content_bytes_max(mut self, bytes: u64) -> Self {
        self.limits.content_bytes_max = bytes;
        self
    }

    /// How many times as large as its source content of text may be, beyond its first 64 MiB: 200.
    pub fn expansion_max(mut self, times: u64) -> Self {
        self.limits.expansion_max = times;
        self
    }
}
