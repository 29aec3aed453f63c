//! Thresholds of the scorecard. They are this crate's defaults and the host's to set; nobody's official ones.

use std::time::Duration;

/// What an agency must reach to be at a stage, and what the scorecard looks at.
///
/// Shares are parts of one. Set with [`Options::scorecard`](crate::Options::scorecard).
///
/// ```
/// use std::time::Duration;
/// use denyut::{Scorecard, Store};
/// let strict = Scorecard::default().integrative_in_cadence_share(0.9).window(Duration::from_secs(7 * 86_400));
/// let options = Store::options().scorecard(strict).zone("Asia/Pontianak");
/// # drop(options);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Scorecard {
    pub(crate) window: Duration,
    pub(crate) alert_window: Duration,
    pub(crate) initiative_automatic_share: f64,
    pub(crate) scattered_in_cadence_share: f64,
    pub(crate) integrative_in_cadence_share: f64,
    pub(crate) integrative_conform_share: f64,
    pub(crate) integrative_keys_share: f64,
    pub(crate) smart_alert_rules_share: f64,
    pub(crate) smart_acknowledged_share: f64,
    pub(crate) smart_baselines: u64,
    pub(crate) city_share: f64,
    pub(crate) feeds_max: usize,
}

impl Default for Scorecard {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(86_400),
            alert_window: Duration::from_secs(30 * 86_400),
            initiative_automatic_share: 0.1,
            scattered_in_cadence_share: 0.5,
            integrative_in_cadence_share: 0.8,
            integrative_conform_share: 0.95,
            integrative_keys_share: 0.9,
            smart_alert_rules_share: 0.8,
            smart_acknowledged_share: 0.8,
            smart_baselines: 1,
            city_share: 0.8,
            feeds_max: 1_024,
        }
    }
}

impl Scorecard {
    setters! {
        /// How far back rows are counted; a feed's cadence, if that is longer. Default a day.
        window: Duration,
        /// How far back firings of alerts are counted. Default 30 days.
        alert_window: Duration,
        /// *Initiative*: the share of an agency's feeds that arrive by themselves. Default 0.1.
        initiative_automatic_share: f64,
        /// *Scattered*: the share of feeds that arrive by themselves and within cadence. Default 0.5.
        scattered_in_cadence_share: f64,
        /// *Integrative*: the same share. Default 0.8.
        integrative_in_cadence_share: f64,
        /// *Integrative*: the share of rows that conform to their contract. Default 0.95.
        integrative_conform_share: f64,
        /// *Integrative*: the share of keys that resolve in their dimension. Default 0.9.
        integrative_keys_share: f64,
        /// *Smart*: the share of feeds with an alert rule. Default 0.8.
        smart_alert_rules_share: f64,
        /// *Smart*: the share of firings that were acknowledged in time. Default 0.8.
        smart_acknowledged_share: f64,
        /// *Smart*: feeds with a baseline. Default 1.
        smart_baselines: u64,
        /// The city is at the highest stage that this share of its agencies reaches. Default 0.8.
        city_share: f64,
        /// Feeds in force at a time. Default 1,024.
        feeds_max: usize,
    }
}
