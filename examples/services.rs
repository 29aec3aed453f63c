//! One day at the counters: people arrive, wait and are served; what waiting and throughput were, by service and by hour.
//!
//! ```text
//! cargo run --release --example services [-- DIR]
//! ```
//!
//! Checks the percentiles against the sorted waits, writes `waiting.svg` into DIR, and ends with a line
//! `ok visits=.. p95_s=..`.

mod chart;

use std::path::PathBuf;

use denyut::feed::service_visits;
use denyut::prelude::*;

use chart::{Chart, Line};

type Failure = Box<dyn std::error::Error>;

/// A service: how many counters, how long one visit takes, and how many come in an hour.
const SERVICES: [(&str, usize, f64, [u32; 8]); 3] = [
    ("ktp", 3, 540.0, [14, 22, 26, 20, 10, 16, 18, 8]),
    ("akta", 2, 780.0, [6, 9, 11, 9, 4, 8, 7, 3]),
    ("pindah", 1, 600.0, [3, 5, 7, 6, 2, 4, 5, 1]),
];
/// Who has waited so long goes home.
const PATIENCE_S: f64 = 5_400.0;
const OPENS: &str = "2026-03-02T08:00:00+07:00";

struct Visit {
    service: &'static str,
    counter: String,
    ended_s: f64,
    waiting_s: f64,
    serving_s: Option<f64>,
}

/// The queue of a service, first come first served.
fn visits() -> Vec<Visit> {
    let mut all = Vec::new();
    for (service, counters, serving_s, hourly) in SERVICES {
        let mut free = vec![0.0_f64; counters];
        let mut number = 0_u32;
        for (hour, comers) in (0..).zip(hourly) {
            for comer in 0..comers {
                number += 1;
                let arrived = f64::from(hour) * 3_600.0 + f64::from(comer) * 3_600.0 / f64::from(comers);
                let Some((counter, at)) = free.iter_mut().enumerate().min_by(|a, b| a.1.total_cmp(b.1)) else {
                    continue;
                };
                let begins = at.max(arrived);
                let waiting_s = begins - arrived;
                let counter = format!("{}", counter + 1);
                if waiting_s > PATIENCE_S {
                    let ended_s = arrived + PATIENCE_S;
                    all.push(Visit { service, counter, ended_s, waiting_s: PATIENCE_S, serving_s: None });
                    continue;
                }
                // Some papers are complete and some are not.
                let takes = serving_s * f64::from(70 + number * 37 % 60) / 100.0;
                *at = begins + takes;
                all.push(Visit { service, counter, ended_s: *at, waiting_s, serving_s: Some(takes) });
            }
        }
    }
    all
}

/// The value at the part `q` of the way through the sorted values, on the line between the two around.
fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = q * (values.len() - 1) as f64;
    let at = |place: f64| values.get(place as usize).copied().unwrap_or(f64::NAN);
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

fn main() -> Result<(), Failure> {
    let dir = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("denyut-services"), PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    let store = tempfile::tempdir()?;
    let city = Store::options().zone("Asia/Pontianak").open(store.path().join("kota"))?;
    let opens: Time = OPENS.parse()?;
    let moment = |seconds: f64| Time::from_nanos(opens.as_nanos() + (seconds * 1e9) as i64);
    let all = visits();
    let mut writer = city.table(service_visits())?.writer()?;
    for (number, visit) in all.iter().enumerate() {
        let name = format!("V-{number:04}");
        let row = [
            ("agency", Value::from("DISDUKCAPIL")),
            ("service", visit.service.into()),
            ("counter", (&visit.counter).into()),
            ("visit", (&name).into()),
            ("waiting_s", visit.waiting_s.into()),
            ("serving_s", visit.serving_s.into()),
            ("outcome", if visit.serving_s.is_some() { "completed" } else { "abandoned" }.into()),
        ];
        let _ = writer.append_at(moment(visit.ended_s), Row::new(&row))?;
    }

    let (day, night) = (moment(-1.0), moment(86_400.0));
    println!("The day, by service and counter; without a counter it is all of them:");
    let text = format!(
        "SELECT service, counter, visits, round(completion_share, 3) AS completion, round(waiting_p50_s / 60, 1) AS p50_min, \
         round(waiting_p95_s / 60, 1) AS p95_min, round(per_hour, 1) AS per_hour FROM service_performance('{day}', '{night}') \
         ORDER BY service, counter NULLS LAST"
    );
    city.query(&text)?.print()?;

    let mut worst: f64 = 0.0;
    for (service, ..) in SERVICES {
        let text = format!(
            "SELECT visits, completed, waiting_p50_s AS p50, waiting_p95_s AS p95 FROM service_performance('{day}', '{night}') \
             WHERE service = '{service}' AND counter IS NULL"
        );
        let rows = city.query(&text)?;
        let of: Vec<&Visit> = all.iter().filter(|visit| visit.service == service).collect();
        assert_eq!(rows.i64(0, "visits")?, Some(of.len() as i64));
        let completed = of.iter().filter(|visit| visit.serving_s.is_some()).count();
        assert_eq!(rows.i64(0, "completed")?, Some(completed as i64));
        let mut waits: Vec<f64> = of.iter().map(|visit| visit.waiting_s).collect();
        for (column, q) in [("p50", 0.5), ("p95", 0.95)] {
            let told = rows.f64(0, column)?.ok_or("there were visits")?;
            let counted = quantile(&mut waits, q);
            assert!((told - counted).abs() < 1e-3, "{service} {column}: {told} is not {counted}");
        }
        worst = worst.max(quantile(&mut waits, 0.95));
    }
    draw(&city, &dir, &moment)?;
    println!("\na chart is in {}", dir.display());
    println!("ok visits={} p95_s={worst:.0}", all.len());
    Ok(())
}

fn draw(city: &Store, dir: &std::path::Path, moment: &dyn Fn(f64) -> Time) -> Result<(), Failure> {
    let mut lines: Vec<Line<'_>> =
        SERVICES.iter().map(|(name, ..)| Line { name, points: Vec::new(), holds: false, filled: false }).collect();
    for hour in 0..10 {
        let (from, until) = (moment(f64::from(hour) * 3_600.0), moment(f64::from(hour + 1) * 3_600.0));
        let text = format!(
            "SELECT service, waiting_p95_s AS p95 FROM service_performance('{from}', '{until}') WHERE counter IS NULL"
        );
        let rows = city.query(&text)?;
        for row in 0..rows.num_rows() {
            let (service, p95) = (rows.str(row, "service")?, rows.f64(row, "p95")?);
            if let (Some(line), Some(p95)) = (lines.iter_mut().find(|line| Some(line.name) == service), p95) {
                line.points.push((f64::from(hour) + 8.5, p95 / 60.0));
            }
        }
    }
    let chart = Chart {
        title: "Of those served in an hour, one in twenty waited longer than",
        x: "hour of the day",
        y: "minutes",
        x_name: &|x| format!("{x:.0}:00"),
        y_name: &|y| format!("{y:.0}"),
    };
    chart.lines(&dir.join("waiting.svg"), &lines)
}
