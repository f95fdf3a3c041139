//! Bringing a volume to a pod: attached, staged, published, and given to the pod's group.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Secret, SecretReference};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec};
use kube::Api;
use plugins::csi::node_service_capability::rpc::Type as Can;
use plugins::csi::{self as api, VolumeCapability};

use super::driver::Driver;
use super::saved::{Places, Saved, ephemeral_handle, places};
use super::{attach, request, unmount};
use crate::context::Context;
use crate::pod::ext::PodExt;
use crate::volumes::{Source, VolumeError, group_volume, is_mount_point, request_token};

/// How often a volume is published anew whose driver asks for that.
const REPUBLISH: SignedDuration = SignedDuration::from_secs(60);

/// A volume that a pod wants.
#[derive(Default)]
pub struct Wanted<'a> {
    pub driver: &'a str,
    /// Nothing for a volume that lives and dies with the pod.
    pub handle: Option<&'a str>,
    /// The name of the PersistentVolume, or of the pod's volume.
    pub spec_name: &'a str,
    pub fs_type: &'a str,
    pub attributes: Option<&'a BTreeMap<String, String>>,
    pub access_mode: Option<&'a str>,
    pub mount_options: &'a [String],
    pub read_only: bool,
    pub block: bool,
    pub stage_secret: Option<&'a SecretReference>,
    pub publish_secret: Option<SecretReference>,
}

type Result<T> = std::result::Result<T, VolumeError>;

fn invalid(message: impl Into<String>) -> VolumeError {
    VolumeError::Invalid(message.into())
}

/// Where the volume is for the pod, and when to call this again.
pub async fn mount(source: &Source<'_>, wanted: &Wanted<'_>) -> Result<(PathBuf, Option<Timestamp>)> {
    let ctx = source.ctx;
    let driver = ctx.csi.driver(wanted.driver).map_err(invalid)?;
    let spec = driver_spec(ctx, wanted.driver).await?;
    let handle = match wanted.handle {
        Some(handle) => handle.to_owned(),
        None => ephemeral_handle(source.pod.uid(), wanted.spec_name),
    };
    let mut saved = Saved {
        driver: wanted.driver.to_owned(),
        handle,
        spec_name: wanted.spec_name.to_owned(),
        node_name: ctx.options.node_name.clone(),
        attachment: String::new(),
        mode: if wanted.handle.is_some() { "Persistent" } else { "Ephemeral" }.to_owned(),
    };
    check_mode(&spec, &saved)?;
    let name = saved.unique_name();
    let mut publish_context = HashMap::new();
    if saved.is_persistent() {
        ctx.csi.begin_use(&name);
        if spec.attach_required.unwrap_or(true) {
            attach::told_in_use(ctx, &name).await.map_err(invalid)?;
            let attached =
                attach::wait_for(ctx, wanted.driver, &saved.handle, &name).await.map_err(invalid)?;
            saved.attachment = attached.name;
            publish_context = attached.publish_context;
        }
    }
    let lock = ctx.csi.lock(&name);
    let _one_at_a_time = lock.lock().await;
    let mounting = Mounting {
        places: places(&ctx.options.root_dir, source.pod.uid(), &saved, wanted.block),
        capability: capability(source, wanted, &driver, &spec),
        driver,
        spec,
        saved,
        publish_context,
    };
    let staged = mounting.stage(source, wanted).await?;
    let refresh_at = mounting.publish(source, wanted, staged).await?;
    Ok((mounting.places.target, refresh_at))
}

/// What the driver has said of itself in the API; nothing when it has not.
async fn driver_spec(ctx: &Context, name: &str) -> Result<CSIDriverSpec> {
    let api: Api<CSIDriver> = Api::all(ctx.client.clone());
    let known =
        api.get_opt(name).await.map_err(|error| invalid(format!("cannot read csidriver {name}: {error}")))?;
    Ok(known.map(|driver| driver.spec).unwrap_or_default())
}

fn check_mode(spec: &CSIDriverSpec, saved: &Saved) -> Result<()> {
    let modes = spec.volume_lifecycle_modes.as_deref().unwrap_or_default();
    let persistent = modes.is_empty() || modes.iter().any(|mode| mode == "Persistent");
    let supported =
        if saved.is_persistent() { persistent } else { modes.iter().any(|mode| mode == "Ephemeral") };
    if supported {
        return Ok(());
    }
    Err(invalid(format!(
        "volume mode {:?} not supported by driver {} (only supports {modes:?})",
        saved.mode, saved.driver
    )))
}

fn capability(
    source: &Source<'_>,
    wanted: &Wanted<'_>,
    driver: &Driver,
    spec: &CSIDriverSpec,
) -> VolumeCapability {
    let mode = request::access_mode(wanted.access_mode, driver.can(Can::SingleNodeMultiWriter));
    let group = crate::volumes::fs_group(source.pod)
        .filter(|_| driver.can(Can::VolumeMountGroup) && sets_group(wanted, spec));
    request::capability(mode, wanted.block, wanted.fs_type, wanted.mount_options, group)
}

fn sets_group(wanted: &Wanted<'_>, spec: &CSIDriverSpec) -> bool {
    let mode = wanted.access_mode.or(wanted.handle.is_none().then_some("ReadWriteOnce"));
    request::sets_group(spec.fs_group_policy.as_deref(), wanted.fs_type, mode)
}

