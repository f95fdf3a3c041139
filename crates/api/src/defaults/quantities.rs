//! Quantities in their canonical form, as upstream stores what users write as `0.5`, `1000m` or a bare number.

use super::edit::{Object, get};
use crate::quantity::Quantity;
use serde_json::Value;

/// A `ResourceList`: every amount canonical, and no finer than a thousandth.
pub fn list(object: &mut Object, key: &str) {
    if let Some(amounts) = get(object, key) {
        amounts.values_mut().for_each(|amount| canonicalize(amount, Quantity::round_to_milli));
    }
}

/// A single amount.
pub fn single(object: &mut Object, key: &str) {
    if let Some(amount) = object.get_mut(key) {
        canonicalize(amount, |q| q);
    }
}

/// `requests` and `limits` of a `ResourceRequirements`.
pub fn requirements(resources: &mut Object) {
    list(resources, "limits");
    list(resources, "requests");
}

fn canonicalize(amount: &mut Value, round: impl Fn(Quantity) -> Quantity) {
    let Ok(quantity) = Quantity::from_value(amount) else { return };
    let text = round(quantity).to_string();
    if amount.as_str() != Some(&text) {
        *amount = Value::String(text);
    }
}
