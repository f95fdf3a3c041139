//! What flows between kubectl and a container: logs, exec, cp, attach, port-forward.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use e2e::{Cluster, eventually, shared};

fn pod(namespace: &str, name: &str, script: &str) -> String {
    let script = serde_json::Value::from(script);
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: busybox:1.36, stdin: true, command: [sh, -c, {script}]}}
"
    )
}

fn run(c: &Cluster, namespace: &str, name: &str, script: &str) {
    c.apply(&pod(namespace, name, script));
    c.wait_pod_ready(namespace, name);
}

#[test]
fn logs() {
    let c = shared();
    c.namespace("logs");
    run(c, "logs", "p", "echo one; echo two; echo three; while read line; do echo got $line; done");
    let n = |arguments: &[&str]| c.kubectl(&[&["-n", "logs", "logs"], arguments].concat());
    eventually("three lines", || {
        let text = n(&["p"]);
        if text == "one\ntwo\nthree\n" { Ok(()) } else { Err(text) }
    });
    assert_eq!(n(&["p", "--tail=1"]), "three\n");
    assert_eq!(n(&["p", "--limit-bytes=5"]), "one\nt");
    let stamped = n(&["p", "--timestamps", "--tail=1"]);
    assert!(stamped.starts_with("20") && stamped.ends_with("Z three\n"), "{stamped}");
    assert_eq!(n(&["-l", "app=p", "--all-containers", "--prefix"]).lines().next(), Some("[pod/p/main] one"));

    let mut follow = c.kubectl_command();
    let mut follow = follow.args(["-n", "logs", "logs", "-f", "p"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // Once the old lines are there, it follows: what comes now cannot be missed.
    for line in ["one", "two", "three"] {
        assert_eq!(lines.next().unwrap().unwrap(), line);
    }
    let mut attach = c.kubectl_command();
    let mut attach = attach
        .args(["-n", "logs", "attach", "-i", "p"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    attach.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got hello");
    for mut child in [follow, attach] {
        child.kill().unwrap();
        let _ = child.wait();
    }
}

#[test]
fn logs_of_the_previous_container() {
    let c = shared();
    c.namespace("previous");
    c.apply(
        &pod("previous", "p", "echo run; test -f /tmp/x && sleep infinity; exit 3")
            .replace("sleep infinity", "true"),
    );
    eventually("a restart", || {
        let restarts = c.kubectl(&[
            "-n",
            "previous",
            "get",
            "pod",
            "p",
            "-o",
            "jsonpath={.status.containerStatuses[0].restartCount}",
        ]);
        if restarts.parse::<u32>().unwrap_or(0) > 0 { Ok(()) } else { Err(restarts) }
    });
    assert_eq!(c.kubectl(&["-n", "previous", "logs", "p", "-p"]), "run\n");
    let code = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}";
    assert_eq!(c.kubectl(&["-n", "previous", "get", "pod", "p", "-o", code]), "3");
}

#[test]
fn exec() {
    let c = shared();
    c.namespace("exec");
    run(c, "exec", "p", "sleep infinity");
    let exec = |arguments: &[&str], stdin: &str| {
        c.try_kubectl(&[&["-n", "exec", "exec"], arguments].concat(), stdin)
    };
    let check = |arguments: &[&str], stdin: &str, stdout: &str, stderr: &str| {
        let output = exec(arguments, stdin);
        assert!(output.ok && output.stdout == stdout && output.stderr == stderr, "{arguments:?}: {output:?}");
    };
    check(&["p", "--", "echo", "hi"], "", "hi\n", "");
    check(&["p", "--", "sh", "-c", "echo out; echo err >&2"], "", "out\n", "err\n");
    check(&["-i", "p", "--", "cat"], "from here\n", "from here\n", "");
    let big = "0123456789abcdef".repeat(1 << 14);
    check(&["-i", "p", "--", "cat"], &big, &big, "");
    let failed = exec(&["p", "--", "sh", "-c", "exit 7"], "");
    assert!(!failed.ok && failed.stderr.contains("exit code 7"), "{failed:?}");
    let missing = exec(&["p", "--", "no-such-program"], "");
    assert!(!missing.ok && missing.stderr.contains("no-such-program"), "{missing:?}");
    let nobody = exec(&["p", "-c", "nobody", "--", "true"], "");
    assert!(nobody.stderr.contains("container nobody is not valid for pod p"), "{nobody:?}");
}

#[test]
fn exec_on_a_terminal() {
    let c = shared();
    c.namespace("tty");
    run(c, "tty", "p", "sleep infinity");
    // `script` gives kubectl a terminal of its own.
    let kubectl = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let command = format!(
        "stty rows 31 cols 97; {kubectl} -n tty exec -it p -- sh -c 'tty; stty size; exit 4'; echo code $?"
    );
    let mut script = c.host.command("script");
    let output = script
        .env("KUBECONFIG", c.kubeconfig())
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script is part of bsdutils");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("/dev/pts/") && text.contains("code 4"), "{text}");
}

#[test]
fn copying() {
    let c = shared();
    c.namespace("cp");
    run(c, "cp", "p", "sleep infinity");
    let source = c.host.file("source.txt", &"line\n".repeat(100_000));
    c.kubectl(&["-n", "cp", "cp", source.to_str().unwrap(), "p:/tmp/there.txt"]);
    let back = c.host.directory().join("back.txt");
    c.kubectl(&["-n", "cp", "cp", "p:/tmp/there.txt", back.to_str().unwrap()]);
    assert_eq!(std::fs::read(source).unwrap(), std::fs::read(back).unwrap());
}

#[test]
fn forwarding_ports() {
    let c = shared();
    c.namespace("forward");
    run(c, "forward", "p", "mkdir /www; echo forwarded > /www/index.html; httpd -f -p 8080 -h /www");
    let mut forward = c.kubectl_command();
    let mut forward = forward
        .args(["-n", "forward", "port-forward", "pod/p", ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(forward.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address =
        line.strip_prefix("Forwarding from ").and_then(|l| l.split(' ').next()).expect(&line).to_owned();
    for _ in 0..3 {
        let output = c.host.run("curl", &["-sS", "--max-time", "10", &format!("http://{address}/")], "");
        assert_eq!(output.stdout, "forwarded\n", "{output:?}");
    }
    forward.kill().unwrap();
    let _ = forward.wait();
}
