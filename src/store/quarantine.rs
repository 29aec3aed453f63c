//! The store's own writer into its quarantine, opened for the first row that goes there.
//!
//! **Invariant:** an append that counts a row as quarantined returns after the row was published in the quarantine's live
//! block, where it is as safe as any row. A row that cannot be put there is an error to whoever appended it.
//!
//! One writer serves all threads, behind a lock: rows here are exceptions. The lock is taken before any other.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::ingest::writer::BlockWriter;
use crate::maintain::core::Core;
use crate::model::quarantine::{self, NO_TIME, Origin, Reason};
use crate::model::{TableId, TableSchema, Time, Value, json};
use crate::options::Options;
use crate::storage::series_table::SeriesTable;

use super::open;

/// A row on its way into quarantine.
pub(super) struct Entry<'a> {
    table: &'a str,
    reason: &'static str,
    time: Option<Time>,
    row: String,
    origin: Option<Origin<'a>>,
}

impl<'a> Entry<'a> {
    /// A row of `schema`, whose tags and values were checked. An error if its text would be too long.
    pub(super) fn new(
        schema: &'a TableSchema,
        options: &Options,
        (reason, time): (Reason, Time),
        tags: &[&str],
        values: &[Value<'_>],
    ) -> Result<Self> {
        let row = json::row(schema, tags, values);
        if row.len() > options.value_bytes_max {
            return Err(Error::LimitExceeded {
                limit: "value_bytes_max",
                max: options.value_bytes_max as u64,
                found: row.len() as u64,
                place: format!("table {:?}, a row for the quarantine as JSON", schema.name),
            });
        }
        Ok(Self { table: &schema.name, reason: reason.as_str(), time: Some(time), row, origin: None })
    }

    /// A row of an import, cut to what the quarantine takes.
    #[cfg(feature = "feed")]
    pub(super) fn broken(broken: &'a quarantine::Broken<'a>, options: &Options) -> Self {
        let mut row = broken.row.clone();
        row.truncate(row.floor_char_boundary(options.value_bytes_max));
        let quarantine::Broken { table, reason, time, origin, .. } = broken;
        Self { table, reason, time: *time, row, origin: Some(*origin) }
    }
}

/// The way into quarantine, for all writers of a store.
#[derive(Default)]
pub(super) struct Quarantine {
    open: Mutex<Option<Open>>,
}

struct Open {
    writer: BlockWriter,
    series: Arc<SeriesTable>,
    /// The store's, with room for the tags that the store itself gives.
    options: Options,
}

impl Quarantine {
    /// Puts a row there, stamped now, and gives the number of the quarantine's table.
    pub(super) fn put(&self, core: &Arc<Core>, entry: &Entry<'_>) -> Result<TableId> {
        core.gate.check()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match &mut *open {
            Some(open) => open,
            none => none.insert(Open::new(core)?),
        };
        let schema = open.writer.schema().clone();
        let tags = [entry.table, entry.reason];
        let series = open.series.resolve(&schema, &core.series_log, &open.options, &tags)?;
        let (origin, max) = (entry.origin.as_ref(), open.options.value_bytes_max);
        let values = [
            Value::I64(entry.time.map_or(NO_TIME, Time::as_nanos)),
            Value::Utf8(&entry.row),
            cut(origin.map(|origin| origin.file), max),
            origin.map_or(Value::Null, |origin| Value::U64(origin.line)),
            cut(origin.and_then(|origin| origin.column), max),
            cut(origin.and_then(|origin| origin.value), max),
            cut(origin.map(|origin| origin.message).filter(|message| !message.is_empty()), max),
            cut(origin.map(|origin| origin.import), max),
        ];
        if open.writer.append(series, core.clock.now().as_nanos(), &values)?.is_some() {
            return Err(Error::batch(quarantine::TABLE, "a row that arrives now is refused; this is a bug"));
        }
        core.counters.quarantined_rows.add(1);
        Ok(schema.id)
    }
}

/// As much of a text as a field takes.
fn cut(text: Option<&str>, bytes_max: usize) -> Value<'_> {
    let fits = |text: &str| text.floor_char_boundary(bytes_max);
    text.and_then(|text| text.get(..fits(text))).map_or(Value::Null, Value::Utf8)
}

impl Open {
    fn new(core: &Arc<Core>) -> Result<Self> {
        // One that was made by an earlier version has fewer fields, and policies of its time.
        let known = core.view.load().table(quarantine::TABLE).map(|table| table.schema.policies.clone());
        let mut schema = quarantine::schema(&core.options);
        if let Some(policies) = known {
            schema.policies = policies;
        }
        open::declare(core, &schema)?;
        let view = core.view.load();
        let gone = || Error::UnknownTable { table: quarantine::TABLE.into() };
        let table = view.table(quarantine::TABLE).ok_or_else(gone)?;
        let writer = BlockWriter::new(core.clone(), table.schema.clone(), core.clock.clone(), &core.options);
        let options = core.options.clone().series_max(u32::MAX).tag_bytes_max(usize::MAX);
        Ok(Self { writer, series: table.series.clone(), options })
    }
}
