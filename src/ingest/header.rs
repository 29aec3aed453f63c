//! The first sector of a live block file: which life of the file this is.
//!
//! One sector, so it is old or new and never torn; a checksum that fails is damage. `docs/format.md` has the table.

use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::{Identity, SECTOR_BYTES};
use crate::model::{FieldType, TableId};

use super::layout::{Columns, DESCRIPTOR_BYTES};

const MAGIC: [u8; 8] = *b"dnytblok";
pub(crate) const VERSION: u32 = 1;
/// The table of a block that waits in the free queue.
pub(crate) const FREE: TableId = TableId::MAX;
const CHECKSUM: usize = SECTOR_BYTES - 4;

/// The fixed part of a live block's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) block: u64,
    pub(crate) generation: u64,
    pub(crate) table: TableId,
    pub(crate) file_bytes: u64,
    pub(crate) capacity: u32,
    pub(crate) has_clock: bool,
    pub(crate) fields: u32,
    pub(crate) descriptors_checksum: u32,
    pub(crate) identity: Identity,
    pub(crate) boot_id: [u8; 16],
    pub(crate) created_ns: i64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut fields = Vec::with_capacity(SECTOR_BYTES);
        fields.extend_from_slice(&MAGIC);
        fields.extend_from_slice(&VERSION.to_le_bytes());
        fields.extend_from_slice(&self.table.to_le_bytes());
        fields.extend_from_slice(&self.block.to_le_bytes());
        fields.extend_from_slice(&self.generation.to_le_bytes());
        fields.extend_from_slice(&self.file_bytes.to_le_bytes());
        fields.extend_from_slice(&self.capacity.to_le_bytes());
        fields.extend_from_slice(&self.fields.to_le_bytes());
        fields.extend_from_slice(&u32::from(self.has_clock).to_le_bytes());
        fields.extend_from_slice(&self.descriptors_checksum.to_le_bytes());
        fields.extend_from_slice(&self.identity.device.to_le_bytes());
        fields.extend_from_slice(&self.identity.inode.to_le_bytes());
        fields.extend_from_slice(&self.boot_id);
        fields.extend_from_slice(&self.created_ns.to_le_bytes());
        fields.resize(CHECKSUM, 0);
        let checksum = crc32fast::hash(&fields);
        fields.extend_from_slice(&checksum.to_le_bytes());
        let mut sector = [0; SECTOR_BYTES];
        sector.copy_from_slice(&fields);
        sector
    }

    /// Reads a header; damage and newer versions are errors that name `path`.
    pub(crate) fn decode(path: &Path, sector: &[u8; SECTOR_BYTES]) -> Result<Self> {
        let mut at = 0;
        let magic: [u8; 8] = take(sector, &mut at);
        let version = u32::from_le_bytes(take(sector, &mut at));
        let mut stored_at = CHECKSUM;
        let stored = u32::from_le_bytes(take(sector, &mut stored_at));
        if magic != MAGIC {
            return Err(Error::corrupted(path, 0, "this is not a live block"));
        }
        if stored != crc32fast::hash(sector.split_at(CHECKSUM).0) {
            return Err(Error::corrupted(path, 0, "the live block's header fails its checksum"));
        }
        if version > VERSION {
            return Err(Error::NewerVersion { path: path.into(), found: version, supported: VERSION });
        }
        let mut u32 = || u32::from_le_bytes(take(sector, &mut at));
        let table = u32();
        let mut u64 = || u64::from_le_bytes(take(sector, &mut at));
        let (block, generation, file_bytes) = (u64(), u64(), u64());
        let mut u32 = || u32::from_le_bytes(take(sector, &mut at));
        let (capacity, fields, has_clock, descriptors_checksum) = (u32(), u32(), u32(), u32());
        let mut u64 = || u64::from_le_bytes(take(sector, &mut at));
        let identity = Identity { device: u64(), inode: u64() };
        let boot_id = take(sector, &mut at);
        let created_ns = i64::from_le_bytes(take(sector, &mut at));
        Ok(Self {
            block,
            generation,
            table,
            file_bytes,
            capacity,
            has_clock: has_clock != 0,
            fields,
            descriptors_checksum,
            identity,
            boot_id,
            created_ns,
        })
    }
}

fn take<const N: usize>(bytes: &[u8], at: &mut usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(*at..*at + N) {
        out.copy_from_slice(found);
    }
    *at += N;
    out
}

/// One descriptor a field: type, precision, scale, whether a value is required.
pub(crate) fn encode_descriptors(columns: &Columns) -> Vec<u8> {
    let encode = |&(field_type, required): &(FieldType, bool)| {
        let (code, precision, scale) = encode_type(field_type);
        [code, precision, scale, u8::from(required)]
    };
    columns.fields.iter().flat_map(encode).collect()
}

/// The columns that `bytes` describe; `None` for a type this build does not know.
pub(crate) fn decode_descriptors(bytes: &[u8], has_clock: bool) -> Option<Columns> {
    let decode = |descriptor: &[u8]| match descriptor {
        &[code, precision, scale, required] => Some((decode_type(code, precision, scale)?, required != 0)),
        _ => None,
    };
    let fields = bytes.chunks_exact(DESCRIPTOR_BYTES).map(decode).collect::<Option<_>>()?;
    Some(Columns { has_clock, fields })
}

fn encode_type(field_type: FieldType) -> (u8, u8, u8) {
    match field_type {
        FieldType::F64 => (1, 0, 0),
        FieldType::I64 => (2, 0, 0),
        FieldType::U64 => (3, 0, 0),
        FieldType::Bool => (4, 0, 0),
        FieldType::Utf8 => (5, 0, 0),
        FieldType::Decimal { precision, scale } => (6, precision, scale),
    }
}

fn decode_type(code: u8, precision: u8, scale: u8) -> Option<FieldType> {
    Some(match code {
        1 => FieldType::F64,
        2 => FieldType::I64,
        3 => FieldType::U64,
        4 => FieldType::Bool,
        5 => FieldType::Utf8,
        6 if (1..=38).contains(&precision) && scale <= precision => FieldType::Decimal { precision, scale },
        _ => return None,
    })
}
