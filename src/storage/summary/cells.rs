//! The numbers of cells, in columns, while they are made.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};

/// What is kept of a field, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Float,
    Int,
    Unsigned,
    Bool,
    /// Texts and decimals: how many rows have one.
    Counted,
}

impl Kind {
    pub(crate) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Float64 => Self::Float,
            DataType::Int64 => Self::Int,
            DataType::UInt64 => Self::Unsigned,
            DataType::Boolean => Self::Bool,
            _ => Self::Counted,
        }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Float => 1,
            Self::Int => 2,
            Self::Unsigned => 3,
            Self::Bool => 4,
            Self::Counted => 0,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Counted, Self::Float, Self::Int, Self::Unsigned, Self::Bool].into_iter().find(|kind| kind.code() == code)
    }

    /// Whether there is a sum.
    pub(super) fn adds(self) -> bool {
        matches!(self, Self::Float | Self::Int | Self::Unsigned)
    }

    fn add(self, sum: u64, value: u64) -> u64 {
        match self {
            Self::Float => (f64::from_bits(sum) + f64::from_bits(value)).to_bits(),
            _ => sum.wrapping_add(value),
        }
    }

    /// A number that is ordered as values are by their bits: floats from the negative NaNs to the positive ones.
    fn key(self, value: u64) -> i64 {
        let bits = value.cast_signed();
        match self {
            Self::Float => bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed(),
            Self::Unsigned => bits ^ i64::MIN,
            _ => bits,
        }
    }

    /// The value of a key.
    fn value(self, key: i64) -> u64 {
        match self {
            // Its own inverse: the sign stays.
            Self::Float => (key ^ ((key >> 63).cast_unsigned() >> 1).cast_signed()).cast_unsigned(),
            Self::Unsigned => (key ^ i64::MIN).cast_unsigned(),
            _ => key.cast_unsigned(),
        }
    }

    /// As `first` and `last` decide between equal times: every NaN after every number.
    fn order(self, a: u64, b: u64) -> Ordering {
        let is_nan = |value: u64| self == Self::Float && f64::from_bits(value).is_nan();
        is_nan(a).cmp(&is_nan(b)).then_with(|| self.key(a).cmp(&self.key(b)))
    }
}

/// What a cell says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Rows without a value.
    pub(crate) nulls: u32,
    /// Rows with one.
    pub(crate) count: u32,
    pub(crate) sum: u64,
    /// Keys.
    min: i64,
    max: i64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) first_at: i64,
    pub(crate) last_at: i64,
}

impl Cell {
    /// Of no rows. Zero is the sum of nothing for every kind.
    pub(crate) const EMPTY: Self =
        Self { nulls: 0, count: 0, sum: 0, min: i64::MAX, max: i64::MIN, first: 0, last: 0, first_at: 0, last_at: 0 };

    /// Whether SQL's least or greatest of rows like these may depend on their order or on how they are grouped: the engine
    /// compares floats as numbers, so that zeros of both signs are equal and NaN neither less nor greater than anything; and
    /// groups begin at the finite extremes, which no infinity of the other end moves.
    pub(super) fn is_ambiguous(&self, kind: Kind) -> bool {
        if kind != Kind::Float || self.count == 0 {
            return false;
        }
        let (min, max) = (f64::from_bits(self.min(kind)), f64::from_bits(self.max(kind)));
        // A greatest zero may hide one of the other sign, if there is room for it below.
        let hides_zero = (min == 0.0 && min.is_sign_negative()) || (max == 0.0 && min.is_sign_negative());
        min.is_nan() || max.is_nan() || hides_zero || min == f64::INFINITY || max == f64::NEG_INFINITY
    }

    pub(crate) fn min(&self, kind: Kind) -> u64 {
        if self.count == 0 { 0 } else { kind.value(self.min) }
    }

    pub(crate) fn max(&self, kind: Kind) -> u64 {
        if self.count == 0 { 0 } else { kind.value(self.max) }
    }

    /// Takes a cell of later rows of the same series.
    pub(super) fn join(&mut self, kind: Kind, later: &Self) {
        self.nulls += later.nulls;
        if later.count > 0 {
            self.offer_ends(kind, (later.first, later.first_at), (later.last, later.last_at));
            self.count += later.count;
            self.sum = kind.add(self.sum, later.sum);
            self.min = self.min.min(later.min);
            self.max = self.max.max(later.max);
        }
    }

    /// With these extremes, which are values.
    pub(crate) fn within(self, kind: Kind, min: u64, max: u64) -> Self {
        Self { min: kind.key(min), max: kind.key(max), ..self }
    }

