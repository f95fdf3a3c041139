//! Devices: which are found for whose claims.

use super::*;

fn offer(core: &mut Core, node: &str, devices: Value) {
    let slice = json!({"metadata": {"name": format!("{node}-slice")}, "spec": {"driver": "gpu.example.com", "nodeName": node,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}, "devices": devices}});
    core.cluster.devices.slice_changed(&added(slice));
}

fn claim(core: &mut Core, name: &str, devices: Value) {
    let claim =
        json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": {"devices": devices}});
    core.cluster.devices.claim_changed(&added(claim));
}

fn claiming(names: &[&str]) -> Value {
    json!({"resourceClaims": names.iter().map(|name| json!({"name": name, "resourceClaimName": name})).collect::<Vec<_>>()})
}

#[test]
fn devices_hold_pods_to_their_nodes() {
    let mut two = cluster(&[node("a1", json!({})), node("b1", json!({}))], &[]);
    let device = |name: &str, model: &str, memory: &str| {
        json!({"name": name, "attributes": {"model": {"string": model}, "numa": {"int": 0}, "version": {"version": "1.2.3"}},
            "capacity": {"memory": {"value": memory}}})
    };
    offer(&mut two, "a1", json!([device("d0", "old", "8Gi")]));
    offer(&mut two, "b1", json!([device("d0", "new", "16Gi"), device("d1", "new", "32Gi")]));
    let class = |name: &str, expression: &str| {
        added(
            json!({"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}),
        )
    };
    two.cluster.devices.class_changed(&class("gpu", "device.driver == 'gpu.example.com'"));
    let request = |exactly: Value| json!({"requests": [{"name": "r", "exactly": exactly}]});
    let selecting = |expression: &str| {
        request(json!({"deviceClassName": "gpu", "selectors": [{"cel": {"expression": expression}}]}))
    };
    let domain = "gpu.example.com";
    claim(&mut two, "new", selecting(&format!("device.attributes['{domain}'].model == 'new'")));
    claim(&mut two, "old", selecting(&format!("device.attributes['{domain}'].model == 'old'")));
    claim(
        &mut two,
        "large",
        selecting(&format!("device.capacity['{domain}'].memory.compareTo(quantity('20Gi')) > 0")),
    );
    claim(
        &mut two,
        "recent",
        selecting(&format!("device.attributes['{domain}'].version.isGreaterThan(semver('2.0.0'))")),
    );
    claim(&mut two, "three", request(json!({"deviceClassName": "gpu", "count": 3})));
    claim(&mut two, "classless", request(json!({"deviceClassName": "none"})));
    claim(&mut two, "all", request(json!({"deviceClassName": "gpu", "allocationMode": "All"})));
    let either = json!([{"name": "many", "deviceClassName": "gpu", "count": 3}, {"name": "few", "deviceClassName": "gpu", "count": 2}]);
    claim(&mut two, "either", json!({"requests": [{"name": "r", "firstAvailable": either}]}));
    check(&mut two, claiming(&["new"]), "b1");
    check(&mut two, claiming(&["old"]), "a1");
    let refused = |core: &mut Core, names: &[&str], expected: &str| {
        let message = place(core, &pod("new", claiming(names))).unwrap_err();
        assert!(message.contains(expected), "{message}");
    };
    refused(&mut two, &["old", "new"], "2 cannot allocate all claims");
    refused(&mut two, &["recent"], "2 cannot allocate all claims");
    refused(&mut two, &["three"], "2 cannot allocate all claims");
    refused(&mut two, &["classless"], "device class none does not exist");
    refused(&mut two, &["nowhere"], "resourceclaim \"nowhere\" not found");
    let assigned = |core: &mut Core, names: &[&str]| match decide(core, &pod("new", claiming(names))) {
        Decision::Bind(assignment) => assignment,
        decision => panic!("{decision:?}"),
    };
    let devices = |assignment: &crate::core::Assignment| {
        let allocations = assignment.devices.allocations.values();
        let results = allocations.flat_map(|allocation| allocation.devices.clone().unwrap().results.unwrap());
        let mut names: Vec<_> =
            results.map(|result| format!("{}:{}/{}", result.request, result.pool, result.device)).collect();
        names.sort();
        names
    };
    let first = assigned(&mut two, &["either"]);
    assert_eq!(devices(&first), ["r/few:b1/d0", "r/few:b1/d1"]);
    refused(&mut two, &["new"], "2 cannot allocate all claims");
    two.unbound(first, Instant::now());
    let first = assigned(&mut two, &["large"]);
    assert_eq!(devices(&first), ["r:b1/d1"]);
    let second = assigned(&mut two, &["new"]);
    assert_eq!(devices(&second), ["r:b1/d0"], "what was just given is taken");
    // The watch tells what was decided, and that a claim is free again.
    let allocated = json!({"metadata": {"namespace": "ns", "name": "large", "uid": "large"}, "spec": {},
        "status": {"allocation": first.devices.allocations.values().next().unwrap()}});
    two.cluster.devices.claim_changed(&added(allocated));
    check(&mut two, claiming(&["large"]), "b1");
    check(&mut two, claiming(&["all"]), "a1");
    claim(&mut two, "large", selecting("true"));
    two.unbound(second, Instant::now());
    let tainted = json!([{"name": "d0", "taints": [{"key": "k", "effect": "NoSchedule"}]}]);
    offer(&mut two, "a1", tainted);
    offer(&mut two, "b1", json!([]));
    refused(&mut two, &["large"], "2 cannot allocate all claims");
    claim(
        &mut two,
        "tolerant",
        request(json!({"deviceClassName": "gpu", "tolerations": [{"operator": "Exists"}]})),
    );
    check(&mut two, claiming(&["tolerant"]), "a1");
}

#[test]
fn a_pod_waits_until_its_claim_is_made() {
    let now = Instant::now();
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    let wanting = pod("new", json!({"resourceClaims": [{"name": "g", "resourceClaimTemplateName": "t"}]}));
    one.pod_changed(&Delta::Added(wanting.pod.clone()), now);
    assert!(one.decide_next(now).is_none());
    let mut told = (*wanting.pod).clone();
    // None is needed after all.
    told.status = serde_json::from_value(json!({"resourceClaimStatuses": [{"name": "g"}]})).unwrap();
    one.pod_changed(&Delta::Updated { old: wanting.pod.clone(), new: Arc::new(told) }, now);
    assert!(matches!(one.decide_next(now), Some(Decision::Bind(_))));
}

#[test]
fn devices_are_chosen_together() {
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    let device = |name: &str, numa: i64, slots: i64| json!({"name": name, "attributes": {"numa": {"int": numa}}, "consumesCounters": [{"counterSet": "card", "counters": {"slots": {"value": slots.to_string()}}}]});
    let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "gpu.example.com", "nodeName": "a1",
        "pool": {"name": "a1", "generation": 1, "resourceSliceCount": 2},
        "devices": [device("d0", 0, 2), device("d1", 1, 2), device("d2", 1, 1), device("d3", 0, 3)]}});
    let counters = json!({"metadata": {"name": "c"}, "spec": {"driver": "gpu.example.com", "nodeName": "a1",
        "pool": {"name": "a1", "generation": 1, "resourceSliceCount": 2},
        "sharedCounters": [{"name": "card", "counters": {"slots": {"value": "4"}}}]}});
    let class = json!({"metadata": {"name": "gpu"}, "spec": {}});
    one.cluster.devices.class_changed(&added(class));
    one.cluster.devices.slice_changed(&added(slice));
    let wanted = |constraint: Value| json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 2}}], "constraints": [constraint]});
    claim(&mut one, "same", wanted(json!({"matchAttribute": "gpu.example.com/numa"})));
    claim(&mut one, "other", wanted(json!({"distinctAttribute": "gpu.example.com/numa"})));
    assert!(place(&mut one, &pod("new", claiming(&["same"]))).is_err(), "the pool is not told of in full");
    one.cluster.devices.slice_changed(&added(counters));
    let mut devices = |name: &str| match decide(&mut one, &pod("new", claiming(&[name]))) {
        Decision::Bind(assignment) => {
            let allocation = assignment.devices.allocations.values().next().unwrap().clone();
            one.unbound(assignment, Instant::now());
            let results = allocation.devices.unwrap().results.unwrap();
            results.into_iter().map(|result| result.device).collect::<Vec<_>>()
        }
        decision => panic!("{decision:?}"),
    };
    // d0 and d3 are alike, but would use more slots than the card has.
    assert_eq!(devices("same"), ["d1", "d2"]);
    assert_eq!(devices("other"), ["d0", "d1"]);
}

