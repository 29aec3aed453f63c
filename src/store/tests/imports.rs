//! Imports that a crash or a power loss cuts short, on the simulator: whatever the moment was, importing again makes each row
//! of the source be there once.

use super::*;
use crate::feed::import::{Import, Imported, Source};

/// Rows of `numbered` as CSV, from one number to another; every thirteenth line is broken.
fn text(numbers: std::ops::Range<i64>) -> String {
    let mut text = String::from("when,writer,number,half,text\n");
    for number in numbers {
        let (time, half, words) = (time_of(number), half_of(number), text_of(number).unwrap_or_default());
        let half = half.map_or(String::new(), |half| half.to_string());
        let writer = ["a", "b"][usize::from(number % 5 == 0)];
        if is_broken(number) {
            text.push_str(&format!("{time},{writer},none,{half},{words}\n"));
        } else {
            text.push_str(&format!("{time},{writer},{number},{half},\"{words}\"\n"));
        }
    }
    // No text is null and not empty.
    text.replace(",\"\"\n", ",\n")
}

fn is_broken(number: i64) -> bool {
    number % 13 == 12
}

fn how() -> Import {
    Import::csv("numbered").time("when").chunk_bytes(4 << 10).record_bytes_max(1 << 10).bad_permille_max(500)
}

fn take(store: &Store, text: &str) -> Result<Imported> {
    store.import(&how(), Source::reader("numbers.csv", text.as_bytes()))
}

/// Lines in quarantine, and how often each is there.
fn quarantined(store: &Store) -> BTreeMap<u64, usize> {
    let mut lines = BTreeMap::new();
    let snapshot = store.inner.core.snapshot();
    let Some(table) = snapshot.table("__quarantine").cloned() else { return lines };
    for batch in crate::Scan::new(table, store.inner.core.gate.origin.clone()) {
        let batch = batch.unwrap();
        let column = batch.column_by_name("line").unwrap().as_primitive::<arrow::datatypes::UInt64Type>().clone();
        column.values().iter().for_each(|line| *lines.entry(*line).or_default() += 1);
    }
    lines
}

/// Holds the store against the rows 0 to `rows`.
fn check(store: &Store, rows: i64, place: &str) {
    let found = rows_of(&store.existing("numbered").unwrap());
    let good: Vec<i64> = (0..rows).filter(|number| !is_broken(*number)).collect();
    for number in &good {
        let writer = ["a", "b"][usize::from(number % 5 == 0)].to_string();
        assert_eq!(found.get(&(writer, *number)), Some(&1), "{place}: row {number}");
    }
    assert_eq!(found.len(), good.len(), "{place}: rows that are not in the source");
    let broken = quarantined(store);
    let lines: Vec<u64> = (0..rows).filter(|number| is_broken(*number)).map(|number| number as u64 + 2).collect();
    assert_eq!(broken.keys().copied().collect::<Vec<_>>(), lines, "{place}: lines in quarantine");
    assert!(broken.values().all(|times| *times == 1), "{place}: {broken:?}");
}

fn counts(imported: Imported) -> (u64, u64, u64) {
    (imported.rows, imported.duplicates, imported.quarantined)
}

#[test]
fn the_same_content_twice_changes_nothing_whatever_it_is_called() {
    let fs = SimFs::new(1);
    let store = open_sim(&fs).unwrap();
    store.table(numbered()).unwrap();
    let text = text(0..1_300);
    assert_eq!(counts(take(&store, &text).unwrap()), (1_200, 0, 100));
    check(&store, 1_300, "once");
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    for (name, bytes) in [("again", text.as_bytes()), ("gzip", &gzip), ("zstd", &zstd), ("marked", &marked)] {
        let imported = store.import(&how(), Source::reader(name, bytes)).unwrap();
        assert_eq!(counts(imported), (0, 1_300, 0), "{name}");
        check(&store, 1_300, name);
    }
    // Also in the next life, in pieces of other sizes, and after a seal.
    store.seal().unwrap();
    drop(store);
    let store = open_sim(&fs.kill()).unwrap();
    let imported = store.import(&how().chunk_bytes(1 << 20), Source::reader("again", text.as_bytes())).unwrap();
    assert_eq!(counts(imported), (0, 1_300, 0));
    // Another identity is another source.
    let imported = store.import(&how().identity("b"), Source::reader("b", text.as_bytes())).unwrap();
    assert_eq!(counts(imported), (1_200, 0, 100));
}

