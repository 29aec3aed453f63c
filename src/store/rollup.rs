//! Rollups, as the store's caller declares them.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::maintain::rollup::MakeSketch;
use crate::model::rollup::Definition;
use crate::model::time::nanos_of;
use crate::model::{Rollup, Schema, TableId, TableSchema, names};
use crate::snapshot::View;
use crate::storage::edit::Edit;

use super::open::table_state;
use super::{Store, Table};

/// Who makes sketches.
#[cfg(feature = "sql")]
pub(super) const SKETCHES: Option<MakeSketch> = Some(crate::query::rollup_sketch);
#[cfg(not(feature = "sql"))]
pub(super) const SKETCHES: Option<MakeSketch> = None;

impl Store {
    /// The rollup that `rollup` declares: made if it is absent, checked if it is present. What its table has is rolled up in
    /// the background, and from then on each segment as it is sealed; late rows correct the series and buckets that they
    /// are of. Queries of the table need not name it: those that ask for buckets of its own or of several are answered
    /// from it, with the rows that are not rolled up yet. [`maintain`](Self::maintain) waits until all is.
    ///
    /// The handle is on a table of the rollup's name, which can be read as any other: a row for each series and bucket, at
    /// the time at which the bucket begins, with `rows` and, of a field `f`, `f_count`, `f_sum` and the like. Nothing can be
    /// appended to it.
    ///
    /// The rollup keeps what rows did after their own table's `retention` has dropped them, for its own; and no row is
    /// dropped before it is rolled up. `system.rollups` lists rollups and what they lack.
    ///
    /// # Errors
    /// [`InvalidRollup`](Error::InvalidRollup) for what cannot be kept, and a rollup or a table of that name that differs;
    /// [`UnknownTable`](Error::UnknownTable), [`UnknownField`](Error::UnknownField), [`InvalidName`](Error::InvalidName),
    /// [`Duplicate`](Error::Duplicate); [`LimitExceeded`](Error::LimitExceeded) for too many rollups, tables or fields.
    ///
    /// # Cost
    /// One manifest commit if it is new. A step of rolling up reads the segments that are new, and of each series and
    /// bucket in them the rows that others have. A bucket costs some 100 bytes a field in memory while its partition is
    /// written, and a sketch of percentiles 12 KB.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use denyut::prelude::*;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let city = Store::open(dir.path().join("kota"))?;
    /// let water = city.table(Schema::new("water").tag("gate").f64("level_cm", "cm"))?;
    /// let hours = Rollup::new("water_1h").of("water").every(Duration::from_secs(3_600)).mean("level_cm").max("level_cm");
    /// let hours = city.rollup(hours)?;
    /// water.writer()?.append(row! { gate: "Sei Wie", level_cm: 142.0 })?;
    /// city.maintain()?;
    /// let rows: usize = hours.scan()?.map(|batch| batch.map(|batch| batch.num_rows())).sum::<Result<_, _>>()?;
    /// assert_eq!(rows, 1);
    /// # Ok::<(), denyut::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "a rollup is declared in place, as a schema is")]
    pub fn rollup(&self, rollup: Rollup) -> Result<Table> {
        let core = &self.inner.core;
        core.gate.check()?;
        if rollup.has_sketches() && core.sketches.is_none() {
            return Err(rollup.invalid("sketches need the feature sql"));
        }
        let mut declaring = core.view.lock();
        let view = declaring.view();
        let (definition, schema) = resolved(&rollup, &view)?;
        schema.check(&core.options)?;
        if known(&rollup, &view, &definition, &schema)? {
            drop(declaring);
            return self.existing(rollup.name());
        }
        let limit = |limit, max: usize, found: usize| {
            let place = format!("rollup {:?}", rollup.name());
            let error = Error::LimitExceeded { limit, max: max as u64, found: found as u64, place };
            if found <= max { Ok(()) } else { Err(error) }
        };
        limit("rollups_max", core.options.rollups_max, view.rollups.len() + 1)?;
        let tables = view.tables.values().filter(|table| !names::is_hidden(&table.schema.name));
        limit("tables_max", core.options.tables_max, tables.count() + 1)?;
        let table: TableId = view.tables.keys().last().map_or(0, |last| last + 1);
        let made = TableSchema::declared(table, &schema);
        let partition_ns = schema.policies.partition.map(nanos_of);
        let state = table_state(Arc::new(made.clone()), partition_ns, core.partial.clone());
        let edits = vec![Edit::AddTable(made), Edit::AddRollup { table, definition }];
        core.commit_in(&mut declaring, edits, |view| {
            view.tables.insert(table, Arc::new(state));
        })?;
        drop(declaring);
        core.upkeep.segments_changed();
        self.existing(rollup.name())
    }
}

/// What a rollup is over the tables there are.
fn resolved(rollup: &Rollup, view: &View) -> Result<(Definition, Schema)> {
    let name = rollup.source();
    let source = view.table(name).filter(|_| !names::is_hidden(name));
    let source = source.ok_or_else(|| Error::UnknownTable { table: name.chars().take(80).collect() })?;
    if view.rollups.get(source.schema.id).is_some() {
        return Err(rollup.invalid(format!("{name:?} is a rollup itself; roll up the table that it is of")));
    }
    rollup.resolve(&source.schema)
}

/// Whether there is this rollup; an error if there is something else of its name.
fn known(rollup: &Rollup, view: &View, definition: &Definition, schema: &Schema) -> Result<bool> {
    let Some(table) = view.table(rollup.name()) else { return Ok(false) };
    let Some(state) = view.rollups.get(table.schema.id) else {
        return Err(rollup.invalid("a table has that name"));
    };
    if *state.definition != *definition || table.schema.policies != schema.policies {
        return Err(rollup.invalid("it exists and differs: in its table, its buckets, what it keeps or for how long"));
    }
    Ok(true)
}
