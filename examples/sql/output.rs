//! Rows as a table, as CSV or as JSON, on standard output.

use std::io::{self, BufWriter, Write};

use denyut::arrow::array::RecordBatch;
use denyut::arrow::datatypes::SchemaRef;
use denyut::arrow::error::ArrowError;
use denyut::arrow::util::display::{ArrayFormatter, FormatOptions};
use denyut::arrow::{csv, json};

use crate::Outcome;

/// How rows are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// Aligned columns, cut to the terminal, or one below the other if they are too many for it.
    Table,
    /// With a header; null is empty.
    Csv,
    /// One object a line.
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            _ => Err(format!("no format {name:?}; there are table, csv and json")),
        }
    }
}

/// The narrowest that a column of a table is cut to.
const COLUMN_WIDTH_MIN: usize = 8;
const BETWEEN: &str = "  ";
const PAGE_WIDTH: usize = 100;
/// Rows of a table that share column widths. Measuring all first would hold them twice.
const ROWS_PER_TABLE: usize = 10_000;

/// Prints `batches`; a table is cut to `width` characters, if there is such a limit.
pub(crate) fn rows(format: Format, schema: &SchemaRef, batches: &[RecordBatch], width: Option<usize>) -> Outcome<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match format {
        Format::Table => table(&mut out, schema, batches, width)?,
        Format::Csv => {
            let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut out);
            if batches.is_empty() {
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
            }
            batches.iter().try_for_each(|batch| writer.write(batch))?;
        }
        Format::Json => {
            let builder = json::WriterBuilder::new().with_explicit_nulls(true);
            let mut writer = builder.build::<_, json::writer::LineDelimited>(&mut out);
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
    }
    Ok(out.flush()?)
}

/// Prints one line.
pub(crate) fn line(text: &str) -> Outcome<()> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Breaks text between words at the width of a page.
pub(crate) fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + 1 + word.chars().count() > PAGE_WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// Whether nobody reads standard output any more.
pub(crate) fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match error.downcast_ref() {
        Some(ArrowError::IoError(_, error)) => is_broken(error),
        // The CSV writer passes on the words only.
        Some(ArrowError::CsvError(message)) => message.contains("Broken pipe"),
        _ => error.downcast_ref().is_some_and(is_broken),
    }
}

fn table(out: &mut impl Write, schema: &SchemaRef, batches: &[RecordBatch], width: Option<usize>) -> Outcome<()> {
    let options = FormatOptions::new().with_display_error(true).with_null("");
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let is_number: Vec<bool> = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|array| ArrayFormatter::try_new(array, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| without_controls(&column.value(row).to_string())).collect());
            if rows.len() == ROWS_PER_TABLE {
                aligned(out, &names, &is_number, &rows, width)?;
                rows.clear();
            }
        }
    }
    if !rows.is_empty() || batches.iter().all(|batch| batch.num_rows() == 0) {
        aligned(out, &names, &is_number, &rows, width)?;
    }
    Ok(())
}

/// What would steer the terminal is shown with escapes. Lines stay lines: query plans have them.
fn without_controls(cell: &str) -> String {
    let is_unwanted = |of: char| of.is_control() && of != '\n';
    match cell.contains(is_unwanted) {
        true => {
            cell.chars().map(|of| if is_unwanted(of) { of.escape_default().to_string() } else { of.into() }).collect()
        }
        false => cell.into(),
    }
}

fn aligned(
    out: &mut impl Write,
    names: &[String],
    is_number: &[bool],
    rows: &[Vec<String>],
    width: Option<usize>,
) -> io::Result<()> {
    let mut widths: Vec<usize> = names.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.lines().map(|line| line.chars().count()).fold(*width, usize::max);
        }
    }
    if let Some(width) = width {
        let between = BETWEEN.len() * widths.len().saturating_sub(1);
        if !fit(&mut widths, width.saturating_sub(between)) {
            return one_below_the_other(out, names, rows, width);
        }
    }
    let mut write = |cells: &[String]| {
        let height = cells.iter().map(|cell| cell.lines().count()).fold(1, usize::max);
        (0..height).try_for_each(|line| {
            let cells = cells.iter().zip(&widths).zip(is_number).map(|((cell, width), is_number)| {
                let (cell, width) = (cut(cell.lines().nth(line).unwrap_or(""), *width), *width);
                if *is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join(BETWEEN).trim_end())
        })
    };
    write(names)?;
    write(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>())?;
    rows.iter().try_for_each(|row| write(row))
}

/// Each row as lines of name and value, for tables with too many columns to stand side by side.
fn one_below_the_other(out: &mut impl Write, names: &[String], rows: &[Vec<String>], width: usize) -> io::Result<()> {
    let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for row in rows {
        for (name, cell) in names.iter().zip(row) {
            for (number, line) in cell.lines().chain(cell.is_empty().then_some("")).enumerate() {
                let line = cut(line, width.saturating_sub(name_width + BETWEEN.len()));
                let name = if number == 0 { name } else { "" };
                writeln!(out, "{}", format!("{name:<name_width$}{BETWEEN}{line}").trim_end())?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Takes from the widest columns until all fit into `width`. False if they cannot give so much.
fn fit(widths: &mut [usize], width: usize) -> bool {
    let mut over = widths.iter().sum::<usize>().saturating_sub(width);
    while over > 0 {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > COLUMN_WIDTH_MIN) else { return false };
        *widest -= 1;
        over -= 1;
    }
    true
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.into();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}
