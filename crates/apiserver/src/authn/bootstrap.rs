//! Bootstrap tokens, `<id>.<secret>`: with one a new node joins. They are Secrets in `kube-system`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::{AuthnError, UserInfo};
use crate::admission::objects::{Objects, SECRETS};

const NAME_PREFIX: &str = "bootstrap-token-";
const GROUP: &str = "system:bootstrappers";

/// A string in the form of a bootstrap token.
pub struct Token<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> Token<'a> {
    pub fn parse(token: &'a str) -> Option<Self> {
        let (id, secret) = token.split_once('.')?;
        let plain = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        (plain(id, 6) && plain(secret, 16)).then_some(Self { id, secret })
    }

    /// The user, if the Secret of that id agrees.
    pub fn user(&self, objects: &dyn Objects, now: Timestamp) -> Result<UserInfo, AuthnError> {
        let refuse = |reason| Err(AuthnError::Bootstrap { reason });
        let name = format!("{NAME_PREFIX}{}", self.id);
        let Some(secret) = objects.get(SECRETS, "kube-system", &name) else {
            return refuse("there is no such token");
        };
        if secret["type"].as_str() != Some("bootstrap.kubernetes.io/token")
            || secret["metadata"]["deletionTimestamp"].is_string()
        {
            return refuse("its secret is not a bootstrap token");
        }
        let data = |key: &str| field(&secret, key).unwrap_or_default();
        if data("token-id") != self.id || !same(data("token-secret").as_bytes(), self.secret.as_bytes()) {
            return refuse("the secret part is wrong");
        }
        let expiration = data("expiration");
        if !expiration.is_empty() && !expiration.parse::<Timestamp>().is_ok_and(|end| now < end) {
            return refuse("it has expired");
        }
        if data("usage-bootstrap-authentication") != "true" {
            return refuse("it is not meant for authentication");
        }
        let extra = data("auth-extra-groups");
        let mut groups = vec![GROUP];
        for group in extra.split(',').map(str::trim).filter(|group| !group.is_empty()) {
            if !is_bootstrap_group(group) {
                return refuse("its auth-extra-groups are not all below system:bootstrappers:");
            }
            groups.push(group);
        }
        Ok(UserInfo::authenticated(&format!("system:bootstrap:{}", self.id), &groups))
    }
}

fn field(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inside = |byte: u8| plain(byte) || byte == b':' || byte == b'-';
    let ends_plain = rest.bytes().next().is_some_and(plain) && rest.bytes().last().is_some_and(plain);
    ends_plain && rest.len() <= 256 && rest.bytes().all(inside)
}

/// Equality in a time that does not tell where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::objects::tests::Fixture;

    fn fixture(changes: &[(&str, &str)]) -> Fixture {
        let mut data: serde_json::Map<String, Value> = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ]
        .iter()
        .chain(changes)
        .map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value))))
        .collect();
        let kind = data.remove("type").map_or("bootstrap.kubernetes.io/token", |_| "Opaque");
        Fixture::new().add(
            SECRETS,
            json!({"metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"},
                   "type": kind, "data": data}),
        )
    }

    #[test]
    fn tokens() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let check = |token: &str, changes: &[(&str, &str)], expected: Result<&[&str], &str>| {
            let token = Token::parse(token).expect("in the form of a token");
            match (token.user(&fixture(changes), now), expected) {
                (Ok(user), Ok(groups)) => {
                    assert_eq!(user.name, "system:bootstrap:abcdef");
                    assert_eq!(user.groups, groups);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, expected) => panic!("{got:?}, not {expected:?}"),
            }
        };
        let good = "abcdef.0123456789abcdef";
        let groups: &[&str] = &["system:bootstrappers", "system:authenticated"];
        check(good, &[], Ok(groups));
        check("abcdef.0123456789abcdee", &[], Err("wrong"));
        check("abcdee.0123456789abcdef", &[], Err("no such"));
        check(good, &[("type", "x")], Err("not a bootstrap token"));
        check(good, &[("expiration", "2020-01-01T00:00:00Z")], Err("expired"));
        check(good, &[("expiration", "junk")], Err("expired"));
        check(good, &[("expiration", "2099-01-01T00:00:00Z")], Ok(groups));
        check(good, &[("usage-bootstrap-authentication", "false")], Err("not meant"));
        check(
            good,
            &[("auth-extra-groups", "system:bootstrappers:workers")],
            Ok(&["system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"]),
        );
        check(good, &[("auth-extra-groups", "system:masters")], Err("auth-extra-groups"));
    }

    #[test]
    fn only_the_exact_form_is_one() {
        let check = |token: &str, expected: bool| {
            assert_eq!(Token::parse(token).is_some(), expected, "{token}");
        };
        check("abcdef.0123456789abcdef", true);
        check("abcdeF.0123456789abcdef", false);
        check("abcde.0123456789abcdef", false);
        check("abcdef.0123456789abcdef0", false);
        check("abcdef0123456789abcdef", false);
        check("", false);
    }

    #[test]
    fn comparison() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"abc", b"ab"));
        assert!(same(b"", b""));
    }
}
