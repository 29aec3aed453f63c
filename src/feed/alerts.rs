//! Alert rules, what they fired, and who acknowledged it: tables that the scorecard reads and the application fills.

use std::time::Duration;

use crate::model::{Dedup, Schema};

/// The table `alert_rules`: which feed a rule watches, what for, and how soon somebody has to acknowledge. A row changes the
/// rule from its `time` on.
///
/// ```
/// use denyut::prelude::*;
/// # let dir = tempfile::tempdir().unwrap();
/// let city = Store::open(dir.path().join("kota"))?;
/// let mut rules = city.table(denyut::feed::alert_rules())?.writer()?;
/// rules.append(row! {
///     rule: "gate_high", feed: "water_level", condition: "level_cm > 300", ack_within_s: 900_i64, enabled: true
/// })?;
/// # Ok::<(), denyut::Error>(())
/// ```
pub fn alert_rules() -> Schema {
    Schema::new(RULES)
        .tag("rule")
        .utf8("feed", "")
        .utf8("condition", "")
        .i64("ack_within_s", "s")
        .bool("enabled", "")
        .required("feed")
        .required("ack_within_s")
        .required("enabled")
        .dedup(Dedup::LastWrite)
        .partition(YEAR)
}

/// The table `alert_firings`: at its `time` a rule fired. `firing` is what acknowledgements call it, one text for each.
pub fn alert_firings() -> Schema {
    Schema::new(FIRINGS).tag("rule").utf8("firing", "").f64("value", "").utf8("message", "").required("firing")
}

/// The table `alert_acknowledgements`: at its `time` somebody took a firing on.
pub fn alert_acknowledgements() -> Schema {
    Schema::new(ACKNOWLEDGEMENTS).tag("rule").utf8("firing", "").utf8("by", "").required("firing")
}

/// The table `external_scores`: figures that others give the city, such as SPBE or ISO 37120, as they give them. Nothing here
/// computes one.
pub fn external_scores() -> Schema {
    Schema::new("external_scores")
        .tag("score")
        .tag("indicator")
        .tag("source")
        .f64("value", "")
        .f64("scale_max", "")
        .utf8("note", "")
        .required("value")
        .dedup(Dedup::LastWrite)
        .partition(YEAR)
}

pub(super) const RULES: &str = "alert_rules";
pub(super) const FIRINGS: &str = "alert_firings";
pub(super) const ACKNOWLEDGEMENTS: &str = "alert_acknowledgements";

/// Rows that come once in a while are kept together.
const YEAR: Duration = Duration::from_secs(366 * 86_400);
