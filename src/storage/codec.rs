//! Little-endian bytes of manifest and series records. Reading never panics: bytes that end early are `None`.

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

macro_rules! numbers {
    ($($type:ident),*) => {
        impl Encoder {$(
            pub(crate) fn $type(&mut self, value: $type) -> &mut Self {
                self.bytes.extend_from_slice(&value.to_le_bytes());
                self
            }
        )*}
        impl Decoder<'_> {$(
            pub(crate) fn $type(&mut self) -> Option<$type> {
                Some($type::from_le_bytes(*self.take(size_of::<$type>())?.first_chunk()?))
            }
        )*}
    };
}

numbers!(u8, u32, u64, i64);

impl Encoder {
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        // Names and tag values are limited to far less than 4 GiB when they are accepted.
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// `None` is the smallest number, which no duration is.
    pub(crate) fn optional(&mut self, value: Option<i64>) -> &mut Self {
        self.i64(value.unwrap_or(i64::MIN))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes values off a slice.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.u32()?).ok()?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    pub(crate) fn optional(&mut self) -> Option<Option<i64>> {
        Some(Some(self.i64()?).filter(|value| *value != i64::MIN))
    }
}
