//! One feed, counted by hand.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::*;
use crate::feed::dimension;

const NOON: &str = "2026-03-02T12:00:00Z";

fn water() -> Schema {
    let schema = Schema::new("water").tag("gate").f64("level_cm", "cm").cadence(10 * MINUTE).lateness(HOUR);
    schema.keep_ingest_time()
}

/// A store whose wall clock stands at 11:59, with an hour of rows and their faults.
fn filled() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(at("2026-03-02T11:59:00Z").as_nanos()));
    let options = super::options().scorecard(crate::Scorecard::default().window(HOUR));
    let store = options.clock(clock).without_background().open(dir.path().join("kota")).unwrap();
    let from = at("2026-01-01T00:00:00Z");
    let mut feed = Feed::new("water_level", "PUPR", water()).arrives(Arrival::ByItself).series_expected(3);
    feed = feed.range("level_cm", 0.0, 1_000.0).key("gate", "asset").owner("SDA");
    store.declare_feed(&feed, from).unwrap();
    // The contract's lateness is shorter than what the table takes.
    feed.schema = feed.schema.lateness(10 * MINUTE);
    store.declare_feed(&feed, from).unwrap();
    store.load_dimension(&dimension::asset(), from, &[row! { key: "a" }]).unwrap();
    store.update_dimension(&dimension::asset(), at("2026-03-02T11:55:00Z"), &[row! { key: "b" }]).unwrap();
    let mut writer = store.existing("water").unwrap().writer().unwrap();
    let mut append = |time: &str, gate: &str, level: f64| {
        writer
            .append_at(at(&format!("2026-03-02T{time}:00Z")), row! { gate: gate, level_cm: level })
            .unwrap()
            .quarantined()
    };
    // Slots of ten minutes back from noon; 11:25 is missing, 11:55 came twice, 11:35 is out of range, 11:45 is no number.
    for (time, level) in [("11:05", 1.0), ("11:15", 1.0), ("11:35", 2_000.0), ("11:45", f64::NAN), ("11:55", 1.0)] {
        assert_eq!(append(time, "a", level), 0);
    }
    assert_eq!(append("11:55", "a", 2.0), 0);
    assert_eq!(append("11:50", "b", 1.0), 0);
    assert_eq!(append("10:30", "a", 1.0), 1);
    // Before the window, and after the moment: neither is counted.
    assert_eq!(append("11:00", "a", 1.0), 0);
    assert_eq!(append("12:05", "b", 1.0), 0);
    let far = writer.append_at(at("2030-01-01T00:00:00Z"), row! { gate: "a", level_cm: 1.0 }).unwrap();
    assert_eq!(far.quarantined(), 1);
    store.sync().unwrap();
    (store, dir)
}

#[test]
fn every_figure_of_a_feed_is_the_one_worked_out_by_hand() {
    let (store, _dir) = filled();
    let expected = [
        ("feed, agency, owner, table_name, version, arrives", "water_level|PUPR|SDA|water|2|by itself"),
        ("cadence_s, lateness_s, last_row, age_s, in_cadence", "600.0|600.0|2026-03-02T11:55:00Z|300.0|true"),
        // Three gates in six slots; a has a row in five of them, b in one.
        ("series, expected, present, round(present_share, 4)", "2|18|6|0.3333"),
        // Five of a, one of them twice, and one of b.
        ("received, duplicate", "7|1"),
        // 11:05, 11:15, 11:35 and 11:45 came more than ten minutes after their time; 10:30 went to quarantine.
        ("late, quarantined", "5|2"),
        ("conforming, round(conform_share, 4)", "5|0.5556"),
        // b is an asset from 11:55 on.
        ("keys_checked, keys_resolved, round(keys_share, 4), baseline", "7|6|0.8571|"),
    ];
    for sealed in [false, true] {
        for (columns, values) in expected {
            assert_eq!(rows(&store, &format!("SELECT {columns} FROM feeds('{NOON}')")), [values], "{columns} {sealed}");
        }
        store.seal().unwrap();
    }
    assert_eq!(rows(&store, &format!("SELECT * FROM silent_feeds('{NOON}')")), [""; 0]);
    // Its last row then is of 12:05, and fifteen minutes and one second late.
    let text = "SELECT feed, age_s, overdue_s FROM silent_feeds('2026-03-02T12:35:01Z')";
    assert_eq!(rows(&store, text), ["water_level|1801.0|601.0"]);
    assert_eq!(rows(&store, "SELECT feed, last_row, overdue_s FROM silent_feeds('2026-02-01')"), ["water_level||"]);
    // A moment before any row was there.
    let text = "SELECT received, last_row FROM feeds('2026-03-02T11:58:00Z')";
    assert_eq!(rows(&store, text), ["0|"]);
}

#[test]
fn calls_that_are_wrong_say_how_to_write_them() {
    let (store, _dir) = city(HOUR);
    assert_eq!(rows(&store, "SELECT * FROM feeds()"), [""; 0]);
    assert_eq!(rows(&store, "SELECT * FROM maturity() WHERE scope = 'agency'"), [""; 0]);
    for (text, said) in [
        ("SELECT * FROM feeds('yesterday')", "feeds: argument 1 is not a time: yesterday; write feeds([as_of])"),
        ("SELECT * FROM feeds(3)", "feeds: argument 1 is not a time"),
        ("SELECT * FROM feeds(now(), 2)", "feeds: 2 arguments given; write feeds([as_of])"),
        ("SELECT * FROM dimension('nothing')", "unknown table \"nothing\""),
        ("SELECT * FROM dimension('__feeds')", "unknown table \"__feeds\""),
        ("SELECT * FROM dimension(1)", "dimension: argument 1 is not a text"),
        ("SELECT * FROM completeness('SELECT nonsense')", "nonsense"),
    ] {
        let error = store.query(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}
