//! Priority and fairness: which requests are served now, which wait, and which are turned away when there are more
//! than the server can work on.
//!
//! A request belongs to the first FlowSchema that matches it ([`schema`]), which names a priority level ([`level`]).
//! Each level has seats; what finds none waits in one of the level's queues ([`queue`]), chosen so that one busy
//! user cannot fill those of the others. Seats that a level does not need are lent ([`lending`]).
//!
//! As long as nothing waits, a request costs a few string comparisons and two atomic operations, no lock.
//! The FlowSchemas and PriorityLevelConfigurations themselves are looked after by [`upkeep`].

pub mod defaults;
pub mod dump;
pub mod lending;
pub mod level;
pub mod metrics;
pub mod queue;
pub mod schema;
pub mod upkeep;
pub mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::status::Status;
use arc_swap::ArcSwap;
use exposition::Page;
use http::HeaderValue;
use serde_json::Value;
use tokio::sync::Notify;

use crate::UserInfo;
use crate::request::RequestInfo;
use level::{Level, Refusal, Seats};
use schema::Schema;

/// A request waits at most so long: a quarter of what upstream gives one altogether.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// What is in force: schemas by precedence, and the levels that they name.
pub struct Configuration {
    schemas: Vec<Arc<Schema>>,
    levels: Vec<Arc<Level>>,
}

impl Drop for FlowControl {
    fn drop(&mut self) {
        // The lending task finds nothing left to lend, and ends.
        self.scarce.notify_one();
    }
}

/// Decides for all requests of one server.
pub struct FlowControl {
    configuration: Arc<ArcSwap<Configuration>>,
    /// Seats of all levels together.
    total: usize,
    /// Told when a request had to wait.
    scarce: Arc<Notify>,
}

/// A request that may be worked on, until this is dropped.
pub struct Ticket {
    _seats: Seats,
    schema: Arc<Schema>,
    level: Arc<Level>,
}

impl FlowControl {
    /// With the configuration that every cluster starts with.
    pub fn new(total: usize) -> Self {
        let scarce = Arc::new(Notify::new());
        let none = Configuration { schemas: Vec::new(), levels: Vec::new() };
        let this = Self { configuration: Arc::new(ArcSwap::from_pointee(none)), total, scarce };
        this.configure(&defaults::schemas(), &defaults::levels());
        this
    }

    /// Puts other objects in force. Levels that stay keep their requests.
    pub fn configure(&self, schemas: &[Value], levels: &[Value]) {
        let before = self.configuration.load();
        let levels: Vec<Arc<Level>> = levels
            .iter()
            .filter_map(level::Settings::read)
            .map(|settings| {
                let known = before.levels.iter().find(|level| level.is(&settings));
                let level = known.cloned().unwrap_or_else(|| Level::new(&settings, self.scarce.clone()));
                level.configure(settings);
                level
            })
            .collect();
        lending::share(&levels, self.total);
        let mut schemas: Vec<Arc<Schema>> = schemas
            .iter()
            .filter_map(|object| {
                let known = |name: &str| before.schemas.iter().find(|schema| *schema.name == *name);
                Schema::read(object, &levels, known)
            })
            .map(Arc::new)
            .collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        self.configuration.store(Arc::new(Configuration { schemas, levels }));
    }

    /// Waits for the request's turn; 429 when it is turned away.
    pub async fn enter(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
        seats: impl FnOnce(usize) -> usize,
    ) -> Result<Ticket, Rejected> {
        let (schema, level) = {
            let configuration = self.configuration.load();
            let matching = configuration.schemas.iter().find(|schema| schema.matches(info, user));
            let Some(schema) = matching else {
                // Only while the catch-all schema is missing, which is put back at once.
                return Err(Rejected { schema: None, level: None });
            };
            let Some(level) = configuration.levels.get(schema.level) else {
                return Err(Rejected { schema: Some(schema.clone()), level: None });
            };
            (schema.clone(), level.clone())
        };
        let seats = if level.is_exempt() { 1 } else { seats(level.most_seats()) };
        if let Some(taken) = level.try_enter(seats, &schema) {
            schema.metrics.waited(Duration::ZERO, true);
            return Ok(Ticket { _seats: taken, schema, level });
        }
        let begun = Instant::now();
        let flow = schema.flow(info, user);
        let asked = dump::Asked::new(schema.distinguisher(info, user), info, user);
        let entered = level.wait(seats, flow, &schema, asked, MAX_WAIT).await;
        schema.metrics.waited(begun.elapsed(), entered.is_ok());
        match entered {
            Ok(taken) => Ok(Ticket { _seats: taken, schema, level }),
            Err(refusal) => {
                schema.metrics.rejected(refusal);
                Err(Rejected { schema: Some(schema), level: Some(level) })
            }
        }
    }

    /// Lends seats between levels while they are scarce, as long as the server lives.
    pub fn lend(&self) -> impl Future<Output = ()> + Send + 'static {
        let (configuration, total) = (Arc::downgrade(&self.configuration), self.total);
        let levels = move || Some(configuration.upgrade()?.load().levels.clone());
        lending::run(self.scarce.clone(), levels, total)
    }

    pub fn write_metrics(&self, page: &mut Page) {
        let configuration = self.configuration.load();
        metrics::write(&configuration.schemas, &configuration.levels, page);
    }
}

/// A request that was turned away.
pub struct Rejected {
    schema: Option<Arc<Schema>>,
    level: Option<Arc<Level>>,
}

impl Rejected {
    pub fn status(&self) -> Status {
        Status::too_many_requests("too many requests, please try again later", 1)
    }
}

/// The headers by which clients learn what their request was classified as.
pub trait Classified {
    fn uids(&self) -> (Option<&HeaderValue>, Option<&HeaderValue>);
}

impl Classified for Ticket {
    fn uids(&self) -> (Option<&HeaderValue>, Option<&HeaderValue>) {
        (self.schema.uid.as_ref(), self.level.uid())
    }
}

impl Classified for Rejected {
    fn uids(&self) -> (Option<&HeaderValue>, Option<&HeaderValue>) {
        let schema = self.schema.as_ref().and_then(|schema| schema.uid.as_ref());
        (schema, self.level.as_ref().and_then(|level| level.uid()))
    }
}

impl From<Refusal> for &'static str {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Limit => "concurrency-limit",
            Refusal::QueueFull => "queue-full",
            Refusal::TimeOut => "time-out",
        }
    }
}

#[cfg(test)]
mod tests;
