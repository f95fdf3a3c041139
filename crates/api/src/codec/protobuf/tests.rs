use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, json};

use super::*;
use crate::schema::{Opaque, Shape};

/// Values of a type as they come out of the decoder: nothing empty, times to the second, fields that have numbers.
fn any_of(schema: &'static Schema, depth: u32) -> BoxedStrategy<Value> {
    let text = "[ -~é]{0,12}";
    match &schema.shape {
        Shape::Any(Opaque::Raw | Opaque::Json) => {
            prop_oneof![Just(json!({"a": [1, "b"]})), Just(json!("text")), Just(json!(1.5))].boxed()
        }
        Shape::Any(Opaque::SchemaOrBool) => any::<bool>().prop_map(Value::from).boxed(),
        Shape::Any(Opaque::SchemaOrArray) => Just(json!({"type": "string"})).boxed(),
        Shape::Any(Opaque::SchemaOrStrings) => Just(json!(["a", "b"])).boxed(),
        Shape::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        Shape::Int32 => any::<i32>().prop_map(Value::from).boxed(),
        Shape::Int64 => any::<i64>().prop_map(Value::from).boxed(),
        Shape::Number => (-1000..1000_i32).prop_map(|n| Value::from(f64::from(n) / 4.0)).boxed(),
        Shape::String => text.prop_map(Value::from).boxed(),
        Shape::Quantity => prop_oneof![Just(json!("100m")), Just(json!("1Gi")), Just(json!("0"))].boxed(),
        Shape::Bytes => prop_oneof![Just(json!("")), Just(json!("aGVsbG8="))].boxed(),
        Shape::Time => (-60_000_000_000_i64..250_000_000_000)
            .prop_map(|s| jiff::Timestamp::from_second(s).unwrap().to_string().into())
            .boxed(),
        Shape::MicroTime => (-60_000_000_000_000_000_i64..250_000_000_000_000_000)
            .prop_map(|us| format!("{:.6}", jiff::Timestamp::from_microsecond(us).unwrap()).into())
            .boxed(),
        Shape::IntOrString => {
            prop_oneof![any::<i32>().prop_map(Value::from), text.prop_map(Value::from)].boxed()
        }
        Shape::List(list) => {
            prop::collection::vec(any_of(&list.items, depth), 1..3).prop_map(Value::from).boxed()
        }
        Shape::Map(map) => prop::collection::btree_map("[a-z.]{0,6}", any_of(&map.values, depth), 1..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
            .boxed(),
        Shape::Object(object) => {
            let known: Vec<_> = object.fields.iter().filter(|field| !field.tags.is_empty()).collect();
            if depth == 0 || known.is_empty() {
                return Just(json!({})).boxed();
            }
            // A few fields at a time: all of a pod's would make a tree of millions of nodes.
            let one = known.into_iter().map(|field| {
                any_of_lazily(field, depth).prop_map(|value| (field.name.to_string(), value)).boxed()
            });
            prop::collection::vec(Union::new(one), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
                .boxed()
        }
    }
}

/// Building a strategy for the whole tree of a type takes long: only the branch that is chosen is built.
fn any_of_lazily(field: &'static crate::schema::Field, depth: u32) -> BoxedStrategy<Value> {
    Just(()).prop_flat_map(move |()| any_of(&field.schema, depth - 1)).boxed()
}

fn any_object() -> impl Strategy<Value = Value> {
    let resources: Vec<_> = crate::registry::Registry::builtin().iter().cloned().collect();
    let kinds: Vec<_> = resources
        .iter()
        .flat_map(|resource| [resource.gvk.clone(), resource.group_version().with_kind(&resource.list_kind)])
        .filter(|gvk| schema_of(gvk).is_some())
        .collect();
    prop::sample::select(kinds).prop_flat_map(|gvk| {
        let Some(SchemaRef::Builtin(index)) = schema_of(&gvk) else { panic!("{gvk} is built in") };
        any_of(builtin::definition(index), 5).prop_map(move |mut object| {
            object["apiVersion"] = gvk.api_version().into();
            object["kind"] = gvk.kind.as_str().into();
            object
        })
    })
}

proptest! {
    #[test]
    fn objects_come_back(object in any_object()) {
        let bytes = encode(&object).map_err(|error| TestCaseError::fail(format!("{error}: {object}")))?;
        let back = decode(&bytes).map_err(|error| TestCaseError::fail(format!("{error}: {object}")))?;
        prop_assert_eq!(back, object);
    }

    #[test]
    fn damaged_messages_do_no_harm(object in any_object(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&object).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
        bytes.truncate(at);
        let _ = decode(&bytes);
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode(&envelope("v1", "Pod", &body));
        let _ = decode(&[MAGIC, &body].concat());
    }
}

#[test]
fn structs_that_go_embeds_are_messages() {
    let volume = json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": [volume]}});
    assert_eq!(decode(&encode(&pod).unwrap()).unwrap(), pod);
    let message = |parts: &[(u32, &[u8])]| {
        let mut out = Vec::new();
        parts.iter().for_each(|(number, bytes)| wire::put_bytes(&mut out, *number, bytes));
        out
    };
    let item = message(&[(1, b"k"), (2, b"p")]);
    let reference = message(&[(1, b"c")]);
    let source = message(&[(19, &message(&[(1, &reference), (2, &item)]))]);
    let spec = message(&[(1, &message(&[(1, b"v"), (2, &source)]))]);
    let raw = encode_message(&schema_of(&GroupVersionKind::new("", "v1", "Pod")).unwrap(), &pod).unwrap();
    assert_eq!(raw, message(&[(2, &spec)]));
}

#[test]
fn what_cannot_be_read_is_said() {
    #[track_caller]
    fn check(body: &[u8], want: &str) {
        assert_eq!(decode(body).unwrap_err().to_string(), want);
    }
    check(b"{}", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
    check(&envelope("v1", "Nothing", b""), "no kind \"Nothing\" in \"v1\" has a protobuf form");
    check(&envelope("v1", "Pod", &[0x12, 0x05]), "unexpected end of the message");
    check(
        &envelope("v1", "Pod", &[0x12, 0x02, 0x18, 0x01]),
        "spec.restartPolicy: wire type 0 where 2 (length-delimited) was expected",
    );
    let crd = json!({"apiVersion": "example.com/v1", "kind": "Thing"});
    assert!(matches!(encode(&crd), Err(ProtobufError::UnknownKind { .. })));
}

#[test]
fn nesting_is_bounded() {
    let schema = json_schema_props().unwrap();
    let not = schema.field("not").unwrap().tags[0];
    let mut raw = Vec::new();
    for _ in 0..500 {
        let mut around = Vec::new();
        wire::put_bytes(&mut around, not, &raw);
        raw = around;
    }
    assert_eq!(decode::message(&schema, &raw, 0), Err(ProtobufError::TooDeep));
    let mut object = envelope("apps/v1", "ControllerRevision", b"").to_vec();
    for _ in 0..500 {
        let mut extension = Vec::new();
        wire::put_bytes(&mut extension, 1, &object);
        let mut revision = Vec::new();
        wire::put_bytes(&mut revision, 2, &extension);
        object = envelope("apps/v1", "ControllerRevision", &revision).to_vec();
    }
    assert_eq!(decode(&object), Err(ProtobufError::TooDeep));
}

#[test]
fn lists_are_made_of_encoded_items() {
    let item = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let raw =
        encode_message(&schema_of(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap(), &item).unwrap();
    let metadata = json!({"resourceVersion": "7"});
    let bytes =
        list(&GroupVersionKind::new("", "v1", "ConfigMapList"), &metadata, [&raw[..], &raw[..]]).unwrap();
    assert_eq!(
        decode(&bytes).unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": [item, item]})
    );
}

#[test]
fn watch_events_are_framed() {
    let object = envelope("v1", "Pod", b"");
    let frame = watch_frame("ADDED", &object).unwrap();
    let (length, event) = frame.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, event.len());
    let mut reader = wire::Reader::new(event);
    assert_eq!(reader.field().unwrap().unwrap().text("type").unwrap(), "ADDED");
    let raw = reader.field().unwrap().unwrap();
    let mut reader = wire::Reader::new(raw.bytes("object").unwrap());
    assert_eq!(reader.field().unwrap().unwrap().bytes("raw").unwrap(), &object[..]);
}

#[test]
fn types_of_every_group_are_known() {
    #[track_caller]
    fn check(object: Value) {
        assert_eq!(decode(&encode(&object).unwrap()).unwrap(), object);
    }
    check(
        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404, "details": {"name": "x"}}),
    );
    check(
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}),
    );
    check(
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x"}}),
    );
    check(json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
        "metadata": {"continue": "c"}, "items": [{"metadata": {"name": "x"}}],
    }));
    check(json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 2}}));
    check(
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "x"}, "deleteOptions": {"gracePeriodSeconds": 5}}),
    );
}
