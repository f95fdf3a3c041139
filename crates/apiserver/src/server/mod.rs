//! The server itself: starting it, calling it in process, serving sockets.

pub mod body;
pub mod documents;
mod gzip;
pub mod health;
pub mod in_flight;
mod listener;
pub mod pipeline;
pub mod respond;
mod system;
pub mod unread;
mod zpages;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::status::Status;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::UserInfo;
use crate::admission::configuration::ConfigurationError;
use crate::aggregation;
use crate::audit::AuditError;
use crate::authn::AuthnStartError;
use crate::authz::AuthzStartError;
use crate::bootstrap;
use crate::cache::LoadError;
use crate::compaction;
use crate::config::Config;
use crate::crd;
use crate::encryption::EncryptionError;
use crate::expiry;
use crate::flow_control;
use crate::peers;
use crate::state::State;
use crate::token::keys::KeyError;
use body::{BoxError, RequestBody, ResponseBody};
use health::Step;
use pipeline::Identity;
use respond::Answer;

/// The API server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot load the objects: {0}")]
    Load(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("cannot load the keys of service-account tokens: {0}")]
    Keys(#[from] KeyError),
    #[error("cannot use {path} for serving HTTPS: {reason}")]
    Tls { path: PathBuf, reason: String },
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    #[error("cannot set up authorization: {0}")]
    Authz(#[from] AuthzStartError),
    #[error("cannot set up authentication: {0}")]
    Authn(#[from] AuthnStartError),
    #[error("cannot set up admission: {0}")]
    Admission(#[from] ConfigurationError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("cannot set up the API server: {0}")]
    Parts(#[from] Status),
    #[error("cannot make {object}, which every cluster has: {status}")]
    Bootstrap { object: String, status: Status },
}

/// A running API server. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<State>,
    tls: Arc<rustls::ServerConfig>,
}

impl ApiServer {
    /// Loads every object from the store and makes those that every cluster has.
    pub fn start(config: Config, store: Store) -> BoxFuture<'static, Result<Self, StartError>> {
        // Boxed here, so that the server's code is generated with this crate and not anew in each that starts one.
        Box::pin(Self::begin(config, store))
    }

    async fn begin(config: Config, store: Store) -> Result<Self, StartError> {
        let tls = listener::tls(&config)?;
        let state = State::new(config, store).await?;
        state.health.done(Step::Loaded);
        bootstrap::run(&state).await?;
        crd::controller::start(&state).await;
        state.health.done(Step::Definitions);
        aggregation::controller::start(&state);
        state.health.done(Step::Aggregation);
        tokio::spawn(expiry::run(Arc::downgrade(&state)));
        if !state.store.is_shared() {
            tokio::spawn(compaction::run(Arc::downgrade(&state)));
        }
        flow_control::upkeep::start(&state).await?;
        state.health.done(Step::FlowControl);
        Ok(Self { state, tls })
    }

    /// Requests of `user`, without a connection between.
    pub fn service(&self, user: UserInfo) -> Service {
        Service { state: self.state.clone(), identity: Identity::Known(user) }
    }

    /// Serves HTTPS until `shutdown`.
    pub fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        let Self { state, tls } = self.clone();
        Box::pin(async move {
            listener::serve(state.clone(), tls, listener, shutdown).await;
            if state.store.is_shared() {
                peers::leave(&state).await;
            }
        })
    }

    pub fn state(&self) -> &Arc<State> {
        &self.state
    }
}

/// An API server as one user calls it in this process.
#[derive(Clone)]
pub struct Service {
    state: Arc<State>,
    identity: Identity,
}

impl Service {
    /// Without the caller's type of body, so that the way of a request is compiled once.
    fn answer(&self, request: Request<RequestBody>) -> BoxFuture<'static, Result<Answer, Infallible>> {
        Box::pin(pipeline::serve(self.state.clone(), self.identity.clone(), request).map(Ok))
    }
}

impl<B> tower::Service<Request<B>> for Service
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.answer(request.map(body::boxed))
    }
}
