//! Pruning drops nothing that matches, and does drop.

use super::*;

/// The scan's line of a plan.
fn scan_line(store: &Store, text: &str) -> String {
    let plan = explain(store, text);
    let line = plan.lines().find(|line| line.contains("DenyutScan")).unwrap_or_else(|| panic!("no scan in {plan}"));
    line.trim().to_string()
}

#[test]
fn a_predicate_on_time_leaves_out_partitions_and_live_blocks() {
    let (store, _dir) = filled();
    let line = scan_line(
        &store,
        "SELECT max(level_cm) FROM water WHERE time >= '2026-01-01T02:00:00Z' AND time < '2026-01-01T03:00:00Z'",
    );
    assert!(line.contains("time=[2026-01-01T02:00:00Z..2026-01-01T02:59:59.999999999Z]"), "{line}");
    assert!(line.contains("partitions=1/12"), "{line}");
    assert!(line.contains("rows=360"), "{line}");
    assert!(line.contains("live_ranges=0/1"), "{line}");

    let line = scan_line(&store, "SELECT max(level_cm) FROM water WHERE time >= '2026-01-01T12:00:00Z'");
    assert!(line.contains("time=[2026-01-01T12:00:00Z..]"), "{line}");
    assert!(line.contains("segments=0/"), "{line}");
    assert!(line.contains("live_ranges=1/1"), "{line}");
}

#[test]
fn a_predicate_on_tags_leaves_out_rows_of_other_series() {
    let (store, _dir) = filled();
    let line = scan_line(&store, "SELECT max(level_cm) FROM water WHERE gate = 'Sei Wie' AND agency = 'BPBD'");
    assert!(line.contains("series=1/8"), "{line}");
    assert!(line.contains(&format!("rows={}", 4_320 / 8 + 680)), "{line}");
    let line = scan_line(&store, "SELECT max(level_cm) FROM water WHERE gate LIKE '%longer%'");
    assert!(line.contains("series=2/8"), "{line}");
    let line = scan_line(&store, "SELECT max(level_cm) FROM water WHERE gate = 'nowhere'");
    assert!(line.contains("series=0/8, partitions=0/12"), "{line}");
    assert!(line.contains("rows=0, live_ranges=0/1"), "{line}");
}

#[test]
fn predicates_on_fields_prune_nothing() {
    let (store, _dir) = filled();
    let line = scan_line(&store, "SELECT max(level_cm) FROM water WHERE number = 7 OR gate = 'Sei Wie'");
    assert!(!line.contains("series="), "{line}");
    assert!(line.contains("rows=5000"), "{line}");
}

