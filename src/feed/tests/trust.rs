//! What an answer says of its own completeness.

use super::*;

const NOON: &str = "2026-03-02T12:00:00Z";

/// Two feeds of one table, an hour of them: all rows of the first, half of the second's; and a table without a contract.
fn filled() -> (Store, tempfile::TempDir) {
    let (store, dir) = city(HOUR);
    let water = || Schema::new("water").tag("agency").f64("level_cm", "cm").cadence(10 * MINUTE);
    let mut writer = store.table(water()).unwrap().writer().unwrap();
    for (agency, step) in [("PUPR", 1), ("BPBD", 2)] {
        let feed = Feed::new(agency.to_lowercase(), agency, water()).rows("agency", agency);
        store.declare_feed(&feed, at("2026-01-01T00:00:00Z")).unwrap();
        for slot in (0..6).step_by(step) {
            writer.append_at(minutes(at(NOON), -5 - 10 * slot as i64), row! { agency: agency, level_cm: 1.0 }).unwrap();
        }
    }
    store.table(Schema::new("notes").tag("who").utf8("text", "")).unwrap();
    (store, dir)
}

#[test]
fn completeness_is_of_the_feeds_and_times_that_a_statement_reads() {
    let (store, _dir) = filled();
    let told = |text: &str| {
        let text = text.replace('\'', "''");
        let columns = "feed, table_name, until_time, last_row, age_s, expected, present, present_share";
        rows(&store, &format!("SELECT {columns} FROM completeness('{text}', '{NOON}') ORDER BY feed"))
    };
    let whole = [
        "bpbd|water|2026-03-02T12:00:00Z|2026-03-02T11:55:00Z|300.0|6|3|0.5",
        "pupr|water|2026-03-02T12:00:00Z|2026-03-02T11:55:00Z|300.0|6|6|1.0",
    ];
    assert_eq!(told("SELECT max(level_cm) FROM water"), whole);
    // The last half hour, by the predicates on time; and what a subquery, a common table expression and a join read.
    let half = [
        "bpbd|water|2026-03-02T11:30:00Z|2026-03-02T11:15:00Z|900.0|3|1|0.3333333333333333",
        "pupr|water|2026-03-02T11:30:00Z|2026-03-02T11:25:00Z|300.0|3|3|1.0",
    ];
    let range = "time > TIMESTAMP '2026-03-02T11:00:00Z' AND time <= TIMESTAMP '2026-03-02T11:30:00Z'";
    assert_eq!(told(&format!("SELECT max(level_cm) FROM water WHERE {range}")), half);
    assert_eq!(told(&format!("WITH w AS (SELECT * FROM water WHERE {range}) SELECT avg(level_cm) FROM w")), half);
    assert_eq!(told(&format!("SELECT who FROM notes WHERE 1 = (SELECT count(*) FROM water WHERE {range})")).len(), 3);
    assert_eq!(told("SELECT * FROM notes n JOIN notes m ON n.who = m.who"), ["|notes||||||"]);
    assert_eq!(told("SELECT 1"), [""; 0]);
    assert_eq!(told(&format!("SELECT received FROM feeds('{NOON}')")), whole);
    let error = store.query("SELECT * FROM completeness('DROP TABLE water')").unwrap_err();
    assert!(matches!(error, crate::Error::ReadOnlySql { .. }), "{error:?}");
}

#[test]
fn an_answer_comes_with_its_trust() {
    let (store, _dir) = filled();
    let text = "SELECT count(*) AS n FROM water w, notes n WHERE w.time > TIMESTAMP '2026-03-02T11:00:00Z' \
                AND w.time <= TIMESTAMP '2026-03-02T12:00:00Z'";
    let (answer, trust) = store.query_with_trust(text).unwrap();
    assert_eq!(answer.i64(0, "n").unwrap(), Some(0));
    assert_eq!(trust.present_share(), Some(0.75));
    assert_eq!(trust.without_contract().collect::<Vec<_>>(), ["notes"]);
    let stalest = trust.stalest().unwrap();
    assert_eq!((stalest.age, stalest.last_row), (Some(5 * MINUTE), Some(at("2026-03-02T11:55:00Z"))));
    assert_eq!(store.query_with_trust("SELECT 1").unwrap().1.present_share(), None);
}
