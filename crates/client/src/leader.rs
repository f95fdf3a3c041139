//! Leader election: of several processes that do the same work, one does it.
//!
//! The one whose name is in a Lease leads, for as long as it renews it; the protocol and the meaning of the fields are
//! those of Kubernetes' own components, so that ours and theirs can stand in for each other. Nobody trusts another
//! machine's clock: a lease has run out when its holder has not been seen to renew it for the time that it says.
//!
//! Who waits watches the Lease, so that one that is given up is taken at once.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Which lease, and how it is kept.
#[derive(Clone, Debug)]
pub struct Election {
    pub namespace: String,
    pub name: String,
    /// Who asks; no two processes may have the same.
    pub identity: String,
    /// Others wait so long after the last renewal that they saw.
    pub lease_duration: Duration,
    /// A leader that could not renew for so long leads no longer. Shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// Between renewals.
    pub retry_period: Duration,
}

/// Leading has come to an end that nobody asked for.
#[derive(Debug, thiserror::Error)]
pub enum LeadError<E> {
    #[error("{identity} leads no longer: the lease {namespace}/{name} could not be renewed for {deadline:?}")]
    Lost { identity: String, namespace: String, name: String, deadline: Duration },
    #[error(
        "a renew deadline of {renew_deadline:?} must be shorter than the lease duration of {lease_duration:?} and longer \
         than the retry period of {retry_period:?}"
    )]
    Times { lease_duration: Duration, renew_deadline: Duration, retry_period: Duration },
    #[error(transparent)]
    Part(E),
}

impl Election {
    /// With upstream's times, for a component of the control plane.
    pub fn new(name: &str, identity: String) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity,
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Waits until this process leads, then runs `part` until it ends, is told to by `shutdown`, or the lead is lost;
    /// its own token tells it to stop. The lease is given up when the part has ended.
    pub async fn lead<E, F>(
        &self,
        client: kube::Client,
        shutdown: CancellationToken,
        part: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), LeadError<E>>
    where
        F: Future<Output = Result<(), E>>,
    {
        let Self { lease_duration, renew_deadline, retry_period, .. } = *self;
        if lease_duration <= renew_deadline || renew_deadline <= retry_period {
            return Err(LeadError::Times { lease_duration, renew_deadline, retry_period });
        }
        let mut candidate =
            Candidate { election: self, leases: Api::namespaced(client, &self.namespace), seen: None };
        tokio::select! {
            () = candidate.acquire() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        info!(lease = self.name, identity = self.identity, "leading");
        let stop = shutdown.child_token();
        let mut part = std::pin::pin!(part(stop.clone()));
        let ended = tokio::select! {
            ended = &mut part => Some(ended),
            () = candidate.keep() => None,
        };
        let Some(ended) = ended else {
            stop.cancel();
            // Others lead when the lease has run out: whatever of the part has not ended by then is dropped.
            let _ = timeout(lease_duration - renew_deadline, part).await;
            return Err(LeadError::Lost {
                identity: self.identity.clone(),
                namespace: self.namespace.clone(),
                name: self.name.clone(),
                deadline: renew_deadline,
            });
        };
        candidate.release().await;
        ended.map_err(LeadError::Part)
    }
}

/// A process that wants to lead, or does.
struct Candidate<'a> {
    election: &'a Election,
    leases: Api<Lease>,
    /// The lease as it was last seen, and since when it has been so.
    seen: Option<(Lease, Instant)>,
}

/// What became of an attempt to take or renew the lease.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Held,
    /// Somebody else's, until then unless it is renewed.
    Taken(Instant),
}

