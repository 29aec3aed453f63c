//! Files of statements, one or a folder of them.

use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::output;
use crate::shell::{Next, Shell};

/// Statements, and the file that they are from if there are several.
pub(crate) struct Script {
    pub(crate) name: Option<String>,
    pub(crate) text: String,
}

/// Reads a file, or the `.sql` files of a folder, in the order of their names.
pub(crate) fn read(path: &Path) -> Outcome<Vec<Script>> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()));
    if !path.is_dir() {
        return Ok(vec![Script { name: None, text: text(path)? }]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| format!("reading {}: {error}", path.display()))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "sql") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("{} has no file that ends in .sql", path.display()).into());
    }
    let script = |file: &Path| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Script { name, text: text(file)? })
    };
    files.iter().map(|file| script(file)).collect()
}

/// Runs them, to the first error. Of several each begins with its name and the comment at its head: the question.
pub(crate) fn run(shell: &mut Shell, scripts: &[Script]) -> Outcome<()> {
    for (number, Script { name, text }) in scripts.iter().enumerate() {
        if let Some(name) = name {
            let head = text.lines().map_while(|line| line.strip_prefix("--"));
            let question: String = head.map(|line| format!("{}\n", line.trim())).collect();
            let space = if number == 0 { "" } else { "\n" };
            output::line(&format!("{space}{name}\n\n{question}"))?;
        }
        match (shell.run(text), name) {
            (Ok(Next::Quit), _) => break,
            (Ok(Next::GoOn), _) => {}
            (Err(error), Some(name)) if !output::is_broken_pipe(&*error) => {
                return Err(format!("{name}: {error}").into());
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok(())
}
