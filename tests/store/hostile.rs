//! A CSV file with more than forty kinds of damage: each broken row is in quarantine with its line, its column, its value and
//! the reason, and each good row between them is in its table, exact.

use denyut::feed::import::{Import, Source};
use denyut::prelude::*;

const HEADER: &str = "time,gate,agency,level,count,total,ok,note,cost\n";

/// The cells of a good row.
const GOOD: [&str; 9] = ["2026-11-24 12:00:00", "Sei Wie", "PUPR", "1.5", "-7", "7", "true", "fine", "1.25"];

/// A good row, one of its cells another.
fn with(column: usize, cell: &[u8]) -> Vec<u8> {
    let mut row = Vec::new();
    for (at, good) in GOOD.iter().enumerate() {
        row.extend_from_slice(if at == column { cell } else { good.as_bytes() });
        row.push(if at + 1 == GOOD.len() { b'\n' } else { b',' });
    }
    row
}

/// A broken row, and what quarantine says of it: reason, column, value.
type Damage = (Vec<u8>, &'static str, Option<&'static str>, Option<String>);

fn cell(column: usize, cell: &str, reason: &'static str) -> Damage {
    let name = HEADER.trim_end().split(',').nth(column);
    let value = cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')).unwrap_or(cell);
    (with(column, cell.as_bytes()), reason, name, Some(value.chars().take(1_000).collect()))
}

fn line(line: &[u8], reason: &'static str) -> Damage {
    (line.to_vec(), reason, None, None)
}

fn damages() -> Vec<Damage> {
    let long_tag = "g".repeat(1_025);
    let long_note = "n".repeat(65_537);
    let not_utf8 = |column: usize, name| {
        let lossy = Some("caf\u{fffd}".to_string());
        (with(column, b"caf\xe9"), "not_utf8", Some(name), lossy)
    };
    let mut too_many = with(3, b"1.5");
    too_many.splice(too_many.len() - 1.., *b",more\n");
    vec![
        cell(0, "", "no_time"),
        cell(0, "\"\"", "no_time"),
        cell(0, "yesterday", "bad_time"),
        cell(0, "2026-02-30 12:00:00", "bad_time"),
        cell(0, "2026-11-24 25:00:00", "bad_time"),
        cell(0, "2026-11-24 12:60:00", "bad_time"),
        cell(0, "9999-01-01 00:00:00", "bad_time"),
        cell(0, "24/11/2026 12:00:00", "bad_time"),
        cell(0, "1795496400", "bad_time"),
        cell(0, "2026-10-25 02:30:00", "ambiguous_time"),
        cell(0, "2026-03-29 02:30:00", "skipped_time"),
        (with(0, b"2200-01-01 00:00:00"), "far_future", None, None),
        cell(1, "", "no_tag"),
        cell(1, "\"\"", "no_tag"),
        cell(2, "NA", "no_tag"),
        cell(1, &long_tag, "too_long"),
        not_utf8(1, "gate"),
        cell(3, "high", "bad_number"),
        cell(3, "\"1,5\"", "bad_number"),
        cell(3, "1.2.3", "bad_number"),
        cell(3, "--1", "bad_number"),
        cell(3, "0x10", "bad_number"),
        cell(3, "12 cm", "bad_number"),
        cell(3, "1\0", "bad_number"),
        cell(4, "1.5", "bad_number"),
        cell(4, "1e3", "bad_number"),
        cell(4, "9223372036854775808", "out_of_range"),
        cell(4, "-9223372036854775809", "out_of_range"),
        cell(5, "-1", "out_of_range"),
        cell(5, "18446744073709551616", "out_of_range"),
        cell(6, "maybe", "bad_bool"),
        cell(6, "2", "bad_bool"),
        cell(7, &long_note, "too_long"),
        not_utf8(7, "note"),
        cell(8, "1.255", "out_of_range"),
        cell(8, "1000000.00", "out_of_range"),
        cell(8, "1.2e1", "bad_number"),
        cell(8, "", "no_field"),
        line(b"2026-11-24 12:00:00,Sei Wie,PUPR,1.5\n", "wrong_columns"),
        line(&too_many, "wrong_columns"),
        line(b"2026-11-24 12:00:00;Sei Wie;PUPR;1.5;-7;7;true;fine;1.25\n", "wrong_columns"),
        line(&with(3, b"1,5"), "wrong_columns"),
        line(b"Segmentation fault\n", "wrong_columns"),
        line(b"<html><body>502 Bad Gateway</body></html>\n", "wrong_columns"),
        line(b"\x00\x01\x02\xff\xfe\n", "wrong_columns"),
        line(&[b"2026".as_slice(), &[b'x'; 200_000], b"\n"].concat(), "too_long"),
        (HEADER.as_bytes().to_vec(), "bad_time", Some("time"), Some("time".into())),
        (with(7, b"\"fine\"ly"), "text_after_quote", Some("note"), None),
        // The last of the file: nothing closes it.
        (with(7, b"\"never closed"), "open_quote", Some("note"), None),
    ]
}

