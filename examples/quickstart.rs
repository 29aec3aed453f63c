//! The README's twenty lines: a store, a table, rows by name and by handle, and SQL that sees them at once.
//!
//! ```text
//! cargo run --release --example quickstart [-- DIR]
//! ```

use denyut::prelude::*;

fn main() -> denyut::Result<()> {
    let path = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("denyut-quickstart"), Into::into);
    let city = Store::open(&path)?;
    let water = city.table(Schema::new("water").tag("gate").tag("agency").f64("level_cm", "cm"))?;
    let mut writer = water.writer()?;

    // By name, stamped now.
    let appended = writer.append(row! { gate: "Sei Wie", agency: "PUPR", level_cm: 142.0 })?;
    assert_eq!(appended.accepted(), 1);

    // Resolve the series once, then append fast, with a time of your own.
    let gate = water.series(["Sei Wie", "PUPR"])?;
    let _ = writer.append_to(gate, now(), &[142.5.into()])?;

    // Every row is in SQL when its append has returned.
    city.query("SELECT gate, count(*) AS readings, max(level_cm) AS highest_cm FROM water GROUP BY gate")?.print()?;
    city.close()
}