impl Candidate<'_> {
    /// Resolves when the lease is ours.
    async fn acquire(&mut self) {
        let watched = watcher::watch_object(self.leases.clone(), &self.election.name).default_backoff();
        let mut changes = std::pin::pin!(watched);
        // An API server that does not answer is told of once.
        let mut answered = true;
        loop {
            let attempt = timeout(self.election.renew_deadline, self.attempt()).await;
            let answers = matches!(attempt, Ok(Ok(_) | Err(kube::Error::Api(_))));
            let wait = match attempt {
                Ok(Ok(Attempt::Held)) => return,
                Ok(Ok(Attempt::Taken(until))) => until,
                Ok(Err(error)) if answers || !answered => {
                    // Somebody else was faster, perhaps.
                    debug!(lease = self.election.name, %error, "cannot take the lease");
                    self.soon()
                }
                Ok(Err(error)) => {
                    warn!(lease = self.election.name, %error, "cannot ask for the lease, trying again");
                    self.soon()
                }
                Err(_) => {
                    debug!(lease = self.election.name, "no answer in time to whether the lease is free");
                    self.soon()
                }
            };
            answered = answers;
            let mut wait = std::pin::pin!(sleep_until(wait));
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    changed = changes.next() => match changed {
                        // Renewed, or taken by another: it runs out later than it seemed.
                        Some(Ok(Some(now))) if !is_free(&now) => {
                            self.see(now);
                            wait.as_mut().reset(self.runs_out());
                        }
                        Some(Ok(_)) => break,
                        Some(Err(error)) => debug!(%error, "cannot watch the lease"),
                        None => (&mut wait).await,
                    },
                }
            }
        }
    }

    /// Renews until that has failed for too long.
    async fn keep(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.election.retry_period).await;
            let left = self.election.renew_deadline.saturating_sub(renewed.elapsed());
            let begun = Instant::now();
            match timeout(left, self.attempt()).await {
                Ok(Ok(Attempt::Held)) => renewed = begun,
                Ok(Ok(Attempt::Taken(_))) => {
                    warn!(lease = self.election.name, "another process has taken the lease");
                    return;
                }
                Ok(Err(error)) => warn!(lease = self.election.name, %error, "cannot renew the lease"),
                Err(_) => warn!(lease = self.election.name, "the lease was not renewed in time"),
            }
            if renewed.elapsed() >= self.election.renew_deadline {
                return;
            }
        }
    }

    /// Takes the lease if it is free, renews it if it is ours.
    async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        let ours = self.seen.as_ref().is_some_and(|(lease, _)| holder(lease) == self.election.identity);
        if !ours {
            // Not what the watch has told last: that may be old.
            match self.leases.get_opt(&self.election.name).await? {
                Some(lease) => self.see(lease),
                None => {
                    let lease = Lease {
                        metadata: ObjectMeta {
                            name: Some(self.election.name.clone()),
                            namespace: Some(self.election.namespace.clone()),
                            ..ObjectMeta::default()
                        },
                        spec: Some(self.claim(None)),
                    };
                    let made = self.leases.create(&PostParams::default(), &lease).await?;
                    self.see(made);
                    return Ok(Attempt::Held);
                }
            }
        }
        let Some((lease, _)) = &self.seen else { return Ok(Attempt::Taken(self.soon())) };
        if holder(lease) != self.election.identity && !is_free(lease) && self.runs_out() > Instant::now() {
            return Ok(Attempt::Taken(self.runs_out()));
        }
        let mut wanted = lease.clone();
        wanted.spec = Some(self.claim(lease.spec.as_ref()));
        // Refused when it has changed since.
        match self.leases.replace(&self.election.name, &PostParams::default(), &wanted).await {
            Ok(now) => {
                self.see(now);
                Ok(Attempt::Held)
            }
            Err(error) => {
                // What we believe is wrong: ask before the next attempt.
                if matches!(&error, kube::Error::Api(status) if status.code == 409 || status.code == 404) {
                    self.seen = None;
                }
                Err(error)
            }
        }
    }

    /// What the lease says when it is ours.
    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let held = before.filter(|before| before.holder_identity.as_deref() == Some(&self.election.identity));
        let transitions = before.and_then(|before| before.lease_transitions);
        LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(seconds(self.election.lease_duration)),
            acquire_time: held.and_then(|held| held.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(match (before, held) {
                (Some(_), None) => transitions.unwrap_or(0).saturating_add(1),
                _ => transitions.unwrap_or(0),
            }),
            ..before.cloned().unwrap_or_default()
        }
    }

    /// Gives the lease up, so that nobody has to wait until it runs out.
    async fn release(&mut self) {
        let Some((lease, _)) = self.seen.take() else { return };
        if holder(&lease) != self.election.identity {
            return;
        }
        let now = MicroTime(Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..lease.spec.clone().unwrap_or_default()
        };
        let released = Lease { spec: Some(spec), ..lease };
        let options = PostParams::default();
        let answer = self.leases.replace(&self.election.name, &options, &released);
        match timeout(self.election.retry_period, answer).await {
            Ok(Ok(_)) => info!(lease = self.election.name, "gave the lead up"),
            Ok(Err(error)) => debug!(lease = self.election.name, %error, "the lease was not given up"),
            Err(_) => debug!(lease = self.election.name, "the lease was not given up in time"),
        }
    }

    fn see(&mut self, lease: Lease) {
        let same =
            self.seen.as_ref().is_some_and(|(seen, _)| seen.resource_version() == lease.resource_version());
        if !same {
            self.seen = Some((lease, Instant::now()));
        }
    }

    /// When the lease that was seen runs out, unless it is renewed.
    fn runs_out(&self) -> Instant {
        match &self.seen {
            Some((lease, since)) => {
                let spec = lease.spec.as_ref();
                let told = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
                *since + Duration::from_secs(u64::try_from(told).unwrap_or(0))
            }
            None => Instant::now(),
        }
    }

    fn soon(&self) -> Instant {
        Instant::now() + self.election.retry_period
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn is_free(lease: &Lease) -> bool {
    holder(lease).is_empty()
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
