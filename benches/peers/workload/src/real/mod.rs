//! What was really measured: the files below `examples/data/`, whose README says where they are from.
//!
//! Values and times are those of the files. Rows arrive in the order in which they became known, as the command center
//! replays them: a departure when the plane left, `dep_delay` minutes after the time that its row carries, so flights
//! are late by up to 21 hours; of all else, in order of time.

pub mod questions;

use crate::ask::{SECOND, Span, World};
use crate::dialect::nanos;
use crate::table::{Kind, Source, Table, Take};

/// A file, and the columns of it that are taken.
struct File {
    /// Below `examples/data/`.
    name: &'static str,
    /// The value of the only tag, where the file is one series.
    series: Option<&'static str>,
    /// Columns of tags.
    tags: &'static [&'static str],
    /// Columns of fields, in the order of the table's.
    fields: &'static [&'static str],
}

/// A table, and the files that it is made of.
struct Feed {
    table: Table,
    files: &'static [File],
}

const fn one(name: &'static str, series: &'static str) -> File {
    File { name, series: Some(series), tags: &[], fields: &["value"] }
}

const FEEDS: [Feed; 6] = [
    Feed {
        table: Table {
            name: "road_speed",
            tags: &["detector"],
            fields: &[("speed_mph", Kind::I64)],
            order: &["detector"],
        },
        files: &[one("nab/speed_6005.csv", "6005"), one("nab/speed_7578.csv", "7578")],
    },
    Feed {
        table: Table {
            name: "road_occupancy",
            tags: &["detector"],
            fields: &[("occupancy_pct", Kind::F64)],
            order: &["detector"],
        },
        files: &[one("nab/occupancy_6005.csv", "6005")],
    },
    Feed {
        table: Table {
            name: "travel_time",
            tags: &["stretch"],
            fields: &[("travel_s", Kind::I64)],
            order: &["stretch"],
        },
        files: &[one("nab/TravelTime_387.csv", "387")],
    },
    Feed {
        table: Table { name: "taxi_demand", tags: &["city"], fields: &[("passengers", Kind::I64)], order: &["city"] },
        files: &[one("nab/nyc_taxi.csv", "New York")],
    },
    Feed {
        table: Table {
            name: "weather",
            tags: &["airport"],
            fields: &[
                ("temp_f", Kind::F64),
                ("dew_point_f", Kind::F64),
                ("humidity_pct", Kind::F64),
                ("wind_dir_deg", Kind::F64),
                ("wind_mph", Kind::F64),
                ("gust_mph", Kind::F64),
                ("precip_in", Kind::F64),
                ("pressure_mbar", Kind::F64),
                ("visibility_mi", Kind::F64),
            ],
            order: &["airport"],
        },
        files: &[File {
            name: "weather.csv.gz",
            series: None,
            tags: &["origin"],
            fields: &["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"],
        }],
    },
    Feed {
        table: Table {
            name: "flights",
            tags: &["carrier", "origin", "dest"],
            fields: &[
                ("flight", Kind::I64),
                ("distance_mi", Kind::I64),
                ("dep_delay_min", Kind::I64),
                ("arr_delay_min", Kind::I64),
                ("air_time_min", Kind::I64),
            ],
            order: &["origin", "carrier"],
        },
        files: &[File {
            name: "flights.csv.gz",
            series: None,
            tags: &["carrier", "origin", "dest"],
            fields: &["flight", "distance", "dep_delay", "arr_delay", "air_time"],
        }],
    },
];

/// What may go wrong with a file, in words.
pub type Read<T> = Result<T, String>;

struct Row {
    known: i64,
    series: u32,
    time: i64,
    values: Vec<f64>,
}

/// A table, read.
struct Measured {
    table: Table,
    series: Vec<Vec<String>>,
    rows: Vec<Row>,
}

/// All tables. `text` gives a file's text, unpacked, by its name below `examples/data/`.
pub fn sources(text: impl Fn(&str) -> Read<String>) -> Read<Vec<Box<dyn Source>>> {
    let read = |feed: &Feed| -> Read<Box<dyn Source>> {
        let mut measured = Measured { table: feed.table, series: Vec::new(), rows: Vec::new() };
        for file in feed.files {
            measured.read(file, &text(file.name)?).map_err(|error| format!("{}: {error}", file.name))?;
        }
        // Those that became known at once stay in the order of the file.
        measured.rows.sort_by_key(|row| row.known);
        Ok(Box::new(measured))
    };
    FEEDS.iter().map(read).collect()
}

