//! Custom objects on their way to the store: brought into shape and judged by their schema.

use api::field::{FieldErrors, Path};
use api::schema::SchemaReport;
use api::structural::{default, list_type, metadata, prune, validate};
use api::validation;
use serde_json::Value;

use super::Version;
use super::rules::Found;
use crate::catalog::Served;

impl Version {
    /// What a client sent: drops what the schema does not specify and tells it, and nulls that are no values; metadata
    /// of a wrong type is an error.
    pub fn read(&self, object: &mut Value) -> SchemaReport {
        default::drop_nulls(object, &self.compiled().structural);
        self.shape(object)
    }

    /// The same of what has been applied: its nulls are judged.
    pub fn shape(&self, object: &mut Value) -> SchemaReport {
        let structural = &self.compiled().structural;
        let mut unknown = prune::prune(object, structural);
        let mut report = metadata::coerce(object, structural);
        unknown.append(&mut report.unknown);
        unknown.sort();
        SchemaReport { unknown, errors: report.errors }
    }

    /// Drops what is not specified and fills in defaults.
    pub fn complete(&self, object: &mut Value) {
        let structural = &self.compiled().structural;
        prune::prune(object, structural);
        default::fill(object, structural);
    }

    /// The same of what was stored, or comes from a webhook.
    pub fn complete_stored(&self, object: &mut Value) {
        default::drop_nulls(object, &self.compiled().structural);
        self.complete(object);
    }

    /// What is wrong with an object, or with a change of one. What was wrong before and has not been touched is
    /// forgiven; rules that it breaks are told all the same.
    pub fn judge(
        &self,
        object: &Value,
        old: Option<&Value>,
        errors: &mut FieldErrors,
        warnings: &mut Vec<String>,
    ) {
        let compiled = self.compiled();
        let before = errors.len();
        errors.extend(validate::validate(object, old, &compiled.structural));
        if compiled.has_embedded {
            metadata::check(object, &compiled.structural, &Path::ROOT, errors);
        }
        if compiled.has_lists && old.is_none_or(|old| !has_duplicates(old, &compiled.structural)) {
            list_type::check(object, &compiled.structural, &Path::ROOT, errors);
        }
        if compiled.rules.is_empty() {
            return;
        }
        // Rules may rely on types being right.
        if errors.iter().skip(before).any(|error| error.kind.blocks_rules()) {
            errors.invalid(&Path::ROOT, Value::Null, NOT_ALL_CHECKED);
        } else {
            let mut found = Found::default();
            compiled.rules.judge(object, old, &compiled.structural, &mut found);
            errors.extend(found.errors);
            warnings.extend(found.forgiven.iter().map(ToString::to_string));
        }
    }
}

const NOT_ALL_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

fn has_duplicates(object: &Value, schema: &api::structural::Structural) -> bool {
    let mut errors = FieldErrors::new();
    list_type::check(object, schema, &Path::ROOT, &mut errors);
    !errors.is_empty()
}

impl Served {
    /// Fills in what the object leaves out.
    pub fn complete(&self, object: &mut Value) {
        match &self.custom {
            Some(custom) => custom.version.complete(object),
            None => api::defaults::apply(&self.resource.gvk, object),
        }
    }

    /// What is wrong with a new object.
    pub fn judge_new(&self, object: &Value) -> FieldErrors {
        let mut errors = validation::create(&self.resource.gvk, object);
        match &self.custom {
            Some(custom) => custom.version.judge(object, None, &mut errors, &mut Vec::new()),
            None if self.defines_resources() => super::rules::check_definition(object, None, &mut errors),
            None => {}
        }
        errors
    }

    /// What is wrong with a change of the object, or of what a subresource shows of it. `warnings`: what was wrong
    /// before.
    pub fn judge_change(
        &self,
        subresource: &str,
        new: &Value,
        old: &Value,
        warnings: &mut Vec<String>,
    ) -> FieldErrors {
        let gvk = &self.resource.gvk;
        let mut errors = match subresource {
            "" => validation::update(gvk, new, old),
            subresource => validation::update_subresource(gvk, subresource, new, old),
        };
        match &self.custom {
            Some(custom) => custom.version.judge(new, Some(old), &mut errors, warnings),
            None if self.defines_resources() && subresource.is_empty() && new["spec"] != old["spec"] => {
                super::rules::check_definition(new, Some(old), &mut errors);
            }
            None => {}
        }
        errors
    }

    fn defines_resources(&self) -> bool {
        self.resource.plural == super::PLURAL && self.resource.gvk.group == super::GROUP
    }
}
