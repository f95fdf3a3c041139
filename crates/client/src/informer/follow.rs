//! The watch behind an informer, of whatever kind.

use futures::StreamExt;
use kube::Api;
use kube::api::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::raw::Raw;

/// Where it is written down what is there.
pub trait Sink: Send {
    /// A list begins, of all there is.
    fn begin(&mut self);
    /// One object of that list.
    fn listed(&mut self, object: &Raw);
    /// The list is complete: what it did not name is gone.
    fn complete(&mut self);
    fn applied(&mut self, object: &Raw);
    fn deleted(&mut self, object: &Raw);
}

/// Follows the objects of a kind for ever.
pub async fn follow(
    client: kube::Client,
    resource: ApiResource,
    config: watcher::Config,
    synced: watch::Sender<bool>,
    mut sink: Box<dyn Sink>,
) {
    let api: Api<Raw> = Api::all_with(client, &resource);
    let kind = resource.kind;
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => sink.begin(),
            Ok(Event::InitApply(object)) => sink.listed(&object),
            Ok(Event::InitDone) => {
                sink.complete();
                synced.send_replace(true);
                debug!(kind, "informer synced");
            }
            Ok(Event::Apply(object)) => sink.applied(&object),
            Ok(Event::Delete(object)) => sink.deleted(&object),
            // Not served (any more), so there are none: whoever waits for all that exists has them.
            Err(error) if is_not_served(&error) => {
                debug!(kind, "the API server does not serve this kind");
                sink.begin();
                sink.complete();
                synced.send_replace(true);
            }
            Err(error) => warn!(kind, %error, "watch failed, trying again"),
        }
    }
}

fn is_not_served(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}
