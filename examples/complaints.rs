//! Two months of public complaints: deadlines in working days over a holiday, pauses, tickets that are passed on, and a league
//! of what fell due.
//!
//! ```text
//! cargo run --release --example complaints [-- DIR]
//! ```
//!
//! Checks every deadline against a count of days on fingers, writes `open.svg` and `overdue.svg` into DIR, and ends with a
//! line `ok tickets=.. overdue=..`.

mod chart;

use std::collections::BTreeMap;
use std::path::PathBuf;

use denyut::feed::{complaint_events, dimension};
use denyut::prelude::*;

use chart::{Chart, Line};

type Failure = Box<dyn std::error::Error>;

const AGENCIES: [&str; 4] = ["PUPR", "DLH", "DISHUB", "PDAM"];
const DAY_NS: i64 = 86_400_000_000_000;
/// Saturday, 1 August 2026, 00:00 in Pontianak, which is day 0 here.
const BEGIN: &str = "2026-08-01T00:00:00+07:00";
/// Independence Day.
const HOLIDAY: i64 = 16;
const DAYS: i64 = 60;

fn is_working(day: i64) -> bool {
    // Day 0 is a Saturday, day 1 a Sunday.
    day.rem_euclid(7) > 1 && day != HOLIDAY
}

fn add_working_days(day: i64, mut days: i64) -> i64 {
    let mut day = day;
    while days > 0 {
        day += 1;
        days -= i64::from(is_working(day));
    }
    day
}

/// A ticket as it went, in whole days and minutes of the day.
struct Ticket {
    name: String,
    agency: usize,
    received: i64,
    minute: i64,
    /// Paused from one day to another.
    pause: Option<(i64, i64)>,
    passed_on: Option<(i64, usize)>,
    closed: Option<i64>,
}

impl Ticket {
    fn number(number: i64) -> Self {
        let received = number * 13 % 45;
        let agency = usize::try_from(number * 7 % 4).unwrap_or(0);
        let took = number * 11 % 17;
        let pause = (number % 5 == 0).then_some((received + 1, received + 4));
        let passed_on = (number % 3 == 0).then_some((received + 2, (agency + 1) % 4));
        let closed = (number % 8 != 7).then_some(received + 5 + took);
        Self {
            name: format!("T-{number:03}"),
            agency,
            received,
            minute: 480 + number * 17 % 450,
            pause,
            passed_on,
            closed,
        }
    }

    /// The day on which it shall be closed, at the minute at which it was received.
    fn due(&self) -> i64 {
        let paused =
            self.pause.map_or(0, |(from, until)| (from + 1..=until).filter(|day| is_working(*day)).count() as i64);
        add_working_days(self.received, 5 + paused)
    }

    fn events(&self) -> Vec<(i64, &'static str, usize)> {
        let mut events = vec![(self.received, "received", self.agency)];
        let mut agency = self.agency;
        for day in self.received + 1..=DAYS {
            if let Some((from, until)) = self.pause {
                if from == day {
                    events.push((day, "paused", agency));
                }
                if until == day {
                    events.push((day, "resumed", agency));
                }
            }
            if let Some((_, to)) = self.passed_on.filter(|(on, _)| *on == day) {
                agency = to;
                events.push((day, "passed_on", agency));
            }
            if self.closed == Some(day) {
                events.push((day, "closed", agency));
            }
        }
        events
    }
}

