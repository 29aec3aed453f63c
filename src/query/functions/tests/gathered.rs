//! Rows of groups brought together before their gaps are filled, with memory for it and without.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray, TimestampSecondArray};
use datafusion::common::resources_datafusion_err;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryPool, MemoryReservation, UnboundedMemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

use super::{column, lines, register};

/// Memory without end, but that rows gathered are refused more than so many bytes.
#[derive(Debug)]
struct Refusing {
    bytes: usize,
    all: UnboundedMemoryPool,
}

impl MemoryPool for Refusing {
    fn name(&self) -> &str {
        "refusing"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let is_gathering = reservation.consumer().name().starts_with("GapFillRows");
        if is_gathering && reservation.size() + additional > self.bytes {
            return Err(resources_datafusion_err!("{additional} bytes are refused"));
        }
        self.all.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.all.reserved()
    }
}

impl std::fmt::Display for Refusing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

type Key = (Option<i64>, Option<&'static str>);
type Row = (Key, i64, Option<i64>);

const SECONDS: i64 = 200;

/// A session over `t` of these rows, in batches of 8 dealt to three partitions, that gathers at most so many bytes.
fn gathering(rows: &[Row], bytes: usize) -> SessionContext {
    let columns = RecordBatch::try_from_iter_with_nullable([
        ("a", column::<Int64Array, _>(rows.iter().map(|row| row.0.0)), true),
        ("b", column::<StringArray, _>(rows.iter().map(|row| row.0.1)), true),
        ("time", column::<TimestampSecondArray, _>(rows.iter().map(|row| Some(row.1))), true),
        ("v", column::<Float64Array, _>(rows.iter().map(|row| row.2.map(|value| value as f64))), true),
    ])
    .unwrap();
    let mut partitions = vec![Vec::new(); 3];
    for (number, first) in (0..rows.len()).step_by(8).enumerate() {
        partitions[number % 3].push(columns.slice(first, 8.min(rows.len() - first)));
    }
    let pool = Refusing { bytes, all: UnboundedMemoryPool::default() };
    let config = SessionConfig::new().with_target_partitions(3).with_batch_size(16);
    let config = config.with_sort_spill_reservation_bytes(0);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc().unwrap();
    let context = SessionContext::new_with_config_rt(config, runtime);
    register(&context).unwrap();
    context.register_table("t", Arc::new(MemTable::try_new(columns.schema(), partitions).unwrap())).unwrap();
    context
}

fn query(keys: &str, order: &str) -> String {
    let comma = if keys.is_empty() { "" } else { ", " };
    format!(
        "SELECT {keys}{comma}CAST(date_bin_gapfill(INTERVAL '10 seconds', time) AS BIGINT) AS bin, max(v), \
         locf(max(v)) FROM t WHERE time >= arrow_cast(0, 'Timestamp(Second, None)') AND \
         time < arrow_cast({SECONDS}, 'Timestamp(Second, None)') \
         GROUP BY {keys}{comma}date_bin_gapfill(INTERVAL '10 seconds', time) {order}"
    )
}

fn shown(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:?}"))
}

