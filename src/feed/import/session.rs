//! One import under way: content is walked piece by piece, what is known is skipped, and what is new is taken.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cell::Cell;
use super::fault::{Fault, Faulty};
use super::host::Host;
use super::input::Input;
use super::ledger::{self, About, Done, Opened, Place, Sums};
use super::records::{Records, Step};
use super::resume::Compare;
use super::targets::Targets;
use super::{Import, Imported};
use crate::care::progress::Meter;
use crate::error::{Error, Result};
use crate::model::quarantine::{self, Broken, Origin};
use crate::model::{TableId, Time, json};

/// Content by which an `open` is known again.
const HEAD_BYTES: usize = 64 << 10;
/// Longest text of a value in quarantine.
const VALUE_CHARS_MAX: usize = 1_000;

/// One import.
pub(crate) struct Session {
    pub(crate) host: Arc<dyn Host>,
    import: Import,
    source: String,
    pub(crate) records: Records,
    pub(crate) targets: Targets,
    /// The source's columns.
    names: Vec<String>,
    at: Position,
    /// The imports that this one goes on with; its own, if there are none.
    opened: Vec<Opened>,
    /// Imports that began on the way here and did not end.
    unfinished: Vec<Opened>,
    compare: Option<Compare>,
    /// Of this import.
    total: Sums,
    /// The quarantine, once it may have lines of this source that are not synced.
    quarantine: Option<TableId>,
}

/// Where in the content an import is.
struct Position {
    anchor: Place,
    /// Has all content behind the anchor.
    hasher: Sha256,
    since: Sums,
    /// The piece from the anchor that was done last.
    done: Option<Place>,
    line: u64,
    /// Whether content ends in the middle of a line here.
    mid_line: bool,
}

impl Position {
    fn anchored(anchor: Place, line: u64) -> Self {
        let hasher = anchor.hasher();
        Self { anchor, hasher, since: Sums::default(), done: None, line, mid_line: false }
    }
}

/// What was there before, of a piece that is compared.
pub(crate) struct Known {
    /// Lines whose rows are in quarantine.
    pub(crate) lines: HashSet<u64>,
    /// Rows that each target has, from the first.
    pub(crate) rows: Vec<u64>,
}

/// What became of a record.
enum Taken {
    Row,
    Duplicate,
    /// With the reason, its time and itself.
    Timed(&'static str, i64, String),
}

impl Session {
    /// At the beginning of content whose head, up to `line`, is behind `start`.
    pub(crate) fn new(
        host: Arc<dyn Host>,
        import: Import,
        source: String,
        (records, targets): (Records, Targets),
        names: Vec<String>,
        (start, line): (Place, u64),
    ) -> Self {
        Self {
            host,
            import,
            source,
            records,
            targets,
            names,
            at: Position::anchored(start, line),
            opened: Vec::new(),
            unfinished: Vec::new(),
            compare: None,
            total: Sums::default(),
            quarantine: None,
        }
    }

    /// Takes what `input` has, up to its last whole record; all of it if `last`.
    pub(crate) fn advance(&mut self, input: &mut Input<'_>, last: bool, meter: &mut Meter<'_>) -> Result<()> {
        let chunk = self.import.limits.chunk_bytes;
        let mut wanted = chunk;
        self.meet_others()?;
        loop {
            input.fill(wanted, meter)?;
            if input.bytes().is_empty() {
                return Ok(());
            }
            if self.at.since.bytes == 0 && self.skip_known(input, meter)? {
                continue;
            }
            self.open(input.bytes())?;
            // What was read to be compared may be more than a piece.
            let piece = input.bytes().get(..wanted).unwrap_or(input.bytes());
            let ended = input.ended() && piece.len() == input.bytes().len();
            let (used, looked_at) = (self.take(piece, ended && last, ended)?, piece.len());
            input.consume(used);
            wanted = chunk;
            if used == 0 {
                if ended {
                    return Ok(());
                }
                // A record that is longer than what was looked at of it.
                wanted = looked_at * 2;
            }
        }
    }

    /// Ends the import, and gives its sums.
    pub(crate) fn end(mut self) -> Result<Imported> {
        self.close()?;
        Ok(self.total.into())
    }

    /// Notes that all content there is was taken.
    pub(crate) fn close(&mut self) -> Result<()> {
        let opened = std::mem::take(&mut self.opened);
        if self.total != Sums::default() {
            self.host.ledger().close(&*self.host, self.about(), &opened, self.total)?;
        }
        Ok(())
    }

    /// Sums so far.
    pub(crate) fn total(&self) -> Sums {
        self.total
    }

    fn about(&self) -> About<'_> {
        About { table: self.import.table.as_deref(), source: &self.source }
    }

