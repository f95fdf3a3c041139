//! All that the runtime knows of a container, as JSON.

use anyhow::Result;
use cri::v1::{ContainerStatusRequest, PodSandboxStatusRequest};
use serde_json::{Value, json};

use crate::{Ctr, told};

impl Ctr {
    pub async fn inspect(&mut self, wanted: &str) -> Result<String> {
        let container = self.find(wanted).await?;
        let request = ContainerStatusRequest { container_id: container.id, verbose: true };
        let answer = self.runtime.container_status(request).await.map_err(told)?.into_inner();
        let request = PodSandboxStatusRequest { pod_sandbox_id: container.pod_sandbox_id, verbose: true };
        let sandbox = self.runtime.pod_sandbox_status(request).await.map_err(told)?.into_inner();
        // What is JSON within a text is shown as what it is.
        let info = |info: std::collections::HashMap<String, String>| -> Value {
            info.into_iter()
                .map(|(key, text)| {
                    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                    (key, value)
                })
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let shown = json!({
            "status": answer.status, "info": info(answer.info),
            "sandbox": {"status": sandbox.status, "info": info(sandbox.info)},
        });
        Ok(format!("{}\n", serde_json::to_string_pretty(&shown)?))
    }
}
