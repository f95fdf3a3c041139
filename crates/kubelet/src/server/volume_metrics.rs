//! `kubelet_volume_stats_*`: how full the volumes of claims are, for those who watch over them.

use std::path::Path;

use exposition::{Page, float};

use crate::context::Context;
use crate::csi;
use crate::fullness;
use crate::pod::ext::PodExt;
use crate::volumes;

/// Name, help, and the place of the figure in [`Figures`].
const FAMILIES: [(&str, &str, usize); 6] = [
    ("kubelet_volume_stats_available_bytes", "[ALPHA] Number of available bytes in the volume", 0),
    ("kubelet_volume_stats_capacity_bytes", "[ALPHA] Capacity in bytes of the volume", 1),
    ("kubelet_volume_stats_used_bytes", "[ALPHA] Number of used bytes in the volume", 2),
    ("kubelet_volume_stats_inodes_free", "[ALPHA] Number of free inodes in the volume", 3),
    ("kubelet_volume_stats_inodes", "[ALPHA] Maximum number of inodes in the volume", 4),
    ("kubelet_volume_stats_inodes_used", "[ALPHA] Number of used inodes in the volume", 5),
];

type Figures = [u64; 6];

struct Volume {
    namespace: String,
    claim: String,
    figures: Figures,
}

pub async fn add(ctx: &Context, page: &mut Page) {
    let pods = ctx.pods.list();
    let uids: Vec<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
    let told = csi::stats::of_pods(ctx, &uids).await;
    let mut volumes: Vec<Volume> = Vec::new();
    for pod in &pods {
        for volume in pod.pod_spec().volumes.iter().flatten() {
            let Some(claim) = volumes::claim_name(pod, volume) else { continue };
            let key = (pod.uid().to_owned(), volume.name.clone());
            let Some(path) = ctx.mounted.lock().get(&key).cloned() else { continue };
            let Some(mut figures) = tokio::task::block_in_place(|| on_disk(&path)) else { continue };
            let name =
                path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            if let Some(usage) = name.and_then(|name| told.get(&(pod.uid().to_owned(), name))) {
                lay_over(&mut figures, usage);
            }
            // Shared by several pods, it is one volume all the same.
            let known = |known: &Volume| known.namespace == pod.namespace() && known.claim == claim;
            if !volumes.iter().any(known) {
                volumes.push(Volume { namespace: pod.namespace().to_owned(), claim, figures });
            }
        }
    }
    for (name, help, place) in FAMILIES {
        page.family(name, "gauge", help);
        for volume in &volumes {
            let labels = [("namespace", volume.namespace.as_str()), ("persistentvolumeclaim", &volume.claim)];
            let figure = volume.figures.get(place).copied().unwrap_or(0);
            page.sample(name, &labels, float(figure));
        }
    }
}

fn on_disk(path: &Path) -> Option<Figures> {
    let disk = fullness::of(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Some([
        bytes(disk.f_bavail),
        bytes(disk.f_blocks),
        bytes(disk.f_blocks.saturating_sub(disk.f_bfree)),
        disk.f_ffree,
        disk.f_files,
        disk.f_files.saturating_sub(disk.f_ffree),
    ])
}

fn lay_over(figures: &mut Figures, told: &csi::stats::Usage) {
    for (measure, at) in [(told.bytes, 0), (told.inodes, 3)] {
        let Some(measure) = measure else { continue };
        let three = [measure.available, measure.total, measure.used];
        for (figure, value) in figures.iter_mut().skip(at).zip(three) {
            *figure = u64::try_from(value).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::stats::{Measure, Usage};

    #[test]
    fn what_a_driver_says_counts() {
        let mut figures = [1, 2, 3, 4, 5, 6];
        let bytes = Some(Measure { available: 10, total: 20, used: -1 });
        lay_over(&mut figures, &Usage { bytes, inodes: None });
        assert_eq!(figures, [10, 20, 0, 4, 5, 6]);
    }
}
