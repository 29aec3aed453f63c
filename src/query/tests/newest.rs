//! The newest buckets: that they are what all rows give, and that older rows are not read.

use super::chance::Chance;
use super::on_off::{RandomStore, check};
use super::*;

#[test]
fn the_answers_are_those_of_all_rows() {
    let chance = &mut Chance::seeded();
    let rounds = std::env::var("DENYUT_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    let mut random = RandomStore::new(chance);
    for round in 0..rounds {
        if round % 3 == 2 {
            random = RandomStore::new(chance);
        }
        random.grow(chance, 3_000);
        let mut bound = || START_NS + chance.below(40_000) as i64 * 1_000_000_000;
        let (a, b) = (bound(), bound());
        let range = match round % 3 {
            0 => "true".to_string(),
            1 => format!("time < to_timestamp_nanos({a})"),
            _ => format!("time BETWEEN to_timestamp_nanos({}) AND to_timestamp_nanos({})", a.min(b), a.max(b)),
        };
        let limit = 1 + chance.below(12);
        let bucket = *chance.one_of(&[
            "date_bin(INTERVAL '1 minute', time)",
            "date_bin(INTERVAL '7 minutes', time, '2031-01-01T00:00:13Z')",
            "date_bin(INTERVAL '1 month', time)",
            "date_trunc('minute', time)",
        ]);
        let tags = *chance.one_of(&["true", "gate = 'Sei Wie'", "agency <> 'PUPR' AND gate <> 'Sei Wie'"]);
        let rows = format!("FROM water WHERE {range} AND {tags}");
        let most = if random.special { "max(number), last(level_cm, time)" } else { "max(level_cm)" };
        for text in [
            format!("SELECT {bucket} AS t, {most}, count(*) {rows} GROUP BY t ORDER BY t DESC LIMIT {limit}"),
            format!(
                "SELECT gate, {bucket} AS t, sum(number) {rows} GROUP BY t, gate ORDER BY t DESC, gate LIMIT {limit}"
            ),
            format!("SELECT {bucket} AS t, count(*) {rows} GROUP BY t ORDER BY t DESC LIMIT {limit} OFFSET 2"),
        ] {
            check(&random.store, &text, "");
        }
        // Whatever the rows are, there are some of one bucket; and of the newest of them no other needs to be read.
        let newest = format!("SELECT {bucket} AS t, {most}, count(*) FROM water GROUP BY t ORDER BY t DESC LIMIT 1");
        check(&random.store, &newest, "newest_buckets");
    }
}

#[test]
fn older_rows_are_not_read() {
    let (store, _dir) = filled();
    let shows = |text: &str| explain(&store, text).contains("newest_buckets");
    let of = |rest: &str, order: &str| {
        format!(
            "SELECT date_bin(INTERVAL '10 minutes', time) AS t, max(level_cm) FROM water {rest} GROUP BY t {order} LIMIT 5"
        )
    };
    let newest = "ORDER BY t DESC";
    let text = of("WHERE time < '2026-01-01T09:00:00Z'", newest);
    let plan = explain(&store, &text);
    assert!(plan.contains("time=[2026-01-01T08:10:00Z..2026-01-01T08:59:59.999999999Z]"), "{plan}");
    assert!(plan.contains("partitions=1/12") && shows(&text), "{plan}");
    for text in
        [of("", newest), of("WHERE gate = 'Sei Wie'", newest), of("WHERE time >= '2026-01-01T02:00:00Z'", newest)]
    {
        assert!(shows(&text), "{text}");
        check(&store, &text, "newest_buckets");
    }
    for text in [
        of("", "ORDER BY t"),
        of("", "ORDER BY max(level_cm) DESC, t DESC"),
        of("WHERE level_cm > 3", newest),
        of("WHERE time < '2026-01-01T01:00:00Z' OR time > '2026-01-01T05:00:00Z'", newest),
        "SELECT date_bin(INTERVAL '10 minutes', time) AS t, count(*) AS n FROM water GROUP BY t HAVING count(*) > 70 \
         ORDER BY t DESC LIMIT 5"
            .into(),
        "SELECT date_bin(INTERVAL '10 minutes', time + INTERVAL '1 day') AS t FROM water GROUP BY t ORDER BY t DESC LIMIT 5"
            .into(),
    ] {
        assert!(!shows(&text), "{text}");
    }
}

#[test]
fn a_prepared_statement_begins_where_its_end_is() {
    let (store, _dir) = filled();
    let text = "SELECT date_bin(INTERVAL '10 minutes', time) AS t, max(number) AS n FROM water WHERE time < $1 \
                GROUP BY t ORDER BY t DESC LIMIT 2";
    let prepared = store.prepare(text).unwrap();
    for minutes in [20, 300, 700, 5_000] {
        let end = Time::from_nanos(START_NS + minutes * 60_000_000_000);
        let plain = text.replace("$1", &format!("to_timestamp_nanos({})", end.as_nanos()));
        let (found, wanted) = (prepared.query(&[end.into()]).unwrap(), store.query(&plain).unwrap());
        assert_eq!(found.to_string(), wanted.to_string(), "{minutes}");
        assert_eq!(found.i64(0, "n").unwrap(), Some((minutes * 6 - 1).min(4_999)));
    }
}
