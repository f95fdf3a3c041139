//! Kubernetes' URL library.

use std::collections::BTreeMap;

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::url::Url;
use crate::value::{Key, Map, Opaque, Text, Value};

pub(super) const LIBRARY: Library = &[
    (&["isURL(string) -> bool"], is_url),
    (&["url(string) -> URL"], url),
    (&["URL . getScheme() -> string"], scheme),
    (&["URL . getHost() -> string"], host),
    (&["URL . getHostname() -> string"], hostname),
    (&["URL . getPort() -> string"], port),
    (&["URL . getEscapedPath() -> string"], escaped_path),
    (&["URL . getQuery() -> map<string, list<string>>"], query),
];

fn is_url<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    budget.work(text.len())?;
    Ok(Value::Bool(Url::parse(text).is_some()))
}

fn url<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::String(text)] = arguments else { return mismatch() };
    budget.work(text.len().saturating_mul(2))?;
    match Url::parse(text) {
        Some(url) => Ok(Value::Opaque(Opaque::Url(url.into()))),
        None => {
            let shown: String = text.chars().take(200).collect();
            Err(EvalError::failed(format!(
                "URL parse error during conversion from string: parse {shown:?}: invalid URI for request"
            )))
        }
    }
}

fn part<'a>(arguments: &[Value<'a>], of: impl Fn(&Url) -> String) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Url(url))] = arguments else { return mismatch() };
    Ok(Value::string(of(url)))
}

fn scheme<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    part(arguments, |url| url.scheme.clone())
}

fn host<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    part(arguments, |url| url.host.clone())
}

fn hostname<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    part(arguments, |url| url.hostname().to_owned())
}

fn port<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    part(arguments, |url| url.port().to_owned())
}

fn escaped_path<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    if let [Value::Opaque(Opaque::Url(url))] = arguments {
        budget.work(url.path.len().saturating_mul(3))?;
    }
    part(arguments, Url::escaped_path)
}

fn query<'a>(arguments: &[Value<'a>], budget: &mut Budget) -> Evaluated<'a> {
    let [Value::Opaque(Opaque::Url(url))] = arguments else { return mismatch() };
    // Keys are looked for among those that are known already.
    let pairs = url.query.matches('&').count() + 1;
    budget.work(url.query.len().saturating_add(pairs.saturating_mul(pairs)))?;
    let mut entries = BTreeMap::new();
    for (key, values) in url.queries() {
        let values = values.into_iter().map(Value::string).collect();
        entries.insert(Key::String(Text::Shared(key.into())), Value::list(values));
    }
    Ok(Value::Map(Map::made(entries)))
}