#[test]
fn a_hostile_file_lands_in_quarantine_row_for_row() {
    let damages = damages();
    assert!(damages.len() >= 40);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    let schema = Schema::new("water").tag("gate").tag("agency").f64("level", "m").i64("count", "").u64("total", "");
    let schema = schema.bool("ok", "").utf8("note", "").decimal("cost", 8, 2, "EUR").required("cost");
    store.table(schema).unwrap();

    // A good row before each broken one, one over two lines among them, a blank line and a mark at the beginning.
    let (mut file, mut line, mut told) = (b"\xef\xbb\xbf".to_vec(), 2, Vec::new());
    file.extend_from_slice(HEADER.as_bytes());
    for (number, (broken, reason, column, value)) in damages.iter().enumerate() {
        let gate = format!("gate {number}");
        let (note, lines) = if number == 7 { ("\"two\r\nlines, \"\"quoted\"\"\"", 2) } else { ("fine", 1) };
        let end = if number % 2 == 0 { "\n" } else { "\r\n" };
        let second = number % 60;
        file.extend_from_slice(
            format!("2026-11-24 12:00:{second:02},{gate},PUPR,{number}.5,-{number},{number},t,{note},{number}.25{end}")
                .as_bytes(),
        );
        line += lines;
        if number == 20 {
            file.extend_from_slice(b"  \n\n");
            line += 2;
        }
        told.push((line, *reason, *column, value.clone()));
        file.extend_from_slice(broken);
        line += 1;
    }
    let path = dir.path().join("hostile.csv");
    std::fs::write(&path, &file).unwrap();

    let import = Import::csv("water").zone("Europe/Berlin").nulls(["NA"]).bad_permille_max(1_000);
    let import = import.record_bytes_max(100_000);
    let imported = store.import(&import, Source::file(&path)).unwrap();
    assert_eq!((imported.rows, imported.quarantined), (damages.len() as u64, told.len() as u64));

    let rows = store
        .query("SELECT CAST(line AS BIGINT) AS line, reason, column_name, value, file, row FROM system.quarantine ORDER BY line")
        .unwrap();
    assert_eq!(rows.num_rows(), told.len());
    for (row, (line, reason, column, value)) in told.iter().enumerate() {
        let (_, kind) = (&damages[row].0, format!("line {line}"));
        assert_eq!(rows.i64(row, "line").unwrap(), Some(*line), "{kind}");
        assert_eq!(rows.str(row, "reason").unwrap(), Some(*reason), "{kind}");
        assert_eq!(rows.str(row, "column_name").unwrap(), *column, "{kind}");
        if let Some(value) = value {
            assert_eq!(rows.str(row, "value").unwrap(), Some(value.as_str()), "{kind}");
        }
        assert_eq!(rows.str(row, "file").unwrap(), path.to_str(), "{kind}");
        let text = String::from_utf8_lossy(&damages[row].0).trim_end_matches('\n').to_string();
        let kept = rows.str(row, "row").unwrap().unwrap();
        match *reason {
            // It could be read, and is there as JSON.
            "far_future" => assert!(kept.starts_with('{'), "{kind}: {kept:?}"),
            // What is too long is cut.
            "too_long" => assert!(!kept.is_empty() && text.starts_with(kept), "{kind}: {kept:?}"),
            _ => assert_eq!(kept, text, "{kind}"),
        }
    }

    let rows = store
        .query(
            "SELECT gate, to_char(time, '%H:%M:%S') AS clock, level, \"count\", CAST(total AS BIGINT) AS total, note, \
             CAST(cost AS VARCHAR) AS cost FROM water ORDER BY total",
        )
        .unwrap();
    assert_eq!(rows.num_rows(), damages.len());
    for number in 0..damages.len() {
        let kind = format!("good row {number}");
        assert_eq!(rows.str(number, "gate").unwrap(), Some(format!("gate {number}").as_str()), "{kind}");
        assert_eq!(rows.str(number, "clock").unwrap(), Some(format!("11:00:{:02}", number % 60).as_str()), "{kind}");
        assert_eq!(rows.f64(number, "level").unwrap(), Some(number as f64 + 0.5), "{kind}");
        assert_eq!(rows.i64(number, "count").unwrap(), Some(-(number as i64)), "{kind}");
        assert_eq!(rows.i64(number, "total").unwrap(), Some(number as i64), "{kind}");
        assert_eq!(rows.str(number, "cost").unwrap(), Some(format!("{number}.25").as_str()), "{kind}");
        let note = if number == 7 { "two\r\nlines, \"quoted\"" } else { "fine" };
        assert_eq!(rows.str(number, "note").unwrap(), Some(note), "{kind}");
    }

    let again = store.import(&import, Source::file(&path)).unwrap();
    assert_eq!((again.rows, again.duplicates, again.quarantined), (0, 2 * damages.len() as u64, 0));
    let sums =
        "CAST(sum(rows) AS BIGINT) AS r, CAST(sum(duplicates) AS BIGINT) AS d, CAST(sum(quarantined) AS BIGINT) AS q";
    let imports = store.query(&format!("SELECT count(*) AS n, {sums} FROM system.imports")).unwrap();
    let sums = ["n", "r", "d", "q"].map(|name| imports.i64(0, name).unwrap().unwrap());
    let rows = damages.len() as i64;
    assert_eq!(sums, [2, rows, 2 * rows, rows]);
}

#[test]
fn an_import_that_is_mostly_broken_stops() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("kota")).unwrap();
    store.table(Schema::new("water").tag("gate").f64("level", "m")).unwrap();
    let mut text = "time,gate,level\n".to_string();
    (0..1_000)
        .for_each(|row| text.push_str(&format!("2026-11-24 12:00:00,{row},{}\n", if row < 300 { "1" } else { "-" })));
    let import = Import::csv("water");
    let stopped = store.import(&import, Source::reader("levels", text.as_bytes())).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Limit);
    assert!(stopped.to_string().contains("bad_permille_max") && stopped.to_string().contains("line 401"), "{stopped}");
    // What came before is there, and the next import goes on from there, once the limit or the reading is another.
    let rest = store.import(&import.nulls(["-"]), Source::reader("levels", text.as_bytes())).unwrap();
    assert_eq!((rest.rows, rest.duplicates, rest.quarantined), (600, 400, 0));
}
