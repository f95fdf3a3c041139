//! What this is a build of, as `/version`, `/metrics`, `/statusz` and node objects tell it.

use serde_json::{Value, json};

const MAJOR: &str = "1";
const MINOR: &str = "36";
/// The oldest version that an emulating server would still be compatible with.
const MIN_COMPATIBLE_MINOR: &str = "35";

/// The version of Kubernetes, and of Corten.
pub const GIT_VERSION: &str = concat!("v1.36.0+corten.", env!("CARGO_PKG_VERSION"));

const GIT_COMMIT: &str = match option_env!("CORTEN_GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
const BUILD_DATE: &str = match option_env!("CORTEN_BUILD_DATE") {
    Some(date) => date,
    None => "1970-01-01T00:00:00Z",
};
const PLATFORM: &str = if cfg!(target_arch = "x86_64") {
    "linux/amd64"
} else if cfg!(target_arch = "aarch64") {
    "linux/arm64"
} else {
    "linux"
};

/// Features that have a gate in this version and are told of in metrics: stage (none once it is released for good) and
/// whether it is on.
pub const FEATURES: &[(&str, &str, bool)] = &[
    ("AllAlpha", "ALPHA", false),
    ("AllBeta", "BETA", false),
    ("AnonymousAuthConfigurableEndpoints", "", true),
    ("CBORServingAndStorage", "ALPHA", false),
    ("ConsistentListFromCache", "", true),
    ("DynamicResourceAllocation", "", true),
    ("InPlacePodVerticalScaling", "", true),
    ("MutatingAdmissionPolicy", "", true),
    ("OrderedNamespaceDeletion", "", true),
    ("StructuredAuthenticationConfiguration", "", true),
    ("VolumeAttributesClass", "", true),
    ("WatchList", "BETA", true),
];

/// What `kubectl version` shows and clients decide on.
pub fn info() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": MIN_COMPATIBLE_MINOR,
        "gitVersion": GIT_VERSION,
        "gitCommit": GIT_COMMIT,
        "gitTreeState": "clean",
        "buildDate": BUILD_DATE,
        "goVersion": "none",
        "compiler": "rustc",
        "platform": PLATFORM,
    })
}

/// The labels of `kubernetes_build_info`.
pub const LABELS: [(&str, &str); 9] = [
    ("build_date", BUILD_DATE),
    ("compiler", "rustc"),
    ("git_commit", GIT_COMMIT),
    ("git_tree_state", "clean"),
    ("git_version", GIT_VERSION),
    ("go_version", "none"),
    ("major", MAJOR),
    ("minor", MINOR),
    ("platform", PLATFORM),
];
