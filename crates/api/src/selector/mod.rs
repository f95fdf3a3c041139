//! Label and field selectors: as query strings (`app in (a, b),!old`, `status.phase!=Running`) and, for labels, as
//! `metav1.LabelSelector` objects.

mod fields;
mod labels;

pub use fields::{FieldRequirement, FieldSelector, field_value};
pub use labels::{Condition, LabelSelector, Labels, Requirement};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Label(String),
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Field { selector: String, term: String },
    #[error("{0}")]
    Object(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn label_selectors_match() {
        #[track_caller]
        fn check(selector: &str, labels: Value, want: bool) {
            let selector = LabelSelector::parse(selector).unwrap();
            assert_eq!(selector.matches(labels.as_object().unwrap()), want, "{selector}");
        }
        check("", json!({}), true);
        check("a=b", json!({"a": "b"}), true);
        check("a==b", json!({"a": "c"}), false);
        check("a=", json!({"a": ""}), true);
        check("a=,b=1", json!({"a": "", "b": "1"}), true);
        check("a!=b", json!({}), true);
        check("a!=b", json!({"a": "b"}), false);
        check("a", json!({"a": "x"}), true);
        check("!a", json!({"a": "x"}), false);
        check("!a", json!({}), true);
        check("! a", json!({}), true);
        check("a in (x, y),b", json!({"a": "y", "b": ""}), true);
        check("a in (x,y)", json!({"a": "z"}), false);
        check("a in ()", json!({"a": ""}), true);
        check("a in (,x)", json!({"a": ""}), true);
        check("a notin (x,y)", json!({"a": "z"}), true);
        check("a notin (x,y)", json!({}), true);
        check("n>1", json!({"n": "2"}), true);
        check("n<1", json!({"n": "2"}), false);
        check("n>1", json!({"n": "x"}), false);
        check("in=notin", json!({"in": "notin"}), true);
        check("example.com/a=b", json!({"example.com/a": "b"}), true);
    }

    #[test]
    fn bad_label_selectors() {
        for bad in [
            "a=b=c",
            ",",
            "a,",
            "a in x",
            "a in (x",
            "=b",
            "!",
            "a b",
            "n>x",
            "a==(b)",
            "bad key!",
            "-a=b",
            "a=-",
            "a in (x y)",
            "(a)",
        ] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            LabelSelector::parse("a,").unwrap_err().to_string(),
            "unable to parse requirement: found '', expected: identifier"
        );
    }

    #[test]
    fn selector_objects() {
        #[track_caller]
        fn check(object: Value, labels: Value, want: bool) {
            let selector = LabelSelector::from_object(Some(&object)).unwrap();
            assert_eq!(selector.matches(&labels), want, "{object}");
        }
        check(json!(null), json!({}), false);
        check(json!({}), json!({"a": "b"}), true);
        check(json!({"matchLabels": {"a": "b"}}), json!({"a": "b", "c": "d"}), true);
        check(json!({"matchLabels": {"a": "b"}}), json!({"a": "c"}), false);
        let expression = |op: &str, values: Value| json!({"matchExpressions": [{"key": "a", "operator": op, "values": values}]});
        check(expression("In", json!(["x", "y"])), json!({"a": "y"}), true);
        check(expression("NotIn", json!(["x", "y"])), json!({"a": "y"}), false);
        check(expression("Exists", json!(null)), json!({"a": ""}), true);
        check(expression("DoesNotExist", json!([])), json!({"a": ""}), false);
        assert!(LabelSelector::from_object(Some(&expression("In", json!([])))).is_err());
        assert!(LabelSelector::from_object(Some(&expression("Near", json!([])))).is_err());
        assert!(!LabelSelector::from_object(None).unwrap().matches(&json!({})));
    }

    #[test]
    fn field_selectors() {
        let pod = json!({"metadata": {"name": "x"}, "spec": {"nodeName": "n,1", "hostNetwork": true}, "status": {"phase": "Running"}});
        #[track_caller]
        fn check(selector: &str, object: &Value, want: bool) {
            assert_eq!(FieldSelector::parse(selector).unwrap().matches_object(object), want, "{selector}");
        }
        check("", &pod, true);
        check("metadata.name=x", &pod, true);
        check("metadata.name==y", &pod, false);
        check("status.phase!=Running", &pod, false);
        check("status.phase!=Failed,metadata.name=x", &pod, true);
        check("spec.nodeName=n\\,1", &pod, true);
        check("spec.hostNetwork=true", &pod, true);
        check("spec.missing=", &pod, true);
        check("metadata.name.more=", &pod, true);
        assert_eq!(
            FieldSelector::parse("a=1,b").unwrap_err().to_string(),
            "invalid selector: 'a=1,b'; can't understand 'b'"
        );
        assert!(FieldSelector::parse("a=\\x").is_err());
        assert!(FieldSelector::parse("a=\\").is_err());
        assert_eq!(FieldSelector::parse("metadata.name=x,a!=y").unwrap().exact("metadata.name"), Some("x"));
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in "\\PC{0,40}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }

        #[test]
        fn field_selectors_print_as_they_parse(value in "[a-z,=\\\\]{0,12}") {
            let selector = FieldSelector { requirements: vec![FieldRequirement { field: "a.b".into(), equal: true, value }] };
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn label_selectors_print_as_they_parse(keys in proptest::collection::vec("[a-z]{1,5}", 0..4), values in proptest::collection::vec("[a-z]{1,5}", 2..4)) {
            let text = keys.iter().map(|k| format!("{k} in ({})", values.join(","))).collect::<Vec<_>>().join(",");
            let selector = LabelSelector::parse(&text).unwrap();
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