    /// Another import may have taken content that follows here, since this one looked last.
    fn meet_others(&mut self) -> Result<()> {
        let place = Place::of(self.at.hasher.clone());
        if self.at.since.bytes > 0 && self.host.ledger().knows(&*self.host, place)? {
            let mid_line = self.at.mid_line;
            self.at = Position { mid_line, ..Position::anchored(place, self.at.line) };
        }
        Ok(())
    }

    /// Skips the longest piece from here that is done, if there is one.
    fn skip_known(&mut self, input: &mut Input<'_>, meter: &mut Meter<'_>) -> Result<bool> {
        let (host, anchor) = (&*self.host, self.at.anchor);
        let mut known = host.ledger().done(host, anchor)?;
        let begun = host.ledger().open(host, anchor)?;
        // An import that was cut may have read more at once than this one does.
        let wanted = known.first().map(|longest| longest.sums.bytes).into_iter();
        if let Some(wanted) = wanted.chain(begun.iter().map(|opened| opened.head_bytes)).max() {
            input.fill(usize::try_from(wanted).unwrap_or(usize::MAX), meter)?;
        }
        for opened in begun {
            let head = usize::try_from(opened.head_bytes).ok().and_then(|len| input.bytes().get(..len));
            if head.is_some_and(|head| anchor.after(head) == opened.head) && !self.opened.contains(&opened) {
                self.unfinished.push(opened);
            }
        }
        // All lengths in one pass, from the shortest.
        known.reverse();
        let (mut hasher, mut hashed, mut found) = (anchor.hasher(), 0, None);
        for done in known {
            let len = usize::try_from(done.sums.bytes).unwrap_or(usize::MAX);
            let Some(more) = input.bytes().get(hashed..len) else { break };
            hasher.update(more);
            hashed = len;
            if Place::of(hasher.clone()) == done.place {
                found = Some((len, done));
            }
        }
        let Some((len, done)) = found else { return Ok(false) };
        let mid_line = self.is_text() && input.bytes().get(..len).and_then(<[u8]>::last) != Some(&b'\n');
        self.at = Position { mid_line, ..Position::anchored(done.place, self.at.line + done.sums.lines) };
        self.total.bytes += done.sums.bytes;
        self.total.lines += done.sums.lines;
        self.total.duplicates += done.sums.rows + done.sums.quarantined + done.sums.duplicates;
        self.not_older_than(done.newest_ns);
        input.consume(len);
        Ok(true)
    }

    fn is_text(&self) -> bool {
        !matches!(self.records, Records::Rows(_))
    }

    fn count(&mut self, more: Sums) {
        for sums in [&mut self.total, &mut self.at.since] {
            sums.bytes += more.bytes;
            sums.lines += more.lines;
            sums.rows += more.rows;
            sums.quarantined += more.quarantined;
            sums.duplicates += more.duplicates;
        }
    }

    /// Lateness goes on from where an earlier import was. Where rows name their tables it begins anew.
    fn not_older_than(&mut self, newest_ns: i64) {
        if let [target] = &mut *self.targets.list {
            target.sink().blocks.not_older_than(newest_ns);
        }
    }

    /// Notes that rows come, before the first does, and of which imports there may be rows.
    ///
    /// **Invariant:** the windows of what is noted are as wide as that of this import, so the next one finds all its rows.
    fn open(&mut self, bytes: &[u8]) -> Result<()> {
        let limits = &self.import.limits;
        // A piece ends with its last whole record, and a long record may make it longer.
        let window_bytes = 2 * (limits.chunk_bytes + 2 * limits.record_bytes_max) as u64;
        if !self.unfinished.is_empty() {
            let found = std::mem::take(&mut self.unfinished);
            let widest = found.iter().map(|opened| opened.window_bytes).max().unwrap_or_default();
            let ids: Vec<String> = found.iter().map(Opened::id).collect();
            self.compare = Some(Compare::new(&*self.host, &ids, widest)?);
            // Lines that are known by now were published, and may not be synced.
            let view = self.host.core().view.load();
            self.quarantine = view.table(quarantine::TABLE).map(|table| table.schema.id);
            self.opened.extend(found);
        }
        if self.opened.iter().any(|opened| opened.window_bytes >= window_bytes) {
            return Ok(());
        }
        let head = bytes.get(..HEAD_BYTES.min(bytes.len())).unwrap_or_default();
        let (anchor, head_bytes) = (self.at.anchor, head.len() as u64);
        let opened = Opened { anchor, head_bytes, head: anchor.after(head), window_bytes };
        self.host.ledger().begin(&*self.host, self.about(), opened)?;
        self.opened.push(opened);
        Ok(())
    }

