//! `/statusz` and `/flagz`: text for people, and JSON for who asks for one of its versions by name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// As upstream tells it; tools for people look for it.
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                       guarantees and is for debugging purposes only.";
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];

/// What a client wants to be told in.
#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    Json { version: &'static str },
}

impl Form {
    /// By the header `Accept`; nothing where none of what it names is to be had.
    pub fn asked(accept: Option<&str>, kind: &str) -> Option<Self> {
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Some(Self::Text) };
        accept.split(',').find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            match parts.next()? {
                "*/*" | "text/*" | "text/plain" => Some(Self::Text),
                "application/json" => {
                    let of: BTreeMap<&str, &str> = parts.filter_map(|pair| pair.split_once('=')).collect();
                    let version = VERSIONS.into_iter().find(|version| of.get("v") == Some(version))?;
                    (of.get("g") == Some(&"config.k8s.io") && of.get("as") == Some(&kind))
                        .then_some(Self::Json { version })
                }
                _ => None,
            }
        })
    }
}

/// What is told of a running program.
pub struct Status<'a> {
    pub name: &'a str,
    pub started: Timestamp,
    pub version: &'a str,
    pub paths: &'a [&'a str],
}

/// `1.36` of `1.36.0+corten`.
fn minor(version: &str) -> String {
    version.trim_start_matches('v').split('.').take(2).collect::<Vec<_>>().join(".")
}

pub fn status(told: &Status<'_>, now: Timestamp, form: &Form) -> String {
    let seconds = now.duration_since(told.started).as_secs().max(0);
    let version = told.version.trim_start_matches('v');
    match form {
        Form::Text => {
            let started = told.started.to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S UTC %Y");
            format!(
                "\n{} statusz\n{WARNING}\n\nStarted: {started}\nUp: {} hr {:02} min {:02} sec\nGo version: none\n\
                 Binary version: {version}\nEmulation version: {}\nPaths: {}\n",
                told.name,
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60,
                minor(version),
                told.paths.join(" ")
            )
        }
        Form::Json { version: of } => object(
            "Statusz",
            of,
            told.name,
            &json!({
                "startTime": told.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "uptimeSeconds": seconds,
                "goVersion": "none",
                "binaryVersion": version,
                "emulationVersion": minor(version),
                "paths": told.paths,
            }),
        ),
    }
}

pub fn flags(name: &str, flags: &BTreeMap<String, String>, form: &Form) -> String {
    match form {
        Form::Text => {
            let lines: String = flags.iter().map(|(flag, value)| format!("{flag}={value}\n")).collect();
            format!("\n{name} flagz\n{WARNING}\n\n{lines}")
        }
        Form::Json { version } => object("Flagz", version, name, &json!({"flags": flags})),
    }
}

fn object(kind: &str, version: &str, name: &str, fields: &Value) -> String {
    let mut object = json!({
        "kind": kind,
        "apiVersion": format!("config.k8s.io/{version}"),
        "metadata": {"name": name},
    });
    if let (Some(object), Some(fields)) = (object.as_object_mut(), fields.as_object()) {
        object.extend(fields.clone());
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |accept: Option<&str>, expected| {
            assert_eq!(Form::asked(accept, "Statusz"), expected, "{accept:?}");
        };
        check(None, Some(Form::Text));
        check(Some("text/html, */*"), Some(Form::Text));
        let named = Some("application/json;v=v1alpha1;g=config.k8s.io;as=Statusz");
        check(named, Some(Form::Json { version: "v1alpha1" }));
        assert_eq!(Form::asked(named, "Flagz"), None);
        check(Some("application/json"), None);
        check(Some("application/json;v=v9;g=config.k8s.io;as=Statusz"), None);
    }

    #[test]
    fn what_is_told() {
        let told = Status {
            name: "kube-scheduler",
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
            version: "v1.36.0+corten.1",
            paths: &["/healthz", "/metrics"],
        };
        let now = "2026-01-02T04:04:15Z".parse().unwrap();
        let text = status(&told, now, &Form::Text);
        for line in [
            "Started: Fri Jan  2 03:04:05 UTC 2026",
            "Up: 1 hr 00 min 10 sec",
            "Emulation version: 1.36",
            "Paths: /healthz /metrics",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
        let json: Value =
            serde_json::from_str(&status(&told, now, &Form::Json { version: "v1beta1" })).unwrap();
        assert_eq!(json["apiVersion"], "config.k8s.io/v1beta1");
        assert_eq!(
            (&json["uptimeSeconds"], &json["metadata"]["name"]),
            (&json!(3610), &json!("kube-scheduler"))
        );
        let given = BTreeMap::from([("secure-port".to_owned(), "10259".to_owned())]);
        assert!(flags("kube-scheduler", &given, &Form::Text).ends_with("\n\nsecure-port=10259\n"));
    }
}
