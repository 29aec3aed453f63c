//! Sketches as rollups keep them: the same bytes, as text.

use arrow::array::ArrayRef;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;

use super::{Accumulated, Held, What, base64, bytes};
use crate::error::Result as StoreResult;
use crate::maintain::rollup::Sketch;
use crate::model::rollup::Measure;

/// Begins a sketch of a rollup.
pub(crate) fn rollup_sketch(measure: Measure) -> Box<dyn Sketch> {
    let (what, name) = match measure {
        Measure::Distinct => (What::Distinct, "distinct_sketch"),
        _ => (What::Percentile, "percentile_sketch"),
    };
    Box::new(Accumulated { what, name, held: Held::Nothing })
}

/// The bytes of a sketch that is kept as text.
pub(in crate::query) fn sketch_bytes(text: &str) -> Result<Vec<u8>> {
    base64::decode(text).ok_or_else(|| bytes::damaged("this text is no base64"))
}

impl Sketch for Accumulated {
    fn add(&mut self, values: &ArrayRef) -> StoreResult<()> {
        Ok(self.update_batch(std::slice::from_ref(values))?)
    }

    fn merge(&mut self, stored: &str) -> StoreResult<()> {
        Ok(self.merge_one(&sketch_bytes(stored)?)?)
    }

    fn finish(&mut self) -> StoreResult<Option<String>> {
        Ok(self.bytes().map(|bytes| base64::encode(&bytes)))
    }
}
