//! Contracts as text, as versions, and through a crash.

use super::*;
use crate::Error;
use crate::feed::Audience;

fn full() -> Feed {
    let schema = Schema::new("water")
        .tag("gate")
        .tag("agency")
        .f64("level_cm", "cm")
        .required("level_cm")
        .decimal("cost", 18, 2, "IDR")
        .utf8("note", "")
        .cadence(10 * MINUTE)
        .lateness(Duration::from_millis(1_500))
        .retention(10 * 365 * 24 * HOUR)
        .keep_ingest_time();
    Feed::new("water_level", "PUPR", schema)
        .owner("Bidang \"SDA\" \\ \u{7f}\n")
        .arrives(Arrival::ByItself)
        .audience(Audience::Agencies(vec!["BPBD".into(), "DLH".into()]))
        .series_expected(12)
        .rows("agency", "PUPR")
        .range("level_cm", -100.0, 1e300)
        .at_least("cost", 0.0)
        .key("gate", "asset")
        .key("note", "note")
        .baseline("level_cm")
}

#[test]
fn a_contract_reads_back_from_its_own_text() {
    let text = full().to_toml();
    let read = Feed::from_toml(&text, "it").unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].to_toml(), text);
    let (read, full) = (&read[0], full());
    assert_eq!(read.schema.policies, full.schema.policies);
    assert_eq!(read.schema.fields, full.schema.fields);
    assert_eq!(read.schema.tags, full.schema.tags);
    assert_eq!(read.ranges, full.ranges);
    assert_eq!(read.keys, full.keys);
    assert_eq!(read.rows, full.rows);
    assert_eq!((&read.owner, &read.audience), (&full.owner, &full.audience));
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_line_and_remedy() {
    let good = "[[feed]]\nname = \"w\"\nagency = \"PUPR\"\ntable = \"water\"\ncadence = \"10 min\"\ntags = [\"gate\"]\n\
                fields = [{ name = \"level_cm\", type = \"f64\" }]\n";
    assert_eq!(Feed::from_toml(good, "a.toml").unwrap().len(), 1);
    let without = |line: &str| good.replace(line, "");
    let with = |line: &str| format!("{good}{line}\n");
    let cases = [
        (String::new(), "a.toml, line 1: it has no feed"),
        ("feed = 1".into(), "a.toml, line 1: feed is no list"),
        ("[[feed]]\nname = ".into(), "a.toml, line 2: "),
        (with("agensi = \"x\""), "a.toml, line 8: there is no key \"agensi\"; there are name, agency,"),
        (without("name = \"w\"\n"), "a.toml, line 1: name is not given; write name = .."),
        (without("cadence = \"10 min\"\n"), "a.toml, line 1: cadence is not given"),
        (good.replace("10 min", "10 fortnights"), "a.toml, line 5: cadence is not a duration, such as \"10 min\""),
        (good.replace("10 min", "10 ms"), "it has no cadence of a second or more"),
        (good.replace("f64", "float"), "a.toml, line 7: type is not f64, i64, u64, bool, utf8, or decimal("),
        (good.replace("type", "typ"), "a.toml, line 7: there is no key \"typ\""),
        (with("arrives = \"by post\""), "a.toml, line 8: arrives is not \"by hand\" or \"by itself\""),
        (with("audience = 3"), "a.toml, line 8: audience is not"),
        (with("keys = { gate = 3 }"), "a.toml, line 8: keys is not a table of texts"),
        (with("keys = { gaet = \"asset\" }"), "key: \"gaet\" is no tag and no text; the table has gate, level_cm"),
        (with("rows = { level_cm = \"3\" }"), "rows: \"level_cm\" = \"3\" is no tag and value"),
        (with("baseline = \"gate\""), "baseline: \"gate\" is no number"),
        (
            good.replace("\"f64\"", "\"f64\", min = 3, max = 1"),
            "range: \"level_cm\" has the empty or infinite range 3 to 1",
        ),
        (good.replace("\"f64\"", "\"utf8\", min = 3"), "range: \"level_cm\" is no number"),
        (good.replace("\"w\"", "\"../w\""), "invalid feed name \"../w\""),
        (good.replace("\"PUPR\"", "\"\""), "agency is empty"),
    ];
    for (text, said) in cases {
        let error = Feed::from_toml(&text, "a.toml").unwrap_err();
        assert!(matches!(error, Error::InvalidFeed { .. }), "{error:?}");
        assert!(error.to_string().contains(said), "{text:?} gives: {error}");
    }
}

