//! Importing files into a store: `import STORE TABLE FILE..`.
//!
//! ```text
//! cargo run --release --example import -- kota flights examples/data/flights.csv.gz --time time_hour \
//!     --tags carrier,origin,dest --fields flight:i64,distance:f64:mi,dep_delay:i64:min
//! cargo run --release --example import -- kota - gateway.lp --follow      # line protocol names its tables
//! ```
//!
//! The table is made if `--tags` or `--fields` say how. The last line of the answer has the sums. Exit codes: 0 for a file of
//! which every row was taken or known, 1 for rows in quarantine and for whatever failed, 2 for a call that is wrong.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use denyut::feed::import::{Import, Imported, Source};
use denyut::prelude::*;

const USAGE: &str = "\
usage: import STORE TABLE FILE.. [OPTION..]        TABLE is - for line protocol
  --format F                csv, json, lp, parquet or arrow; else by the file's name
  --tags A,B                makes the table, with these tags ..
  --fields NAME:TYPE:UNIT,..     .. and these fields: f64, i64, u64, bool, utf8
  --time COLUMN --zone NAME --day-first --unix s|ms|us|ns
  --delimiter C --decimal-comma --null TEXT --rename SOURCE=COLUMN --constant TAG=VALUE
  --bad-permille N          how many of a thousand rows may be broken
  --follow                  go on when the file grows, until killed";

/// What a step of an example comes to. The error is for people: there is nothing to branch on.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Default)]
struct Call {
    store: PathBuf,
    table: String,
    files: Vec<PathBuf>,
    options: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let call = match parse(std::env::args().skip(1)) {
        Ok(call) => call,
        Err(wrong) => {
            eprintln!("import: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (imports, schema) = match plan(&call) {
        Ok(plan) => plan,
        Err(wrong) => {
            eprintln!("import: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&call, &imports, schema) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("import: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Call, String> {
    let (mut call, mut plain) = (Call::default(), Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some(flag @ ("follow" | "day-first" | "decimal-comma")) => call.options.push((flag.into(), String::new())),
            Some(name) => {
                let value = arguments.next().ok_or_else(|| format!("--{name} needs a value"))?;
                call.options.push((name.into(), value));
            }
            None => plain.push(argument),
        }
    }
    let mut plain = plain.into_iter();
    call.store = plain.next().ok_or("which store?")?.into();
    call.table = plain.next().ok_or("which table?")?;
    call.files = plain.map(PathBuf::from).collect();
    if call.files.is_empty() { Err("which file?".into()) } else { Ok(call) }
}

impl Call {
    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// How each file is read, and what makes the table.
fn plan(call: &Call) -> Outcome<(Vec<Import>, Option<Schema>)> {
    let imports = call.files.iter().map(|file| import_of(call, file)).collect::<Outcome<_>>()?;
    Ok((imports, schema_of(call)?))
}

fn import_of(call: &Call, file: &Path) -> Outcome<Import> {
    let name = file.to_string_lossy();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    let ending = name.rsplit_once('.').map_or("csv", |(_, ending)| ending);
    let table = call.table.as_str();
    let format = call.option("format");
    let mut import = match format.unwrap_or(if table == "-" { "lp" } else { ending }) {
        "lp" => Import::line_protocol(),
        "json" | "jsonl" | "ndjson" => Import::json_lines(table),
        "parquet" => Import::parquet(table),
        "arrow" | "arrows" | "ipc" => Import::arrow_ipc(table),
        other if format.is_some() && other != "csv" => return Err(format!("--format {other}: there is none").into()),
        _ => Import::csv(table),
    };
    let nulls: Vec<&str> =
        call.options.iter().filter(|(name, _)| name == "null").map(|(_, value)| value.as_str()).collect();
    for (name, value) in &call.options {
        let pair = || value.split_once('=').ok_or_else(|| format!("--{name} {value}: this needs a ="));
        import = match name.as_str() {
            "time" => import.time(value),
            "zone" => import.zone(value),
            "day-first" => import.day_first(),
            "decimal-comma" => import.decimal_comma(),
            "delimiter" => import.delimiter(*value.as_bytes().first().ok_or("--delimiter needs a character")?),
            "unix" => match value.as_str() {
                "s" => import.unix_seconds(),
                "ms" => import.unix_millis(),
                "us" => import.unix_micros(),
                "ns" => import.unix_nanos(),
                other => return Err(format!("--unix {other}: it is s, ms, us or ns").into()),
            },
            "null" => import.nulls(nulls.iter().copied()),
            "rename" => pair().map(|(source, column)| import.rename(source, column))?,
            "constant" => pair().map(|(tag, value)| import.constant(tag, value))?,
            "bad-permille" => {
                import.bad_permille_max(value.parse().map_err(|_| format!("--{name} {value}: no number"))?)
            }
            "format" | "follow" | "tags" | "fields" => import,
            other => return Err(format!("what is --{other}?").into()),
        };
    }
    Ok(import)
}

fn schema_of(call: &Call) -> Outcome<Option<Schema>> {
    if call.option("tags").is_none() && call.option("fields").is_none() {
        return Ok(None);
    }
    let list = |name: &str| call.option(name).unwrap_or_default().split(',').filter(|item| !item.is_empty());
    let mut schema = list("tags").fold(Schema::new(&call.table), Schema::tag);
    for field in list("fields") {
        let mut parts = field.splitn(3, ':');
        let (name, kind, unit) = (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default());
        schema = match kind.unwrap_or("f64") {
            "f64" => schema.f64(name, unit),
            "i64" => schema.i64(name, unit),
            "u64" => schema.u64(name, unit),
            "bool" => schema.bool(name, unit),
            "utf8" => schema.utf8(name, unit),
            other => return Err(format!("field {name}: {other} is no type").into()),
        };
    }
    Ok(Some(schema))
}

/// Whether every row was taken or known.
fn run(call: &Call, imports: &[Import], schema: Option<Schema>) -> Outcome<bool> {
    let store = Store::open(&call.store)?;
    if let Some(schema) = schema {
        store.table(schema)?;
    }
    let mut clean = true;
    for (file, import) in call.files.iter().zip(imports) {
        if call.option("follow").is_some() {
            follow(&store, import, file)?;
        }
        let imported = store.import(import, Source::file(file))?;
        clean &= imported.quarantined == 0;
        tell(file, &imported);
    }
    store.close()?;
    Ok(clean)
}

/// Until somebody kills it, which loses nothing.
fn follow(store: &Store, import: &Import, file: &Path) -> Outcome<()> {
    let mut follow = store.follow(import, file)?;
    loop {
        let imported = follow.poll()?;
        if imported.lines > 0 {
            tell(file, &imported);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn tell(file: &Path, imported: &Imported) {
    println!("{}: {imported}", file.display());
}
