//! Both families between two nodes: pods, Services, names; and Services that change their families. IPv6 alone.

use e2e::{Cluster, eventually};
use serde_json::Value;

const KIND: &str = "kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes: [{role: control-plane}, {role: worker}]
networking: {ipFamily: FAMILIES}
";

const WEB: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{operator: Exists}]
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, 'mkdir /w; echo $NODE > /w/index.html; httpd -p 8080 -h /w; exec sleep infinity']
        env:
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: HOST_IPS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: single}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// A cluster of that family or families.
fn create(families: &str) -> Cluster {
    let file = std::env::temp_dir().join(format!("corten-{families}-{}.yaml", std::process::id()));
    std::fs::write(&file, KIND.replace("FAMILIES", families)).unwrap();
    let c = Cluster::create(&["--config", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    c
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten();
    let text =
        |item: &Value| if field.is_empty() { item.as_str() } else { item[field].as_str() }.map(str::to_owned);
    texts.filter_map(text).collect()
}

/// One of each family, IPv4 first.
#[track_caller]
fn both(ips: &[String]) {
    assert!(matches!(ips, [v4, v6] if !v4.contains(':') && v6.contains(':')), "{ips:?}");
}

fn get(c: &Cluster, pod: &str, host: &str, port: u16) -> Result<String, String> {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {host} {port} | tail -n 1");
    let output = c.try_kubectl(&["exec", pod, "--", "sh", "-c", &script], "");
    let page = output.stdout.trim().to_owned();
    if output.ok && page.contains("-control-plane") | page.contains("-worker") {
        Ok(page)
    } else {
        Err(format!("{output:?}"))
    }
}

fn families(c: &Cluster, service: &str) -> (Vec<String>, Vec<String>) {
    let spec = c.get(&["service", service])["spec"].clone();
    (texts(&spec["ipFamilies"], ""), texts(&spec["clusterIPs"], ""))
}

fn internal_ips(node: &Value) -> Vec<String> {
    let addresses = node["status"]["addresses"].as_array().unwrap();
    let internal = addresses.iter().filter(|address| address["type"] == "InternalIP");
    texts(&internal.cloned().collect(), "address")
}

#[test]
fn ipv6_alone_between_two_nodes() {
    let c = create("ipv6");
    c.apply(&WEB.replace("RequireDualStack", "SingleStack"));
    c.kubectl(&["rollout", "status", "daemonset/web", "--timeout=60s"]);
    let only = |ips: Vec<String>| match &ips[..] {
        [ip] if ip.contains(':') => ip.clone(),
        _ => panic!("{ips:?}"),
    };
    let nodes = c.get(&["nodes"]);
    let node_ips: Vec<String> =
        nodes["items"].as_array().unwrap().iter().map(|node| only(internal_ips(node))).collect();
    let service = only(families(&c, "web").1);
    only(families(&c, "kubernetes").1);
    let pods = c.get(&["pods", "-l", "app=web"]);
    let pods = pods["items"].as_array().unwrap();
    let names: Vec<&str> = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
    for name in &names {
        for other in pods {
            let ip = only(texts(&other["status"]["podIPs"], "ip"));
            let page = get(&c, name, &ip, 8080);
            assert_eq!(page.as_deref(), Ok(other["spec"]["nodeName"].as_str().unwrap()), "{ip}");
        }
        eventually("an answer", || get(&c, name, &service, 80));
        eventually("an answer by name", || get(&c, name, "web.default", 80));
        for ip in &node_ips {
            eventually("an answer by a node port", || get(&c, name, ip, 30080));
        }
        assert_eq!(c.kubectl(&["logs", name]), "");
    }
}

#[test]
fn both_families_between_two_nodes() {
    let c = create("dual");
    c.apply(WEB);
    c.kubectl(&["rollout", "status", "daemonset/web", "--timeout=60s"]);
    let nodes = c.get(&["nodes"]);
    for node in nodes["items"].as_array().unwrap() {
        both(&texts(&node["spec"]["podCIDRs"], ""));
        both(&internal_ips(node));
    }
    let node_ips: Vec<String> = nodes["items"].as_array().unwrap().iter().flat_map(internal_ips).collect();
    let pods = c.get(&["pods", "-l", "app=web"]);
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 2);
    let (_, services) = families(&c, "web");
    both(&services);
    let headless = c.get(&["endpointslices", "-l", "kubernetes.io/service-name=headless"]);
    assert_eq!(headless["items"].as_array().unwrap().len(), 2, "a slice of each family: {headless}");
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap();
        both(&texts(&pod["status"]["hostIPs"], "ip"));
        assert_eq!(c.kubectl(&["exec", name, "--", "sh", "-c", "echo $HOST_IPS"]).matches(',').count(), 1);
        for other in pods {
            let ips = texts(&other["status"]["podIPs"], "ip");
            both(&ips);
            for ip in ips {
                assert_eq!(
                    get(&c, name, &ip, 8080).unwrap(),
                    other["spec"]["nodeName"].as_str().unwrap(),
                    "{ip}"
                );
            }
        }
        for service in &services {
            eventually("an answer", || get(&c, name, service, 80));
        }
        for ip in &node_ips {
            eventually("an answer by a node port", || get(&c, name, ip, 30080));
        }
        for (service, kind, wanted) in [("web", "aaaa", &services[1]), ("web", "a", &services[0])] {
            let asked = format!("{service}.default.svc.cluster.local");
            let found = c.kubectl(&["exec", name, "--", "nslookup", &format!("-type={kind}"), &asked]);
            assert!(found.contains(wanted.as_str()), "{found}");
        }
    }
    changing(&c, pods[0]["metadata"]["name"].as_str().unwrap());
}

/// A Service is given a second family, keeps the first, and gives the second back.
fn changing(c: &Cluster, client: &str) {
    let (own, before) = families(c, "single");
    assert_eq!((own, before.len()), (vec!["IPv4".to_owned()], 1));
    let change = |patch: &str| c.kubectl(&["patch", "service", "single", "-p", patch]);
    change("{\"spec\": {\"ipFamilyPolicy\": \"PreferDualStack\"}}");
    let (own, after) = families(c, "single");
    assert_eq!((own, &after[0]), (vec!["IPv4".to_owned(), "IPv6".to_owned()], &before[0]));
    eventually("an answer by the new address", || get(c, client, &after[1], 80));
    change("{\"spec\": {\"ipFamilyPolicy\": \"SingleStack\"}}");
    assert_eq!(families(c, "single"), (vec!["IPv4".to_owned()], before.clone()));
    eventually("no answer by the old address", || match get(c, client, &after[1], 80) {
        Ok(page) => Err(page),
        Err(_) => Ok(()),
    });
    eventually("an answer", || get(c, client, &before[0], 80));
    // The first family is the Service's for good.
    let refused = c
        .kubectl_fails(&["patch", "service", "single", "-p", "{\"spec\": {\"ipFamilies\": [\"IPv6\"]}}"], "");
    assert!(refused.contains("spec.ipFamilies[0]"), "{refused}");
}
