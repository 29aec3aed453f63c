//! The types a field may have and the values a row carries.

use std::fmt;

use arrow::datatypes::DataType;

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldType {
    /// IEEE 754 double. NaN and infinities are data and kept.
    F64,
    /// Signed 64-bit.
    I64,
    /// Unsigned 64-bit.
    U64,
    /// True or false.
    Bool,
    /// UTF-8 text.
    Utf8,
    /// Exact decimal for money: digits in all and digits after the point, at most 38.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
}

impl FieldType {
    /// Bytes of one value in a live block's column.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::Bool => 1,
            Self::Utf8 | Self::Decimal { .. } => 16,
        }
    }

    /// The Arrow type SQL sees.
    pub fn arrow(self) -> DataType {
        match self {
            Self::F64 => DataType::Float64,
            Self::I64 => DataType::Int64,
            Self::U64 => DataType::UInt64,
            Self::Bool => DataType::Boolean,
            Self::Utf8 => DataType::Utf8View,
            #[expect(clippy::cast_possible_wrap, reason = "scale is at most 38")]
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F64 => f.write_str("f64"),
            Self::I64 => f.write_str("i64"),
            Self::U64 => f.write_str("u64"),
            Self::Bool => f.write_str("bool"),
            Self::Utf8 => f.write_str("utf8"),
            Self::Decimal { precision, scale } => write!(f, "decimal128({precision}, {scale})"),
        }
    }
}

/// One value of a row. `From` is implemented for the plain types and for `Option` of them.
///
/// ```
/// use denyut::Value;
/// assert_eq!(Value::from(142.5), Value::F64(142.5));
/// assert_eq!(Value::from(None::<f64>), Value::Null);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// No value.
    Null,
    /// For [`FieldType::F64`].
    F64(f64),
    /// For [`FieldType::I64`].
    I64(i64),
    /// For [`FieldType::U64`].
    U64(u64),
    /// For [`FieldType::Bool`].
    Bool(bool),
    /// For [`FieldType::Utf8`] and for tags.
    Utf8(&'a str),
    /// For [`FieldType::Decimal`]: the value times ten to the scale.
    Decimal(i128),
}

impl Value<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::F64(_) => "f64",
            Self::I64(_) => "i64",
            Self::U64(_) => "u64",
            Self::Bool(_) => "bool",
            Self::Utf8(_) => "utf8",
            Self::Decimal(_) => "decimal128",
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident($convert:expr),)*) => {$(
        impl From<$type> for Value<'_> {
            #[inline]
            fn from(value: $type) -> Self {
                Self::$variant($convert(value))
            }
        }
    )*};
}

from! {
    f64 => F64(std::convert::identity),
    f32 => F64(f64::from),
    i64 => I64(std::convert::identity),
    i32 => I64(i64::from),
    u64 => U64(std::convert::identity),
    u32 => U64(u64::from),
    bool => Bool(std::convert::identity),
    i128 => Decimal(std::convert::identity),
}

impl<'a> From<&'a str> for Value<'a> {
    #[inline]
    fn from(value: &'a str) -> Self {
        Self::Utf8(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    #[inline]
    fn from(value: &'a String) -> Self {
        Self::Utf8(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    #[inline]
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
