//! ASOF joins against a loop over all pairs, by every way that the operator has.

use std::fmt;

use arrow::array::{Int64Array, StringViewArray};
use datafusion::common::exec_err;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryLimit, MemoryPool, MemoryReservation, UnboundedMemoryPool,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::col;
use proptest::prelude::*;

use super::*;

/// How the join is made to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Index,
    /// Since the right side is said to be large.
    Merge,
    /// Since both sides are in order already.
    Ordered,
    /// Begun as an index that does not fit.
    Broken,
}

const WAYS: [Way; 4] = [Way::Index, Way::Merge, Way::Ordered, Way::Broken];

/// A pool that claims to be small, or refuses indexes.
#[derive(Debug)]
struct Pool {
    way: Way,
    inner: UnboundedMemoryPool,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.way)
    }
}

impl MemoryPool for Pool {
    fn name(&self) -> &'static str {
        "Pool"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::error::Result<()> {
        if self.way == Way::Broken && reservation.consumer().name() == "AsofJoinIndex" {
            return exec_err!("no index here");
        }
        self.inner.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        if self.way == Way::Merge { MemoryLimit::Finite(0) } else { MemoryLimit::Infinite }
    }
}

fn context(way: Way) -> SessionContext {
    context_of(way, 3)
}

fn context_of(way: Way, partitions: usize) -> SessionContext {
    let pool = Arc::new(Pool { way, inner: UnboundedMemoryPool::default() });
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(5);
    // The engine would part the tables, and lose their order.
    let config = config.with_repartition_file_scans(way != Way::Ordered);
    let context = SessionContext::new_with_config_rt(config, runtime);
    register(&context).unwrap();
    context
}

/// Key, time, and a value that tells rows apart.
type Row = (Option<i64>, Option<i64>, i64);

fn add_table(context: &SessionContext, name: &str, rows: &[Row], way: Way) {
    let mut rows = rows.to_vec();
    if way == Way::Ordered {
        rows.sort_by_key(|(k, t, _)| (k.is_none(), *k, t.is_none(), *t));
    }
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("k", column::<Int64Array, _>(rows.iter().map(|row| row.0)), true),
        // Longer than what a view holds in itself.
        (
            "s",
            column::<StringViewArray, _>(rows.iter().map(|row| row.0.map(|k| format!("a key of some length {k}")))),
            true,
        ),
        ("t", column::<Int64Array, _>(rows.iter().map(|row| row.1)), true),
        ("v", column::<Int64Array, _>(rows.iter().map(|row| Some(row.2))), true),
    ]);
    let batch = batch.unwrap();
    let partitions = if way == Way::Ordered { 1 } else { 2 };
    let cut = |part: usize| batch.num_rows() * part / partitions;
    let parts = (0..partitions).map(|part| {
        let part = batch.slice(cut(part), cut(part + 1) - cut(part));
        (0..part.num_rows()).step_by(4).map(|row| part.slice(row, 4.min(part.num_rows() - row))).collect()
    });
    let mut table = MemTable::try_new(batch.schema(), parts.collect()).unwrap();
    if way == Way::Ordered {
        table = table.with_sort_order(vec![vec![col("k").sort(true, false), col("t").sort(true, false)]]);
    }
    context.register_table(name, Arc::new(table)).unwrap();
}

#[derive(Clone, Debug)]
struct Case {
    left: Vec<Row>,
    right: Vec<Row>,
    operator: &'static str,
    keys: &'static str,
    tolerance: Option<(i64, bool)>,
    filter: &'static str,
}

fn rows(max: usize) -> impl Strategy<Value = Vec<Row>> {
    let row = (prop::option::weighted(0.9, 0..4_i64), prop::option::weighted(0.9, -15..15_i64), 0..1_000_i64);
    prop::collection::vec(row, 0..max)
}

fn case() -> impl Strategy<Value = Case> {
    let tolerance = prop::option::of((0..6_i64, any::<bool>()));
    (
        (rows(60), rows(60)),
        prop::sample::select(vec![">=", ">", "<=", "<"]),
        prop::sample::select(vec!["", "l.k = r.k", "r.s = l.s", "l.s = r.s AND l.k = r.k"]),
        tolerance,
        prop::sample::select(vec![
            "",
            "WHERE l.k = 2 AND l.t < 10",
            "WHERE l.s LIKE '%1'",
            "WHERE r.v > 500 OR r.v IS NULL",
        ]),
    )
        .prop_map(|((left, right), operator, keys, tolerance, filter)| Case {
            left,
            right,
            operator,
            keys,
            tolerance,
            filter,
        })
}

