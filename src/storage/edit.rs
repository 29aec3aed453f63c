//! The edits that manifest frames are made of, and their bytes.

use std::time::Duration;

use crate::model::rollup::{Definition, Measure};
use crate::model::time::nanos_of;
use crate::model::{Dedup, Field, FieldType, Policies, TableId, TableSchema};

use super::codec::{Decoder, Encoder};

/// What the manifest knows of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    pub(crate) id: u64,
    pub(crate) table: TableId,
    pub(crate) partition_start_ns: i64,
    /// Width of its partition; 0 for an overlap segment, whose rows are of several.
    pub(crate) partition_ns: i64,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
    pub(crate) rows: u64,
    /// Of the Parquet file.
    pub(crate) bytes: u64,
    /// Of the series index beside it.
    pub(crate) index_bytes: u64,
    /// The checksum that the index carries: it vouches for the index, and that for every byte of the file.
    pub(crate) index_checksum: u32,
    /// Distinct series in it.
    pub(crate) series: u32,
    /// How often its rows were written before.
    pub(crate) tier: Tier,
}

/// Where a segment comes from. Rows move up, so a row is written once a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// A seal.
    Sealed,
    /// A merge of segments of one partition, or a split of overlap segments.
    Merged,
    /// The merge of a partition that is old, encoded to be small.
    Cold,
}

/// What the manifest knows of a block's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) generation: u64,
    /// Rows from the block's start that are in segments.
    pub(crate) rows: u64,
    /// Whether no more rows will come: the file may be recycled.
    pub(crate) done: bool,
}

/// One change of the store.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    AddTable(TableSchema),
    AddFields {
        table: TableId,
        fields: Vec<Field>,
    },
    SetPartition {
        table: TableId,
        width_ns: i64,
    },
    AddSegment(SegmentMeta),
    RemoveSegment {
        id: u64,
    },
    Seal {
        block: u64,
        sealed: Sealed,
    },
    /// Series of a table that the series log has at least: a log with fewer is damaged.
    Series {
        table: TableId,
        count: u32,
    },
    /// A segment that is damaged and not read, or is read again.
    SetAside {
        segment: u64,
        aside: bool,
    },
    /// A table is a rollup: every segment of its source is to be rolled up.
    AddRollup {
        table: TableId,
        definition: Definition,
    },
    /// A segment of its source is in the rollup.
    Rolled {
        table: TableId,
        segment: u64,
    },
    /// Rows of a table that are earlier may be gone, by retention.
    RowsGone {
        table: TableId,
        before_ns: i64,
    },
    /// Numbers that are never given again, and the clock that never goes back.
    Marks {
        next_segment: u64,
        last_generation: u64,
        clock: u64,
    },
}

impl Edit {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::AddTable(schema) => {
                out.u8(1).u32(schema.id).text(&schema.name).u32(count(&schema.tags));
                schema.tags.iter().for_each(|tag| {
                    out.text(tag);
                });
                encode_fields(&schema.fields, out);
                encode_policies(&schema.policies, out);
            }
            Self::AddFields { table, fields } => {
                out.u8(2).u32(*table);
                encode_fields(fields, out);
            }
            Self::SetPartition { table, width_ns } => {
                out.u8(3).u32(*table).i64(*width_ns);
            }
            Self::AddSegment(meta) => {
                out.u8(4).u64(meta.id).u32(meta.table).i64(meta.partition_start_ns).i64(meta.partition_ns);
                out.i64(meta.min_time).i64(meta.max_time).u64(meta.rows).u64(meta.bytes).u64(meta.index_bytes);
                out.u32(meta.index_checksum).u32(meta.series).u8(match meta.tier {
                    Tier::Sealed => 0,
                    Tier::Merged => 1,
                    Tier::Cold => 2,
                });
            }
            Self::Seal { block, sealed } => {
                out.u8(5).u64(*block).u64(sealed.generation).u64(sealed.rows).u8(u8::from(sealed.done));
            }
            Self::Series { table, count } => {
                out.u8(6).u32(*table).u32(*count);
            }
            Self::Marks { next_segment, last_generation, clock } => {
                out.u8(7).u64(*next_segment).u64(*last_generation).u64(*clock);
            }
            Self::RemoveSegment { id } => {
                out.u8(8).u64(*id);
            }
            Self::AddRollup { table, definition: Definition { source, every_ns, measures } } => {
                out.u8(10).u32(*table).u32(*source).i64(*every_ns).u32(count(measures));
                measures.iter().for_each(|(field, measure)| {
                    out.u32(*field).u8(measure.code());
                });
            }
            Self::Rolled { table, segment } => {
                out.u8(11).u32(*table).u64(*segment);
            }
            Self::RowsGone { table, before_ns } => {
                out.u8(12).u32(*table).i64(*before_ns);
            }
            Self::SetAside { segment, aside } => {
                out.u8(9).u64(*segment).u8(u8::from(*aside));
            }
        }
    }

    /// `None` for bytes that no version up to this one writes.
    pub(crate) fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        Some(match from.u8()? {
            1 => {
                let (id, name) = (from.u32()?, from.text()?.to_string());
                let tags = (0..from.u32()?).map(|_| from.text().map(str::to_string)).collect::<Option<_>>()?;
                let fields = decode_fields(from)?;
                Self::AddTable(TableSchema::new(id, name, tags, fields, decode_policies(from)?))
            }
            2 => Self::AddFields { table: from.u32()?, fields: decode_fields(from)? },
            3 => Self::SetPartition { table: from.u32()?, width_ns: from.i64()? },
            4 => Self::AddSegment(SegmentMeta {
                id: from.u64()?,
                table: from.u32()?,
                partition_start_ns: from.i64()?,
                partition_ns: from.i64()?,
                min_time: from.i64()?,
                max_time: from.i64()?,
                rows: from.u64()?,
                bytes: from.u64()?,
                index_bytes: from.u64()?,
                index_checksum: from.u32()?,
                series: from.u32()?,
                tier: match from.u8()? {
                    0 => Tier::Sealed,
                    1 => Tier::Merged,
                    2 => Tier::Cold,
                    _ => return None,
                },
            }),
            5 => Self::Seal {
                block: from.u64()?,
                sealed: Sealed { generation: from.u64()?, rows: from.u64()?, done: from.u8()? != 0 },
            },
            6 => Self::Series { table: from.u32()?, count: from.u32()? },
            7 => Self::Marks { next_segment: from.u64()?, last_generation: from.u64()?, clock: from.u64()? },
            8 => Self::RemoveSegment { id: from.u64()? },
            9 => Self::SetAside { segment: from.u64()?, aside: from.u8()? != 0 },
            10 => Self::AddRollup { table: from.u32()?, definition: decode_rollup(from)? },
            11 => Self::Rolled { table: from.u32()?, segment: from.u64()? },
            12 => Self::RowsGone { table: from.u32()?, before_ns: from.i64()? },
            _ => return None,
        })
    }
}

