//! What functions hold is counted: little memory is an error or a slower answer, never another one.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{answer, register};

const SAMPLES: &str = "(SELECT value % 2000 AS k, value / 2000 % 7 AS v, arrow_cast(value, 'Timestamp(Second, None)') \
    AS time FROM range(0, 400000))";

fn limited(bytes: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(2).with_sort_spill_reservation_bytes(64 << 10);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(bytes))).build_arc().unwrap();
    let context = SessionContext::new_with_config_rt(config, runtime);
    register(&context).unwrap();
    context
}

#[test]
fn samples_of_many_groups_are_all_there_or_are_refused() {
    let texts = [
        format!("SELECT k, increase(v, time), state_changes(v, time) FROM {SAMPLES} GROUP BY k ORDER BY k"),
        format!("SELECT k, first(v, time), last(CAST(v AS VARCHAR), time) FROM {SAMPLES} GROUP BY k ORDER BY k"),
    ];
    for text in texts {
        let wanted = answer(&limited(1 << 30), &text).unwrap();
        assert_eq!(wanted.len(), 2_000);
        for megabytes in [1, 4, 16] {
            match answer(&limited(megabytes << 20), &text) {
                Ok(found) => assert_eq!(found, wanted, "{megabytes} MiB: {text}"),
                Err(error) => {
                    let root = error.find_root();
                    assert!(matches!(root, DataFusionError::ResourcesExhausted(_)), "{megabytes} MiB: {text}: {root}");
                }
            }
        }
    }
}

#[test]
fn samples_of_one_group_are_counted() {
    let text = format!("SELECT k > 0, rate(v, time) FROM {SAMPLES} GROUP BY k > 0");
    let error = answer(&limited(1 << 20), &text).unwrap_err();
    assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
    // Two samples say it all.
    let text = format!("SELECT k > 0, irate(v, time), delta(v, time) FROM {SAMPLES} GROUP BY k > 0");
    assert_eq!(answer(&limited(8 << 20), &text).unwrap().len(), 2);
}

#[test]
fn gaps_of_many_groups_are_filled_or_refused() {
    let time = |second: i64| format!("arrow_cast({second}, 'Timestamp(Second, None)')");
    let text = format!(
        "SELECT count(*), count(v), sum(l), count(DISTINCT k) FROM (SELECT k, \
         date_bin_gapfill(INTERVAL '1000 seconds', time) AS bin, max(v) AS v, locf(max(v)) AS l \
         FROM {SAMPLES} WHERE time >= {} AND time < {} GROUP BY k, bin)",
        time(0),
        time(400_000)
    );
    let wanted = answer(&limited(1 << 30), &text).unwrap();
    assert!(wanted[0].starts_with("800000,400000,") && wanted[0].ends_with(",2000"), "{wanted:?}");
    for megabytes in [4, 8, 16, 24, 32, 64] {
        match answer(&limited(megabytes << 20), &text) {
            Ok(found) => assert_eq!(found, wanted, "{megabytes} MiB"),
            Err(error) => {
                let root = error.find_root();
                assert!(matches!(root, DataFusionError::ResourcesExhausted(_)), "{megabytes} MiB: {root}");
            }
        }
    }
}

#[test]
fn gaps_of_any_length_take_a_batch() {
    let filled = |function: &str, step: &str, days: i64| {
        format!(
            "SELECT count(*), count(l), round(sum(i)) FROM (SELECT {function}(INTERVAL '{step}', time) AS bin, \
             locf(max(v)) AS l, interpolate(max(v)) AS i FROM (SELECT t AT TIME ZONE 'Asia/Pontianak' AS time, v FROM \
             (VALUES (TIMESTAMP '2026-01-01 00:00:00', 0.0), (TIMESTAMP '2026-01-01 00:30:00', 2.0)) AS x(t, v)) \
             WHERE time >= '2026-01-01T00:00:00+07:00' AND time < '2026-01-{:02}T00:00:00+07:00' GROUP BY bin)",
            days + 1
        )
    };
    let text = filled("date_bin_gapfill", "200 milliseconds", 1);
    assert_eq!(answer(&limited(4 << 20), &text).unwrap(), ["432000,432000,9001.0"]);
    // The bins of a zone are held: 8 bytes each.
    let text = filled("date_bin_wallclock_gapfill", "1 second", 1);
    assert_eq!(answer(&limited(4 << 20), &text).unwrap(), ["86400,86400,1801.0"]);
    let text = filled("date_bin_wallclock_gapfill", "100 milliseconds", 30);
    let error = answer(&limited(4 << 20), &text).unwrap_err();
    assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
}
