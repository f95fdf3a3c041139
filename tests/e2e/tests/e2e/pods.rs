//! What a pod may ask of its node.

use e2e::{Cluster, eventually, shared};

/// Runs a pod to its end and returns its logs.
fn outcome(c: &Cluster, namespace: &str, name: &str, spec: &str) -> String {
    c.apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{l: v}}, annotations: {{a: b}}}}\nspec:\n{spec}"));
    finished(c, namespace, name);
    c.kubectl(&["-n", namespace, "logs", name])
}

fn finished(c: &Cluster, namespace: &str, name: &str) -> String {
    eventually("an end of the pod", || {
        let phase = c.kubectl(&["-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.phase}"]);
        match phase.as_str() {
            "Succeeded" | "Failed" => Ok(phase),
            _ => Err(c.kubectl(&["-n", namespace, "describe", "pod", name])),
        }
    })
}

/// A field of a pod's first container status.
fn status(c: &Cluster, namespace: &str, name: &str, field: &str) -> String {
    c.kubectl(&[
        "-n",
        namespace,
        "get",
        "pod",
        name,
        "-o",
        &format!("jsonpath={{.status.containerStatuses[0].{field}}}"),
    ])
}

#[test]
fn init_containers_come_first_and_volumes_are_shared() {
    let c = shared();
    c.namespace("init");
    let log = outcome(c, "init", "p", "
  restartPolicy: Never
  initContainers:
  - {name: first, image: busybox:1.36, command: [sh, -c, 'echo first > /shared/f'], volumeMounts: [{name: v, mountPath: /shared}]}
  - {name: second, image: busybox:1.36, command: [sh, -c, 'echo second >> /shared/f'], volumeMounts: [{name: v, mountPath: /shared}]}
  containers:
  - {name: main, image: busybox:1.36, command: [cat, /shared/f], volumeMounts: [{name: v, mountPath: /shared}]}
  volumes: [{name: v, emptyDir: {}}]
");
    assert_eq!(log, "first\nsecond\n");
}

#[test]
fn environment_from_everywhere() {
    let c = shared();
    c.namespace("env");
    c.kubectl(&[
        "-n",
        "env",
        "create",
        "configmap",
        "cm",
        "--from-literal=FROM_CM=cm",
        "--from-literal=key=value",
    ]);
    c.kubectl(&["-n", "env", "create", "secret", "generic", "s", "--from-literal=password=hunter2"]);
    let log = outcome(c, "env", "p", "
  restartPolicy: Never
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, 'echo $LITERAL $EXPANDED $KEY $SECRET $FROM_CM $NAME $LABEL $LIMIT $0', $(LITERAL)-argument]
    resources: {limits: {memory: 64Mi}}
    envFrom: [{configMapRef: {name: cm}}]
    env:
    - {name: LITERAL, value: literal}
    - {name: EXPANDED, value: '<$(LITERAL)>'}
    - {name: KEY, valueFrom: {configMapKeyRef: {name: cm, key: key}}}
    - {name: SECRET, valueFrom: {secretKeyRef: {name: s, key: password}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['l']\"}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
");
    assert_eq!(log, "literal <literal> value hunter2 cm p v 67108864 literal-argument\n");
}

#[test]
fn volumes_of_every_kind() {
    let c = shared();
    c.namespace("volumes");
    c.kubectl(&["-n", "volumes", "create", "configmap", "cm", "--from-literal=key=from-configmap"]);
    c.kubectl(&["-n", "volumes", "create", "secret", "generic", "s", "--from-literal=key=from-secret"]);
    let host = c.host.directory().join("host-path");
    std::fs::create_dir_all(&host).unwrap();
    std::fs::write(host.join("file"), "from-host\n").unwrap();
    let log = outcome(
        c,
        "volumes",
        "p",
        &format!(
            "
  restartPolicy: Never
  containers:
  - name: main
    image: busybox:1.36
    command:
    - sh
    - -c
    - |
      cat /cm/key; echo; cat /secret/key; echo; stat -c %a /secret/..data/key; cat /host/file
      cat /down/labels; echo; cat /all/cm; echo; test -s /all/token && echo token
      cat /single; echo; touch /cm/new 2>/dev/null || echo read-only
    volumeMounts:
    - {{name: cm, mountPath: /cm}}
    - {{name: s, mountPath: /secret}}
    - {{name: h, mountPath: /host}}
    - {{name: d, mountPath: /down}}
    - {{name: a, mountPath: /all}}
    - {{name: cm, mountPath: /single, subPath: key}}
  volumes:
  - {{name: cm, configMap: {{name: cm}}}}
  - {{name: s, secret: {{secretName: s, defaultMode: 0400}}}}
  - {{name: h, hostPath: {{path: {}, type: Directory}}}}
  - {{name: d, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
  - name: a
    projected:
      sources:
      - {{configMap: {{name: cm, items: [{{key: key, path: cm}}]}}}}
      - {{serviceAccountToken: {{path: token, expirationSeconds: 600}}}}
",
            host.display()
        ),
    );
    assert_eq!(
        log,
        "from-configmap\nfrom-secret\n400\nfrom-host\nl=\"v\"\nfrom-configmap\ntoken\nfrom-configmap\nread-only\n"
    );
}

#[test]
fn a_changed_configmap_reaches_the_volume() {
    let c = shared();
    c.namespace("live");
    c.kubectl(&["-n", "live", "create", "configmap", "cm", "--from-literal=key=before"]);
    c.apply("
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: live}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: busybox:1.36, command: [sleep, infinity], volumeMounts: [{name: cm, mountPath: /cm}]}]
  volumes: [{name: cm, configMap: {name: cm}}]
");
    c.wait_pod_ready("live", "p");
    let read = || c.kubectl(&["-n", "live", "exec", "p", "--", "cat", "/cm/key"]);
    assert_eq!(read(), "before");
    c.kubectl(&["-n", "live", "patch", "configmap", "cm", "-p", r#"{"data":{"key":"after"}}"#]);
    eventually("the new value", || if read() == "after" { Ok(()) } else { Err(read()) });
}

#[test]
fn a_pod_talks_to_the_api_with_its_token() {
    let c = shared();
    c.namespace("token");
    let log = outcome(
        c,
        "token",
        "p",
        "
  restartPolicy: Never
  containers:
  - name: main
    image: busybox:1.36
    command:
    - sh
    - -c
    - |
      d=/var/run/secrets/kubernetes.io/serviceaccount
      ls $d; cat $d/namespace; echo
      env | grep -c ^KUBERNETES_SERVICE_HOST=10.96.0.1
",
    );
    assert_eq!(log, "ca.crt\nnamespace\ntoken\ntoken\n1\n");
}

#[test]
fn probes_decide() {
    let c = shared();
    c.namespace("probes");
    c.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: probes}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: http
    image: busybox:1.36
    command: [sh, -c, 'mkdir /w; echo ok > /w/ok; httpd -f -p 8080 -h /w']
    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 30}
    readinessProbe: {httpGet: {path: /ok, port: 8080}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {exec: {command: [test, '!', -e, /tmp/die]}, periodSeconds: 1, failureThreshold: 1}
",
    );
    c.wait_pod_ready("probes", "p");
    let exec = |command: &str| c.kubectl(&["-n", "probes", "exec", "p", "--", "sh", "-c", command]);
    exec("mv /w/ok /w/hidden");
    c.kubectl(&["-n", "probes", "wait", "--for=condition=Ready=false", "--timeout=60s", "pod/p"]);
    assert_eq!(status(c, "probes", "p", "restartCount"), "0", "readiness restarts nothing");
    exec("mv /w/hidden /w/ok");
    c.wait_pod_ready("probes", "p");
    exec("touch /tmp/die");
    eventually("a restart by liveness", || match status(c, "probes", "p", "restartCount").as_str() {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    });
    c.wait_pod_ready("probes", "p");
    let events = c.kubectl(&["-n", "probes", "get", "events", "-o", "jsonpath={.items[*].reason}"]);
    assert!(events.contains("Unhealthy") && events.contains("Killing"), "{events}");
}

#[test]
fn restart_policies_and_backoff() {
    let c = shared();
    c.namespace("restart");
    outcome(
        c,
        "restart",
        "never",
        "
  restartPolicy: Never
  containers: [{name: main, image: busybox:1.36, command: [sh, -c, exit 3]}]
",
    );
    assert_eq!(status(c, "restart", "never", "restartCount"), "0");
    assert_eq!(status(c, "restart", "never", "state.terminated.exitCode"), "3");
    assert_eq!(status(c, "restart", "never", "state.terminated.reason"), "Error");
    outcome(c, "restart", "on-failure", "
  restartPolicy: OnFailure
  containers:
  - {name: main, image: busybox:1.36, command: [sh, -c, 'test -e /v/x || { touch /v/x; exit 1; }'], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, emptyDir: {}}]
");
    assert_eq!(status(c, "restart", "on-failure", "restartCount"), "1");
    c.apply("{apiVersion: v1, kind: Pod, metadata: {name: always, namespace: restart}, spec: {containers: [{name: main, image: 'busybox:1.36', command: ['true']}]}}");
    eventually("CrashLoopBackOff", || {
        let row = c.kubectl(&["-n", "restart", "get", "pod", "always"]);
        if row.contains("CrashLoopBackOff") { Ok(()) } else { Err(row) }
    });
    c.kubectl(&["-n", "restart", "delete", "pod", "always", "--now"]);
}

#[test]
fn resources_become_cgroups() {
    let c = shared();
    c.namespace("resources");
    let log = outcome(c, "resources", "p", "
  restartPolicy: Never
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null']
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}
");
    assert!(log.starts_with("67108864\n50000"), "{log}");
    assert_eq!(
        c.kubectl(&["-n", "resources", "get", "pod", "p", "-o", "jsonpath={.status.qosClass}"]),
        "Burstable"
    );
    outcome(c, "resources", "oom", "
  restartPolicy: Never
  containers:
  - {name: main, image: busybox:1.36, command: [sh, -c, 'head -c 200m /dev/zero | tail'], resources: {limits: {memory: 16Mi}}}
");
    assert_eq!(status(c, "resources", "oom", "state.terminated.exitCode"), "137");
    assert_eq!(status(c, "resources", "oom", "state.terminated.reason"), "OOMKilled");
}

#[test]
fn security_contexts_are_kept() {
    let c = shared();
    c.namespace("secure");
    let log = outcome(c, "secure", "p", "
  restartPolicy: Never
  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000], seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: busybox:1.36
    command:
    - sh
    - -c
    - |
      id -u; id -g; id -G; stat -c %g /v; touch /x 2>/dev/null || echo read-only; touch /v/x && echo writable
      grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, emptyDir: {}}]
");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], ["1000", "3000"], "{log}");
    for group in ["3000", "2000", "4000"] {
        assert!(lines[2].contains(group), "{log}");
    }
    assert_eq!(lines[3..6], ["2000", "read-only", "writable"], "{log}");
    assert_eq!(lines[6..], ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"], "{log}");
}

#[test]
fn root_is_refused_where_it_must_not_be() {
    let c = shared();
    c.namespace("nonroot");
    c.apply("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: nonroot}, spec: {terminationGracePeriodSeconds: 0, securityContext: {runAsNonRoot: true}, containers: [{name: main, image: 'busybox:1.36', command: [sleep, infinity]}]}}");
    eventually("CreateContainerConfigError", || {
        let reason = status(c, "nonroot", "p", "state.waiting.reason");
        if reason == "CreateContainerConfigError" { Ok(()) } else { Err(reason) }
    });
    assert!(status(c, "nonroot", "p", "state.waiting.message").contains("runAsNonRoot"));
}

#[test]
fn hooks_and_grace() {
    let c = shared();
    c.namespace("hooks");
    let host = c.host.directory().join("hooks");
    std::fs::create_dir_all(&host).unwrap();
    c.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: hooks}}
spec:
  terminationGracePeriodSeconds: 20
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, 'trap \"echo term >> /v/log; exit 0\" TERM; while :; do sleep 0.1; done']
    lifecycle:
      postStart: {{exec: {{command: [sh, -c, 'echo started >> /v/log']}}}}
      preStop: {{exec: {{command: [sh, -c, 'echo stopping >> /v/log']}}}}
    volumeMounts: [{{name: v, mountPath: /v}}]
  volumes: [{{name: v, hostPath: {{path: {}}}}}]
",
        host.display()
    ));
    c.wait_pod_ready("hooks", "p");
    c.kubectl(&["-n", "hooks", "delete", "pod", "p", "--timeout=30s"]);
    assert_eq!(std::fs::read_to_string(host.join("log")).unwrap(), "started\nstopping\nterm\n");
}

#[test]
fn termination_messages() {
    let c = shared();
    c.namespace("message");
    outcome(c, "message", "p", "
  restartPolicy: Never
  containers: [{name: main, image: busybox:1.36, command: [sh, -c, 'echo farewell > /dev/termination-log; exit 1']}]
");
    assert_eq!(status(c, "message", "p", "state.terminated.message"), "farewell\n");
}

#[test]
fn a_forced_deletion_does_not_wait() {
    let c = shared();
    c.namespace("force");
    c.apply("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: force}, spec: {terminationGracePeriodSeconds: 3600, containers: [{name: main, image: 'busybox:1.36', command: [sh, -c, 'trap : TERM; while :; do sleep 1; done']}]}}");
    c.wait_pod_ready("force", "p");
    c.kubectl(&["-n", "force", "delete", "pod", "p", "--force", "--grace-period=0", "--timeout=30s"]);
}
