//! Names of API types: group and version, with a kind (what an object is) or a resource (what a URL says).

use std::fmt;
use std::str::FromStr;

/// An API group and a version of it. The legacy core group has the empty name: `v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    pub group: String,
    pub version: String,
}

impl GroupVersion {
    pub fn new(group: impl Into<String>, version: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into() }
    }

    pub fn with_kind(&self, kind: impl Into<String>) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: kind.into() }
    }

    pub fn with_resource(&self, resource: impl Into<String>) -> GroupVersionResource {
        GroupVersionResource {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: resource.into(),
        }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_group_version(f, &self.group, &self.version)
    }
}

/// An `apiVersion` with more than one slash or without a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected GroupVersion string: {0}")]
pub struct ParseGroupVersionError(pub String);

impl FromStr for GroupVersion {
    type Err = ParseGroupVersionError;

    /// Reads an `apiVersion`: `v1` or `apps/v1`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None if !text.is_empty() => Ok(Self::new("", text)),
            Some((group, version)) if !version.is_empty() && !version.contains('/') => {
                Ok(Self::new(group, version))
            }
            _ => Err(ParseGroupVersionError(text.to_owned())),
        }
    }
}

/// A type of object: what `apiVersion` and `kind` say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl GroupVersionKind {
    pub fn new(group: impl Into<String>, version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&self.group, &self.version)
    }

    /// `v1`, `apps/v1`: as objects say it.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    /// The type that an object claims to be; `None` where `apiVersion` or `kind` is missing or malformed.
    pub fn of(object: &serde_json::Value) -> Option<Self> {
        let kind = object.get("kind")?.as_str().filter(|kind| !kind.is_empty())?;
        let version: GroupVersion = object.get("apiVersion")?.as_str()?.parse().ok()?;
        Some(version.with_kind(kind))
    }
}

impl fmt::Display for GroupVersionKind {
    /// As upstream's logs and errors say it: `apps/v1, Kind=Deployment`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// A collection of objects: what a URL says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    pub group: String,
    pub version: String,
    pub resource: String,
}

impl GroupVersionResource {
    pub fn new(group: impl Into<String>, version: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&self.group, &self.version)
    }

    /// `pods`, `deployments.apps`: as errors name a resource.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

fn write_group_version(f: &mut fmt::Formatter<'_>, group: &str, version: &str) -> fmt::Result {
    if group.is_empty() { f.write_str(version) } else { write!(f, "{group}/{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions_are_read_and_written() {
        #[track_caller]
        fn check(text: &str, want: Option<(&str, &str)>) {
            let got = text.parse::<GroupVersion>().ok();
            assert_eq!(got, want.map(|(group, version)| GroupVersion::new(group, version)), "{text}");
            if let Some(got) = got {
                assert_eq!(got.to_string(), text);
            }
        }
        check("v1", Some(("", "v1")));
        check("apps/v1", Some(("apps", "v1")));
        check("rbac.authorization.k8s.io/v1", Some(("rbac.authorization.k8s.io", "v1")));
        check("", None);
        check("apps/", None);
        check("a/b/c", None);
    }

    #[test]
    fn objects_say_what_they_are() {
        let object = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        let gvk = GroupVersionKind::of(&object).unwrap();
        assert_eq!(gvk, GroupVersionKind::new("apps", "v1", "Deployment"));
        assert_eq!(gvk.to_string(), "apps/v1, Kind=Deployment");
        assert_eq!(GroupVersionKind::of(&serde_json::json!({"apiVersion": "v1"})), None);
        assert_eq!(GroupVersionKind::of(&serde_json::json!([])), None);
    }

    #[test]
    fn resources_are_named_with_their_group() {
        assert_eq!(GroupVersionResource::new("", "v1", "pods").group_resource(), "pods");
        assert_eq!(
            GroupVersionResource::new("apps", "v1", "deployments").group_resource(),
            "deployments.apps"
        );
    }
}
