//! What is listed, whole or as a stream of pages: a node may have more than one gRPC message holds.

use futures::stream::{self, BoxStream, StreamExt};
use k8s_cri::v1::{
    Container, ContainerFilter, ContainerStats, ContainerStatsFilter, Image, ImageFilter, PodSandbox,
    PodSandboxFilter, PodSandboxStats, PodSandboxStatsFilter,
};
use tonic::Status;

use super::filter;
use super::image_service::{describe, name};
use crate::Result;
use crate::container::State;
use crate::state::Runtime;

/// What is sent at once: some hundred kilobytes at most.
const PAGE: usize = 100;

pub type Pages<T> = BoxStream<'static, Result<T, Status>>;

/// All items, each once, in messages of at least one.
pub fn pages<I: Send + 'static, T: Send + 'static>(items: Vec<I>, page: fn(Vec<I>) -> T) -> Pages<T> {
    let mut items = items.into_iter();
    let next = move || {
        let some: Vec<I> = items.by_ref().take(PAGE).collect();
        (!some.is_empty()).then(|| Ok(page(some)))
    };
    stream::iter(std::iter::from_fn(next)).boxed()
}

impl Runtime {
    pub fn list_sandboxes(&self, wanted: Option<PodSandboxFilter>) -> Vec<PodSandbox> {
        let wanted = wanted.unwrap_or_default();
        let matches = |s: &PodSandbox| {
            filter::id(&wanted.id, &s.id)
                && wanted.state.as_ref().is_none_or(|state| state.state == s.state)
                && filter::labels(&wanted.label_selector, &s.labels)
        };
        self.sandboxes.list().iter().map(|s| s.listed()).filter(matches).collect()
    }

    pub fn list_containers(&self, wanted: Option<ContainerFilter>) -> Vec<Container> {
        let wanted = wanted.unwrap_or_default();
        let matches = |c: &Container| {
            filter::id(&wanted.id, &c.id)
                && filter::id(&wanted.pod_sandbox_id, &c.pod_sandbox_id)
                && wanted.state.as_ref().is_none_or(|state| state.state == c.state)
                && filter::labels(&wanted.label_selector, &c.labels)
        };
        self.containers.list().iter().map(|c| c.listed()).filter(matches).collect()
    }

    /// Of the containers that run. Reads files of the kernel: call it where blocking harms nobody.
    pub fn list_container_stats(&self, wanted: Option<ContainerStatsFilter>) -> Vec<ContainerStats> {
        let wanted = wanted.unwrap_or_default();
        let mut containers = self.containers.list();
        containers.retain(|c| {
            filter::id(&wanted.id, &c.id)
                && filter::id(&wanted.pod_sandbox_id, &c.sandbox.id)
                && c.state() == State::Running
                && filter::labels(&wanted.label_selector, &c.record.lock().config.labels)
        });
        containers.iter().map(|c| self.container_stats(c)).collect()
    }

    /// As [`Runtime::list_container_stats`].
    pub fn list_sandbox_stats(&self, wanted: Option<PodSandboxStatsFilter>) -> Vec<PodSandboxStats> {
        let wanted = wanted.unwrap_or_default();
        let mut sandboxes = self.sandboxes.list();
        sandboxes.retain(|s| {
            filter::id(&wanted.id, &s.id)
                && filter::labels(&wanted.label_selector, &s.record.lock().config.labels)
        });
        sandboxes.iter().map(|s| self.sandbox_stats(s)).collect()
    }

    /// Reads the index of the images: call it where blocking harms nobody.
    pub fn list_images(&self, wanted: Option<ImageFilter>) -> Result<Vec<Image>> {
        let wanted = name(wanted.and_then(|f| f.image));
        if wanted.is_empty() {
            return Ok(self.images.list()?.iter().map(describe).collect());
        }
        Ok(self.images.get(&wanted)?.iter().map(describe).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_on_one_page() {
        for count in [0, 1, PAGE, PAGE + 1, 3 * PAGE] {
            let pages = pages((0..count).collect(), |page| page);
            let pages: Vec<Vec<usize>> =
                futures::executor::block_on(pages.map(|page| page.unwrap_or_default()).collect());
            assert!(pages.iter().all(|page| !page.is_empty()));
            assert_eq!(pages.concat(), (0..count).collect::<Vec<_>>());
        }
    }
}
