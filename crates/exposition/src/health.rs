//! Health as load balancers and people ask for it: all checks of a root (`/readyz`) or one by its name, `?verbose` and
//! `?exclude=`; and what has come out so far, as metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parking_lot::Mutex;

use crate::{Page, float};

/// One thing that has to be well, and whether it is.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    pub name: &'static str,
    pub well: bool,
}

/// What somebody wants to know.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// The check that the path names; all of them where it names none.
    pub one: Option<&'a str>,
    pub excluded: Vec<&'a str>,
    pub verbose: bool,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    well: bool,
    success: u64,
    error: u64,
}

/// How checks have come out, by name and root.
#[derive(Default)]
pub struct Health(Mutex<BTreeMap<(&'static str, &'static str), Tally>>);

impl Health {
    /// Whether all is well that is asked for, and the page that says so; nothing where there is no such check.
    pub fn answer(&self, root: &'static str, checks: &[Check], asked: &Asked<'_>) -> Option<(bool, String)> {
        if let Some(one) = asked.one {
            let check = checks.iter().find(|check| check.name == one)?;
            self.tally(root, check);
            return Some(match check.well {
                true => (true, "ok".to_owned()),
                false => (false, format!("internal server error: {one} is not well\n")),
            });
        }
        let (mut told, mut all) = (String::new(), true);
        for check in checks {
            let name = check.name;
            // Writing to a string does not fail.
            let _ = if asked.excluded.contains(&name) {
                writeln!(told, "[+]{name} excluded: ok")
            } else {
                self.tally(root, check);
                all &= check.well;
                match check.well {
                    true => writeln!(told, "[+]{name} ok"),
                    false => writeln!(told, "[-]{name} failed: reason withheld"),
                }
            };
        }
        let unknown = asked.excluded.iter().filter(|name| !checks.iter().any(|check| check.name == **name));
        let unknown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
        if !unknown.is_empty() {
            let _ = writeln!(
                told,
                "warn: some health checks cannot be excluded: no matches for {}",
                unknown.join(", ")
            );
        }
        Some(match (all, asked.verbose) {
            (true, false) => (true, "ok".to_owned()),
            (true, true) => (true, format!("{told}{root} check passed\n")),
            (false, _) => (false, format!("{told}{root} check failed\n")),
        })
    }

    fn tally(&self, root: &'static str, check: &Check) {
        let mut tallies = self.0.lock();
        let tally = tallies.entry((check.name, root)).or_default();
        tally.well = check.well;
        *(if check.well { &mut tally.success } else { &mut tally.error }) += 1;
    }

    /// `/metrics/slis`: of checks that have been made.
    pub fn indicators(&self) -> Page {
        let tallies = self.0.lock();
        let mut page = Page::default();
        let name = "kubernetes_healthcheck";
        page.family(name, "gauge", "This metric records the result of a single healthcheck.");
        for ((check, root), tally) in &*tallies {
            page.sample(name, &[("name", check), ("type", root)], f64::from(u8::from(tally.well)));
        }
        let name = "kubernetes_healthchecks_total";
        page.family(name, "counter", "This metric records the results of all healthcheck.");
        for ((check, root), tally) in &*tallies {
            for (status, count) in [("error", tally.error), ("success", tally.success)] {
                if count > 0 {
                    let labels = [("name", *check), ("status", status), ("type", *root)];
                    page.sample(name, &labels, float(count));
                }
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_told_in_detail_to_who_asks() {
        let health = Health::default();
        let check = |asked: Asked<'_>, expected: Option<(bool, &str)>| {
            let checks = [Check { name: "ping", well: true }, Check { name: "informer-sync", well: false }];
            let told = health.answer("readyz", &checks, &asked);
            assert_eq!(told.as_ref().map(|(well, page)| (*well, page.as_str())), expected, "{asked:?}");
        };
        let failed = "[+]ping ok\n[-]informer-sync failed: reason withheld\nreadyz check failed\n";
        check(Asked::default(), Some((false, failed)));
        let excluded = |verbose| Asked { excluded: vec!["informer-sync", "x"], verbose, one: None };
        check(excluded(false), Some((true, "ok")));
        let told = "[+]ping ok\n[+]informer-sync excluded: ok\n\
                    warn: some health checks cannot be excluded: no matches for \"x\"\nreadyz check passed\n";
        check(excluded(true), Some((true, told)));
        let one = |name| Asked { one: Some(name), ..Asked::default() };
        check(one("ping"), Some((true, "ok")));
        check(one("informer-sync"), Some((false, "internal server error: informer-sync is not well\n")));
        check(one("other"), None);
        let told = health.indicators().text();
        for line in [
            r#"kubernetes_healthcheck{name="informer-sync",type="readyz"} 0"#,
            r#"kubernetes_healthchecks_total{name="informer-sync",status="error",type="readyz"} 2"#,
            r#"kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 4"#,
        ] {
            assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        }
    }
}
