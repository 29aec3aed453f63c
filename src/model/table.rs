//! A table as the store knows it: the declared schema with its number and its history.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimeUnit};

use super::{Dedup, Field, FieldType, Policies, Schema, TableId, names};
use crate::error::{Error, Result};

/// A table's columns and policies at one version. Fields are only ever added, so field number `n` means the same in every
/// version that has it.
#[derive(Clone, Debug)]
pub struct TableSchema {
    pub(crate) id: TableId,
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) fields: Vec<Field>,
    pub(crate) policies: Policies,
    arrow: SchemaRef,
}

/// The type of `time` in Arrow.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

impl TableSchema {
    pub(crate) fn new(id: TableId, name: String, tags: Vec<String>, fields: Vec<Field>, policies: Policies) -> Self {
        let mut columns = vec![ArrowField::new(names::TIME, time_type(), false)];
        columns.extend(tags.iter().map(|tag| ArrowField::new(tag, DataType::Utf8View, false)));
        columns.extend(fields.iter().map(|field| {
            let column = ArrowField::new(&field.name, field.field_type.arrow(), !field.required);
            if field.unit.is_empty() {
                column
            } else {
                column.with_metadata([("unit".to_string(), field.unit.clone())].into())
            }
        }));
        if policies.keep_ingest_time {
            columns.push(ArrowField::new(names::INGEST_TIME, time_type(), false));
        }
        Self { id, name, tags, fields, policies, arrow: Arc::new(ArrowSchema::new(columns)) }
    }

    pub(crate) fn declared(id: TableId, schema: &Schema) -> Self {
        Self::new(id, schema.name.clone(), schema.tags.clone(), schema.fields.clone(), schema.policies.clone())
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the tags, in declared order: the order of [`Table::series`](crate::Table::series) and of sorting.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The fields, in order of their adding: the order of [`Writer::append_to`](crate::Writer::append_to).
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The policies.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The columns as SQL sees them: `time`, tags, fields, and `ingest_time` where the table keeps it. Units are in the fields' metadata under `unit`.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// Whether rows carry a hybrid logical clock.
    pub(crate) fn has_clock(&self) -> bool {
        self.policies.dedup == Dedup::LastWrite
    }

    pub(crate) fn unknown(&self, name: &str) -> Error {
        let known: Vec<&str> =
            self.tags.iter().chain(self.fields.iter().map(|field| &field.name)).map(String::as_str).take(20).collect();
        Error::UnknownField { table: self.name.clone(), name: name.chars().take(80).collect(), known: known.join(", ") }
    }

    pub(crate) fn type_conflict(&self, field: &Field, found: impl ToString) -> Error {
        Error::TypeConflict {
            table: self.name.clone(),
            field: field.name.clone(),
            expected: field.field_type.to_string(),
            found: found.to_string(),
        }
    }

    /// Fields of `declared` that this table does not have yet, after checking that all else agrees.
    pub(crate) fn missing_from(&self, declared: &Schema) -> Result<Vec<Field>> {
        let conflict = |reason: String| Err(Error::SchemaConflict { table: self.name.clone(), reason });
        if self.tags != declared.tags {
            return conflict(format!("its tags are [{}], not [{}]", self.tags.join(", "), declared.tags.join(", ")));
        }
        let mut missing = Vec::new();
        for field in &declared.fields {
            match self.fields.iter().find(|known| known.name == field.name) {
                Some(known) if known.field_type != field.field_type => {
                    return Err(self.type_conflict(known, field.field_type));
                }
                Some(known) if known.unit != field.unit => {
                    return conflict(format!("field {:?} is in {:?}, not in {:?}", field.name, known.unit, field.unit));
                }
                Some(known) if known.required != field.required => {
                    return conflict(format!(
                        "field {:?} is {}required",
                        field.name,
                        if known.required { "" } else { "not " }
                    ));
                }
                Some(_) => {}
                None if field.required => {
                    return conflict(format!(
                        "field {:?} is new, and rows without it exist: it cannot be required",
                        field.name
                    ));
                }
                None => missing.push(field.clone()),
            }
        }
        if self.policies != declared.policies {
            return conflict(format!("its policies are {:?}, not {:?}", self.policies, declared.policies));
        }
        Ok(missing)
    }

    /// This table with `fields` added.
    pub(crate) fn with_fields(&self, fields: &[Field]) -> Self {
        let all = self.fields.iter().chain(fields).cloned().collect();
        Self::new(self.id, self.name.clone(), self.tags.clone(), all, self.policies.clone())
    }

    /// The columns of a segment: those of SQL, then the hidden ones.
    pub(crate) fn segment_arrow(&self) -> SchemaRef {
        if !self.has_clock() {
            return self.arrow.clone();
        }
        let mut columns: Vec<_> = self.arrow.fields().iter().cloned().collect();
        columns.push(Arc::new(ArrowField::new(clock_column(), DataType::UInt64, false)));
        Arc::new(ArrowSchema::new(columns))
    }

    /// Field types in order.
    pub(crate) fn field_types(&self) -> impl Iterator<Item = FieldType> + '_ {
        self.fields.iter().map(|field| field.field_type)
    }
}

/// Name of the hidden column of hybrid logical clocks.
pub(crate) fn clock_column() -> String {
    format!("{}clock", names::HIDDEN_PREFIX)
}
