//! What can be wrong with one row of a feed.

/// Why a row goes to quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// No time where one is needed.
    NoTime,
    /// Text that is not a time of the declared kind, or one that 64 bits of nanoseconds cannot say.
    BadTime,
    /// A wall clock that its zone showed twice.
    AmbiguousTime,
    /// A wall clock that its zone skipped.
    SkippedTime,
    /// Text that is no number.
    BadNumber,
    /// A number that the field's type cannot hold exactly.
    OutOfRange,
    /// Text that is neither true nor false.
    BadBool,
    /// A value of a type that the field does not have.
    WrongType,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A tag without a value.
    NoTag,
    /// A required field without a value.
    NoField,
    /// A value or a record longer than its limit.
    TooLong,
    /// More or fewer columns than the header.
    WrongColumns,
    /// A quote that is not closed.
    OpenQuote,
    /// Text behind a closing quote.
    TextAfterQuote,
    /// The rest of a row of which an earlier import had the beginning.
    CutRow,
    /// Text that is not a JSON object of one line.
    BadJson,
    /// An object or array where a plain value is needed.
    Nested,
    /// Text that is not line protocol.
    BadLine,
    /// One name twice.
    Duplicate,
    /// A table, a tag or a field that cannot be made.
    NoPlace,
    /// A table that is given a new tag.
    NewTag,
}

impl Fault {
    /// The tag `reason`, and what it says to people.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::NoTime => ("no_time", "the row has no time"),
            Self::BadTime => ("bad_time", "this is not a time of the declared kind"),
            Self::AmbiguousTime => ("ambiguous_time", "the zone's clocks showed this twice; say which is meant"),
            Self::SkippedTime => ("skipped_time", "the zone's clocks never showed this"),
            Self::BadNumber => ("bad_number", "this is not a number"),
            Self::OutOfRange => ("out_of_range", "the field cannot hold this number exactly"),
            Self::BadBool => ("bad_bool", "this is neither true nor false"),
            Self::WrongType => ("wrong_type", "the field has another type"),
            Self::NotUtf8 => ("not_utf8", "the bytes are not UTF-8"),
            Self::NoTag => ("no_tag", "every row needs every tag"),
            Self::NoField => ("no_field", "the field is required"),
            Self::TooLong => ("too_long", "this is longer than its limit"),
            Self::WrongColumns => ("wrong_columns", "the row has more or fewer columns than the header"),
            Self::OpenQuote => ("open_quote", "a quote is not closed"),
            Self::TextAfterQuote => ("text_after_quote", "a closing quote is followed by text"),
            Self::CutRow => ("cut_row", "an earlier import had the beginning of this row"),
            Self::BadJson => ("bad_json", "this is not a JSON object on one line"),
            Self::Nested => ("nested", "this is an object or an array, not a plain value"),
            Self::BadLine => ("bad_line", "this is not line protocol"),
            Self::Duplicate => ("duplicate", "the name is in the row twice"),
            Self::NoPlace => ("no_place", "the table or the field cannot be made"),
            Self::NewTag => ("new_tag", "the table has no such tag, and tags cannot be added"),
        }
    }

    /// As the quarantine's tag says it.
    pub(crate) fn as_str(self) -> &'static str {
        self.texts().0
    }

    /// As a sentence.
    pub(crate) fn message(self) -> &'static str {
        self.texts().1
    }
}

/// A fault, and the column of the record that has it, counted as the record has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faulty {
    pub(crate) fault: Fault,
    pub(crate) column: Option<usize>,
}

impl Fault {
    /// In a column.
    pub(crate) fn at(self, column: usize) -> Faulty {
        Faulty { fault: self, column: Some(column) }
    }

    /// Of the record as a whole.
    pub(crate) fn whole(self) -> Faulty {
        Faulty { fault: self, column: None }
    }
}
