//! Runs what was typed: SQL statements, and the commands that begin with a backslash.

use std::sync::Arc;
use std::time::{Duration, Instant};

use denyut::TableSchema;
use denyut::arrow::array::{ArrayRef, RecordBatch, StringArray};
use denyut::prelude::*;

use crate::Outcome;
use crate::output::{self, Format};
use crate::statements;

pub(crate) const HELP: &str = "\
sql STORE [-c SQL | -f FILE] [--format table|csv|json]

  -c SQL        run these statements, separated by semicolons, and end
  -f FILE       run those in a file, or in each .sql file of a folder; - is standard input
  --format F    table: aligned, cut to the terminal; csv: with a header; json: one object a line

Without -c and -f it asks, or reads standard input if that is no terminal. At the prompt:

  SELECT …;     a statement ends with a semicolon and may take several lines
  \\d            the tables
  \\d TABLE      the columns of a table, with types and units
  \\h            the functions of time that DataFusion does not have
  \\h FUNCTION   one of them: arguments, rules and an example
  \\format F     table, csv or json
  \\timing       whether rows and time are reported, on or off
  \\?            this text
  \\q, Ctrl-D    the end

Tab completes keywords, functions, tables and columns. Ctrl-C drops what was typed. A query that runs longer than the
store's limit is cancelled; Ctrl-C during a query ends the program, and nothing is lost by it.
It only reads: other programs may write the store meanwhile.
The store's tables about itself are in the schema `system`: SELECT * FROM system.tables;";

/// The commands, for completion.
pub(crate) const COMMANDS: [&str; 6] = ["\\d", "\\h", "\\format", "\\timing", "\\?", "\\q"];

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    Quit,
}

/// A store, and how its answers are printed.
pub(crate) struct Shell {
    pub(crate) store: Reader,
    /// Width that tables are cut to; none for a pipe or a file.
    pub(crate) width: Option<usize>,
    format: Format,
    has_timing: bool,
}

impl Shell {
    pub(crate) fn new(store: Reader, format: Format) -> Self {
        Self { store, width: None, format, has_timing: true }
    }

    /// Runs statements and commands, to the first error. The last semicolon may be left out.
    pub(crate) fn run(&mut self, text: &str) -> Outcome<Next> {
        // A command is a line of its own, between statements.
        let mut pending = String::new();
        for line in text.lines() {
            if line.trim_start().starts_with('\\') && statements::split(&pending).rest.is_empty() {
                pending.clear();
                if self.command(line.trim())? == Next::Quit {
                    return Ok(Next::Quit);
                }
                continue;
            }
            pending.push_str(line);
            pending.push('\n');
            let cut = statements::split(&pending);
            if !cut.whole.is_empty() {
                cut.whole.iter().try_for_each(|sql| self.statement(sql))?;
                pending = cut.rest.to_string();
            }
        }
        let cut = statements::split(&pending);
        if !cut.rest.is_empty() {
            self.statement(cut.rest.trim_end())?;
        }
        Ok(Next::GoOn)
    }

    fn statement(&self, sql: &str) -> Outcome<()> {
        let begun = Instant::now();
        let rows = self.store.query(sql).map_err(|error| advice(sql, &error))?;
        let took = begun.elapsed();
        output::rows(self.format, rows.schema(), rows.batches(), self.width)?;
        self.report(rows.num_rows(), took);
        Ok(())
    }

