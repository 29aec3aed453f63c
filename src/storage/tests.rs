//! Logs, indexes and views: torn tails are cut, damage is noticed, what is gathered is what was put in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, StringViewArray};
use proptest::prelude::*;

use super::control::{Control, Ends};
use super::frame_log::{FrameLog, Kind};
use super::manifest::{Catalog, Manifest};
use super::series_index::{self, ranges};
use super::series_view::{CHUNK_SERIES, SeriesView};
use super::summary;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::fs::sim::{Fault, FaultKind, SimFs};

const KIND: Kind = Kind { magic: *b"testlog!", version: 1, what: "test log", synced_one_by_one: true };
const PATH: &str = "/store/log";

/// Opens a log of these bytes.
fn opened(bytes: &[u8], kind: Kind, durable_end: u64) -> Result<(Vec<Vec<u8>>, u64)> {
    let fs = SimFs::new(0);
    fs.create_dir(Path::new("/store")).unwrap();
    let file = fs.create(Path::new(PATH)).unwrap();
    file.write_at(bytes, 0).unwrap();
    FrameLog::open(file, kind, durable_end, false, |_| Ok(())).map(|opened| (opened.payloads, opened.cut_bytes))
}

/// A log of five frames, and where each ends.
fn five() -> (Vec<u8>, Vec<u64>, Vec<Vec<u8>>) {
    let fs = SimFs::new(0);
    fs.create_dir(Path::new("/store")).unwrap();
    let payloads: Vec<Vec<u8>> = (1..=5_u8).map(|n| vec![n; usize::from(n) * 7]).collect();
    let mut log = FrameLog::create(&*fs, Path::new(PATH), KIND, 1, &payloads[0]).unwrap();
    let mut ends = vec![log.end()];
    for payload in &payloads[1..] {
        log.append(payload).unwrap();
        log.sync().unwrap();
        ends.push(log.end());
    }
    let file = fs.open(Path::new(PATH)).unwrap().unwrap();
    (crate::fs::read_all(&*file).unwrap(), ends, payloads)
}

#[test]
fn a_log_torn_at_any_byte_is_the_frames_before() {
    let (bytes, ends, payloads) = five();
    for len in 64..=bytes.len() {
        let (found, cut) = opened(&bytes[..len], KIND, 0).unwrap();
        let whole = ends.iter().filter(|end| **end <= len as u64).count();
        assert_eq!(found, payloads[..whole], "{len}");
        assert!(cut as usize <= len);
        let durable = opened(&bytes[..len], KIND, bytes.len() as u64);
        assert_eq!(durable.is_ok(), len == bytes.len(), "bytes that were durable are missed");
    }
    for len in 0..64 {
        assert!(matches!(opened(&bytes[..len], KIND, 0), Err(Error::Corrupted { .. })));
    }
}

#[test]
fn a_flipped_bit_before_the_last_frame_is_damage_and_in_it_a_tail() {
    let (bytes, ends, payloads) = five();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let result = opened(&flipped, KIND, 0);
        if ((bit / 8) as u64) < ends[3] {
            assert!(
                matches!(result, Err(Error::Corrupted { .. } | Error::NewerVersion { .. })),
                "bit {bit}: {result:?}"
            );
        } else {
            assert_eq!(result.unwrap().0, payloads[..4], "bit {bit}");
        }
        // With the end known to have been durable, the last frame is judged too.
        let known = opened(&flipped, KIND, bytes.len() as u64);
        assert!(known.is_err(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_a_series_index_is_noticed() {
    let index = ranges(&[4, 4, 9, 9, 9, 2], &[5, 6, -3, 0, 7, i64::MAX]);
    assert_eq!(index.len(), 3);
    let bytes = series_index::encode(11, &index, &[1, 2, 3], None);
    let found = series_index::decode(Path::new("x"), 11, &bytes).unwrap();
    assert_eq!((found.ranges, found.sums), (index.clone(), vec![1, 2, 3]));
    assert!(found.summary.is_none());
    assert!(series_index::decode(Path::new("x"), 12, &bytes).is_err(), "an index of another segment");
    let mut summary = summary::Builder::new(vec![summary::Kind::Float]);
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.5; 6]));
    summary.take(&[4, 4, 9, 9, 9, 2], &[5, 6, -3, 0, 7, 9], &[values]);
    let with_summary = series_index::encode(11, &index, &[1, 2, 3], summary.finish(u64::MAX).as_ref());
    let proven = series_index::proven_bytes(Path::new("x"), &with_summary).unwrap();
    let found = series_index::decode(Path::new("x"), 11, &with_summary[..proven]).unwrap();
    assert_eq!((found.ranges, found.sums), (index, vec![1, 2, 3]));
    assert_eq!(found.summary.unwrap().body_bytes(), (with_summary.len() - proven) as u64);
    for bytes in [&bytes[..], &with_summary[..proven]] {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(series_index::decode(Path::new("x"), 11, &flipped).is_err(), "bit {bit}");
        }
    }
}

