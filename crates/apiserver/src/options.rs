//! The options of a request: its query parameters and, for deletes, its body.

use api::field::{FieldErrors, Path};
use api::status::Status;
use http::HeaderMap;
use http::header::USER_AGENT;
use serde_json::Value;

use crate::request::query_pairs;

/// A duration as Go writes it: `300ms`, `1m30s`, `0`.
pub fn go_duration(text: &str) -> Option<std::time::Duration> {
    if text == "0" {
        return Some(std::time::Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    (!text.is_empty()).then(|| std::time::Duration::try_from_secs_f64(seconds).ok()).flatten()
}

/// Decoded query parameters; the first of a name counts.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = query_pairs(query.unwrap_or_default());
        Self(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// As upstream converts query parameters: everything but `false` and `0` means yes, also the bare name.
    pub fn flag(&self, name: &str) -> Option<bool> {
        let value = self.all(name).next()?;
        Some(!matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
                })
            })
            .transpose()
    }

    /// Whether a human reads the answer: who says so, or comes with a browser or with one of the usual tools.
    pub fn pretty(&self, headers: &HeaderMap) -> bool {
        let human = || {
            let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool))
        };
        self.flag("pretty").unwrap_or_else(human)
    }
}

/// `resourceVersionMatch`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    NotOlderThan,
    Exact,
}

const LIST: &str = "ListOptions";

