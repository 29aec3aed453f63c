//! The functions against naive ones, over random rows cut into random batches and partitions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod asof;
mod bins;
mod ends;
mod gaps;
mod gathered;
mod memory;
mod registering;
mod sampled;
mod sketch;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::csv::WriterBuilder;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};

#[cfg(not(feature = "geo"))]
use super::Entry;
use super::{reference, register};

/// What a statement answers, as CSV without a header, a line a row.
fn answer(context: &SessionContext, text: &str) -> Result<Vec<String>, DataFusionError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(async { context.sql(text).await?.collect().await })?;
    let mut out = Vec::new();
    let mut writer = WriterBuilder::new().with_header(false).build(&mut out);
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    drop(writer);
    Ok(String::from_utf8(out).unwrap().lines().map(String::from).collect())
}

fn lines(context: &SessionContext, text: &str) -> Vec<String> {
    answer(context, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A session with small batches, over a table `t` of these columns, cut at `cuts` and dealt to three partitions.
fn session(columns: Vec<(&str, ArrayRef)>, cuts: &[usize]) -> SessionContext {
    let whole =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    let whole = whole.unwrap();
    let mut edges: Vec<usize> =
        cuts.iter().map(|cut| cut % (whole.num_rows() + 1)).chain([0, whole.num_rows()]).collect();
    edges.sort_unstable();
    let mut partitions = vec![Vec::new(); 3];
    for (number, edge) in edges.windows(2).enumerate() {
        partitions[number % 3].push(whole.slice(edge[0], edge[1] - edge[0]));
    }
    let config = SessionConfig::new().with_target_partitions(3).with_batch_size(7);
    let context = SessionContext::new_with_config(config);
    register(&context).unwrap();
    context.register_table("t", Arc::new(MemTable::try_new(whole.schema(), partitions).unwrap())).unwrap();
    context
}

fn column<A: FromIterator<T> + Array + 'static, T>(cells: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(cells.into_iter().collect::<A>())
}

#[test]
fn every_example_of_the_reference_gives_what_it_says() {
    let context = SessionContext::new();
    register(&context).unwrap();
    // That one needs a store, and is tried over one.
    for entry in reference().into_iter().filter(|entry| entry.name != "latest") {
        let (text, wanted) = entry.example.split_once("\n-- ").unwrap_or_else(|| panic!("{}: no rows", entry.name));
        let wanted: Vec<&str> = wanted.split("\n-- ").collect();
        assert_eq!(lines(&context, text), wanted, "{}", entry.name);
        assert!(entry.signature.contains(entry.name), "{}", entry.signature);
        assert!(!entry.summary.is_empty() && entry.details.contains("null"), "{} says what null does", entry.name);
    }
}

#[test]
fn every_function_has_an_entry() {
    let mut names: Vec<String> = super::udfs().iter().map(|function| function.name().into()).collect();
    names.extend(super::udafs().iter().map(|function| function.name().into()));
    names.extend(super::udwfs().iter().map(|function| function.name().into()));
    for name in names {
        assert!(reference().iter().any(|entry| entry.name == name), "{name} is not in the reference");
    }
}

/// What needs no function of its own.
#[cfg(not(feature = "geo"))]
const INTRODUCTION: &str = "\
# SQL functions

DataFusion's own are all there; these are added. Before you look for one:

- Local time: `time AT TIME ZONE 'Asia/Pontianak'` is the same moment with a zone. `date_bin_wallclock` bins by it.
- Moving averages over time, not rows: `avg(x) OVER (PARTITION BY tag ORDER BY time RANGE BETWEEN INTERVAL '5 minutes' \
PRECEDING AND CURRENT ROW)`. Aggregates of this page work there too; over a gap a window holds fewer rows.
- The latest value of each series is `last(value, time)` grouped by all tags; `SELECT DISTINCT ON (tag) * FROM t ORDER BY \
tag, time DESC` gives whole rows of any table, and `latest('table')` those of a store's without reading the others.
";

/// The page of the reference, made from its entries.
#[cfg(not(feature = "geo"))]
fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    page += "\n| function | what it gives |\n| --- | --- |\n";
    for entry in reference() {
        page += &format!("| `{}` | {} |\n", entry.signature, entry.summary);
    }
    for entry in reference() {
        let Entry { name, signature, summary, details, example } = entry;
        page += &format!("\n## {name}\n\n`{signature}`: {summary}\n\n{details}\n\n```sql\n{example}\n```\n");
    }
    page
}

#[test]
#[cfg(not(feature = "geo"))]
fn the_page_is_the_reference() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/functions.md");
    if std::env::var("DENYUT_DOCS").is_ok_and(|value| value == "write") {
        std::fs::write(&path, page()).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == page(), "DENYUT_DOCS=write cargo test the_page writes it anew");
}
