//! Where contracts are kept: a table of the store's own, one row a version.
//!
//! A table, and not a log of its own, because then a version is appended, synced, backed up, verified, repaired and read by
//! other processes like any row, and one row is one version: a crash leaves all of it or nothing.
//!
//! **Invariant:** versions are only ever added. In force at a moment is, of the versions whose `time` is not after it, the
//! one with the highest number.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Int64Type, TimestampNanosecondType};

use super::contract::Feed;
use crate::error::{Error, Result};
use crate::fs::fork::Origin;
use crate::model::{Policies, Schema, Time};
use crate::snapshot::Snapshot;
use crate::snapshot::scan::Scan;

/// Its name.
pub(crate) const TABLE: &str = "__feeds";
/// The tag: the feed's name.
pub(crate) const FEED: &str = "feed";
/// The fields, in their order: number of the version from 1, when it was declared in Unix nanoseconds, whether the feed ends
/// with it, and the contract as TOML.
pub(crate) const VERSION: &str = "version";
pub(crate) const DECLARED_NS: &str = "declared_ns";
pub(crate) const RETIRED: &str = "retired";
pub(crate) const CONTRACT: &str = "contract";

/// The table as the store declares it. `time` is from when a version is in force, which may be far from now.
pub(crate) fn schema() -> Schema {
    let mut schema =
        Schema::new(TABLE).tag(FEED).i64(VERSION, "").i64(DECLARED_NS, "ns").bool(RETIRED, "").utf8(CONTRACT, "");
    for field in &mut schema.fields {
        field.required = true;
    }
    schema.policies = Policies {
        future_max: Some(std::time::Duration::from_nanos(i64::MAX.cast_unsigned())),
        // Versions are few, and are kept together.
        partition: Some(std::time::Duration::from_secs(366 * 86_400)),
        ..Policies::default()
    };
    schema
}

/// One version of a contract.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) feed: Feed,
    pub(crate) number: i64,
    pub(crate) from: Time,
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL shows it"))]
    pub(crate) declared: Time,
    pub(crate) retired: bool,
    pub(crate) text: String,
}

/// All versions of all feeds, by name and number.
pub(crate) fn versions(snapshot: &Snapshot) -> Result<BTreeMap<String, Vec<Version>>> {
    let mut found: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    let Some(table) = snapshot.table(TABLE).cloned() else { return Ok(found) };
    table.aside.check(&table.schema, None)?;
    for batch in Scan::new(table, Origin::default()) {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let version = version(&batch, row).ok_or_else(unreadable)??;
            found.entry(version.feed.name.clone()).or_default().push(version);
        }
    }
    found.values_mut().for_each(|versions| versions.sort_by_key(|version| version.number));
    Ok(found)
}

fn version(batch: &RecordBatch, row: usize) -> Option<Result<Version>> {
    let text = batch.column_by_name(CONTRACT)?.as_string_view_opt()?.value(row).to_string();
    let name = batch.column_by_name(FEED)?.as_string_view_opt()?.value(row);
    let version = number::<Int64Type>(batch, VERSION, row)?;
    let from = Time::from_nanos(number::<TimestampNanosecondType>(batch, "time", row)?);
    let declared = Time::from_nanos(number::<Int64Type>(batch, DECLARED_NS, row)?);
    let retired = batch.column_by_name(RETIRED)?.as_boolean_opt()?.value(row);
    let read = Feed::parse(&text, &format!("feed {name:?}, version {version}, as the store keeps it"), None);
    let first = read.map(|feeds| feeds.into_iter().next());
    Some(match first {
        Ok(Some(feed)) => Ok(Version { feed, number: version, from, declared, retired, text }),
        Ok(None) => Err(unreadable()),
        Err(error) => Err(error),
    })
}

fn number<T: ArrowPrimitiveType<Native = i64>>(batch: &RecordBatch, column: &str, row: usize) -> Option<i64> {
    let column = batch.column_by_name(column)?.as_primitive_opt::<T>()?;
    column.is_valid(row).then(|| column.value(row))
}

fn unreadable() -> Error {
    Error::batch(TABLE, "a version of a contract has other columns than it was written with; this is a bug")
}

/// The version of each feed that is in force at `at`, and from when on the feed was; no feed that has ended by then.
#[cfg(feature = "sql")]
pub(crate) fn in_force(snapshot: &Snapshot, at: Time) -> Result<Vec<(Version, Time)>> {
    let force = |versions: Vec<Version>| {
        let mut begun: Vec<Version> = versions.into_iter().filter(|version| version.from <= at).collect();
        let version = begun.pop()?;
        // After a retirement a feed may begin anew.
        let since = begun.iter().rev().take_while(|version| !version.retired).map(|version| version.from).min();
        let from = since.map_or(version.from, |since| since.min(version.from));
        (!version.retired).then_some((version, from))
    };
    Ok(versions(snapshot)?.into_values().filter_map(force).collect())
}
