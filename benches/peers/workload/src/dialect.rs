//! Whose SQL a question is written in: times, bins, newest values and joins by time are spelled differently by each.

use crate::ask::{Ask, SECOND, Sql};

/// Whose SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// denyut.
    Denyut,
    /// DataFusion on its own.
    DataFusion,
    /// DuckDB, over its own tables.
    DuckDb,
    /// DuckDB, over Parquet files with times in UTC.
    DuckDbParquet,
    /// chDB.
    ChDb,
    /// SQLite, where times are nanoseconds.
    Sqlite,
}

impl Dialect {
    /// By the name that workers and tables use.
    pub fn of(engine: &str) -> Option<Self> {
        Some(match engine {
            "denyut" => Self::Denyut,
            "datafusion" => Self::DataFusion,
            "duckdb" => Self::DuckDb,
            "duckdb-parquet" => Self::DuckDbParquet,
            "chdb" => Self::ChDb,
            "sqlite" => Self::Sqlite,
            _ => return None,
        })
    }

    /// The begin of the bin of `seconds` that `time` is in.
    pub fn bin(self, seconds: i64) -> String {
        match self {
            Self::Denyut | Self::DataFusion => format!("date_bin(INTERVAL '{seconds} seconds', time)"),
            Self::DuckDb => format!("time_bucket(INTERVAL '{seconds} seconds', time)"),
            Self::DuckDbParquet => format!("time_bucket(INTERVAL '{seconds} seconds', {})", self.time("time")),
            Self::ChDb => format!("toStartOfInterval(time, INTERVAL {seconds} SECOND)"),
            Self::Sqlite => format!("time / {0} * {0}", seconds * 1_000_000_000),
        }
    }

    /// A moment, to compare `time` with. Whole seconds only.
    pub fn moment(self, ns: i64) -> String {
        let text = utc(ns);
        match self {
            Self::Denyut | Self::DataFusion => format!("TIMESTAMP '{text}Z'"),
            Self::DuckDb => format!("TIMESTAMP '{text}'"),
            Self::DuckDbParquet => format!("CAST('{text}+00' AS TIMESTAMPTZ_NS)"),
            Self::ChDb => format!("toDateTime64('{text}', 3, 'UTC')"),
            Self::Sqlite => ns.to_string(),
        }
    }

    /// A time, to reckon with.
    pub fn time(self, time: &str) -> String {
        match self {
            // It does not reckon with nanoseconds.
            Self::DuckDbParquet => format!("CAST({time} AS TIMESTAMPTZ)"),
            _ => time.to_string(),
        }
    }

    /// The value of `field` in the newest row of a group.
    pub fn newest(self, field: &str) -> String {
        match self {
            Self::Denyut => format!("last({field}, time)"),
            Self::DataFusion => format!("last_value({field} ORDER BY time)"),
            Self::DuckDb | Self::DuckDbParquet => format!("arg_max({field}, time)"),
            Self::ChDb => format!("argMax({field}, time)"),
            // SQLite takes bare columns from the row that has the maximum.
            Self::Sqlite => field.to_string(),
        }
    }

    /// The value of the row before, in a window whose frame is [`Self::previous_frame`]; null if there is none.
    pub fn previous(self, value: &str) -> String {
        match self {
            // Without a null it would be 0.
            Self::ChDb => format!("lagInFrame(toNullable({value}))"),
            _ => format!("lag({value})"),
        }
    }

