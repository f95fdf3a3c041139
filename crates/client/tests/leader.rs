//! Candidates at one API server: one leads, and when it goes, another does.

use std::net::IpAddr;
use std::time::Duration;

use apiserver::{ApiServer, Config, UserInfo};
use client::leader::{Election, LeadError};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Fixture {
    client: kube::Client,
    _files: TempDir,
}

#[derive(Debug, thiserror::Error)]
#[error("the part failed")]
struct Failed;

/// A process that wants to lead: tells when it does, and ends its part when told to.
struct Candidate {
    stop: CancellationToken,
    leads: mpsc::UnboundedReceiver<()>,
    fail: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), LeadError<Failed>>>,
}

impl Fixture {
    async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let advertise = IpAddr::from([192, 0, 2, 1]);
        let names = pki::Names {
            cluster: "test".to_owned(),
            server: "https://192.0.2.1:6443".to_owned(),
            domain: "cluster.local".to_owned(),
            addresses: vec![advertise],
            hostnames: Vec::new(),
        };
        pki::Cluster::ensure(files.path(), names).unwrap();
        let config = Config::from_pki(files.path(), advertise, 6443);
        let server = ApiServer::start(config, store::Store::in_memory().unwrap()).await.unwrap();
        let user = UserInfo::authenticated("test", &["system:masters"]);
        Self { client: client::in_process(server.service(user), "test"), _files: files }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), "kube-system")
    }

    async fn lease(&self) -> LeaseSpec {
        self.leases().get("work").await.unwrap().spec.unwrap()
    }

    fn candidate(&self, identity: &str) -> Candidate {
        self.candidate_with(Election::new("work", identity.to_owned()))
    }

    fn candidate_with(&self, election: Election) -> Candidate {
        let (client, stop) = (self.client.clone(), CancellationToken::new());
        let (tell, leads) = mpsc::unbounded_channel();
        let (fail, failing) = oneshot::channel();
        let shutdown = stop.clone();
        let ended = tokio::spawn(async move {
            let part = |stop: CancellationToken| async move {
                tell.send(()).unwrap();
                tokio::select! {
                    () = stop.cancelled() => Ok(()),
                    Ok(()) = failing => Err(Failed),
                }
            };
            election.lead(client, shutdown, part).await
        });
        Candidate { stop, leads, fail: Some(fail), ended }
    }
}

impl Candidate {
    async fn leads(&mut self) {
        self.leads.recv().await.expect("it leads");
    }
}

#[tokio::test]
async fn one_leads_and_gives_up_when_it_is_stopped() {
    let fixture = Fixture::new().await;
    let mut one = fixture.candidate("one");
    one.leads().await;
    let first = fixture.lease().await;
    assert_eq!(first.holder_identity.as_deref(), Some("one"));
    assert_eq!((first.lease_duration_seconds, first.lease_transitions), (Some(15), Some(0)));

    let mut two = fixture.candidate("two");
    let mut three = fixture.candidate("three");
    one.stop.cancel();
    one.ended.await.unwrap().unwrap();
    // At once, not when the lease has run out.
    let next = tokio::select! {
        () = two.leads() => "two",
        () = three.leads() => "three",
    };
    let second = fixture.lease().await;
    assert_eq!(second.holder_identity.as_deref(), Some(next));
    assert_eq!(second.lease_transitions, Some(1));
    assert!(second.acquire_time > first.acquire_time);
    let (leader, other) = if next == "two" { (two, three) } else { (three, two) };
    // One that waits ends when it is told to.
    other.stop.cancel();
    other.ended.await.unwrap().unwrap();
    leader.stop.cancel();
    leader.ended.await.unwrap().unwrap();
    let released = fixture.lease().await;
    assert_eq!(released.holder_identity.as_deref(), Some(""));
    assert_eq!((released.lease_duration_seconds, released.lease_transitions), (Some(1), Some(1)));
}

#[tokio::test]
async fn one_that_died_is_succeeded_when_its_lease_has_run_out() {
    let fixture = Fixture::new().await;
    let quick = |identity: &str| Election {
        lease_duration: Duration::from_secs(2),
        renew_deadline: Duration::from_secs(1),
        retry_period: Duration::from_millis(200),
        ..Election::new("work", identity.to_owned())
    };
    let mut one = fixture.candidate_with(quick("one"));
    one.leads().await;
    let renewed = loop {
        let now = fixture.lease().await;
        if now.renew_time > now.acquire_time {
            break now;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(renewed.lease_transitions, Some(0));
    one.ended.abort();
    let mut two = fixture.candidate_with(quick("two"));
    two.leads().await;
    let taken = fixture.lease().await;
    assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("two"), Some(1)));
    // Not before it had run out.
    let waited = taken.acquire_time.unwrap().0.duration_since(renewed.renew_time.unwrap().0);
    assert!(waited.as_secs() >= 1, "{waited:?}");
}

#[tokio::test]
async fn a_lead_that_another_took_is_lost() {
    let fixture = Fixture::new().await;
    let mut one = fixture.candidate("one");
    one.leads().await;
    let taken = Patch::Merge(json!({"spec": {"holderIdentity": "somebody"}}));
    fixture.leases().patch("work", &PatchParams::default(), &taken).await.unwrap();
    let lost = one.ended.await.unwrap();
    assert!(matches!(&lost, Err(LeadError::Lost { identity, .. }) if identity == "one"), "{lost:?}");
    assert_eq!(fixture.lease().await.holder_identity.as_deref(), Some("somebody"));
}

#[tokio::test]
async fn a_part_that_fails_gives_the_lead_up() {
    let fixture = Fixture::new().await;
    let mut one = fixture.candidate("one");
    one.leads().await;
    one.fail.take().unwrap().send(()).unwrap();
    assert!(matches!(one.ended.await.unwrap(), Err(LeadError::Part(Failed))));
    assert_eq!(fixture.lease().await.holder_identity.as_deref(), Some(""));
}

#[tokio::test]
async fn a_lease_that_others_made_is_understood() {
    let fixture = Fixture::new().await;
    let lease = json!({
        "metadata": {"name": "work"},
        "spec": {"holderIdentity": "", "leaseTransitions": 7},
    });
    let lease: Lease = serde_json::from_value(lease).unwrap();
    fixture.leases().create(&PostParams::default(), &lease).await.unwrap();
    let mut one = fixture.candidate("one");
    one.leads().await;
    assert_eq!(fixture.lease().await.lease_transitions, Some(8));
    // One that is deleted is made again.
    fixture.leases().delete("work", &DeleteParams::default()).await.unwrap();
    let mut two = fixture.candidate("two");
    tokio::select! {
        () = two.leads() => {}
        ended = &mut one.ended => panic!("{ended:?}"),
    }
    let lost = one.ended.await.unwrap();
    assert!(matches!(lost, Err(LeadError::Lost { .. })), "{lost:?}");
}

#[tokio::test]
async fn times_that_cannot_work_are_refused() {
    let fixture = Fixture::new().await;
    let wrong =
        Election { renew_deadline: Duration::from_secs(15), ..Election::new("work", "one".to_owned()) };
    let refused = fixture.candidate_with(wrong).ended.await.unwrap();
    assert!(matches!(refused, Err(LeadError::Times { .. })), "{refused:?}");
}