/// The year that weather and flights are of.
pub fn world() -> World {
    // 2013-01-01T06:00:00Z to 2013-12-31T06:00:00Z.
    const START_NS: i64 = 1_357_020_000 * SECOND;
    World { span: Span { start_ns: START_NS, end_ns: START_NS + 364 * 86_400 * SECOND }, people: 0 }
}

impl Measured {
    fn read(&mut self, file: &File, text: &str) -> Read<()> {
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
        let position = |name: &str| header.iter().position(|one| *one == name);
        let needed = |name: &str| position(name).ok_or_else(|| format!("no column {name}"));
        let all = |names: &[&str]| names.iter().map(|name| needed(name)).collect::<Read<Vec<usize>>>();
        let (tags, fields) = (all(file.tags)?, all(file.fields)?);
        let when = needed(if file.series.is_some() { "timestamp" } else { "time_hour" })?;
        let (minute, delay) = (position("minute"), position("dep_delay"));
        for line in lines.filter(|line| !line.is_empty()) {
            let cells: Vec<&str> = line.split(',').collect();
            if cells.len() != header.len() {
                return Err(format!("{line}: not {} cells", header.len()));
            }
            let number = |at: usize| match cells[at] {
                "" => Ok(f64::NAN),
                cell => cell.parse::<f64>().map_err(|error| format!("{line}: {error}")),
            };
            // A cancelled flight has no delay: it is known when it should have left.
            let minutes = |at: Option<usize>| -> Read<i64> {
                let value = at.map_or(Ok(0.0), number)?;
                Ok(if value.is_nan() { 0 } else { value as i64 * 60 * SECOND })
            };
            let hour = nanos(cells[when]).ok_or_else(|| format!("{line}: no time"))?;
            let time = hour + minutes(minute)?;
            let names: Vec<String> = match file.series {
                Some(name) => vec![name.to_string()],
                None => tags.iter().map(|at| cells[*at].to_string()).collect(),
            };
            let values = fields.iter().map(|at| number(*at)).collect::<Read<Vec<f64>>>()?;
            let series = self.number(names);
            self.rows.push(Row { known: time + minutes(delay)?, series, time, values });
        }
        Ok(())
    }

    /// The number of a series; there are few hundred, mostly the same as before.
    fn number(&mut self, names: Vec<String>) -> u32 {
        let known = self.series.iter().position(|one| *one == names);
        let at = known.unwrap_or_else(|| {
            self.series.push(names);
            self.series.len() - 1
        });
        at as u32
    }
}

impl Source for Measured {
    fn table(&self) -> Table {
        self.table
    }

    fn series(&self) -> Vec<Vec<String>> {
        self.series.clone()
    }

    fn rows(&self, take: &mut Take<'_>) {
        for row in &self.rows {
            take(row.series, row.time, &row.values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_when_they_are_known() {
        let text = |name: &str| {
            Ok(match name {
                "flights.csv.gz" => {
                    "time_hour,minute,carrier,flight,origin,dest,distance,dep_delay,arr_delay,air_time\n\
                     2013-01-01T10:00:00Z,15,UA,1545,EWR,IAH,1400,60,11,227\n\
                     2013-01-01T10:00:00Z,40,AA,1141,JFK,MIA,1089,2,,160\n"
                }
                "weather.csv.gz" => {
                    "time_hour,origin,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib\n\
                     2013-01-01T06:00:00Z,EWR,39.02,26.06,59.37,270,10.36,,0,1012,10\n"
                }
                _ => "timestamp,value\n2015-07-10 14:24:00,564\n",
            }
            .to_string())
        };
        let found = sources(text).unwrap();
        assert_eq!(found.len(), FEEDS.len());
        let flights = found.iter().find(|one| one.table().name == "flights").unwrap();
        let mut rows = Vec::new();
        flights.rows(&mut |series, time, values| rows.push((series, time, values[2], values[3].is_nan())));
        let ten = nanos("2013-01-01T10:00:00Z").unwrap();
        assert_eq!(rows, [(1, ten + 2_400 * SECOND, 2.0, true), (0, ten + 900 * SECOND, 60.0, false)]);
        assert!(sources(|_| Ok("timestamp,value\nyesterday,1\n".into())).is_err());
    }
}