    fn command(&mut self, line: &str) -> Outcome<Next> {
        // \d; and \d water; are what fingers type.
        let mut words = line.trim_end_matches(';').split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("\\q"), None, None) => return Ok(Next::Quit),
            (Some("\\?"), None, None) => output::line(HELP)?,
            (Some("\\h"), None, None) => self.functions()?,
            (Some("\\h"), Some(name), None) => function(name)?,
            (Some("\\d"), None, None) => self.tables()?,
            (Some("\\d"), Some(table), None) => self.columns(table)?,
            (Some("\\format"), Some(name), None) => self.format = name.parse()?,
            (Some("\\timing"), None, None) => {
                self.has_timing = !self.has_timing;
                eprintln!("timing is {}", if self.has_timing { "on" } else { "off" });
            }
            _ => return Err(format!("no command {line:?}; \\? lists them").into()),
        }
        Ok(Next::GoOn)
    }

    fn tables(&self) -> Outcome<()> {
        let tables = self.store.tables()?;
        let row = |table: &Arc<TableSchema>| {
            let cadence = table.policies().cadence.map(in_words).unwrap_or_default();
            let fields: Vec<&str> = table.fields().iter().map(|field| field.name.as_str()).collect();
            [table.name().to_string(), table.tags().join(", "), fields.join(", "), cadence]
        };
        self.texts(["table", "tags", "fields", "cadence"], tables.iter().map(row).collect())
    }

    fn columns(&self, name: &str) -> Outcome<()> {
        let tables = self.store.tables()?;
        let Some(table) = tables.iter().find(|table| table.name() == name) else {
            return Err(format!("no table {name:?}; \\d lists them").into());
        };
        let mut rows = vec![["time", "time", "timestamp, ns, UTC", ""].map(String::from)];
        rows.extend(table.tags().iter().map(|tag| [tag, "tag", "utf8", ""].map(String::from)));
        rows.extend(table.fields().iter().map(|field| {
            let kind = if field.required { "field, required" } else { "field" };
            [field.name.clone(), kind.into(), field.field_type.to_string(), field.unit.clone()]
        }));
        self.texts(["column", "kind", "type", "unit"], rows)
    }

    fn functions(&self) -> Outcome<()> {
        let row = |entry: &denyut::query::Entry| [entry.signature, entry.summary].map(String::from);
        self.texts(["function", "what it gives"], functions().into_iter().map(row).collect())
    }

    fn texts<const N: usize>(&self, names: [&str; N], rows: Vec<[String; N]>) -> Outcome<()> {
        let column = |number: usize| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().filter_map(|row| row.get(number))))
        };
        let columns = names.into_iter().enumerate().map(|(number, name)| (name, column(number)));
        let batch = RecordBatch::try_from_iter(columns)?;
        output::rows(self.format, &batch.schema(), &[batch], self.width)
    }

    fn report(&self, rows: usize, took: Duration) {
        if self.has_timing {
            let s = if rows == 1 { "" } else { "s" };
            eprintln!("{rows} row{s} in {:.1} ms", took.as_secs_f64() * 1e3);
        }
    }
}

/// Prints what the reference says of a function.
fn function(name: &str) -> Outcome<()> {
    let name = name.trim_end_matches(['(', ')']).to_lowercase();
    let Some(entry) = functions().into_iter().find(|entry| entry.name == name) else {
        return Err(format!("no function {name:?} in this reference; \\h lists what is").into());
    };
    let details = output::wrapped(entry.details);
    output::line(&format!("{}\n\n{}\n\n{details}\n\n{}", entry.signature, entry.summary, entry.example))
}

/// A duration in the largest unit that divides it.
fn in_words(duration: Duration) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = duration.as_secs();
    match units
        .into_iter()
        .find(|(unit, _)| duration.subsec_nanos() == 0 && seconds > 0 && seconds.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{duration:?}"),
    }
}

/// What went wrong, and what to do about it.
fn advice(sql: &str, error: &Error) -> String {
    let message = error.to_string();
    let begin: String = sql.lines().next().unwrap_or("").chars().take(60).collect();
    // The engine lists the columns there are where it can.
    let is_unknown = match error {
        Error::UnknownTable { .. } => true,
        Error::Query { .. } => message.contains("No field named") && !message.contains("Valid fields"),
        _ => false,
    };
    let hint = if is_unknown { "\n  \\d lists the tables, \\d TABLE the columns of one" } else { "" };
    format!("{message}\n  in: {begin}{hint}")
}

/// All functions that this shell has, by name.
pub(crate) fn functions() -> Vec<&'static denyut::query::Entry> {
    let mut all = denyut::query::reference();
    #[cfg(feature = "feed")]
    all.extend(denyut::feed::reference());
    all.sort_by_key(|entry| entry.name);
    all
}
