use serde_json::json;

use super::*;
use crate::plugins::PluginId;

fn pod(uid: &str, priority: i32) -> Arc<PodInfo> {
    let value = json!({"metadata": {"uid": uid}, "spec": {"containers": [], "priority": priority}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(value).unwrap())))
}

fn queue() -> Queue {
    Queue::new(Duration::from_secs(1), Duration::from_secs(10))
}

fn popped(queue: &mut Queue, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| queue.pop(now)).map(|waiting| waiting.pod.uid.to_string()).collect()
}

fn set(ids: &[PluginId]) -> PluginSet {
    ids.iter().copied().collect()
}

#[test]
fn important_pods_go_first_then_those_that_came_first() {
    let now = Instant::now();
    let mut queue = queue();
    for (uid, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
        queue.add(pod(uid, priority), 0, now);
    }
    queue.add(pod("a", 0), 0, now);
    queue.remove("b");
    assert_eq!(queue.pending().active, 3);
    assert_eq!(popped(&mut queue, now), ["d", "c", "a"]);
    assert_eq!(queue.pending(), Pending::default());
}

#[test]
fn an_unschedulable_pod_waits_for_what_helps_it() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(pod("a", 0), 0, now);
    let waiting = queue.pop(now).unwrap();
    queue.refused(waiting, set(&[PluginId::TaintToleration]), now);
    assert_eq!(queue.pending().unschedulable, 1);
    let helped = |queue: &mut Queue, kinds: Kinds, closer: bool| {
        queue.happened(kinds, now, |_, _| closer);
        queue.pending().unschedulable == 0
    };
    assert!(!helped(&mut queue, Kinds::POD_REMOVED, true), "no plugin that refused cares");
    assert!(!helped(&mut queue, Kinds::NODE_TAINTS, false), "on a closer look it does not help");
    assert!(helped(&mut queue, Kinds::NODE_TAINTS.or(Kinds::NODE_LABELS), true));
    assert_eq!(queue.pending().backoff, 1, "it has failed just now");
    queue.add(pod("b", 0), 0, now);
    assert_eq!(popped(&mut queue, now), ["b", "a"], "those that are let wait go when there is nobody else");
    assert!(queue.timers.is_empty() && queue.unschedulable.is_empty() && queue.backoff.is_empty());
}

#[test]
fn no_pod_waits_for_ever() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(pod("a", 0), 0, now);
    let waiting = queue.pop(now).unwrap();
    queue.refused(waiting, set(&[]), now);
    assert_eq!(queue.next_due(), Some(now + LONGEST_WAIT));
    assert_eq!(popped(&mut queue, now + LONGEST_WAIT), ["a"]);
}

#[test]
fn failures_wait_longer_each_time_and_are_not_hurried() {
    let now = Instant::now();
    let mut queue = queue();
    queue.add(pod("a", 0), 0, now);
    let mut at = now;
    for seconds in [1, 2, 4, 8, 10, 10] {
        let waiting = queue.pop(at).expect("due");
        queue.failed(waiting, at);
        assert!(queue.pop(at).is_none(), "nobody else is there, but the API server is to be spared");
        assert_eq!(queue.next_due(), Some(at + Duration::from_secs(seconds)));
        at += Duration::from_secs(seconds);
    }
    queue.remove("a");
    assert!(queue.timers.is_empty() && queue.pop(at).is_none());
}

#[test]
fn a_gated_pod_waits_until_it_is_changed() {
    let now = Instant::now();
    let mut queue = queue();
    queue.gate(pod("a", 0), 0, now);
    queue.happened(Kinds::NODE_ADDED, now, |_, _| true);
    assert!(queue.pop(now + LONGEST_WAIT).is_none());
    assert_eq!(queue.pending().gated, 1);
    queue.add(pod("a", 0), 0, now);
    assert_eq!(popped(&mut queue, now), ["a"]);
}
