//! The names that a session under a policy can use.

use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableFunctionArgs,
    TableFunctionImpl, TableProvider,
};
use datafusion::error::{DataFusionError, Result};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Rules;
use super::table::PolicyTable;
use crate::error::Error;
use crate::query::catalog::{Moment, StoreSchema};
use crate::query::failure::external;
use crate::query::latest::{self, Latest};
use crate::query::session::{CATALOG, SCHEMA};

/// The catalogs of a session.
pub(super) fn catalogs(moment: Moment, rules: Arc<Rules>) -> Arc<dyn CatalogProviderList> {
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.into(), Arc::new(PolicyCatalog { moment, rules }));
    Arc::new(list)
}

#[derive(Debug)]
struct PolicyCatalog {
    moment: Moment,
    rules: Arc<Rules>,
}

impl CatalogProvider for PolicyCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.into()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let schema = || PolicySchema {
            below: StoreSchema { moment: self.moment.clone(), hidden: false },
            rules: self.rules.clone(),
        };
        (name == SCHEMA).then(|| Arc::new(schema()) as Arc<dyn SchemaProvider>)
    }
}

#[derive(Debug)]
struct PolicySchema {
    below: StoreSchema,
    rules: Arc<Rules>,
}

impl SchemaProvider for PolicySchema {
    fn table_names(&self) -> Vec<String> {
        self.rules.names().cloned().collect()
    }

    fn table<'a, 'b, 'f>(
        &'a self,
        name: &'b str,
    ) -> BoxFuture<'f, std::result::Result<Option<Arc<dyn TableProvider>>, DataFusionError>>
    where
        'a: 'f,
        'b: 'f,
    {
        let lookup = async move {
            let Some(rules) = self.rules.table(name) else { return Ok(None) };
            let below = self.below.table(name).await?;
            Ok(below.map(|below| Arc::new(PolicyTable::new(below, rules.clone())) as Arc<dyn TableProvider>))
        };
        lookup.boxed()
    }

    fn table_exist(&self, name: &str) -> bool {
        self.rules.table(name).is_some() && self.below.table_exist(name)
    }
}

/// `latest('table')`, of what is seen of a table.
#[derive(Debug)]
pub(super) struct PolicyLatest {
    pub(super) below: Latest,
    pub(super) rules: Arc<Rules>,
}

impl TableFunctionImpl for PolicyLatest {
    fn call_with_args(&self, arguments: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let name = latest::table_name(arguments.exprs())?;
        let unknown = || external(Error::UnknownTable { table: name.chars().take(80).collect() });
        let rules = self.rules.table(name).ok_or_else(unknown)?.clone();
        if !rules.is_of_tags {
            // The latest row of a series may be one that is hidden, and those before it are not looked at.
            return Err(external(Error::PolicyRefuses {
                policy: self.rules.policy.clone(),
                what: format!("{} of table {name:?}, whose rows it shows by their fields", latest::NAME),
                remedy: "use last(value, time) and GROUP BY",
            }));
        }
        let below = self.below.call_with_args(arguments)?;
        Ok(Arc::new(PolicyTable::new(below, rules)))
    }
}
