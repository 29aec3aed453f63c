//! Reading parts of a segment: rows that were asked for, and pages whose times meet a range.

use super::*;

const START_NS: i64 = 1_700_000_000_000_000_000;
const ROWS: i64 = 30_000;

#[test]
fn rows_and_pages_of_a_segment_are_those_asked_for() {
    // One block has all rows, so one segment does.
    let options = Store::options().block_bytes_min(1 << 20).live_bytes_max(8 << 20).without_background();
    let store = Store::open_on(SimFs::new(1), options, Path::new("/store")).unwrap();
    let year = std::time::Duration::from_secs(365 * 86_400);
    let table = store.table(Schema::new("numbers").tag("writer").i64("number", "").partition(year)).unwrap();
    let (mut writer, series) = (table.writer().unwrap(), [table.series(["a"]).unwrap(), table.series(["b"]).unwrap()]);
    for number in 0..ROWS {
        let who = series[usize::from(number >= ROWS / 2)];
        let _ = writer.append_to(who, Time::from_nanos(START_NS + number), &[Value::I64(number)]).unwrap();
    }
    store.seal().unwrap();
    let view = store.inner.core.view.load();
    let state = view.tables.values().find(|table| table.schema.name == "numbers").unwrap();
    let mut seen = 0;
    for segment in state.segments.iter() {
        let read = |rows: Option<Vec<std::ops::Range<u64>>>, time| -> Vec<(i64, u32)> {
            let sorted = segment.read_sorted(&state.schema, &[0, 2], rows, time, (1_000, false)).unwrap();
            let rows = sorted.flat_map(|sorted| {
                let sorted = sorted.unwrap();
                let numbers = sorted.columns[1].as_primitive::<Int64Type>().clone();
                numbers.iter().flatten().zip(sorted.series).collect::<Vec<_>>()
            });
            rows.collect()
        };
        let all = read(None, None);
        assert_eq!(all.len() as u64, segment.meta.rows);
        assert!(
            all.iter().all(|(number, series)| *series == u32::from(*number >= ROWS / 2)),
            "each row is of its series"
        );
        seen += all.len();
        let some = vec![5..10, 100..8_200, 8_300..segment.meta.rows];
        let expected: Vec<_> =
            some.iter().flat_map(|rows| all[rows.start as usize..rows.end as usize].to_vec()).collect();
        assert_eq!(read(Some(some.clone()), None), expected);
        let (low, high) = (all[all.len() / 2].0, all[all.len() / 2].0 + 10);
        for rows in [None, Some(some)] {
            let within = rows.is_some();
            let found = read(rows, Some((START_NS + low, START_NS + high)));
            let from = if within { &expected } else { &all };
            let wanted: Vec<_> = from.iter().filter(|(number, _)| (low..=high).contains(number)).collect();
            assert!(wanted.iter().all(|row| found.contains(row)), "all that was asked for");
            assert!(found.iter().all(|row| from.contains(row)), "and none that was not there");
            assert!(found.len() <= 2 * 8_192, "two pages at most: {}", found.len());
        }
        assert!(read(None, Some((0, 1))).is_empty());
        assert!(segment.read_sorted(&state.schema, &[99], None, None, (1_000, false)).is_err(), "no such column");
    }
    assert_eq!(seen as i64, ROWS);
}
