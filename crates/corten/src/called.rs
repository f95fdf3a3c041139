//! What this program was called as: a link named `kubelet` is the kubelet, so that programs which expect that one (kubeadm,
//! units of distributions) find it.

use std::ffi::OsString;
use std::path::Path;

use serving::component::version::GIT_VERSION;

/// The arguments as `corten` would have been given them; nothing when they have been answered.
pub fn arguments() -> Option<Vec<OsString>> {
    translated(std::env::args_os().collect())
}

fn translated(mut arguments: Vec<OsString>) -> Option<Vec<OsString>> {
    let name = arguments.first().and_then(|first| Path::new(first).file_name());
    if name.is_some_and(|name| name == "kubelet") {
        let asks = |word: &OsString| word == "--version" || word == "--version=true";
        if arguments.iter().skip(1).any(asks) {
            // In the words that kubeadm looks for.
            println!("Kubernetes {GIT_VERSION}");
            return None;
        }
        arguments.insert(1, "kubelet".into());
    }
    Some(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |given: &[&str], expected: Option<&[&str]>| {
            let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(translated(words(given)), expected.map(words), "{given:?}");
        };
        check(&["/usr/bin/corten", "up"], Some(&["/usr/bin/corten", "up"]));
        check(&["/usr/bin/kubelet", "--v=2"], Some(&["/usr/bin/kubelet", "kubelet", "--v=2"]));
        check(&["kubelet", "--version"], None);
    }
}
