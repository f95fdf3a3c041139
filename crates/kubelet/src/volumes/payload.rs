//! Volumes made of API objects: `configMap`, `secret`, `downwardAPI`, `projected`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, Volume, VolumeProjection,
};

use super::atomic::{File, Files};
use super::{Source, VolumeError, fs_group, token};
use crate::container::field::{Facts, field, resource};
use crate::pod::ext::PodExt;

const MODE: i32 = 0o644;

/// What messages call keys.
const CONFIG: &str = "config";
const SECRET: &str = "secret";

/// Upstream's directory name for the kind, the files, and when they have to be renewed.
pub type Payload = (&'static str, Files, Option<Timestamp>);

/// The files of the volume, if it is of one of these kinds.
pub async fn of(source: &Source<'_>, volume: &Volume) -> Result<Option<Payload>, VolumeError> {
    let mut files = Files::new();
    if let Some(map) = &volume.config_map {
        let mode = map.default_mode.unwrap_or(MODE);
        let data = config_map(source, &map.name, map.optional).await?;
        choose(CONFIG, &data, map.items.as_deref(), mode, map.optional, &mut files)?;
        return Ok(Some(("kubernetes.io~configmap", files, None)));
    }
    if let Some(secret) = &volume.secret {
        let mode = secret.default_mode.unwrap_or(MODE);
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let data = secret_data(source, name, secret.optional).await?;
        choose(SECRET, &data, secret.items.as_deref(), mode, secret.optional, &mut files)?;
        return Ok(Some(("kubernetes.io~secret", files, None)));
    }
    if let Some(downward) = &volume.downward_api {
        let mode = downward.default_mode.unwrap_or(MODE);
        downward_api(source, downward.items.as_deref().unwrap_or_default(), mode, &mut files)?;
        return Ok(Some(("kubernetes.io~downward-api", files, None)));
    }
    if let Some(projected) = &volume.projected {
        let refresh_at = project(source, projected, &mut files).await?;
        return Ok(Some(("kubernetes.io~projected", files, refresh_at)));
    }
    Ok(None)
}

async fn project(
    source: &Source<'_>,
    projected: &ProjectedVolumeSource,
    files: &mut Files,
) -> Result<Option<Timestamp>, VolumeError> {
    let mode = projected.default_mode.unwrap_or(MODE);
    let mut refresh_at = None;
    for part in projected.sources.iter().flatten() {
        let refresh = project_one(source, part, mode, files).await?;
        refresh_at = refresh_at.into_iter().chain(refresh).min();
    }
    Ok(refresh_at)
}

async fn project_one(
    source: &Source<'_>,
    part: &VolumeProjection,
    mode: i32,
    files: &mut Files,
) -> Result<Option<Timestamp>, VolumeError> {
    if let Some(map) = &part.config_map {
        let data = config_map(source, &map.name, map.optional).await?;
        choose(CONFIG, &data, map.items.as_deref(), mode, map.optional, files)?;
    }
    if let Some(secret) = &part.secret {
        let data = secret_data(source, &secret.name, secret.optional).await?;
        choose(SECRET, &data, secret.items.as_deref(), mode, secret.optional, files)?;
    }
    if let Some(downward) = &part.downward_api {
        downward_api(source, downward.items.as_deref().unwrap_or_default(), mode, files)?;
    }
    if part.cluster_trust_bundle.is_some() || part.pod_certificate.is_some() {
        return Err(VolumeError::Invalid(
            "the projected source is of a kind that this kubelet does not support".into(),
        ));
    }
    let Some(wanted) = &part.service_account_token else {
        return Ok(None);
    };
    let issued =
        token::request(source, wanted.audience.as_deref().unwrap_or_default(), wanted.expiration_seconds)
            .await?;
    let user = only_user(source);
    // Nobody but its user needs to read a token, where it is known who that is.
    let mode = if user.is_some() || fs_group(source.pod).is_some() { 0o600 } else { mode };
    let file = File { data: issued.token.into_bytes(), mode: bits(mode), uid: user };
    files.insert(wanted.path.clone(), file);
    Ok(Some(issued.refresh_at))
}

/// The user of all containers of the pod, if it is one and the same.
fn only_user(source: &Source<'_>) -> Option<u32> {
    let spec = source.pod.pod_spec();
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| crate::container::security::run_as_user(source.pod, container));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

type Data = BTreeMap<String, Vec<u8>>;

async fn config_map(source: &Source<'_>, name: &str, optional: Option<bool>) -> Result<Data, VolumeError> {
    let found = source.objects.config_map(name).await.map_err(VolumeError::Invalid)?;
    let Some(map) = found else {
        return absent("configmap", name, optional);
    };
    let mut data: Data =
        map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect();
    let binary = map.binary_data.iter().flatten();
    data.extend(binary.map(|(key, value)| (key.clone(), value.0.clone())));
    Ok(data)
}

async fn secret_data(source: &Source<'_>, name: &str, optional: Option<bool>) -> Result<Data, VolumeError> {
    let found = source.objects.secret(name).await.map_err(VolumeError::Invalid)?;
    let Some(secret) = found else {
        return absent("secret", name, optional);
    };
    let data = secret.data.iter().flatten();
    Ok(data.map(|(key, value)| (key.clone(), value.0.clone())).collect())
}

fn absent(resource: &str, name: &str, optional: Option<bool>) -> Result<Data, VolumeError> {
    match optional {
        Some(true) => Ok(Data::new()),
        _ => Err(VolumeError::Invalid(format!("{resource} {name:?} not found"))),
    }
}

/// All keys by their names, or those that `items` lists at the paths that it gives.
fn choose(
    what: &str,
    data: &Data,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: Option<bool>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let mut put = |path: &str, data: &[u8], mode: i32| {
        let file = File { data: data.to_vec(), mode: bits(mode), uid: None };
        files.insert(path.to_owned(), file);
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, value) in data {
            put(key, value, mode);
        }
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => put(&item.path, value, item.mode.unwrap_or(mode)),
            None if optional == Some(true) => {}
            None => {
                return Err(VolumeError::Invalid(format!(
                    "references non-existent {what} key: {}",
                    item.key
                )));
            }
        }
    }
    Ok(())
}

