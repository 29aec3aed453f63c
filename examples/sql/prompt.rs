//! The prompt: lines edited with history and completion, statements over several lines.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use denyut::datafusion::execution::SessionStateDefaults;
use denyut::prelude::*;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, DefaultEditor, Editor, Helper};

use crate::Outcome;
use crate::output;
use crate::shell::{COMMANDS, Next, Shell};
use crate::statements;

/// Separated by a comma and a space.
const KEYWORDS: &str = "\
    all, analyze, and, as, asc, between, bigint, boolean, by, case, cast, cross, date, desc, distinct, \
    double, else, end, except, exists, explain, false, filter, first, from, full, group by, having, in, \
    inner, intersect, interval, is, join, last, left, like, limit, not, null, nulls, offset, on, or, \
    order by, outer, over, partition by, recursive, right, select, similar to, then, timestamp, true, \
    union, using, values, when, where, with";

/// The store about itself.
const SYSTEM_TABLES: [&str; 8] =
    ["counters", "fields", "live_blocks", "partitions", "rollups", "segments", "series", "tables"];

/// Asks until the end.
pub(crate) fn ask(shell: &mut Shell) -> Outcome<()> {
    let config = Config::builder().completion_type(CompletionType::List).max_history_size(10_000)?.build();
    let mut editor: Editor<Names, DefaultHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Names::of(&shell.store)?));
    let history = history_file();
    if let Some(file) = &history
        && file.exists()
    {
        editor.load_history(file)?;
    }
    eprintln!("{} tables. \\? for help, \\q for the end.", shell.store.tables()?.len());
    loop {
        let text = match editor.readline("sql> ") {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if text.trim().is_empty() {
            continue;
        }
        editor.add_history_entry(&text)?;
        // Now and not at the end, since a query may be the end.
        if let Some(file) = &history
            && let Err(error) = editor.append_history(file)
        {
            eprintln!("the history is not kept: {}: {error}", file.display());
        }
        shell.width = editor.dimensions().map(|(columns, _)| columns.into());
        match shell.run(&text) {
            Ok(Next::GoOn) => {}
            Ok(Next::Quit) => return Ok(()),
            Err(error) if output::is_broken_pipe(&*error) => return Err(error),
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// Columns of the terminal that standard output is, if it is one.
pub(crate) fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let dimensions = DefaultEditor::new().ok().and_then(|mut editor| editor.dimensions());
    dimensions.map(|(columns, _)| columns.into())
}

/// Where the desktop's conventions put what a program remembers. None without a home.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("denyut");
    match std::fs::create_dir_all(&folder) {
        Ok(()) => Some(folder.join("sql_history")),
        Err(error) => {
            eprintln!("the history is not kept: {}: {error}", folder.display());
            None
        }
    }
}

/// What can be completed, and when a statement is whole.
struct Names {
    tables: Vec<String>,
    /// Keywords, functions, tables and columns.
    all: Vec<String>,
}

fn keywords() -> impl Iterator<Item = &'static str> {
    KEYWORDS.split(", ")
}

impl Names {
    fn of(store: &Reader) -> Outcome<Self> {
        let known = store.tables()?;
        let mut tables: Vec<String> = known.iter().map(|table| table.name().to_string()).collect();
        tables.extend(SYSTEM_TABLES.iter().map(|name| format!("system.{name}")));
        let mut all: Vec<String> = keywords().map(String::from).collect();
        all.extend(
            SessionStateDefaults::default_scalar_functions().iter().map(|function| format!("{}(", function.name())),
        );
        all.extend(SessionStateDefaults::default_aggregate_functions().iter().map(|of| format!("{}(", of.name())));
        all.extend(SessionStateDefaults::default_window_functions().iter().map(|of| format!("{}(", of.name())));
        all.extend(crate::shell::functions().iter().map(|entry| format!("{}(", entry.name)));
        all.push("time".into());
        for table in &known {
            all.push(table.name().into());
            all.extend(table.tags().iter().cloned());
            all.extend(table.fields().iter().map(|field| field.name.clone()));
        }
        all.sort();
        all.dedup();
        Ok(Self { tables, all })
    }

    /// Candidates for `word`, in its own case where it is upper.
    fn beginning_with(names: &[String], word: &str) -> Vec<String> {
        let is_upper = word.chars().any(char::is_uppercase) && !word.chars().any(char::is_lowercase);
        let lower = word.to_lowercase();
        let found = names.iter().filter(|name| name.to_lowercase().starts_with(&lower));
        found
            .map(
                |name| {
                    if is_upper && keywords().any(|keyword| keyword == name) {
                        name.to_uppercase()
                    } else {
                        name.clone()
                    }
                },
            )
            .collect()
    }
}

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..position).unwrap_or(line);
        let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '.' | '\\');
        let begin = before
            .rfind(|character| !is_part(character))
            .map_or(0, |at| at + before.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8));
        let (earlier, word) = before.split_at(begin);
        if word.starts_with('\\') {
            return Ok((begin, Self::beginning_with(&COMMANDS.map(String::from), word)));
        }
        let last = earlier.split_whitespace().next_back().unwrap_or("").to_lowercase();
        let wants_table = matches!(last.as_str(), "from" | "join" | "\\d");
        let found = Self::beginning_with(if wants_table { &self.tables } else { &self.all }, word);
        // Without a word everything would be a candidate.
        Ok((begin, if word.is_empty() && !wants_table { Vec::new() } else { found }))
    }
}

impl Validator for Names {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let is_whole = text.starts_with('\\') || statements::split(text).rest.is_empty();
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Helper for Names {}
