//! The command line.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const HELP: &str = "\
The room: real measurements of several agencies replayed as live feeds, with panels that ask SQL across all of them.

cargo run --release --example command_center [-- OPTIONS]

  --store DIR     where the store goes, a new or empty directory (default: a new one for temporary files)
  --rows N        replay on, moved in time, until N rows are in (default: every row of the files once)
  --writers N     threads that write, 1 to 64 (default: one per core, 2 to 8)
  --seconds N     spread the replay over N seconds; 0 is as fast as the store takes it
                  (default: 20 on a terminal without --rows, else 0)
  --data DIR      where the files are (default: examples/data of this crate)
  -h, --help      this text

Ctrl-C stops the writers and closes the store; a second Ctrl-C ends at once. NO_COLOR is respected.";

/// What was asked for.
pub(crate) struct Arguments {
    pub(crate) store: PathBuf,
    pub(crate) rows: Option<u64>,
    pub(crate) writers: usize,
    pub(crate) lasting: Duration,
    pub(crate) data: PathBuf,
}

impl Arguments {
    /// None is a call for help.
    pub(crate) fn parse(mut given: impl Iterator<Item = String>, is_terminal: bool) -> Result<Option<Self>, String> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let (mut store, mut seconds) = (None, None);
        let mut arguments = Self {
            store: PathBuf::new(),
            rows: None,
            writers: cores.clamp(2, 8),
            lasting: Duration::ZERO,
            data: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data").into(),
        };
        while let Some(option) = given.next() {
            if matches!(option.as_str(), "-h" | "--help") {
                return Ok(None);
            }
            let mut value = || given.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--store" => store = Some(PathBuf::from(value()?)),
                "--data" => arguments.data = value()?.into(),
                "--rows" => arguments.rows = Some(number(&option, &value()?, 1, u64::MAX)?),
                "--writers" => arguments.writers = number(&option, &value()?, 1, 64)? as usize,
                "--seconds" => seconds = Some(number(&option, &value()?, 0, 86_400)?),
                _ => return Err(format!("what is {option:?}?")),
            }
        }
        let default_seconds = if is_terminal && arguments.rows.is_none() { 20 } else { 0 };
        arguments.lasting = Duration::from_secs(seconds.unwrap_or(default_seconds));
        arguments.store = store.unwrap_or_else(new_directory);
        Ok(Some(arguments))
    }
}

fn number(option: &str, text: &str, min: u64, max: u64) -> Result<u64, String> {
    // 10_000_000 is how the documentation writes it.
    match text.replace('_', "").parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ if max == u64::MAX => Err(format!("{option} takes a whole number from {min} on, not {text:?}")),
        _ => Err(format!("{option} takes a whole number from {min} to {max}, not {text:?}")),
    }
}

/// A directory that nobody has: the process is alone with its id, and the time tells it from those before.
fn new_directory() -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    std::env::temp_dir().join(format!("denyut-command-center-{}-{}", since.as_secs(), std::process::id()))
}