struct Mounting {
    places: Places,
    capability: VolumeCapability,
    driver: Driver,
    spec: CSIDriverSpec,
    saved: Saved,
    publish_context: HashMap<String, String>,
}

impl Mounting {
    /// For the node, where the driver does that. Returns whether it does.
    async fn stage(&self, source: &Source<'_>, wanted: &Wanted<'_>) -> Result<bool> {
        if !self.saved.is_persistent() || !self.driver.can(Can::StageUnstageVolume) {
            return Ok(false);
        }
        let csi = &source.ctx.csi;
        let Places { stage, stage_dir, .. } = &self.places;
        if csi.staged.lock().contains(stage) {
            return Ok(true);
        }
        self.saved.write(stage_dir)?;
        make_dir(stage)?;
        let request = api::NodeStageVolumeRequest {
            volume_id: self.saved.handle.clone(),
            publish_context: self.publish_context.clone(),
            staging_target_path: stage.display().to_string(),
            volume_capability: Some(self.capability.clone()),
            secrets: secrets(source.ctx, wanted.stage_secret).await?,
            volume_context: attributes(wanted),
        };
        self.driver
            .stage(request)
            .await
            .map_err(|error| invalid(format!("MountVolume.MountDevice failed: {error}")))?;
        csi.staged.lock().insert(stage.clone());
        Ok(true)
    }

    async fn publish(
        &self,
        source: &Source<'_>,
        wanted: &Wanted<'_>,
        staged: bool,
    ) -> Result<Option<Timestamp>> {
        let Places { target, pod_dir, stage, .. } = &self.places;
        let again = self.spec.requires_republish == Some(true);
        let refresh_at = || again.then(|| Timestamp::now().checked_add(REPUBLISH).ok()).flatten();
        let csi = &source.ctx.csi;
        let known = csi.staged.lock().contains(target)
            || (Saved::read(pod_dir).as_ref() == Some(&self.saved) && is_mount_point(target));
        if known && !again {
            return Ok(None);
        }
        self.saved.write(pod_dir)?;
        if let Some(parent) = target.parent() {
            make_dir(parent)?;
        }
        let mut volume_context = attributes(wanted);
        if self.spec.pod_info_on_mount == Some(true) {
            volume_context.extend(request::pod_info(source.pod, !self.saved.is_persistent()));
        }
        let mut secrets = secrets(source.ctx, wanted.publish_secret.as_ref()).await?;
        if let Some(tokens) = self.tokens(source).await? {
            let in_secrets = self.spec.service_account_token_in_secrets == Some(true);
            let map = if in_secrets { &mut secrets } else { &mut volume_context };
            map.insert("csi.storage.k8s.io/serviceAccount.tokens".into(), tokens);
        }
        let request = api::NodePublishVolumeRequest {
            volume_id: self.saved.handle.clone(),
            publish_context: self.publish_context.clone(),
            staging_target_path: if staged { stage.display().to_string() } else { String::new() },
            target_path: target.display().to_string(),
            volume_capability: Some(self.capability.clone()),
            readonly: wanted.read_only,
            secrets,
            volume_context,
        };
        if let Err(error) = self.driver.publish(request).await {
            if !known {
                // It may have happened all the same; what is saved has it taken back with the pod.
                unmount::forget_if_absent(&self.places);
            }
            return Err(invalid(error));
        }
        csi.staged.lock().insert(target.clone());
        if !known && !wanted.block && !wanted.read_only {
            self.give_to_group(source, wanted, target)?;
        }
        Ok(refresh_at())
    }

    fn give_to_group(&self, source: &Source<'_>, wanted: &Wanted<'_>, target: &Path) -> Result<()> {
        if self.driver.can(Can::VolumeMountGroup) || !sets_group(wanted, &self.spec) {
            return Ok(());
        }
        tokio::task::block_in_place(|| group_volume(source.pod, target))
    }

    /// `tokenRequests`, as one JSON text.
    async fn tokens(&self, source: &Source<'_>) -> Result<Option<String>> {
        let requests = self.spec.token_requests.as_deref().unwrap_or_default();
        if requests.is_empty() {
            return Ok(None);
        }
        let mut tokens = serde_json::Map::new();
        for request in requests {
            let issued = request_token(source, &request.audience, request.expiration_seconds).await?;
            let token = serde_json::json!({"token": issued.token, "expirationTimestamp": issued.expires_at});
            tokens.insert(request.audience.clone(), token);
        }
        Ok(Some(serde_json::Value::Object(tokens).to_string()))
    }
}

fn attributes(wanted: &Wanted<'_>) -> HashMap<String, String> {
    wanted.attributes.cloned().unwrap_or_default().into_iter().collect()
}

fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(dir);
    made.map_err(|error| VolumeError::io("create", dir, error))
}

pub async fn secrets(ctx: &Context, reference: Option<&SecretReference>) -> Result<HashMap<String, String>> {
    let Some(reference) = reference else { return Ok(HashMap::new()) };
    let name = reference.name.as_deref().unwrap_or_default();
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let secret = api
        .get(name)
        .await
        .map_err(|error| invalid(format!("cannot read secret {namespace}/{name}: {error}")))?;
    let data = secret.data.unwrap_or_default();
    Ok(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
}
