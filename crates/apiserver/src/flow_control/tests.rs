use std::future::Future;
use std::task::{Context, Poll};

use futures::task::noop_waker;
use http::Method;
use proptest::prelude::*;
use serde_json::json;

use super::queue::{Queues, Queuing, Waiting};
use super::*;
use crate::options::Query;

fn classify(control: &FlowControl, user: &UserInfo, method: Method, path: &str) -> String {
    let info = RequestInfo::parse(&method, path, "");
    let configuration = control.configuration.load();
    let schema = configuration.schemas.iter().find(|schema| schema.matches(&info, user));
    schema.map(|schema| schema.name.to_string()).unwrap_or_default()
}

#[test]
fn every_request_has_a_schema() {
    let control = FlowControl::new(600);
    let check = |name: &str, groups: &[&str], method: Method, path: &str, expected: &str| {
        let user = UserInfo::authenticated(name, groups);
        assert_eq!(classify(&control, &user, method, path), expected, "{name} {path}");
    };
    let nodes: &[&str] = &["system:nodes"];
    check("admin", &["system:masters"], Method::GET, "/api/v1/pods", "exempt");
    check("bob", &[], Method::GET, "/healthz", "probes");
    check("bob", &[], Method::GET, "/healthz/etcd", "global-default");
    check("bob", &[], Method::GET, "/api/v1/pods", "global-default");
    check("system:node:n", nodes, Method::PATCH, "/api/v1/nodes/n/status", "system-node-high");
    check("system:node:n", nodes, Method::GET, "/api/v1/pods", "system-nodes");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    check("system:node:n", nodes, Method::POST, leases, "system-node-high");
    check("system:kube-scheduler", &[], Method::POST, leases, "system-leader-election");
    check("system:kube-scheduler", &[], Method::GET, "/api/v1/pods", "kube-scheduler");
    let accounts: &[&str] = &["system:serviceaccounts"];
    let (system, other) = ("system:serviceaccount:kube-system:a", "system:serviceaccount:ns:a");
    check(system, accounts, Method::GET, "/api/v1/pods", "kube-system-service-accounts");
    check(other, accounts, Method::GET, "/api/v1/pods", "service-accounts");
    assert_eq!(classify(&control, &UserInfo::anonymous(), Method::GET, "/api/v1/pods"), "global-default");
}

/// One level of two seats whose requests wait in one queue per user.
fn narrow(response: Value) -> FlowControl {
    let control = FlowControl::new(2);
    let level = json!({"metadata": {"name": "narrow", "uid": "l"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 1, "limitResponse": response,
    }}});
    let schema = json!({"metadata": {"name": "all", "uid": "s"}, "spec": {
        "priorityLevelConfiguration": {"name": "narrow"}, "matchingPrecedence": 1,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}],
                   "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}],
    }});
    control.configure(&[schema], &[level]);
    control
}

fn queues(length: u32) -> Value {
    json!({"type": "Queue", "queuing": {"queues": 64, "handSize": 4, "queueLengthLimit": length}})
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&noop_waker()))
}

fn metrics(control: &FlowControl) -> String {
    let mut page = exposition::Page::default();
    control.write_metrics(&mut page);
    page.text()
}

