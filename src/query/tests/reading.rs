//! What a reader sees.

use super::*;

#[test]
fn counts_and_times_come_from_statistics() {
    let (store, _dir) = filled();
    for text in ["SELECT count(*) FROM water", "SELECT min(time), max(time), count(*), count(gate) FROM water"] {
        let plan = explain(&store, text);
        assert!(plan.contains("PlaceholderRow") && !plan.contains("DenyutScan"), "{plan}");
    }
    let rows = store.query("SELECT count(*) AS n, min(time) AS first, max(time) AS last FROM water").unwrap();
    assert_eq!(rows.i64(0, "n").unwrap(), Some(5_000));
    assert_eq!(rows.i64(0, "first").unwrap(), Some(START_NS));
    assert_eq!(rows.i64(0, "last").unwrap(), Some(START_NS + 4_999 * 10_000_000_000));
    // A field's extremes are never known without looking.
    assert!(explain(&store, "SELECT max(level_cm) FROM water").contains("DenyutScan"));
    assert!(explain(&store, "SELECT count(note) FROM water").contains("DenyutScan"));
    assert_eq!(store.query("SELECT count(note) AS n FROM water").unwrap().i64(0, "n").unwrap(), Some(3_333));
}

#[test]
fn a_table_without_rows_answers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    store.table(water()).unwrap();
    let rows = store.query("SELECT count(*) AS n, min(time) AS first, max(level_cm) AS top FROM water").unwrap();
    assert_eq!((rows.i64(0, "n").unwrap(), rows.i64(0, "first").unwrap()), (Some(0), None));
    assert_eq!(rows.f64(0, "top").unwrap(), None);
    let rows = store.query("SELECT * FROM water WHERE gate = 'x'").unwrap();
    assert_eq!((rows.num_rows(), rows.schema().fields().len()), (0, 7));
    assert!(rows.to_string().contains("level_cm"));
}

#[test]
fn a_row_is_seen_by_the_query_after_it() {
    let (store, _dir) = filled();
    let table = store.existing("water").unwrap();
    for number in 5_000..5_020 {
        append(&table, number..number + 1);
        let rows =
            store.query("SELECT count(*) AS n, count(number) AS counted, max(number) AS top FROM water").unwrap();
        assert_eq!(rows.i64(0, "n").unwrap(), Some(number + 1));
        assert_eq!(rows.i64(0, "counted").unwrap(), Some(number + 1));
        assert_eq!(rows.i64(0, "top").unwrap(), Some(number));
    }
}

#[test]
fn all_tables_of_a_statement_show_one_moment() {
    let (store, _dir) = filled();
    let table = store.existing("water").unwrap();
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| append(&table, 5_000..25_000));
        while !appending.is_finished() {
            let text = "SELECT (SELECT count(number) FROM water) - (SELECT sum(1) FROM water AS again) AS moved";
            assert_eq!(store.query(text).unwrap().i64(0, "moved").unwrap(), Some(0));
        }
    });
}

#[test]
fn an_answer_outlives_its_store_and_holds_no_block() {
    let (store, dir) = filled();
    let rows = store.query("SELECT * FROM water WHERE number >= 4320 ORDER BY number").unwrap();
    let lists = store.query("SELECT array_agg(note ORDER BY number) AS notes FROM water WHERE number > 4990").unwrap();
    store.close().unwrap();
    drop(store);
    drop(dir);
    assert_eq!(rows.num_rows(), 680);
    assert_eq!(rows.str(1, "note").unwrap(), Some("a note on row 4321, too long for a view"));
    assert_eq!(rows.str(2, "gate").unwrap(), Some(GATES[2]));
    assert!(lists.to_string().contains("a note on row 4999, too long for a view"));
}

#[test]
fn a_copied_batch_shares_nothing_and_carries_only_what_it_shows() {
    use arrow::array::{ArrayRef, ListArray, RecordBatch, StringViewArray};
    use arrow::buffer::{OffsetBuffer, ScalarBuffer};
    use arrow::datatypes::{DataType, Field};
    let text = |row: usize| format!("text number {row} that is not inline");
    let texts: StringViewArray = (0..10_000).map(|row| Some(text(row))).collect();
    let offsets = OffsetBuffer::new(ScalarBuffer::from((0..=1_000).map(|list| list * 10).collect::<Vec<i32>>()));
    let field = Arc::new(Field::new_list_field(DataType::Utf8View, true));
    let lists = ListArray::new(field, offsets, Arc::new(texts.clone()), None);
    let batch = RecordBatch::try_from_iter([
        ("text", Arc::new(texts.slice(0, 1_000)) as ArrayRef),
        ("list", Arc::new(lists) as ArrayRef),
    ])
    .unwrap()
    .slice(500, 3);
    let copy = crate::snapshot::copying::owned(&batch).unwrap();
    assert_eq!(copy, batch);
    assert!(batch.get_array_memory_size() > 300_000 && copy.get_array_memory_size() < 10_000);
}

