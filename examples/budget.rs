//! A year of three programmes: ceilings, a revision in July, payments in exact decimals, and the year before.
//!
//! ```text
//! cargo run --release --example budget [-- DIR]
//! ```
//!
//! Checks every sum against integers, writes `absorption.svg` into DIR, and ends with a line `ok programs=.. realised=..`.

mod chart;

use std::path::PathBuf;

use denyut::feed::{budget_ceilings, budget_plan, budget_realisations};
use denyut::prelude::*;

use chart::{Chart, Line};

type Failure = Box<dyn std::error::Error>;

const PROGRAMS: [(&str, &str, i128); 3] =
    [("PUPR", "roads", 1_200_000_000_000), ("DLH", "waste", 450_000_000_000), ("DISHUB", "signals", 180_000_000_000)];

/// Hundredths of a rupiah, as text with a point.
fn money(hundredths: i128) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// What a programme pays in a month, which is never a round sum.
fn payment(year: i32, month: i32, ceiling: i128) -> i128 {
    let pace = i128::from(40 + month * 7 + (year - 2025) * 5);
    ceiling * pace / 1_200 + i128::from(month) * 7 + 1
}

fn at(year: i32, month: i32, day: i32) -> denyut::Result<Time> {
    format!("{year}-{month:02}-{day:02}T09:00:00+07:00").parse()
}

fn fill(city: &Store) -> denyut::Result<()> {
    let mut ceilings = city.table(budget_ceilings())?.writer()?;
    let mut plan = city.table(budget_plan())?.writer()?;
    let mut paid = city.table(budget_realisations())?.writer()?;
    for (agency, program, ceiling) in PROGRAMS {
        let of = |amount: (&'static str, i128)| {
            [("agency", agency.into()), ("program", program.into()), (amount.0, Value::Decimal(amount.1))]
        };
        for year in [2025, 2026] {
            let begin: Time = format!("{year}-01-01T00:00:00+07:00").parse()?;
            let _ = ceilings.append_at(begin, Row::new(&of(("ceiling", ceiling))))?;
            for month in 1..=12 {
                let planned = ceiling * i128::from(month) / 12;
                let _ = plan.append_at(at(year, month, 28)?, Row::new(&of(("planned", planned))))?;
                if year == 2025 || month <= 9 {
                    let _ =
                        paid.append_at(at(year, month, 15)?, Row::new(&of(("amount", payment(year, month, ceiling)))))?;
                }
            }
        }
        if program == "roads" {
            // A quarter more from the middle of the year on.
            let [agency, program, amount] = of(("ceiling", ceiling / 4 * 5));
            let revised = [agency, program, amount, ("revision", 1_i64.into()), ("document", "Perubahan APBD".into())];
            let _ = ceilings.append_at(at(2026, 7, 15)?, Row::new(&revised))?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let dir = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("denyut-budget"), PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    let store = tempfile::tempdir()?;
    let city = Store::options().zone("Asia/Pontianak").open(store.path().join("kota"))?;
    fill(&city)?;

    let columns = "program, ceiling, realised, round(absorption, 3) AS absorption, against_plan, \
                   round(last_year_absorption, 3) AS last_year";
    let september = "2026-09-30T23:59:59+07:00";
    println!("The end of September:");
    city.query(&format!("SELECT {columns} FROM budget_absorption('{september}') ORDER BY program"))?.print()?;
    println!("\nThe same day, of the ceilings before the revision:");
    let unrevised = format!("budget_absorption('{september}', '2026-07-01')");
    city.query(&format!("SELECT {columns} FROM {unrevised} ORDER BY program"))?.print()?;

    let mut total = 0;
    for (_, program, ceiling) in PROGRAMS {
        let realised: i128 = (1..=9).map(|month| payment(2026, month, ceiling)).sum();
        let last_year: i128 = (1..=9).map(|month| payment(2025, month, ceiling)).sum();
        let revised = if program == "roads" { ceiling / 4 * 5 } else { ceiling };
        let exact = |from: &str, revised: i128| -> Result<(), Failure> {
            let text = format!(
                "SELECT CAST(ceiling AS VARCHAR) AS ceiling, CAST(realised AS VARCHAR) AS realised, \
                 CAST(against_plan AS VARCHAR) AS against, CAST(last_year_realised AS VARCHAR) AS last_year FROM {from} \
                 WHERE program = '{program}'"
            );
            let rows = city.query(&text)?;
            assert_eq!(rows.str(0, "ceiling")?, Some(&*money(revised)));
            assert_eq!(rows.str(0, "realised")?, Some(&*money(realised)));
            assert_eq!(rows.str(0, "last_year")?, Some(&*money(last_year)));
            let planned = ceiling * 9 / 12;
            let sign = if realised < planned { "-" } else { "" };
            assert_eq!(rows.str(0, "against")?, Some(&*format!("{sign}{}", money((realised - planned).abs()))));
            Ok(())
        };
        exact(&format!("budget_absorption('{september}')"), revised)?;
        exact(&unrevised, ceiling)?;
        total += realised;
    }
    draw(&city, &dir)?;
    println!("\na chart is in {}", dir.display());
    println!("ok programs={} realised={}", PROGRAMS.len(), money(total));
    Ok(())
}

/// The roads of the year: what was paid, what was planned, and the ceiling that moves in July.
fn draw(city: &Store, dir: &std::path::Path) -> Result<(), Failure> {
    let (mut paid, mut planned, mut ceiling, mut last_year) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for month in 1..=9 {
        let moment = at(2026, month, 28)?;
        let rows = city.query(&format!("SELECT * FROM budget_absorption('{moment}') WHERE program = 'roads'"))?;
        let billions = |column: &str| -> denyut::Result<(f64, f64)> {
            Ok((f64::from(month), rows.f64(0, column)?.unwrap_or(0.0) / 1e9))
        };
        paid.push(billions("realised")?);
        planned.push(billions("planned")?);
        ceiling.push(billions("ceiling")?);
        last_year.push(billions("last_year_realised")?);
    }
    let chart = Chart {
        title: "Roads, 2026: paid, planned and the ceiling",
        x: "end of month",
        y: "billion rupiah",
        x_name: &|x| format!("{x:.0}"),
        y_name: &|y| format!("{y:.1}"),
    };
    let lines = [
        Line { name: "paid", points: paid, holds: false, filled: true },
        Line { name: "planned", points: planned, holds: false, filled: false },
        Line { name: "ceiling", points: ceiling, holds: true, filled: false },
        Line { name: "paid last year", points: last_year, holds: false, filled: false },
    ];
    chart.lines(&dir.join("absorption.svg"), &lines)
}