/// The result of the one request of the one claim, and the node. The pod keeps what it was given.
fn given(core: &mut Core, claim: &str) -> Result<(String, Value), String> {
    match decide(core, &pod(claim, claiming(&[claim]))) {
        Decision::Bind(assignment) => {
            let allocation = assignment.devices.allocations.values().next().unwrap();
            Ok((assignment.node.clone(), serde_json::to_value(allocation).unwrap()))
        }
        Decision::Refused(failure) => Err(failure.message),
        decision => panic!("{decision:?}"),
    }
}

fn plain_class(core: &mut Core) {
    core.cluster.devices.class_changed(&added(json!({"metadata": {"name": "gpu"}, "spec": {}})));
}

#[test]
fn shared_devices_are_given_out_until_their_capacity_is_used_up() {
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    plain_class(&mut one);
    let memory = json!({"value": "40Gi", "requestPolicy": {"default": "5Gi", "validRange": {"min": "5Gi", "step": "5Gi"}}});
    offer(
        &mut one,
        "a1",
        json!([{"name": "d0", "allowMultipleAllocations": true, "capacity": {"memory": memory, "lanes": {"value": "8", "requestPolicy": {"default": "0", "validValues": ["0", "4"]}}}}]),
    );
    let wanting = |capacity: Value, count: i64| json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu", "count": count, "capacity": {"requests": capacity}}}]});
    claim(&mut one, "twelve", wanting(json!({"memory": "12Gi"}), 1));
    claim(&mut one, "full-name", wanting(json!({"gpu.example.com/memory": "1Gi", "lanes": "4"}), 1));
    claim(&mut one, "twice", wanting(json!({"memory": "10Gi"}), 2));
    claim(&mut one, "little", json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}));
    claim(&mut one, "other", wanting(json!({"bandwidth": "1"}), 1));
    claim(&mut one, "much", wanting(json!({"memory": "41Gi"}), 1));
    let results = |found: Result<(String, Value), String>| {
        let results = found.unwrap().1["devices"]["results"].as_array().unwrap().clone();
        results.iter().map(|result| result["consumedCapacity"].clone()).collect::<Vec<_>>()
    };
    let (_, first) = given(&mut one, "twelve").unwrap();
    let result = &first["devices"]["results"][0];
    assert_eq!(result["consumedCapacity"], json!({"memory": "15Gi", "lanes": "0"}));
    assert_eq!(result["shareID"].as_str().map(str::len), Some(36), "{result}");
    assert_eq!(results(given(&mut one, "full-name")), [json!({"memory": "5Gi", "lanes": "4"})]);
    for claim in ["other", "much"] {
        assert!(given(&mut one, claim).unwrap_err().contains("1 cannot allocate all claims"), "{claim}");
    }
    // 20 of 40 are left: both shares of one request come from the same device.
    assert_eq!(results(given(&mut one, "twice")), vec![json!({"memory": "10Gi", "lanes": "0"}); 2]);
    assert!(given(&mut one, "little").is_err(), "nothing is left");
    // The watch tells of the first, and then that its pod is gone.
    let told = |status: Value| {
        added(
            json!({"metadata": {"namespace": "ns", "name": "twelve", "uid": "t"}, "spec": {}, "status": status}),
        )
    };
    one.cluster.devices.claim_changed(&told(json!({"allocation": first})));
    assert!(given(&mut one, "little").is_err(), "still nothing");
    one.cluster.devices.claim_changed(&told(json!({})));
    assert_eq!(results(given(&mut one, "little")), [json!({"memory": "5Gi", "lanes": "0"})]);
}

