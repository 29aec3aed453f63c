//! `latest('table')` is what a scan of everything finds, and reads one row a series.

use super::*;

const LATEST: &str = "SELECT gate, agency, time, number, level_cm, open, note FROM latest('water')";
/// Times are different within each series, so that the rank decides.
const NAIVE: &str = "SELECT gate, agency, time, number, level_cm, open, note FROM (SELECT *, \
    row_number() OVER (PARTITION BY gate, agency ORDER BY time DESC) AS rank FROM water) WHERE rank = 1";

fn check(store: &Store, rest: &str) {
    let sorted = |text: &str| store.query(&format!("SELECT * FROM ({text}) {rest} ORDER BY gate, agency")).unwrap();
    assert_eq!(sorted(LATEST).to_string(), sorted(NAIVE).to_string(), "{rest}");
}

#[test]
fn the_latest_rows_are_those_of_a_scan() {
    let (store, _dir) = filled();
    for rest in [
        "",
        "WHERE gate = 'Sei Wie'",
        "WHERE agency = 'BPBD' AND gate <> 'Kuala Dua'",
        "WHERE time > '2026-01-01T13:53:00Z'",
        "WHERE number % 3 = 0",
        "WHERE gate = 'nowhere'",
    ] {
        check(&store, rest);
    }
    // Older than what is there: live, and later sealed beside newer rows.
    append(&store.existing("water").unwrap(), 1..2);
    check(&store, "");
    store.seal().unwrap();
    check(&store, "");
    // One series goes on alone.
    append(&store.existing("water").unwrap(), 5_000..5_001);
    check(&store, "");
    store.seal().unwrap();
    check(&store, "");
}

#[test]
fn one_row_a_series_is_read() {
    let (store, _dir) = filled();
    let plan = explain(&store, LATEST);
    assert!(plan.contains("DenyutScan: table=water"), "{plan}");
    assert!(plan.contains("segments=0/") && plan.contains("rows=8, live_ranges=1/1"), "{plan}");
    let plan = explain(&store, &format!("{LATEST} WHERE gate = 'Sei Wie'"));
    assert!(plan.contains("series=2/8") && plan.contains("rows=2, "), "{plan}");
    store.seal().unwrap();
    let plan = explain(&store, LATEST);
    assert!(plan.contains("rows=8, live_ranges=0/0"), "{plan}");
    let count = store.query("SELECT count(*) AS n, max(time) AS t FROM latest('water')").unwrap();
    assert_eq!(count.i64(0, "n").unwrap(), Some(8));
    assert_eq!(count.i64(0, "t").unwrap(), Some(START_NS + 4_999 * 10_000_000_000));
}

#[test]
fn of_one_time_the_row_that_was_written_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(Schema::new("t").tag("k").i64("v", "")).unwrap();
    let latest = || store.query("SELECT v FROM latest('t')").unwrap().i64(0, "v").unwrap();
    assert_eq!(store.query("SELECT * FROM latest('t')").unwrap().num_rows(), 0);
    let mut writer = table.writer().unwrap();
    for v in 0..3_i64 {
        writer.append_at(Time::from_nanos(7), row! { k: "a", v: v }).unwrap();
        assert_eq!(latest(), Some(v));
    }
    store.seal().unwrap();
    assert_eq!(latest(), Some(2));
    writer.append_at(Time::from_nanos(7), row! { k: "a", v: 9_i64 }).unwrap();
    writer.append_at(Time::from_nanos(6), row! { k: "a", v: 10_i64 }).unwrap();
    assert_eq!(latest(), Some(9));
}

#[test]
fn where_the_last_write_wins_its_clock_decides_wherever_the_rows_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let table = store.table(Schema::new("t").tag("k").i64("v", "").dedup(Dedup::LastWrite)).unwrap();
    let latest = || store.query("SELECT v FROM latest('t')").unwrap().i64(0, "v").unwrap();
    let plain = || store.query("SELECT last(v, time) AS v FROM t").unwrap().i64(0, "v").unwrap();
    // Two writers fill two blocks. Of each order in which they write, one has the last write in the block that is looked
    // at first.
    let (mut one, mut two) = (table.writer().unwrap(), table.writer().unwrap());
    let write = |writer: &mut Writer, v: i64| {
        assert_eq!(writer.append_at(Time::from_nanos(7), row! { k: "a", v: v }).unwrap().accepted(), 1);
    };
    for v in 0..40 {
        write(if v % 3 == 0 { &mut one } else { &mut two }, v);
        assert_eq!((latest(), plain()), (Some(v), Some(v)));
        if v % 7 == 3 {
            // Into segments, of which the last written is not the last write's.
            store.seal().unwrap();
            assert_eq!((latest(), plain()), (Some(v), Some(v)), "sealed");
        }
        if v % 20 == 19 {
            store.maintain().unwrap();
            assert_eq!((latest(), plain()), (Some(v), Some(v)), "compacted");
        }
    }
}

#[test]
fn what_is_no_table_is_an_error() {
    let (store, _dir) = filled();
    assert!(matches!(store.query("SELECT * FROM latest('air')"), Err(Error::UnknownTable { table }) if table == "air"));
    for text in ["SELECT * FROM latest()", "SELECT * FROM latest(5)", "SELECT * FROM latest('water', 'air')"] {
        let error = store.query(text).unwrap_err().to_string();
        assert!(
            error.contains("latest: argument `table` is not a text; write the name of one table"),
            "{text}: {error}"
        );
    }
    let example = crate::query::reference().into_iter().find(|entry| entry.name == "latest").unwrap().example;
    assert_eq!(store.query(example).unwrap().num_rows(), 4);
}

#[test]
fn a_field_that_comes_later_moves_no_value_to_another_column() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let schema = || Schema::new("t").tag("k").i64("v", "").keep_ingest_time();
    let table = store.table(schema()).unwrap();
    table.writer().unwrap().append_at(Time::from_nanos(7), row! { k: "a", v: 1_i64 }).unwrap();
    store.seal().unwrap();
    let latest = |column: &str| store.query("SELECT * FROM latest('t')").unwrap().i64(0, column).unwrap();
    let came = latest("ingest_time");
    assert!(came.is_some_and(|came| came > 7));
    let table = store.table(schema().i64("later", "")).unwrap();
    assert_eq!((latest("v"), latest("later"), latest("ingest_time")), (Some(1), None, came));
    let mut handle = table.latest(table.series(["a"]).unwrap());
    assert_eq!(handle.get().unwrap().unwrap().value("later").unwrap(), Value::Null);
}
