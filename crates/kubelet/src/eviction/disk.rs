//! What pods use of the disk, and whether it is more than they may.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::container::{qos, quantity};
use crate::context::Context;
use crate::pod::ext::PodExt;
use crate::server::stats::{PodUsage, container_name};

/// Bytes of a pod by what holds them.
#[derive(Debug, Default)]
pub struct DiskUsage {
    /// Writable layer and logs of each container.
    pub containers: BTreeMap<String, i64>,
    pub volumes: BTreeMap<String, i64>,
}

impl DiskUsage {
    pub fn total(&self) -> i64 {
        self.containers.values().chain(self.volumes.values()).sum()
    }
}

fn bytes_of(path: &Path) -> i64 {
    tree_usage(path).0
}

/// The bytes and the inodes that a tree takes; what cannot be read takes none.
pub fn tree_usage(path: &Path) -> (i64, u64) {
    let mut sum: i64 = 0;
    let mut inodes = 1;
    let mut left = vec![path.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            inodes += 1;
            sum = sum.saturating_add(i64::try_from(meta.blocks().saturating_mul(512)).unwrap_or(i64::MAX));
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    (sum, inodes)
}

/// Walks the pod's directories: call it where blocking harms nobody.
pub fn usage(ctx: &Context, pod: &Pod, known: Option<&PodUsage>) -> DiskUsage {
    let mut usage = DiskUsage::default();
    for stats in known.iter().flat_map(|known| &known.containers) {
        let layer = stats.writable_layer.as_ref().and_then(|layer| layer.used_bytes.as_ref());
        let bytes = layer.and_then(|bytes| i64::try_from(bytes.value).ok()).unwrap_or(0);
        usage.containers.insert(container_name(stats), bytes);
    }
    let logs = ctx.log_dir(pod);
    for container in &pod.pod_spec().containers {
        let bytes = usage.containers.entry(container.name.clone()).or_default();
        *bytes = bytes.saturating_add(bytes_of(&logs.join(&container.name)));
    }
    for volume in pod.pod_spec().volumes.iter().flatten() {
        if volume.empty_dir.is_some() {
            let path = crate::volumes::empty_dir_path(&ctx.pod_dir(pod.runtime_uid()), &volume.name);
            usage.volumes.insert(volume.name.clone(), bytes_of(&path));
        }
    }
    usage
}

fn limit_of(container: &Container) -> Option<i64> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    quantity::value_of(limits, "ephemeral-storage").filter(|limit| *limit > 0)
}

/// Whether anything of the pod is limited: only then is it looked at.
pub fn is_limited(pod: &Pod) -> bool {
    let spec = pod.pod_spec();
    let volume = |volume: &k8s_openapi::api::core::v1::Volume| {
        volume.empty_dir.as_ref().is_some_and(|dir| dir.size_limit.is_some())
    };
    spec.containers.iter().any(|container| limit_of(container).is_some())
        || spec.volumes.iter().flatten().any(volume)
}

/// What the pod has used too much of, in the words of its eviction.
pub fn excess(pod: &Pod, usage: &DiskUsage) -> Option<String> {
    let spec = pod.pod_spec();
    for volume in spec.volumes.iter().flatten() {
        let text = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref());
        let limit = text.and_then(|text| quantity::value(&text.0)).filter(|limit| *limit > 0);
        let used = usage.volumes.get(&volume.name).copied().unwrap_or(0);
        if let (Some(text), Some(limit)) = (text, limit)
            && used > limit
        {
            return Some(format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                volume.name, text.0
            ));
        }
    }
    let whole = qos::limits(spec).get("ephemeral-storage");
    if whole > 0 && usage.total() > whole {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {whole}. "
        ));
    }
    spec.containers.iter().find_map(|container| {
        let limit = limit_of(container)?;
        let used = usage.containers.get(&container.name).copied().unwrap_or(0);
        (used > limit).then(|| {
            format!("Container {} exceeded its local ephemeral storage limit \"{limit}\". ", container.name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_has_used_too_much() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "c", "resources": {"limits": {"ephemeral-storage": "100"}}}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "50"}}, {"name": "w", "emptyDir": {}}]}}))
        .unwrap();
        let check = |container: i64, volume: i64, expected: Option<&str>| {
            let usage = DiskUsage {
                containers: [("c".to_owned(), container)].into(),
                volumes: [("v".to_owned(), volume)].into(),
            };
            let found = excess(&pod, &usage);
            match expected {
                Some(part) => assert!(found.as_ref().is_some_and(|found| found.contains(part)), "{found:?}"),
                None => assert_eq!(found, None),
            }
        };
        assert!(is_limited(&pod));
        check(10, 10, None);
        check(10, 51, Some("EmptyDir volume \"v\" exceeds the limit \"50\""));
        check(60, 45, Some("Pod ephemeral local storage usage"));
        check(101, 0, Some("Pod ephemeral local storage usage"));
    }
}
