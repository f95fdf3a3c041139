//! What of a container's volumes is not a directory of the node: images and block devices.

use std::collections::HashMap;
use std::path::PathBuf;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::PodEnv;
use crate::meters;
use crate::pod::ext::PodExt;
use crate::pod::machine::Failure;

/// The images that the container mounts, by the names of their volumes. Those that are not there are brought.
pub async fn images(
    env: &PodEnv,
    pod: &Pod,
    container: &Container,
) -> Result<HashMap<String, String>, Failure> {
    let mut found = HashMap::new();
    for volume in pod.pod_spec().volumes.iter().flatten() {
        let mounted = container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
        let Some(image) = volume.image.as_ref().filter(|_| mounted) else { continue };
        // Brought as the container's own is: same policies, same credentials.
        let wanted = Container {
            name: container.name.clone(),
            image: image.reference.clone(),
            image_pull_policy: image.pull_policy.clone(),
            ..Default::default()
        };
        meters::count("kubelet_image_volume_requested_total", &[]);
        let id = env.ctx.images.ensure(pod, &wanted, &env.objects).await?;
        found.insert(volume.name.clone(), id);
    }
    Ok(found)
}

/// The mount of an image.
pub fn image_mount(mount: &VolumeMount, image: &str) -> cri::Mount {
    cri::Mount {
        container_path: mount.mount_path.clone(),
        image: Some(cri::ImageSpec { image: image.to_owned(), ..Default::default() }),
        image_sub_path: mount.sub_path.clone().unwrap_or_default(),
        readonly: true,
        ..Default::default()
    }
}

/// `volumeDevices`: the block devices behind them.
pub fn devices(
    container: &Container,
    volumes: &HashMap<String, PathBuf>,
) -> Result<Vec<cri::Device>, String> {
    let device = |wanted: &k8s_openapi::api::core::v1::VolumeDevice| {
        let path = volumes.get(&wanted.name).ok_or_else(|| {
            format!("volume {:?} of container {} is not mapped", wanted.name, container.name)
        })?;
        Ok(cri::Device {
            container_path: wanted.device_path.clone(),
            host_path: path.display().to_string(),
            permissions: "mrw".into(),
        })
    };
    container.volume_devices.iter().flatten().map(device).collect()
}
