//! AuthenticationConfiguration files: the issuers that are trusted, and who may be anonymous.

use std::sync::Arc;

use serde_json::Value;

use super::JwtIssuer;
use crate::admission::objects::items;

/// What is in force.
#[derive(Default)]
pub struct Settings {
    pub issuers: Vec<Arc<JwtIssuer>>,
    pub anonymous: Anonymous,
}

/// Which requests without credentials are `system:anonymous`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    All,
    #[default]
    None,
    /// Those of these paths.
    Paths(Vec<String>),
}

impl Anonymous {
    pub fn allows(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Paths(paths) => paths.iter().any(|allowed| allowed == path),
        }
    }
}

/// From the text of a file; `anonymous` holds where it says nothing of it, and `reserved` issuers are not allowed.
pub fn parse(text: &[u8], anonymous: bool, reserved: &[String]) -> Result<Settings, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    let config: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let version = config["apiVersion"].as_str().unwrap_or_default();
    let known = ["v1", "v1beta1", "v1alpha1"].map(|version| format!("apiserver.config.k8s.io/{version}"));
    if config["kind"].as_str() != Some("AuthenticationConfiguration")
        || !known.iter().any(|known| known == version)
    {
        return Err(format!(
            "{version:?} {} is not an AuthenticationConfiguration of apiserver.config.k8s.io",
            config["kind"]
        ));
    }
    let mut issuers: Vec<Arc<JwtIssuer>> = Vec::new();
    for (index, entry) in items(&config["jwt"]).enumerate() {
        let issuer = JwtIssuer::read(entry).map_err(|reason| format!("jwt[{index}].{reason}"))?;
        if reserved.contains(&issuer.url) {
            return Err(format!("jwt[{index}].issuer.url: is the issuer of this server's own tokens"));
        }
        if issuers.iter().any(|other| other.url == issuer.url) {
            return Err(format!("jwt[{index}].issuer.url: Duplicate value: {:?}", issuer.url));
        }
        issuers.push(Arc::new(issuer));
    }
    Ok(Settings { issuers, anonymous: who_is_anonymous(&config["anonymous"], anonymous)? })
}

fn who_is_anonymous(config: &Value, default: bool) -> Result<Anonymous, String> {
    let Some(enabled) = config["enabled"].as_bool() else {
        return Ok(if default { Anonymous::All } else { Anonymous::None });
    };
    let paths: Vec<String> = items(&config["conditions"])
        .map(|condition| {
            condition["path"].as_str().map(str::to_owned).ok_or("anonymous.conditions: path is required")
        })
        .collect::<Result<_, _>>()?;
    match (enabled, paths.is_empty()) {
        (false, false) => {
            Err("anonymous.conditions: enabled should be set to true when conditions are defined".to_owned())
        }
        (false, true) => Ok(Anonymous::None),
        (true, true) => Ok(Anonymous::All),
        (true, false) => Ok(Anonymous::Paths(paths)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let issuer = |url: &str| {
            format!(
                "- issuer: {{url: '{url}', audiences: [a]}}\n  claimMappings: {{username: {{claim: sub, prefix: ''}}}}\n"
            )
        };
        let file = |rest: &str| {
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{rest}")
        };
        let check = |text: String, expected: Result<(usize, Anonymous), &str>| match (
            parse(text.as_bytes(), true, &["https://own".to_owned()]),
            expected,
        ) {
            (Ok(settings), Ok(expected)) => {
                assert_eq!((settings.issuers.len(), settings.anonymous), expected, "{text}");
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}, not {part}"),
            (got, expected) => panic!("{:?}, not {expected:?}: {text}", got.err()),
        };
        let (a, b) = (issuer("https://a"), issuer("https://b"));
        check(file(""), Ok((0, Anonymous::All)));
        check(file(&format!("jwt:\n{a}{b}anonymous: {{enabled: false}}")), Ok((2, Anonymous::None)));
        check(
            file("anonymous: {enabled: true, conditions: [{path: /livez}]}"),
            Ok((0, Anonymous::Paths(vec!["/livez".to_owned()]))),
        );
        check(file("anonymous: {enabled: false, conditions: [{path: /livez}]}"), Err("conditions"));
        check(file(&format!("jwt:\n{a}{a}")), Err("Duplicate"));
        check(file(&format!("jwt:\n{}", issuer("https://own"))), Err("own tokens"));
        check(file(&format!("jwt:\n{}", issuer("http://a"))), Err("jwt[0].issuer.url"));
        check("apiVersion: v1\nkind: Config".to_owned(), Err("is not an"));
        check("{".to_owned(), Err(""));
    }
}
