//! `cpuManagerPolicyOptions`: how the static policy chooses.

use crate::config::KubeletConfiguration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Containers get whole cores or none.
    pub full_pcpus_only: bool,
    /// What needs several NUMA nodes gets as much of each.
    pub distribute_across_numa: bool,
    /// As few sockets count as much as few NUMA nodes.
    pub align_by_socket: bool,
    /// Nobody shares the reserved CPUs.
    pub strict_reservation: bool,
    /// Threads that share a cache are taken first.
    pub align_by_cache: bool,
}

/// Off unless `CPUManagerPolicyAlphaOptions` is on.
const ALPHA: [&str; 1] = ["align-by-socket"];

impl Options {
    pub fn new(config: &KubeletConfiguration) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in &config.cpu_manager_policy_options {
            let field = match name.as_str() {
                "full-pcpus-only" => &mut options.full_pcpus_only,
                "distribute-cpus-across-numa" => &mut options.distribute_across_numa,
                "align-by-socket" => &mut options.align_by_socket,
                "strict-cpu-reservation" => &mut options.strict_reservation,
                "prefer-align-cpus-by-uncorecache" => &mut options.align_by_cache,
                _ => return Err(format!("unknown CPU Manager Policy option: {name:?}")),
            };
            if ALPHA.contains(&name.as_str()) && !config.gate("CPUManagerPolicyAlphaOptions", false) {
                return Err(format!(
                    "CPU Manager Policy Alpha-level Options not enabled, but option {name:?} provided"
                ));
            }
            *field = value.parse().map_err(|_| format!("bad value for option {name:?}: {value:?}"))?;
        }
        if options.align_by_socket && config.topology_manager_policy == "single-numa-node" {
            return Err("align-by-socket does not go with the topology manager's single-numa-node".into());
        }
        if options.align_by_cache && options.distribute_across_numa {
            return Err(
                "prefer-align-cpus-by-uncorecache does not go with distribute-cpus-across-numa".into()
            );
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed() {
        let check = |options: &[(&str, &str)], policy: &str, gate: bool, ok: bool| {
            let config = KubeletConfiguration {
                cpu_manager_policy_options: options
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                topology_manager_policy: policy.into(),
                feature_gates: [("CPUManagerPolicyAlphaOptions".to_owned(), gate)].into(),
                ..Default::default()
            };
            assert_eq!(Options::new(&config).is_ok(), ok, "{options:?} {policy}");
        };
        check(&[("full-pcpus-only", "true"), ("strict-cpu-reservation", "false")], "none", false, true);
        check(&[("full-pcpus-only", "maybe")], "none", false, false);
        check(&[("align-by-socket", "true")], "none", false, false);
        check(&[("align-by-socket", "true")], "none", true, true);
        check(&[("align-by-socket", "true")], "single-numa-node", true, false);
        check(&[("faster", "true")], "none", true, false);
    }
}
