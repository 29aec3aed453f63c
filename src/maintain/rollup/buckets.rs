//! What is known of a bucket while its rows go by, and the rows of a rollup's table that come of it.
//!
//! **Invariant:** taking rows in any order of batches, or what is known of them, gives the same: counts, extremes and ends
//! exactly, sums of floats but for the order of addition, sketches within their bounds.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringViewArray, TimestampNanosecondArray,
    UInt64Array,
};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};

use super::sketches::{MakeSketch, Sketch};
use super::touched::Key;
use crate::error::{Error, Result};
use crate::model::rollup::{Definition, Measure, Part};
use crate::model::{FieldType, TableSchema};
use crate::snapshot::SeriesView;
use crate::storage::segment_writer::Sorted;
use crate::storage::summary::{Cell, Column, Kind};

/// Rows that are written together.
const BATCH_ROWS: usize = 8_192;

/// What is known of one field.
struct Held {
    kind: Kind,
    count: u64,
    /// Of the rows that were taken. Its own count says only whether there is a value: those of a bucket may be more than it
    /// can count.
    cell: Cell,
    /// What was known before. Its rows may be later than those taken, which a cell takes in order.
    known: Cell,
    percentiles: Option<Box<dyn Sketch>>,
    distinct: Option<Box<dyn Sketch>>,
}

impl Held {
    fn take(&mut self, rows: Range<usize>, times: &[i64], column: &Column<'_>, values: &ArrayRef) -> Result<()> {
        let before = self.cell.count;
        column.give(&mut self.cell, rows.clone(), times);
        self.count += u64::from(self.cell.count - before);
        (self.cell.count, self.cell.nulls) = (self.cell.count.min(1), 0);
        for sketch in [&mut self.percentiles, &mut self.distinct].into_iter().flatten() {
            sketch.add(&values.slice(rows.start, rows.len()))?;
        }
        Ok(())
    }
}

/// One bucket of one series.
pub(super) struct Bucket {
    rows: u64,
    /// In the order of [`Definition::fields`].
    fields: Vec<Held>,
}

/// Columns of rows, ready to be taken.
pub(super) fn columns(arrays: &[ArrayRef]) -> Vec<Column<'_>> {
    arrays.iter().map(Column::of).collect()
}

impl Bucket {
    pub(super) fn new(definition: &Definition, source: &TableSchema, make: Option<MakeSketch>) -> Result<Self> {
        let sketch = |field: usize, measure: Measure| -> Result<Option<Box<dyn Sketch>>> {
            if !definition.measures.contains(&(u32::try_from(field).unwrap_or(u32::MAX), measure)) {
                return Ok(None);
            }
            let none = || Error::batch(&source.name, "sketches need the feature sql");
            make.map(|make| make(measure)).ok_or_else(none).map(Some)
        };
        let held = |field: usize| -> Result<Held> {
            let of = source.fields.get(field).ok_or_else(|| Error::batch(&source.name, format!("no field {field}")))?;
            Ok(Held {
                kind: Kind::of(&of.field_type.arrow()),
                count: 0,
                cell: Cell::EMPTY,
                known: Cell::EMPTY,
                percentiles: sketch(field, Measure::Percentiles)?,
                distinct: sketch(field, Measure::Distinct)?,
            })
        };
        Ok(Self { rows: 0, fields: definition.fields().into_iter().map(held).collect::<Result<_>>()? })
    }