fn view(values: &[String]) -> SeriesView {
    let chunks = values.chunks(CHUNK_SERIES).map(|chunk| Arc::new(StringViewArray::from_iter_values(chunk)));
    SeriesView::new(values.len(), vec![chunks.collect()])
}

#[test]
fn tags_of_many_series_are_gathered_too() {
    let values: Vec<String> = (0..70_000).map(|n| format!("{n}{}", " of a long name".repeat(n % 2))).collect();
    let view = view(&values);
    let ids: Vec<u32> = (0..20_000).map(|n: u32| n.wrapping_mul(2_654_435_761) % 70_000).collect();
    let column = view.tag_column(0, &ids).unwrap();
    assert!(ids.iter().enumerate().all(|(row, id)| column.value(row) == values[*id as usize]));
    assert!(view.tag_column(0, &[70_000]).is_err());
    // A batch carries the heaps it refers to and no others.
    assert!(view.tag_column(0, &[2, 4]).unwrap().data_buffers().is_empty());
    let ranks = view.ranks();
    let mut sorted: Vec<u32> = (0..70_000).collect();
    sorted.sort_by_key(|id| &values[*id as usize]);
    assert!(sorted.iter().enumerate().all(|(rank, id)| ranks[*id as usize] as usize == rank));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_tag_column_is_the_value_of_each_row(
        values in proptest::collection::vec("[a-zé]{1,30}", 1..3_000),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..500),
    ) {
        let ids: Vec<u32> = picks.iter().map(|pick| pick.index(values.len()) as u32).collect();
        let column = view(&values).tag_column(0, &ids).unwrap();
        prop_assert_eq!(column.len(), ids.len());
        for (row, id) in ids.iter().enumerate() {
            prop_assert_eq!(column.value(row), &values[*id as usize]);
        }
    }
}

/// A control page on the simulator.
fn control_page() -> (Arc<SimFs>, Control) {
    let fs = SimFs::new(1);
    fs.create_dir(Path::new("/store")).unwrap();
    let page = Control::create(&*fs, Path::new("/store/control"), [7; 16]).unwrap();
    (fs, page)
}

/// A state of which every word follows from `number`.
fn ends_of(number: u64) -> (Ends, u64, Vec<(u64, u64)>) {
    let ends = Ends { manifest_number: number, manifest_end: number * 2, series_end: number * 3, clock: number * 5 };
    (ends, number * 7, (0..number % 9).map(|slot| (number + slot, number * 11)).collect())
}

#[test]
fn a_control_page_is_read_as_it_was_published() {
    let (fs, page) = control_page();
    assert_eq!(page.state(), None, "nothing was published");
    for number in 1..20 {
        let (ends, pin, blocks) = ends_of(number);
        page.publish(ends, pin, blocks.iter().copied());
        let state = page.state().unwrap();
        assert_eq!((state.ends, state.pin, &state.blocks), (ends, pin, &blocks));
        let (_, found) = Control::open(&*fs, Path::new("/store/control")).unwrap().unwrap();
        assert_eq!(found, ends);
    }
}

