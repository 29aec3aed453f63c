//! The functions against naive ones, over random rows cut into random batches and partitions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod asof;
mod sketch;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::csv::WriterBuilder;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};

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

fn column<A: FromIterator<T> + Array + 'static, T>(cells: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(cells.into_iter().collect::<A>())
}

#[test]
fn every_example_of_the_reference_gives_what_it_says() {
    let context = SessionContext::new();
    register(&context).unwrap();
    for entry in reference() {
        let (text, wanted) = entry.example.split_once("\n-- ").unwrap_or_else(|| panic!("{}: no rows", entry.name));
        let wanted: Vec<&str> = wanted.split("\n-- ").collect();
        assert_eq!(lines(&context, text), wanted, "{}", entry.name);
        assert!(entry.signature.contains(entry.name), "{}", entry.signature);
        assert!(!entry.summary.is_empty() && entry.details.contains("null"), "{} says what null does", entry.name);
    }
}
