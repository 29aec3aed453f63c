//! What a policy hides makes no difference: two stores that differ in nothing else answer alike, in every way there is to ask.

use datafusion::physical_plan::displayable;

use super::*;
use crate::query::{Access, Mask, Policy, PolicySession};

/// One complaint: agency, district, reporter, latitude, days.
type Complaint<'a> = (&'a str, &'a str, &'a str, f64, i64);

fn complaints(rows: &[Complaint]) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let schema = Schema::new("complaints").tag("agency").tag("district");
    let schema = schema.utf8("reporter", "").f64("lat", "deg").i64("days", "d");
    let table = store.table(schema.partition(std::time::Duration::from_secs(3_600))).unwrap();
    let budget = store.table(Schema::new("budget").tag("agency").i64("ceiling", "IDR")).unwrap();
    let names = store.table(Schema::new("districts").tag("district").utf8("title", "")).unwrap();
    let at = |number: i64| Time::from_nanos(START_NS + number * 60_000_000_000);
    let mut writer = table.writer().unwrap();
    // Half is sealed, half is live.
    for (number, (agency, district, reporter, lat, days)) in (0..).zip(rows) {
        writer
            .append_at(
                at(number),
                row! { agency: *agency, district: *district, reporter: *reporter, lat: *lat, days: *days },
            )
            .unwrap();
        if number == 7 {
            drop(writer);
            store.seal().unwrap();
            writer = table.writer().unwrap();
        }
    }
    budget.writer().unwrap().append_at(at(0), row! { agency: "PUPR", ceiling: rows.len() as i64 }).unwrap();
    for district in ["Kota", "Sungai"] {
        names.writer().unwrap().append_at(at(0), row! { district: district, title: "a title" }).unwrap();
    }
    (store, dir)
}