    /// Takes a cell of rows of the same series, which may be before its own, among them or after.
    pub(crate) fn unite(&mut self, kind: Kind, other: &Self) {
        self.nulls += other.nulls;
        if other.count == 0 {
            return;
        }
        let is_new = self.count == 0;
        let by_time = |at: i64, own: i64, value: u64, held: u64| at.cmp(&own).then_with(|| kind.order(value, held));
        if is_new || by_time(other.first_at, self.first_at, other.first, self.first).is_lt() {
            (self.first, self.first_at) = (other.first, other.first_at);
        }
        if is_new || by_time(other.last_at, self.last_at, other.last, self.last).is_gt() {
            (self.last, self.last_at) = (other.last, other.last_at);
        }
        self.count += other.count;
        self.sum = kind.add(self.sum, other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Takes the ends of rows that are not before those that it has.
    fn offer_ends(&mut self, kind: Kind, (first, first_at): (u64, i64), (last, last_at): (u64, i64)) {
        let is_new = self.count == 0;
        if is_new || (first_at == self.first_at && kind.order(first, self.first).is_lt()) {
            (self.first, self.first_at) = (first, first_at);
        }
        if is_new || last_at > self.last_at || kind.order(last, self.last).is_gt() {
            (self.last, self.last_at) = (last, last_at);
        }
    }

    /// Takes one row.
    #[inline]
    fn take(&mut self, kind: Kind, value: u64, at: i64) {
        self.offer_ends(kind, (value, at), (value, at));
        self.count += 1;
        self.sum = kind.add(self.sum, value);
        let key = kind.key(value);
        self.min = self.min.min(key);
        self.max = self.max.max(key);
    }

    /// Takes rows that all have a value, and follow those before.
    fn take_values(&mut self, kind: Kind, values: impl Iterator<Item = u64> + Clone, times: &[i64]) {
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        let (Some(first_at), Some(last_at)) = (times.first(), times.last()) else { return };
        // The usual case: one row at each end. What lies between needs no look at its time.
        let is_one = |at: i64, beside: Option<&i64>| beside != Some(&at);
        let plain = is_one(*first_at, times.get(1))
            && is_one(*last_at, times.len().checked_sub(2).and_then(|before| times.get(before)))
            && (self.count == 0 || self.last_at < *first_at);
        if !plain {
            values.zip(times).for_each(|(value, at)| self.take(kind, value, *at));
            return;
        }
        let (mut sum, mut min, mut max, mut last) = (self.sum, self.min, self.max, 0);
        let mut first = None;
        for value in values {
            first.get_or_insert(value);
            sum = kind.add(sum, value);
            let key = kind.key(value);
            min = min.min(key);
            max = max.max(key);
            last = value;
        }
        if self.count == 0 {
            (self.first, self.first_at) = (first.unwrap_or_default(), *first_at);
        }
        (self.last, self.last_at) = (last, *last_at);
        (self.sum, self.min, self.max) = (sum, min, max);
        self.count += count;
    }
}

/// A column of rows, ready to be looked at.
pub(crate) enum Column<'a> {
    Words { kind: Kind, words: &'a [u64], nulls: Option<&'a NullBuffer> },
    Bools(&'a arrow::array::BooleanArray),
    Counted(&'a ArrayRef),
}

impl<'a> Column<'a> {
    pub(crate) fn of(array: &'a ArrayRef) -> Self {
        let kind = Kind::of(array.data_type());
        // Of the same size and without a bit that means nothing: what follows reads them as words.
        let words = match kind {
            Kind::Float => array.as_primitive_opt::<Float64Type>().map(|array| array.values().inner()),
            Kind::Int => array.as_primitive_opt::<Int64Type>().map(|array| array.values().inner()),
            Kind::Unsigned => array.as_primitive_opt::<UInt64Type>().map(|array| array.values().inner()),
            Kind::Bool => return array.as_boolean_opt().map_or(Self::Counted(array), Self::Bools),
            Kind::Counted => None,
        };
        match words {
            Some(buffer) => Self::Words { kind, words: buffer.typed_data(), nulls: array.nulls() },
            None => Self::Counted(array),
        }
    }

    /// Has `cell` take the rows `rows`, whose times are `times`.
    pub(crate) fn give(&self, cell: &mut Cell, rows: std::ops::Range<usize>, times: &[i64]) {
        match self {
            Self::Words { kind, words, nulls: None } => {
                let Some(words) = words.get(rows) else { return };
                // The kind is a constant in each arm, so that each has a loop of its own.
                let words = words.iter().copied();
                match kind {
                    Kind::Float => cell.take_values(Kind::Float, words, times),
                    Kind::Int => cell.take_values(Kind::Int, words, times),
                    _ => cell.take_values(Kind::Unsigned, words, times),
                }
            }
            Self::Words { kind, words, nulls: Some(nulls) } => {
                for (row, at) in rows.zip(times) {
                    match words.get(row) {
                        Some(word) if nulls.is_valid(row) => cell.take(*kind, *word, *at),
                        _ => cell.nulls += 1,
                    }
                }
            }
            Self::Bools(array) => {
                for (row, at) in rows.zip(times) {
                    if array.is_valid(row) {
                        cell.take(Kind::Bool, u64::from(array.value(row)), *at);
                    } else {
                        cell.nulls += 1;
                    }
                }
            }
            Self::Counted(array) => {
                let nulls = array.nulls().map_or(0, |nulls| nulls.slice(rows.start, rows.len()).null_count());
                let nulls = u32::try_from(nulls).unwrap_or(u32::MAX);
                cell.nulls += nulls;
                cell.count += u32::try_from(rows.len()).unwrap_or(u32::MAX) - nulls;
            }
        }
    }
}
