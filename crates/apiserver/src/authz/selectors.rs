//! Selectors as SubjectAccessReviews carry them: `fieldSelector` and `labelSelector` of the attributes of a resource.

use api::field::{FieldErrors, Path};
use api::selector::{Condition, FieldRequirement, FieldSelector, LabelSelector, Requirement};
use serde_json::{Value, json};

use crate::admission::objects::items;
use crate::request::RequestInfo;

/// Writes down to what a request narrows itself.
pub fn write(request: &RequestInfo, attributes: &mut Value) {
    let requirement = |key: &str, operator: &str, values: &[String]| match values.is_empty() {
        true => json!({"key": key, "operator": operator}),
        false => json!({"key": key, "operator": operator, "values": values}),
    };
    let fields: Vec<Value> = request
        .fields
        .requirements
        .iter()
        .map(|one| {
            let operator = if one.equal { "In" } else { "NotIn" };
            requirement(&one.field, operator, std::slice::from_ref(&one.value))
        })
        .collect();
    if !fields.is_empty() {
        attributes["fieldSelector"] = json!({"requirements": fields});
    }
    let labels: Vec<Value> = request
        .labels
        .requirements
        .iter()
        .filter_map(|one| match &one.condition {
            Condition::In(values) => Some(requirement(&one.key, "In", values)),
            Condition::NotIn(values) => Some(requirement(&one.key, "NotIn", values)),
            Condition::Exists => Some(requirement(&one.key, "Exists", &[])),
            Condition::DoesNotExist => Some(requirement(&one.key, "DoesNotExist", &[])),
            // Reviews have no words for it. To say less of how narrow a request is allows nothing more.
            Condition::GreaterThan(_) | Condition::LessThan(_) => None,
        })
        .collect();
    if !labels.is_empty() {
        attributes["labelSelector"] = json!({"requirements": labels});
    }
}

/// Reads them from the attributes of a review.
pub fn read(attributes: &Value, errors: &mut FieldErrors) -> (FieldSelector, LabelSelector) {
    let path = Path::new("spec");
    let path = path.child("resourceAttributes");
    let (mut fields, mut labels) = (FieldSelector::default(), LabelSelector::everything());
    let given = &attributes["fieldSelector"];
    if given.is_object() {
        check(given, &path.child("fieldSelector"), errors);
        match given["rawSelector"].as_str().filter(|raw| !raw.is_empty()) {
            Some(raw) => fields = FieldSelector::parse(raw).unwrap_or_default(),
            None => fields.requirements = items(&given["requirements"]).filter_map(field).collect(),
        }
    }
    let given = &attributes["labelSelector"];
    if given.is_object() {
        check(given, &path.child("labelSelector"), errors);
        match given["rawSelector"].as_str().filter(|raw| !raw.is_empty()) {
            Some(raw) => labels = LabelSelector::parse(raw).unwrap_or_default(),
            None => labels.requirements = items(&given["requirements"]).filter_map(label).collect(),
        }
    }
    (fields, labels)
}

fn text<'a>(requirement: &'a Value, field: &str) -> &'a str {
    requirement[field].as_str().unwrap_or_default()
}

fn values(requirement: &Value) -> Vec<String> {
    items(&requirement["values"]).filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Fields are only ever equal or unequal to one value; other requirements narrow nothing.
fn field(requirement: &Value) -> Option<FieldRequirement> {
    let equal = match text(requirement, "operator") {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    let mut values = values(requirement);
    let value = values.pop().filter(|_| values.is_empty())?;
    Some(FieldRequirement { field: text(requirement, "key").to_owned(), equal, value })
}

fn label(requirement: &Value) -> Option<Requirement> {
    let condition = match text(requirement, "operator") {
        "In" => Condition::In(values(requirement)),
        "NotIn" => Condition::NotIn(values(requirement)),
        "Exists" => Condition::Exists,
        "DoesNotExist" => Condition::DoesNotExist,
        _ => return None,
    };
    Some(Requirement { key: text(requirement, "key").to_owned(), condition })
}

fn check(selector: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    let list = path.child("requirements");
    let count = items(&selector["requirements"]).count();
    if count > 0 && !raw.is_empty() {
        errors.invalid(&path.child("rawSelector"), raw, "may not specified at the same time as requirements");
    }
    if count == 0 && raw.is_empty() {
        let why = "when a selector is specified, requirements or rawSelector is required";
        errors.required(&list, why);
    }
    for (index, one) in items(&selector["requirements"]).enumerate() {
        let path = list.index(index);
        if text(one, "key").is_empty() {
            errors.required(&path.child("key"), "must be specified");
        }
        let has_values = items(&one["values"]).next().is_some();
        match (text(one, "operator"), has_values) {
            ("In" | "NotIn", true) | ("Exists" | "DoesNotExist", false) => {}
            ("In" | "NotIn", false) => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&path.child("values"), why);
            }
            ("Exists" | "DoesNotExist", true) => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), why);
            }
            (other, _) => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn there_and_back() {
        let query =
            "fieldSelector=spec.nodeName%3Dn,status.phase!%3DFailed&labelSelector=a%3Db,!c,d%20in%20(x,y)";
        let request = RequestInfo::parse(&Method::GET, "/api/v1/pods", query);
        let mut attributes = json!({});
        write(&request, &mut attributes);
        assert_eq!(
            attributes["fieldSelector"]["requirements"][1],
            json!({"key": "status.phase", "operator": "NotIn", "values": ["Failed"]})
        );
        let mut errors = FieldErrors::new();
        assert_eq!(read(&attributes, &mut errors), (request.fields, request.labels));
        assert!(errors.is_empty(), "{errors}");
    }

    #[test]
    fn what_reviews_may_say() {
        #[track_caller]
        fn check(selector: Value, exact: Option<&str>, wrong: &str) {
            let mut errors = FieldErrors::new();
            let (fields, _) = read(&json!({"fieldSelector": selector}), &mut errors);
            assert_eq!((fields.exact("a"), errors.is_empty()), (exact, wrong.is_empty()), "{errors}");
            assert!(errors.to_string().contains(wrong), "{errors}");
        }
        let one =
            |operator: &str, values: Value| json!([{"key": "a", "operator": operator, "values": values}]);
        check(json!({"rawSelector": "a=b"}), Some("b"), "");
        check(json!({"rawSelector": "=="}), None, "");
        check(json!({"requirements": one("In", json!(["b"]))}), Some("b"), "");
        check(json!({"requirements": one("In", json!(["b", "c"]))}), None, "");
        check(json!({"requirements": one("In", json!([]))}), None, "must be specified when");
        check(json!({"requirements": one("Like", json!(["b"]))}), None, "not a valid selector operator");
        check(
            json!({"rawSelector": "a=b", "requirements": one("Exists", Value::Null)}),
            Some("b"),
            "same time",
        );
        check(json!({}), None, "is required");
    }
}
