//! The image that a stage is at a moment: its configuration, its layers, how they came to be.

use serde_json::{Map, Value, json};

#[derive(Debug, Clone)]
pub struct Image {
    /// As images have it; what is not known here is kept.
    pub configuration: Value,
    /// Diff IDs, lowest first.
    pub layers: Vec<String>,
    /// When the newest layer was made.
    pub created: String,
}

/// When what has no layers was made: an image of the same instructions is the same image.
const BEGINNING: &str = "1970-01-01T00:00:00Z";

impl Image {
    /// Nothing.
    pub fn scratch() -> Self {
        let configuration = json!({
            "architecture": images::architecture(), "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": []}, "history": [],
        });
        Self { configuration, layers: Vec::new(), created: BEGINNING.to_owned() }
    }

    pub fn of(image: &images::Image) -> Result<Self, String> {
        let mut configuration: Value = serde_json::from_str(&image.config).map_err(|e| e.to_string())?;
        for (key, empty) in [("config", json!({})), ("history", json!([]))] {
            if configuration[key].is_null() {
                configuration[key] = empty;
            }
        }
        let created = configuration["created"].as_str().unwrap_or(BEGINNING).to_owned();
        // Of the container that some builders made an image from.
        if let Some(object) = configuration.as_object_mut() {
            for key in ["container", "container_config", "docker_version", "id", "parent"] {
                object.remove(key);
            }
        }
        Ok(Self { configuration, layers: image.layers.clone(), created })
    }

    /// The part that says how it is run.
    pub fn config(&mut self) -> &mut Map<String, Value> {
        let config = &mut self.configuration["config"];
        if !config.is_object() {
            *config = json!({});
        }
        // It was made one just now.
        match config {
            Value::Object(object) => object,
            _ => unreachable!("an object"),
        }
    }

    pub fn text(&self, key: &str) -> &str {
        self.configuration["config"][key].as_str().unwrap_or_default()
    }

    pub fn list(&self, key: &str) -> Vec<String> {
        let list = self.configuration["config"][key].as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    }

    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.config().insert(key.to_owned(), value.into());
    }

    /// Adds to a table such as `Labels`.
    pub fn add(&mut self, table: &str, key: String, value: Value) {
        let table = self.config().entry(table).or_insert_with(|| json!({}));
        if !table.is_object() {
            *table = json!({});
        }
        if let Some(object) = table.as_object_mut() {
            object.insert(key, value);
        }
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = self.list("Env").into_iter();
        pairs.filter_map(|e| e.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))).collect()
    }

    pub fn set_environment(&mut self, name: &str, value: &str) {
        let mut environment = self.environment();
        match environment.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => environment.push((name.to_owned(), value.to_owned())),
        }
        let entries: Vec<String> = environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
        self.set("Env", entries);
    }

    /// A further layer, or none: then the instruction has changed the configuration only.
    pub fn note(&mut self, instruction: &str, layer: Option<(String, String)>) {
        let mut entry = json!({"created_by": instruction, "comment": "corten build"});
        match layer {
            Some((diff_id, created)) => {
                entry["created"] = created.clone().into();
                self.layers.push(diff_id);
                self.created = created;
            }
            None => {
                entry["created"] = self.created.clone().into();
                entry["empty_layer"] = true.into();
            }
        }
        match self.configuration["history"].as_array_mut() {
            Some(history) => history.push(entry),
            None => self.configuration["history"] = json!([entry]),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut configuration = self.configuration.clone();
        configuration["rootfs"] = json!({"type": "layers", "diff_ids": self.layers});
        configuration["created"] = self.created.clone().into();
        configuration.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_grows() {
        let mut image = Image::scratch();
        image.set_environment("A", "1");
        image.set_environment("A", "2=3");
        image.add("Labels", "l".into(), "m".into());
        image.note("ENV A=1", None);
        image.note("RUN x", Some(("sha256:1".into(), "2026-01-01T00:00:00Z".into())));
        image.note("CMD y", None);
        let parsed: Value = serde_json::from_slice(&image.bytes()).unwrap();
        assert_eq!(parsed["config"], json!({"Env": ["A=2=3"], "Labels": {"l": "m"}}));
        assert_eq!(parsed["rootfs"]["diff_ids"], json!(["sha256:1"]));
        assert_eq!(parsed["created"], "2026-01-01T00:00:00Z");
        assert_eq!(parsed["history"].as_array().map(Vec::len), Some(3));
        assert_eq!(parsed["history"][0]["created"], BEGINNING);
    }
}