impl Case {
    fn text(&self) -> String {
        let difference = if self.operator.starts_with('>') { "l.t - r.t" } else { "r.t - l.t" };
        let bound = self
            .tolerance
            .map(|(limit, inclusive)| format!("{difference} {} {limit}", if inclusive { "<=" } else { "<" }));
        let on: Vec<String> =
            Some(self.keys.to_string()).filter(|keys| !keys.is_empty()).into_iter().chain(bound).collect();
        let on = if on.is_empty() { String::new() } else { format!("ON {}", on.join(" AND ")) };
        format!(
            "SELECT l.k, l.t, l.v, r.t AS rt, r.v AS rv FROM (l ASOF JOIN r MATCH_CONDITION (l.t {} r.t) {on}) {}
             ORDER BY l.k, l.t, l.v, rt, rv",
            self.operator, self.filter
        )
    }

    fn found(&self, k: Option<i64>, t: Option<i64>) -> Option<&Row> {
        let (left_time, keyed) = (t?, !self.keys.is_empty());
        if keyed && k.is_none() {
            return None;
        }
        let backward = self.operator.starts_with('>');
        let matches = |row: &&Row| {
            let Some(time) = row.1 else { return false };
            let in_order = match self.operator {
                ">=" => left_time >= time,
                ">" => left_time > time,
                "<=" => left_time <= time,
                _ => left_time < time,
            };
            in_order && (!keyed || row.0 == k)
        };
        let nearness = |row: &&Row| if backward { row.1 } else { row.1.map(|time| -time) };
        let found = self.right.iter().filter(matches).max_by_key(|row| (nearness(row), row.2))?;
        let apart = (left_time - found.1?).abs();
        let near =
            self.tolerance.is_none_or(|(limit, inclusive)| if inclusive { apart <= limit } else { apart < limit });
        near.then_some(found)
    }

    fn expected(&self) -> Vec<String> {
        type Cells = [Option<i64>; 5];
        let mut rows: Vec<Cells> = self
            .left
            .iter()
            .map(|(k, t, v)| {
                let found = self.found(*k, *t);
                [*k, *t, Some(*v), found.and_then(|row| row.1), found.map(|row| row.2)]
            })
            .filter(|[k, t, _, _, rv]| match self.filter {
                "WHERE l.k = 2 AND l.t < 10" => *k == Some(2) && t.is_some_and(|t| t < 10),
                "WHERE l.s LIKE '%1'" => *k == Some(1),
                "WHERE r.v > 500 OR r.v IS NULL" => rv.is_none_or(|v| v > 500),
                _ => true,
            })
            .collect();
        rows.sort_by_key(|row| row.map(|cell| (cell.is_none(), cell)));
        let show = |cell: &Option<i64>| cell.map(|cell| cell.to_string()).unwrap_or_default();
        rows.iter().map(|row| row.iter().map(show).collect::<Vec<_>>().join(",")).collect()
    }
}

proptest! {
    // Each is run in four ways.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn every_way_finds_what_a_loop_finds(case in case()) {
        for way in WAYS {
            let context = context(way);
            add_table(&context, "l", &case.left, way);
            add_table(&context, "r", &case.right, way);
            prop_assert_eq!(lines(&context, &case.text()), case.expected(), "{:?} {}", way, case.text());
        }
    }
}

fn plan_of(context: &SessionContext, text: &str) -> String {
    lines(context, &format!("EXPLAIN {text}")).join("\n")
}

#[test]
fn the_ways_are_taken() {
    let rows: Vec<Row> = (0..50).map(|n| (Some(n % 3), Some(n), n)).collect();
    let text = "SELECT * FROM (l ASOF JOIN r MATCH_CONDITION (l.t >= r.t) ON l.k = r.k)";
    for (way, mode) in WAYS.into_iter().zip(["index", "merge", "merge", "index"]) {
        let context = context(way);
        add_table(&context, "l", &rows, way);
        add_table(&context, "r", &rows, way);
        let plan = plan_of(&context, text);
        assert!(plan.contains(&format!("mode={mode}")), "{way:?}: {plan}");
        // The order that is there is used.
        assert_eq!(plan.contains("SortExec"), way == Way::Merge, "{way:?}: {plan}");
    }
}

