//! Reference tables: loads, versions, joins as of a time.

use super::*;
use crate::Error;
use crate::feed::dimension::{self, Dimension};

fn attributes(district: &'static str, alert_cm: f64, cost: i128) -> [(&'static str, Value<'static>); 3] {
    [("district", district.into()), ("alert_cm", alert_cm.into()), ("cost", cost.into())]
}

fn member(key: &'static str, attributes: &[(&'static str, Value<'static>)]) -> Vec<(&'static str, Value<'static>)> {
    [("key", key.into())].iter().chain(attributes).copied().collect()
}

#[test]
fn a_dimension_keeps_every_version_and_joins_as_of_each_rows_time() {
    let (store, _dir) = city(HOUR);
    let (january, june) = (at("2026-01-01T00:00:00Z"), at("2026-06-01T00:00:00Z"));
    let gates = || Dimension::new("gate").text("district").number("alert_cm", "cm").decimal("cost", 9, 2, "IDR");
    let (a, b) = (attributes("Utara", 300.0, 12_345), [("district", "Timur".into()), ("alert_cm", 250.0.into())]);
    let first = [member("a", &a), member("b", &b)];
    let load = |from, members: &[Vec<(&'static str, Value<'static>)>]| {
        let rows: Vec<Row<'_>> = members.iter().map(|cells| Row::new(cells)).collect();
        let loaded = store.load_dimension(&gates(), from, &rows).unwrap();
        (loaded.added, loaded.changed, loaded.removed, loaded.unchanged)
    };
    assert_eq!(load(january, &first), (2, 0, 0, 0));
    assert_eq!(load(june, &first), (0, 0, 0, 2));
    // Known in June: a is to be alerted of earlier, b is gone, c is new.
    let second = [member("a", &attributes("Utara", 280.0, 12_345)), member("c", &attributes("Barat", 200.0, 0))];
    assert_eq!(load(june, &second), (1, 1, 1, 0));
    assert_eq!(load(june, &second), (0, 0, 0, 2));
    let loaded = store.update_dimension(&gates(), june, &[row! { key: "nobody", removed: true }]).unwrap();
    assert_eq!(loaded, dimension::Loaded::default());

    let spring = "SELECT key, district, alert_cm, cost FROM dimension('gate', '2026-03-01') ORDER BY key";
    assert_eq!(rows(&store, spring), ["a|Utara|300.0|123.45", "b|Timur|250.0|"]);
    let summer = "SELECT key, alert_cm, valid_from, valid_to FROM dimension('gate', '2026-06-01') ORDER BY key";
    assert_eq!(rows(&store, summer), ["a|280.0|2026-06-01T00:00:00Z|", "c|200.0|2026-06-01T00:00:00Z|"]);
    let history = "SELECT key, valid_from, valid_to, removed FROM dimension_history('gate') WHERE key = 'b' ORDER BY 2";
    assert_eq!(
        rows(&store, history),
        ["b|2026-01-01T00:00:00Z|2026-06-01T00:00:00Z|false", "b|2026-06-01T00:00:00Z||true"]
    );

    let mut water = store.table(Schema::new("water").tag("gate").f64("level_cm", "cm")).unwrap().writer().unwrap();
    for (time, gate) in [("2026-05-01", "a"), ("2026-07-01", "a"), ("2025-12-01", "a"), ("2026-07-01", "b")] {
        water.append_at(at(time), row! { gate: gate, level_cm: 290.0 }).unwrap();
    }
    let joined = "SELECT w.time, w.gate, w.level_cm > g.alert_cm, g.removed FROM water w ASOF JOIN \
                  gate g MATCH_CONDITION (w.time >= g.time) ON w.gate = g.key ORDER BY 1, 2";
    assert_eq!(
        rows(&store, joined),
        [
            "2025-12-01T00:00:00Z|a||",
            "2026-05-01T00:00:00Z|a|false|false",
            "2026-07-01T00:00:00Z|a|true|false",
            "2026-07-01T00:00:00Z|b||true",
        ]
    );
}

