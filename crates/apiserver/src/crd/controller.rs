//! Follows the definitions: what is served, what they tell about themselves, what goes with them.
//!
//! One task, so that decisions about names are made one after the other. It wakes when a definition changes, and looks
//! at those that have.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use tracing::{error, warn};

use super::names::{self, Decision};
use super::{Definition, GROUP, PLURAL, finalize, normalize, status};
use crate::UserInfo;
use crate::authn::user::MASTERS;
use crate::cache::object::Object;
use crate::catalog::Catalog;
use crate::state::State;
use crate::write::Writer;
use crate::write::update::Change;

pub const MANAGER: &str = "kube-apiserver";
const RETRY: Duration = Duration::from_secs(1);

/// As whom this server changes definitions and their objects.
pub fn user() -> UserInfo {
    UserInfo::authenticated("system:apiserver", &[MASTERS])
}

/// What is known of the definitions.
#[derive(Default)]
struct Controller {
    known: AHashMap<String, Known>,
    /// Definitions (by uid) whose objects are being removed.
    finalizing: Arc<Mutex<AHashSet<String>>>,
}

struct Known {
    definition: Arc<Definition>,
    decision: Decision,
    /// Whether the stored status says it.
    told: bool,
}

/// Serves what is defined now, and follows it from then on.
pub(crate) async fn start(state: &Arc<State>) {
    let mut controller = Controller::default();
    controller.serve(state).await;
    tokio::spawn(follow(controller, Arc::downgrade(state)));
}

async fn follow(mut controller: Controller, state: Weak<State>) {
    let Some(strong) = state.upgrade() else { return };
    let mut changes = strong.caches.resource(GROUP, PLURAL).changes();
    drop(strong);
    loop {
        changes.mark_unchanged();
        let Some(strong) = state.upgrade() else { return };
        controller.serve(&strong).await;
        let done = controller.tell(&strong).await;
        controller.finalize(&strong);
        drop(strong);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !done => {}
        }
    }
}

impl Controller {
    /// Reads definitions that have changed, decides about names, and has the catalog serve the result.
    async fn serve(&mut self, state: &Arc<State>) {
        let cache = state.caches.resource(GROUP, PLURAL);
        let mut present = AHashSet::new();
        let mut changed: Vec<Arc<Object>> = Vec::new();
        cache.scan("", "", |object| {
            present.insert(object.name().to_owned());
            let known = self.known.get(object.name()).map(|known| known.definition.object.revision);
            if known != Some(object.revision) {
                changed.push(object.clone());
            }
            true
        });
        let gone: Vec<String> = self.known.keys().filter(|name| !present.contains(*name)).cloned().collect();
        if changed.is_empty() && gone.is_empty() {
            return;
        }
        let mut groups = AHashSet::new();
        // Who watches these is to look again: there are no more events, or they look different.
        let mut ended: Vec<Arc<Definition>> = Vec::new();
        for name in gone {
            if let Some(known) = self.known.remove(&name) {
                groups.insert(known.definition.group.clone());
                ended.push(known.definition);
            }
        }
        let mut altered = Vec::new();
        for object in changed {
            let before = self.known.remove(object.name());
            match Definition::read(&object, before.as_ref().map(|known| &*known.definition)) {
                Ok(definition) => {
                    groups.insert(definition.group.clone());
                    let same = before.as_ref().is_some_and(|known| {
                        known.definition.uid == definition.uid
                            && known.definition.specification == definition.specification
                    });
                    if !same {
                        altered.push(definition.name.clone());
                    }
                    ended.extend(before.filter(|_| !same).map(|before| before.definition));
                    self.add(definition);
                }
                Err(error) => {
                    error!(crd = object.name(), %error, "a definition cannot be read and is not served")
                }
            }
        }
        self.decide_again(&groups);
        for name in altered {
            if let Some(known) = self.known.get(&name).filter(|known| known.decision.is_established()) {
                normalize::run(&known.definition, &state.caches).await;
            }
        }
        let mut served: Vec<Arc<Definition>> = self
            .known
            .values()
            .filter(|known| known.decision.is_established())
            .map(|known| known.definition.clone())
            .collect();
        served.sort_by(|one, other| (&one.group, &one.name).cmp(&(&other.group, &other.name)));
        state.set_catalog(Catalog::with_custom(&served, &state.caches));
        for definition in ended {
            state.caches.resource(&definition.group, &definition.accepted.plural).end_watches();
        }
    }

    fn add(&mut self, mut definition: Definition) {
        let others: Vec<_> = self
            .known
            .values()
            .filter(|known| known.definition.group == definition.group)
            .map(|known| &known.decision.accepted)
            .collect();
        let decision = names::decide(&definition, &others);
        definition.accepted = decision.accepted.clone();
        let known = Known { definition: Arc::new(definition), decision, told: false };
        self.known.insert(known.definition.name.clone(), known);
    }

    /// Names that another definition has given up may be had now.
    fn decide_again(&mut self, groups: &AHashSet<String>) {
        let waiting: Vec<Arc<Object>> = self
            .known
            .values()
            .filter(|known| groups.contains(&known.definition.group) && known.decision.names.status != "True")
            .map(|known| known.definition.object.clone())
            .collect();
        for object in waiting {
            let before = self.known.remove(object.name());
            if let Ok(definition) = Definition::read(&object, before.as_ref().map(|known| &*known.definition))
            {
                self.add(definition);
            }
        }
    }

    /// Writes into each status what is not there yet. False when something has to be tried again.
    async fn tell(&mut self, state: &Arc<State>) -> bool {
        let mut done = true;
        for (name, known) in self.known.iter_mut().filter(|(_, known)| !known.told) {
            let decision = &known.decision;
            let told = change(state, name, "status", &|live: &Value| {
                let mut crd = live.clone();
                status::tell(&mut crd, decision);
                Ok(crd)
            })
            .await;
            match told {
                Ok(()) => known.told = true,
                Err(status) if status.is("NotFound") => known.told = true,
                Err(error) => {
                    warn!(crd = name, %error, "the status of a definition was not told");
                    done = false;
                }
            }
        }
        done
    }

    /// Removes the objects of definitions that are going.
    fn finalize(&self, state: &Arc<State>) {
        for known in self.known.values().filter(|known| known.definition.cleanup) {
            let definition = known.definition.clone();
            if !self.finalizing.lock().insert(definition.uid.clone()) {
                continue;
            }
            let (state, finalizing) = (state.clone(), self.finalizing.clone());
            tokio::spawn(async move {
                finalize::run(&state, &definition).await;
                finalizing.lock().remove(&definition.uid);
            });
        }
    }
}

/// Changes a definition, or its status.
pub async fn change(
    state: &Arc<State>,
    name: &str,
    subresource: &str,
    make: &(dyn Fn(&Value) -> Result<Value, Status> + Sync),
) -> Result<(), Status> {
    let catalog = state.catalog();
    let served = catalog.stored(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    let user = user();
    let warnings = Mutex::default();
    let writer = Writer { name, subresource, ..Writer::own(state, served, &user, MANAGER, &warnings) };
    writer.update(&Change { make, managed: false, whole: false }).await.map(drop)
}
