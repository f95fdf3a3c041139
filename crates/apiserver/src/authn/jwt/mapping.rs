//! From the claims of a token to a user: claim mappings and validation rules, by name or by CEL.

use std::collections::BTreeMap;

use expressions::{Bindings, Budget, Environment, Program, Type, Value as Cel, budget};
use serde_json::{Value, json};

use super::JwtAuthnError;
use crate::UserInfo;
use crate::access_review::user_info;
use crate::admission::objects::items;
use crate::authn::CREDENTIAL_ID;

/// Where a part of the user comes from.
enum Source {
    Claim { name: String, prefix: String },
    Expression(Program),
}

struct Rule {
    program: Program,
    message: String,
}

/// What an issuer's configuration says of claims.
pub struct Mapping {
    username: Source,
    groups: Option<Source>,
    uid: Option<Source>,
    extra: Vec<(String, Program)>,
    required: Vec<(String, String)>,
    claim_rules: Vec<Rule>,
    user_rules: Vec<Rule>,
}

impl Mapping {
    /// From an entry of `jwt`. Errors name the field.
    pub fn read(config: &Value) -> Result<Self, String> {
        let claims = Environment::kubernetes().with("claims", Type::map(Type::String, Type::Dyn));
        let user = Environment::kubernetes().with("user", Type::Dyn);
        let mappings = &config["claimMappings"];
        let username = source(&mappings["username"], "claimMappings.username", true, &claims)?
            .ok_or("claimMappings.username: either claim or expression is required")?;
        let extra = items(&mappings["extra"])
            .map(|entry| {
                let key = entry["key"].as_str().unwrap_or_default();
                if !key.contains('/') || key.chars().any(char::is_uppercase) {
                    return Err(format!(
                        "claimMappings.extra: key {key:?} is not a lower-case, domain-prefixed path"
                    ));
                }
                let source = entry["valueExpression"].as_str().unwrap_or_default();
                let program = compiled(source, &claims, "claimMappings.extra.valueExpression")?;
                Ok((key.to_owned(), program))
            })
            .collect::<Result<_, String>>()?;
        let (mut required, mut claim_rules) = (Vec::new(), Vec::new());
        for rule in items(&config["claimValidationRules"]) {
            match (rule["claim"].as_str(), rule["expression"].as_str()) {
                (Some(claim), None) => {
                    let value = rule["requiredValue"].as_str().unwrap_or_default();
                    required.push((claim.to_owned(), value.to_owned()));
                }
                (None, Some(_)) => claim_rules.push(validation(rule, &claims, "claimValidationRules")?),
                _ => return Err("claimValidationRules: either claim or expression is required".to_owned()),
            }
        }
        let user_rules = items(&config["userValidationRules"])
            .map(|rule| validation(rule, &user, "userValidationRules"))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            username,
            groups: source(&mappings["groups"], "claimMappings.groups", true, &claims)?,
            uid: source(&mappings["uid"], "claimMappings.uid", false, &claims)?,
            extra,
            required,
            claim_rules,
            user_rules,
        })
    }

    /// The user of verified claims.
    pub fn user(&self, claims: &Value) -> Result<UserInfo, JwtAuthnError> {
        let refused = |reason: String| JwtAuthnError::Claims { reason };
        for (claim, wanted) in &self.required {
            if claims[claim.as_str()].as_str() != Some(wanted) {
                return Err(refused(format!("claim {claim:?} does not have its required value")));
            }
        }
        let mut budget = Budget::new(budget::PER_EXPRESSION, budget::TOTAL);
        hold(&self.claim_rules, "claims", claims, &mut budget)?;
        let name =
            self.username.strings(claims, &mut budget).map_err(|why| refused(format!("username: {why}")))?;
        let [name] = &name[..] else {
            return Err(refused("username: not one string".to_owned()));
        };
        if name.is_empty() {
            return Err(refused("username: it is empty".to_owned()));
        }
        let verified = &claims["email_verified"];
        if matches!(&self.username, Source::Claim { name, .. } if name == "email")
            && !verified.is_null()
            && verified != true
        {
            return Err(refused("username: the email address has not been verified".to_owned()));
        }
        let mut user = UserInfo { name: name.clone(), ..UserInfo::default() };
        if let Some(source) = &self.groups {
            user.groups =
                source.optional(claims, &mut budget).map_err(|why| refused(format!("groups: {why}")))?;
        }
        if let Some(source) = &self.uid {
            let uid = source.strings(claims, &mut budget).map_err(|why| refused(format!("uid: {why}")))?;
            user.uid = uid.into_iter().next().unwrap_or_default();
        }
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, program) in &self.extra {
            let values = evaluated(program, claims, &mut budget)
                .map_err(|why| refused(format!("extra {key:?}: {why}")))?;
            let values: Vec<String> = values.into_iter().filter(|value| !value.is_empty()).collect();
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
            extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        user.extra = extra;
        let mut shown = user_info(&user);
        for (field, empty) in [("uid", json!("")), ("groups", json!([])), ("extra", json!({}))] {
            if shown[field].is_null() {
                shown[field] = empty;
            }
        }
        hold(&self.user_rules, "user", &shown, &mut budget)?;
        user.add_authenticated();
        Ok(user)
    }
}