    /// Takes the whole records of `bytes`, and gives how many bytes that were. When it returns they are done.
    fn take(&mut self, bytes: &[u8], last: bool, ended: bool) -> Result<usize> {
        let before = self.at.since;
        let known = match self.compare.take() {
            Some(mut compare) => {
                let known = compare.look(self, bytes, last)?;
                self.compare = Some(compare);
                Some(known)
            }
            None => None,
        };
        let used = self.take_records(bytes, last, ended, known)?;
        if used == 0 {
            return Ok(0);
        }
        self.compare = self.compare.take().and_then(|compare| compare.past(used));
        let text = bytes.get(..used).unwrap_or_default();
        self.at.hasher.update(text);
        self.at.mid_line = self.is_text() && text.last() != Some(&b'\n');
        self.count(Sums { bytes: used as u64, ..Sums::default() });
        debug_assert!(self.at.since.bytes > before.bytes, "what is done has a length");
        let tables: Vec<TableId> = self.targets.ids().chain(self.quarantine).collect();
        ledger::sync(self.host.core(), tables.into_iter())?;
        let place = Place::of(self.at.hasher.clone());
        let newest_ns = match &mut *self.targets.list {
            [target] => target.sink().blocks.newest_ns(),
            _ => i64::MIN,
        };
        let done = Done { place, sums: self.at.since, newest_ns };
        let extends = self.at.done.replace(place);
        self.host.ledger().finish(&*self.host, self.about(), self.at.anchor, done, extends)?;
        if self.at.since.bytes >= self.import.limits.chunk_bytes as u64 {
            let mid_line = self.at.mid_line;
            self.at = Position { mid_line, ..Position::anchored(place, self.at.line) };
        }
        Ok(used)
    }