/// The same answer with pruning and without: a predicate with `random()` in it is not given to a scan.
#[test]
fn answers_are_those_of_a_scan_of_everything() {
    let (store, _dir) = filled();
    let predicates = [
        "time >= '2026-01-01T02:00:00Z' AND time < '2026-01-01T03:00:00Z'",
        "time BETWEEN '2026-01-01T11:58:00Z' AND '2026-01-01T12:01:30Z'",
        "time NOT BETWEEN '2026-01-01T01:00:00Z' AND '2026-01-01T13:00:00Z'",
        "time IN ('2026-01-01T00:00:10Z', '2026-01-01T13:00:00Z', '2031-01-01')",
        "time = '2026-01-01T00:00:10Z' OR time > '2026-01-01T13:50:00Z'",
        "time = '2026-01-01T00:00:10Z' AND time > '2026-01-01T13:50:00Z'",
        "'2026-01-01T00:30:00Z' > time",
        "time <> '2026-01-01T00:30:00Z'",
        "time < now()",
        "time < TIMESTAMP '2026-01-01T07:30:00'",
        "time >= DATE '2026-01-01' AND time < DATE '2026-01-01' + INTERVAL '90 minutes'",
        "time > '1700-01-01' AND time < '2200-01-01'",
        "CAST(time AS DATE) = DATE '2026-01-01'",
        "CAST(time AS TIMESTAMP(0)) = '2026-01-01T00:00:10'",
        "date_trunc('hour', time) = '2026-01-01T05:00:00Z'",
        "date_bin(INTERVAL '1 hour', time) >= '2026-01-01T12:00:00Z'",
        "extract(hour FROM time) = 3",
        "NOT (time < '2026-01-01T06:00:00Z')",
        "time + INTERVAL '1 hour' > '2026-01-01T12:00:00Z'",
        "gate = 'Sei Wie'",
        "gate <> 'Sei Wie'",
        "gate IN ('Sei Wie', 'Kuala Dua') AND agency LIKE 'B%'",
        "gate || agency = 'Sei WiePUPR'",
        "gate = agency",
        "length(gate) > 12 OR agency = 'BPBD'",
        "gate IS NULL",
        "gate IS NOT NULL",
        "nullif(gate, 'Sei Wie') IS NULL",
        "1 / (length(gate) - 7) > 0",
        "(gate = 'Sei Wie' AND time < '2026-01-01T01:00:00Z') OR (gate = 'Kuala Dua' AND time > '2026-01-01T13:00:00Z')",
        "(gate = 'Sei Wie' OR number > 4000) AND time > '2026-01-01T06:00:00Z'",
        "number > 4990 OR time = '2026-01-01T00:00:00Z'",
        "open AND gate = 'Sei Wie'",
        "false",
        "true",
    ];
    for predicate in predicates {
        let ask = |predicate: &str| {
            store.query(&format!(
                "SELECT count(*) AS n, sum(number) AS sum, min(number) AS low, max(number) AS high, count(note) AS notes,
                        max(note) AS note, sum(level_cm) AS level, count(*) FILTER (WHERE open) AS opened, max(gate) AS gate
                 FROM water WHERE {predicate}"
            ))
        };
        match (ask(predicate), ask(&format!("({predicate}) OR random() < 0"))) {
            (Ok(pruned), Ok(whole)) => assert_eq!(pruned.to_string(), whole.to_string(), "{predicate}"),
            (Err(pruned), Err(whole)) => assert_eq!(pruned.to_string(), whole.to_string(), "{predicate}"),
            (pruned, whole) => panic!("{predicate}: {pruned:?} with pruning, {whole:?} without"),
        }
    }
}

/// Random ranges of time and sets of gates, on the edges as often as between them.
#[test]
fn random_ranges_lose_no_row() {
    let (store, _dir) = filled();
    let mut state = 42_u64;
    let mut next = |below: i64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below as u64) as i64
    };
    for _ in 0..60 {
        let (low, high, gate) = (next(5_200) - 100, next(5_200) - 100, next(5) as usize);
        let by_gate = |number: i64| gate == 4 || number % 4 == gate as i64;
        let expected: Vec<i64> = (0..5_000).filter(|n| (low..=high).contains(n) && by_gate(*n)).collect();
        let at = |number: i64| Time::from_nanos(START_NS + number * 10_000_000_000);
        let of_gate = GATES.get(gate).map_or(String::new(), |gate| format!("AND gate = '{gate}'"));
        let rows = store
            .query(&format!(
                "SELECT count(*) AS n, coalesce(sum(number), 0) AS sum FROM water
                 WHERE time >= '{}' AND time <= '{}' {of_gate}",
                at(low),
                at(high)
            ))
            .unwrap();
        let context = format!("{low}..={high} of gate {gate}");
        assert_eq!(rows.i64(0, "n").unwrap(), Some(expected.len() as i64), "{context}");
        assert_eq!(rows.i64(0, "sum").unwrap(), Some(expected.iter().sum()), "{context}");
    }
}

#[test]
fn a_limit_reads_no_more_than_it_needs() {
    let (store, _dir) = filled();
    assert!(scan_line(&store, "SELECT number FROM water LIMIT 5").contains("rows=5,"));
    assert_eq!(store.query("SELECT number FROM water LIMIT 5").unwrap().num_rows(), 5);
    assert_eq!(store.query("SELECT number FROM water LIMIT 4990 OFFSET 4800").unwrap().num_rows(), 200);
    assert_eq!(store.query("SELECT number FROM water WHERE gate = 'Sei Wie' LIMIT 1249").unwrap().num_rows(), 1_249);
}
