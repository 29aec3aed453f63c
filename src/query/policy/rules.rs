//! A policy that was checked against the tables, with its predicates read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::functions::math::expr_fn::floor;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, ExprSchemable, cast, col, lit, try_cast};

use super::{Access, Mask, Policy};
use crate::error::{Error, Result};
use crate::model::{TableSchema, names};
use crate::snapshot::Snapshot;

/// What a session sees, by table.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(super) policy: String,
    tables: BTreeMap<String, Arc<TableRules>>,
}

/// What it sees of one.
#[derive(Debug)]
pub(super) struct TableRules {
    pub(super) policy: String,
    pub(super) table: String,
    /// All of these hold for a row that is seen.
    pub(super) predicates: Vec<Expr>,
    /// Whether they are about tags alone, so that all rows of a series are seen or none.
    pub(super) is_of_tags: bool,
    access: Access,
}

/// A column that is seen.
#[derive(Clone, Debug)]
pub(super) struct Visible {
    pub(super) field: Arc<Field>,
    /// Its place in the table.
    pub(super) source: usize,
    /// Its values, if they are not the table's.
    pub(super) mask: Option<Expr>,
}

impl Rules {
    /// Checks that everything a policy names is there.
    pub(crate) fn new(policy: &Policy, snapshot: &Snapshot, state: &SessionState) -> Result<Self> {
        let mut tables = BTreeMap::new();
        for (name, access) in &policy.tables {
            let view = snapshot.table(name).filter(|_| !names::is_hidden(name));
            let view = view.ok_or_else(|| Error::UnknownTable { table: name.chars().take(80).collect() })?;
            let rules = TableRules::new(&policy.name, name, access, &view.schema, state)?;
            tables.insert(name.clone(), Arc::new(rules));
        }
        Ok(Self { policy: policy.name.clone(), tables })
    }

    pub(super) fn table(&self, name: &str) -> Option<&Arc<TableRules>> {
        self.tables.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.tables.keys()
    }

    pub(super) fn has_groups(&self) -> bool {
        self.tables.values().any(|rules| rules.group_rows_min() > 0)
    }
}

impl TableRules {
    fn new(policy: &str, table: &str, access: &Access, of: &TableSchema, state: &SessionState) -> Result<Self> {
        let schema = of.arrow();
        let wrong = |what: String, remedy: &'static str| Error::InvalidPolicy {
            policy: policy.to_string(),
            table: table.to_string(),
            what,
            remedy,
        };
        let named = access.columns.iter().flatten().chain(access.masks.keys());
        for name in named {
            if schema.column_with_name(name).is_none() {
                return Err(wrong(format!("it has no column {name:?}"), "name a tag or field of the table, or time"));
            }
        }
        let predicates = match &access.rows {
            Some(text) => predicates(text, schema, state)
                .map_err(|what| wrong(what, "give a condition on the table's columns, such as \"agency = 'PUPR'\""))?,
            None => Vec::new(),
        };
        let is_tag = |column: &&Column| of.tags().contains(&column.name);
        let is_of_tags = predicates.iter().flat_map(Expr::column_refs).all(|column| is_tag(&column));
        let rules = Self { policy: policy.into(), table: table.into(), predicates, is_of_tags, access: access.clone() };
        for (name, mask) in &access.masks {
            let Some((_, field)) = schema.column_with_name(name) else { continue };
            rules.check_mask(field, mask).map_err(|(what, remedy)| wrong(what, remedy))?;
        }
        if rules.visible(schema).is_empty() {
            return Err(wrong(
                "no column is left to see".into(),
                "leave the table out of the policy, or show a column",
            ));
        }
        Ok(rules)
    }

    fn check_mask(&self, field: &Field, mask: &Mask) -> std::result::Result<(), (String, &'static str)> {
        let (name, data_type) = (field.name(), field.data_type());
        match mask {
            Mask::Text(_) if !matches!(data_type, DataType::Utf8View | DataType::Utf8) => {
                Err((format!("Text masks {name:?}, which is {data_type}"), "use Null or Hidden"))
            }
            Mask::Coarse(step) if !step.is_finite() || *step <= 0.0 => {
                Err((format!("Coarse({step}) masks {name:?}"), "give a positive number"))
            }
            Mask::Coarse(_) if !data_type.is_numeric() => {
                Err((format!("Coarse masks {name:?}, which is {data_type}"), "use Null or Hidden"))
            }
            _ => Ok(()),
        }
    }

    /// How many rows a group needs to be seen; 0 if rows are seen by themselves.
    pub(super) fn group_rows_min(&self) -> u64 {
        self.access.group_rows_min
    }

    /// The columns that are seen of a table with this schema, which may have grown since.
    pub(super) fn visible(&self, schema: &SchemaRef) -> Vec<Visible> {
        let is_listed = |name: &String| self.access.columns.as_ref().is_none_or(|columns| columns.contains(name));
        let visible = |(source, field): (usize, &Arc<Field>)| {
            let mask = self.access.masks.get(field.name());
            if !is_listed(field.name()) || mask == Some(&Mask::Hidden) {
                return None;
            }
            let values = mask.and_then(|mask| masked(field, mask));
            let is_nullable = field.is_nullable() || matches!(mask, Some(Mask::Null | Mask::Coarse(_)));
            let field = Arc::new(field.as_ref().clone().with_nullable(is_nullable));
            Some(Visible { field, source, mask: values })
        };
        schema.fields().iter().enumerate().filter_map(visible).collect()
    }
}

/// A mask as an expression over the column; none if that is not there.
fn masked(field: &Field, mask: &Mask) -> Option<Expr> {
    let (data_type, column) = (field.data_type(), || col(Column::new_unqualified(field.name())));
    match mask {
        Mask::Hidden => None,
        Mask::Null => Some(Expr::Literal(ScalarValue::try_from(data_type).unwrap_or(ScalarValue::Null), None)),
        Mask::Text(text) => Some(cast(lit(text.clone()), data_type.clone())),
        Mask::Coarse(step) => {
            let value = cast(column(), DataType::Float64);
            // A multiple that the type cannot hold is null, and no error that would tell of the value.
            Some(try_cast(floor(value / lit(*step)) * lit(*step), data_type.clone()))
        }
    }
}

/// Reads a condition on the columns of a table.
fn predicates(text: &str, schema: &SchemaRef, state: &SessionState) -> std::result::Result<Vec<Expr>, String> {
    let wrong = |error: datafusion::error::DataFusionError| format!("{text:?}: {}", error.strip_backtrace());
    let columns = DFSchema::try_from(Schema::clone(schema)).map_err(wrong)?;
    let predicate = state.create_logical_expr(text, &columns).map_err(wrong)?;
    if predicate.is_volatile() {
        return Err(format!("{text:?} is not the same each time"));
    }
    let data_type = predicate.get_type(&columns).map_err(wrong)?;
    if data_type != DataType::Boolean {
        return Err(format!("{text:?} is {data_type} and no condition"));
    }
    // What cannot be planned for a row, such as a subquery or an aggregate, fails here and not in a query.
    state.create_physical_expr(predicate.clone(), &columns).map_err(wrong)?;
    Ok(split_conjunction_owned(predicate))
}