fn downward_api(
    source: &Source<'_>,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let facts = Facts {
        pod: source.pod,
        node_name: source.node_name,
        host_ips: source.host_ips,
        pod_ips: &[],
        allocatable: source.allocatable,
    };
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => field(&facts, &reference.field_path),
            (None, Some(reference)) => resource(&facts, None, reference),
            (None, None) => continue,
        };
        let text = text.map_err(|error| VolumeError::Invalid(error.to_string()))?;
        let file = File { data: text.into_bytes(), mode: bits(item.mode.unwrap_or(mode)), uid: None };
        files.insert(item.path.clone(), file);
    }
    Ok(())
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o7777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_keys_and_modes() {
        let data: Data = [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())].into();
        let item = |key: &str, mode| KeyToPath { key: key.into(), path: format!("p/{key}"), mode };
        let check = |items: Option<&[KeyToPath]>, optional, expected: Option<&[(&str, u32)]>| {
            let mut files = Files::new();
            let result = choose(CONFIG, &data, items, 0o644, optional, &mut files);
            let got: Vec<(&str, u32)> = files.iter().map(|(path, file)| (path.as_str(), file.mode)).collect();
            assert_eq!(result.ok().map(|()| got.as_slice()), expected);
        };
        check(None, None, Some(&[("a", 0o644), ("b", 0o644)]));
        check(Some(&[item("b", Some(0o400))]), None, Some(&[("p/b", 0o400)]));
        check(Some(&[item("c", None)]), None, None);
        check(Some(&[item("c", None)]), Some(true), Some(&[]));
    }
}