#[test]
fn a_file_of_contracts_is_declared_whole_or_not_at_all() {
    let (store, dir) = city(HOUR);
    let file = dir.path().join("pupr.toml");
    let second = full().to_toml().replace("water_level", "water_again");
    std::fs::write(&file, format!("{}\n{second}", full().to_toml())).unwrap();
    let from = at("2026-01-01T00:00:00Z");
    let declared = store.declare_feeds(&file, from).unwrap();
    assert_eq!(declared.iter().map(|feed| (feed.version, feed.is_new)).collect::<Vec<_>>(), [(1, true), (1, true)]);
    assert!(store.declare_feeds(&file, from).unwrap().iter().all(|feed| !feed.is_new));

    std::fs::write(&file, full().owner("x").to_toml() + "\n[[feed]]\nname = 3\n").unwrap();
    let error = store.declare_feeds(&file, from).unwrap_err().to_string();
    assert!(error.contains("pupr.toml, line ") && error.contains("is not a text"), "{error}");
    assert_eq!(rows(&store, "SELECT count(*) FROM feed_contracts()"), ["2"]);
    std::fs::write(&file, [0xFF]).unwrap();
    assert!(matches!(store.declare_feeds(&file, from), Err(Error::InvalidFeed { .. })));
    assert!(matches!(store.declare_feeds(dir.path().join("gone.toml"), from), Err(Error::Io { .. })));
    std::fs::write(&file, vec![b'#'; crate::feed::declared::FILE_BYTES_MAX + 1]).unwrap();
    assert!(store.declare_feeds(&file, from).unwrap_err().to_string().contains("split it"));
}

#[test]
fn every_change_is_a_version_with_its_own_from_when() {
    let (store, dir) = city(HOUR);
    let (january, july, august) = (at("2026-01-01T00:00:00Z"), at("2026-07-01T00:00:00Z"), at("2026-08-01T00:00:00Z"));
    let first = store.declare_feed(&full(), january).unwrap();
    assert_eq!((first.version, first.is_new), (1, true));
    let same = store.declare_feed(&full(), july).unwrap();
    assert_eq!((same.version, same.from, same.is_new), (1, january, false));
    // Another cadence, which the table's own policies need not follow, and one more field.
    let mut changed = full();
    changed.schema = changed.schema.cadence(HOUR).f64("flow", "m3/s");
    assert_eq!(store.declare_feed(&changed, july).unwrap().version, 2);
    assert!(store.existing("water").unwrap().schema().fields().iter().any(|field| field.name == "flow"));
    assert_eq!(store.retire_feed("water_level", august).unwrap().version, 3);
    assert!(matches!(store.retire_feed("nothing", august), Err(Error::InvalidFeed { .. })));

    let seen = |store: &Store| {
        let all = rows(store, "SELECT feed, version, valid_from, retired FROM feed_contracts() ORDER BY version");
        let cadence = |at: &str| rows(store, &format!("SELECT version, cadence_s FROM feeds('{at}')"));
        (all, cadence("2025-12-31"), cadence("2026-06-30"), cadence("2026-07-01"), cadence("2026-08-01"))
    };
    let expected = (
        vec![
            "water_level|1|2026-01-01T00:00:00Z|false".to_string(),
            "water_level|2|2026-07-01T00:00:00Z|false".into(),
            "water_level|3|2026-08-01T00:00:00Z|true".into(),
        ],
        vec![],
        vec!["1|600.0".to_string()],
        vec!["2|3600.0".to_string()],
        vec![],
    );
    assert_eq!(seen(&store), expected);
    // Sealed, closed and opened again, and in a backup, and to a reader in another process.
    store.seal().unwrap();
    let backup = dir.path().join("backup");
    store.backup(&backup).unwrap();
    store.close().unwrap();
    for path in [dir.path().join("kota"), backup] {
        let again = Store::open(path).unwrap();
        assert_eq!(seen(&again), expected);
        again.close().unwrap();
    }
}

#[test]
fn the_contracts_table_is_hidden_from_statements() {
    let (store, _dir) = city(HOUR);
    store.declare_feed(&full(), at("2026-01-01T00:00:00Z")).unwrap();
    for text in [
        "SELECT * FROM \"__feeds\"",
        "SELECT * FROM own.\"__feeds\"",
        "SELECT * FROM completeness('SELECT * FROM own.\"__feeds\"')",
    ] {
        assert!(store.query(text).is_err(), "{text}");
    }
    assert!(store.tables().iter().all(|table| table.name() != "__feeds"));
}

#[test]
fn a_declaration_is_whole_after_power_loss_at_any_operation() {
    use crate::fs::sim::SimFs;
    let open = |fs: &std::sync::Arc<SimFs>| {
        let options = Store::options().block_bytes_min(64 << 10).block_bytes_max(64 << 10).live_bytes_max(1 << 20);
        Store::open_on(fs.clone(), options.without_background(), std::path::Path::new("/store"))
    };
    let versions = |store: &Store| rows(store, "SELECT version, contract FROM feed_contracts() ORDER BY version");
    let second = full().owner("another");
    let (mut operation, mut cut_short) = (0, 0);
    loop {
        let fs = SimFs::new(operation);
        let store = open(&fs).unwrap();
        store.declare_feed(&full(), at("2026-01-01T00:00:00Z")).unwrap();
        let before = versions(&store);
        fs.crash_at(fs.operations() + operation);
        let declared = store.declare_feed(&second, at("2026-02-01T00:00:00Z"));
        let image = fs.crash(operation + 100);
        drop(store);
        let found = versions(&open(&image).unwrap());
        let whole = [before[0].clone(), format!("2|{}", second.to_toml())];
        if declared.is_ok() {
            assert_eq!(found, whole, "operation {operation}");
            break;
        }
        cut_short += 1;
        assert!(found == before || found == whole, "operation {operation}: {found:?}");
        operation += 1;
    }
    assert!(cut_short > 0, "the power failed in the middle");
}
