//! Objects as they come: their text, of which only the head has been read.
//!
//! A watch of any kind is then the same code, compiled once, and what is known already need not be decoded again.

use std::borrow::Cow;
use std::sync::Arc;

use kube::Resource;
use kube::api::{ApiResource, ObjectMeta};
use kube::core::DynamicResourceScope;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

#[derive(Clone, Debug)]
pub struct Raw {
    /// Name, namespace and revision; no more of it is read.
    metadata: ObjectMeta,
    text: Arc<RawValue>,
}

#[derive(Deserialize)]
struct Head {
    metadata: Names,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Names {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl Raw {
    pub fn decode<K: DeserializeOwned>(&self) -> serde_json::Result<K> {
        serde_json::from_str(self.text.get())
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Head { metadata } = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            resource_version: metadata.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, text: text.into() })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use kube::api::{ObjectList, WatchEvent};

    use super::*;

    const OBJECT: &str = r#"{"metadata": {"name": "n", "namespace": "ns", "resourceVersion": "7", "labels": {"a": "b"}}, "data": {"k": "v"}}"#;

    fn check(raw: &Raw) {
        assert_eq!((raw.name_any().as_str(), raw.namespace().as_deref()), ("n", Some("ns")));
        assert_eq!(raw.resource_version().as_deref(), Some("7"));
        let whole: ConfigMap = raw.decode().unwrap();
        assert_eq!(whole.data.unwrap()["k"], "v");
        assert_eq!(whole.metadata.labels.unwrap()["a"], "b");
    }

    #[test]
    fn objects_of_lists_and_watches() {
        let list =
            format!(r#"{{"kind": "List", "apiVersion": "v1", "metadata": {{}}, "items": [{OBJECT}]}}"#);
        check(&serde_json::from_str::<ObjectList<Raw>>(&list).unwrap().items[0]);
        let event = format!(r#"{{"type": "ADDED", "object": {OBJECT}}}"#);
        let Ok(WatchEvent::Added(raw)) = serde_json::from_str(&event) else { panic!("{event}") };
        check(&raw);
    }

    #[test]
    fn what_is_no_object() {
        for text in ["{}", "7", r#"{"metadata": 7}"#] {
            assert!(serde_json::from_str::<Raw>(text).is_err(), "{text}");
        }
    }
}
