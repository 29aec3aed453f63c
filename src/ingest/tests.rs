//! The bytes of a live block: what is written is read, and what is damaged is noticed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use proptest::prelude::*;

use super::commit::{CommitEntry, SECTOR_CHECKSUMS, Slot};
use super::header::{Header, decode_descriptors, encode_descriptors};
use super::layout::{Columns, Layout, MARKS_BYTES, SLOT_COUNT, SLOTS};
use crate::fs::{Identity, SECTOR_BYTES};
use crate::model::FieldType;

fn entry(checksums: usize) -> CommitEntry {
    // A sector that is full of checksums has no room for that of the marks.
    let marks = if checksums == SECTOR_CHECKSUMS { 0 } else { 99 };
    let checksums = (0..checksums as u32).map(|n| n.wrapping_mul(2_654_435_761)).collect();
    CommitEntry { generation: 7, sequence: 3, rows: 1_000, heap_bytes: 77, checksums, marks }
}

#[test]
fn every_flipped_bit_of_a_commit_entry_is_noticed() {
    for checksums in [2, SECTOR_CHECKSUMS, SECTOR_CHECKSUMS + 1] {
        let entry = entry(checksums);
        let bytes = entry.encode();
        assert_eq!(CommitEntry::decode(&bytes, checksums), Slot::Entry(entry));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(CommitEntry::decode(&flipped, checksums), Slot::Damaged, "bit {bit} of {checksums} checksums");
        }
    }
}

#[test]
fn sectors_of_two_syncs_are_torn_and_not_damaged() {
    let checksums = SECTOR_CHECKSUMS + 1;
    let (old, new) = (entry(checksums), CommitEntry { sequence: 4, rows: 2_000, ..entry(checksums) });
    let mixed = [&new.encode()[..SECTOR_BYTES], &old.encode()[SECTOR_BYTES..]].concat();
    assert_eq!(CommitEntry::decode(&mixed, checksums), Slot::Torn);
    let half = [&new.encode()[..SECTOR_BYTES], &[0; SECTOR_BYTES]].concat();
    assert_eq!(CommitEntry::decode(&half, checksums), Slot::Torn);
    assert_eq!(CommitEntry::decode(&[0; 2 * SECTOR_BYTES], checksums), Slot::Empty);
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let header = Header {
        block: 1,
        generation: 2,
        table: 3,
        file_bytes: 65_536,
        capacity: 400,
        has_clock: true,
        fields: 5,
        descriptors_checksum: 6,
        identity: Identity { device: 7, inode: 8 },
        boot_id: [9; 16],
        created_ns: -10,
    };
    let sector = header.encode();
    assert_eq!(Header::decode(Path::new("x"), &sector).unwrap(), header);
    for bit in 0..SECTOR_BYTES * 8 {
        let mut flipped = sector;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(Path::new("x"), &flipped).is_err(), "bit {bit}");
    }
}

fn columns() -> impl Strategy<Value = Columns> {
    let field_type = prop_oneof![
        Just(FieldType::F64),
        Just(FieldType::I64),
        Just(FieldType::U64),
        Just(FieldType::Bool),
        Just(FieldType::Utf8),
        (1..=38_u8, 0..=9_u8)
            .prop_map(|(precision, scale)| FieldType::Decimal { precision, scale: scale.min(precision) }),
    ];
    let fields = proptest::collection::vec((field_type, any::<bool>()), 0..40);
    (any::<bool>(), fields).prop_map(|(has_clock, fields)| Columns { has_clock, fields })
}

proptest! {
    #[test]
    fn columns_fit_their_file_and_none_overlaps_another(columns in columns(), size in 16..24_u32, heap in 0..200_usize) {
        let file_bytes = 1_usize << size;
        let capacity = columns.capacity(file_bytes, heap);
        prop_assume!(capacity > 0);
        let layout = Layout::new(file_bytes, capacity, &columns).expect("what fits by count fits by bytes");
        let mut places: Vec<(usize, usize)> = layout.regions().map(|region| match region.row_bytes {
            0 => (layout.heap.start, layout.heap.end),
            row_bytes => (region.offset, region.offset + capacity * row_bytes),
        }).collect();
        places.push((0, SLOTS));
        places.push((SLOTS, SLOTS + SLOT_COUNT * layout.slot_bytes));
        places.push((layout.descriptors, layout.descriptors + 4 * columns.fields.len()));
        places.push((layout.null_flags, layout.null_flags + columns.fields.len()));
        places.push((layout.marks, layout.marks + MARKS_BYTES));
        places.sort_unstable();
        for pair in places.windows(2) {
            prop_assert!(pair[0].1 <= pair[1].0, "{:?} and {:?}", pair[0], pair[1]);
        }
        prop_assert!(places[places.len() - 1].1 <= file_bytes);
        let read = decode_descriptors(&encode_descriptors(&columns), columns.has_clock);
        prop_assert_eq!(read, Some(columns));
    }
}
