//! UpdateContainerResources: all of what is asked for or nothing.

use std::sync::Arc;

use k8s_cri::v1::LinuxContainerResources;
use tokio::runtime::Handle;
use tracing::warn;

use super::{Container, State};
use crate::state::{Runtime, blocking};
use crate::systemd::Scope;
use crate::{Error, Result, disk, spec};

impl Runtime {
    pub async fn update_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        limits: LinuxContainerResources,
    ) -> Result<()> {
        let _alone = container.busy.lock().await;
        let (runtime, held) = (self.clone(), container.clone());
        blocking(move || runtime.update_resources(&held, &limits)).await
    }

    fn update_resources(&self, container: &Container, wanted: &LinuxContainerResources) -> Result<()> {
        let (state, cgroup, scope, old) = {
            let record = container.record.lock();
            let old = record.config.linux.as_ref().and_then(|l| l.resources.clone()).unwrap_or_default();
            (record.state, record.cgroup.clone(), record.scope.clone(), old)
        };
        let new = merged(&old, wanted);
        if state == State::Exited {
            return Err(Error::FailedPrecondition(format!("container {} has exited", container.id)));
        }
        if state == State::Created && self.bundle(&container.id).join("config.json").exists() {
            self.update_bundle(&container.id, &new)?;
        } else if let Err(error) = self.set_limits(&scope, &cgroup, &new) {
            if let Err(error) = self.set_limits(&scope, &cgroup, &old) {
                warn!(container = container.id, %error, "the old limits cannot be restored");
            }
            return Err(error);
        }
        container.record.lock().config.linux.get_or_insert_default().resources = Some(new);
        self.save_container(container)
    }

    /// In the group's files, and with systemd if that has made it.
    fn set_limits(
        &self,
        scope: &Option<Scope>,
        cgroup: &str,
        limits: &LinuxContainerResources,
    ) -> Result<()> {
        if let (Some(systemd), Some(scope)) = (&self.systemd, scope) {
            Handle::current().block_on(systemd.limit_scope(scope, limits, self.cgroups.is_unified()))?;
        }
        self.cgroups.update(cgroup, limits)
    }

    /// A container of another OCI runtime that does not run yet gets its limits from its bundle.
    fn update_bundle(&self, id: &str, limits: &LinuxContainerResources) -> Result<()> {
        let path = self.bundle(id).join("config.json");
        let mut config: serde_json::Value = disk::load(&path)?;
        let devices = config["linux"]["resources"]["devices"].take();
        config["linux"]["resources"] = spec::resources::resources(Some(limits), &[], false);
        config["linux"]["resources"]["devices"] = devices;
        disk::save(&path, &config)
    }
}

/// What is zero or empty is not asked for and stays as it was.
fn merged(old: &LinuxContainerResources, new: &LinuxContainerResources) -> LinuxContainerResources {
    let number = |old: i64, new: i64| if new == 0 { old } else { new };
    let text = |old: &String, new: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut unified = old.unified.clone();
    unified.extend(new.unified.clone());
    LinuxContainerResources {
        cpu_period: number(old.cpu_period, new.cpu_period),
        cpu_quota: number(old.cpu_quota, new.cpu_quota),
        cpu_shares: number(old.cpu_shares, new.cpu_shares),
        memory_limit_in_bytes: number(old.memory_limit_in_bytes, new.memory_limit_in_bytes),
        oom_score_adj: number(old.oom_score_adj, new.oom_score_adj),
        cpuset_cpus: text(&old.cpuset_cpus, &new.cpuset_cpus),
        cpuset_mems: text(&old.cpuset_mems, &new.cpuset_mems),
        hugepage_limits: if new.hugepage_limits.is_empty() {
            old.hugepage_limits.clone()
        } else {
            new.hugepage_limits.clone()
        },
        unified,
        memory_swap_limit_in_bytes: number(old.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let old = LinuxContainerResources {
            cpu_quota: 5000,
            cpuset_cpus: "0".into(),
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        let new = LinuxContainerResources {
            memory_limit_in_bytes: 7,
            cpu_quota: -1,
            unified: [("memory.min".to_owned(), "2".to_owned())].into(),
            ..Default::default()
        };
        let merged = merged(&old, &new);
        assert_eq!((merged.cpu_quota, merged.memory_limit_in_bytes), (-1, 7));
        assert_eq!((merged.cpuset_cpus.as_str(), merged.unified.len()), ("0", 2));
    }
}
