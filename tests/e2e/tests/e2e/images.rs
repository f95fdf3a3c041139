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

/// `htpasswd -Bbn puller hunter2`
const PASSWORDS: &str = "puller:$2y$05$IVOMaOfgaBXDiEokH9lauO.oL5GNjva5JXLLUh.akqH.bi.w31w9.\n";

/// Debian's registry, in the host; one that asks for a password lets in `puller` only.
fn registry(c: &Cluster, private: bool) -> std::process::Child {
    let data = c.host.directory().join("registry");
    let passwords = c.host.file("passwords", PASSWORDS);
    let auth = format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", passwords.display());
    let config = c.host.file("registry.yml", &format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:5000'}}\n{}",
        data.display(),
        if private { &auth } else { "" },
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
        let output = c.host.run("curl", &["-sSf", "-u", "puller:hunter2", "http://127.0.0.1:5000/v2/"], "");
        if output.ok { Ok(()) } else { Err(output.stderr) }
    });
    child.expect("docker-registry runs")
}

/// Uploads an image of one layer, by the distribution API. Returns nothing: its name is `127.0.0.1:5000/pulled:v1`.
const PUSH: &str = r#"
set -e
url=http://puller:hunter2@127.0.0.1:5000/v2/pulled
mkdir -p push && cd push && tar xf ../mine.tar && gzip -nf layer.tar
upload() {
    digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
    location=$(curl -sSfi -X POST $url/blobs/uploads/ | tr -d '\r' | sed -n 's/^Location: //ip' | sed 's#//127#//puller:hunter2@127#')
    case $location in *\?*) sep='&' ;; *) sep='?' ;; esac
    curl -sSf -X PUT -H 'Content-Type: application/octet-stream' --data-binary @"$1" "$location${sep}digest=$digest" >/dev/null
    echo "{\"mediaType\":\"$2\",\"digest\":\"$digest\",\"size\":$(stat -c %s "$1")}"
}
config=$(upload config.json application/vnd.oci.image.config.v1+json)
layer=$(upload layer.tar.gz application/vnd.oci.image.layer.v1.tar+gzip)
echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":$config,\"layers\":[$layer]}" > m.json
curl -sSf -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @m.json $url/manifests/v1
"#;

fn push(c: &Cluster) {
    let archive = c.host.directory().join("mine.tar");
    let packed = std::process::Command::new(e2e::repository().join("script/busybox-image"))
        .arg("x/y:v1")
        .arg(&archive)
        .status();
    assert!(packed.unwrap().success());
    let push = c.host.run("sh", &["-c", PUSH], "");
    assert!(push.ok, "{push:?}");
}

#[test]
fn a_private_image_needs_its_secret() {
    let c = Cluster::start();
    let mut registry = registry(&c, true);
    push(&c);
    c.namespace("private");
    let run_by = |name: &str, secret: &str, policy: &str| {
        c.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: private}}, spec: {{restartPolicy: Never, imagePullSecrets: [{{name: {secret}}}], containers: [{{name: main, image: '127.0.0.1:5000/pulled:v1', imagePullPolicy: {policy}, command: [echo, pulled]}}]}}}}"
        ));
    };
    let run = |name: &str, secret: &str| run_by(name, secret, "Always");
    for (name, password) in [("right", "hunter2"), ("wrong", "guess")] {
        c.kubectl(&[
            "-n",
            "private",
            "create",
            "secret",
            "docker-registry",
            name,
            "--docker-server=127.0.0.1:5000",
            "--docker-username=puller",
            &format!("--docker-password={password}"),
        ]);
    }
    run("with", "right");
    c.kubectl(&[
        "-n",
        "private",
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        "pod/with",
        "--timeout=60s",
    ]);
    assert_eq!(c.kubectl(&["-n", "private", "logs", "with"]), "pulled\n");
    // That the image is here by now lets nobody else in.
    for (name, secret) in [("without", "none"), ("mistaken", "wrong")] {
        run(name, secret);
        eventually("a refusal", || {
            let row = c.kubectl(&["-n", "private", "get", "pod", name]);
            if row.contains("ImagePull") { Ok(()) } else { Err(row) }
        });
        let described = c.kubectl(&["-n", "private", "describe", "pod", name]);
        assert!(described.to_lowercase().contains("unauthorized"), "{described}");
    }
    let _ = registry.kill();
    let _ = registry.wait();
    // Nor does it where the policy would take what is here; who has shown the secret before needs no registry.
    for (name, secret, policy, shown) in [
        ("again", "right", "IfNotPresent", "Completed"),
        ("stranger", "wrong", "IfNotPresent", "ImagePull"),
        ("nobody", "none", "Never", "ErrImageNeverPull"),
    ] {
        run_by(name, secret, policy);
        eventually("what becomes of a pod without a pull", || {
            let row = c.kubectl(&["-n", "private", "get", "pod", name]);
            if row.contains(shown) { Ok(()) } else { Err(row) }
        });
    }
}

#[test]
fn images_are_pulled_from_a_registry() {
    let c = Cluster::start();
    let mut registry = registry(&c, false);
    push(&c);

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
