//! The plugins of one phase, one after the other: those that are chosen run, and how long each takes is counted.

use std::time::Instant;

use api::status::Status;

use super::Operation;
use super::plugins::Plugins;
use crate::metrics::Metrics;

pub struct Phase<'a> {
    /// `admit` or `validate`.
    name: &'static str,
    operation: Operation,
    chosen: &'a Plugins,
    metrics: &'a Metrics,
}

/// What a plugin says; one that only changes the object says nothing.
pub trait Verdict {
    fn admitted(self) -> Result<(), Status>;
}

impl Verdict for () {
    fn admitted(self) -> Result<(), Status> {
        Ok(())
    }
}

impl Verdict for Result<(), Status> {
    fn admitted(self) -> Result<(), Status> {
        self
    }
}

impl<'a> Phase<'a> {
    pub fn new(name: &'static str, operation: Operation, chosen: &'a Plugins, metrics: &'a Metrics) -> Self {
        Self { name, operation, chosen, metrics }
    }

    pub fn plugin<V: Verdict>(&self, plugin: &'static str, run: impl FnOnce() -> V) -> Result<(), Status> {
        if !self.chosen.run(plugin) {
            return Ok(());
        }
        let begun = Instant::now();
        self.ran(plugin, run().admitted(), begun)
    }

    /// One that waits for something.
    pub async fn plugin_async<R>(&self, plugin: &'static str, run: R) -> Result<(), Status>
    where
        R: Future<Output = Result<(), Status>>,
    {
        if !self.chosen.run(plugin) {
            return Ok(());
        }
        let begun = Instant::now();
        self.ran(plugin, run.await, begun)
    }

    fn ran(&self, plugin: &'static str, admitted: Result<(), Status>, begun: Instant) -> Result<(), Status> {
        let rejected = admitted.is_err();
        self.metrics.admission.plugin(plugin, self.name, self.operation, rejected, begun.elapsed());
        admitted
    }
}
