//! Fuzz targets: whatever bytes they are given, they neither panic nor go on without end. `fuzz/` calls them from
//! libFuzzer; the tests here call them with a few thousand inputs.

use crate::codec::{self, protobuf};
use crate::gvk::GroupVersionKind;
use crate::jsonpath::JsonPath;
use crate::patch::apply::{Updater, server_side_apply};
use crate::patch::{json_patch, merge_patch, strategic_merge};
use crate::quantity::Quantity;
use crate::registry::Registry;
use crate::selector::{FieldSelector, LabelSelector};
use serde_json::Value;

/// Any bytes as JSON and YAML, then through all that a write of the kind that they claim to be goes through.
pub fn objects(bytes: &[u8]) {
    for media_type in ["application/json", "application/yaml"] {
        let Ok(decoded) = codec::decode(media_type, bytes) else { continue };
        let mut object = decoded.value;
        let Some(gvk) = GroupVersionKind::of(&object) else { continue };
        let Some(resource) = Registry::builtin().kind(&gvk) else { continue };
        if let Some(schema) = resource.schema() {
            let _ = schema.check(&mut object);
        }
        crate::defaults::apply(&gvk, &mut object);
        let _ = crate::validation::create(&gvk, &object).to_string();
        let _ = crate::validation::update(&gvk, &object, &object).to_string();
        for subresource in ["status", "resize", "ephemeralcontainers"] {
            let _ = crate::validation::update_subresource(&gvk, subresource, &object, &object);
        }
        let _ = crate::warnings::of_object(&gvk, &object, None);
        let _ = protobuf::encode(&object);
    }
}

/// Any bytes as an object in an envelope; what can be read can be written, and read again as the same.
pub fn binary(bytes: &[u8]) {
    for bytes in [bytes, &protobuf::envelope("v1", "Pod", bytes)] {
        let Ok(object) = protobuf::decode(bytes) else { continue };
        if let Ok(written) = protobuf::encode(&object) {
            assert_eq!(protobuf::decode(&written).as_ref(), Ok(&object));
        }
    }
}

/// Two JSON values, divided by a NUL byte: an object and a patch of it, of every type.
pub fn patches(bytes: &[u8]) {
    let mut halves = bytes.splitn(2, |byte| *byte == 0);
    let mut next = || halves.next().and_then(|half| serde_json::from_slice::<Value>(half).ok());
    let (Some(object), Some(patch)) = (next(), next()) else { return };
    let _ = json_patch(&object, &patch);
    let _ = merge_patch(&object, &patch);
    let gvk = GroupVersionKind::of(&object).unwrap_or_else(|| GroupVersionKind::new("", "v1", "Pod"));
    let Some(resource) = Registry::builtin().kind(&gvk) else { return };
    let Some(schema) = resource.schema() else { return };
    let _ = strategic_merge(&object, &patch, schema);
    let updater = Updater {
        manager: "fuzz",
        api_version: &gvk.api_version(),
        subresource: "",
        time: "2026-01-01T00:00:00Z",
        ignored: &["status"],
    };
    let _ = server_side_apply(Some(&object), &patch, schema, &updater, true);
}

/// Any text as what is written within objects and queries: selectors, quantities, paths, schedules. What can be read
/// is written as something that reads as the same.
pub fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(selector) = FieldSelector::parse(text) {
        assert_eq!(FieldSelector::parse(&selector.to_string()).as_ref(), Ok(&selector));
    }
    if let Ok(selector) = LabelSelector::parse(text) {
        let _ = selector.to_string();
    }
    if let Ok(quantity) = text.parse::<Quantity>() {
        assert_eq!(quantity.to_string().parse::<Quantity>().as_ref(), Ok(&quantity));
        let _ =
            (quantity.value(), quantity.milli_value(), quantity.round_to_milli(), quantity.times(i64::MAX));
    }
    if let Ok(path) = JsonPath::parse(text) {
        let _ = path.find(&serde_json::json!({"a": [{"b": "c"}, 1, null], "b": {"a": {}}}));
    }
    let _ = crate::validation::cron::check(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzzing::drive;

    const POD: &[u8] = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"d","labels":{"a":"b"}},
        "spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"100m"}},"ports":[{"containerPort":80}],
        "env":[{"name":"A","value":"1"}]}],"tolerations":[{"operator":"Exists"}]}}"#;
    const JOB: &[u8] = br#"{"apiVersion":"batch/v1","kind":"Job","spec":{"completionMode":"Indexed","completions":3,
        "successPolicy":{"rules":[{"succeededIndexes":"0-1"}]},"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c"}]}}}}"#;
    const SERVICE: &[u8] = b"apiVersion: v1\nkind: Service\nspec:\n  ports: [{port: 80, targetPort: http}]\n  clusterIPs: [10.0.0.1]\n";

    #[test]
    fn objects_do_no_harm() {
        drive(&[POD, JOB, SERVICE], 3000, objects);
    }

    #[test]
    fn binary_does_no_harm() {
        let encoded =
            |json: &[u8]| protobuf::encode(&serde_json::from_slice(json).unwrap()).unwrap().to_vec();
        let (pod, job) = (encoded(POD), encoded(JOB));
        drive(&[&pod, &job], 6000, binary);
    }

    #[test]
    fn patches_do_no_harm() {
        let with = |patch: &[u8]| [POD, b"\0", patch].concat();
        let seeds = [
            with(br#"[{"op":"add","path":"/spec/containers/-","value":{}},{"op":"move","from":"/spec","path":"/a~1b"}]"#),
            with(br#"{"spec":{"containers":[{"name":"c","$patch":"delete"}],"$setElementOrder/containers":[{"name":"c"}]}}"#),
            with(br#"{"metadata":{"labels":null,"$retainKeys":["a"]},"spec":{"$deleteFromPrimitiveList/x":["y"]}}"#),
            with(POD),
        ];
        let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
        drive(&seeds, 4000, patches);
    }

    #[test]
    fn text_does_no_harm() {
        drive(
            &[
                b"metadata.name=a,spec.nodeName!=b\\,c",
                b"a in (b, c),!d,e notin (f),g>1",
                b"1.5Gi",
                b"-100.000000001e12",
                b"{.a[?(@.b==\"c\")].b[0:1:2]['x','y']..c}",
                b"*/5 0-12/2 1,15 jan-MAR sun",
            ],
            20_000,
            text,
        );
    }
}
