//! Any text as a selector and as a quantity; what can be read is written as something that reads as the same.
#![no_main]

use api::quantity::Quantity;
use api::selector::{FieldSelector, LabelSelector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = FieldSelector::parse(text) {
        assert_eq!(FieldSelector::parse(&selector.to_string()).as_ref(), Ok(&selector));
    }
    if let Ok(selector) = LabelSelector::parse(text) {
        let _ = selector.to_string();
    }
    if let Ok(quantity) = text.parse::<Quantity>() {
        assert_eq!(quantity.to_string().parse::<Quantity>().as_ref(), Ok(&quantity));
    }
});
