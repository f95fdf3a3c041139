//! What holds whatever happens.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Happening {
    Ends(usize, i32),
    Pass(i64),
    Probe(usize, Kind, bool),
    SandboxDies,
    Objects,
    Delete(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..4_usize, 0..2_i32).prop_map(|(slot, code)| Happening::Ends(slot, code)),
        (1..400_i64).prop_map(Happening::Pass),
        (
            0..4_usize,
            prop_oneof![Just(Kind::Startup), Just(Kind::Liveness), Just(Kind::Readiness)],
            any::<bool>()
        )
            .prop_map(|(slot, kind, ok)| Happening::Probe(slot, kind, ok)),
        Just(Happening::SandboxDies),
        Just(Happening::Objects),
        (0..60_i64).prop_map(Happening::Delete),
    ]
}

fn any_spec() -> impl Strategy<Value = Value> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    (policy, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(policy, init, sidecar, probes)| {
        let probe = if probes { json!({"exec": {"command": ["x"]}}) } else { Value::Null };
        let mut inits = Vec::new();
        if init {
            inits.push(json!({"name": "init"}));
        }
        if sidecar {
            inits.push(json!({"name": "sidecar", "restartPolicy": "Always", "startupProbe": probe}));
        }
        json!({"restartPolicy": policy, "initContainers": inits, "containers": [
            {"name": "a", "livenessProbe": probe, "readinessProbe": probe}, {"name": "b"}]})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens: counts only grow, nothing starts after the end has begun, and a deleted pod goes.
    #[test]
    fn invariants(spec in any_spec(), happenings in prop::collection::vec(happening(), 0..25)) {
        let mut sim = Sim::new(spec);
        sim.tick();
        let mut attempts: HashMap<String, i64> = HashMap::new();
        let mut deleted = false;
        // The first is harmless: what the start itself did is looked at with it.
        for happening in std::iter::once(Happening::Objects).chain(happenings) {
            match happening {
                Happening::Ends(index, code) => {
                    let slot = sim.machine.slots.get(index).filter(|slot| slot.running());
                    if let Some(name) = slot.map(|slot| slot.name.clone()) {
                        sim.ends(&name, code);
                    }
                }
                Happening::Pass(seconds) => sim.pass(seconds),
                Happening::Probe(index, kind, ok) => {
                    let slot = sim.machine.slots.get(index).filter(|slot| slot.running());
                    if let Some(name) = slot.map(|slot| slot.name.clone()) {
                        sim.probe(&name, kind, ok);
                    }
                }
                Happening::SandboxDies => {
                    if let Some(mut sandbox) = sim.machine.sandbox().cloned() {
                        sandbox.ready = false;
                        let mut view = PodView::default();
                        view.sandboxes.insert(sandbox.id.clone(), sandbox);
                        sim.input(Input::Runtime(view));
                    }
                }
                Happening::Objects => sim.input(Input::Objects),
                Happening::Delete(grace) => {
                    deleted = true;
                    sim.delete(grace);
                }
            }
            for word in sim.take() {
                if let Some((name, attempt)) = word.strip_prefix("start ").and_then(|rest| rest.split_once(' ')) {
                    prop_assert!(!deleted, "{word} after the deletion");
                    let attempt: i64 = attempt.parse().unwrap();
                    let before = attempts.insert(name.to_owned(), attempt).unwrap_or(-1);
                    prop_assert!(attempt > before, "{word} after attempt {before}");
                }
            }
            let main_ran = sim.machine.slots.iter().any(|slot| !slot.is_init() && slot.running());
            prop_assert!(!main_ran || sim.machine.initialized, "a container runs before initialization");
            prop_assert!(sim.machine.wake(sim.now).is_none_or(|at| at > sim.now));
        }
        sim.delete(0);
        prop_assert_eq!(sim.machine.stage, Stage::Removed);
        prop_assert!(!sim.machine.slots.iter().any(|slot| slot.running()));
    }
}