#[test]
fn a_query_works_inside_of_a_runtime_and_outside() {
    let (store, _dir) = filled();
    let ask = || store.query("SELECT sum(number) AS sum FROM water").unwrap().i64(0, "sum").unwrap();
    let expected = Some((0..5_000).sum());
    assert_eq!(ask(), expected);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { assert_eq!(ask(), expected) });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async { assert_eq!(ask(), expected) });
}

#[test]
fn a_frame_runs_on_a_runtime_without_a_timer_and_on_none() {
    let (store, _dir) = filled();
    let text = "SELECT gate, sum(number) AS sum FROM water GROUP BY gate ORDER BY gate";
    let expected = store.query(text).unwrap().to_string();
    let run = async {
        let frame = store.sql(text).await.unwrap();
        let schema = Arc::new(frame.schema().as_arrow().clone());
        Rows::new(schema, frame.collect().await.unwrap()).to_string()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(run), expected);
    let text = async { store.sql("SELECT max(number) AS top FROM water").await.unwrap().collect().await.unwrap() };
    assert_eq!(futures::executor::block_on(text)[0].num_rows(), 1);
}

#[test]
fn the_last_handle_may_be_dropped_in_an_async_context() {
    let (store, dir) = filled();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let frame = runtime.block_on(async {
        let frame = store.sql("SELECT max(number) AS top FROM water").await.unwrap();
        assert_eq!(frame.clone().collect().await.unwrap().len(), 1);
        drop(store);
        frame
    });
    drop(dir);
    // A frame holds its snapshot, and so can still be read.
    runtime.spawn(async move { assert_eq!(frame.collect().await.unwrap().len(), 1) });
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
}

