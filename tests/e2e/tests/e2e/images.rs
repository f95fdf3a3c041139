//! Images: archives, registries, and what is wrong with them.

use std::process::Stdio;

use e2e::{Cluster, eventually, shared};

#[test]
fn archives_are_imported_listed_and_removed() {
    let c = shared();
    let archive = c.host.directory().join("mine.tar");
    let packed = std::process::Command::new(e2e::repository().join("script/busybox-image"))
        .arg("example.com/mine:v1")
        .arg(&archive)
        .status();
    assert!(packed.unwrap().success());
    let import = c.corten(&["image", "import", archive.to_str().unwrap()]);
    assert_eq!(import.stdout, "example.com/mine:v1\n", "{import:?}");
    assert!(c.corten(&["image", "list"]).stdout.contains("example.com/mine:v1"));
    assert!(c.corten(&["image", "rm", "example.com/mine:v1"]).ok);
    assert!(!c.corten(&["image", "list"]).stdout.contains("example.com/mine:v1"));
    let again = c.corten(&["image", "rm", "example.com/mine:v1"]);
    assert!(!again.ok && again.stderr.contains("no such image"), "{again:?}");
}

/// Debian's registry, in the host.
fn registry(c: &Cluster) -> std::process::Child {
    let data = c.host.directory().join("registry");
    let config = c.host.file("registry.yml", &format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:5000'}}\n",
        data.display()
    ));
    let child = c
        .host
        .command("docker-registry")
        .arg("serve")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    eventually("the registry", || {
        let output = c.host.run("curl", &["-sSf", "http://127.0.0.1:5000/v2/"], "");
        if output.ok { Ok(()) } else { Err(output.stderr) }
    });
    child.expect("docker-registry runs")
}

/// Uploads an image of one layer, by the distribution API. Returns nothing: its name is `127.0.0.1:5000/pulled:v1`.
const PUSH: &str = r#"
set -e
url=http://127.0.0.1:5000/v2/pulled
mkdir -p push && cd push && tar xf ../mine.tar && gzip -nf layer.tar
upload() {
    digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
    location=$(curl -sSfi -X POST $url/blobs/uploads/ | tr -d '\r' | sed -n 's/^Location: //ip')
    case $location in *\?*) sep='&' ;; *) sep='?' ;; esac
    curl -sSf -X PUT -H 'Content-Type: application/octet-stream' --data-binary @"$1" "$location${sep}digest=$digest" >/dev/null
    echo "{\"mediaType\":\"$2\",\"digest\":\"$digest\",\"size\":$(stat -c %s "$1")}"
}
config=$(upload config.json application/vnd.oci.image.config.v1+json)
layer=$(upload layer.tar.gz application/vnd.oci.image.layer.v1.tar+gzip)
echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":$config,\"layers\":[$layer]}" > m.json
curl -sSf -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @m.json $url/manifests/v1
"#;

#[test]
fn images_are_pulled_from_a_registry() {
    let c = Cluster::start();
    let mut registry = registry(&c);
    let archive = c.host.directory().join("mine.tar");
    let packed = std::process::Command::new(e2e::repository().join("script/busybox-image"))
        .arg("x/y:v1")
        .arg(&archive)
        .status();
    assert!(packed.unwrap().success());
    let push = c.host.run("sh", &["-c", PUSH], "");
    assert!(push.ok, "{push:?}");

    c.namespace("pull");
    c.kubectl(&[
        "-n",
        "pull",
        "run",
        "p",
        "--image=127.0.0.1:5000/pulled:v1",
        "--restart=Never",
        "--",
        "echo",
        "pulled",
    ]);
    c.kubectl(&["-n", "pull", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/p", "--timeout=60s"]);
    assert_eq!(c.kubectl(&["-n", "pull", "logs", "p"]), "pulled\n");
    let events = c.kubectl(&["-n", "pull", "get", "events", "-o", "jsonpath={.items[*].reason}"]);
    for reason in ["Pulling", "Pulled", "Created", "Started"] {
        assert!(events.contains(reason), "{events}");
    }
    let pulled = c.corten(&["image", "pull", "127.0.0.1:5000/pulled:v1"]);
    assert!(pulled.ok, "{pulled:?}");
    let _ = registry.kill();
    let _ = registry.wait();
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_on_the_pod() {
    let c = shared();
    c.namespace("unpullable");
    c.kubectl(&["-n", "unpullable", "run", "p", "--image=127.0.0.1:5999/none:v1"]);
    eventually("ImagePullBackOff", || {
        let row = c.kubectl(&["-n", "unpullable", "get", "pod", "p"]);
        if row.contains("ImagePullBackOff") { Ok(()) } else { Err(row) }
    });
    let events = c.kubectl(&["-n", "unpullable", "describe", "pod", "p"]);
    assert!(events.contains("Failed to pull image \"127.0.0.1:5999/none:v1\""), "{events}");
    c.apply("{apiVersion: v1, kind: Pod, metadata: {name: never, namespace: unpullable}, spec: {containers: [{name: main, image: 'example.com/none:v1', imagePullPolicy: Never}]}}");
    eventually("ErrImageNeverPull", || {
        let row = c.kubectl(&["-n", "unpullable", "get", "pod", "never"]);
        if row.contains("ErrImageNeverPull") { Ok(()) } else { Err(row) }
    });
    c.apply("{apiVersion: v1, kind: Pod, metadata: {name: bad, namespace: unpullable}, spec: {containers: [{name: main, image: Not-Lower-Case}]}}");
    eventually("InvalidImageName", || {
        let row = c.kubectl(&["-n", "unpullable", "get", "pod", "bad"]);
        if row.contains("InvalidImageName") { Ok(()) } else { Err(row) }
    });
}