#[test]
fn filters_move_below_the_join_and_keys_to_both_sides() {
    let context = context(Way::Index);
    add_table(&context, "l", &[], Way::Index);
    add_table(&context, "r", &[], Way::Index);
    let text = "SELECT r.v FROM (l ASOF JOIN r MATCH_CONDITION (l.t >= r.t) ON l.k = r.k)
        WHERE l.k = 7 AND l.v > 3 AND r.v > 5";
    let plan = context.state();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let plan = runtime.block_on(async { plan.optimize(&plan.create_logical_plan(text).await.unwrap()) }).unwrap();
    let shown = plan.display_indent().to_string();
    let (above, below) = shown.split_once("AsofJoin").unwrap();
    assert!(above.contains("r.v > Int64(5)") && !above.contains("l.k"), "{shown}");
    assert!(below.contains("l.k = Int64(7)") && below.contains("l.v > Int64(3)"), "{shown}");
    assert!(below.contains("r.k = Int64(7)") && !below.contains("r.v > "), "{shown}");
    // Columns that nobody asks for are not read.
    assert!(!below.contains("s,") && !below.contains(", s"), "{shown}");
}

#[test]
fn left_order_is_kept_in_every_way() {
    let left: Vec<Row> = (0..200).map(|n| (Some(n / 50), Some(n % 50), n)).collect();
    let right: Vec<Row> = (0..300).rev().map(|n| (Some(n % 4), Some(n / 6), n)).collect();
    for way in [Way::Index, Way::Broken] {
        let context = context_of(way, 1);
        add_table(&context, "l", &left, Way::Ordered);
        add_table(&context, "r", &right, way);
        let text = "SELECT l.k, l.t FROM (l ASOF JOIN r MATCH_CONDITION (l.t >= r.t) ON l.k = r.k) ORDER BY l.k, l.t";
        let plan = plan_of(&context, text);
        assert!(!plan.contains("SortExec"), "{way:?}: {plan}");
        let expected: Vec<String> = (0..200).map(|n| format!("{},{}", n / 50, n % 50)).collect();
        assert_eq!(lines(&context, text), expected, "{way:?}");
    }
}

#[test]
fn inputs_larger_than_memory_are_merged_even_if_all_have_one_key() {
    const ROWS: i64 = 150_000;
    // About half of either side.
    let pool = Arc::new(FairSpillPool::new(20 << 20));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
    let config = SessionConfig::new().with_target_partitions(2).with_sort_spill_reservation_bytes(256 << 10);
    let context = SessionContext::new_with_config_rt(config, runtime);
    register(&context).unwrap();
    // A statistic that says nothing, so that an index is tried first.
    for (name, step, keys) in [("l", 1, "0"), ("r", 2, "0"), ("s", 2, "n % 3")] {
        let text = format!(
            "CREATE VIEW {name} AS SELECT {keys} AS k, n * {step} AS t, n AS v, repeat('x', 200) || n AS s
             FROM (SELECT ((value * 7919) % {ROWS}) AS n FROM generate_series(0, {}) WHERE value > -random()) AS g",
            ROWS - 1
        );
        lines(&context, &text);
    }
    let found = |right: &str, on: &str| {
        lines(
            &context,
            &format!(
                "SELECT count(*), count(b.s), sum(a.t - b.t) FROM (l AS a ASOF JOIN {right} AS b
                 MATCH_CONDITION (a.t >= b.t) ON {on})"
            ),
        )
    };
    // An odd time finds the even one before it.
    assert_eq!(found("r", "a.k = b.k"), [format!("{ROWS},{ROWS},{}", ROWS / 2)]);
    // Every sixth time has one of key 0.
    let apart: i64 = (0..ROWS).map(|t| t % 6).sum();
    assert_eq!(found("s", "a.k = b.k"), [format!("{ROWS},{ROWS},{apart}")]);
}
