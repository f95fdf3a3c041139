//! Where the cgroup of a pod is, and what the drivers call it.

use crate::container::qos::Class;

/// `/kubepods`, `/kubepods/burstable`, `/kubepods/besteffort`.
pub fn of_class(base: &str, class: Class) -> String {
    match class {
        Class::Guaranteed => base.to_owned(),
        Class::Burstable => format!("{base}/burstable"),
        Class::BestEffort => format!("{base}/besteffort"),
    }
}

pub fn of_pod(base: &str, class: Class, uid: &str) -> String {
    format!("{}/pod{uid}", of_class(base, class))
}

/// What a path's parts are called in the names of slices, where a dash stands between parents and children.
fn slice_parts(path: &str) -> impl Iterator<Item = String> {
    path.split('/').filter(|part| !part.is_empty()).map(|part| part.replace('-', "_"))
}

/// `/kubepods/burstable/podx` as `kubepods-burstable-podx.slice`.
pub fn slice(path: &str) -> String {
    slice_parts(path).collect::<Vec<_>>().join("-") + ".slice"
}

/// `/kubepods/burstable/podx` as `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice`.
pub fn slice_place(path: &str) -> String {
    let mut name = String::new();
    let mut place = Vec::new();
    for part in slice_parts(path) {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&part);
        place.push(format!("{name}.slice"));
    }
    place.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices() {
        let check = |class: Class, name: &str, place: &str| {
            let path = of_pod("/kubepods", class, "a-b");
            assert_eq!((slice(&path).as_str(), slice_place(&path).as_str()), (name, place));
        };
        check(
            Class::Burstable,
            "kubepods-burstable-poda_b.slice",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice",
        );
        check(Class::Guaranteed, "kubepods-poda_b.slice", "kubepods.slice/kubepods-poda_b.slice");
        let nested = of_pod("/my-nodes/one/kubepods", Class::BestEffort, "u");
        assert_eq!(slice(&nested), "my_nodes-one-kubepods-besteffort-podu.slice");
    }
}
