//! The threads that queries run on: made at the first query, parked when there is none.
//!
//! All of a plan below its root runs here, whatever runtime the caller polls the answer on: reading a segment blocks, a
//! join may keep a worker busy for long, and the caller's runtime may have one thread and no timer. So does planning,
//! which needs more stack than a caller's thread may have. Deadlines have a thread of their own, so that they pass while
//! every worker is busy.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, Result};
use crate::fs::fork::Origin;

/// Of a worker. Planning recurses, a few kilobytes for each operator of a chain, and not all of that is protected; pages
/// that are not touched cost nothing.
const STACK_BYTES: usize = 32 << 20;

pub(super) struct Threads {
    count: usize,
    /// A child that was forked has none of these threads, and would wait for them for ever.
    origin: Origin,
    started: OnceLock<std::result::Result<Started, String>>,
}

struct Started {
    workers: Runtime,
    clock: Runtime,
}

impl Threads {
    pub(super) fn new(count: usize) -> Self {
        Self { count: count.max(1), origin: Origin::default(), started: OnceLock::new() }
    }

    fn started(&self) -> Result<&Started> {
        self.check()?;
        let start = || {
            let workers = Builder::new_multi_thread()
                .worker_threads(self.count)
                .thread_name("denyut-query")
                .thread_stack_size(STACK_BYTES)
                .build()?;
            let clock =
                Builder::new_multi_thread().worker_threads(1).thread_name("denyut-clock").enable_time().build()?;
            Ok(Started { workers, clock })
        };
        let started = self.started.get_or_init(|| start().map_err(|error: std::io::Error| error.to_string()));
        started.as_ref().map_err(|reason| Error::Background { reason: format!("starting query threads: {reason}") })
    }

    /// [`Forked`](Error::Forked) in a child, where what runs on these threads never ends.
    pub(super) fn check(&self) -> Result<()> {
        self.origin.check()
    }

    /// Runs `future` on a worker.
    pub(super) fn spawn<F>(&self, future: F) -> Result<JoinHandle<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        Ok(self.started()?.workers.spawn(future))
    }

    /// Runs `future` on a worker, and waits for it until `timeout` has passed. What is dropped with the caller's wait ends
    /// where it next yields.
    pub(super) async fn run<F, T>(&self, timeout: Duration, future: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let alarm = Ends(self.alarm(Instant::now() + timeout, || {})?);
        let task = Ends(self.spawn(future)?);
        match select(task, alarm).await {
            Either::Left((Ok(result), _)) => result,
            Either::Left((Err(error), _)) => Err(Error::Background { reason: format!("a query's thread: {error}") }),
            Either::Right(_) => Err(Error::QueryTimeout { query_timeout: timeout }),
        }
    }

    /// A task that ends at `moment` and calls `ring` before.
    pub(super) fn alarm(&self, moment: Instant, ring: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
        Ok(self.started()?.clock.spawn(async move {
            tokio::time::sleep_until(moment.into()).await;
            ring();
        }))
    }

    /// Tasks that have not ended.
    #[cfg(test)]
    pub(super) fn busy(&self) -> usize {
        self.started().map_or(0, |started| started.workers.metrics().num_alive_tasks())
    }
}

/// A task that ends when nobody waits for it.
struct Ends<T>(JoinHandle<T>);

impl<T> Future for Ends<T> {
    type Output = std::result::Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime that is dropped waits for its threads, which an async context may not do, and the last handle may
        // well be dropped in one.
        if let Some(Ok(started)) = self.started.take() {
            started.workers.shutdown_background();
            started.clock.shutdown_background();
        }
    }
}
