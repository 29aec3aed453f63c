//! Which names tables, tags and fields may have.
//!
//! The rules are SQL's unquoted ones, so that no statement needs quotes; names are data in the manifest and **never
//! become paths**.

use crate::error::{Error, Result};

/// Longest name, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// The column that every table has.
pub(crate) const TIME: &str = "time";

/// The column of tables that keep when each row arrived.
pub(crate) const INGEST_TIME: &str = "ingest_time";

/// Prefix of what the store has for itself: columns of segments, and a table.
pub(crate) const HIDDEN_PREFIX: &str = "__";

/// Whether a name is the store's own. [`check`] lets no user give one.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with(HIDDEN_PREFIX)
}

/// Checks the name of a `what`.
pub(crate) fn check(what: &'static str, name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "it is longer than 63 bytes"
    } else if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        "it does not start with a lower-case letter"
    } else if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
        "it has a character other than a-z, 0-9 and _"
    } else if what != "table" && name == TIME {
        "every table has the column time already"
    } else if what == "table" && (name == "system" || name == "information_schema") {
        "it is a schema of the system's"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { what, name: name.chars().take(80).collect(), reason })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_that_could_be_paths_or_statements_are_refused() {
        for bad in [
            "",
            "../x",
            "\"; drop",
            "a/b",
            "__quarantine",
            "a b",
            "A",
            "1a",
            "_a",
            "a\0",
            "é",
            &"a".repeat(64),
            ".",
            "a.b",
        ] {
            assert!(matches!(check("table", bad), Err(Error::InvalidName { .. })), "{bad:?}");
        }
        for good in ["a", "water", "level_cm", "pm25", &"a".repeat(63)] {
            check("field", good).unwrap();
        }
        assert!(check("field", "time").is_err());
        assert!(check("table", "system").is_err());
    }
}