#[test]
fn what_a_device_must_become_is_written_down() {
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    plain_class(&mut one);
    let slice = json!({"metadata": {"name": "fabric"}, "spec": {"driver": "gpu.example.com", "allNodes": true,
        "pool": {"name": "fabric", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "d0", "bindsToNode": true, "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]}]}});
    one.cluster.devices.slice_changed(&added(slice));
    claim(&mut one, "c", json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}));
    let (_, found) = given(&mut one, "c").unwrap();
    let result = &found["devices"]["results"][0];
    assert_eq!(result["bindingConditions"], json!(["Attached"]));
    assert_eq!(result["bindingFailureConditions"], json!(["Broken"]));
    let field = &found["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0];
    assert_eq!(field["values"], json!(["a1"]), "it is this node's from now on");
}

#[test]
fn nodes_with_what_is_wanted_first_are_preferred() {
    let nodes: Vec<_> = (0..5).map(|index| node(&format!("n{index}"), json!({}))).collect();
    let mut core = cluster(&nodes, &[]);
    plain_class(&mut core);
    for index in 0..5 {
        let model = if index == 3 { "new" } else { "old" };
        let device = json!([{"name": "d", "attributes": {"model": {"string": model}}}]);
        offer(&mut core, &format!("n{index}"), device);
    }
    let alternative = |model: &str| {
        let expression = format!("device.attributes['gpu.example.com'].model == '{model}'");
        json!({"name": model, "deviceClassName": "gpu", "selectors": [{"cel": {"expression": expression}}]})
    };
    let either = json!([alternative("new"), alternative("old")]);
    for name in ["one", "two"] {
        claim(&mut core, name, json!({"requests": [{"name": "r", "firstAvailable": either}]}));
    }
    assert_eq!(given(&mut core, "one").unwrap().0, "n3");
    assert_ne!(given(&mut core, "two").unwrap().0, "n3", "it is taken");
}

fn extended_class(core: &mut Core, name: &str, resource: Option<&str>) {
    let class = json!({"metadata": {"name": name}, "spec": {"extendedResourceName": resource}});
    core.cluster.devices.class_changed(&added(class));
}

fn asking(amounts: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": amounts}}]})
}

#[test]
fn a_class_stands_for_an_extended_resource() {
    let plugged = json!({"metadata": {"name": "b1"}, "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "5", "example.com/gpu": "1"}}});
    let mut two = cluster(&[node("a1", json!({})), plugged], &[]);
    let one = || asking(json!({"example.com/gpu": "1"}));
    offer(&mut two, "a1", json!([{"name": "d0"}, {"name": "d1"}]));
    check(&mut two, asking(json!({"example.com/gpu": "1"})), "b1");
    let refused = |core: &mut Core, spec: Value, expected: &str| {
        let message = place(core, &pod("new", spec)).unwrap_err();
        assert!(message.contains(expected), "{message}");
    };
    refused(&mut two, asking(json!({"example.com/gpu": "2"})), "2 Insufficient example.com/gpu");
    // Looked at again although no node has changed.
    extended_class(&mut two, "gpu", Some("example.com/gpu"));
    check(&mut two, asking(json!({"example.com/gpu": "2"})), "a1");
    check(&mut two, asking(json!({"deviceclass.resource.kubernetes.io/gpu": "2"})), "a1");
    refused(
        &mut two,
        asking(json!({"deviceclass.resource.kubernetes.io/none": "1"})),
        "2 Insufficient deviceclass.resource.kubernetes.io/none",
    );
    refused(
        &mut two,
        asking(json!({"example.com/gpu": "3"})),
        "1 Insufficient example.com/gpu, 1 cannot allocate all claims",
    );
    // The plugin's node needs no claim.
    two.cluster.add_pod(pod("other", one()), "a1");
    let bind = |core: &mut Core, name: &str, spec: Value| match decide(core, &pod(name, spec)) {
        Decision::Bind(assignment) => assignment,
        decision => panic!("{decision:?}"),
    };
    let on = |node: &str| {
        let mut spec = one();
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        spec
    };
    two.cluster.set_node(Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": "b1", "labels": {"kubernetes.io/hostname": "b1"}},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "5", "example.com/gpu": "1"}}}),
        )
        .unwrap(),
    ));
    assert!(bind(&mut two, "plugin", on("b1")).devices.is_empty());
    let first = bind(&mut two, "first", on("a1"));
    let (extended, allocation) = *first.devices.extended.clone().unwrap();
    assert_eq!(extended.claim.metadata.generate_name.as_deref(), Some("first-extended-resources-"));
    let mapping = &extended.mappings[0];
    let mapping = [&*mapping.container_name, &*mapping.resource_name, &*mapping.request_name];
    assert_eq!(mapping, ["c", "example.com/gpu", "container-0-request-0"]);
    let result = &allocation.devices.as_ref().unwrap().results.as_ref().unwrap()[0];
    assert_eq!((&*result.request, &*result.device), ("container-0-request-0", "d0"));
}

#[test]
fn what_a_claim_for_extended_resources_holds_is_counted_once() {
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    offer(&mut one, "a1", json!([{"name": "d0"}]));
    extended_class(&mut one, "gpu", Some("example.com/gpu"));
    let now = Instant::now();
    let first = pod("first", asking(json!({"example.com/gpu": "1"})));
    one.pod_changed(&Delta::Added(first.pod.clone()), now);
    let Some(Decision::Bind(assignment)) = one.decide_next(now) else { panic!("it fits") };
    one.bound(&assignment);
    let second = pod("second", asking(json!({"example.com/gpu": "1"})));
    assert!(place(&mut one, &second).is_err(), "it is decided");
    let (extended, allocation) = *assignment.devices.extended.clone().unwrap();
    let mut made = serde_json::to_value(&extended.claim).unwrap();
    made["metadata"]["name"] = "first-extended-resources-x".into();
    made["status"] = json!({"allocation": allocation});
    one.cluster.devices.claim_changed(&added(made.clone()));
    assert!(place(&mut one, &second).is_err(), "the watch tells it");
    // The pod did not get there after all: its claim must go before it is decided over again.
    one.unbound(assignment, now);
    let message = place(&mut one, &first).unwrap_err();
    assert!(message.contains("\"first-extended-resources-x\" of an earlier attempt"), "{message}");
    let claim = Arc::new(serde_json::from_value(made).unwrap());
    one.cluster.devices.claim_changed(&Delta::Deleted(claim));
    assert_eq!(place(&mut one, &second).as_deref(), Ok("a1"));
}
