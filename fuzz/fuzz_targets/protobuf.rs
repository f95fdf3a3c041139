//! Any bytes as an object in an envelope; what can be read can be written, and read again as the same.
#![no_main]

use api::codec::protobuf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = protobuf::decode(bytes) else { return };
    if let Ok(written) = protobuf::encode(&object) {
        assert_eq!(protobuf::decode(&written).as_ref(), Ok(&object));
    }
});