#[test]
fn a_writer_that_stops_in_the_middle_of_a_state_leaves_the_one_before() {
    let (fs, page) = control_page();
    for number in 1..3 {
        let (ends, pin, blocks) = ends_of(number);
        page.publish(ends, pin, blocks.into_iter());
    }
    let before = page.state().unwrap();
    // The next state goes where the one before the current is: any of its words may be half there.
    let file = fs.open(Path::new("/store/control")).unwrap().unwrap();
    let other = if before.epoch.is_multiple_of(2) { 70_144 } else { 4_096 };
    for at in (0..64).step_by(8) {
        file.write_at(&u64::MAX.to_le_bytes(), other + at).unwrap();
        assert_eq!(page.state().as_ref(), Some(&before));
        let (_, found) = Control::open(&*fs, Path::new("/store/control")).unwrap().unwrap();
        assert_eq!(found, before.ends);
    }
}

#[test]
fn a_cut_is_of_its_state_and_of_no_time_before_it_was_begun() {
    let (_fs, page) = control_page();
    let (ends, pin, blocks) = ends_of(5);
    page.publish(ends, pin, blocks.iter().copied());
    let begun = page.cuts_begun();
    assert_eq!(page.cut_after(begun), None);
    let number = page.begin_cut();
    assert_eq!(page.cut_after(begun), None, "it is not done");
    let late = page.cuts_begun();
    let rows: Vec<_> = blocks.iter().zip(100..).map(|(block, rows)| (*block, rows)).collect();
    page.end_cut(number, &rows);
    let cut = page.cut_after(begun).unwrap();
    assert_eq!((cut.epoch, cut.rows), (page.epoch(), (100..105).collect()));
    assert_eq!(page.cut_after(late), None, "whoever came after its beginning waits for the next");
    // One whose blocks are not those of the state is of no state that a reader can have.
    let number = page.begin_cut();
    page.end_cut(number, &rows[1..]);
    assert_ne!(page.cut_after(begun).unwrap().epoch, page.epoch());
}

#[test]
fn states_that_are_read_while_they_are_written_are_whole() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (_fs, page) = control_page();
    let done = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut read = 0_u64;
            while !done.load(Ordering::Relaxed) || read == 0 {
                let Some(state) = page.state() else { continue };
                let (ends, pin, blocks) = ends_of(state.ends.manifest_number);
                assert_eq!((state.ends, state.pin, state.blocks), (ends, pin, blocks));
                read += 1;
            }
            read
        });
        for number in 1..200_000 {
            let (ends, pin, blocks) = ends_of(number);
            page.publish(ends, pin, blocks.into_iter());
        }
        done.store(true, Ordering::Relaxed);
        reading.join().unwrap()
    });
    println!("{read} states read");
}

/// The name of a rewritten manifest whose directory sync failed is one that no later sync makes durable.
#[test]
fn an_older_manifest_stays_until_a_newer_one_has_a_durable_name() {
    let fs = SimFs::new(0);
    let dir = Path::new("/store");
    fs.create_dir(dir).unwrap();
    let catalog = Catalog { next_segment: 7, ..Catalog::default() };
    Manifest::write(fs.clone(), dir, catalog.clone()).unwrap();
    // Removes, creates, writes, syncs and renames; the sync of the directory fails.
    fs.fail_after(4, Fault { kind: FaultKind::FailedSync, once: true });
    Manifest::write_as(fs.clone(), dir, 2, catalog).unwrap_err();
    let names = |fs: &SimFs| -> Vec<String> {
        fs.read_dir(dir).unwrap().unwrap().into_iter().map(|entry| entry.name).collect()
    };
    assert_eq!(names(&fs).len(), 2);
    let (manifest, _) = Manifest::open(fs.clone(), dir, &names(&fs), (1, 0), true).unwrap();
    assert_eq!((manifest.position().0, names(&fs).len()), (3, 1));
    for seed in 0..20 {
        let fs = fs.crash(seed);
        let (manifest, _) = Manifest::open(fs.clone(), dir, &names(&fs), (1, 0), false).unwrap();
        assert_eq!(manifest.catalog().next_segment, 7, "seed {seed}");
    }
}
