//! What is wrong with the fields of a JSON object, in the order in which Go's decoder comes upon it: clients compare
//! the list as a whole.
//!
//! Reads the body once more, which only an object with several faults needs.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::decode::{Path, pass_over_scalars};

/// Messages of duplicate and unknown fields of a typed object. Of an unknown field nothing more is told: neither that it
/// is there twice, nor what is within.
pub fn in_order(body: &[u8], duplicates: &[String], unknown: &[String]) -> Vec<String> {
    let within = |path: &str, outer: &str| {
        path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let duplicates: Vec<&String> =
        duplicates.iter().filter(|path| !unknown.iter().any(|outer| within(path, outer))).collect();
    let mut faults = Faults::default();
    faults.wanted.extend(duplicates.iter().map(|path| (path.as_str(), 2)));
    faults.wanted.extend(unknown.iter().map(|path| (path.as_str(), 1)));
    if faults.wanted.len() > 1 {
        // What was read once can be read again.
        let mut reader = serde_json::Deserializer::from_slice(body);
        let _ = Seed { path: &Path::Root, faults: &faults }.deserialize(&mut reader);
    }
    let mut told = faults.found.into_inner();
    let known: HashSet<String> = told.iter().cloned().collect();
    let all = duplicates.into_iter().map(|path| format!("duplicate field {path:?}"));
    let all = all.chain(unknown.iter().map(|path| format!("unknown field {path:?}")));
    told.extend(all.filter(|message| !known.contains(message)));
    told
}

#[derive(Default)]
struct Faults<'a> {
    /// By path, the how manieth time that a field is met is to be told: the first of an unknown one.
    wanted: HashMap<&'a str, u32>,
    seen: RefCell<HashMap<String, u32>>,
    found: RefCell<Vec<String>>,
}

impl Faults<'_> {
    fn met(&self, path: &Path<'_>) {
        let path = path.to_string();
        let Some(wanted) = self.wanted.get(path.as_str()) else { return };
        let mut seen = self.seen.borrow_mut();
        let times = seen.entry(path.clone()).or_default();
        *times += 1;
        if times == wanted {
            let what = if *wanted == 1 { "unknown" } else { "duplicate" };
            self.found.borrow_mut().push(format!("{what} field {path:?}"));
        }
    }
}

struct Seed<'a> {
    path: &'a Path<'a>,
    faults: &'a Faults<'a>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    pass_over_scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let path = Path::Index(self.path, index);
            if items.next_element_seed(Seed { path: &path, faults: self.faults })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            self.faults.met(&path);
            // All of them may have been found.
            if self.faults.found.borrow().len() == self.faults.wanted.len() {
                entries.next_value::<IgnoredAny>()?;
            } else {
                entries.next_value_seed(Seed { path: &path, faults: self.faults })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_as_they_come() {
        #[track_caller]
        fn check(body: &str, duplicates: &[&str], unknown: &[&str], want: &[&str]) {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            assert_eq!(in_order(body.as_bytes(), &owned(duplicates), &owned(unknown)), want);
        }
        check(
            r#"{"spec":{"unknown":1,"twice":1,"twice":2,"paused":true,"twice":3,"paused":false,
                "list":[{"image":"a","odd":{"x":1,"x":2},"image":"b"}],"unknown":2}}"#,
            &["spec.twice", "spec.paused", "spec.list[0].odd.x", "spec.list[0].image", "spec.unknown"],
            &["spec.list[0].odd", "spec.unknown"],
            &[
                r#"unknown field "spec.unknown""#,
                r#"duplicate field "spec.twice""#,
                r#"duplicate field "spec.paused""#,
                r#"unknown field "spec.list[0].odd""#,
                r#"duplicate field "spec.list[0].image""#,
            ],
        );
        check("{\"a\":1,\"a\":2}", &["a"], &[], &["duplicate field \"a\""]);
        check("{}", &[], &[], &[]);
        check("no JSON", &["b"], &["a"], &["duplicate field \"b\"", "unknown field \"a\""]);
    }
}
