//! The pod network by CNI plugins: whatever `/etc/cni/net.d` says, carried out by the programs that it names.
//!
//! What was done for a pod is kept on disk with the configuration it was done by, so that it is undone in the same way
//! though the configuration has changed since, or this process has been killed in the middle.

mod config;
mod plugin;
mod result;

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, Result, disk};
use config::Network;
use plugin::Call;

/// The name of a pod's interface inside it.
const INTERFACE: &str = "eth0";
/// Plugins are asked for garbage collection from this version of the specification on.
const GC_SINCE: (u32, u32) = (1, 1);
const CHECK_SINCE: (u32, u32) = (0, 4);

pub struct Cni {
    conf_dir: PathBuf,
    bin_dirs: Vec<PathBuf>,
    /// A file for each pod that is attached, or was about to be.
    attached: PathBuf,
}

/// What plugins are told of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    pub id: String,
    /// Empty when it is gone.
    pub netns: String,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// By capability: port mappings, bandwidth, DNS and the like.
    pub capabilities: serde_json::Map<String, Value>,
}

/// One pod's attachment, as it is on disk.
#[derive(Serialize, Deserialize)]
struct Attachment {
    network: Network,
    pod: Pod,
    /// What the last plugin answered; null until then.
    result: Value,
}

impl Cni {
    pub fn open(conf_dir: PathBuf, bin_dirs: Vec<PathBuf>, attached: PathBuf) -> Result<Self> {
        disk::make_private_dir(&attached)?;
        Ok(Self { conf_dir, bin_dirs, attached })
    }

    /// Whether somebody has brought a configuration, be it a broken one.
    pub fn is_configured(&self) -> bool {
        !config::candidates(&self.conf_dir).is_empty()
    }

    /// Why pods cannot be attached now.
    pub fn problem(&self) -> Option<String> {
        let network = match self.network() {
            Ok(network) => network,
            Err(error) => return Some(error.to_string()),
        };
        let missing = network.plugins.iter().find_map(|p| plugin::find(&self.bin_dirs, &p.kind).err());
        missing.map(|error| error.to_string())
    }

    fn network(&self) -> Result<Network> {
        config::load(&self.conf_dir)
    }

    /// Attaches a pod; returns its addresses.
    pub async fn add(&self, pod: Pod) -> Result<Vec<IpAddr>> {
        let mut attachment = Attachment { network: self.network()?, pod, result: Value::Null };
        // Before anything is done, so that it can be undone.
        self.save(&attachment)?;
        for position in 0..attachment.network.plugins.len() {
            attachment.result = self.call("ADD", &attachment, position).await?;
        }
        let addresses = result::addresses(&attachment.result)
            .ok_or_else(|| Error::Cni(format!("network {:?} gave no address", attachment.network.name)))?;
        self.save(&attachment)?;
        Ok(addresses)
    }

    /// Detaches a pod; one that is not attached is fine.
    pub async fn del(&self, id: &str) -> Result<()> {
        let Some(mut attachment) = self.load(id)? else { return Ok(()) };
        if fs::metadata(&attachment.pod.netns).is_err() {
            attachment.pod.netns.clear();
        }
        for position in (0..attachment.network.plugins.len()).rev() {
            self.call("DEL", &attachment, position).await?;
        }
        let path = self.path(id);
        disk::ignore_missing(fs::remove_file(&path)).map_err(Error::io("remove", &path))
    }

    /// Whether what was done for a pod is still there, as its plugins see it.
    pub async fn check(&self, id: &str) -> Result<()> {
        let Some(attachment) = self.load(id)? else { return Ok(()) };
        if attachment.network.version() < CHECK_SINCE || attachment.network.disable_check {
            return Ok(());
        }
        for position in 0..attachment.network.plugins.len() {
            self.call("CHECK", &attachment, position).await?;
        }
        Ok(())
    }

    /// Detaches all but these, and tells plugins which there are, so that they find what they have leaked.
    pub async fn retain(&self, alive: &[&str]) -> Result<()> {
        let known = fs::read_dir(&self.attached).map_err(Error::io("list", &self.attached))?;
        let names = known.flatten().filter_map(|e| e.file_name().into_string().ok());
        for name in names {
            match name.strip_suffix(".json") {
                Some(id) if alive.contains(&id) => {}
                Some(id) => {
                    if let Err(error) = self.del(id).await {
                        tracing::warn!(sandbox = id, %error, "a pod that is gone stays attached");
                    }
                }
                None => {
                    let path = self.attached.join(&name);
                    disk::ignore_missing(fs::remove_file(&path)).map_err(Error::io("remove", &path))?;
                }
            }
        }
        let Ok(mut network) = self.network() else { return Ok(()) };
        if network.version() < GC_SINCE || network.disable_gc {
            return Ok(());
        }
        let valid: Vec<Value> =
            alive.iter().map(|id| json!({"containerID": id, "ifname": INTERFACE})).collect();
        for plugin in &mut network.plugins {
            plugin.set("cni.dev/valid-attachments", valid.clone().into());
        }
        let attachment = Attachment { network, pod: Pod::default(), result: Value::Null };
        for position in 0..attachment.network.plugins.len() {
            self.call("GC", &attachment, position).await?;
        }
        Ok(())
    }

    async fn call(&self, command: &str, attachment: &Attachment, position: usize) -> Result<Value> {
        let Attachment { network, pod, result } = attachment;
        let Some(plugin) = network.plugins.get(position) else { return Ok(Value::Null) };
        let call = Call {
            command,
            binary: plugin::find(&self.bin_dirs, &plugin.kind)?,
            pod,
            interface: INTERFACE,
            path: &self.bin_dirs,
            input: plugin.input(network, &pod.capabilities, result),
        };
        plugin::run(&call).await
    }

    fn path(&self, id: &str) -> PathBuf {
        self.attached.join(format!("{id}.json"))
    }

    fn save(&self, attachment: &Attachment) -> Result<()> {
        disk::save(&self.path(&attachment.pod.id), attachment)
    }

    fn load(&self, id: &str) -> Result<Option<Attachment>> {
        let path = self.path(id);
        if !path.exists() {
            return Ok(None);
        }
        disk::load(&path).map(Some)
    }
}
