//! The road map: each condition of each stage broken alone, and each met just so.

use super::*;
use crate::feed::{alert_acknowledgements, alert_firings, alert_rules, dimension};

const NOON: &str = "2026-03-02T12:00:00Z";

/// An agency that is smart, and what is wrong with it.
#[derive(Clone, Copy)]
struct Case {
    feeds: usize,
    by_hand: usize,
    stale: usize,
    /// Of each feed, six at most.
    rows: i64,
    bad_rows: usize,
    lost_keys: usize,
    without_rule: usize,
    /// Of one firing a feed.
    late_acknowledgements: usize,
    baselines: usize,
}

const SMART: Case = Case {
    feeds: 1,
    by_hand: 0,
    stale: 0,
    rows: 4,
    bad_rows: 0,
    lost_keys: 0,
    without_rule: 0,
    late_acknowledgements: 0,
    baselines: 1,
};

fn reading() -> Schema {
    Schema::new("readings").tag("agency").tag("gate").f64("level_cm", "cm").cadence(10 * MINUTE)
}

/// Declares the agency's feeds and appends its rows, alerts and acknowledgements of the hour before noon.
fn fill(store: &Store, agency: &str, case: Case) {
    let noon = at(NOON);
    let begin = minutes(noon, -24 * 60);
    let mut readings = store.table(reading()).unwrap().writer().unwrap();
    let mut rules = store.table(alert_rules()).unwrap().writer().unwrap();
    let mut firings = store.table(alert_firings()).unwrap().writer().unwrap();
    let mut acknowledgements = store.table(alert_acknowledgements()).unwrap().writer().unwrap();
    let mut row_number = 0;
    for number in 0..case.feeds {
        let (feed, gate) = (format!("{agency}_{number}"), format!("gate {number}"));
        let arrives = if number < case.by_hand { Arrival::ByHand } else { Arrival::ByItself };
        let mut contract = Feed::new(&feed, agency, reading()).rows("agency", agency).range("level_cm", 0.0, 100.0);
        contract = contract.arrives(arrives).key("note", "asset");
        contract.schema = contract.schema.utf8("note", "");
        if number < case.baselines {
            contract = contract.baseline("level_cm");
        }
        store.declare_feed(&contract.rows("gate", &gate), begin).unwrap();
        // All within the hour; the last of a stale feed is older than its cadence.
        let (back, step) = if number < case.stale { (11, 9) } else { (5, 10) };
        for slot in 0..case.rows {
            let level = if row_number < case.bad_rows { 100.5 } else { 100.0 };
            let asset = if row_number < case.lost_keys { "lost" } else { "known" };
            row_number += 1;
            readings
                .append_at(
                    minutes(noon, -back - slot * step),
                    row! { agency: agency, gate: &gate, level_cm: level, note: asset },
                )
                .unwrap();
        }
        let (rule, fired) = (format!("high {feed}"), minutes(noon, -60));
        if number >= case.without_rule {
            rules.append_at(begin, row! { rule: &rule, feed: &feed, ack_within_s: 900_i64, enabled: true }).unwrap();
        }
        firings.append_at(fired, row! { rule: &rule, firing: "1" }).unwrap();
        let after = if number < case.late_acknowledgements { 16 } else { 15 };
        acknowledgements.append_at(minutes(fired, after), row! { rule: &rule, firing: "1" }).unwrap();
    }
}

fn prepared(score: crate::Scorecard) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = super::options().scorecard(score).open(dir.path().join("kota")).unwrap();
    let mut schema = reading();
    schema = schema.utf8("note", "");
    store.table(schema).unwrap();
    store.load_dimension(&dimension::asset(), at("2026-01-01T00:00:00Z"), &[row! { key: "known" }]).unwrap();
    (store, dir)
}

fn hourly() -> crate::Scorecard {
    crate::Scorecard::default().window(HOUR)
}

/// Agency, or nothing for the city; stage, next stage, and what blocks it.
fn maturity(store: &Store) -> Vec<[String; 4]> {
    let text = format!("SELECT agency, stage, next_stage, blockers FROM maturity('{NOON}') ORDER BY agency NULLS LAST");
    let cells = |row: &String| {
        let mut cells = row.splitn(4, '|').map(ToString::to_string);
        std::array::from_fn(|_| cells.next().unwrap())
    };
    rows(store, &text).iter().map(cells).collect()
}

