//! Users by the tokens of a file: `token,name,uid,"group1,group2"` in each line. A legacy of upstream's.

use std::collections::HashMap;
use std::path::Path;

use super::UserInfo;
use super::remembered::key;

/// Users by the SHA-256 of their token, so that comparing takes the same time for all.
#[derive(Default)]
pub struct TokenFile(HashMap<[u8; 32], UserInfo>);

impl TokenFile {
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the token file {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|line| {
            format!("token file {}: line {line} is not token,name,uid[,groups]", path.display())
        })
    }

    /// The number of a bad line is the error.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields = fields(line);
            let [token, name, uid, rest @ ..] = &fields[..] else {
                return Err(number + 1);
            };
            if token.is_empty() || name.is_empty() {
                return Err(number + 1);
            }
            let groups: Vec<&str> = rest.first().map_or_else(Vec::new, |groups| {
                groups.split(',').map(str::trim).filter(|group| !group.is_empty()).collect()
            });
            let mut user = UserInfo::authenticated(name, &groups);
            user.uid.clone_from(uid);
            users.insert(key(token.as_bytes()), user);
        }
        Ok(Self(users))
    }

    pub fn user(&self, token: &str) -> Option<UserInfo> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&key(token.as_bytes())).cloned()
    }
}

/// The fields of a line, quoted or not.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field).trim().to_owned()),
            _ => field.push(character),
        }
    }
    fields.push(field.trim().to_owned());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let file = TokenFile::parse("abc,alice,1,\"dev, ops\"\n\n# none\nxyz,bob,2\n").expect("good lines");
        let alice = file.user("abc").expect("known");
        assert_eq!((alice.name.as_str(), alice.uid.as_str()), ("alice", "1"));
        assert_eq!(alice.groups, ["dev", "ops", "system:authenticated"]);
        assert!(file.user("xyz").is_some() && file.user("ab").is_none() && file.user("").is_none());
        assert_eq!(TokenFile::parse("abc,alice,1\nabc").err(), Some(2));
        assert_eq!(TokenFile::parse(",alice,1").err(), Some(1));
    }
}