fn main() -> Result<(), Failure> {
    let dir = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("denyut-complaints"), PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    let store = tempfile::tempdir()?;
    let city = Store::options().zone("Asia/Pontianak").open(store.path().join("kota"))?;
    let begin: Time = BEGIN.parse()?;
    let at = |day: i64, minute: i64| Time::from_nanos(begin.as_nanos() + day * DAY_NS + minute * 60_000_000_000);
    let independence_day = [("key", Value::from("2026-08-17")), ("name", "Hari Kemerdekaan".into())];
    city.load_dimension(&dimension::holiday(), at(-200, 0), &[Row::new(&independence_day)])?;

    let tickets: Vec<Ticket> = (0..120).map(Ticket::number).collect();
    let mut writer = city.table(complaint_events())?.writer()?;
    for ticket in &tickets {
        for (day, event, agency) in ticket.events() {
            let row = [
                ("ticket", Value::from(&ticket.name)),
                ("event", event.into()),
                ("agency", AGENCIES.get(agency).copied().unwrap_or("PUPR").into()),
                ("kind", "complaint".into()),
                ("reporter", "known to the desk".into()),
            ];
            let _ = writer.append_at(at(day, ticket.minute), Row::new(&row))?;
        }
    }

    let end = at(DAYS, 0);
    println!("The league of what fell due, at {end}:");
    city.query(&format!("SELECT * FROM complaint_league('{end}') ORDER BY rank, agency"))?.print()?;
    println!("\nThe five that are longest overdue:");
    let text = format!(
        "SELECT ticket, agency, overdue_agency, paused_days, CAST(close_due AS VARCHAR) AS close_due FROM \
         complaints('{end}') WHERE is_overdue AND closed_at IS NULL ORDER BY close_due, ticket LIMIT 5"
    );
    city.query(&text)?.print()?;
    println!("\nOffice hours by agency:");
    let text = format!(
        "SELECT agency, count(*) AS tickets, round(avg(working_s) / 3600, 1) AS hours_each FROM complaint_time('{end}') \
         GROUP BY agency ORDER BY hours_each DESC"
    );
    city.query(&text)?.print()?;

    // Every deadline, and who is overdue, once more by counting days.
    let told = city.query(&format!(
        "SELECT ticket, arrow_cast(close_due, 'Timestamp(Nanosecond, Some(\"UTC\"))') AS due, is_overdue FROM complaints('{end}') \
         ORDER BY ticket"
    ))?;
    assert_eq!(told.num_rows(), tickets.len());
    let mut overdue = 0;
    for (row, ticket) in tickets.iter().enumerate() {
        assert_eq!(told.str(row, "ticket")?, Some(&*ticket.name));
        assert_eq!(told.i64(row, "due")?, Some(at(ticket.due(), ticket.minute).as_nanos()), "{}", ticket.name);
        let late = ticket.closed.filter(|day| *day < DAYS).unwrap_or(DAYS) > ticket.due();
        overdue += i64::from(late);
    }
    let counted = city.query(&format!("SELECT sum(overdue) AS n FROM complaint_league('{end}')"))?;
    assert_eq!(counted.i64(0, "n")?, Some(overdue));

    draw(&city, &dir, &at)?;
    println!("\ncharts are in {}", dir.display());
    println!("ok tickets={} overdue={overdue}", tickets.len());
    Ok(())
}

fn draw(city: &Store, dir: &std::path::Path, at: &dyn Fn(i64, i64) -> Time) -> Result<(), Failure> {
    let (mut open, mut overdue) = (Vec::new(), Vec::new());
    for day in (0..=DAYS).step_by(3) {
        let moment = at(day, 0);
        let text = format!(
            "SELECT count(*) FILTER (WHERE closed_at IS NULL) AS open, \
             count(*) FILTER (WHERE closed_at IS NULL AND is_overdue) AS overdue FROM complaints('{moment}')"
        );
        let rows = city.query(&text)?;
        open.push((day as f64, rows.i64(0, "open")?.unwrap_or(0) as f64));
        overdue.push((day as f64, rows.i64(0, "overdue")?.unwrap_or(0) as f64));
    }
    let count = |y: f64| format!("{y:.0}");
    let chart = Chart {
        title: "Open tickets, and those of them that are overdue",
        x: "days from 1 August",
        y: "tickets",
        x_name: &count,
        y_name: &count,
    };
    let lines = [
        Line { name: "open", points: open, holds: false, filled: true },
        Line { name: "overdue", points: overdue, holds: false, filled: true },
    ];
    chart.lines(&dir.join("open.svg"), &lines)?;
    let league = city.query(&format!("SELECT agency, overdue FROM complaint_league('{}')", at(DAYS, 0)))?;
    let mut by_agency = BTreeMap::new();
    for row in 0..league.num_rows() {
        let agency = league.str(row, "agency")?.unwrap_or_default().to_string();
        by_agency.insert(agency, league.i64(row, "overdue")?.unwrap_or(0) as f64);
    }
    let names: Vec<&String> = by_agency.keys().collect();
    let name = |x: f64| {
        let nearest = x.round();
        let is_bar = (x - nearest).abs() < 1e-6 && nearest >= 0.0;
        names.get(nearest as usize).filter(|_| is_bar).map(ToString::to_string).unwrap_or_default()
    };
    let chart = Chart {
        title: "Tickets that fell due in an agency's charge",
        x: "",
        y: "tickets",
        x_name: &name,
        y_name: &count,
    };
    chart.bars(&dir.join("overdue.svg"), &by_agency.values().copied().collect::<Vec<_>>())
}
