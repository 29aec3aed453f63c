//! Sketches as rollups keep them. Who makes them is a floor above, with SQL.

use arrow::array::ArrayRef;

use crate::error::Result;
use crate::model::rollup::Measure;

/// A sketch under construction.
pub(crate) trait Sketch: Send {
    /// Takes values.
    fn add(&mut self, values: &ArrayRef) -> Result<()>;
    /// Takes what another one saw, as it was stored.
    fn merge(&mut self, stored: &str) -> Result<()>;
    /// As it is stored; `None` if it saw nothing.
    fn finish(&mut self) -> Result<Option<String>>;
}

/// Begins a sketch for such a measure.
pub(crate) type MakeSketch = fn(Measure) -> Box<dyn Sketch>;