#[test]
fn a_file_that_has_grown_gives_what_is_new() {
    let store = open_sim(&SimFs::new(2)).unwrap();
    store.table(numbered()).unwrap();
    let mut before = 0;
    for rows in [1, 2, 100, 101, 700, 1_300] {
        let imported = take(&store, &text(0..rows)).unwrap();
        assert_eq!(imported.duplicates, before, "{rows} rows");
        assert_eq!(imported.rows + imported.quarantined, rows as u64 - before);
        check(&store, rows, "grown");
        before = rows as u64;
    }
    // A last line without its end is taken as it is, and goes on with a newline or is cut.
    let mut whole = text(0..1_302);
    assert_eq!(take(&store, whole.trim_end()).unwrap().rows, 2);
    whole.push_str("2026-11-24T00:00:00Z,a,5,,");
    assert_eq!(counts(take(&store, &whole).unwrap()), (1, 1_302, 0));
    whole.push_str("more\n");
    let imported = take(&store, &whole).unwrap();
    assert_eq!(counts(imported), (0, 1_303, 1));
    assert_eq!(quarantined(&store).last_key_value(), Some((&1_304, &1)));
}

#[test]
fn other_content_with_the_same_beginning_is_told_apart() {
    let store = open_sim(&SimFs::new(3)).unwrap();
    store.table(numbered()).unwrap();
    take(&store, &text(0..600)).unwrap();
    // The second half differs from row 601 on, and the first pieces are known.
    let other = text(0..300) + text(1_000..1_300).split_once('\n').unwrap().1;
    let imported = take(&store, &other).unwrap();
    let new = (1_000..1_300).filter(|number| !is_broken(*number)).count() as u64;
    assert!(imported.rows >= new && imported.rows + imported.duplicates + imported.quarantined == 600, "{imported:?}");
    assert_eq!(counts(take(&store, &other).unwrap()), (0, 600, 0));
}

/// A workload that is cut at some operation of the simulator, by `crash`, up to three times; then a whole import.
fn cut(seed: u64, crash: impl Fn(&Arc<SimFs>, u64) -> Arc<SimFs>, operations: u64) {
    let place = format!("seed {seed}");
    let mut chance = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |below: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance % below
    };
    let fs = SimFs::new(seed);
    let store = open_sim(&fs).unwrap();
    store.table(numbered()).unwrap();
    // What was in the table before an import is not its own: rows of a number that the source does not have.
    take(&store, &text(0..50)).unwrap();
    store.sync().unwrap();
    drop(store);
    let mut fs = crash(&fs, seed);
    let rows = 600;
    let text = text(0..rows);
    for life in 1..4 {
        fs.crash_at(next(operations));
        if let Ok(store) = open_sim(&fs) {
            let result = take(&store, &text).and_then(|_| match next(3) {
                0 => store.seal().map(drop),
                _ => store.sync(),
            });
            assert!(result.is_ok() || fs.is_gone(), "{place}: {result:?}");
        }
        fs = crash(&fs, seed + life);
    }
    fs.repair();
    let fs = crash(&fs, seed + 9);
    let store = open_sim(&fs).unwrap_or_else(|error| panic!("{place}: {error}"));
    let imported = take(&store, &text).unwrap();
    assert_eq!(imported.rows + imported.duplicates + imported.quarantined, rows as u64, "{place}: {imported:?}");
    check(&store, rows, &place);
    assert_eq!(counts(take(&store, &text).unwrap()), (0, rows as u64, 0), "{place}");
}

#[test]
fn a_power_loss_at_any_operation_doubles_nothing_and_loses_nothing() {
    let seeds = match setting("DENYUT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("DENYUT_IMAGES").unwrap_or(25),
    };
    for seed in seeds {
        cut(seed, |fs, seed| fs.crash(seed), 180);
    }
}

#[test]
fn a_kill_at_any_operation_doubles_nothing_and_loses_nothing() {
    for seed in 0..setting("DENYUT_IMAGES").unwrap_or(25) {
        cut(seed, |fs, _| fs.kill(), 180);
    }
}

/// Imports `text` in pieces of `chunk_bytes` until the machine stops before its operation `cut`; whether it did.
fn stopped(fs: &Arc<SimFs>, text: &str, chunk_bytes: usize, cut: u64) -> bool {
    fs.crash_at(fs.operations() + cut);
    let import = how().chunk_bytes(chunk_bytes);
    let result = open_sim(fs).and_then(|store| store.import(&import, Source::reader("numbers.csv", text.as_bytes())));
    assert!(result.is_ok() || fs.is_gone(), "{result:?}");
    fs.is_gone()
}

/// An empty store with the table.
fn made(seed: u64) -> Arc<SimFs> {
    let fs = SimFs::new(seed);
    let store = open_sim(&fs).unwrap();
    store.table(numbered()).unwrap();
    store.close().unwrap();
    fs.kill()
}

#[test]
fn broken_lines_that_a_kill_left_are_durable_once_they_are_done() {
    let text = text(0..40);
    let mut cuts = 0;
    for cut in 0.. {
        let fs = made(cut);
        if !stopped(&fs, &text, 4 << 10, cut) {
            break;
        }
        cuts += 1;
        let fs = fs.kill();
        let store = open_sim(&fs).unwrap();
        take(&store, &text).unwrap();
        for seed in 0..4 {
            let store = open_sim(&fs.crash(seed)).unwrap();
            let place = format!("cut {cut}, seed {seed}");
            check(&store, 40, &place);
            assert_eq!(counts(take(&store, &text).unwrap()), (0, 40, 0), "{place}");
        }
    }
    assert!(cuts > 20, "{cuts} cuts");
}

