//! Text of SQL through the guarded session, over a small store.

use std::sync::OnceLock;
use std::time::Duration;

use super::{Input, append, numbered};
use crate::fs::sim::SimFs;
use crate::prelude::*;

/// Words that statements are made of. An input is bytes of text, or numbers of these, so that it gets past the parser.
const WORDS: &str = "SELECT|FROM|WHERE|GROUP BY|ORDER BY|LIMIT|OFFSET|HAVING|JOIN|LEFT JOIN|CROSS JOIN|ON|UNION ALL|WITH|AS|\
    RECURSIVE|EXPLAIN|VALUES|CASE|WHEN|THEN|ELSE|END|AND|OR|NOT|IN|IS NULL|BETWEEN|LIKE|CAST(|EXISTS|\
    DISTINCT|OVER (|PARTITION BY|INTERVAL|'1 hour'|numbered|system.tables|system.segments|number|writer|text|\
    cost|time|*|(|)|,|.|=|<|>|+|-|/|%|0|1|-1|9223372036854775807|1e308|NULL|true|'a'|''|x|count(|sum(|min(|\
    max(|avg(|first(|last(|date_bin(|date_bin_gapfill(|locf(|interpolate(|generate_series(|repeat(|now()|\
    array_agg(|latest(|CREATE TABLE|DROP TABLE|INSERT INTO|DELETE FROM|SET|COPY|TO|;|--|\"|::|int|[1]|EXTRACT(|\
    UPDATE|ASOF JOIN|LATERAL|UNNEST(|FILTER (|ROWS BETWEEN|UNBOUNDED PRECEDING|NULLS FIRST|EXCEPT|INTERSECT|\
    TRUE|STRUCT(|MAP|{|}|:|CONCAT";

fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    let make = || {
        let options = Store::options().query_timeout(Duration::from_secs(2)).query_bytes_max(64 << 20);
        let options = options.query_rows_max(10_000).query_threads(1);
        let path = std::env::temp_dir().join(format!("denyut-fuzz-{}", std::process::id()));
        // On the simulator; what a query spills goes to a directory of that name on the machine.
        let (fs, options) = (SimFs::new(1), options.without_background());
        let store = Store::open_on(fs, options, &path).expect("a whole machine makes a store");
        let mut writer = store.table(numbered()).and_then(|table| table.writer()).expect("the schema is sound");
        for number in 0..300 {
            append(&mut writer, if number % 2 == 0 { "a" } else { "b" }, number).expect("there is room");
            if number == 200 {
                store.seal().expect("a whole machine seals");
            }
        }
        store
    };
    STORE.get_or_init(make)
}

/// Any text: an answer or a typed error, and the store is as it was.
pub fn sql_text(bytes: &[u8]) {
    let mut input = Input(bytes);
    let text = if input.u8() & 1 == 0 {
        String::from_utf8_lossy(input.0).into_owned()
    } else {
        let words: Vec<&str> = WORDS.split('|').collect();
        let word = |byte: &u8| words.get(usize::from(*byte) % words.len()).copied().unwrap_or_default();
        input.0.iter().map(word).collect::<Vec<_>>().join(" ")
    };
    let store = store();
    if let Err(error) = store.query(&text) {
        let said = error.to_string();
        assert!(!said.is_empty() && !said.contains("panicked"), "{text:?}: {said}");
    }
    let rows = store.query("SELECT count(*) AS n FROM numbered").expect("the store is as it was");
    assert_eq!(rows.i64(0, "n").expect("a count is a number"), Some(300), "{text:?}");
}
