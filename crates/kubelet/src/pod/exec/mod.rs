//! Carrying out what the state machine decides: the IO of one pod.
//!
//! Each function is one [`super::machine::Action`] and answers with the input that tells how it went.

mod container;
mod log_links;
mod message;
mod resize;
mod sandbox;
mod stop;
mod teardown;
mod volumes;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

pub use container::{Start, post_start, start};
pub use message::{complete, complete_one};
pub use resize::{resize, resize_pod};
pub use sandbox::run_sandbox;
pub use stop::{Stop, stop};
pub use teardown::{finalize, give_back, tear_down};

use super::ext::PodExt;
use super::machine::{Failure, Input};
use crate::context::Context;
use crate::objects::PodObjects;
use crate::volumes::{Mounted, Source, is_persistent, mount};

/// What the actions of one pod share.
pub struct PodEnv {
    pub ctx: Arc<Context>,
    pub objects: PodObjects,
    pub mounted: Mutex<Mounted>,
    /// What the pod's RuntimeClass names, once it has been asked for.
    pub handler: Mutex<String>,
}

impl PodEnv {
    pub fn new(ctx: Arc<Context>, namespace: &str) -> Self {
        Self {
            objects: PodObjects::new(ctx.objects.clone(), namespace),
            mounted: Mutex::default(),
            handler: Mutex::default(),
            ctx,
        }
    }

    /// Whether the pod's runtime can make mounts read-only with all below them.
    pub fn recursive_read_only(&self) -> bool {
        let handler = self.handler.lock();
        let handlers = self.ctx.handlers.lock();
        let own = handlers.iter().find(|known| known.name == *handler);
        own.and_then(|own| own.features.as_ref()).is_some_and(|features| features.recursive_read_only_mounts)
    }

    pub fn host_ips(&self) -> Vec<String> {
        self.ctx.host_ips().iter().map(ToString::to_string).collect()
    }
}

/// Sets up (or renews) the volumes.
pub async fn mount_volumes(env: Arc<PodEnv>, pod: Arc<Pod>) -> Input {
    let dir = env.ctx.pod_dir(pod.uid());
    let source = Source {
        ctx: &env.ctx,
        pod: &pod,
        objects: &env.objects,
        node_name: &env.ctx.options.node_name,
        host_ips: &env.host_ips(),
        allocatable: &env.ctx.allocatable(),
        dir: &dir,
    };
    if let Err(error) = Box::pin(env.ctx.claims.prepare(&env.ctx, &pod)).await {
        let message = format!("Failed to prepare dynamic resources: {error}");
        return Input::Volumes(Err(Failure { reason: "FailedPrepareDynamicResources".into(), message }));
    }
    let result = mount(&source).await;
    Input::Volumes(match result {
        Ok(mounted) => {
            remember_places(&env.ctx, &pod, &mounted);
            *env.mounted.lock() = mounted;
            Ok(())
        }
        Err(message) => Err(Failure { reason: "FailedMount".into(), message }),
    })
}

/// For those who measure volumes.
fn remember_places(ctx: &Context, pod: &Pod, mounted: &Mounted) {
    let claims = pod.pod_spec().volumes.iter().flatten().filter(|volume| is_persistent(volume));
    let mut known = ctx.mounted.lock();
    for volume in claims {
        if let Some(path) = mounted.paths.get(&volume.name) {
            known.insert((pod.uid().to_owned(), volume.name.clone()), path.clone());
        }
    }
}

/// Brings the image.
pub async fn ensure_image(
    env: Arc<PodEnv>,
    pod: Arc<Pod>,
    container: Arc<k8s_openapi::api::core::v1::Container>,
) -> Input {
    let result = env.ctx.images.ensure(&pod, &container, &env.objects).await;
    Input::Image { name: container.name.clone(), result }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done about a pod is a task each, a hundred of them when a hundred pods start: what one awaits for long or
    /// seldom belongs into a box.
    #[test]
    fn tasks_are_small() {
        const MOST: usize = 10 << 10;
        fn check<A, F: Future<Output = Input>>(name: &str, _task: impl Fn(A) -> F) {
            let size = size_of::<F>();
            assert!(size <= MOST, "{name} takes {size} bytes");
        }
        check("mount_volumes", |(env, pod)| mount_volumes(env, pod));
        check("run_sandbox", |(env, pod, attempt, stops, removes)| {
            run_sandbox(env, pod, attempt, stops, removes)
        });
        check("ensure_image", |(env, pod, container)| ensure_image(env, pod, container));
        check("start", |(env, pod, it)| start(env, pod, it));
        check("stop", |(env, pod, it)| stop(env, pod, it));
        check("tear_down", |(env, pod, sandboxes, remove)| tear_down(env, pod, sandboxes, remove));
    }
}
