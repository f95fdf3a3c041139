//! Changes of the elements of several maps at once.

use super::{Batch, Data, Element};

/// An element and the map (or set) that it is in, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapElement {
    pub map: &'static str,
    pub key: Vec<u8>,
    /// The last key, of a range.
    pub key_end: Option<Vec<u8>>,
    pub data: Option<Vec<u8>>,
}

impl Batch {
    /// Map by map in the order of `maps`, removals before additions: what is added may take the place of what goes.
    pub fn change(&mut self, maps: &[&'static str], remove: &[MapElement], add: &[MapElement]) {
        let data: Vec<Data> =
            add.iter().map(|element| Data::Value(element.data.clone().unwrap_or_default())).collect();
        for &map in maps {
            let removed = remove.iter().filter(|element| element.map == map);
            self.delete_elements(
                map,
                removed.map(|element| Element {
                    key: &element.key,
                    key_end: element.key_end.as_deref(),
                    data: None,
                }),
            );
            let added = add.iter().zip(&data).filter(|(element, _)| element.map == map);
            self.add_elements(
                map,
                added.map(|(element, data)| Element {
                    key: &element.key,
                    key_end: element.key_end.as_deref(),
                    data: element.data.as_ref().map(|_| data),
                }),
            );
        }
    }
}
