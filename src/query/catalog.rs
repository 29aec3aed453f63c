//! The names a statement can use: the store's tables and the system's.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::error::{DataFusionError, Result};
use futures::future::BoxFuture;

use super::engine::Source;
use super::failure::external;
use super::provider::StoreTable;
use super::session::{CATALOG, OWN, SCHEMA, SYSTEM};
use super::system;
use crate::error::Result as StoreResult;
use crate::model::names;
use crate::snapshot::Snapshot;

/// The moment that names resolve to.
#[derive(Clone)]
pub(super) enum Moment {
    /// One for the whole statement.
    Pinned(Arc<Snapshot>, Arc<dyn Source>),
    /// A new one at each lookup.
    Latest(Arc<dyn Source>),
}

impl Moment {
    pub(super) fn snapshot(&self) -> StoreResult<Arc<Snapshot>> {
        match self {
            Self::Pinned(snapshot, _) => Ok(snapshot.clone()),
            Self::Latest(source) => source.snapshot(),
        }
    }

    pub(super) fn source(&self) -> &Arc<dyn Source> {
        match self {
            Self::Pinned(_, source) | Self::Latest(source) => source,
        }
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned(..) => "Pinned",
            Self::Latest(_) => "Latest",
        })
    }
}

/// The catalogs of a session. A trusted one may register its own beside. `with_own` is for plans of this crate's making: it
/// adds the schema [`OWN`].
pub(super) fn catalogs(moment: Moment, with_own: bool) -> Arc<dyn CatalogProviderList> {
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.into(), Arc::new(StoreCatalog { moment, with_own }));
    Arc::new(list)
}

#[derive(Debug)]
struct StoreCatalog {
    moment: Moment,
    with_own: bool,
}

impl CatalogProvider for StoreCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.into(), SYSTEM.into()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            SCHEMA => Some(Arc::new(StoreSchema { moment: self.moment.clone(), hidden: false })),
            OWN if self.with_own => Some(Arc::new(StoreSchema { moment: self.moment.clone(), hidden: true })),
            SYSTEM => Some(Arc::new(SystemSchema(self.moment.clone()))),
            _ => None,
        }
    }
}

type Lookup = Result<Option<Arc<dyn TableProvider>>, DataFusionError>;

/// The tables that users declared, or the hidden ones.
#[derive(Debug)]
pub(super) struct StoreSchema {
    pub(super) moment: Moment,
    pub(super) hidden: bool,
}

impl SchemaProvider for StoreSchema {
    fn table_names(&self) -> Vec<String> {
        match self.moment.snapshot() {
            Ok(snapshot) => {
                let names = snapshot.all_tables().iter().map(|table| table.schema.name());
                names.filter(|name| names::is_hidden(name) == self.hidden).map(ToString::to_string).collect()
            }
            Err(error) => {
                // The trait has no way to fail here; the lookup of any table says the same as an error.
                tracing::warn!(%error, "no snapshot to list tables of");
                Vec::new()
            }
        }
    }

    fn table<'a, 'b, 'f>(&'a self, name: &'b str) -> BoxFuture<'f, Lookup>
    where
        'a: 'f,
        'b: 'f,
    {
        let lookup = self.moment.snapshot().map_err(external).map(|snapshot| {
            let view = snapshot.table(name).filter(|_| names::is_hidden(name) == self.hidden).cloned();
            view.map(|view| {
                Arc::new(StoreTable::new(view, snapshot, self.moment.source().last())) as Arc<dyn TableProvider>
            })
        });
        Box::pin(std::future::ready(lookup))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.moment.snapshot().is_ok_and(|snapshot| snapshot.table(name).is_some())
            && names::is_hidden(name) == self.hidden
    }
}

#[derive(Debug)]
struct SystemSchema(Moment);

impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        system::NAMES.iter().map(ToString::to_string).collect()
    }

    fn table<'a, 'b, 'f>(&'a self, name: &'b str) -> BoxFuture<'f, Lookup>
    where
        'a: 'f,
        'b: 'f,
    {
        let lookup =
            self.0.snapshot().map_err(external).and_then(|snapshot| system::table(name, &snapshot, self.0.source()));
        Box::pin(std::future::ready(lookup))
    }

    fn table_exist(&self, name: &str) -> bool {
        system::NAMES.contains(&name)
    }
}