fn source(
    config: &Value,
    field: &str,
    prefixed: bool,
    environment: &Environment,
) -> Result<Option<Source>, String> {
    let text = |name: &str| config[name].as_str().filter(|text| !text.is_empty());
    match (text("claim"), text("expression")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(format!("{field}: claim and expression exclude each other")),
        (None, Some(_)) if config["prefix"].is_string() => {
            Err(format!("{field}: a prefix is for claims, not for expressions"))
        }
        (None, Some(source)) => Ok(Some(Source::Expression(compiled(source, environment, field)?))),
        (Some(_), None) if prefixed && !config["prefix"].is_string() => {
            Err(format!("{field}: prefix is required, \"\" for none"))
        }
        (Some(claim), None) => Ok(Some(Source::Claim {
            name: claim.to_owned(),
            prefix: config["prefix"].as_str().unwrap_or_default().to_owned(),
        })),
    }
}

fn compiled(source: &str, environment: &Environment, field: &str) -> Result<Program, String> {
    Program::compile(source, environment).map_err(|error| format!("{field}: {error}"))
}

fn validation(rule: &Value, environment: &Environment, field: &str) -> Result<Rule, String> {
    let source = rule["expression"].as_str().unwrap_or_default();
    let program = Program::compile_as(source, environment, &[Type::Bool])
        .map_err(|error| format!("{field}: {error}"))?;
    let message = rule["message"].as_str().map_or_else(|| source.to_owned(), str::to_owned);
    Ok(Rule { program, message })
}

fn hold(rules: &[Rule], variable: &str, value: &Value, budget: &mut Budget) -> Result<(), JwtAuthnError> {
    for rule in rules {
        let mut bindings = Bindings::new();
        bindings.set(variable, Cel::from_json(value));
        let held = rule.program.evaluate(&bindings, budget);
        match held {
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(_) => {
                return Err(JwtAuthnError::Claims {
                    reason: format!("validation expression failed: {}", rule.message),
                });
            }
            Err(error) => return Err(JwtAuthnError::Claims { reason: format!("{}: {error}", rule.message) }),
        }
    }
    Ok(())
}

fn evaluated(program: &Program, claims: &Value, budget: &mut Budget) -> Result<Vec<String>, String> {
    let mut bindings = Bindings::new();
    bindings.set("claims", Cel::from_json(claims));
    let value = program.evaluate(&bindings, budget).map_err(|error| error.to_string())?;
    strings(&value.to_json().map_err(|error| error.to_string())?)
}