    fn take_records(&mut self, bytes: &[u8], last: bool, ended: bool, mut known: Option<Known>) -> Result<usize> {
        let mut cells = Vec::new();
        self.records.begin();
        let mut at = self.rest_of_row(bytes, ended && last, known.as_ref())?;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let step = self.records.next(rest, last, &mut cells, &mut self.targets)?;
            // A piece that was made longer for one record has no others, so that it keeps within its window.
            if at > 0 && at + step.bytes() > 2 * self.import.limits.chunk_bytes {
                break;
            }
            let (len, lines) = match step {
                Step::Row { bytes: len, lines, target } => {
                    self.row(rest.get(..len).unwrap_or_default(), &cells, target, known.as_mut())?;
                    (len, lines)
                }
                Step::Broken { bytes: len, lines, target, faulty } => {
                    self.broken(rest.get(..len).unwrap_or_default(), &cells, target, faulty, known.as_ref())?;
                    (len, lines)
                }
                Step::Blank { bytes: len, lines } => (len, lines),
                // Looked at again with more behind it; what has no end even then is taken as far as it goes.
                Step::Endless { .. } if at > 0 || !ended && rest.len() < self.import.limits.chunk_bytes => break,
                Step::Endless { bytes: len } => {
                    self.broken(rest, &[], None, Fault::TooLong.whole(), known.as_ref())?;
                    (len, 1)
                }
                Step::More => break,
            };
            at += len;
            self.at.line += lines;
            self.count(Sums { lines, ..Sums::default() });
        }
        Ok(at)
    }

    /// What is left of a line whose beginning was taken and counted before; its length.
    fn rest_of_row(&mut self, bytes: &[u8], last: bool, known: Option<&Known>) -> Result<usize> {
        let (len, _) = self.beginning(bytes);
        let text = bytes.get(..len).unwrap_or_default();
        if !self.at.mid_line || matches!(text, b"\n" | b"\r\n") {
            return Ok(len);
        }
        if text.last() != Some(&b'\n') && !last {
            // Its end is not there yet; where the line is too long already, it is waited for without its middle.
            return Ok(if len > self.import.limits.record_bytes_max { len } else { 0 });
        }
        self.at.line -= 1;
        let put = self.broken(text, &[], None, Fault::CutRow.whole(), known);
        self.at.line += 1;
        put.map(|()| len)
    }

    /// Where the first whole row of `bytes` is, and its line.
    pub(crate) fn beginning(&self, bytes: &[u8]) -> (usize, u64) {
        let len = match bytes {
            _ if !self.at.mid_line => 0,
            [b'\r', b'\n', ..] => 2,
            _ => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |newline| newline + 1),
        };
        (len, self.at.line)
    }

    #[inline]
    fn row(&mut self, record: &[u8], cells: &[Cell<'_>], number: usize, known: Option<&mut Known>) -> Result<()> {
        if known.as_ref().is_some_and(|known| known.lines.contains(&self.at.line)) {
            self.count(Sums { duplicates: 1, ..Sums::default() });
            return Ok(());
        }
        let Some(target) = self.targets.list.get_mut(number) else { return Ok(()) };
        let stored = known.and_then(|known| known.rows.get_mut(number)).filter(|stored| **stored > 0);
        let taken = target.with_row(cells, |sink, time_ns, tags, values| {
            if let Some(stored) = stored
                && sink.blocks.judge(time_ns, sink.blocks.newest_ns()).is_none()
            {
                *stored -= 1;
                sink.blocks.not_older_than(time_ns);
                return Ok(Taken::Duplicate);
            }
            Ok(match sink.append(time_ns, tags, values)? {
                None => Taken::Row,
                Some(reason) => Taken::Timed(reason.as_str(), time_ns, json::row(&sink.schema, tags, values)),
            })
        });
        match taken {
            Ok(Ok(Taken::Row)) => {
                self.total.rows += 1;
                self.at.since.rows += 1;
                Ok(())
            }
            Ok(Ok(Taken::Duplicate)) => {
                self.count(Sums { duplicates: 1, ..Sums::default() });
                Ok(())
            }
            Ok(Ok(Taken::Timed(reason, time_ns, row))) => {
                self.put(Some(number), reason, Some(Time::from_nanos(time_ns)), row, (None, None, ""))
            }
            Ok(Err(error)) => Err(error),
            Err(faulty) => self.broken(record, cells, Some(number), faulty, None),
        }
    }

    /// Puts a record that is no row into quarantine; without a target, for the import's table.
    #[cold]
    fn broken(
        &mut self,
        record: &[u8],
        cells: &[Cell<'_>],
        target: Option<usize>,
        faulty: Faulty,
        known: Option<&Known>,
    ) -> Result<()> {
        if known.is_some_and(|known| known.lines.contains(&self.at.line)) {
            self.count(Sums { duplicates: 1, ..Sums::default() });
            return Ok(());
        }
        let row = if self.is_text() {
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            String::from_utf8_lossy(record.strip_suffix(b"\r").unwrap_or(record)).into_owned()
        } else {
            cells.iter().map(|cell| cell.to_text()).collect::<Vec<_>>().join(",")
        };
        let name = faulty.column.and_then(|column| self.column_name(target, column));
        let cell = faulty.column.and_then(|column| cells.get(column));
        let value = cell.map(|cell| cell.to_text().chars().take(VALUE_CHARS_MAX).collect::<String>());
        self.put(target, faulty.fault.as_str(), None, row, (name, value, faulty.fault.message()))
    }

    /// The name of a column of the source; in line protocol, of the table.
    fn column_name(&self, target: Option<usize>, column: usize) -> Option<String> {
        if !matches!(self.records, Records::Line(_)) {
            return self.names.get(column).cloned();
        }
        let schema = self.targets.list.get(target?)?.schema();
        let name = schema.arrow().fields().get(column)?.name();
        Some(name.clone())
    }

    fn put(
        &mut self,
        target: Option<usize>,
        reason: &'static str,
        time: Option<Time>,
        row: String,
        (column, value, message): (Option<String>, Option<String>, &str),
    ) -> Result<()> {
        let import = self.opened.first().map(Opened::id).unwrap_or_default();
        let target = target.and_then(|target| self.targets.list.get(target));
        let table = target.map(|target| target.schema().name.clone());
        let origin = Origin {
            file: &self.source,
            line: self.at.line,
            column: column.as_deref(),
            value: value.as_deref(),
            message,
            import: &import,
        };
        let table = table.as_deref().or(self.import.table.as_deref()).unwrap_or(crate::model::imports::ANY_TABLE);
        self.quarantine = Some(self.host.quarantine(&Broken { table, reason, time, row, origin })?);
        self.count(Sums { quarantined: 1, ..Sums::default() });
        self.check_share()
    }

    /// Stops an import of which too much is broken: it is probably read in the wrong way.
    fn check_share(&self) -> Result<()> {
        let limits = &self.import.limits;
        let bad = self.total.quarantined;
        let rows = self.total.rows + bad;
        if bad < limits.bad_rows_min || bad.saturating_mul(1_000) <= limits.bad_permille_max.saturating_mul(rows) {
            return Ok(());
        }
        Err(Error::LimitExceeded {
            limit: "bad_permille_max",
            max: limits.bad_permille_max,
            found: bad * 1_000 / rows.max(1),
            place: format!("{:?}, line {}: {bad} of {rows} rows went to quarantine", self.source, self.at.line),
        })
    }
}
