//! What the feeds are: which agency sends them, into which table they go, and how a line of their file becomes a row.
//!
//! The files were taken in different years. To have them in one room, each feed is moved by whole weeks, which keeps the
//! hour of the day and the day of the week, so that all end in the last days of 2013; values are untouched.

use std::time::Duration;

use denyut::prelude::*;

/// One stream of measurements, which is one file.
pub(crate) struct Feed {
    /// As the panels and the check name it.
    pub(crate) name: &'static str,
    /// Where its rows go. Feeds of one kind share a table.
    pub(crate) table: &'static str,
    /// Under the data folder.
    pub(crate) file: &'static str,
    /// Data rows of the file, as its README says.
    pub(crate) rows: u64,
    pub(crate) stamp: Stamp,
    pub(crate) moved_weeks: i64,
    /// Tags that are the same in every row.
    pub(crate) fixed: &'static [(&'static str, &'static str)],
    /// Tags by column of the file.
    pub(crate) tags: &'static [(&'static str, &'static str)],
    /// What is measured.
    pub(crate) fields: &'static [Measured],
    /// How often each series is expected to send.
    cadence: Duration,
}

/// A field and the column of the file it comes from.
pub(crate) struct Measured {
    pub(crate) field: &'static str,
    pub(crate) field_type: FieldType,
    unit: &'static str,
    pub(crate) column: &'static str,
}

/// How a file says when.
pub(crate) enum Stamp {
    /// A wall clock in the column `timestamp`, without a zone; taken as UTC.
    Wall,
    /// The UTC hour in `time_hour`.
    Hour,
    /// The UTC hour in `time_hour`, the minute in `minute`. The row is the departure planned for then, and is known when
    /// the plane leaves, `dep_delay` minutes later.
    Departure,
}

const fn f64(field: &'static str, unit: &'static str, column: &'static str) -> Measured {
    Measured { field, field_type: FieldType::F64, unit, column }
}

const fn i64(field: &'static str, unit: &'static str, column: &'static str) -> Measured {
    Measured { field, field_type: FieldType::I64, unit, column }
}

const fn text(field: &'static str, column: &'static str) -> Measured {
    Measured { field, field_type: FieldType::Utf8, unit: "", column }
}

const SPEED: &[Measured] = &[i64("speed_mph", "mph", "value")];

/// The feeds of the room.
pub(crate) const FEEDS: [Feed; 7] = [
    Feed {
        name: "speed_6005",
        table: "road_speed",
        file: "nab/speed_6005.csv",
        rows: 2_500,
        stamp: Stamp::Wall,
        moved_weeks: -90,
        fixed: &[("agency", "traffic"), ("detector", "6005")],
        tags: &[],
        fields: SPEED,
        cadence: Duration::from_secs(600),
    },
    Feed {
        name: "speed_7578",
        table: "road_speed",
        file: "nab/speed_7578.csv",
        rows: 1_127,
        stamp: Stamp::Wall,
        moved_weeks: -90,
        fixed: &[("agency", "traffic"), ("detector", "7578")],
        tags: &[],
        fields: SPEED,
        cadence: Duration::from_secs(600),
    },
    Feed {
        name: "occupancy_6005",
        table: "road_occupancy",
        file: "nab/occupancy_6005.csv",
        rows: 2_380,
        stamp: Stamp::Wall,
        moved_weeks: -90,
        fixed: &[("agency", "traffic"), ("detector", "6005")],
        tags: &[],
        fields: &[f64("occupancy_pct", "%", "value")],
        cadence: Duration::from_secs(600),
    },
    Feed {
        name: "travel_time_387",
        table: "travel_time",
        file: "nab/TravelTime_387.csv",
        rows: 2_500,
        stamp: Stamp::Wall,
        moved_weeks: -90,
        fixed: &[("agency", "traffic"), ("stretch", "387")],
        tags: &[],
        fields: &[i64("travel_s", "s", "value")],
        cadence: Duration::from_secs(900),
    },
    Feed {
        name: "taxi_demand",
        table: "taxi_demand",
        file: "nab/nyc_taxi.csv",
        rows: 10_320,
        stamp: Stamp::Wall,
        moved_weeks: -57,
        fixed: &[("agency", "transport"), ("city", "New York")],
        tags: &[],
        fields: &[i64("passengers", "persons per 30 min", "value")],
        cadence: Duration::from_secs(1_800),
    },
    Feed {
        name: "weather",
        table: "weather",
        file: "weather.csv.gz",
        rows: 26_115,
        stamp: Stamp::Hour,
        moved_weeks: 0,
        fixed: &[("agency", "weather")],
        tags: &[("airport", "origin")],
        fields: &[
            f64("temp_f", "degF", "temp"),
            f64("dew_point_f", "degF", "dewp"),
            f64("humidity_pct", "%", "humid"),
            f64("wind_dir_deg", "deg", "wind_dir"),
            f64("wind_mph", "mph", "wind_speed"),
            f64("gust_mph", "mph", "wind_gust"),
            f64("precip_in", "in", "precip"),
            f64("pressure_mbar", "mbar", "pressure"),
            f64("visibility_mi", "mi", "visib"),
        ],
        cadence: Duration::from_secs(3_600),
    },
    Feed {
        name: "flights",
        table: "flights",
        file: "flights.csv.gz",
        rows: 336_776,
        stamp: Stamp::Departure,
        moved_weeks: 0,
        fixed: &[("agency", "airports")],
        tags: &[("carrier", "carrier"), ("origin", "origin"), ("dest", "dest")],
        fields: &[
            text("flight", "flight"),
            i64("distance_mi", "mi", "distance"),
            i64("dep_delay_min", "min", "dep_delay"),
            i64("arr_delay_min", "min", "arr_delay"),
            i64("air_time_min", "min", "air_time"),
        ],
        cadence: Duration::from_secs(86_400),
    },
];

impl Feed {
    /// The table as the library wants it declared.
    pub(crate) fn schema(&self) -> Schema {
        let schema = Schema::new(self.table).cadence(self.cadence);
        let schema = self.fixed.iter().chain(self.tags).fold(schema, |schema, (tag, _)| schema.tag(*tag));
        self.fields.iter().fold(schema, |schema, of| schema.field(of.field, of.field_type, of.unit))
    }
}