    /// Takes rows of a batch, whose times are `times`.
    pub(super) fn take(
        &mut self,
        rows: Range<usize>,
        times: &[i64],
        columns: &[Column<'_>],
        arrays: &[ArrayRef],
    ) -> Result<()> {
        self.rows += rows.len() as u64;
        let times = times.get(rows.clone()).unwrap_or_default();
        for ((held, column), values) in self.fields.iter_mut().zip(columns).zip(arrays) {
            held.take(rows.clone(), times, column, values)?;
        }
        Ok(())
    }

    /// Takes what row number `row` of the rollup says, whose fields are `columns`.
    pub(super) fn take_known(&mut self, definition: &Definition, columns: &[ArrayRef], row: usize) -> Result<()> {
        let fields = definition.fields();
        let mut known: Vec<(Cell, u64, u64)> = vec![(Cell::EMPTY, 0, 0); fields.len()];
        for ((part, field), column) in definition.parts().into_iter().zip(columns) {
            let word = word(column, row);
            let Some(place) = field.and_then(|field| fields.iter().position(|of| *of == field)) else {
                self.rows += word;
                continue;
            };
            let Some((held, (cell, min, max))) = self.fields.get_mut(place).zip(known.get_mut(place)) else { continue };
            match part {
                Part::Rows => {}
                Part::Count => {
                    held.count += word;
                    cell.count = u32::from(word > 0);
                }
                Part::Sum => cell.sum = word,
                Part::Min => *min = word,
                Part::Max => *max = word,
                Part::First => cell.first = word,
                Part::FirstTime => cell.first_at = word.cast_signed(),
                Part::Last => cell.last = word,
                Part::LastTime => cell.last_at = word.cast_signed(),
                Part::Percentiles | Part::Distinct => {
                    let sketch = if part == Part::Distinct { &mut held.distinct } else { &mut held.percentiles };
                    let texts = column.as_string_view_opt().filter(|texts| texts.is_valid(row));
                    if let Some((sketch, texts)) = sketch.as_mut().zip(texts) {
                        sketch.merge(texts.value(row))?;
                    }
                }
            }
        }
        for (held, (cell, min, max)) in self.fields.iter_mut().zip(known) {
            held.known.unite(held.kind, &cell.within(held.kind, min, max));
        }
        Ok(())
    }

    /// All that is known of it, once all rows were taken.
    fn whole(mut self) -> Self {
        for held in &mut self.fields {
            held.cell.unite(held.kind, &std::mem::replace(&mut held.known, Cell::EMPTY));
        }
        self
    }

    /// What a column of the rollup says of it.
    fn value(&mut self, part: Part, place: Option<usize>) -> Result<Value> {
        let Some(held) = place.and_then(|place| self.fields.get_mut(place)) else {
            return Ok(Value::Word(Some(self.rows)));
        };
        let cell = &held.cell;
        let word = |word: u64| Value::Word((held.count > 0).then_some(word));
        Ok(match part {
            Part::Rows => Value::Word(Some(self.rows)),
            Part::Count => Value::Word(Some(held.count)),
            Part::Sum => word(cell.sum),
            Part::Min => word(cell.min(held.kind)),
            Part::Max => word(cell.max(held.kind)),
            Part::First => word(cell.first),
            Part::FirstTime => word(cell.first_at.cast_unsigned()),
            Part::Last => word(cell.last),
            Part::LastTime => word(cell.last_at.cast_unsigned()),
            Part::Percentiles => Value::Text(held.percentiles.as_mut().map_or(Ok(None), |sketch| sketch.finish())?),
            Part::Distinct => Value::Text(held.distinct.as_mut().map_or(Ok(None), |sketch| sketch.finish())?),
        })
    }
}

enum Value {
    Word(Option<u64>),
    Text(Option<String>),
}

/// The bits of a number; 0 where it is null.
fn word(column: &ArrayRef, row: usize) -> u64 {
    if column.is_null(row) {
        return 0;
    }
    if let Some(column) = column.as_primitive_opt::<Float64Type>() {
        return column.value(row).to_bits();
    }
    if let Some(column) = column.as_primitive_opt::<Int64Type>() {
        return column.value(row).cast_unsigned();
    }
    if let Some(column) = column.as_primitive_opt::<UInt64Type>() {
        return column.value(row);
    }
    column.as_boolean_opt().map_or(0, |column| u64::from(column.value(row)))
}

/// A column under construction.
enum Values {
    Words(Vec<Option<u64>>),
    Texts(Vec<Option<String>>),
}

impl Values {
    fn of(field_type: FieldType) -> Self {
        if field_type == FieldType::Utf8 { Self::Texts(Vec::new()) } else { Self::Words(Vec::new()) }
    }

    fn push(&mut self, value: Value) {
        match (self, value) {
            (Self::Words(words), Value::Word(word)) => words.push(word),
            (Self::Texts(texts), Value::Text(text)) => texts.push(text),
            (Self::Words(words), Value::Text(_)) => words.push(None),
            (Self::Texts(texts), Value::Word(_)) => texts.push(None),
        }
    }

    fn finish(&mut self, field_type: FieldType) -> ArrayRef {
        match self {
            Self::Texts(texts) => Arc::new(StringViewArray::from_iter(std::mem::take(texts))),
            Self::Words(words) => {
                let words = std::mem::take(words).into_iter();
                match field_type {
                    FieldType::F64 => Arc::new(words.map(|word| word.map(f64::from_bits)).collect::<Float64Array>()),
                    FieldType::I64 => Arc::new(words.map(|word| word.map(u64::cast_signed)).collect::<Int64Array>()),
                    FieldType::Bool => Arc::new(words.map(|word| word.map(|word| word != 0)).collect::<BooleanArray>()),
                    _ => Arc::new(words.collect::<UInt64Array>()),
                }
            }
        }
    }
}

/// Rows of a rollup's table on their way into a segment.
pub(super) struct Writing {
    /// What each column says, of which of the rolled fields, and its type.
    columns: Vec<(Part, Option<usize>, FieldType, Values)>,
    /// The source's series of each row, and the rollup's.
    of_source: Vec<u32>,
    series: Vec<u32>,
    times: Vec<i64>,
    every_ns: i64,
}

impl Writing {
    pub(super) fn new(definition: &Definition, target: &TableSchema) -> Self {
        let fields = definition.fields();
        let column = |((part, field), of_type): ((Part, Option<usize>), FieldType)| {
            let place = field.and_then(|field| fields.iter().position(|of| *of == field));
            (part, place, of_type, Values::of(of_type))
        };
        let columns = definition.parts().into_iter().zip(target.field_types()).map(column).collect();
        let (of_source, series, times) = (Vec::new(), Vec::new(), Vec::new());
        Self { columns, of_source, series, times, every_ns: definition.every_ns }
    }

    pub(super) fn push(&mut self, number: u32, key: Key, bucket: Bucket) -> Result<()> {
        let mut bucket = bucket.whole();
        self.series.push(number);
        self.of_source.push(key.series);
        self.times.push(key.bucket.saturating_mul(self.every_ns));
        for (part, place, _, values) in &mut self.columns {
            values.push(bucket.value(*part, *place)?);
        }
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.series.len() >= BATCH_ROWS
    }

    /// The rows so far, in the columns of a segment; there are none afterwards. `source` has the tags.
    pub(super) fn finish(&mut self, source: &SeriesView, clock: u64, tags: usize) -> Result<Sorted> {
        let (series, of_source) = (std::mem::take(&mut self.series), std::mem::take(&mut self.of_source));
        let times = TimestampNanosecondArray::from(std::mem::take(&mut self.times)).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> = vec![Arc::new(times)];
        for tag in 0..tags {
            columns.push(Arc::new(source.tag_column(tag, &of_source)?));
        }
        for (_, _, of_type, values) in &mut self.columns {
            columns.push(values.finish(*of_type));
        }
        columns.push(Arc::new(UInt64Array::from(vec![clock; series.len()])));
        Ok(Sorted { series, columns })
    }
}
