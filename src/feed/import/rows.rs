//! Arrow's rows as bytes, so that they take the way of all other content: the same ledger, the same comparison after a
//! crash, the same cells.
//!
//! A row is {length u32, columns}, a column {kind u8, value}; numbers are little-endian, texts have a length u32. The bytes
//! never reach the disk, but their hash does: **the coding of a value never changes.**

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampNanosecondType, UInt64Type,
};

use super::cell::{Cell, Escape};
use super::fault::Fault;
use super::records::Step;
use crate::error::Error;

const NULL: u8 = 0;
const F64: u8 = 1;
const I64: u8 = 2;
const U64: u8 = 3;
const FALSE: u8 = 4;
const TRUE: u8 = 5;
const TEXT: u8 = 6;
const DECIMAL: u8 = 7;
const TIME: u8 = 8;
const NESTED: u8 = 9;
/// A time that nanoseconds cannot hold.
const FAR: u8 = 10;

/// Gives the rows of batches as bytes, a batch at a time.
pub(crate) struct Coded<'a> {
    source: String,
    schema: SchemaRef,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, Error>> + 'a>,
    bytes: Vec<u8>,
    at: usize,
}

impl<'a> Coded<'a> {
    pub(crate) fn new(
        source: String,
        schema: SchemaRef,
        batches: Box<dyn Iterator<Item = Result<RecordBatch, Error>> + 'a>,
    ) -> Self {
        Self { source, schema, batches, bytes: Vec::new(), at: 0 }
    }

    fn next(&mut self) -> Result<bool, Error> {
        let Some(batch) = self.batches.next() else { return Ok(false) };
        let batch = batch?;
        let wrong = |message: String| Error::import(&self.source, 0, message);
        if batch.schema().fields().len() != self.schema.fields().len() {
            return Err(wrong("batches of one source have the same columns".into()));
        }
        self.bytes.clear();
        self.at = 0;
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns: Vec<Column> = columns
            .map(|(column, field)| {
                Column::new(column).map_err(|error| wrong(format!("column {:?}: {error}", field.name())))
            })
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&[0; 4]);
            columns.iter().for_each(|column| column.encode(row, &mut self.bytes));
            let len = u32::try_from(self.bytes.len() - start - 4)
                .map_err(|_| wrong(format!("row {row} of a batch has more than 4 GiB")))?;
            if let Some(head) = self.bytes.get_mut(start..start + 4) {
                head.copy_from_slice(&len.to_le_bytes());
            }
        }
        Ok(true)
    }
}

impl std::io::Read for Coded<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.bytes.len() {
            if !self.next().map_err(std::io::Error::other)? {
                return Ok(0);
            }
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.len().min(out.len());
        if let (Some(out), Some(rest)) = (out.get_mut(..len), rest.get(..len)) {
            out.copy_from_slice(rest);
        }
        self.at += len;
        Ok(len)
    }
}

/// A column of a batch.
struct Column {
    /// As it came, but for a dictionary.
    given: ArrayRef,
    /// As one of the types that cells have; all others are nested to them.
    plain: ArrayRef,
}

impl Column {
    fn new(column: &ArrayRef) -> arrow::error::Result<Self> {
        let given = match column.data_type() {
            DataType::Dictionary(_, value) => return Self::new(&cast(column, &value.as_ref().clone())?),
            _ => Arc::clone(column),
        };
        Ok(Self { plain: plain(&given)?, given })
    }

    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        if self.plain.is_null(row) && self.given.is_valid(row) {
            // Nothing but a time is too large to be plain.
            return out.push(FAR);
        }
        encode(&self.plain, row, out);
    }
}

/// A column as one of the types that cells have; null where that cannot hold what is there.
fn plain(column: &ArrayRef) -> arrow::error::Result<ArrayRef> {
    let to = match column.data_type() {
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => DataType::UInt64,
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Nanosecond => {
            DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())
        }
        DataType::Date32 => DataType::Timestamp(TimeUnit::Nanosecond, None),
        // Its cast to nanoseconds does not look whether they fit.
        DataType::Date64 => return plain(&cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?),
        _ => return Ok(Arc::clone(column)),
    };
    cast(column, &to)
}

