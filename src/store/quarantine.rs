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
use crate::model::quarantine::{self, Reason};
use crate::model::{TableId, TableSchema, Time, Value, json};
use crate::options::Options;
use crate::storage::series_table::SeriesTable;

use super::open;

/// A row on its way into quarantine.
pub(super) struct Entry<'a> {
    table: &'a str,
    reason: Reason,
    time: Time,
    row: String,
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
        Ok(Self { table: &schema.name, reason, time, row })
    }

    /// Why it goes there.
    pub(super) fn reason(&self) -> Reason {
        self.reason
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
        let tags = [entry.table, entry.reason.as_str()];
        let series = open.series.resolve(&schema, &core.series_log, &open.options, &tags)?;
        let values = [Value::I64(entry.time.as_nanos()), Value::Utf8(&entry.row)];
        if open.writer.append(series, core.clock.now().as_nanos(), &values)?.is_some() {
            return Err(Error::batch(quarantine::TABLE, "a row that arrives now is refused; this is a bug"));
        }
        core.counters.quarantined_rows.add(1);
        Ok(schema.id)
    }
}

impl Open {
    fn new(core: &Arc<Core>) -> Result<Self> {
        if core.view.load().table(quarantine::TABLE).is_none() {
            open::declare(core, &quarantine::schema(&core.options))?;
        }
        let view = core.view.load();
        let gone = || Error::UnknownTable { table: quarantine::TABLE.into() };
        let table = view.table(quarantine::TABLE).ok_or_else(gone)?;
        let writer = BlockWriter::new(core.clone(), table.schema.clone(), core.clock.clone(), &core.options);
        let options = core.options.clone().series_max(u32::MAX).tag_bytes_max(usize::MAX);
        Ok(Self { writer, series: table.series.clone(), options })
    }
}