/// Options of list and watch.
#[derive(Debug, Default)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: Option<u64>,
    pub version_match: Option<VersionMatch>,
    /// 0 for no limit.
    pub limit: usize,
    pub continue_token: Option<String>,
    pub timeout_seconds: Option<u64>,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let resource_version = query.get("resourceVersion").map(parse_version).transpose()?;
        let version_match = match query.get("resourceVersionMatch") {
            None => None,
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some("Exact") => Some(VersionMatch::Exact),
            Some(other) => {
                return Err(unsupported(LIST, "resourceVersionMatch", other, &["Exact", "NotOlderThan", ""]));
            }
        };
        let options = Self {
            label_selector: query.get("labelSelector").unwrap_or_default().to_owned(),
            field_selector: query.get("fieldSelector").unwrap_or_default().to_owned(),
            resource_version,
            version_match,
            // A negative limit is no limit, as upstream has it.
            limit: query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
            continue_token: query.get("continue").map(str::to_owned),
            timeout_seconds: query.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok()),
            allow_bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: query.flag("sendInitialEvents"),
        };
        options.check(watch)?;
        Ok(options)
    }

    fn check(&self, watch: bool) -> Result<(), Status> {
        if !watch {
            if self.send_initial_events.is_some() {
                return Err(forbidden(LIST, "sendInitialEvents", "sendInitialEvents is forbidden for list"));
            }
            if self.version_match.is_some() {
                if self.resource_version.is_none() {
                    return Err(forbidden(
                        LIST,
                        "resourceVersionMatch",
                        "resourceVersionMatch is forbidden unless resourceVersion is provided",
                    ));
                }
                if self.continue_token.is_some() {
                    return Err(forbidden(
                        LIST,
                        "resourceVersionMatch",
                        "resourceVersionMatch is forbidden when continue is provided",
                    ));
                }
                if self.version_match == Some(VersionMatch::Exact) && self.resource_version == Some(0) {
                    return Err(forbidden(
                        LIST,
                        "resourceVersionMatch",
                        "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                    ));
                }
            }
            if self.continue_token.is_some() && self.resource_version.is_some_and(|version| version > 0) {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            return Ok(());
        }
        match (self.send_initial_events, self.version_match) {
            (Some(_), None) => Err(forbidden(
                LIST,
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (Some(_), Some(VersionMatch::Exact)) => {
                Err(unsupported(LIST, "resourceVersionMatch", "Exact", &["NotOlderThan"]))
            }
            (None, Some(_)) => Err(forbidden(
                LIST,
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            _ => Ok(()),
        }
    }
}

/// Options of that kind whose `field` makes no sense, as `judge` says.
pub fn invalid(kind: &str, field: &str, judge: impl FnOnce(&Path<'_>, &mut FieldErrors)) -> Status {
    let mut errors = FieldErrors::new();
    judge(&Path::new(field), &mut errors);
    Status::invalid("meta.k8s.io", kind, "", &errors)
}

fn forbidden(kind: &str, field: &str, why: &str) -> Status {
    invalid(kind, field, |path, errors| errors.forbidden(path, why))
}

fn unsupported(kind: &str, field: &str, value: &str, supported: &[&str]) -> Status {
    invalid(kind, field, |path, errors| errors.not_supported(path, value, supported))
}

/// A number without a sign; what is wrong with it in the words of Go.
pub fn go_uint(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

/// A resourceVersion as clients send it.
pub fn parse_version(text: &str) -> Result<u64, Status> {
    go_uint(text).map_err(|why| {
        let mut errors = FieldErrors::new();
        errors.invalid(&Path::new("resourceVersion"), text, why);
        Status::invalid("", "", "", &errors)
    })
}

/// What to do about fields that the schema does not know and fields that are there twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
    /// Of server-side apply.
    pub force: Option<bool>,
}

impl WriteOptions {
    pub fn parse(query: &Query, kind: &str) -> Result<Self, Status> {
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(unsupported(kind, "fieldValidation", other, &["", "Ignore", "Strict", "Warn"]));
            }
        };
        let field_manager = query.get("fieldManager").map(str::to_owned);
        if let Some(manager) = &field_manager {
            check_manager(manager, kind)?;
        }
        Ok(Self {
            dry_run: dry_run(query.all("dryRun"), kind)?,
            field_manager,
            field_validation,
            force: query.flag("force"),
        })
    }

    /// As admission plugins see it.
    pub fn to_value(&self, kind: &str) -> Value {
        let mut options = serde_json::json!({"apiVersion": "meta.k8s.io/v1", "kind": kind});
        if self.dry_run {
            options["dryRun"] = serde_json::json!(["All"]);
        }
        if let Some(manager) = &self.field_manager {
            options["fieldManager"] = manager.as_str().into();
        }
        if let Some(force) = self.force {
            options["force"] = force.into();
        }
        options
    }
}

/// Short, and shown to people.
fn check_manager(manager: &str, kind: &str) -> Result<(), Status> {
    const MAX: usize = 128;
    let strange = manager.chars().enumerate().find(|(_, character)| character.is_control());
    if manager.len() <= MAX && strange.is_none() {
        return Ok(());
    }
    Err(invalid(kind, "fieldManager", |path, errors| {
        if manager.len() > MAX {
            errors.too_long(path, MAX);
        }
        if let Some((at, character)) = strange {
            let code = u32::from(character);
            errors.invalid(path, manager, format!("invalid character U+{code:04X} (at position {at})"));
        }
    }))
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, Status> {
    let mut dry = false;
    for value in values {
        match value {
            "All" => dry = true,
            "" => {}
            other => {
                return Err(unsupported(kind, "dryRun", other, &["All"]));
            }
        }
    }
    Ok(dry)
}

/// What becomes of the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// Options of delete and deletecollection.
#[derive(Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// From the body where there is one, else from the query.
    pub fn parse(query: &Query, body: Option<&Value>) -> Result<Self, Status> {
        const KIND: &str = "DeleteOptions";
        let (grace, policy, orphan, preconditions, dry) = match body {
            Some(body) => {
                if let Some(kind) = body["kind"].as_str()
                    && kind != KIND
                {
                    return Err(Status::bad_request(format!(
                        "the object provided is unrecognized (must be of type DeleteOptions): couldn't get version/kind; kind was {kind:?}"
                    )));
                }
                let dry = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
                (
                    body["gracePeriodSeconds"].as_i64(),
                    body["propagationPolicy"].as_str().map(str::to_owned),
                    body["orphanDependents"].as_bool(),
                    body["preconditions"].clone(),
                    dry_run(dry.chain(query.all("dryRun")), KIND)?,
                )
            }
            None => (
                query.number("gracePeriodSeconds")?,
                query.get("propagationPolicy").map(str::to_owned),
                query.flag("orphanDependents"),
                Value::Null,
                dry_run(query.all("dryRun"), KIND)?,
            ),
        };
        if policy.is_some() && orphan.is_some() {
            return Err(invalid(KIND, "propagationPolicy", |path, errors| {
                let given = policy.as_deref().unwrap_or_default();
                errors.invalid(path, given, "orphanDependents and deletionPropagation cannot be both set");
            }));
        }
        let propagation = match (policy.as_deref(), orphan) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some(""), _) | (None, None) => None,
            (Some(other), _) => {
                return Err(unsupported(
                    KIND,
                    "propagationPolicy",
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
            }
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            dry_run: dry,
            // Negative ones are treated as the shortest, as upstream does.
            grace_period_seconds: grace.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation,
            uid: text(&preconditions["uid"]),
            resource_version: text(&preconditions["resourceVersion"]),
        })
    }

    pub fn to_value(&self) -> Value {
        let mut options = serde_json::json!({"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions"});
        if self.dry_run {
            options["dryRun"] = serde_json::json!(["All"]);
        }
        if let Some(seconds) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn list_options() {
        #[track_caller]
        fn check(query: &str, watch: bool, code: Option<u16>) {
            let parsed = ListOptions::parse(&Query::parse(Some(query)), watch);
            assert_eq!(parsed.err().map(|status| status.code), code, "{query}");
        }
        check("", false, None);
        check("limit=5&resourceVersion=0", false, None);
        check("limit=x", false, Some(400));
        check("resourceVersion=x", false, Some(422));
        check("resourceVersionMatch=Exact", false, Some(422));
        check("resourceVersionMatch=Exact&resourceVersion=0", false, Some(422));
        check("resourceVersionMatch=Exact&resourceVersion=9", false, None);
        check("continue=abc&resourceVersion=9", false, Some(400));
        check("sendInitialEvents=true", true, Some(422));
        check("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true, None);
        check("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", false, Some(422));
    }

    #[test]
    fn delete_options() {
        #[track_caller]
        fn check(query: &str, body: Option<Value>, expected: Option<Option<Propagation>>) {
            let parsed = DeleteOptions::parse(&Query::parse(Some(query)), body.as_ref());
            assert_eq!(parsed.ok().map(|options| options.propagation), expected, "{query}");
        }
        check("", None, Some(None));
        check("propagationPolicy=Orphan", None, Some(Some(Propagation::Orphan)));
        check("orphanDependents=true", None, Some(Some(Propagation::Orphan)));
        check("", Some(json!({"propagationPolicy": "Foreground"})), Some(Some(Propagation::Foreground)));
        check("propagationPolicy=x", None, None);
        check("", Some(json!({"kind": "Pod"})), None);
        check("dryRun=some", None, None);
    }
}