#[test]
fn system_tables_describe_the_store() {
    let (store, _dir) = filled();
    let one = |text: &str, column: &str| store.query(text).unwrap().i64(0, column).unwrap().unwrap();
    assert_eq!(one("SELECT rows FROM system.tables WHERE table_name = 'water'", "rows"), 5_000);
    assert_eq!(one("SELECT live_rows FROM system.tables", "live_rows"), 680);
    assert_eq!(one("SELECT sum(rows) AS n FROM system.segments", "n"), 4_320);
    assert_eq!(one("SELECT sum(rows) AS n FROM system.partitions", "n"), 4_320);
    assert_eq!(one("SELECT count(DISTINCT partition_start) AS n FROM system.partitions", "n"), 12);
    assert_eq!(one("SELECT sum(rows) AS n FROM system.live_blocks", "n"), 680);
    assert_eq!(one("SELECT count(*) AS n FROM system.series", "n"), 8);
    assert_eq!(one("SELECT count(*) AS n FROM system.fields WHERE kind = 'field'", "n"), 4);
    assert!(one("SELECT count(*) AS n FROM system.counters", "n") > 0);
    let rows = store.query("SELECT tags FROM system.series ORDER BY series_id").unwrap();
    assert_eq!(rows.str(0, "tags").unwrap(), Some(r#"{"gate":"Sei Wie","agency":"PUPR"}"#));
    let rows = store.query("SELECT unit FROM system.fields WHERE column_name = 'level_cm'").unwrap();
    assert_eq!(rows.str(0, "unit").unwrap(), Some("cm"));
    let shown = store.query("SHOW TABLES").unwrap().to_string();
    assert!(shown.contains("water") && shown.contains("live_blocks"), "{shown}");
    assert!(store.query("DESCRIBE water").unwrap().to_string().contains("level_cm"));
    assert!(store.query("SHOW COLUMNS FROM water").unwrap().to_string().contains("agency"));
}

#[test]
fn a_session_sees_each_new_row_and_may_do_more() {
    let (store, _dir) = filled();
    let session = store.session();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let count = || {
        let count = async { session.sql("SELECT count(number) FROM water").await.unwrap().collect().await.unwrap() };
        arrow::util::pretty::pretty_format_batches(&runtime.block_on(count)).unwrap().to_string()
    };
    assert!(count().contains("5000"));
    append(&store.existing("water").unwrap(), 5_000..5_001);
    assert!(count().contains("5001"));
    runtime.block_on(async {
        session.sql("SET datafusion.execution.batch_size = 100").await.unwrap();
        session.sql("PREPARE top AS SELECT max(number) FROM water WHERE gate = $1").await.unwrap();
        let top = session.sql("EXECUTE top('Sei Wie')").await.unwrap().collect().await.unwrap();
        assert!(arrow::util::pretty::pretty_format_batches(&top).unwrap().to_string().contains("5000"));
    });
}

#[test]
fn a_field_that_came_later_is_null_before() {
    let (store, _dir) = filled();
    let table = store.table(water().i64("flow", "m3/s")).unwrap();
    let mut writer = table.writer().unwrap();
    let time = Time::from_nanos(START_NS + 14 * HOUR_NS);
    let late = writer.append_at(time, row! { gate: "Sei Wie", agency: "PUPR", number: 5000, flow: 9 });
    assert_eq!(late.unwrap().accepted(), 1);
    let rows = store.query("SELECT count(flow) AS n, sum(flow) AS sum, count(*) AS all_rows FROM water").unwrap();
    assert_eq!(rows.i64(0, "n").unwrap(), Some(1));
    assert_eq!(rows.i64(0, "sum").unwrap(), Some(9));
    assert_eq!(rows.i64(0, "all_rows").unwrap(), Some(5_001));
}

#[test]
fn values_of_an_answer_are_checked() {
    let (engine, _dir) = engine(Options::default());
    let rows = engine
        .query("SELECT 'x' AS text, 1.5 AS half, CAST(18446744073709551615 AS BIGINT UNSIGNED) AS large")
        .unwrap();
    assert!(matches!(rows.i64(0, "text"), Err(Error::Batch { .. })));
    assert!(matches!(rows.i64(0, "large"), Err(Error::Batch { .. })));
    assert!(matches!(rows.i64(1, "half"), Err(Error::Batch { .. })));
    assert!(matches!(rows.i64(0, "nothing"), Err(Error::UnknownField { .. })));
    assert!(matches!(rows.str(0, "half"), Err(Error::Batch { .. })));
    assert_eq!(rows.f64(0, "half").unwrap(), Some(1.5));
}

#[test]
fn an_asof_join_needs_no_brackets() {
    let (engine, _dir) = engine(Options::default());
    let (a, b) = ("(VALUES (1, 'x'), (5, 'x')) AS a(t, k)", "(VALUES (2, 'x', 20), (4, 'x', 40)) AS b(t, k, v)");
    let join = format!("{a} ASOF JOIN {b} MATCH_CONDITION (a.t >= b.t) ON a.k = b.k");
    for (text, expected) in [
        (format!("SELECT sum(b.v) AS n FROM {join}"), 40),
        (format!("SELECT count(*) AS n FROM ({join})"), 2),
        (format!("WITH c AS (SELECT b.v FROM {join}) SELECT sum(v) AS n FROM c"), 40),
        (format!("SELECT (SELECT max(b.v) FROM {join}) AS n"), 40),
        (format!("SELECT sum(b.v) AS n FROM {join} JOIN (VALUES ('x'), ('x')) AS c(k) ON c.k = a.k"), 80),
        (format!("SELECT sum(b.v) AS n FROM (VALUES (1)) AS z(z), {join}"), 40),
        (format!("SELECT count(a.t) AS n FROM {join} ASOF JOIN (VALUES (3)) AS c(t) MATCH_CONDITION (a.t <= c.t)"), 2),
        (
            format!(
                "SELECT sum(c.t) AS n FROM {a} JOIN (VALUES (1)) AS z(z) ON true ASOF JOIN (VALUES (3)) AS c(t) MATCH_CONDITION (a.t <= c.t)"
            ),
            3,
        ),
        (format!("SELECT sum(v) AS n FROM {a} ASOF JOIN {b} MATCH_CONDITION (a.t >= b.t) USING (k) WHERE k = 'x'"), 40),
        (format!("SELECT n FROM (SELECT 1 AS n UNION ALL SELECT b.v FROM {join}) AS u WHERE n > 1"), 40),
    ] {
        let rows = engine.query(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(rows.i64(0, "n").unwrap(), Some(expected), "{text}");
    }
    let plan = engine.query(&format!("EXPLAIN SELECT * FROM {join}")).unwrap().to_string();
    assert!(plan.contains("AsofJoinExec: mode=index, match=[a.t >= b.t]"), "{plan}");
}

#[cfg(feature = "feed")]
#[test]
fn statements_of_one_moment_have_one_now() {
    let (engine, _dir) = engine(Options::default());
    let answers = engine.queries(&["SELECT now() AS n", "SELECT now() AS n", "SELECT now() AS n"]).unwrap();
    let nows: Vec<_> = answers.iter().map(|rows| rows.i64(0, "n").unwrap()).collect();
    assert!(nows.iter().all(|now| *now == nows[0]), "{nows:?}");
}
