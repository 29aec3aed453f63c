//! The logical node above an aggregate by bins.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::bounds::{Bound, Bounds};

/// What a column has in rows that are new.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fill {
    /// A group key: that of the group.
    Key,
    /// The begin of the bin.
    Time,
    /// A constant, mostly null.
    Constant(ScalarValue),
    Locf {
        max_gap: Option<Expr>,
    },
    Interpolate {
        max_gap: Option<Expr>,
    },
}

impl Fill {
    fn max_gap(&self) -> Option<&Expr> {
        match self {
            Self::Locf { max_gap } | Self::Interpolate { max_gap } => max_gap.as_ref(),
            _ => None,
        }
    }

    fn with_max_gap(&self, gap: Option<Expr>) -> Self {
        match self {
            Self::Locf { .. } => Self::Locf { max_gap: gap },
            Self::Interpolate { .. } => Self::Interpolate { max_gap: gap },
            other => other.clone(),
        }
    }
}

/// A column of the output: which of the input, and how it is filled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Filled {
    pub(super) source: usize,
    pub(super) fill: Fill,
}

/// The node. Its first output columns are those of the aggregate, one to one; filled ones follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::query::functions) struct GapFill {
    pub(super) input: Arc<LogicalPlan>,
    pub(super) schema: DFSchemaRef,
    pub(super) columns: Vec<Filled>,
    /// The function of GROUP BY, for errors.
    pub(super) function: &'static str,
    /// The place of the bins among the input's columns.
    pub(super) time: usize,
    pub(super) interval: Expr,
    pub(super) origin: Option<Expr>,
    pub(super) bounds: Bounds,
}

impl GapFill {
    /// With one more column, of a column of the input. `schema` has it too.
    pub(super) fn with_filled(mut self, schema: DFSchema, source: usize, fill: Fill) -> Self {
        self.columns.push(Filled { source, fill });
        self.schema = Arc::new(schema);
        self
    }
}

// Nodes of one plan are told apart, not sorted.
impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &'static str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// Groups do not know of each other, so that a predicate on their keys may leave them out before.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let made = self.columns.iter().zip(self.schema.fields()).filter(|(column, _)| column.fill != Fill::Key);
        made.map(|(_, field)| field.name().clone()).collect()
    }

    /// In the order in which [`with_exprs_and_inputs`](Self::with_exprs_and_inputs) takes them back. All are constants.
    fn expressions(&self) -> Vec<Expr> {
        let bounds = self.bounds.lower.iter().chain(&self.bounds.upper).map(|bound| &bound.end);
        let gaps = self.columns.iter().filter_map(|column| column.fill.max_gap());
        std::iter::once(&self.interval).chain(&self.origin).chain(bounds).chain(gaps).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GapFill: {}({})", self.function, self.interval)?;
        let bound = |sign: &str, bound: &Bound| {
            format!("{sign}{} {}", if bound.is_inclusive { "=" } else { "" }, bound.end.clone().unalias())
        };
        let lower = self.bounds.lower.iter().map(|end| bound(">", end));
        for text in lower.chain(self.bounds.upper.iter().map(|end| bound("<", end))) {
            write!(f, ", time {text}")?;
        }
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            match column.fill {
                Fill::Locf { .. } | Fill::Interpolate { .. } => write!(f, ", {}", field.name())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, expressions: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (expected, found) = (self.expressions().len(), expressions.len());
        let (Some(input), true) = (inputs.into_iter().next(), expected == found) else {
            return internal_err!("GapFill has one input and {expected} expressions, not {found}");
        };
        let mut given = expressions.into_iter();
        let mut next = |old: &Expr| given.next().unwrap_or_else(|| old.clone());
        let interval = next(&self.interval);
        let origin = self.origin.as_ref().map(&mut next);
        let mut end = |bound: &Bound| Bound { end: next(&bound.end), is_inclusive: bound.is_inclusive };
        let bounds = Bounds {
            lower: self.bounds.lower.iter().map(&mut end).collect(),
            upper: self.bounds.upper.iter().map(&mut end).collect(),
        };
        let fill = |column: &Filled| {
            let gap = column.fill.max_gap().map(&mut next);
            Filled { source: column.source, fill: column.fill.with_max_gap(gap) }
        };
        let columns = self.columns.iter().map(fill).collect();
        Ok(Self { input: Arc::new(input), interval, origin, bounds, columns, ..self.clone() })
    }
}
