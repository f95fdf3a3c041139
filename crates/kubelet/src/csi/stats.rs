//! How full volumes are, asked of the drivers that can tell.

use std::collections::HashMap;
use std::time::Instant;

use plugins::csi::node_service_capability::rpc::Type as Can;
use plugins::csi::volume_usage::Unit;
use plugins::csi::{NodeGetVolumeStatsRequest, VolumeUsage};

use super::saved::{of_pod, places};
use crate::context::Context;
use crate::meters;

/// By the UID of the pod and the name of the volume's specification.
pub type Usages = HashMap<(String, String), Usage>;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    pub bytes: Option<Measure>,
    pub inodes: Option<Measure>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    pub available: i64,
    pub total: i64,
    pub used: i64,
}

/// Of the volumes of these pods.
pub async fn of_pods(ctx: &Context, uids: &[String]) -> Usages {
    let mut asked = Vec::new();
    for uid in uids {
        for (saved, block) in of_pod(&ctx.pod_dir(uid)) {
            let Ok(driver) = ctx.csi.driver(&saved.driver) else { continue };
            if !driver.can(Can::GetVolumeStats) {
                continue;
            }
            let places = places(&ctx.options.root_dir, uid, &saved, block);
            let request = NodeGetVolumeStatsRequest {
                volume_id: saved.handle.clone(),
                volume_path: places.target.display().to_string(),
                staging_target_path: String::new(),
            };
            let key = (uid.clone(), saved.spec_name.clone());
            asked.push(async move {
                let began = Instant::now();
                let told = driver.stats(request).await;
                let labels = [("metric_source", saved.driver.as_str())];
                meters::observe(
                    "kubelet_volume_metric_collection_duration_seconds",
                    &labels,
                    began.elapsed(),
                );
                Some((key, measured(&told.ok()?)))
            });
        }
    }
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

fn measured(usages: &[VolumeUsage]) -> Usage {
    let of = |unit: Unit| {
        let found = usages.iter().find(|usage| usage.unit == unit as i32)?;
        Some(Measure { available: found.available, total: found.total, used: found.used })
    };
    Usage { bytes: of(Unit::Bytes), inodes: of(Unit::Inodes) }
}
