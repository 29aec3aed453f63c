//! The latest row of one series, by handle.

use std::sync::{Arc, Weak};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, UInt64Type};

use crate::error::{Error, Result};
use crate::model::{FieldType, SeriesId, TableId, TableSchema, Time, Value};
use crate::snapshot::last::{Found, LastTable, Place};
use crate::snapshot::{Snapshot, TableView, View, copying};

use super::handle::Handle;

/// The latest row of one series, kept until there is a newer one. Made by [`Table::latest`](crate::Table::latest).
pub struct Latest {
    inner: Handle,
    id: TableId,
    table: String,
    series: SeriesId,
    seen: Option<Seen>,
}

/// What the row was found in. Weak, so that an idle handle keeps no block.
struct Seen {
    view: Weak<View>,
    /// Published rows of each block of the table.
    rows: Vec<usize>,
    row: Option<LatestRow>,
}

/// A row as it was when it was the latest of its series. Owns its memory.
#[derive(Clone, Debug)]
pub struct LatestRow {
    time: Time,
    schema: Arc<TableSchema>,
    fields: Vec<ArrayRef>,
}

impl Latest {
    pub(super) fn new(inner: Handle, id: TableId, table: &str, series: SeriesId) -> Self {
        Self { inner, id, table: table.into(), series, seen: None }
    }

    /// The row; `None` if the series has none. Sees every row whose append returned before the call. Of rows of one latest
    /// time it is the last write where the last write wins, and any one of them elsewhere.
    ///
    /// # Errors
    /// [`Closed`](Error::Closed), [`SegmentAside`](Error::SegmentAside), what a segment's file says, and
    /// [`LimitExceeded`](Error::LimitExceeded) if the table's last values need more than `last_bytes_max`.
    ///
    /// # Cost
    /// A look at the count of each live block of the table if no row came to it since the last call. Else a snapshot, a
    /// look at the rows that came, which all handles and queries of the table share, and a copy of this one; at first, and
    /// after a seal or a compaction, also the series indexes of new segments and, if the row is in one, its page.
    pub fn get(&mut self) -> Result<Option<&LatestRow>> {
        let core = &self.inner.core;
        core.check_open()?;
        let is_same = |seen: &Seen| {
            core.view.look(|view| {
                let blocks = || view.tables.get(&self.id).map_or(&[][..], |table| &table.blocks);
                // Counts only grow, and those kept were of one moment. If each is as it was then, all were so when the first
                // of them was loaded now.
                std::ptr::eq(seen.view.as_ptr(), Arc::as_ptr(view))
                    && blocks().iter().map(|block| block.block.rows()).eq(seen.rows.iter().copied())
            })
        };
        if !self.seen.as_ref().is_some_and(is_same) {
            self.seen = Some(self.look()?);
        }
        Ok(self.seen.as_ref().and_then(|seen| seen.row.as_ref()))
    }

    fn look(&self) -> Result<Seen> {
        let core = &self.inner.core;
        let (snapshot, view, rows) = Snapshot::take_with_view(&core.view, &core.gate);
        let tables = view.tables.iter().flat_map(|(id, table)| table.blocks.iter().map(|_| *id));
        let rows = tables.zip(rows).filter(|(id, _)| *id == self.id).map(|(_, rows)| rows).collect();
        let unknown = || Error::UnknownTable { table: self.table.clone() };
        let table = snapshot.table(&self.table).ok_or_else(unknown)?;
        table.aside.check(&table.schema, None)?;
        let found = core.last.with(table, |last, table| match last.find(table, self.series.0)? {
            Some(found) => self.read(last, table, found).map(Some),
            None => Ok(None),
        })?;
        let too_large = || Error::LimitExceeded {
            limit: "last_bytes_max",
            max: core.options.last_bytes_max as u64,
            found: LastTable::bytes_of(table) as u64,
            place: format!("bytes of the last values of table {}", self.table),
        };
        Ok(Seen { view: Arc::downgrade(&view), rows, row: found.ok_or_else(too_large)? })
    }

    fn read(&self, last: &mut LastTable, table: &TableView, found: Found) -> Result<LatestRow> {
        let first = 1 + table.schema.tags().len();
        let columns: Vec<usize> = (first..first + table.schema.fields().len()).collect();
        let fields = match found.place {
            Place::Segment { .. } => last.sealed_values(table, &columns, &[self.series.0])?,
            Place::Live { number, row } => {
                let failed = |error| Error::batch(&self.table, error);
                let live = table.live.get(number).ok_or_else(|| Error::batch(&self.table, "no such live range"))?;
                let rows = row as usize..row as usize + 1;
                let batch = live.batch(&table.series, &table.schema, &columns, rows)?;
                copying::owned(&batch).map_err(failed)?.columns().to_vec()
            }
        };
        Ok(LatestRow { time: Time::from_nanos(found.time), schema: table.schema.clone(), fields })
    }
}

impl LatestRow {
    /// When it was.
    pub fn time(&self) -> Time {
        self.time
    }

    /// A field's value, by name.
    ///
    /// # Errors
    /// [`UnknownField`](Error::UnknownField) if the table had no such field when the row was found.
    pub fn value(&self, field: &str) -> Result<Value<'_>> {
        let at = self.schema.fields().iter().position(|known| known.name == field);
        let (at, column) =
            at.and_then(|at| Some((at, self.fields.get(at)?))).ok_or_else(|| self.schema.unknown(field))?;
        let kind = self.schema.fields().get(at).map(|field| field.field_type);
        if column.is_empty() || column.is_null(0) {
            return Ok(Value::Null);
        }
        let value = match kind {
            Some(FieldType::F64) => column.as_primitive_opt::<Float64Type>().map(|column| Value::F64(column.value(0))),
            Some(FieldType::I64) => column.as_primitive_opt::<Int64Type>().map(|column| Value::I64(column.value(0))),
            Some(FieldType::U64) => column.as_primitive_opt::<UInt64Type>().map(|column| Value::U64(column.value(0))),
            Some(FieldType::Bool) => column.as_boolean_opt().map(|column| Value::Bool(column.value(0))),
            Some(FieldType::Utf8) => column.as_string_view_opt().map(|column| Value::Utf8(column.value(0))),
            Some(FieldType::Decimal { .. }) => {
                column.as_primitive_opt::<Decimal128Type>().map(|column| Value::Decimal(column.value(0)))
            }
            None => None,
        };
        value.ok_or_else(|| Error::batch(self.schema.name(), format!("field {field} is of another type")))
    }

    /// All fields as one row in the columns of the table's schema, without `time` and tags.
    ///
    /// # Errors
    /// [`Batch`](Error::Batch) if the columns are not the schema's, which is a bug.
    pub fn fields(&self) -> Result<RecordBatch> {
        let failed = |error| Error::batch(self.schema.name(), error);
        let first = 1 + self.schema.tags().len();
        let columns: Vec<usize> = (first..first + self.fields.len()).collect();
        let schema = Arc::new(self.schema.arrow().project(&columns).map_err(failed)?);
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        RecordBatch::try_new_with_options(schema, self.fields.clone(), &options).map_err(failed)
    }
}

impl std::fmt::Debug for Latest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latest").field("table", &self.table).field("series", &self.series).finish_non_exhaustive()
    }
}