#[test]
fn a_load_that_is_wrong_changes_nothing() {
    let (store, _dir) = city(HOUR);
    let january = at("2026-01-01T00:00:00Z");
    let twice = store.load_dimension(&dimension::asset(), january, &[row! { key: "a" }, row! { key: "a" }]);
    assert!(matches!(twice, Err(Error::Duplicate { .. })));
    let keyless = store.load_dimension(&dimension::asset(), january, &[row! { key: "a" }, row! { name: "b" }]);
    assert!(matches!(keyless, Err(Error::MissingTag { row: 1, .. })));
    assert_eq!(rows(&store, "SELECT key FROM dimension('asset')"), [""; 0]);
    store.table(Schema::new("plain").tag("gate").f64("x", "")).unwrap();
    let error = store.query("SELECT * FROM dimension('plain')").unwrap_err().to_string();
    assert!(error.contains("\"plain\" is no dimension"), "{error}");
}

#[test]
fn a_batch_is_loaded_as_rows_are() {
    use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
    let (store, _dir) = city(HOUR);
    let key: ArrayRef = std::sync::Arc::new(StringArray::from(vec!["a", "b"]));
    let value: ArrayRef = std::sync::Arc::new(Float64Array::from(vec![Some(3.5), None]));
    let batch = RecordBatch::try_from_iter([("key", key), ("value", value)]).unwrap();
    let loaded = store.load_dimension_batch(&dimension::target(), at("2026-01-01T00:00:00Z"), &batch).unwrap();
    assert_eq!(loaded.added, 2);
    // Another spelling of text is text; what is no value of the attribute is refused, and not left out or taken as it is.
    let large: ArrayRef = std::sync::Arc::new(arrow::array::LargeStringArray::from(vec![Some("%"), None]));
    let dictionary = arrow::compute::cast(
        batch.column(0),
        &arrow::datatypes::DataType::Dictionary(
            Box::new(arrow::datatypes::DataType::Int32),
            Box::new(arrow::datatypes::DataType::Utf8),
        ),
    );
    let spelled = RecordBatch::try_from_iter([("key", dictionary.unwrap()), ("unit", large)]).unwrap();
    let loaded = store.load_dimension_batch(&dimension::target(), at("2025-01-01T00:00:00Z"), &spelled).unwrap();
    assert_eq!(loaded.added, 2);
    assert_eq!(rows(&store, "SELECT key, unit FROM dimension('target', '2025-02-01') ORDER BY key"), ["a|%", "b|"]);
    let priced = Dimension::new("priced").decimal("cost", 9, 2, "IDR").count("number", "").number("share", "");
    let decimal = |scale| {
        let costs = arrow::array::Decimal128Array::from(vec![12_345, 1]).with_precision_and_scale(9, scale).unwrap();
        std::sync::Arc::new(costs) as ArrayRef
    };
    let refused: [(&str, ArrayRef); 4] = [
        ("cost", decimal(3)),
        ("number", std::sync::Arc::new(arrow::array::Int32Array::from(vec![1, 2]))),
        ("share", std::sync::Arc::new(arrow::array::Float32Array::from(vec![1.0, 2.0]))),
        ("key", std::sync::Arc::new(arrow::array::Int64Array::from(vec![1, 2]))),
    ];
    for (name, column) in refused {
        let mut columns = vec![(name, column)];
        if name != "key" {
            columns.push(("key", batch.column(0).clone()));
        }
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let error = store.load_dimension_batch(&priced, at("2026-01-01T00:00:00Z"), &batch).unwrap_err();
        assert!(matches!(error, Error::TypeConflict { .. }), "{name}: {error}");
    }
    assert_eq!(rows(&store, "SELECT key FROM dimension('priced')"), [""; 0]);
    let exact = RecordBatch::try_from_iter([("key", batch.column(0).clone()), ("cost", decimal(2))]).unwrap();
    store.load_dimension_batch(&priced, at("2026-01-01T00:00:00Z"), &exact).unwrap();
    assert_eq!(rows(&store, "SELECT key, cost FROM dimension('priced') ORDER BY key"), ["a|123.45", "b|0.01"]);
    let again = store.load_dimension_batch(&dimension::target(), at("2026-02-01T00:00:00Z"), &batch).unwrap();
    assert_eq!(again.unchanged, 2);
    assert_eq!(rows(&store, "SELECT key, value FROM dimension('target') ORDER BY key"), ["a|3.5", "b|"]);
}
