//! Static pods: manifests in a directory, run whatever the API server says, and shown there as mirror pods.
//!
//! [`follow`] reads the directory and reads it again whenever it changes (inotify). [`mirror`] keeps the copy in the
//! API: the node owns it, it is made anew when somebody deletes it, and it goes with the manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::pod::ext::PodExt;
use crate::watch_dir;

const SOURCE: &str = "kubernetes.io/config.source";
const HASH: &str = "kubernetes.io/config.hash";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// A manifest larger than this is not one.
const MANIFEST_MAX: u64 = 1 << 20;
const RETRY: Duration = Duration::from_secs(1);

/// By UID, which changes with the manifest.
pub type StaticPods = BTreeMap<String, Arc<Pod>>;

/// Whether the pod comes from a manifest on this node.
pub fn is_static(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .is_some_and(|annotations| annotations.contains_key(SOURCE) && !annotations.contains_key(MIRROR))
}

/// Tells of all static pods, at first and after each change, until `shutdown`.
pub async fn follow(ctx: Arc<Context>, pods: mpsc::UnboundedSender<StaticPods>, shutdown: CancellationToken) {
    let dir = ctx.options.config.static_pod_path.clone();
    if dir.as_os_str().is_empty() {
        return;
    }
    loop {
        let problem = tokio::select! {
            () = shutdown.cancelled() => return,
            result = follow_dir(&ctx, &dir, &pods) => match result {
                Ok(()) => return,
                Err(error) => error,
            },
        };
        warn!(path = %dir.display(), error = %problem, "cannot read static pods, trying again");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn follow_dir(
    ctx: &Context,
    dir: &Path,
    pods: &mpsc::UnboundedSender<StaticPods>,
) -> std::io::Result<()> {
    let mut changes = watch_dir::follow(dir.to_owned());
    loop {
        changes.mark_unchanged();
        if pods.send(read_dir(dir, &ctx.options.node_name)?).is_err() || changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn read_dir(dir: &Path, node_name: &str) -> std::io::Result<StaticPods> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut pods = StaticPods::new();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let meta = std::fs::metadata(&path);
        if hidden || !meta.is_ok_and(|meta| meta.is_file() && meta.len() <= MANIFEST_MAX) {
            continue;
        }
        match std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| parse(&text, node_name))
        {
            Ok(pod) => drop(pods.insert(pod.uid().to_owned(), Arc::new(pod))),
            // The others are not held up by it.
            Err(error) => warn!(path = %path.display(), error, "cannot use the manifest of a static pod"),
        }
    }
    Ok(pods)
}

/// A pod of this node out of a manifest. Its UID is made from its content.
fn parse(text: &str, node_name: &str) -> Result<Pod, String> {
    let mut pod: Pod = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).ok_or("it has no name")?;
    let spec = pod.spec.as_mut().ok_or("it has no spec")?;
    if spec.containers.is_empty() {
        return Err("it has no containers".into());
    }
    spec.node_name = Some(node_name.to_owned());
    // Nobody else defaults it.
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
    }
    let digest = Sha256::digest(format!("{node_name}\n{text}"));
    let uid: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let metadata = &mut pod.metadata;
    metadata.name = Some(format!("{name}-{node_name}"));
    metadata.namespace.get_or_insert_with(|| "default".into());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(SOURCE.into(), "file".into());
    annotations.insert(HASH.into(), uid.clone());
    metadata.uid = Some(uid);
    Ok(pod)
}

/// Makes sure that the API shows the pod; tries until it does.
pub async fn mirror(ctx: &Context, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), pod.namespace());
    loop {
        match try_mirror(ctx, &api, pod).await {
            Ok(()) => return,
            Err(error) => {
                warn!(pod = pod.full_name(), %error, "cannot make the mirror of a static pod, trying again")
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn try_mirror(ctx: &Context, api: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
    // From the cache: a node may not ask for a pod by name that is not there.
    if let Some(known) = ctx.pods.get(pod.namespace(), pod.name()) {
        let hash = known.metadata.annotations.as_ref().and_then(|annotations| annotations.get(MIRROR));
        if hash.map(String::as_str) == Some(pod.uid()) && known.deletion().is_none() {
            return Ok(());
        }
        // Of an earlier manifest.
        remove_mirror(ctx, pod).await?;
    }
    let node: Option<Arc<Node>> = ctx.node.get("", &ctx.options.node_name);
    let mut copy = pod.clone();
    copy.metadata.uid = None;
    copy.metadata.annotations.get_or_insert_default().insert(MIRROR.into(), pod.uid().to_owned());
    copy.metadata.owner_references = node.and_then(|node| node.metadata.uid.clone()).map(|uid| {
        vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: ctx.options.node_name.clone(),
            uid,
            controller: Some(true),
            ..Default::default()
        }]
    });
    copy.status = None;
    match api.create(&PostParams::default(), &copy).await {
        Ok(_) => {
            info!(pod = pod.name(), "the API shows a static pod");
            Ok(())
        }
        // One that the cache does not know yet is looked at the next time.
        Err(error) => Err(error),
    }
}

pub async fn remove_mirror(ctx: &Context, pod: &Pod) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), pod.namespace());
    let params = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    match api.delete(pod.name(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = parse(MANIFEST, "node").unwrap();
        assert_eq!((pod.name(), pod.namespace()), ("web-node", "default"));
        assert!(is_static(&pod));
        assert_eq!(parse(MANIFEST, "node").unwrap().uid(), pod.uid());
        assert_ne!(parse(&MANIFEST.replace("image: i", "image: j"), "node").unwrap().uid(), pod.uid());
    }

    #[test]
    fn a_bad_manifest_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.yaml", MANIFEST),
            ("b.yaml", "kind: ["),
            (".c.yaml", MANIFEST),
            ("d.yaml", "metadata: {name: x}"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(read_dir(dir.path(), "node").unwrap().len(), 1);
    }
}
