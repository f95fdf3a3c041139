//! Several API servers at one etcd cluster: a client may ask any of them.

use std::sync::Arc;

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use store::{EtcdOptions, Options, Store};

use crate::etcd::Cluster;
use crate::fixture::*;

async fn server(cluster: &Cluster, number: usize) -> Server {
    let mut servers = cluster.servers();
    servers.rotate_left(number % cluster.servers().len());
    let options = EtcdOptions { servers, ..EtcdOptions::default() };
    let store = Store::connect(options, Options::default()).await.unwrap();
    Server::at([192, 0, 2, 1 + number as u8].into(), store).await
}

async fn two(cluster: &Cluster) -> (Server, Server) {
    // At the same time: both make what every cluster has.
    tokio::join!(server(cluster, 0), server(cluster, 1))
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sees_what_the_other_has_written() {
    let cluster = Cluster::start(1);
    let (one, other) = two(&cluster).await;
    for count in 0..20 {
        let path = format!("{CONFIG_MAPS}/a{count}");
        let made = one.post(CONFIG_MAPS, &config_map(&format!("a{count}"))).await.ok();
        assert_eq!(other.get(&path).await.ok(), made);
        let listed = other.get(CONFIG_MAPS).await.ok();
        assert!(listed["items"].as_array().unwrap().contains(&made));
        assert!(version(&listed) >= version(&made));
        // Whoever has a version from one may use it at the other.
        let mut changed = made.clone();
        changed["data"]["a"] = json!("2");
        let changed = other.put(&path, &changed).await.ok();
        assert_eq!(one.put(&path, &made).await.failure().0, 409);
        assert_eq!(one.get(&path).await.ok(), changed);
        let patch = json!({"data": {"b": "3"}});
        let patched = one.patch(&path, "merge-patch+json", &patch).await.ok();
        assert_eq!(patched["data"], json!({"a": "2", "b": "3"}));
        other.delete(&path, "").await.ok();
        assert_eq!(one.get(&path).await.code, 404);
        assert_eq!(one.delete(&path, "").await.code, 404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_lacks_is_looked_up() {
    let cluster = Cluster::start(1);
    let (one, other) = two(&cluster).await;
    for count in 0..20 {
        let name = format!("new-{count}");
        one.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await.ok();
        let path = format!("/api/v1/namespaces/{name}/configmaps");
        other.post(&path, &config_map("a")).await.ok();
        assert_eq!(one.post(&path, &config_map("a")).await.failure().1, "AlreadyExists");
        // Nothing changes: not because of what the other has not heard of.
        one.put(&format!("{path}/a"), &json!({"metadata": {"name": "a"}, "data": {"a": "2"}})).await.ok();
        let same = other.put(&format!("{path}/a"), &config_map("a")).await.ok();
        assert_eq!(same["data"]["a"], "1");
        assert_eq!(one.get(&format!("{path}/a")).await.ok(), same);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_what_both_write() {
    let cluster = Cluster::start(1);
    let (one, other) = two(&cluster).await;
    let from = version(&other.get(CONFIG_MAPS).await.ok());
    let watch = other
        .open(request(Method::GET, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}"), "", ""))
        .await;
    let mut expected = Vec::new();
    for count in 0..20 {
        let server = if count % 2 == 0 { &one } else { &other };
        let made = server.post(CONFIG_MAPS, &config_map(&format!("a{count}"))).await.ok();
        expected.push(version(&made));
    }
    let mut body = watch.into_body();
    let mut text = Vec::new();
    while text.iter().filter(|byte| **byte == b'\n').count() < expected.len() {
        text.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let told: Vec<u64> = String::from_utf8(text)
        .unwrap()
        .lines()
        .map(|line| version(&serde_json::from_str::<Value>(line).unwrap()["object"]))
        .collect();
    assert_eq!(told, expected);
}

/// Everybody adds one again and again, at either server; no addition is lost, while members die.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_update_is_lost_while_members_die() {
    const CLIENTS: u64 = 4;
    const EACH: u64 = 15;
    let mut cluster = Cluster::start(3);
    let (one, other) = two(&cluster).await;
    let servers = [Arc::new(one), Arc::new(other)];
    let path = format!("{CONFIG_MAPS}/counter");
    let counter = json!({"metadata": {"name": "counter"}, "data": {"n": "0"}});
    servers[0].post(CONFIG_MAPS, &counter).await.ok();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (servers, path) = (servers.clone(), path.clone());
            tokio::spawn(async move {
                let mut done = 0;
                for attempt in client.. {
                    let server = &servers[attempt as usize % 2];
                    let got = server.get(&path).await;
                    if got.code == 504 {
                        continue;
                    }
                    let mut object = got.ok();
                    let n: u64 = object["data"]["n"].as_str().unwrap().parse().unwrap();
                    object["data"]["n"] = json!((n + 1).to_string());
                    // A write whose answer got lost is recognized by its content, so no two may write the same.
                    object["data"]["by"] = json!(format!("{client}-{attempt}"));
                    match server.put(&path, &object).await.code.as_u16() {
                        200 => done += 1,
                        409 => {}
                        // It may have happened.
                        504 => panic!("the answer of a write got lost, and its history too"),
                        code => panic!("{code}"),
                    }
                    if done == EACH {
                        return;
                    }
                }
            })
        })
        .collect();
    for member in 0..3 {
        cluster.kill(member);
        servers[0].get(&path).await.ok();
        cluster.restart(member);
        // Two of three are there again before the next one goes.
        servers[1]
            .patch(&path, "merge-patch+json", &json!({"data": {"seen": member.to_string()}}))
            .await
            .ok();
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(servers[0].get(&path).await.ok()["data"]["n"], (CLIENTS * EACH).to_string());
}

#[tokio::test]
async fn readiness_is_that_of_the_store() {
    let mut cluster = Cluster::start(1);
    let server = server(&cluster, 0).await;
    assert_eq!(server.get("/readyz/etcd").await.code, 200);
    cluster.kill(0);
    assert_eq!(server.get("/readyz/etcd").await.code, 500);
    // Reads that may be old are still answered.
    let old = server.get("/api/v1/namespaces/default?resourceVersion=0").await.ok();
    assert_eq!(old["metadata"]["name"], "default");
    cluster.restart(0);
    assert_eq!(server.get("/api/v1/namespaces/default").await.ok(), old);
    assert_eq!(server.get("/readyz/etcd").await.code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_services_get_the_same() {
    let cluster = Cluster::start(1);
    let (one, other) = two(&cluster).await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, address: Option<&str>| {
        let mut service = json!({
            "metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]},
        });
        if let Some(address) = address {
            service["spec"]["clusterIP"] = json!(address);
        }
        service
    };
    for count in 0..10 {
        // Both want the same one, at the same time.
        let address = format!("10.96.0.{}", 100 + count);
        let (mine, theirs) = (format!("a{count}"), format!("b{count}"));
        let (mine, theirs) = (service(&mine, Some(&address)), service(&theirs, Some(&address)));
        let (first, second) = tokio::join!(one.post(path, &mine), other.post(path, &theirs));
        let mut codes = [first.code.as_u16(), second.code.as_u16()];
        codes.sort();
        assert_eq!(codes, [201, 422], "{:?} {:?}", first.bytes, second.bytes);
    }
    for count in 0..10 {
        let (mine, theirs) = (service(&format!("c{count}"), None), service(&format!("d{count}"), None));
        let (first, second) = tokio::join!(one.post(path, &mine), other.post(path, &theirs));
        first.ok();
        second.ok();
    }
    let list = one.get(path).await.ok();
    let of = |pointer: &str| {
        let items = list["items"].as_array().unwrap().iter();
        let mut all: Vec<String> =
            items.filter_map(|item| item.pointer(pointer)).map(Value::to_string).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        (count, all.len())
    };
    // The `kubernetes` Service has an address too.
    assert_eq!(of("/spec/clusterIP"), (31, 31));
    assert_eq!(of("/spec/ports/0/nodePort"), (30, 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_leads_to_those_that_are_there() {
    let cluster = Cluster::start(1);
    let (one, other) = two(&cluster).await;
    let third = server(&cluster, 2).await;
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let addresses = |slice: Value| {
        let endpoints = slice["endpoints"].as_array().unwrap().iter();
        endpoints.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(one.get(slice).await.ok()), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let endpoints = other.get("/api/v1/namespaces/default/endpoints/kubernetes").await.ok();
    assert_eq!(endpoints["subsets"][0]["addresses"].as_array().unwrap().len(), 3);
    // One that stops takes itself out.
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    other.api.serve(listener, stop).await;
    assert_eq!(addresses(third.get(slice).await.ok()), ["192.0.2.1", "192.0.2.3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_what_another_has_left_of_a_quota() {
    let cluster = Cluster::start(1);
    let (one, other) = two(&cluster).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "7"}}});
    one.post("/api/v1/namespaces/default/resourcequotas", &quota).await.ok();
    let servers = [&one, &other];
    let answers = futures::future::join_all((0..24).map(async |count| {
        let answer = servers[count % 2].post(CONFIG_MAPS, &config_map(&format!("c{count}"))).await;
        if answer.code == 201 {
            return 1;
        }
        let (code, _, message) = answer.failure();
        assert_eq!(code, 403, "{message}");
        let expected =
            "exceeded quota: q, requested: configmaps=1, used: configmaps=7, limited: configmaps=7";
        assert!(message.contains(expected), "{message}");
        0
    }));
    assert_eq!(answers.await.into_iter().sum::<usize>(), 7);
    let list = other.get(CONFIG_MAPS).await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 7);
    // What is given back at one may be had at the other.
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap();
    other.delete(&format!("{CONFIG_MAPS}/{name}"), "").await.ok();
    one.post(CONFIG_MAPS, &config_map("more")).await.ok();
    assert_eq!(other.post(CONFIG_MAPS, &config_map("too-many")).await.code, 403);
}