/// Whether a column has times without an offset, which are a wall clock.
fn is_wall(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => true,
        DataType::Dictionary(_, value) => is_wall(value),
        _ => false,
    }
}

fn encode(column: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    if column.is_null(row) {
        out.push(NULL);
        return;
    }
    match column.data_type() {
        DataType::Float64 => {
            out.push(F64);
            out.extend_from_slice(&column.as_primitive::<Float64Type>().value(row).to_le_bytes());
        }
        DataType::Int64 => {
            out.push(I64);
            out.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes());
        }
        DataType::UInt64 => {
            out.push(U64);
            out.extend_from_slice(&column.as_primitive::<UInt64Type>().value(row).to_le_bytes());
        }
        DataType::Boolean => out.push(if column.as_boolean().value(row) { TRUE } else { FALSE }),
        DataType::Utf8View => {
            let text = column.as_string_view().value(row);
            out.push(TEXT);
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        DataType::Decimal128(_, scale) => match u8::try_from(*scale) {
            Ok(scale) => {
                out.extend_from_slice(&[DECIMAL, scale]);
                out.extend_from_slice(&column.as_primitive::<Decimal128Type>().value(row).to_le_bytes());
            }
            Err(_) => out.push(NESTED),
        },
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            out.push(TIME);
            out.extend_from_slice(&column.as_primitive::<TimestampNanosecondType>().value(row).to_le_bytes());
        }
        DataType::Null => out.push(NULL),
        _ => out.push(NESTED),
    }
}

/// Reads rows back from their bytes.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    record_bytes_max: usize,
    /// Of each column, whether its times are a wall clock: what a time means is for its type to say, and its bytes are the
    /// same.
    walls: Vec<bool>,
}

impl Rows {
    pub(crate) fn new(schema: &SchemaRef, record_bytes_max: usize) -> Self {
        let walls = schema.fields().iter().map(|field| is_wall(field.data_type())).collect();
        Self { record_bytes_max, walls }
    }

    /// The first row of `bytes`, into `cells`. A line is a row.
    pub(crate) fn next<'b>(&self, bytes: &'b [u8], cells: &mut Vec<Cell<'b>>) -> Step {
        cells.clear();
        let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Step::More };
        let len = u32::from_le_bytes(*len) as usize;
        let Some(mut row) = rest.get(..len) else { return Step::More };
        let broken = |fault: Fault| Step::Broken { bytes: len + 4, lines: 1, target: Some(0), faulty: fault.whole() };
        if len > self.record_bytes_max {
            return broken(Fault::TooLong);
        }
        while !row.is_empty() {
            let is_wall = self.walls.get(cells.len()).is_some_and(|wall| *wall);
            match cell(&mut row) {
                Some(Cell::Time(nanos)) if is_wall => cells.push(Cell::Wall(nanos)),
                Some(cell) => cells.push(cell),
                None => return broken(Fault::WrongColumns),
            }
        }
        Step::Row { bytes: len + 4, lines: 1, target: 0 }
    }
}

fn cell<'b>(row: &mut &'b [u8]) -> Option<Cell<'b>> {
    let (kind, rest) = row.split_first()?;
    *row = rest;
    let mut take = |len: usize| {
        let (taken, rest) = row.split_at_checked(len)?;
        *row = rest;
        Some(taken)
    };
    Some(match *kind {
        NULL => Cell::Null,
        F64 => Cell::F64(f64::from_le_bytes(*take(8)?.first_chunk()?)),
        I64 => Cell::I64(i64::from_le_bytes(*take(8)?.first_chunk()?)),
        U64 => Cell::U64(u64::from_le_bytes(*take(8)?.first_chunk()?)),
        FALSE => Cell::Bool(false),
        TRUE => Cell::Bool(true),
        TEXT => {
            let len = u32::from_le_bytes(*take(4)?.first_chunk()?) as usize;
            Cell::Quoted(take(len)?, Escape::None)
        }
        DECIMAL => {
            let scale = *take(1)?.first()?;
            Cell::Decimal(i128::from_le_bytes(*take(16)?.first_chunk()?), scale)
        }
        TIME => Cell::Time(i64::from_le_bytes(*take(8)?.first_chunk()?)),
        NESTED => Cell::Nested,
        FAR => Cell::Far,
        _ => return None,
    })
}
