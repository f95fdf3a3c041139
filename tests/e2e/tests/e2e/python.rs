//! The Python client, unmodified.

use e2e::shared;

const SCRIPT: &str = r#"
import sys, time
from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

config.load_kube_config(sys.argv[1])
core, apps = client.CoreV1Api(), client.AppsV1Api()
core.create_namespace({"metadata": {"name": "python"}})
labels = {"app": "web"}
apps.create_namespaced_deployment("python", {
    "metadata": {"name": "web"},
    "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": "busybox:1.36", "command": ["sh", "-c", "echo hello; sleep infinity"]}]}}}})
for event in watch.Watch().stream(apps.list_namespaced_deployment, "python", timeout_seconds=60):
    if (event["object"].status.ready_replicas or 0) == 2:
        break
else:
    sys.exit("the deployment was never ready")
pods = core.list_namespaced_pod("python", label_selector="app=web").items
assert len(pods) == 2, pods
name = pods[0].metadata.name
assert core.read_namespaced_pod_log(name, "python") == "hello\n"
out = stream(core.connect_get_namespaced_pod_exec, name, "python", command=["echo", "from exec"],
             stdout=True, stderr=True, stdin=False, tty=False)
assert out == "from exec\n", repr(out)
apps.patch_namespaced_deployment("web", "python", {"spec": {"replicas": 1}})
assert apps.read_namespaced_deployment_scale("web", "python").spec.replicas == 1
page = core.list_namespaced_config_map("python", limit=1)
try:
    core.read_namespaced_pod("none", "python")
    sys.exit("there is no such pod")
except ApiException as error:
    assert error.status == 404 and error.reason == "Not Found", error
core.delete_namespace("python")
print("ok")
"#;

#[test]
fn the_python_client_works() {
    let c = shared();
    let script = c.host.file("client.py", SCRIPT);
    let python = std::env::var("E2E_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let output = c.host.run(&python, &[script.to_str().unwrap(), c.kubeconfig().to_str().unwrap()], "");
    assert_eq!(output.stdout, "ok\n", "{output:?}");
}
