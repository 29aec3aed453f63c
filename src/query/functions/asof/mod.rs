//! `ASOF JOIN`: to each row of the left table, the row of the right one that is nearest in time.
//!
//! [`syntax`] makes a [`node`] of the statement's clause; [`exec`] runs it. If the right side fits in memory it becomes an
//! [`index`], which the rows of the left side ask as they come, in any order, without being sorted. If it does not, both
//! sides are sorted, which spills, and [`merge`]d, which holds a few batches. [`keys`] makes numbers of times and bytes of
//! keys, so that both ways compare alike.

mod exec;
mod index;
mod keys;
mod merge;
mod node;
mod syntax;

pub(super) use exec::AsofPlanner;
pub(super) use node::{PushLeftFilters, is_asof};
pub(super) use syntax::AsofSyntax;
pub(in crate::query) use syntax::with_brackets;

use super::Entry;

pub(super) const REFERENCE: &[Entry] = &[Entry {
    name: "ASOF JOIN",
    signature: "FROM a ASOF JOIN b MATCH_CONDITION (a.time >= b.time) [ON a.key = b.key [AND ..] [AND a.time - b.time <= tolerance]]",
    summary: "To each row of a, the row of b with the same keys that is nearest in time; nulls if there is none.",
    details: "MATCH_CONDITION compares a time of each table: >= takes the latest row of b that is not after a's, > the \
latest before it; <= the earliest not before it, < the earliest after it. Times are timestamps, dates, or numbers; of two \
types, the common one. ON (or USING) holds equalities between a and b, and may hold a tolerance: the difference of the \
two times, in the order that makes it positive, below (<=, <) a constant: an interval of days and smaller units for \
times, a number for numbers.

Nulls: a row of a with a null key or time is kept and finds nothing; such a row of b is never found. Every row of a comes \
once. Ties: if rows of b with equal keys have the time that is found, the one with the greatest values is taken, column \
by column as the query uses them, nulls least, so that the answer does not depend on how rows are stored.

Cost: b is held in memory and sorted, and a is read as it comes, one search a row. If b does not fit in the session's \
memory, or is known to be large, both are sorted with spilling and merged. Filters on a, and on keys, are applied before \
the join. In a session of a host's own, write brackets: FROM (a ASOF JOIN b ..).

Errors: other comparisons in MATCH_CONDITION or ON, types that have no common time, a tolerance that is negative, not \
constant, or counted in months. Form: Snowflake.",
    example: "SELECT a.t, b.v FROM ((VALUES (1), (5)) AS a(t) ASOF JOIN (VALUES (2, 'x'), (4, 'y')) AS b(t, v)
MATCH_CONDITION (a.t >= b.t)) ORDER BY a.t
-- 1,
-- 5,y",
}];
