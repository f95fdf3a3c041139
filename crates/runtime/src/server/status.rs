//! Whether the runtime and the network are ready, and what the runtime can do.

use std::collections::HashMap;

use k8s_cri::v1::{
    RuntimeCondition, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus, StatusResponse,
};

use crate::handler::BUILT_IN;
use crate::state::Runtime;

pub fn status(runtime: &Runtime, verbose: bool) -> StatusResponse {
    let condition = |kind: &str, reason: &str, message: Option<String>| RuntimeCondition {
        r#type: kind.to_owned(),
        status: message.is_none(),
        reason: if message.is_some() { reason.to_owned() } else { String::new() },
        message: message.unwrap_or_default(),
    };
    let network = runtime.network_problem();
    let conditions = vec![
        condition("RuntimeReady", "", None),
        condition("NetworkReady", "NetworkPluginNotReady", network),
    ];
    let handler = |name: &str, user_namespaces: bool| RuntimeHandler {
        name: name.to_owned(),
        features: Some(RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces }),
    };
    let mut runtime_handlers = vec![handler("", true), handler(BUILT_IN, true)];
    runtime_handlers.extend(runtime.config.handlers.iter().map(|(name, _)| handler(name, false)));
    let mut info = HashMap::new();
    if verbose {
        let c = &runtime.config;
        let config = serde_json::json!({
            "rootDir": c.root_dir, "runDir": c.run_dir, "socket": c.socket, "cgroupParent": c.cgroup_parent, "bridge": c.bridge,
            "apparmor": runtime.apparmor.describe(),
        });
        info.insert("config".to_owned(), config.to_string());
    }
    StatusResponse {
        status: Some(RuntimeStatus { conditions }),
        info,
        runtime_handlers,
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: false,
        }),
    }
}
