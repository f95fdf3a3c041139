//! The environment of a container.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, FileKeySelector, Pod};

use super::env_file;
use super::expand::expand;
use super::field::{self, Facts};
use crate::objects::PodObjects;
use crate::pod::ext::PodExt;
use crate::volumes;

/// A file of environment variables is not longer.
const ENV_FILE_MAX: u64 = 64 << 10;

/// What environments are made from, beside the container.
pub struct Sources<'a> {
    pub facts: &'a Facts<'a>,
    pub objects: &'a PodObjects,
    /// Where the pod's volumes are.
    pub volumes: &'a HashMap<String, PathBuf>,
}

/// The environment, in order. The error is the message of `CreateContainerConfigError`.
pub async fn environment(
    sources: &Sources<'_>,
    container: &Container,
    services: BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let mut from: BTreeMap<String, String> = BTreeMap::new();
    add_sources(container, sources.objects, &mut from).await?;
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => match lookup(sources, container, source).await? {
                Some(value) => value,
                None => continue,
            },
            (value, None) => {
                let text = value.as_deref().unwrap_or_default();
                expand(text, |name| {
                    let own = env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value);
                    own.or_else(|| from.get(name)).or_else(|| services.get(name)).cloned()
                })
            }
        };
        env.retain(|(known, _)| *known != variable.name);
        env.push((variable.name.clone(), value));
    }
    let named = |name: &String| env.iter().any(|(known, _)| known == name);
    let mut all: Vec<(String, String)> = Vec::new();
    all.extend(services.into_iter().filter(|(name, _)| !from.contains_key(name) && !named(name)));
    all.extend(from.into_iter().filter(|(name, _)| !named(name)));
    all.extend(env);
    Ok(all)
}

async fn add_sources(
    container: &Container,
    objects: &PodObjects,
    into: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            let optional = reference.optional == Some(true);
            match objects.config_map(&reference.name).await? {
                Some(map) => {
                    let data = map.data.iter().flatten();
                    into.extend(data.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
                }
                None if optional => {}
                None => return Err(absent("configmap", &reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            let optional = reference.optional == Some(true);
            match objects.secret(&reference.name).await? {
                Some(secret) => {
                    let data = secret.data.iter().flatten();
                    into.extend(data.map(|(key, value)| {
                        (format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned())
                    }));
                }
                None if optional => {}
                None => return Err(absent("secret", &reference.name)),
            }
        }
    }
    Ok(())
}

/// The value of `valueFrom`; nothing for something optional that is not there.
async fn lookup(
    sources: &Sources<'_>,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    let Sources { facts, objects, .. } = sources;
    if let Some(reference) = &source.file_key_ref {
        return from_file(sources, reference);
    }
    if let Some(reference) = &source.field_ref {
        return field::field(facts, &reference.field_path).map(Some).map_err(|error| error.to_string());
    }
    if let Some(reference) = &source.resource_field_ref {
        return field::resource(facts, Some(container), reference)
            .map(Some)
            .map_err(|error| error.to_string());
    }
    let pod = facts.pod;
    if let Some(reference) = &source.config_map_key_ref {
        let object = objects.config_map(&reference.name).await?;
        let there = object.is_some();
        let value = object.and_then(|map| map.data.as_ref()?.get(&reference.key).cloned());
        let optional = reference.optional == Some(true);
        return found(pod, "configmap", "ConfigMap", &reference.name, &reference.key, there, value, optional);
    }
    if let Some(reference) = &source.secret_key_ref {
        let object = objects.secret(&reference.name).await?;
        let there = object.is_some();
        let value = object.and_then(|secret| {
            let value = secret.data.as_ref()?.get(&reference.key)?;
            Some(String::from_utf8_lossy(&value.0).into_owned())
        });
        let optional = reference.optional == Some(true);
        return found(pod, "secret", "Secret", &reference.name, &reference.key, there, value, optional);
    }
    Err("invalid valueFrom: no source that this kubelet knows".into())
}

/// The containers that write the file are not trusted: no link of theirs leads out of the volume.
fn from_file(sources: &Sources<'_>, reference: &FileKeySelector) -> Result<Option<String>, String> {
    let optional = reference.optional == Some(true);
    let FileKeySelector { key, path, volume_name, .. } = reference;
    let volume = sources
        .volumes
        .get(volume_name)
        .ok_or_else(|| format!("cannot find the volume {volume_name:?} referenced by FileKeyRef"))?;
    let text = match tokio::task::block_in_place(|| volumes::read_inside(volume, path, ENV_FILE_MAX)) {
        Ok(Some(text)) => text,
        Ok(None) if optional => return Ok(None),
        Ok(None) => {
            return Err(format!("environment variable file {path:?} not found in volume {volume_name:?}"));
        }
        Err(error) => return Err(error.to_string()),
    };
    let value = env_file::value(&text, key)
        .map_err(|error| format!("couldn't parse env file {path:?} of volume {volume_name:?}: {error}"))?;
    match value {
        Some(value) => Ok(Some(value)),
        None if optional => Ok(None),
        None => Err(format!("environment variable key {key:?} not found in file {path:?}")),
    }
}

#[allow(clippy::too_many_arguments)] // One sentence's worth of words.
fn found(
    pod: &Pod,
    resource: &str,
    kind: &str,
    name: &str,
    key: &str,
    there: bool,
    value: Option<String>,
    optional: bool,
) -> Result<Option<String>, String> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional => Ok(None),
        None if there => Err(format!("couldn't find key {key} in {kind} {}/{name}", pod.namespace())),
        None => Err(absent(resource, name)),
    }
}

fn absent(resource: &str, name: &str) -> String {
    format!("{resource} {name:?} not found")
}
