//! What a path asks for.

use crate::discovery::{GROUP, VERSION};

/// One resource of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nodes,
    Pods,
}

impl Kind {
    fn of(plural: &str) -> Option<Self> {
        match plural {
            "nodes" => Some(Self::Nodes),
            "pods" => Some(Self::Pods),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetrics",
            Self::Pods => "PodMetrics",
        }
    }

    pub fn plural(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// The documents that say what is here.
    Group,
    Resources,
    OpenApiIndex,
    OpenApi,
    /// All of a kind, in one namespace or in all.
    List(Kind, Option<&'a str>),
    One(Kind, Option<&'a str>, &'a str),
}

impl<'a> Route<'a> {
    pub fn of(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            ["openapi", "v3"] => Some(Self::OpenApiIndex),
            ["openapi", "v3", "apis", GROUP, VERSION] => Some(Self::OpenApi),
            ["apis", GROUP] => Some(Self::Group),
            ["apis", GROUP, VERSION] => Some(Self::Resources),
            ["apis", GROUP, VERSION, plural] => Some(Self::List(Kind::of(plural)?, None)),
            ["apis", GROUP, VERSION, "nodes", name] => Some(Self::One(Kind::Nodes, None, name)),
            ["apis", GROUP, VERSION, "namespaces", namespace, "pods"] => {
                Some(Self::List(Kind::Pods, Some(namespace)))
            }
            ["apis", GROUP, VERSION, "namespaces", namespace, "pods", name] => {
                Some(Self::One(Kind::Pods, Some(namespace), name))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |path: &str, expected| assert_eq!(Route::of(path), expected, "{path}");
        check("/apis/metrics.k8s.io", Some(Route::Group));
        check("/apis/metrics.k8s.io/v1beta1", Some(Route::Resources));
        check("/apis/metrics.k8s.io/v1beta1/", Some(Route::Resources));
        check("/apis/metrics.k8s.io/v1beta1/nodes", Some(Route::List(Kind::Nodes, None)));
        check("/apis/metrics.k8s.io/v1beta1/nodes/a", Some(Route::One(Kind::Nodes, None, "a")));
        check("/apis/metrics.k8s.io/v1beta1/pods", Some(Route::List(Kind::Pods, None)));
        check("/apis/metrics.k8s.io/v1beta1/namespaces/n/pods", Some(Route::List(Kind::Pods, Some("n"))));
        check(
            "/apis/metrics.k8s.io/v1beta1/namespaces/n/pods/p",
            Some(Route::One(Kind::Pods, Some("n"), "p")),
        );
        check("/apis/metrics.k8s.io/v1beta1/namespaces/n/nodes", None);
        check("/apis/metrics.k8s.io/v1beta1/services", None);
        check("/apis/metrics.k8s.io/v1", None);
        check("/", None);
    }
}
