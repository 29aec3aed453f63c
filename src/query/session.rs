//! What all statements of a store share: functions, optimizer rules, memory, spill files.
//!
//! The memory pool is fair among what can spill: each sort and each aggregation may hold an equal part of what joins and
//! the like have left. A greedy pool would let one large sort take all, and then every panel that asks meanwhile fails
//! instead of the sort spilling. Its price is that a sort may spill a little before it must.
//!
//! The pool counts what operators hold. It does not count the batches under way between them, nor what one call of a
//! function makes of one batch; of functions that make much of little that is bounded by itself (`bounded`).

use std::num::{NonZero, NonZeroUsize};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder, SpillFile, TempFileFactory};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use super::ends::EndsRule;
use super::functions;
use super::limits::{Limits, LimitsRule};
use super::newest::NewestRule;
use super::summaries::SummariesRule;
use crate::options::Options;

/// The one catalog.
pub(super) const CATALOG: &str = "denyut";
/// The schema of the store's tables.
pub(super) const SCHEMA: &str = "public";
/// The schema of the system tables.
pub(super) const SYSTEM: &str = "system";
/// The schema that shows hidden tables to plans of this crate's own making, and to nobody else.
pub(super) const OWN: &str = "own";
/// Rows of a batch.
pub(super) const BATCH_ROWS: usize = 8_192;

/// Consumers that an error about memory names.
const CONSUMERS_NAMED: NonZeroUsize = NonZero::new(3).unwrap();
/// The engine's own choice, too much for a small pool.
const SORT_RESERVE_BYTES_MAX: usize = 10 << 20;

/// The state that statements are cloned from. It has no catalog yet.
pub(super) fn base(options: &Options, limits: Arc<Limits>, spill_dir: PathBuf) -> Result<SessionState> {
    let threads = options.query_threads.max(1);
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_batch_size(BATCH_ROWS)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_option_extension(options.accelerations)
        .with_sort_spill_reservation_bytes(SORT_RESERVE_BYTES_MAX.min(options.query_bytes_max / (16 * threads)));
    // So that `now()` has the type of `time`.
    config.options_mut().execution.time_zone = Some("UTC".into());
    // The parser counts several levels for one that the guard counts. The guard decides.
    let levels = options.query_depth_max.saturating_mul(8).saturating_add(64);
    config.options_mut().set("datafusion.sql_parser.recursion_limit", &levels.to_string())?;
    let disk = DiskManagerBuilder::default().with_max_temp_directory_size(options.query_spill_bytes_max);
    let spill = SpillDir { dir: spill_dir, disk: disk.clone(), manager: OnceLock::new() };
    let disk = disk.with_temp_file_factory(Arc::new(spill));
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(
            FairSpillPool::new(options.query_bytes_max),
            CONSUMERS_NAMED,
        )))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    let state = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_optimizer_rule(Arc::new(EndsRule))
        .with_optimizer_rule(Arc::new(NewestRule))
        .with_physical_optimizer_rules(with_summaries())
        .with_physical_optimizer_rule(Arc::new(LimitsRule(limits)))
        .build();
    super::bounded::bound(functions::extended(state)?, options.query_bytes_max)
}

/// The engine's rules, and ours behind the one that makes constants of statistics: what that leaves may need rows, and what
/// follows it cuts aggregates in parts that nobody recognises.
fn with_summaries() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let behind = rules.iter().position(|rule| rule.name() == "aggregate_statistics").map_or(0, |at| at + 1);
    rules.insert(behind, Arc::new(SummariesRule));
    rules
}

/// Spill files in a directory that is made when the first query spills, not when the store opens.
struct SpillDir {
    dir: PathBuf,
    disk: DiskManagerBuilder,
    manager: OnceLock<std::result::Result<Arc<DiskManager>, Arc<DataFusionError>>>,
}

impl TempFileFactory for SpillDir {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        let manager = self.manager.get_or_init(|| {
            let disk = self.disk.clone().with_mode(DiskManagerMode::Directories(vec![self.dir.clone()]));
            disk.build().map(Arc::new).map_err(Arc::new)
        });
        match manager {
            Ok(manager) => manager.create_tmp_file(description),
            Err(error) => Err(DataFusionError::Shared(error.clone())),
        }
    }
}
