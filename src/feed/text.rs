//! SQL text from data: every name and value that goes into a statement of this crate's making goes through here.

use std::time::Duration;

use crate::model::Time;
use crate::model::time::nanos_of;

/// A name, which may be a word of SQL.
pub(super) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A time, as a constant of the type of `time`.
pub(super) fn time(time: Time) -> String {
    format!("arrow_cast({}, 'Timestamp(Nanosecond, Some(\"UTC\"))')", time.as_nanos())
}

/// A number, with its point.
pub(super) fn number(number: f64) -> String {
    match number {
        finite if finite.is_finite() => format!("CAST({finite:?} AS DOUBLE)"),
        other => format!("CAST('{other}' AS DOUBLE)"),
    }
}

/// `names`, each as a name, with commas between.
pub(super) fn names<'a>(all: impl IntoIterator<Item = &'a String>) -> String {
    all.into_iter().map(|one| name(one)).collect::<Vec<_>>().join(", ")
}

/// A moment less a duration, at the begin of time at least.
pub(super) fn before(moment: Time, duration: Duration) -> Time {
    Time::from_nanos(moment.as_nanos().saturating_sub(nanos_of(duration)))
}
