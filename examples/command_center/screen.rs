//! Where the panels appear: redrawn in place above a progress bar on a terminal, else as plain text one after the other.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustyline::DefaultEditor;

use crate::Outcome;
use crate::panels::{Column, Panel};

/// Width of plain output, and of a terminal that does not say.
const WIDTH: usize = 110;
const GAP: &str = "   ";

/// The screen. Its lines are cut to a terminal, never to a pipe.
pub(crate) struct Screen {
    live: Option<Live>,
    bar: ProgressBar,
    has_colours: bool,
    last: Vec<Line>,
}

struct Live {
    bars: MultiProgress,
    pane: ProgressBar,
    /// Knows how large the terminal is.
    terminal: DefaultEditor,
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Title,
    Dim,
}

#[derive(Clone)]
struct Line {
    text: String,
    style: Style,
}

/// Whether standard output can be redrawn.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl Screen {
    /// A screen for a replay of `rows` rows.
    pub(crate) fn new(rows: u64) -> Outcome<Self> {
        let has_colours = is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let bar = if has_colours { "{bar:30.cyan/dim}" } else { "{bar:30}" };
        let style =
            ProgressStyle::with_template(&format!("{bar} {{percent:>3}}%  {{human_pos}} of {{human_len}} rows"))?;
        // Hidden by itself where standard error is not a terminal.
        let bar = ProgressBar::new(rows).with_style(style);
        let mut screen = Self { live: None, bar, has_colours, last: Vec::new() };
        if is_terminal() {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let pane = bars.add(ProgressBar::no_length().with_style(ProgressStyle::with_template("{msg}")?));
            screen.bar = bars.add(screen.bar);
            screen.live = Some(Live { bars, pane, terminal: DefaultEditor::new()? });
        }
        Ok(screen)
    }

    /// Whether panels are redrawn in place.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Moves the progress bar.
    pub(crate) fn progress(&self, rows: u64) {
        self.bar.set_position(rows);
    }

    /// Shows `panels` under a line that says when and how fast.
    pub(crate) fn show(&mut self, status: &str, panels: &[Panel]) -> Outcome<()> {
        let blocks: Vec<Vec<Line>> = panels.iter().map(block).collect();
        let status = Line { text: status.into(), style: Style::Title };
        let Some(live) = &mut self.live else {
            let empty = Line { text: String::new(), style: Style::Plain };
            let lines = [empty, status].into_iter().chain(blocks.into_iter().flatten()).collect::<Vec<_>>();
            return self.write(&lines, WIDTH.max(widest(&lines)));
        };
        let (width, height) =
            live.terminal.dimensions().map_or((WIDTH, 50), |(columns, rows)| (columns.into(), rows.into()));
        let mut painted = vec![paint(&status, width, self.has_colours)];
        painted.extend(arrange(&blocks, width, self.has_colours));
        // The bar and the line below it have to stay in sight.
        let room = usize::saturating_sub(height, 2);
        if painted.len() > room {
            let hidden = painted.len() + 1 - room;
            painted.truncate(room.saturating_sub(1));
            painted.push(format!("… {hidden} more lines; a larger window shows them"));
        }
        live.pane.set_message(painted.join("\n"));
        self.last = std::iter::once(status).chain(blocks.into_iter().flatten()).collect();
        Ok(())
    }

    /// Ends the redrawing and leaves the last panels on the terminal, whole.
    pub(crate) fn end(&mut self) -> Outcome<()> {
        self.bar.finish_and_clear();
        let Some(live) = self.live.take() else { return Ok(()) };
        live.pane.finish_and_clear();
        live.bars.clear()?;
        let last = std::mem::take(&mut self.last);
        self.write(&last, usize::MAX)
    }

    fn write(&self, lines: &[Line], width: usize) -> Outcome<()> {
        let mut out = io::stdout().lock();
        for line in lines {
            writeln!(out, "{}", paint(line, width, self.has_colours).trim_end())?;
        }
        Ok(out.flush()?)
    }
}

fn widest(lines: &[Line]) -> usize {
    lines.iter().map(|line| line.text.chars().count()).max().unwrap_or(0)
}

/// The lines of one panel, under an empty one.
fn block(panel: &Panel) -> Vec<Line> {
    let line = |text: String, style| Line { text, style };
    let mut lines = vec![line(String::new(), Style::Plain), line(panel.title.clone(), Style::Title)];
    if panel.rows == 0 {
        lines.push(line("  nothing".into(), Style::Dim));
        return lines;
    }
    let row = |cell: &dyn Fn(&Column) -> String| {
        let cells = panel.columns.iter().map(|column| {
            let width = column.cells.iter().chain([&column.name]).map(|cell| cell.chars().count()).max().unwrap_or(0);
            if column.is_number { format!("{:>width$}", cell(column)) } else { format!("{:<width$}", cell(column)) }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    lines.push(line(row(&|column| column.name.clone()), Style::Dim));
    for number in 0..panel.rows {
        lines.push(line(row(&|column| column.cells.get(number).cloned().unwrap_or_default()), Style::Plain));
    }
    lines
}

/// The panels side by side where there is room, else one below the other.
fn arrange(blocks: &[Vec<Line>], width: usize, has_colours: bool) -> Vec<String> {
    // The first and the fourth are the tall ones.
    let (left, right): (Vec<_>, Vec<_>) = (0..).zip(blocks).partition(|(number, _)| number % 3 == 0);
    let column = |blocks: Vec<(i32, &Vec<Line>)>| blocks.into_iter().flat_map(|(_, lines)| lines.clone()).collect();
    let (left, right): (Vec<Line>, Vec<Line>) = (column(left), column(right));
    let left_width = widest(&left);
    if left_width + GAP.len() + widest(&right) > width {
        return blocks.iter().flatten().map(|line| paint(line, width, has_colours)).collect();
    }
    let empty = Line { text: String::new(), style: Style::Plain };
    let pairs = (0..left.len().max(right.len())).map(|number| {
        let (left, right) = (left.get(number).unwrap_or(&empty), right.get(number).unwrap_or(&empty));
        let padding = " ".repeat(left_width - left.text.chars().count());
        format!("{}{padding}{GAP}{}", paint(left, width, has_colours), paint(right, width, has_colours))
    });
    pairs.collect()
}

fn paint(line: &Line, width: usize, has_colours: bool) -> String {
    let mut text: String = line.text.chars().take(width).collect();
    if text.len() < line.text.len() {
        text.pop();
        text.push('…');
    }
    match (line.style, has_colours) {
        (Style::Title, true) => format!("\x1b[1m{text}\x1b[0m"),
        (Style::Dim, true) => format!("\x1b[2m{text}\x1b[0m"),
        _ => text,
    }
}