    /// chDB's function for it looks no further than the frame.
    pub fn previous_frame(self) -> &'static str {
        if self == Self::ChDb { " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW" } else { "" }
    }

    /// What stands between and behind two tables `a` and `b` to give each row of `a` that of `b` with the same keys
    /// which is the newest not after it, and nulls if there is none.
    pub fn asof(self, a: &str, b: &str, keys: &[(&str, &str)]) -> Result<(&'static str, String), &'static str> {
        let keys: Vec<String> = keys.iter().map(|(of_a, of_b)| format!("{a}.{of_a} = {b}.{of_b}")).collect();
        let keys = keys.join(" AND ");
        match self {
            Self::Denyut => Ok(("ASOF JOIN", format!("MATCH_CONDITION ({a}.time >= {b}.time) ON {keys}"))),
            Self::DuckDb | Self::DuckDbParquet | Self::ChDb => {
                Ok(("ASOF LEFT JOIN", format!("ON {keys} AND {a}.time >= {b}.time")))
            }
            Self::DataFusion | Self::Sqlite => Err("has no ASOF JOIN"),
        }
    }

    /// All begins of bins of `seconds` from that of moment 0 to before moment 1, as a table with a column `bin`.
    fn bins(self, ask: &Ask, seconds: i64) -> String {
        let step = seconds * SECOND;
        let (first, last) = (ask.moments[0].div_euclid(step) * step, (ask.moments[1] - 1).div_euclid(step) * step);
        let (from, to) = (self.moment(first), self.moment(last));
        match self {
            Self::Denyut | Self::DataFusion => format!(
                "SELECT arrow_cast(value, 'Timestamp(Nanosecond, Some(\"UTC\"))') AS bin \
                 FROM generate_series({from}, {to}, INTERVAL '{seconds} seconds')"
            ),
            Self::DuckDb => {
                format!("SELECT unnest(generate_series({from}, {to}, INTERVAL '{seconds} seconds')) AS bin")
            }
            Self::DuckDbParquet => format!(
                "SELECT unnest(generate_series(CAST({from} AS TIMESTAMPTZ), CAST({to} AS TIMESTAMPTZ), \
                 INTERVAL '{seconds} seconds')) AS bin"
            ),
            Self::ChDb => format!(
                "SELECT toDateTime({}, 'UTC') + number * {seconds} AS bin FROM numbers({})",
                first / SECOND,
                (last - first) / step + 1
            ),
            Self::Sqlite => format!("SELECT value AS bin FROM counting WHERE value <= {to}"),
        }
    }

    /// Means of a field in every bin between moments 0 and 1, of the series whose `tag` is text 0; a bin without rows
    /// has the mean before it. No rows at all, no bins.
    pub fn curve(self, ask: &Ask, table: &str, tag: &str, field: &str, seconds: i64) -> Sql {
        let (bin, window) = (self.bin(seconds), ask.between(self, 0, 1));
        let rows = format!("FROM {table} WHERE {tag} = '{}' AND {window}", ask.texts[0]);
        if self == Self::Denyut {
            return Ok(format!(
                "SELECT date_bin_gapfill(INTERVAL '{seconds} seconds', time) AS bin, locf(avg({field})) AS held \
                 {rows} GROUP BY bin ORDER BY bin"
            ));
        }
        let mean = if self == Self::ChDb { format!("toNullable(avg({field}))") } else { format!("avg({field})") };
        let (bins, any) = (self.bins(ask, seconds), "(SELECT count(*) FROM means) > 0");
        let means = format!("means AS (SELECT {bin} AS bin, {mean} AS mean {rows} GROUP BY bin)");
        if self == Self::Sqlite {
            // It has no IGNORE NULLS.
            let step = seconds * SECOND;
            let first = ask.moments[0].div_euclid(step) * step;
            return Ok(format!(
                "WITH RECURSIVE {means}, counting(value) AS (SELECT {first} UNION ALL SELECT value + {step} \
                 FROM counting WHERE value < {}), bins AS ({bins}) SELECT bin, (SELECT mean FROM means WHERE means.bin <= bins.bin \
                 ORDER BY means.bin DESC LIMIT 1) AS held FROM bins WHERE {any} ORDER BY bin",
                ask.moments[1]
            ));
        }
        let held = match self {
            Self::DuckDb | Self::DuckDbParquet => "last_value(mean IGNORE NULLS)",
            _ => "last_value(mean) IGNORE NULLS",
        };
        Ok(format!(
            "WITH {means}, bins AS ({bins}) SELECT bins.bin AS bin, {held} OVER (ORDER BY bins.bin \
             ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS held FROM bins \
             LEFT JOIN means ON bins.bin = means.bin WHERE {any} ORDER BY bin"
        ))
    }
}

/// `2024-01-01 00:00:00`, after Hinnant, "chrono-compatible low-level date algorithms".
pub fn utc(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + year;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// The moment of `2024-01-01 00:00:00` or `2024-01-01T00:00:00Z`.
pub fn nanos(text: &str) -> Option<i64> {
    let number = |at: std::ops::Range<usize>| text.get(at)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Of years that begin in March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devops::START_NS;

    #[test]
    fn moments_are_written_out() {
        assert_eq!(utc(START_NS), "2024-01-01 00:00:00");
        for ns in [START_NS, 951_782_399_000_000_000, 1_709_208_001_000_000_000, -1_000_000_000] {
            assert_eq!(nanos(&utc(ns)), Some(ns));
        }
        assert_eq!(nanos("2024-01-01T00:00:00Z"), Some(START_NS));
        assert_eq!(nanos("yesterday"), None);
        assert_eq!(utc(951_782_399_000_000_000), "2000-02-28 23:59:59");
        assert_eq!(utc(1_709_208_001_000_000_000), "2024-02-29 12:00:01");
    }
}