/// One string or several, or nothing.
fn strings(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(all) => all
            .iter()
            .map(|one| one.as_str().map(str::to_owned).ok_or_else(|| "not a list of strings".to_owned()))
            .collect(),
        _ => Err("neither a string nor a list of strings".to_owned()),
    }
}

impl Source {
    fn strings(&self, claims: &Value, budget: &mut Budget) -> Result<Vec<String>, String> {
        match self {
            Self::Expression(program) => evaluated(program, claims, budget),
            Self::Claim { name, prefix } => {
                let claim = claims.get(name).ok_or_else(|| format!("there is no claim {name:?}"))?;
                Ok(strings(claim)?.into_iter().map(|text| format!("{prefix}{text}")).collect())
            }
        }
    }

    fn optional(&self, claims: &Value, budget: &mut Budget) -> Result<Vec<String>, String> {
        match self {
            Self::Claim { name, .. } if claims.get(name).is_none() => Ok(Vec::new()),
            _ => self.strings(claims, budget),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: Value, claims: Value, expected: Result<(&str, &[&str]), &str>) {
        let mapping = Mapping::read(&config).expect("a mapping");
        match (mapping.user(&claims), expected) {
            (Ok(user), Ok((name, groups))) => assert_eq!(
                (user.name.as_str(), &user.groups[..user.groups.len() - 1]),
                (name, &groups.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>()[..])
            ),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}, not {part}"),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn claims_become_users() {
        let plain = json!({"claimMappings": {
            "username": {"claim": "sub", "prefix": "x:"}, "groups": {"claim": "groups", "prefix": "g:"},
        }});
        check(plain.clone(), json!({"sub": "a", "groups": ["b", "c"]}), Ok(("x:a", &["g:b", "g:c"])));
        check(plain.clone(), json!({"sub": "a", "groups": "b"}), Ok(("x:a", &["g:b"])));
        check(plain.clone(), json!({"sub": "a"}), Ok(("x:a", &[])));
        check(plain.clone(), json!({"groups": []}), Err("no claim \"sub\""));
        check(plain, json!({"sub": {"x": 1}}), Err("neither a string"));
        let email = json!({"claimMappings": {"username": {"claim": "email", "prefix": ""}}});
        check(email.clone(), json!({"email": "a@b", "email_verified": true}), Ok(("a@b", &[])));
        check(email, json!({"email": "a@b", "email_verified": false}), Err("verified"));
        let cel = json!({
            "claimMappings": {
                "username": {"expression": "claims.name + ':oidc'"},
                "groups": {"expression": "claims.roles.split(',')"},
            },
            "claimValidationRules": [
                {"claim": "hd", "requiredValue": "example.com"},
                {"expression": "claims.level > 2", "message": "the level is too low"},
            ],
            "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
        });
        let claims = |name: &str, level: i64, hd: &str| json!({"name": name, "roles": "a,b", "level": level, "hd": hd});
        check(cel.clone(), claims("n", 3, "example.com"), Ok(("n:oidc", &["a", "b"])));
        check(cel.clone(), claims("n", 2, "example.com"), Err("the level is too low"));
        check(cel.clone(), claims("n", 3, "example.org"), Err("required value"));
        check(cel, claims("system:n", 3, "example.com"), Err("reserved"));
    }

    #[test]
    fn bad_configurations() {
        let check = |config: Value, part: &str| {
            let error = Mapping::read(&config).err().expect("refused");
            assert!(error.contains(part), "{error}, not {part}");
        };
        check(json!({}), "username");
        check(json!({"claimMappings": {"username": {"claim": "a"}}}), "prefix is required");
        check(json!({"claimMappings": {"username": {"claim": "a", "expression": "claims.a"}}}), "exclude");
        check(json!({"claimMappings": {"username": {"expression": "claims."}}}), "claimMappings.username");
        check(json!({"claimMappings": {"username": {"expression": "nothing"}}}), "claimMappings.username");
    }
}