/// What a session says to a statement, of its answer or of its error.
fn said(session: &PolicySession, text: &str) -> String {
    match session.query(text) {
        Ok(rows) => rows.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

fn agency() -> Policy {
    let shown = Access::all().rows("agency = 'PUPR'").mask("reporter", Mask::Hidden).mask("lat", Mask::Coarse(0.01));
    Policy::new("PUPR").table("complaints", shown).table("districts", Access::all())
}

/// Every way to ask, of rows that are of another agency, of a masked column and of an exact location.
const WAYS: [&str; 44] = [
    "SELECT * FROM complaints ORDER BY time",
    "SELECT count(*), count(DISTINCT district), min(time), max(time), min(days), max(days), sum(lat) FROM complaints",
    "SELECT * FROM complaints WHERE agency = 'BPBD'",
    "SELECT count(*) FROM complaints WHERE agency <> 'PUPR' OR agency IS NULL OR true",
    "SELECT district, count(*) FROM complaints GROUP BY district ORDER BY district",
    "SELECT agency FROM complaints GROUP BY agency HAVING count(*) = 1",
    "SELECT min(days) FROM complaints WHERE days > 900",
    "SELECT count(*) FROM complaints WHERE lat = 0.123456",
    "SELECT count(*) FROM complaints WHERE lat BETWEEN 0.12 AND 0.1234",
    "SELECT count(*) FROM complaints WHERE lat > 0.125",
    "SELECT DISTINCT lat FROM complaints ORDER BY lat",
    "SELECT lat * 1000000 FROM complaints ORDER BY 1 DESC LIMIT 1",
    "SELECT reporter FROM complaints",
    "SELECT complaints.reporter FROM complaints",
    "SELECT count(*) FROM complaints WHERE reporter LIKE 'Sari%'",
    "SELECT count(*) FROM complaints ORDER BY max(reporter)",
    // Joins, common table expressions, subqueries, set operations.
    "SELECT d.title, c.days FROM districts d JOIN complaints c USING (district) ORDER BY c.days",
    "SELECT a.days, b.days FROM complaints a JOIN complaints b ON a.district = b.district AND a.agency <> b.agency ORDER BY 1, 2",
    "SELECT d.district, c.days FROM districts d LEFT JOIN complaints c ON c.district = d.district AND c.agency = 'BPBD' ORDER BY 1",
    "SELECT c.days FROM complaints c FULL JOIN districts d ON c.lat = 0.123456 ORDER BY 1",
    "SELECT f.days, w.lat FROM complaints f ASOF JOIN complaints w MATCH_CONDITION (f.time >= w.time) ORDER BY f.time",
    "WITH c AS (SELECT * FROM complaints) SELECT agency, count(*) FROM c GROUP BY agency",
    "WITH RECURSIVE c AS (SELECT days, 0 AS n FROM complaints UNION ALL SELECT days, n + 1 FROM c WHERE n < 1) SELECT count(*) FROM c",
    "SELECT * FROM districts WHERE district IN (SELECT district FROM complaints) ORDER BY district",
    "SELECT * FROM districts d WHERE EXISTS (SELECT 1 FROM complaints c WHERE c.agency = 'BPBD' AND c.days > 900) ORDER BY 1",
    "SELECT (SELECT max(days) FROM complaints) AS most FROM districts",
    "SELECT title, (SELECT count(*) FROM complaints c WHERE c.district = d.district) FROM districts d ORDER BY 1, 2",
    "SELECT days FROM complaints UNION SELECT days FROM complaints WHERE agency = 'BPBD' ORDER BY 1",
    "SELECT days, lag(days) OVER (ORDER BY time), count(*) OVER () FROM complaints ORDER BY time",
    "SELECT * FROM latest('complaints') ORDER BY agency, district",
    "SELECT count(*) FROM latest('budget')",
    "CREATE VIEW v AS SELECT * FROM complaints",
    "PREPARE p AS SELECT * FROM complaints",
    // Plans, statistics and the system's tables.
    "EXPLAIN SELECT count(*) FROM complaints WHERE agency = 'BPBD' AND lat = 0.123456",
    "EXPLAIN VERBOSE SELECT * FROM complaints WHERE days > 900",
    "EXPLAIN ANALYZE SELECT * FROM complaints",
    "SELECT * FROM system.series",
    "SELECT * FROM system.segments",
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
    "SELECT column_name FROM information_schema.columns WHERE table_name = 'complaints' ORDER BY 1",
    "SELECT * FROM budget",
    // Errors that depend on values.
    "SELECT 1 / (days - 999) FROM complaints",
    "SELECT CAST(district AS INT) FROM complaints WHERE district NOT IN ('Kota', 'Sungai')",
    "SELECT arrow_cast(days, 'Int8') FROM complaints ORDER BY time",
];

const SHOWN: [Complaint; 6] = [
    ("PUPR", "Kota", "Sari", 0.123456, 3),
    ("PUPR", "Kota", "Budi", 0.0263, 4),
    ("PUPR", "Sungai", "Sari", 0.0311, 5),
    ("PUPR", "Sungai", "Dewi", -0.0299, 7),
    ("PUPR", "Kota", "Agus", 0.0552, 1),
    ("PUPR", "Sungai", "Rina", 0.0018, 2),
];

#[test]
fn hidden_rows_columns_and_places_make_no_difference() {
    // Times are of the place in the list, so that rows that are seen have the same ones.
    let other = |district, days| ("BPBD", district, "Rahasia", 0.123456, days);
    let one: Vec<Complaint> = SHOWN.into_iter().chain([other("Kota", 999), other("Sekadau", 999)]).collect();
    // Other rows of another agency, other reporters, other places within the same hundredth of a degree; more of it all.
    let moved = SHOWN.map(|(agency, district, _, lat, days)| {
        (agency, district, "Lain", (lat * 100.0).floor() / 100.0 + 0.001, days)
    });
    let two: Vec<Complaint> =
        moved.into_iter().chain((0..40).map(|number| ("KES", "Tayan", "Lain", 0.2, -number))).collect();
    let (one, _one) = complaints(&one);
    let (two, _two) = complaints(&two);
    for (first, second) in [(0, 0), (1, 0), (1, 1)] {
        [(&one, first), (&two, second)].into_iter().filter(|(_, seals)| *seals > 0).for_each(|(store, _)| {
            store.seal().unwrap();
        });
        let (one, two) = (one.session_for(&agency()).unwrap(), two.session_for(&agency()).unwrap());
        for text in WAYS {
            let (said, same) = (said(&one, text), said(&two, text));
            assert_eq!(said, same, "{text}");
            for secret in ["BPBD", "KES", "Sekadau", "Rahasia", "0.123456", "999", "Sari"] {
                assert!(!said.replace(text, "").contains(secret) || text.contains(secret), "{text}: {said}");
            }
        }
    }
    // The test can fail: without the policy they do differ.
    let everything = Policy::new("all").table("complaints", Access::all());
    let (one, two) = (one.session_for(&everything).unwrap(), two.session_for(&everything).unwrap());
    assert_ne!(said(&one, WAYS[0]), said(&two, WAYS[0]));
    assert!(said(&one, "SELECT reporter FROM complaints").contains("Rahasia"));
}

#[test]
fn what_is_shown_is_right() {
    let (store, _dir) = complaints(&[&SHOWN[..], &[("BPBD", "Kota", "Rahasia", 0.5, 999)]].concat());
    let session = store.session_for(&agency()).unwrap();
    let rows = session.query("SELECT count(*) AS n, sum(days) AS days, max(lat) AS lat FROM complaints").unwrap();
    assert_eq!((rows.i64(0, "n").unwrap(), rows.i64(0, "days").unwrap()), (Some(6), Some(22)));
    assert_eq!(rows.f64(0, "lat").unwrap(), Some(0.12));
    let masked = Access::all()
        .mask("reporter", Mask::Text("***".into()))
        .mask("days", Mask::Coarse(5.0))
        .mask("lat", Mask::Null);
    let session = store.session_for(&Policy::new("masked").table("complaints", masked)).unwrap();
    let text = "SELECT reporter, days, count(lat) AS lats, count(*) AS n FROM complaints GROUP BY 1, 2 ORDER BY days";
    let rows = session.query(text).unwrap();
    let found: Vec<_> =
        (0..rows.num_rows()).map(|row| (rows.i64(row, "days").unwrap(), rows.i64(row, "n").unwrap())).collect();
    assert_eq!(found, [(Some(0), Some(4)), (Some(5), Some(2)), (Some(995), Some(1))]);
    assert_eq!((rows.str(0, "reporter").unwrap(), rows.i64(0, "lats").unwrap()), (Some("***"), Some(0)));
    // Rows that come later are seen, or not.
    let session = store.session_for(&agency()).unwrap();
    let mut writer = store.existing("complaints").unwrap().writer().unwrap();
    writer.append(row! { agency: "PUPR", district: "Kota", days: 1 }).unwrap();
    writer.append(row! { agency: "BPBD", district: "Kota", days: 1 }).unwrap();
    assert_eq!(session.query("SELECT count(*) AS n FROM complaints").unwrap().i64(0, "n").unwrap(), Some(7));
}

/// Only what is seen is read, where the policy is about tags: so the time that a count takes tells nothing either.
#[tokio::test]
async fn a_count_reads_what_is_seen() {
    let few: Vec<Complaint> = SHOWN.to_vec();
    let many: Vec<Complaint> =
        SHOWN.into_iter().chain((0..5_000).map(|n| ("BPBD", "Kota", "Rahasia", 0.2, n))).collect();
    let mut rows = Vec::new();
    for stored in [few, many] {
        let (store, _dir) = complaints(&stored);
        store.seal().unwrap();
        let session = store.session_for(&agency()).unwrap();
        let frame = session.sql("SELECT count(*) FROM complaints WHERE district <> 'Kota'").await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        assert!(
            displayable(plan.as_ref()).indent(true).to_string().contains("PolicyExec: table=complaints, policy=PUPR")
        );
        let inside = super::super::policy::inside(&plan).unwrap();
        let text = displayable(inside.as_ref()).indent(false).to_string();
        let read = text.split("rows=").nth(1).unwrap().split([',', '\n']).next().unwrap().to_string();
        rows.push(read);
    }
    assert_eq!(rows[0], rows[1]);
}

fn public() -> Policy {
    let shown = Access::all().mask("reporter", Mask::Hidden).mask("lat", Mask::Coarse(0.1)).groups_of(5);
    Policy::new("public").table("complaints", shown).table("districts", Access::all())
}

const IN_GROUPS: [&str; 12] = [
    "SELECT district, count(*), sum(days), avg(days), median(days) FROM complaints GROUP BY district ORDER BY district",
    "SELECT district, date_bin(INTERVAL '1 hour', time) AS h, count(*) AS n FROM complaints GROUP BY district, h ORDER BY n",
    "SELECT count(*) FROM complaints WHERE district = 'Tayan'",
    "SELECT district FROM complaints WHERE days = 77 GROUP BY district",
    "SELECT d.title, c.n FROM districts d LEFT JOIN (SELECT district, count(*) AS n FROM complaints GROUP BY district) c USING (district) ORDER BY 1, 2",
    "WITH c AS (SELECT district, avg(days) AS d FROM complaints GROUP BY district) SELECT max(d), count(*) FROM c",
    "SELECT n FROM (SELECT days, count(*) AS n FROM (SELECT * FROM complaints) AS x GROUP BY days) ORDER BY n",
    "SELECT lat, count(*) FROM complaints WHERE district = 'Tayan' GROUP BY lat",
    "SELECT district, count(*) FROM complaints WHERE district <> 'Kota' GROUP BY ROLLUP (district) HAVING count(*) > 0 ORDER BY 2",
    "SELECT count(*) FROM (SELECT district FROM complaints GROUP BY district) AS x",
    "EXPLAIN SELECT district, count(*) FROM complaints GROUP BY district",
    "SELECT * FROM districts WHERE (SELECT count(*) FROM complaints WHERE district = 'Tayan') > 0",
];

const REFUSED: [&str; 25] = [
    "SELECT * FROM complaints",
    "SELECT days FROM complaints WHERE district = 'Tayan'",
    "SELECT DISTINCT district FROM complaints",
    "SELECT max(days) FROM complaints",
    // What fails on a row tells of it.
    "SELECT count(*) FROM complaints WHERE CAST(district AS INT) > 0",
    "SELECT count(*) FROM complaints WHERE district > 0",
    "SELECT count(*) FROM complaints WHERE district IN ('Kota', 7)",
    "SELECT count(*) FROM complaints WHERE district = 'Tayan' AND 1 / (days - 77) > 0",
    "SELECT count(*) FROM complaints GROUP BY arrow_cast(district, 'Int64')",
    "SELECT CAST(district AS INT), count(*) FROM complaints GROUP BY 1",
    "SELECT sum(CAST(district AS BIGINT)) FROM complaints",
    "SELECT array_agg(days) FROM complaints",
    "SELECT last(days, time) FROM complaints",
    "SELECT count(*) FILTER (WHERE district = 'Tayan') FROM complaints",
    "SELECT sum(CASE WHEN district = 'Tayan' THEN days END) FROM complaints",
    "SELECT sum(x) FROM (SELECT CASE WHEN district = 'Tayan' THEN days END AS x FROM complaints) AS y",
    "SELECT count(*) OVER () FROM complaints",
    "SELECT count(*) FROM complaints c JOIN districts d ON c.district = d.district",
    "SELECT * FROM districts d WHERE EXISTS (SELECT 1 FROM complaints c WHERE c.district = d.district)",
    "SELECT (SELECT count(*) FROM complaints c WHERE c.district = d.district) FROM districts d",
    "SELECT count(*) FROM complaints WHERE days IN (SELECT days FROM complaints WHERE district = 'Tayan')",
    "SELECT count(*) FROM (SELECT * FROM complaints LIMIT 1) AS x",
    "SELECT count(*) FROM (SELECT * FROM complaints UNION ALL SELECT * FROM complaints) AS x",
    "SELECT count(*) FROM latest('complaints') ORDER BY max(time)",
    "EXPLAIN ANALYZE SELECT district, count(*) FROM complaints GROUP BY district",
];

#[test]
fn groups_of_too_few_rows_make_no_difference() {
    let many = |number: i64| ("PUPR", if number % 2 == 0 { "Kota" } else { "Sungai" }, "Sari", 0.15, number % 3);
    let few = |count: i64, days: i64| (0..count).map(move |_| ("PUPR", "Tayan", "Budi", 0.155, days));
    let (one, _one) = complaints(&(0..20).map(many).chain(few(1, 77)).collect::<Vec<_>>());
    let (two, _two) = complaints(&(0..20).map(many).chain(few(4, 78)).collect::<Vec<_>>());
    let (one, two) = (one.session_for(&public()).unwrap(), two.session_for(&public()).unwrap());
    for text in IN_GROUPS {
        let (said, same) = (said(&one, text), said(&two, text));
        // Those without a group key count all rows of the table that their condition leaves.
        if !text.contains("ROLLUP") {
            assert_eq!(said, same, "{text}");
        }
        assert!(!said.contains("error:"), "{text}: {said}");
        assert!(!said.contains("Tayan") || text.contains("Tayan") && text.contains("EXPLAIN"), "{text}: {said}");
        assert!(!said.contains("77") && !said.contains("78"), "{text}: {said}");
    }
    let rows = one.query(IN_GROUPS[0]).unwrap();
    assert_eq!((rows.num_rows(), rows.str(0, "district").unwrap()), (2, Some("Kota")));
    for text in REFUSED {
        let error = one.query(text).expect_err(text);
        assert!(matches!(error, Error::PolicyRefuses { .. }), "{text}: {error}");
    }
}

#[test]
fn a_policy_that_cannot_be_enforced_is_refused() {
    let (store, _dir) = complaints(&SHOWN);
    let of = |access: Access| store.session_for(&Policy::new("p").table("complaints", access)).expect_err("refused");
    let wrong = [
        (Access::all().rows("agncy = 'PUPR'"), "No field named agncy"),
        (Access::all().rows("days"), "is Int64 and no condition"),
        (Access::all().rows("random() < 0.5"), "is not the same each time"),
        (Access::all().rows("days > (SELECT 1)"), "days > (SELECT 1)"),
        (Access::all().rows("count(*) > 1"), "count(*) > 1"),
        (Access::all().mask("reporters", Mask::Hidden), "no column \"reporters\""),
        (Access::all().mask("days", Mask::Text("x".into())), "Text masks \"days\", which is Int64"),
        (Access::all().mask("district", Mask::Coarse(0.1)), "Coarse masks \"district\", which is Utf8View"),
        (Access::all().mask("lat", Mask::Coarse(0.0)), "give a positive number"),
        (Access::all().columns(["agency"]).mask("agency", Mask::Hidden), "no column is left"),
    ];
    for (access, words) in wrong {
        let error = of(access);
        assert!(matches!(error, Error::InvalidPolicy { .. }), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let missing = store.session_for(&Policy::new("p").table("nothing", Access::all())).expect_err("refused");
    assert!(matches!(missing, Error::UnknownTable { .. }), "{missing}");
}

/// The latest row that is seen may be before one that is hidden.
#[test]
fn latest_is_of_what_is_seen_or_refused() {
    let (store, _dir) = complaints(&SHOWN);
    let by_field = Policy::new("few").table("complaints", Access::all().rows("days < 5"));
    let session = store.session_for(&by_field).unwrap();
    let error = session.query("SELECT * FROM latest('complaints')").expect_err("a hidden row is the latest");
    assert!(matches!(error, Error::PolicyRefuses { .. }), "{error}");
    let last = "SELECT district, last(days, time) AS days FROM complaints GROUP BY district ORDER BY district";
    let rows = session.query(last).unwrap();
    let found: Vec<_> = (0..rows.num_rows()).map(|row| rows.i64(row, "days").unwrap()).collect();
    assert_eq!(found, [Some(1), Some(2)]);
    // The store's own tables are nobody's, of any session.
    let error = store.query("SELECT * FROM latest('__quarantine')").unwrap_err();
    assert!(matches!(error, Error::UnknownTable { .. }), "{error}");
}

#[test]
fn a_session_outlives_its_store_as_an_error() {
    let (store, _dir) = complaints(&SHOWN);
    let session = store.session_for(&agency()).unwrap();
    store.close().unwrap();
    drop(store);
    assert!(matches!(session.query("SELECT 1 FROM complaints"), Err(Error::Closed)));
}
