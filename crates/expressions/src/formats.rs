//! The named formats of Kubernetes' format library.

use api::validation::names;
use base64::Engine;

use crate::url::Url;

#[derive(Clone, Copy, Debug)]
pub struct NamedFormat {
    pub name: &'static str,
    check: fn(&str) -> Option<String>,
    /// How long the pattern is that the format stands for: what costs are estimated from.
    pub(crate) pattern: u64,
}

const fn format(name: &'static str, check: fn(&str) -> Option<String>, pattern: u64) -> NamedFormat {
    NamedFormat { name, check, pattern }
}

const FORMATS: [NamedFormat; 13] = [
    format("dns1123Label", names::dns1123_label, 30),
    format("dns1123Subdomain", names::dns1123_subdomain, 60),
    format("dns1035Label", names::dns1035_label, 30),
    format("qualifiedName", names::qualified_name, 60),
    format("dns1123LabelPrefix", |text| names::dns1123_label(&completed(text)), 30),
    format("dns1123SubdomainPrefix", |text| names::dns1123_subdomain(&completed(text)), 60),
    format("dns1035LabelPrefix", |text| names::dns1035_label(&completed(text)), 30),
    format("labelValue", names::label_value, 40),
    format("uri", uri, 1000),
    format("uuid", uuid, 80),
    format("byte", byte, 80),
    format("date", date, 200),
    format("datetime", date_time, 200),
];

impl PartialEq for NamedFormat {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl NamedFormat {
    pub fn named(name: &str) -> Option<Self> {
        FORMATS.into_iter().find(|format| format.name == name)
    }

    /// What is wrong with the text.
    pub fn problem(&self, text: &str) -> Option<String> {
        (self.check)(text)
    }
}

/// A prefix may end with a dash: something follows it.
fn completed(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(before) if !before.is_empty() => format!("{before}a"),
        _ => prefix.to_owned(),
    }
}

fn uri(text: &str) -> Option<String> {
    let shown: String = text.chars().take(200).collect();
    Url::parse(text).is_none().then(|| format!("parse {shown:?}: invalid URI for request"))
}

fn uuid(text: &str) -> Option<String> {
    let digits: Vec<usize> = text.split('-').map(str::len).collect();
    let shaped = digits == [8, 4, 4, 4, 12] || digits == [32];
    let plain = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    (!shaped || !plain).then(|| "does not match the UUID format".to_owned())
}

fn byte(text: &str) -> Option<String> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    (text.is_empty() || decoded.is_err()).then(|| "invalid base64".to_owned())
}

fn date(text: &str) -> Option<String> {
    let valid = text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok();
    (!valid).then(|| "invalid date".to_owned())
}

fn date_time(text: &str) -> Option<String> {
    crate::value::moment(text).is_none().then(|| "invalid datetime".to_owned())
}