fn decode_rollup(from: &mut Decoder<'_>) -> Option<Definition> {
    let (source, every_ns) = (from.u32()?, from.i64().filter(|every| *every > 0)?);
    let measure = |from: &mut Decoder<'_>| Some((from.u32()?, Measure::from_code(from.u8()?)?));
    let measures = (0..from.u32()?).map(|_| measure(from)).collect::<Option<_>>()?;
    Some(Definition { source, every_ns, measures })
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn encode_fields(fields: &[Field], out: &mut Encoder) {
    out.u32(count(fields));
    for field in fields {
        let (code, precision, scale) = match field.field_type {
            FieldType::F64 => (1, 0, 0),
            FieldType::I64 => (2, 0, 0),
            FieldType::U64 => (3, 0, 0),
            FieldType::Bool => (4, 0, 0),
            FieldType::Utf8 => (5, 0, 0),
            FieldType::Decimal { precision, scale } => (6, precision, scale),
        };
        out.text(&field.name).text(&field.unit).u8(code).u8(precision).u8(scale).u8(u8::from(field.required));
    }
}

fn decode_fields(from: &mut Decoder<'_>) -> Option<Vec<Field>> {
    let field = |from: &mut Decoder<'_>| {
        let (name, unit) = (from.text()?.to_string(), from.text()?.to_string());
        let field_type = match (from.u8()?, from.u8()?, from.u8()?) {
            (1, ..) => FieldType::F64,
            (2, ..) => FieldType::I64,
            (3, ..) => FieldType::U64,
            (4, ..) => FieldType::Bool,
            (5, ..) => FieldType::Utf8,
            (6, precision @ 1..=38, scale) if scale <= precision => FieldType::Decimal { precision, scale },
            _ => return None,
        };
        Some(Field { name, field_type, unit, required: from.u8()? != 0 })
    };
    (0..from.u32()?).map(|_| field(from)).collect()
}

fn encode_policies(policies: &Policies, out: &mut Encoder) {
    out.u8(match policies.dedup {
        Dedup::KeepAll => 0,
        Dedup::LastWrite => 1,
    });
    let durations = [policies.lateness, policies.retention, policies.cadence, policies.future_max, policies.partition];
    durations.iter().for_each(|duration| {
        out.optional(duration.map(nanos_of));
    });
    out.u8(u8::from(policies.keep_ingest_time));
}

fn decode_policies(from: &mut Decoder<'_>) -> Option<Policies> {
    let dedup = match from.u8()? {
        0 => Dedup::KeepAll,
        1 => Dedup::LastWrite,
        _ => return None,
    };
    let mut duration = || Some(from.optional()?.map(|ns| Duration::from_nanos(u64::try_from(ns).unwrap_or(0))));
    Some(Policies {
        dedup,
        lateness: duration()?,
        retention: duration()?,
        cadence: duration()?,
        future_max: duration()?,
        partition: duration()?,
        keep_ingest_time: from.u8()? != 0,
    })
}