#[test]
fn an_import_goes_on_in_pieces_of_another_size() {
    const ROWS: i64 = 300;
    let text = text(0..ROWS);
    let (small, large) = (4 << 10, 64 << 10);
    // Each life has its size of pieces; the last one ends, and the ones before are cut short.
    for sizes in [[large, small, small], [small, large, small], [small, large, large], [large, small, large]] {
        let mut cuts = 0;
        for cut in (1..).step_by(3) {
            let mut fs = made(cut);
            let begun = stopped(&fs, &text, sizes[0], cut);
            fs = fs.kill();
            if begun {
                stopped(&fs, &text, sizes[1], cut + 20);
                fs = fs.kill();
            }
            let store = open_sim(&fs).unwrap();
            let import = how().chunk_bytes(sizes[2]);
            store.import(&import, Source::reader("numbers.csv", text.as_bytes())).unwrap();
            check(&store, ROWS, &format!("{sizes:?}, cut {cut}"));
            if !begun {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 5, "{sizes:?}: {cuts} cuts");
    }
}

#[test]
fn a_row_that_is_longer_than_a_piece_widens_none() {
    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
    const ROWS: i64 = 1_200;
    // The row in the middle is too long, and a piece as long as it would have many others.
    let text_of = |number: i64| if number == 20 { "x".repeat(40 << 10) } else { format!("row {number}") };
    let columns: [(&str, ArrayRef); 5] = [
        ("when", Arc::new((0..ROWS).map(|number| Some(number * 1_000_000_000)).collect::<TimestampNanosecondArray>())),
        ("writer", Arc::new((0..ROWS).map(|_| Some("a")).collect::<StringArray>())),
        ("number", Arc::new((0..ROWS).map(Some).collect::<Int64Array>())),
        ("half", Arc::new((0..ROWS).map(|number| Some(number as f64)).collect::<Float64Array>())),
        ("text", Arc::new((0..ROWS).map(|number| Some(text_of(number))).collect::<StringArray>())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let import = |store: &Store, chunk_bytes: usize| {
        let how = Import::batches("numbered").time("when").chunk_bytes(chunk_bytes).record_bytes_max(1 << 10);
        store.import(&how, Source::batches("memory", batch.schema(), [batch.clone()]))
    };
    for cut in 10.. {
        let fs = made(cut);
        fs.crash_at(fs.operations() + cut);
        let result = open_sim(&fs).and_then(|store| import(&store, 4 << 10));
        let store = open_sim(&fs.kill()).unwrap();
        import(&store, 48 << 10).unwrap();
        let rows: usize =
            store.existing("numbered").unwrap().scan().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!((rows, quarantined(&store)), (ROWS as usize - 1, [(21, 1)].into()), "cut {cut}");
        if result.is_ok() {
            break;
        }
    }
}

#[test]
fn late_rows_are_the_same_ones_after_a_crash() {
    let schema = numbered().lateness(std::time::Duration::from_secs(3_600));
    // Every ninth row is hours behind.
    let mut text = String::from("when,writer,number,half,text\n");
    for number in 0..500i64 {
        let behind = if number % 9 == 8 { 20_000 } else { 0 };
        let time = Time::from_secs(1_700_000_000 + number * 60 - behind).unwrap();
        text.push_str(&format!("{time},a,{number},,\n"));
    }
    let whole = |fs: &Arc<SimFs>| {
        let store = open_sim(fs).unwrap();
        store.table(schema.clone()).unwrap();
        let import = how().chunk_bytes(4 << 10);
        let imported = store.import(&import, Source::reader("late.csv", text.as_bytes()));
        let lines = quarantined(&store);
        (imported.map(counts).ok(), lines)
    };
    let (counted, lines) = whole(&SimFs::new(7));
    assert_eq!(counted, Some((445, 0, 55)));
    for cut in (20..200).step_by(7) {
        let fs = SimFs::new(cut);
        let store = open_sim(&fs).unwrap();
        store.table(schema.clone()).unwrap();
        drop(store);
        let fs = fs.kill();
        fs.crash_at(cut);
        let _ = open_sim(&fs)
            .and_then(|store| store.import(&how().chunk_bytes(4 << 10), Source::reader("late.csv", text.as_bytes())));
        let (again, found) = whole(&fs.kill());
        let (rows, duplicates, quarantined) = again.unwrap();
        assert_eq!(rows + duplicates + quarantined, 500, "cut at {cut}");
        assert_eq!(found, lines, "cut at {cut}");
    }
}
