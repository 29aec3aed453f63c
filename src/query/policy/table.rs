//! A table as a policy shows it.
//!
//! It is one leaf of a plan, whose inside no optimizer rule and no `EXPLAIN` looks into: rows are left out and values masked
//! before anything of the statement sees them. Nothing is known of it from outside: no statistics, no order, no sizes.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, DFSchema, internal_err};
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};

use super::rules::{TableRules, Visible};
use crate::query::leaf::leaf;

/// One table under a policy.
pub(super) struct PolicyTable {
    inner: Arc<dyn TableProvider>,
    rules: Arc<TableRules>,
    columns: Vec<Visible>,
    schema: SchemaRef,
}

impl PolicyTable {
    pub(super) fn new(inner: Arc<dyn TableProvider>, rules: Arc<TableRules>) -> Self {
        let columns = rules.visible(&inner.schema());
        let fields = columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(fields));
        Self { inner, rules, columns, schema }
    }

    pub(super) fn rules(&self) -> &TableRules {
        &self.rules
    }

    /// Whether a predicate of the statement is about true values alone.
    fn is_unmasked(&self, filter: &Expr) -> bool {
        let is_true = |name: &str| self.columns.iter().any(|c| c.field.name() == name && c.mask.is_none());
        filter.column_refs().iter().all(|column| is_true(&column.name))
    }

    /// What narrows the scan. It is only used to leave out what no row of the answer comes from.
    fn narrowing(&self, filters: &[Expr]) -> Result<Vec<Expr>> {
        let all: Vec<&Expr> =
            self.rules.predicates.iter().chain(filters.iter().filter(|filter| self.is_unmasked(filter))).collect();
        let support = self.inner.supports_filters_pushdown(&all)?;
        let narrows = all.into_iter().zip(support).filter(|(_, s)| *s != TableProviderFilterPushDown::Unsupported);
        Ok(narrows.map(|(filter, _)| filter.clone()).collect())
    }

    async fn plan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<&Visible> = match projection {
            Some(places) => places.iter().filter_map(|place| self.columns.get(*place)).collect(),
            None => self.columns.iter().collect(),
        };
        let inner = self.inner.schema();
        let mut needed: BTreeSet<usize> = wanted.iter().map(|column| column.source).collect();
        for column in self.rules.predicates.iter().flat_map(Expr::column_refs) {
            needed.insert(inner.index_of(&column.name)?);
        }
        let needed: Vec<usize> = needed.into_iter().collect();
        let narrowing = self.narrowing(filters)?;
        // Without the statement's limit: rows are left out above.
        let mut plan = self.inner.scan(session, Some(&needed), &narrowing, None).await?;
        let input = DFSchema::try_from(inner.project(&needed)?)?;
        if let Some(predicate) = conjunction(self.rules.predicates.iter().cloned()) {
            let predicate = session.create_physical_expr(predicate, &input)?;
            plan = Arc::new(FilterExec::try_new(predicate, plan)?);
        }
        let value = |column: &&Visible| -> Result<(Arc<dyn PhysicalExpr>, String)> {
            let name = column.field.name();
            let own = || Expr::Column(Column::new_unqualified(name));
            let values = column.mask.clone().unwrap_or_else(own);
            Ok((session.create_physical_expr(values, &input)?, name.clone()))
        };
        let values = wanted.iter().map(value).collect::<Result<Vec<_>>>()?;
        let plan = Arc::new(ProjectionExec::try_new(values, plan)?);
        let fields: Vec<_> = wanted.iter().map(|column| column.field.clone()).collect();
        Ok(Arc::new(PolicyExec::new(plan, Arc::new(Schema::new(fields)), self.rules.clone())))
    }
}

impl fmt::Debug for PolicyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyTable").field("table", &self.rules.table).finish_non_exhaustive()
    }
}

impl TableProvider for PolicyTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let below = self.inner.supports_filters_pushdown(filters)?;
        let support = |(filter, below): (&&Expr, TableProviderFilterPushDown)| match below {
            TableProviderFilterPushDown::Unsupported => below,
            _ if self.is_unmasked(filter) => TableProviderFilterPushDown::Inexact,
            _ => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().zip(below).map(support).collect())
    }

    fn scan<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        session: &'b dyn Session,
        projection: Option<&'c Vec<usize>>,
        filters: &'d [Expr],
        _: Option<usize>,
    ) -> BoxFuture<'f, Result<Arc<dyn ExecutionPlan>>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
    {
        self.plan(session, projection, filters).boxed()
    }
}

/// The leaf.
struct PolicyExec {
    inside: Arc<dyn ExecutionPlan>,
    rules: Arc<TableRules>,
    properties: Arc<PlanProperties>,
}

impl PolicyExec {
    fn new(inside: Arc<dyn ExecutionPlan>, schema: SchemaRef, rules: Arc<TableRules>) -> Self {
        let below = inside.properties();
        let parts = Partitioning::UnknownPartitioning(inside.output_partitioning().partition_count());
        let properties =
            PlanProperties::new(EquivalenceProperties::new(schema), parts, below.emission_type, below.boundedness)
                .with_scheduling_type(below.scheduling_type);
        Self { inside, rules, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for PolicyExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyExec").field("table", &self.rules.table).finish_non_exhaustive()
    }
}

impl DisplayAs for PolicyExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyExec: table={}, policy={}", self.rules.table, self.rules.policy)
    }
}

impl ExecutionPlan for PolicyExec {
    leaf!("PolicyExec");

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.properties.eq_properties.schema().clone();
        Ok(Box::pin(PolicyStream { inside: self.inside.execute(partition, context)?, schema }))
    }
}

/// What the first leaf of a plan does inside.
#[cfg(test)]
pub(in crate::query) fn inside(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    match plan.downcast_ref::<PolicyExec>() {
        Some(leaf) => Some(leaf.inside.clone()),
        None => plan.children().into_iter().find_map(inside),
    }
}

/// Batches under the schema that the table was shown with.
struct PolicyStream {
    inside: SendableRecordBatchStream,
    schema: SchemaRef,
}

impl Stream for PolicyStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = std::task::ready!(self.inside.poll_next_unpin(context));
        let shown = |batch: RecordBatch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().to_vec();
            Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
        };
        Poll::Ready(polled.map(|batch| batch.and_then(shown)))
    }
}

impl RecordBatchStream for PolicyStream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
