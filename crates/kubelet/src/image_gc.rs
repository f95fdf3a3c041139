//! Removes images that no container uses when the disk fills up, those first that have not been used for longest.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::context::Context;
use crate::cri::CriError;
use crate::images::reference::with_tag;
use crate::pod::ext::PodExt;
use crate::pod::status::terminal;

const CHECK: Duration = Duration::from_secs(300);

/// When an image was first seen, and last seen in use.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Instant,
    used: Instant,
}

/// What is remembered of images between two looks.
pub struct ImageCollector {
    ctx: Arc<Context>,
    seen: HashMap<String, Seen>,
    next: Instant,
}

impl ImageCollector {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx, seen: HashMap::new(), next: Instant::now() }
    }

    /// Looks whether the disk fills up, unless it has done so a short while ago.
    pub async fn collect_now_and_then(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + CHECK;
        let config = &self.ctx.options.config;
        let (high, low) = (config.image_gc_high_threshold_percent, config.image_gc_low_threshold_percent);
        self.collect(high, low).await;
    }

    /// The disk is short: every image that nobody uses goes.
    pub async fn free_everything(&mut self) {
        self.collect(0, 0).await;
    }

    async fn collect(&mut self, high: u8, low: u8) {
        if let Err(error) = self.try_collect(high, low).await {
            warn!(%error, call = error.call, "cannot look for unused images");
        }
    }

    async fn try_collect(&mut self, high: u8, low: u8) -> Result<(), CriError> {
        let ctx = self.ctx.clone();
        let images = ctx.cri.list_images(cri::ListImagesRequest { filter: None });
        let containers = ctx.cri.list_containers(cri::ListContainersRequest::default());
        let usage = ctx.cri.image_fs_info(cri::ImageFsInfoRequest {});
        let (images, containers, usage) = futures::try_join!(images, containers, usage)?;
        let now = Instant::now();
        let mut in_use: HashSet<String> = containers
            .containers
            .into_iter()
            .flat_map(|container| [container.image_id, container.image_ref])
            .collect();
        for image in mounted(&ctx) {
            in_use.extend(ctx.cri.image_status(&image).await?.map(|image| image.id));
        }
        let images = images.images;
        let ids: Vec<String> = images.iter().map(|image| image.id.clone()).collect();
        ctx.images.keep_records_of(&ids);
        self.seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in &images {
            let entry = self.seen.entry(image.id.clone()).or_insert(Seen { first: now, used: now });
            if used(image, &in_use) {
                entry.used = now;
            }
        }
        let place = usage.image_filesystems.into_iter().find_map(|fs| fs.fs_id);
        let place = place.map(|id| PathBuf::from(id.mountpoint));
        ctx.image_fs.lock().clone_from(&place);
        let config = &ctx.options.config;
        let least_age = crate::config::duration(&config.image_minimum_gc_age).unwrap_or_default();
        let greatest_age = crate::config::duration(&config.image_maximum_gc_age).filter(|age| !age.is_zero());
        let mut candidates = order(images, &in_use, &self.seen, now, least_age);
        if let Some(age) = greatest_age {
            let seen = &self.seen;
            let old = |image: &cri::Image| {
                seen.get(&image.id).is_some_and(|seen| now.duration_since(seen.used) > age)
            };
            let (too_old, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(old);
            for image in too_old {
                remove(&ctx, &image, "nobody has used it for long").await;
            }
            candidates = rest;
        }
        let Some(stat) = place.and_then(|path| rustix::fs::statvfs(&path).ok()) else {
            return Ok(());
        };
        let capacity = stat.f_blocks.saturating_mul(stat.f_frsize);
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let percent = |share: u8| capacity / 100 * u64::from(share);
        let taken = capacity.saturating_sub(free);
        if taken < percent(high) {
            return Ok(());
        }
        let mut excess = taken.saturating_sub(percent(low));
        for image in candidates {
            if excess == 0 {
                break;
            }
            if remove(&ctx, &image, "the disk is filling up").await {
                excess = excess.saturating_sub(image.size);
            }
        }
        if excess > 0 && high > 0 {
            let message = format!("Attempting to free {excess} bytes more, but only found images in use.");
            ctx.events.node(&ctx.options.node_name, true, "FreeDiskSpaceFailed", &message);
        }
        Ok(())
    }
}

async fn remove(ctx: &Context, image: &cri::Image, why: &str) -> bool {
    match ctx.cri.remove_image(&image.id).await {
        Ok(()) => {
            let reason = if why.contains("disk") { "space" } else { "age" };
            crate::meters::count("kubelet_image_garbage_collected_total", &[("reason", reason)]);
            info!(image = image.id, size = image.size, why, "removed an unused image");
            true
        }
        Err(error) => {
            warn!(image = image.id, %error, "cannot remove an unused image");
            false
        }
    }
}

fn used(image: &cri::Image, in_use: &HashSet<String>) -> bool {
    in_use.contains(&image.id)
        || image.repo_tags.iter().chain(&image.repo_digests).any(|name| in_use.contains(name))
}

/// What may go, the longest unused first.
fn order(
    images: Vec<cri::Image>,
    in_use: &HashSet<String>,
    seen: &HashMap<String, Seen>,
    now: Instant,
    least_age: Duration,
) -> Vec<cri::Image> {
    let mut unused: Vec<(Seen, cri::Image)> = images
        .into_iter()
        .filter(|image| !image.pinned && !used(image, in_use))
        .filter_map(|image| Some((*seen.get(&image.id)?, image)))
        .filter(|(seen, _)| now.duration_since(seen.first) >= least_age)
        .collect();
    unused.sort_by_key(|(seen, _)| (seen.used, seen.first));
    unused.into_iter().map(|(_, image)| image).collect()
}

/// The images that pods mount as volumes.
fn mounted(ctx: &Context) -> BTreeSet<String> {
    let live = |pod: &Pod| !terminal(Some(pod.phase()));
    let volumes = |pod: &Arc<Pod>| pod.pod_spec().volumes.clone().unwrap_or_default();
    let images =
        ctx.pods.filter(live).iter().flat_map(volumes).filter_map(|volume| volume.image).collect::<Vec<_>>();
    images.iter().filter_map(|image| Some(with_tag(image.reference.as_deref()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_unpinned_old_images_go_the_longest_unused_first() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let image = |id: &str, pinned| cri::Image { id: id.into(), pinned, ..Default::default() };
        let images = vec![
            image("new", false),
            image("recent", false),
            image("old", false),
            image("pinned", true),
            image("used", false),
        ];
        let seen = |first, used| Seen { first: at(first), used: at(used) };
        let seen: HashMap<String, Seen> = [
            ("new", seen(95, 95)),
            ("recent", seen(0, 50)),
            ("old", seen(0, 10)),
            ("pinned", seen(0, 0)),
            ("used", seen(0, 100)),
        ]
        .map(|(id, seen)| (id.to_owned(), seen))
        .into();
        let in_use = HashSet::from(["used".to_owned()]);
        let gone = order(images, &in_use, &seen, at(100), Duration::from_secs(10));
        let ids: Vec<&str> = gone.iter().map(|image| image.id.as_str()).collect();
        assert_eq!(ids, ["old", "recent"]);
    }
}
