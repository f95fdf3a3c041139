//! Any bytes as JSON and YAML, then through everything that a write of the kind they claim to be goes through.
#![no_main]

use api::gvk::GroupVersionKind;
use api::registry::Registry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for media_type in ["application/json", "application/yaml"] {
        let Ok(decoded) = api::codec::decode(media_type, bytes) else { continue };
        let mut object = decoded.value;
        let Some(gvk) = GroupVersionKind::of(&object) else { continue };
        let Some(resource) = Registry::builtin().kind(&gvk) else { continue };
        if let Some(schema) = resource.schema() {
            let _ = schema.check(&mut object);
        }
        api::defaults::apply(&gvk, &mut object);
        let _ = api::validation::create(&gvk, &object);
        let _ = api::validation::update(&gvk, &object, &object);
        let _ = api::warnings::of_object(&gvk, &object, None);
    }
});