/// The names of the conditions that block an agency.
fn conditions(said: &str) -> Vec<&str> {
    said.split("; ").filter(|one| !one.is_empty()).map(|one| one.split(' ').next().unwrap()).collect()
}

#[test]
fn breaking_one_condition_alone_lowers_the_stage_and_names_the_blocker() {
    // What is wrong, the stage that is left, and what blocks the next.
    let cases: &[(&str, Case, &str, &[&str])] = &[
        ("a_smart", SMART, "smart", &[]),
        ("b_none", Case { feeds: 0, ..SMART }, "ad hoc", &["automatic_feeds", "automatic_share"]),
        ("c_share", Case { feeds: 5, by_hand: 4, ..SMART }, "ad hoc", &["automatic_share"]),
        ("d_punctual", Case { feeds: 3, stale: 2, ..SMART }, "initiative", &["in_cadence_share"]),
        ("e_punctual", Case { feeds: 4, stale: 1, ..SMART }, "scattered", &["in_cadence_share"]),
        ("f_conform", Case { bad_rows: 1, ..SMART }, "scattered", &["conform_share"]),
        ("g_keys", Case { lost_keys: 1, ..SMART }, "scattered", &["keys_share"]),
        ("h_rules", Case { feeds: 3, without_rule: 1, ..SMART }, "integrative", &["alert_rules_share"]),
        ("i_late", Case { late_acknowledgements: 1, ..SMART }, "integrative", &["acknowledged_share"]),
        ("j_baseline", Case { baselines: 0, ..SMART }, "integrative", &["baselines"]),
        // Each just met: a fourth of four, half of two; of five feeds four, of twenty rows nineteen and eighteen.
        ("k_fourth", Case { feeds: 4, by_hand: 3, ..SMART }, "initiative", &["in_cadence_share"]),
        ("l_half", Case { feeds: 2, stale: 1, ..SMART }, "scattered", &["in_cadence_share"]),
        ("m_just", Case { feeds: 5, stale: 1, bad_rows: 1, lost_keys: 2, without_rule: 1, ..SMART }, "smart", &[]),
        ("m_late", Case { feeds: 5, late_acknowledgements: 1, ..SMART }, "smart", &[]),
        ("n_hand", Case { feeds: 4, by_hand: 1, ..SMART }, "scattered", &["in_cadence_share"]),
        ("o_two", Case { bad_rows: 1, lost_keys: 1, ..SMART }, "scattered", &["conform_share", "keys_share"]),
    ];
    // A fourth instead of a tenth, which would take ten feeds and more to show.
    let (store, _dir) = prepared(hourly().initiative_automatic_share(0.25));
    let agencies: Vec<String> = cases.iter().map(|case| case.0.to_string()).collect();
    let keys: Vec<[(&str, Value<'_>); 1]> = agencies.iter().map(|agency| [("key", agency.into())]).collect();
    let keys: Vec<Row<'_>> = keys.iter().map(|cells| Row::new(cells)).collect();
    store.load_dimension(&dimension::agency(), at("2026-01-01T00:00:00Z"), &keys).unwrap();
    cases.iter().for_each(|(agency, case, ..)| fill(&store, agency, *case));

    const STAGES: [&str; 5] = ["ad hoc", "initiative", "scattered", "integrative", "smart"];
    let found = maturity(&store);
    for ((agency, _, stage, blocked), found) in cases.iter().zip(&found) {
        let level = STAGES.iter().position(|name| name == stage).unwrap();
        let next = STAGES.get(level + 1).copied().unwrap_or_default();
        assert_eq!([&*found[0], &*found[1], &*found[2]], [*agency, *stage, next], "{found:?}");
        assert_eq!(conditions(&found[3]), *blocked, "{found:?}");
    }
    assert_eq!(found.len(), cases.len() + 1);

    // The city is where four of five agencies are at least.
    let reached = |level: usize| {
        let at_least = cases.iter().filter(|case| STAGES.iter().position(|name| *name == case.2).unwrap() >= level);
        at_least.count() * 10 >= cases.len() * 8
    };
    let level = (0..5).rev().find(|level| reached(*level)).unwrap();
    let [_, stage, _, said] = found.last().unwrap();
    assert_eq!(stage, STAGES[level]);
    // Who is behind, and why, is named: of the agencies below the city's next stage, each.
    for (agency, _, stage, _) in cases {
        let behind = STAGES.iter().position(|name| name == stage).unwrap() <= level;
        assert_eq!(said.contains(&format!("{agency}: ")), behind, "{agency} in {said}");
    }
}

#[test]
fn figures_and_feeds_of_a_blocker_are_given() {
    let (store, _dir) = prepared(hourly());
    fill(&store, "pupr", Case { feeds: 4, stale: 2, rows: 6, bad_rows: 3, ..SMART });
    let text =
        format!("SELECT stage, condition, round(figure, 3), needed, feeds, is_next FROM blockers('{NOON}') ORDER BY 2");
    assert_eq!(
        rows(&store, &text),
        [
            "integrative|conform_share|0.875|0.95|pupr_0|true",
            "integrative|in_cadence_share|0.5|0.8|pupr_0, pupr_1|true",
        ]
    );
    let text = format!(
        "SELECT feeds, automatic_feeds, automatic_share, in_cadence_share, conform_share, keys_share, alert_rules_share, \
         acknowledged_share, baselines, blockers FROM maturity('{NOON}') WHERE scope = 'agency'"
    );
    assert_eq!(
        rows(&store, &text),
        [
            "4|4|1.0|0.5|0.875|1.0|1.0|1.0|1|conform_share 0.875 of 0.95 (pupr_0); in_cadence_share 0.5 of 0.8 (pupr_0, pupr_1)"
        ]
    );
    // Nobody has a feed a day before.
    assert_eq!(rows(&store, "SELECT * FROM blockers('2026-03-01')"), [""; 0]);
    let text = "SELECT scope, stage, feeds FROM maturity('2026-03-01')";
    assert_eq!(rows(&store, text), ["city|ad hoc|"]);
}

#[test]
fn thresholds_are_options() {
    let score = crate::Scorecard::default();
    let shares = [
        score.initiative_automatic_share,
        score.scattered_in_cadence_share,
        score.integrative_in_cadence_share,
        score.integrative_conform_share,
        score.integrative_keys_share,
        score.smart_alert_rules_share,
        score.smart_acknowledged_share,
        score.city_share,
    ];
    assert_eq!(shares, [0.1, 0.5, 0.8, 0.95, 0.9, 0.8, 0.8, 0.8]);
    assert_eq!(score.smart_baselines, 1);
    // Without a share to reach, that one feed arrives by itself is a condition of its own.
    let (store, _dir) = prepared(hourly().initiative_automatic_share(0.0));
    fill(&store, "dlh", Case { feeds: 2, by_hand: 2, ..SMART });
    let found = maturity(&store).swap_remove(0);
    assert_eq!([&*found[0], &*found[1], &*found[2]], ["dlh", "ad hoc", "initiative"]);
    assert_eq!(conditions(&found[3]), ["automatic_feeds"]);
    // An agency whose alerts never fired missed none; one whose keys nobody checks is not joined up.
    let (store, _dir) = prepared(hourly().smart_alert_rules_share(0.0).city_share(1.0));
    let begin = minutes(at(NOON), -600);
    let feed =
        Feed::new("one", "bpbd", reading()).arrives(Arrival::ByItself).baseline("level_cm").rows("agency", "bpbd");
    store.declare_feed(&feed, begin).unwrap();
    let mut writer = store.existing("readings").unwrap().writer().unwrap();
    writer.append_at(minutes(at(NOON), -5), row! { agency: "bpbd", gate: "x", level_cm: 1.0 }).unwrap();
    assert_eq!(conditions(&maturity(&store)[0][3]), ["keys_share"]);
    let mut keyed = feed.key("note", "asset");
    keyed.schema = keyed.schema.utf8("note", "");
    store.declare_feed(&keyed, begin).unwrap();
    let mut writer = store.existing("readings").unwrap().writer().unwrap();
    writer.append_at(minutes(at(NOON), -5), row! { agency: "bpbd", gate: "x", level_cm: 1.0, note: "known" }).unwrap();
    assert_eq!(maturity(&store)[0][1], "smart");
}
