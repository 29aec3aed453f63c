//! `system.quarantine`.

use super::*;

#[test]
fn the_quarantine_is_a_system_table_and_no_public_one() {
    let (store, _dir) = filled();
    let none = store.query("SELECT * FROM system.quarantine").unwrap();
    let names: Vec<String> = none.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(
        (none.num_rows(), &*names.join(" ")),
        (0, "time table_name reason row_time row file line column_name value message")
    );
    let table = store.existing("water").unwrap();
    let mut writer = table.writer().unwrap();
    let far: Time = "2200-01-01T00:00:00Z".parse().unwrap();
    for number in 0..3_i64 {
        let appended =
            writer.append_at(far, row! { gate: "g", agency: "a", number: number, level_cm: f64::NAN }).unwrap();
        assert_eq!(appended.quarantined(), 1);
    }
    for round in 0..2 {
        let text = "SELECT time <= now() AS arrived, table_name, reason, row_time, row FROM system.quarantine \
                    WHERE time > TIMESTAMP '2024-01-01' AND table_name = 'water' ORDER BY row";
        let rows = store.query(text).unwrap();
        assert_eq!(rows.num_rows(), 3, "round {round}");
        assert_eq!(rows.i64(1, "row_time").unwrap(), Some(far.as_nanos()));
        assert_eq!(rows.str(1, "reason").unwrap(), Some("far_future"));
        let row = r#"{"gate":"g","agency":"a","number":1,"level_cm":"NaN","open":null,"note":null}"#;
        assert_eq!(rows.str(1, "row").unwrap(), Some(row));
        assert!(rows.to_string().contains("true"), "{rows}");
        store.seal().unwrap();
    }
    // Predicates reach the scan.
    let plan = explain(&store, "SELECT row FROM system.quarantine WHERE table_name = 'other'");
    assert!(plan.contains("series=0/1"), "{plan}");
    let count = |text: &str| store.query(text).unwrap().i64(0, "n").unwrap();
    for list in ["tables", "fields", "series"] {
        let hidden = format!("SELECT count(*) AS n FROM system.{list} WHERE starts_with(table_name, '_')");
        assert_eq!(count(&hidden), Some(0), "{list}");
    }
    let segments = "SELECT count(*) AS n FROM system.segments WHERE table_name = '__quarantine'";
    assert_eq!(count(segments), Some(1));
    assert!(matches!(store.query("SELECT * FROM __quarantine"), Err(Error::UnknownTable { .. })));
    assert!(matches!(store.query("SELECT * FROM public.__quarantine"), Err(Error::UnknownTable { .. })));
    let named = "SELECT count(*) AS n FROM information_schema.tables WHERE table_name = '__quarantine'";
    assert_eq!(count(named), Some(0));
}
