//! Which controllers run, and what nodes and finished pods are given: flags of kube-controller-manager's.

use anyhow::{Result, ensure};
use clap::{ArgAction, Args};
use controllers::{Config, Selection};

#[derive(Args, Clone)]
pub struct RunningArgs {
    /// Which controllers run: * for all but bootstrapsigner and tokencleaner, NAME, -NAME for one that does not [default:
    /// *,bootstrapsigner,tokencleaner]
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, value_name = "NAMES")]
    controllers: Vec<String>,
    /// Whether nodes are given parts of --cluster-cidr
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    allocate_node_cidrs: bool,
    /// The prefix length of a node's part, in a cluster of one family
    #[arg(long, value_name = "LENGTH")]
    node_cidr_mask_size: Option<u8>,
    /// The prefix length of a node's IPv4 part [default: 24]
    #[arg(long, value_name = "LENGTH")]
    node_cidr_mask_size_ipv4: Option<u8>,
    /// The prefix length of a node's IPv6 part [default: 64]
    #[arg(long, value_name = "LENGTH")]
    node_cidr_mask_size_ipv6: Option<u8>,
    /// Finished pods that are kept; 0 and less for all
    #[arg(long, default_value_t = Config::TERMINATED_POD_GC_THRESHOLD as i64, allow_negative_numbers = true, value_name = "COUNT")]
    terminated_pod_gc_threshold: i64,
}

impl RunningArgs {
    /// Has the controllers do what the flags say.
    pub fn apply(&self, config: &mut Config) -> Result<()> {
        if !self.controllers.is_empty() {
            config.controllers = Selection::parse(self.controllers.iter().map(String::as_str))?;
        }
        config.allocate_node_cidrs = self.allocate_node_cidrs;
        config.terminated_pod_gc_threshold =
            usize::try_from(self.terminated_pod_gc_threshold).ok().filter(|most| *most > 0);
        if let Some(size) = self.node_cidr_mask_size {
            let one_family = !config.cluster_cidr.contains(',');
            let by_family = self.node_cidr_mask_size_ipv4.or(self.node_cidr_mask_size_ipv6).is_some();
            ensure!(
                one_family && !by_family,
                "--node-cidr-mask-size is for clusters of one family; use --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6 alone"
            );
            config.node_cidr_mask_size_ipv4 = size;
            config.node_cidr_mask_size_ipv6 = size;
        }
        if let Some(size) = self.node_cidr_mask_size_ipv4 {
            config.node_cidr_mask_size_ipv4 = size;
        }
        if let Some(size) = self.node_cidr_mask_size_ipv6 {
            config.node_cidr_mask_size_ipv6 = size;
        }
        Ok(())
    }
}
