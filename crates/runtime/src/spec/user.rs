//! Who a container's process is: the image's and the pod's wishes against the image's `/etc/passwd` and `/etc/group`.

use std::path::PathBuf;

use k8s_cri::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};
use serde::{Deserialize, Serialize};

use super::layers;
use crate::{Error, Result};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Further groups, sorted.
    pub groups: Vec<u32>,
    pub home: String,
}

/// The account files of an image.
#[derive(Debug, Default)]
pub struct Accounts {
    users: Vec<Account>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl User {
    pub fn add_groups(&mut self, groups: &[u32]) {
        self.groups.extend(groups);
        self.groups.sort_unstable();
        self.groups.dedup();
    }
}

impl Accounts {
    pub fn of_image(lowers: &[PathBuf]) -> Self {
        Self::parse(&layers::read(lowers, "/etc/passwd"), &layers::read(lowers, "/etc/group"))
    }

    /// Lines that make no sense are passed over, as libc does.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let f: Vec<&str> = line.split(':').collect();
            Some(Account {
                name: (*f.first()?).to_owned(),
                uid: f.get(2)?.parse().ok()?,
                gid: f.get(3)?.parse().ok()?,
                home: f.get(5).copied().unwrap_or_default().to_owned(),
            })
        });
        let groups = group.lines().filter_map(|line| {
            let f: Vec<&str> = line.split(':').collect();
            let members = f.get(3).copied().unwrap_or_default().split(',').filter(|m| !m.is_empty());
            Some(Group {
                name: (*f.first()?).to_owned(),
                gid: f.get(2)?.parse().ok()?,
                members: members.map(str::to_owned).collect(),
            })
        });
        Self { users: users.collect(), groups: groups.collect() }
    }

    /// The pod's wish, else the image's (`user[:group]`, by name or number), else root.
    pub fn resolve(&self, image_user: &str, context: Option<&LinuxContainerSecurityContext>) -> Result<User> {
        let default = LinuxContainerSecurityContext::default();
        let context = context.unwrap_or(&default);
        let wanted_user = match &context.run_as_user {
            Some(uid) => id(uid.value, "runAsUser")?.to_string(),
            None => context.run_as_username.clone(),
        };
        if context.run_as_user.is_some() && !context.run_as_username.is_empty() {
            return Err(Error::InvalidArgument("runAsUser and runAsUserName exclude each other".into()));
        }
        if wanted_user.is_empty() && context.run_as_group.is_some() {
            return Err(Error::InvalidArgument("runAsGroup is set without runAsUser".into()));
        }
        let (user, group) = if wanted_user.is_empty() {
            image_user.split_once(':').unwrap_or((image_user, ""))
        } else {
            (wanted_user.as_str(), "")
        };
        let account = self.account(user)?;
        let uid = account.map_or_else(|| user.parse().unwrap_or(0), |a| a.uid);
        let gid = match &context.run_as_group {
            Some(gid) => id(gid.value, "runAsGroup")?,
            None if !group.is_empty() => self.gid(group)?,
            None => account.map_or(0, |a| a.gid),
        };
        let mut groups: Vec<u32> = context
            .supplemental_groups
            .iter()
            .map(|g| id(*g, "supplementalGroups"))
            .collect::<Result<_>>()?;
        if context.supplemental_groups_policy() == SupplementalGroupsPolicy::Merge {
            let name = account.map(|a| a.name.as_str());
            let member = |g: &&Group| name.is_some_and(|name| g.members.iter().any(|m| m == name));
            groups.extend(self.groups.iter().filter(member).map(|g| g.gid));
        }
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        Ok(User { uid, gid, groups, home: account.map(|a| a.home.clone()).unwrap_or_default() })
    }

    fn account(&self, user: &str) -> Result<Option<&Account>> {
        let user = if user.is_empty() { "0" } else { user };
        match user.parse::<u32>() {
            Ok(uid) => Ok(self.users.iter().find(|a| a.uid == uid)),
            Err(_) => match self.users.iter().find(|a| a.name == user) {
                Some(account) => Ok(Some(account)),
                None => Err(Error::InvalidArgument(format!(
                    "unable to find user {user}: no matching entries in passwd file"
                ))),
            },
        }
    }

    fn gid(&self, group: &str) -> Result<u32> {
        match group.parse::<u32>() {
            Ok(gid) => Ok(gid),
            Err(_) => self.groups.iter().find(|g| g.name == group).map(|g| g.gid).ok_or_else(|| {
                Error::InvalidArgument(format!(
                    "unable to find group {group}: no matching entries in group file"
                ))
            }),
        }
    }
}

fn id(value: i64, field: &str) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|v| *v <= i32::MAX as u32)
        .ok_or_else(|| Error::InvalidArgument(format!("{field}: {value} is not a valid id")))
}

#[cfg(test)]
mod tests {
    use k8s_cri::v1::Int64Value;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:Web:/srv:/bin/false\nbroken\n:::\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:200:web,root\nstaff:x:300:web\n";

    fn check(
        image: &str,
        context: LinuxContainerSecurityContext,
        expected: Result<(u32, u32, &[u32], &str), &str>,
    ) {
        let user = Accounts::parse(PASSWD, GROUP).resolve(image, Some(&context));
        match (user, expected) {
            (Ok(user), Ok((uid, gid, groups, home))) => {
                assert_eq!(
                    (user.uid, user.gid, user.groups.as_slice(), user.home.as_str()),
                    (uid, gid, groups, home),
                    "{image}"
                );
            }
            (Err(e), Err(part)) => assert!(e.to_string().contains(part), "{e}"),
            (user, expected) => panic!("{image}: {user:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn users_and_groups() {
        let none = LinuxContainerSecurityContext::default;
        let as_user =
            |uid| LinuxContainerSecurityContext { run_as_user: Some(Int64Value { value: uid }), ..none() };
        check("", none(), Ok((0, 0, &[0, 200], "/root")));
        check("web", none(), Ok((101, 102, &[102, 200, 300], "/srv")));
        check("101", none(), Ok((101, 102, &[102, 200, 300], "/srv")));
        check("web:logs", none(), Ok((101, 200, &[200, 300], "/srv")));
        check("5000:6000", none(), Ok((5000, 6000, &[6000], "")));
        check("nobody-here", none(), Err("unable to find user nobody-here"));
        check("web:nogroup", none(), Err("unable to find group nogroup"));
        check("web", as_user(5000), Ok((5000, 0, &[0], "")));
        check("nobody-here", as_user(101), Ok((101, 102, &[102, 200, 300], "/srv")));
        check("", as_user(-1), Err("runAsUser"));
        let strict = LinuxContainerSecurityContext {
            supplemental_groups: vec![7],
            supplemental_groups_policy: SupplementalGroupsPolicy::Strict as i32,
            ..as_user(101)
        };
        check("", strict, Ok((101, 102, &[7, 102], "/srv")));
        let group =
            LinuxContainerSecurityContext { run_as_group: Some(Int64Value { value: 9 }), ..as_user(101) };
        check("", group, Ok((101, 9, &[9, 200, 300], "/srv")));
        let only = LinuxContainerSecurityContext { run_as_group: Some(Int64Value { value: 9 }), ..none() };
        check("web", only, Err("runAsGroup is set without runAsUser"));
    }
}