/// All bins of all groups, by loops; groups by key, nulls last, as lines without keys that `keep` does not name.
fn by_loops(rows: &[Row], keep: [bool; 2]) -> Vec<String> {
    let key = |row: &Row| {
        let (a, b) = row.0;
        let one = keep[0].then_some((a.is_none(), a));
        let other = keep[1].then_some((b.is_none(), b));
        (one, other)
    };
    let groups: BTreeSet<_> = rows.iter().map(key).collect();
    let mut wanted = Vec::new();
    for group in groups {
        let mut bins = BTreeMap::new();
        for row in rows.iter().filter(|row| key(row) == group) {
            let bin: &mut Option<i64> = bins.entry(row.1 / 10 * 10).or_default();
            *bin = (*bin).max(row.2);
        }
        let mut last = None;
        for bin in (0..SECONDS).step_by(10) {
            let value = bins.get(&bin).copied().flatten().map(|value| value as f64);
            last = value.or(last);
            let a = group.0.map(|(_, a)| a.map_or(String::new(), |a| a.to_string()));
            let b = group.1.map(|(_, b)| b.unwrap_or("").to_string());
            let cells = [a, b, Some(bin.to_string()), Some(shown(value)), Some(shown(last))];
            wanted.push(cells.into_iter().flatten().collect::<Vec<_>>().join(","));
        }
    }
    wanted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn groups_are_whole_and_in_order_whatever_memory_there_is(
        rows in prop::collection::vec(
            ((prop::option::weighted(0.8, 0..30_i64), prop::sample::select(vec![
                None, Some("b"), Some("a"), Some("a name that is longer than a view holds"),
            ])), 0..SECONDS, prop::option::weighted(0.8, -9..9_i64)),
            0..300,
        ),
        is_in_time in any::<bool>(),
        bytes in prop::sample::select(vec![0, 1_000, 3_000, 8_000, usize::MAX]),
    ) {
        let mut rows: Vec<Row> = rows;
        if is_in_time {
            rows.sort_by_key(|row| row.1);
        }
        let context = gathering(&rows, bytes);
        for (keys, keep) in [("a, b", [true, true]), ("a", [true, false]), ("b", [false, true]), ("", [false, false])] {
            let wanted = by_loops(&rows, keep);
            let order = [keys, "bin"].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
            let text = query(keys, &format!("ORDER BY {order}"));
            prop_assert_eq!(&lines(&context, &text), &wanted, "{} bytes: {}", bytes, text);
            let (mut found, mut any) = (lines(&context, &query(keys, "")), wanted);
            found.sort();
            any.sort();
            prop_assert_eq!(found, any, "{} bytes, {} in any order", bytes, keys);
        }
    }
}

fn many(count: i64) -> Vec<Row> {
    // Bins descend, and each group has one row in three.
    let row = |number: i64| ((Some(number * 7 % 40), None), SECONDS - 1 - number % SECONDS, Some(number));
    (0..count).map(row).collect()
}

/// How many partitions were sorted, as EXPLAIN ANALYZE tells.
fn sorted_partitions(context: &SessionContext, text: &str) -> usize {
    let plan = lines(context, &format!("EXPLAIN ANALYZE {text}")).join("\n");
    let (_, behind) = plan.split_once("sorted_partitions=").unwrap_or_else(|| panic!("no count in\n{plan}"));
    behind.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn rows_for_which_memory_is_short_are_sorted() {
    let rows = many(4_000);
    let text = query("a", "ORDER BY a, bin");
    let wanted = by_loops(&rows, [true, false]);
    let mut counts = Vec::new();
    for bytes in [usize::MAX, 6_000, 0] {
        let context = gathering(&rows, bytes);
        assert_eq!(lines(&context, &text), wanted, "{bytes} bytes");
        counts.push(sorted_partitions(&context, &text));
    }
    assert_eq!(counts, [0, 3, 3]);
}

#[test]
fn an_order_is_used_where_it_is_and_made_where_it_is_not() {
    let rows = many(400);
    let context = gathering(&rows, usize::MAX);
    // Bins as they are: what is made of them is in no order that DataFusion knows of.
    let plan = |text: &str| {
        let bare = text.replace("CAST(date_bin", "date_bin").replace(" AS BIGINT)", "");
        lines(&context, &format!("EXPLAIN {bare}")).join("\n")
    };
    // Groups come by key, and nobody sorts rows for it.
    for text in [query("a", ""), query("a", "ORDER BY a, bin"), query("a, b", "ORDER BY a, b")] {
        let plan = plan(&text);
        assert!(plan.contains("groups gathered") && !plan.contains("SortExec"), "{text}\n{plan}");
    }
    // Every other order is made above.
    for (order, reversed) in [("a DESC, bin", true), ("bin, a", false)] {
        let text = query("a", &format!("ORDER BY {order}"));
        assert!(plan(&text).contains("SortExec"), "{text}");
        let cell = |line: &str, at: usize| line.split(',').nth(at).unwrap().parse::<i64>().unwrap();
        let mut wanted = by_loops(&rows, [true, false]);
        let sign = if reversed { -1 } else { 1 };
        let place = |line: &String| (sign * cell(line, 0), cell(line, 1));
        wanted.sort_by_key(|line| if reversed { place(line) } else { (cell(line, 1), cell(line, 0)) });
        assert_eq!(lines(&context, &text), wanted, "{text}");
    }
    // Values are in no order of their own, also behind a key.
    let mut found = lines(&context, &query("a", "ORDER BY a, max(v) NULLS FIRST"));
    let mut wanted = by_loops(&rows, [true, false]);
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}
