//! Selections of pods, as rules name them, and which of them a pod is in.

use std::collections::{HashMap, HashSet};

use api::selector::LabelSelector;

use super::intern::Interner;
use crate::pod::Labels;
use crate::policy::Selection;

/// A selection with everything that it depends on: equal ones are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Of this namespace, when there is no selector of namespaces.
    namespace: Option<String>,
    namespaces: String,
    pods: String,
}

impl Key {
    fn of(namespace: &str, selection: &Selection) -> Self {
        Self {
            namespace: selection.namespaces.is_none().then(|| namespace.to_owned()),
            namespaces: selection.namespaces.as_ref().map(canonical).unwrap_or_default(),
            pods: canonical(&selection.pods),
        }
    }
}

fn canonical(selector: &LabelSelector) -> String {
    if *selector == LabelSelector::nothing() {
        // No label has such a name.
        return "!".to_owned();
    }
    let mut requirements: Vec<String> = selector.requirements.iter().map(ToString::to_string).collect();
    requirements.sort_unstable();
    requirements.dedup();
    requirements.join(",")
}

#[derive(Default)]
pub(super) struct Selections {
    namespaces: HashMap<String, Labels>,
    numbers: Interner<Key>,
    used: HashMap<Key, (u32, usize)>,
    parsed: HashMap<u32, Selection>,
    /// The selections that pods of a namespace can be in, for those that were asked about.
    candidates: HashMap<String, Vec<u32>>,
}

impl Selections {
    /// Whether pods of the namespace may be in other selections now.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        let before = match labels {
            Some(labels) => {
                if self.namespaces.get(name) == Some(&labels) {
                    return false;
                }
                self.namespaces.insert(name.to_owned(), labels)
            }
            None => self.namespaces.remove(name),
        };
        let old = self.candidates.remove(name);
        // Most changes of namespaces are of no interest to any selection.
        before.is_none() || old.is_none() || old.as_ref() != Some(self.candidates_of(name))
    }

    /// One more user; gives the namespaces whose pods are to be looked at again.
    pub fn take(&mut self, namespace: &str, selection: &Selection) -> Vec<String> {
        let key = Key::of(namespace, selection);
        if let Some((_, users)) = self.used.get_mut(&key) {
            *users += 1;
            return Vec::new();
        }
        let number = self.numbers.take(key.clone());
        self.parsed.insert(number, selection.clone());
        self.used.insert(key.clone(), (number, 1));
        self.touch(&key, number)
    }

    /// One user less; gives the namespaces whose pods are to be looked at again.
    pub fn give_back(&mut self, namespace: &str, selection: &Selection) -> Vec<String> {
        let key = Key::of(namespace, selection);
        let Some((number, users)) = self.used.get_mut(&key) else { return Vec::new() };
        *users -= 1;
        let number = *number;
        if *users > 0 {
            return Vec::new();
        }
        let touched = self.touch(&key, number);
        self.used.remove(&key);
        self.parsed.remove(&number);
        self.numbers.give_back(number);
        touched
    }

    /// Numbers that were given back may be given again.
    pub fn finish(&mut self) {
        self.numbers.finish();
    }

    pub fn number(&self, namespace: &str, selection: &Selection) -> Option<u32> {
        self.used.get(&Key::of(namespace, selection)).map(|(number, _)| *number)
    }

    /// The namespaces that the selection is about.
    fn touch(&mut self, key: &Key, number: u32) -> Vec<String> {
        let touched: HashSet<String> = match (&key.namespace, self.parsed.get(&number)) {
            (Some(namespace), _) => HashSet::from([namespace.clone()]),
            (None, Some(Selection { namespaces: Some(selector), .. })) => {
                let matching = self.namespaces.iter().filter(|(_, labels)| selector.matches(*labels));
                matching.map(|(name, _)| name.clone()).collect()
            }
            (None, _) => HashSet::new(),
        };
        for namespace in &touched {
            self.candidates.remove(namespace);
        }
        touched.into_iter().collect()
    }

    /// The selections that a pod with these labels is in, sorted.
    pub fn of(&mut self, namespace: &str, labels: &Labels) -> Vec<u32> {
        self.candidates_of(namespace);
        let candidates = self.candidates.get(namespace).into_iter().flatten().copied();
        let parsed = &self.parsed;
        let selects = |number: &u32| parsed.get(number).is_some_and(|s| s.pods.matches(labels));
        candidates.filter(selects).collect()
    }

    fn candidates_of(&mut self, namespace: &str) -> &Vec<u32> {
        let (used, parsed, namespaces) = (&self.used, &self.parsed, &self.namespaces);
        self.candidates.entry(namespace.to_owned()).or_insert_with(|| {
            let labels = namespaces.get(namespace);
            let about = |(key, (number, _)): (&Key, &(u32, usize))| {
                let selector = parsed.get(number)?.namespaces.as_ref();
                let meant = match (&key.namespace, selector) {
                    (Some(own), _) => own == namespace,
                    (None, Some(selector)) => labels.is_some_and(|labels| selector.matches(labels)),
                    (None, None) => false,
                };
                meant.then_some(*number)
            };
            let mut numbers: Vec<u32> = used.iter().filter_map(about).collect();
            numbers.sort_unstable();
            numbers
        })
    }
}
