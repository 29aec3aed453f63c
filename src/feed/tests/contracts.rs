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

    std::fs::write(&file, full().owner("x").to_toml() + "\n[[feed]]\ntable = 3\n").unwrap();
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
fn what_a_store_takes_it_reads_back() {
    let from = at("2026-01-01T00:00:00Z");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kota");
    let wide = || {
        let schema = Schema::new("wide").tag("gate").cadence(HOUR);
        let schema =
            (0..=crate::Options::default().fields_max).fold(schema, |schema, n| schema.f64(format!("f{n}"), ""));
        Feed::new("wide", "x".repeat(crate::Options::default().tag_bytes_max + 1), schema)
    };
    let options = || options().fields_max(100_000).tag_bytes_max(100_000).value_bytes_max(1 << 20);
    let store = options().open(&path).unwrap();
    store.declare_feed(&wide(), from).unwrap();
    // No policy of a table is too long for its contract.
    let long = Schema::new("long").tag("gate").f64("x", "").cadence(HOUR).retention(Duration::MAX);
    let long =
        Feed::new("long", "PUPR", long.future_max(Duration::MAX).partition(Duration::MAX - Duration::from_nanos(1)));
    store.declare_feed(&long, from).unwrap();
    let file = dir.path().join("wide.toml");
    std::fs::write(&file, wide().to_toml()).unwrap();
    assert!(!store.declare_feeds(&file, from).unwrap()[0].is_new);
    // What does not read back changes nothing.
    let twice = Schema::new("twice").tag("gate").f64("x", "").cadence(HOUR);
    let twice = Feed::new("twice", "PUPR", twice).rows("gate", "a").rows("gate", "b");
    let error = store.declare_feed(&twice, from).unwrap_err();
    assert!(matches!(error, Error::InvalidFeed { .. }), "{error}");
    assert!(store.existing("twice").is_err());
    let contracts = "SELECT feed, contract FROM feed_contracts() ORDER BY feed";
    let expected = [format!("long|{}", long.to_toml()), format!("wide|{}", wide().to_toml())];
    assert_eq!(rows(&store, contracts), expected);
    store.close().unwrap();
    // Also where less is taken by now.
    let store = super::options().open(&path).unwrap();
    assert_eq!(rows(&store, contracts), expected);
    assert!(matches!(store.declare_feed(&wide(), from), Err(Error::LimitExceeded { .. })));
}

#[test]
fn feeds_and_what_they_say_of_columns_have_limits() {
    let dir = tempfile::tempdir().unwrap();
    let options = options().scorecard(crate::Scorecard::default().feeds_max(2));
    let store = options.open(dir.path().join("kota")).unwrap();
    let from = at("2026-01-01T00:00:00Z");
    let feed = |name: &str| Feed::new(name, "PUPR", Schema::new("water").tag("gate").f64("x", "").cadence(HOUR));
    let is_over = |error: Error| match error {
        Error::LimitExceeded { limit, max, found, .. } => (limit, max, found),
        other => panic!("{other}"),
    };
    for name in ["a", "b", "a"] {
        store.declare_feed(&feed(name), from).unwrap();
    }
    assert_eq!(is_over(store.declare_feed(&feed("c"), from).unwrap_err()), ("feeds_max", 2, 3));
    assert_eq!(store.declare_feed(&feed("b").owner("x"), from).unwrap().version, 2);
    // One that has ended makes room, and needs it to begin anew.
    store.retire_feed("a", from).unwrap();
    store.declare_feed(&feed("c"), from).unwrap();
    assert_eq!(is_over(store.declare_feed(&feed("a"), from).unwrap_err()), ("feeds_max", 2, 3));

    let texts =
        |count| (0..count).fold(Schema::new("texts").tag("gate").cadence(HOUR), |all, n| all.utf8(format!("t{n}"), ""));
    let keys = |count| (0..count).fold(Feed::new("c", "PUPR", texts(count)), |feed, n| feed.key(format!("t{n}"), "d"));
    assert_eq!(is_over(store.declare_feed(&keys(17), from).unwrap_err()), ("feed_keys_max", 16, 17));
    assert!(store.existing("texts").is_err());
    store.declare_feed(&keys(16), from).unwrap();
    let numbers =
        |count| (0..count).fold(Schema::new("many").tag("gate").cadence(HOUR), |all, n| all.f64(format!("x{n}"), ""));
    let ranges =
        |count| (0..count).fold(Feed::new("c", "PUPR", numbers(count)), |feed, n| feed.at_least(format!("x{n}"), 0.0));
    assert_eq!(is_over(store.declare_feed(&ranges(257), from).unwrap_err()), ("feed_ranges_max", 256, 257));
    store.declare_feed(&ranges(256), from).unwrap();
    assert_eq!(rows(&store, "SELECT feed FROM feeds('2026-01-02') ORDER BY feed"), ["b", "c"]);
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