#[tokio::test]
async fn who_finds_no_seat_waits_for_one() {
    let control = narrow(queues(1));
    let info = RequestInfo::parse(&Method::GET, "/x", "");
    let user = UserInfo::authenticated("a", &[]);
    let enter = || control.enter(&info, &user, |_| 1);
    let first = enter().await.ok().expect("a seat");
    let _second = enter().await.ok().expect("a seat");
    let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(enter())).collect();
    for one in &mut waiting {
        assert!(poll(one.as_mut()).is_pending(), "a hand of four queues of length one");
    }
    let refused = enter().await.err().expect("every queue is full");
    assert_eq!(refused.status().code, 429);
    let (schema, level) = refused.uids();
    assert_eq!((schema.unwrap().as_bytes(), level.unwrap().as_bytes()), (&b"s"[..], &b"l"[..]));
    // Who goes away leaves its place.
    waiting.pop();
    let mut late = Box::pin(enter());
    assert!(poll(late.as_mut()).is_pending());
    waiting.push(late);
    drop(first);
    // Each passes its seat on to the next when it is dropped.
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain_mut(|one| match poll(one.as_mut()) {
            Poll::Ready(ticket) => {
                assert!(ticket.is_ok());
                false
            }
            Poll::Pending => true,
        });
        assert!(waiting.len() < before, "nobody got the seat that was given back");
    }
    let text = metrics(&control);
    assert!(
        text.contains(
            "rejected_requests_total{flow_schema=\"all\",priority_level=\"narrow\",reason=\"queue-full\"} 1"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn what_waits_is_told() {
    let control = narrow(queues(5));
    let info = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/n/pods/p/log", "");
    let mut path = RequestInfo::parse(&Method::GET, "/x", "");
    let user = UserInfo::authenticated("alice", &[]);
    let held = control.enter(&path, &user, |_| 2).await.ok().expect("seats");
    path.namespace = info.namespace;
    let mut waiting = Box::pin(control.enter(&path, &user, |_| 1));
    assert!(poll(waiting.as_mut()).is_pending());
    let dump = |what: &str| {
        let (path, query) = what.split_once('?').unwrap_or((what, ""));
        control.dump(&format!("/debug/api_priority_and_fairness/{path}"), &Query::parse(Some(query))).unwrap()
    };
    let cells = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let levels = dump("dump_priority_levels");
    assert_eq!(
        levels,
        "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, \
         DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests\n\
         narrow,            1,            false,  false,       1,               1,                 1,                  \
         0,                0,                0\n"
    );
    let table = dump("dump_queues");
    assert_eq!(table.lines().count(), 1 + 64);
    let used: Vec<_> = table.lines().skip(1).map(cells).filter(|row| row[2] == "1").collect();
    assert_eq!(used.len(), 1);
    assert_eq!(used[0][5..], ["0.00000000ss", "1", "1", "0.00300000ss"]);
    let requests = cells(dump("dump_requests").lines().nth(1).unwrap());
    assert_eq!((&requests[..2], &requests[2]), (&["narrow".to_owned(), "all".to_owned()][..], &used[0][1]));
    assert_eq!((&*requests[4], &*requests[6]), ("alice", "1"));
    let detailed = cells(dump("dump_requests?includeRequestDetails=1").lines().nth(1).unwrap());
    assert_eq!(detailed[10..], ["alice", "get", "/x", "n", "", "", "", ""]);
    // Who goes away is counted.
    drop(waiting);
    drop(held);
    let row = cells(dump("dump_priority_levels").lines().nth(1).unwrap());
    assert_eq!(row[1..], ["0", "true", "false", "0", "0", "1", "0", "0", "1"]);
    assert_eq!(control.dump("/debug/api_priority_and_fairness/x", &Query::parse(None)), None);
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let control = narrow(queues(5));
    let info = RequestInfo::parse(&Method::GET, "/x", "");
    let user = UserInfo::authenticated("a", &[]);
    let _both = control.enter(&info, &user, |_| 2).await.ok().expect("seats");
    assert!(control.enter(&info, &user, |_| 1).await.is_err());
    assert!(metrics(&control).contains("reason=\"time-out\"} 1"));
}

#[tokio::test]
async fn without_queues_nobody_waits() {
    let control = narrow(json!({"type": "Reject"}));
    let info = RequestInfo::parse(&Method::GET, "/x", "");
    let user = UserInfo::authenticated("a", &[]);
    // More seats than there are: alone it may.
    let all = control.enter(&info, &user, |_| 10).await.ok().expect("seats");
    assert!(control.enter(&info, &user, |_| 1).await.is_err());
    drop(all);
    assert!(control.enter(&info, &user, |_| 1).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_seat_is_lost() {
    let control = Arc::new(narrow(queues(1000)));
    let tasks: Vec<_> = (0..500)
        .map(|n| {
            let control = control.clone();
            tokio::spawn(async move {
                let info = RequestInfo::parse(&Method::GET, "/x", "");
                let user = UserInfo::authenticated(&format!("u{}", n % 7), &[]);
                let ticket = control.enter(&info, &user, |_| 1 + n % 2).await;
                tokio::task::yield_now().await;
                ticket.is_ok()
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    let info = RequestInfo::parse(&Method::GET, "/x", "");
    let user = UserInfo::authenticated("last", &[]);
    assert!(control.enter(&info, &user, |_| 2).await.is_ok());
}

fn some_schema() -> Arc<Schema> {
    FlowControl::new(1).configuration.load().schemas[0].clone()
}

#[test]
fn a_busy_flow_does_not_keep_others_waiting() {
    let mut queues = Queues::new(Some(Queuing { queues: 128, hand: 6, length: 1000 }));
    let schema = some_schema();
    let waiting = |flow: u64| Waiting { seats: 1, flow, schema: schema.clone(), turn: flow };
    let busy = 0x1234_5678_9abc_def0;
    for _ in 0..1000 {
        queues.push(waiting(busy)).unwrap();
    }
    let quiet = 0xfedc_ba98_7654_3210;
    queues.push(waiting(quiet)).unwrap();
    let mut before = 0;
    while queues.pop().unwrap().turn != quiet {
        before += 1;
        queues.finished(busy, 1, Duration::from_millis(100));
    }
    assert!(before <= 12, "{before} requests of the busy flow came first");
}

proptest! {
    #[test]
    fn what_is_pushed_is_popped_or_removed_once(
        flows in prop::collection::vec((0u64..20, 1usize..4), 1..80),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        hand in 1usize..9, count in 1usize..20,
    ) {
        let mut queues = Queues::new(Some(Queuing { queues: count, hand, length: 100 }));
        let schema = some_schema();
        let mut numbers: Vec<u64> = Vec::new();
        for (flow, seats) in &flows {
            let flow = flow.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            numbers.push(queues.push(Waiting { seats: *seats, flow, schema: schema.clone(), turn: () }).unwrap());
        }
        let mut left = flows.len();
        for index in removed {
            let number = numbers[index.index(numbers.len())];
            left -= usize::from(queues.remove(number));
            prop_assert!(!queues.remove(number));
        }
        queues.configure(Some(Queuing { queues: 7, hand: 2, length: 1 }));
        for _ in 0..left {
            let seats = queues.next_seats();
            let popped = queues.pop();
            prop_assert_eq!(popped.map(|one| one.seats), seats);
        }
        prop_assert!(queues.pop().is_none());
    }
}
